"""SB3's ``VecEnv`` made of any vectorised environment of Gymnasium."""

import copy
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from sb3_distill.common.observations import copy_obs, observation_of


class GymnasiumVecEnv(VecEnv):
    """
    A ``gymnasium.vector.VectorEnv`` as SB3's algorithms, wrappers and evaluation take it.

    An ended episode is followed by the next one's first observation in the same step, with ``terminal_observation`` and
    ``TimeLimit.truncated`` in its info, as in SB3's own vectorised environments. Seeds, options, attributes and methods of
    the copies are reached as there. Observations are copied, for SB3 keeps them for a step, unless the environment says that it
    makes new ones (``copy=True``, as Gymnasium's own do).

    >>> import gymnasium as gym
    >>> from sb3_distill.envs import GymnasiumVecEnv
    >>> env = GymnasiumVecEnv(gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync"))
    >>> env.reset().shape
    (2, 4)

    :param venv: ended episodes may start anew in the same step (``AutoresetMode.SAME_STEP``, the fastest), or by a masked
        reset: ``AutoresetMode.DISABLED``, and Gymnasium's ``SyncVectorEnv`` and ``AsyncVectorEnv`` in any mode
    :raises ValueError: if it starts them in the step after (``NEXT_STEP``), which swallows an action that SB3 has chosen
    :raises TypeError: for what is no vectorised environment of Gymnasium, such as a single one
    """

    def __init__(self, venv: VectorEnv) -> None:
        _check_vectorised(venv)
        mode = venv.metadata.get("autoreset_mode")
        by_mask = isinstance(venv.unwrapped, (SyncVectorEnv, AsyncVectorEnv)) or mode is AutoresetMode.DISABLED
        if mode is not AutoresetMode.SAME_STEP and not by_mask:
            raise ValueError(
                f"{type(venv.unwrapped).__name__} starts an ended episode anew in a way that SB3 cannot follow "
                f"(autoreset_mode={mode}): make it with autoreset_mode=AutoresetMode.SAME_STEP or AutoresetMode.DISABLED, or "
                'by gymnasium.make_vec(…, vectorization_mode="sync").'
            )
        self.venv = venv
        self._resets_itself = mode is AutoresetMode.SAME_STEP
        self._can_wait = hasattr(venv, "step_async") and hasattr(venv, "step_wait")
        self._actions: np.ndarray | None = None
        super().__init__(venv.num_envs, venv.single_observation_space, venv.single_action_space)

    def reset(self) -> VecEnvObs:
        options = self._options[0]
        if any(other != options for other in self._options):
            raise ValueError(
                f"{type(self.venv.unwrapped).__name__} takes the same options for all its copies, not {self._options}."
            )
        obs, info = self.venv.reset(seed=self._seeds[0], options=options or None)
        self.reset_infos = split(info, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return self._own(obs)

    def step_async(self, actions: np.ndarray) -> None:
        if self._can_wait:
            self.venv.step_async(actions)  # type: ignore[attr-defined]
        else:
            self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        step = self.venv.step_wait() if self._can_wait else self.venv.step(self._actions)  # type: ignore[attr-defined]
        obs, rewards, terminated, truncated, info = step
        dones = terminated | truncated
        infos = split({key: value for key, value in info.items() if key not in _FINAL}, self.num_envs)
        if dones.any():
            last_obs, last_infos = obs, infos
            if self._resets_itself:
                last_obs, first_infos = info["final_obs"], infos
                last_infos = split(info.get("final_info", {}), self.num_envs)
            else:
                last_obs = copy_obs(obs)
                obs, first_info = self.venv.reset(options={"reset_mask": dones})
                first_infos = split(first_info, self.num_envs)
            for i in np.flatnonzero(dones).tolist():
                self.reset_infos[i] = first_infos[i]
                infos[i] = last_infos[i] | {
                    "terminal_observation": copy.deepcopy(observation_of(last_obs, i)),
                    "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
                }
        return self._own(obs), np.asarray(rewards, dtype=np.float32), dones, infos

    def _own(self, obs: Any) -> Any:
        """Observations that no later step writes over."""
        return obs if getattr(self.venv.unwrapped, "copy", False) is True else copy_obs(obs)

    def close(self) -> None:
        self.venv.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        return list(self.venv.render() or [None] * self.num_envs)  # type: ignore[arg-type]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        if hasattr(self.venv.unwrapped, "get_attr") and not hasattr(self.venv, attr_name):
            values = self.venv.unwrapped.get_attr(attr_name)
        else:
            values = [getattr(self.venv, attr_name)] * self.num_envs
        return [values[i] for i in self._get_indices(indices)]

    def has_attr(self, attr_name: str) -> bool:
        # Not by asking for it: a worker of Gymnasium's that does not have it ends.
        unwrapped = self.venv.unwrapped
        if hasattr(self.venv, attr_name):
            return True
        if not isinstance(unwrapped, (SyncVectorEnv, AsyncVectorEnv)):
            return False
        return all(unwrapped.call("has_wrapper_attr", attr_name))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        chosen = set(self._get_indices(indices))
        if hasattr(self.venv.unwrapped, "set_attr"):
            others = self.get_attr(attr_name) if len(chosen) < self.num_envs else [None] * self.num_envs
            values = [value if i in chosen else other for i, other in enumerate(others)]
            self.venv.unwrapped.set_attr(attr_name, values)
        else:
            self._only_all(chosen, f"the attribute {attr_name!r}")
            setattr(self.venv, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        chosen = list(self._get_indices(indices))
        self._only_all(set(chosen), f"the method {method_name!r}")
        if hasattr(self.venv.unwrapped, "call"):
            results = self.venv.unwrapped.call(method_name, *method_args, **method_kwargs)
        else:
            result = getattr(self.venv, method_name)(*method_args, **method_kwargs)
            # What it says of its copies in one array, such as which actions are allowed, is theirs row by row.
            rows = method_name == "action_masks" and np.shape(result)[:1] == (self.num_envs,)
            results = list(result) if rows else [result] * self.num_envs
        return [results[i] for i in chosen]

    def _only_all(self, chosen: set[int], what: str) -> None:
        if len(chosen) < self.num_envs:
            raise ValueError(
                f"{type(self.venv.unwrapped).__name__} has {what} for all its {self.num_envs} copies at once: leave "
                f"indices={sorted(chosen)} out."
            )

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        envs = getattr(self.venv.unwrapped, "envs", None)
        return [envs is not None and is_wrapped(envs[i], wrapper_class) for i in self._get_indices(indices)]


_FINAL = ("final_obs", "_final_obs", "final_info", "_final_info")


def _check_vectorised(venv: Any) -> None:
    """:raises TypeError: for what is no vectorised environment of Gymnasium, with what to do instead"""
    if isinstance(venv, gym.Env):
        made = venv.spec.id if venv.spec is not None else None
        how = f"make_vec_env({made!r}, n_envs=8)" if made else "DummyVecEnv([make_one] * 8)"
        copies = (
            f'gymnasium.make_vec({made!r}, num_envs=8, vectorization_mode="sync")'
            if made
            else "gymnasium.vector.SyncVectorEnv([make_one] * 8)"
        )
        raise TypeError(
            f"{type(venv.unwrapped).__name__} is one environment: give it to SB3 as it is, make copies with SB3's {how}, or put "
            f"{copies} in GymnasiumVecEnv."
        )
    if isinstance(venv, VecEnv):
        raise TypeError(f"{type(venv).__name__} is a VecEnv of SB3 already: give it to SB3 as it is.")
    if isinstance(venv, (str, type)) or not hasattr(venv, "single_observation_space"):
        said = " ".join(repr(venv).split())[:80]
        raise TypeError(
            f"GymnasiumVecEnv is around a vectorised environment of Gymnasium, not {said}: make one with gymnasium.make_vec."
        )


def split(info: dict[str, Any], n: int) -> list[dict[str, Any]]:
    """
    Gymnasium's infos of n environments, one by one.

    :param info: from a key to what n environments say, with the mask ``_key`` of those that do say it, where not all do
    :param n: how many
    :return: a dict for each
    """
    infos: list[dict[str, Any]] = [{} for _ in range(n)]
    for key, values in info.items():
        if key.startswith("_") and key[1:] in info:
            continue
        if isinstance(values, dict):
            values = split(values, n)
        elif not isinstance(values, (np.ndarray, list, tuple)) or len(values) != n:
            values = [values] * n
        mask = info.get(f"_{key}")
        for i in range(n):
            if mask is None or mask[i]:
                infos[i][key] = values[i]
    return infos
