"""What :class:`~sb3_distill.envs.RayVecEnv` has on other machines: k environments in a process, without PyTorch unless they bring it."""

import pickle
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np


class EnvActor:
    """
    Environments side by side in one process. It is told what to do by messages, and answers each with one.

    :param first: number of its first environment, for messages
    """

    def __init__(self, first: int) -> None:
        self.first = first
        self.envs: list[gym.Env] = []
        #: which of them is at work
        self.at = 0

    def call(self, message: bytes) -> bytes:
        """
        :param message: the name of a method, and its arguments
        :return: (True, what it returns), or (False, the error of an environment, its traceback)
        """
        try:
            name, args = pickle.loads(message)  # noqa: S301 - of the process that made this one
            return packed((True, getattr(self, name)(*args)))
        except (Exception, SystemExit) as error:
            where = f"in environment {self.first + self.at}:\n{''.join(traceback.format_exception(error))}"
            return packed((False, portable(error), where))

    def make(self, functions: bytes) -> tuple[gym.Space, gym.Space]:
        """
        :param functions: which make an environment each, by cloudpickle
        :return: the first one's spaces
        """
        for i, function in enumerate(cloudpickle.loads(functions)):
            self.at = i
            self.envs.append(_gymnasium(function()))
        return self.envs[0].observation_space, self.envs[0].action_space

    def reset(self, seeds: Sequence[int | None], options: Sequence[dict[str, Any]]) -> tuple[Any, list[dict[str, Any]]]:
        """
        :param seeds: of each
        :param options: of each
        :return: observations, infos
        """
        first = []
        for i, env in enumerate(self.envs):
            self.at = i
            chosen = {"options": options[i]} if options[i] else {}
            first.append(env.reset(seed=seeds[i], **chosen))
        return self._stacked([obs for obs, _ in first]), [info for _, info in first]

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]], dict[int, dict[str, Any]]]:
        """
        :param actions: of each
        :return: observations, rewards, ends, infos, and the infos of those that were reset
        """
        rewards: list[Any] = []
        all_obs, dones, infos, reset_infos = [], [], [], {}
        for i, env in enumerate(self.envs):
            self.at = i
            obs, reward, terminated, truncated, info = env.step(actions[i])
            done = terminated or truncated
            # A dict of its own: some environments return the same one each time, and it may be that of their neighbours.
            info = {**info, "TimeLimit.truncated": truncated and not terminated}
            if done:
                info["terminal_observation"] = obs
                obs, reset_infos[i] = env.reset()
            all_obs.append(obs)
            rewards.append(reward)
            dones.append(done)
            infos.append(info)
        return self._stacked(all_obs), np.stack(rewards), np.stack(dones), infos, reset_infos

    def each(self, what: str, places: Sequence[int], args: Sequence[Any]) -> list[Any]:
        """
        :param what: a function of this module, of an environment and ``args``
        :param places: of which environments
        :param args: for all of them the same
        :return: what it returns, for each
        """
        answers = []
        for i in places:
            self.at = i
            answers.append(ASKED[what](self.envs[i], *args))
        return answers

    def close(self) -> None:
        """Close them all."""
        for i, env in enumerate(self.envs):
            self.at = i
            env.close()

    def _stacked(self, observations: list[Any]) -> Any:
        space = self.envs[0].observation_space
        if isinstance(space, gym.spaces.Dict):
            return {key: np.stack([obs[key] for obs in observations]) for key in space.spaces}
        if isinstance(space, gym.spaces.Tuple):
            return tuple(np.stack([obs[i] for obs in observations]) for i in range(len(space.spaces)))
        return np.stack(observations)


def packed(value: Any) -> bytes:
    """
    :param value: to be sent
    :return: its pickle: NumPy's arrays can be written to where it is read, which those that Ray itself carries cannot
    """
    try:
        return pickle.dumps(value)
    except (pickle.PicklingError, AttributeError, TypeError):  # of what was defined in a script or a function
        return cloudpickle.dumps(value)


def portable(error: BaseException) -> Exception:
    """
    :param error: of an environment
    :return: the same where it survives pickling, else one that has its name and its text
    """
    if isinstance(error, Exception):
        try:
            pickle.loads(packed(error))  # noqa: S301 - made in this line
            return error
        except Exception as reason:
            return RuntimeError(f"{type(error).__name__}: {error} (it cannot be pickled: {reason})")
    return RuntimeError(f"The environment has ended its process: sys.exit({error})")


def _gymnasium(env: Any) -> gym.Env:
    if isinstance(env, gym.Env):
        return env
    from stable_baselines3.common.vec_env.patch_gym import _patch_env

    return _patch_env(env)


def _has(env: gym.Env, name: str) -> bool:
    try:
        env.get_wrapper_attr(name)
    except AttributeError:
        return False
    return True


def _is_wrapped(env: gym.Env, wrapper: type[gym.Wrapper]) -> bool:
    from stable_baselines3.common.env_util import is_wrapped

    return is_wrapped(env, wrapper)


def _call(env: gym.Env, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    return env.get_wrapper_attr(name)(*args, **kwargs)


def _get(env: gym.Env, name: str) -> Any:
    return env.get_wrapper_attr(name)


#: what can be asked of single environments
ASKED: dict[str, Callable[..., Any]] = {
    "get": _get,
    "has": _has,
    "set": setattr,
    "call": _call,
    "render": lambda env: env.render(),
    "is_wrapped": _is_wrapped,
}
