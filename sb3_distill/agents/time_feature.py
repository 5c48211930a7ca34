"""sb3-contrib's ``TimeFeatureWrapper`` for a ``VecEnv``: for a teacher that counts the time where its student does not."""

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_distill.common.layers import Layer
from sb3_distill.common.questions import as_dones, time_limit_of


class VecTimeFeature(Layer):
    """
    Appends the share of an episode's time that is left, 1 − t / max_steps.

    :param venv: with flat observations
    :param max_steps: of an episode; by default the environment's own limit
    :param test_mode: appends 1 throughout
    :raises ValueError: if observations are not flat
    """

    def __init__(self, venv: VecEnv, max_steps: int | None = None, test_mode: bool = False) -> None:
        space = venv.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise ValueError(f"A time feature is appended to flat observations, and these are {space}.")
        low, high = (np.append(bound, end).astype(space.dtype) for bound, end in ((space.low, 0), (space.high, 1)))
        super().__init__(venv, spaces.Box(low, high, dtype=space.dtype.type))
        # The limit of the environment comes first, as in sb3-contrib's.
        self.max_steps = time_limit_of(venv) or max_steps or 1_000
        self.test_mode = test_mode
        self.time = np.zeros(venv.num_envs)

    def reset(self) -> VecEnvObs:
        self.time[:] = 0
        return self._append(self.venv.reset(), self.time)

    def step_wait(self) -> VecEnvStepReturn:
        obs, rewards, dones, infos = self.venv.step_wait()
        self.time += 1
        dones = as_dones(dones)
        for i in np.flatnonzero(dones):
            last = infos[i].get("terminal_observation")
            if last is not None:
                infos[i]["terminal_observation"] = self._append(last[None], self.time[i : i + 1])[0]
        self.time[dones] = 0
        return self._append(obs, self.time), rewards, dones, infos

    def _append(self, obs: Any, time: np.ndarray) -> np.ndarray:
        left = np.ones_like(time) if self.test_mode else 1 - time / self.max_steps
        return np.concatenate([obs, left[:, None].astype(obs.dtype)], axis=1)
