"""
What is asked of other people's environments, and read from what they say. It must not cost a run.

SB3's algorithms get by with ``reset`` and ``step`` of a ``VecEnv``; all else may be missing, may raise, or may end a worker in
another process that cannot pickle its answer. So whatever is asked for convenience is asked here.
"""

import warnings
from typing import Any

import cloudpickle
import numpy as np
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnv,
    VecEnvWrapper,
    VecMonitor,
    is_vecenv_wrapped,
)

from sb3_distill.common.layers import innermost


def spec_of(env: VecEnv | None) -> Any:
    """
    An environment's Gymnasium spec, as far as that can be known without harm. A spec holds the arguments of its environment, and an
    answer that cannot be pickled ends a worker in another process: so SB3's are asked first whether theirs can be.

    :param env: any
    :return: its ``EnvSpec``; None if it has none, or does not tell
    """
    if env is None:
        return None
    inner = innermost(env)
    try:
        if isinstance(inner, DummyVecEnv):
            return inner.envs[0].spec
        if isinstance(inner, SubprocVecEnv):
            sendable = inner.env_is_wrapped(_ByValue(_sendable_spec()), 0)[0]  # type: ignore[arg-type]
            return inner.get_attr("spec", 0)[0] if sendable else None
        return getattr(
            getattr(inner, "venv", inner), "spec", None
        )  # Gymnasium's vectorised environments have their own
    except Exception:
        return None


def _sendable_spec() -> type:
    """
    A class of which an environment is an instance if its spec can be pickled. SB3's workers answer ``isinstance`` by yes or no,
    whatever happens in it.
    """

    class Answer(type):
        def __instancecheck__(cls, env: Any) -> bool:
            import pickle

            try:
                return len(pickle.dumps(env.spec)) > 0
            except Exception:
                return False

    return Answer("SendableSpec", (), {})


class _ByValue:
    """Makes a pickle that has a class in it, and not its name, for a worker that has never imported this package."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def __reduce__(self) -> Any:
        return cloudpickle.loads, (cloudpickle.dumps(self.kind),)


def env_id_of(env: VecEnv | None) -> str | None:
    """
    :param env: any
    :return: its Gymnasium id, if it has one and tells, see :func:`spec_of`
    """
    found = getattr(spec_of(env), "id", None)
    return found if isinstance(found, str) else None


def time_limit_of(env: VecEnv) -> int | None:
    """
    :param env: any
    :return: after how many steps it cuts an episode, if that is known
    """
    found = getattr(spec_of(env), "max_episode_steps", None)
    inner = innermost(env)
    if found is None and isinstance(inner, SubprocVecEnv) and inner.has_attr(_LIMIT):
        found = inner.get_attr(_LIMIT, 0)[0]  # a number, which a worker can send
    return int(found) if isinstance(found, (int, np.integer)) else None


#: where Gymnasium's ``TimeLimit`` has it
_LIMIT = "_max_episode_steps"


def is_monitored(env: VecEnv) -> bool:
    """
    :param env: any
    :return: whether a ``Monitor`` or ``VecMonitor`` counts its episodes; False if it does not tell
    """
    if is_vecenv_wrapped(env, VecMonitor):
        return True
    try:
        answer = np.asarray(env.env_is_wrapped(Monitor), dtype=bool)
    except Exception:
        return False
    return answer.size > 0 and bool(answer.all())


def returns_so_far(env: VecEnv, indices: np.ndarray, summed: np.ndarray) -> np.ndarray:
    """
    What the monitors of some environments have counted of the episodes that they are in.

    :param env: see :func:`is_monitored`
    :param indices: of the environments
    :param summed: what ``step`` returned of these episodes, taken with a warning where a monitor does not tell
    :return: a return for each of ``indices``
    """
    layer: VecEnv | None = env
    while isinstance(layer, VecEnvWrapper):
        if isinstance(layer, VecMonitor):
            return layer.episode_returns[indices].astype(float)
        layer = layer.venv
    try:
        return np.array(
            [np.asarray(rewards, dtype=float).sum() for rewards in env.get_attr("rewards", indices.tolist())]
        )
    except Exception as error:
        warnings.warn(
            f"The Monitor of {len(summed)} episodes that were cut does not say what they had brought ({type(error).__name__}: "
            f"{error}): their scores are the sums of what step() returned, {summed.mean():.3g} on average.",
            stacklevel=2,
        )
        return summed


def seed_envs(env: VecEnv, seed: int) -> bool:
    """
    Seed environments, or warn that they cannot be.

    :param env: any
    :param seed: of the first one
    :return: whether they took it
    """
    try:
        env.seed(seed)
    except Exception as error:
        warnings.warn(
            f"{type(innermost(env)).__name__} takes no seed ({type(error).__name__}: {error}): its episodes are not the same from "
            "one run to the next.",
            stacklevel=2,
        )
        return False
    return True


def as_rewards(rewards: Any, dtype: Any = None) -> np.ndarray:
    """
    :param rewards: of n environments, in an array, a list or a tensor, of shape (n,) or (n, 1)
    :param dtype: of the result; by default their own
    :return: a new array of shape (n,)
    """
    return np.array(rewards, dtype=dtype).reshape(-1)


def as_dones(dones: Any) -> np.ndarray:
    """
    :param dones: of n environments, whether an episode ended: booleans or numbers, as for :func:`as_rewards`
    :return: a new array of booleans, shape (n,)
    """
    return np.array(dones, dtype=bool).reshape(-1)


def is_truncated(info: dict[str, Any]) -> bool:
    """Whether an episode that just ended was cut by a time limit, so that its last state has a future."""
    return bool(info.get("TimeLimit.truncated", False)) and info.get("terminal_observation") is not None


def lost_its_state(info: dict[str, Any]) -> bool:
    """Whether an episode was cut by a time limit, and nothing says in which state. SB3 takes it for a terminal one, and so do we."""
    return bool(info.get("TimeLimit.truncated", False)) and info.get("terminal_observation") is None


def warn_of_lost_states(n_lost: int, n_ends: int, when: str) -> None:
    """
    :param n_lost: of how many ends :func:`lost_its_state` is true
    :param n_ends: of how many
    :param when: for the message
    """
    warnings.warn(
        f"{n_lost} of {n_ends} episodes that ended {when} were cut by a time limit (TimeLimit.truncated) and have no "
        "terminal_observation in their info: these ends are taken for terminal ones, whose value is 0, as SB3 takes them.",
        stacklevel=2,
    )
