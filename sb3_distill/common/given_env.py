"""What is given as an environment: what cannot be one is said before SB3 looks for OpenAI's Gym."""

import inspect
from collections.abc import Callable
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv
from stable_baselines3.common.vec_env import VecEnv

_OF_GYMNASIUM = "is a vectorised environment of Gymnasium: put it in sb3_distill.envs.GymnasiumVecEnv, which SB3 reads."


def check_env(env: Any) -> None:
    """
    :param env: given to an algorithm
    :raises ValueError: if it is none, by its kind: a class, a function, a list, or vectorised by Gymnasium
    """
    if isinstance(env, VectorEnv):
        raise ValueError(f"env={_short(env)} {_OF_GYMNASIUM}")
    made = isinstance(env, (str, VecEnv, gym.Env)) or (hasattr(env, "reset") and not isinstance(env, type))
    if not made:
        raise ValueError(f"env must be an environment, a VecEnv or a Gymnasium id, not {_short(env)}: {_make_it(env)}.")


def check_vec_env(name: str, env: Any) -> None:
    """
    :param name: of the wrapper, for the message
    :param env: given to it
    :raises TypeError: if it is no ``VecEnv``
    """
    if isinstance(env, VectorEnv):
        raise TypeError(f"{_short(env)} {_OF_GYMNASIUM}")
    if isinstance(env, gym.Env):
        raise TypeError(
            f"{name} is around a VecEnv, not {_short(env)}: use TeacherReward, or DummyVecEnv([lambda: env])."
        )
    if not isinstance(env, VecEnv):
        raise TypeError(f"{name} is around a VecEnv, not {_short(env)}: make one with make_vec_env.")


def check_single_env(name: str, env: Any) -> None:
    """
    :param name: of the wrapper, for the message
    :param env: given to it
    :raises TypeError: if it is no single Gymnasium environment
    """
    if isinstance(env, (VecEnv, VectorEnv)):
        raise TypeError(f"{name} is around one Gymnasium environment, not {_short(env)}: use VecTeacherReward.")
    if not isinstance(env, gym.Env):
        raise TypeError(f"{name} is around one Gymnasium environment, not {_short(env)}: make it with gymnasium.make.")


def check_maker(env: Any) -> None:
    """
    :param env: a Gymnasium id, or a function that makes n environments
    :raises ValueError: if it is neither, or a function that takes no n
    """
    from sb3_distill.common.env_ids import check_env_id  # which imports environments, and these this

    if isinstance(env, str):
        check_env_id(env)
        return
    how = "give a Gymnasium id, or a function that makes n environments, such as lambda n: make_vec_env(make_one, n)"
    makes_n = isinstance(env, type) and issubclass(env, VecEnv)
    if not makes_n and (isinstance(env, type) or hasattr(env, "reset") or not callable(env)):
        kind = f"the class {env.__name__}" if isinstance(env, type) else _short(env)
        raise ValueError(f"env={kind} cannot be made for n episodes: {how}.")
    try:
        inspect.signature(env).bind(1)
    except TypeError:
        raise ValueError(f"env={_short(env)} does not take the number of environments: {how}.") from None
    except ValueError:  # it has no signature
        pass


def made(make: Callable[[int], Any], n: int) -> VecEnv:
    """
    :param make: a function that makes n environments
    :param n: how many
    :return: they
    :raises ValueError: if they are none, or not as many
    """
    env = make(n)
    if isinstance(env, VectorEnv):
        raise ValueError(f"The function that makes {n} environments returns what {_OF_GYMNASIUM}")
    if not isinstance(env, VecEnv):
        raise ValueError(
            f"The function that makes {n} environments must return a VecEnv, such as make_vec_env(make_one, n), and returns "
            f"{_short(env)}."
        )
    if env.num_envs != n:
        raise ValueError(
            f"env must be a function that makes as many environments as it is asked for: {n} were, and there are {env.num_envs}."
        )
    return env


def _short(env: Any) -> str:
    return f"{type(env).__name__} {' '.join(repr(env).split())[:80]}"


def _make_it(env: Any) -> str:
    if isinstance(env, type):
        return f"make one, {env.__name__}(…)"
    if isinstance(env, (list, tuple)):
        return "put functions that make them in DummyVecEnv([…])"
    return "call it" if callable(env) else "give what gymnasium.make returns, or its id"
