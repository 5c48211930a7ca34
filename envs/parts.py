"""Parts of Dict observations: a student sees the pictures, and its teacher reads the state."""

from collections.abc import Sequence
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_distill.common.layers import Layer
from sb3_distill.common.nearest import nearest


class VecParts(Layer):
    """
    Shows a part of Dict observations. SB3's ``VecExtractDictObs`` shows one, too; this one says what is wrong, shows several, and leaves
    the infos of the environment beneath alone.

    :param venv: whose observations are a Dict
    :param keys: a key, whose part is shown, or several, which are shown as a Dict
    :raises ValueError: if there is no such key
    """

    def __init__(self, venv: VecEnv, keys: str | Sequence[str]) -> None:
        space = venv.observation_space
        check_keys(space, [keys] if isinstance(keys, str) else keys)
        assert isinstance(space, spaces.Dict)
        own = space[keys] if isinstance(keys, str) else spaces.Dict({key: space[key] for key in keys})
        super().__init__(venv, own)
        self.keys = keys

    def _part(self, obs: Any) -> Any:
        return obs[self.keys] if isinstance(self.keys, str) else {key: obs[key] for key in self.keys}

    def reset(self) -> VecEnvObs:
        return self._part(self.venv.reset())  # type: ignore[no-any-return]

    def step_wait(self) -> VecEnvStepReturn:
        obs, rewards, dones, infos = self.venv.step_wait()
        own = list(infos)
        for i, info in enumerate(infos):
            if info.get("terminal_observation") is not None:
                own[i] = {**info, "terminal_observation": self._part(info["terminal_observation"])}
        return self._part(obs), rewards, dones, own


def check_keys(space: spaces.Space, keys: Sequence[str]) -> None:
    """
    :param space: of observations
    :param keys: that it is to have
    :raises ValueError: if they are not a Dict, or one with other keys, which are named
    """
    if not isinstance(space, spaces.Dict):
        raise ValueError(f"{keys[0]!r} names a key of a Dict, and the environment shows {space}.")
    for key in keys:
        if key not in space.spaces:
            raise ValueError(f"The environment's observations have no key {key!r}: {nearest(key, list(space.spaces))}")
