"""MuJoCo's environments under their present names: which former ones cannot be made, and what they showed that is shown no more.

Up to -v4 some observations had entries that are always 0, and -v5 leaves these out. With zeros in their places, an agent that was trained
before sees what it saw.
"""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_distill.common.layers import Layer

#: the version whose observations leave out what is always 0
PRESENT = 5
#: what a ``config.yml`` would call the wrapper
WRAPPER = "FormerObservations"

_HEALTHY = "a step in which it falls earns nothing for its health"
_CONTACTS = "contact forces are there, which mujoco-py 2 left at 0"
#: of Humanoid and HumanoidStandup: the inertia and velocity of the world, the forces of the root's joint, and contacts of the world
_WORLD = ((45, 10), (185, 6), (269, 6), (292, 6))


class Former(NamedTuple):
    """
    How an environment was before -v5.

    :param zeros: entries of the former observation that were always 0 and are left out now: where each run of them began, and how
        many they were
    :param size: of an observation of -v5
    :param differs: what else an agent meets
    """

    zeros: tuple[tuple[int, int], ...] = ()
    size: int = 0
    differs: str = ""


FORMER = {
    "HalfCheetah": Former(size=17),
    "Hopper": Former(size=11, differs=_HEALTHY),
    "Walker2d": Former(size=17, differs=f"the right foot slides less, and {_HEALTHY}"),
    "Swimmer": Former(size=8),
    "InvertedPendulum": Former(size=4, differs=_HEALTHY),
    "InvertedDoublePendulum": Former(((9, 2),), 9, _HEALTHY),
    "Reacher": Former(((10, 1),), 10, "a step is paid for the distance after it, and was for that before"),
    "Pusher": Former((), 23, "the object is heavier, and a step is paid for the distances after it"),
    "Ant": Former(((27, 6),), 105, f"{_CONTACTS}, and {_HEALTHY}"),
    "Humanoid": Former(_WORLD, 348, f"{_CONTACTS}, and {_HEALTHY}"),
    "HumanoidStandup": Former(_WORLD, 348, _CONTACTS),
}


def former(env_id: str | None) -> Former | None:
    """
    :param env_id: a Gymnasium id
    :return: how it was; None if it is none of MuJoCo's before -v5
    """
    name, _, number = (env_id or "").rpartition("-v")
    return FORMER.get(name) if number.isdigit() and int(number) < PRESENT else None


def present_name(env_id: str) -> str | None:
    """
    :param env_id: a Gymnasium id
    :return: what to make in its place; None if it is not of MuJoCo's, or can be made. Gymnasium registers -v2 and -v3 and cannot make
        them, unless another package has registered its own under these names; and Pusher-v4 wants MuJoCo 2
    """
    if former(env_id) is None or f"{env_id.rpartition('-v')[0]}-v{PRESENT}" not in gym.registry:
        return None
    number = int(env_id.rpartition("-v")[2])
    if env_id in gym.registry:
        entry_point: Any = gym.registry[env_id].entry_point
        place = entry_point if isinstance(entry_point, str) else getattr(entry_point, "__module__", "")
        is_made = number >= 4 if place.startswith("gymnasium.") else True
        if is_made and not (env_id == "Pusher-v4" and _mujoco() >= 3):
            return None
    return f"{env_id.rpartition('-v')[0]}-v{PRESENT}"


def differences(env_id: str) -> str:
    """
    :param env_id: of MuJoCo's, before -v5
    :return: what an agent of it meets in -v5, in a sentence
    """
    known = former(env_id)
    assert known is not None
    n = sum(count for _, count in known.zeros)
    same = f"its {known.size + n} observations again, of which {n} are always 0" if n else "the same observations"
    return f"It has {same}{'; but ' + known.differs if known.differs else ''}."


def hint(mine: spaces.Space, theirs: spaces.Space, trained_in: str | None, present: str | None) -> str:
    """
    :param mine: what a teacher reads
    :param theirs: what an environment shows
    :param trained_in: the teacher's environment, if it is known
    :param present: the other, if it is known
    :return: how the one is made of the other, if they are MuJoCo's of before -v5 and of -v5
    """
    name = (present or trained_in or "").rpartition("-v")[0]
    known = FORMER.get(name)
    if known is None or not known.zeros or mine.shape is None or theirs.shape is None:
        return ""
    n_former = known.size + sum(count for _, count in known.zeros)
    if (mine.shape, theirs.shape) == ((n_former,), (known.size,)):
        was = trained_in if former(trained_in) else f"{name}-v{PRESENT - 1}"
        return (
            f" Up to -v{PRESENT - 1}, {name} showed {n_former - known.size} more numbers, which were always 0: sb3_distill.common.mujoco's "
            f"VecFormerObservations(venv, {was!r}) and FormerObservations(env, {was!r}) put them in again."
        )
    if name == "Ant" and 27 in (*mine.shape, *theirs.shape):
        return " Ant shows 27 numbers without contact forces: gymnasium.make('Ant-v5', include_cfrc_ext_in_observation=False)."
    return ""


def check_made(env_id: str) -> None:
    """
    :param env_id: a Gymnasium id
    :raises ValueError: if it is MuJoCo's, and registered, and cannot be made: what to take in its place
    """
    present = present_name(env_id)
    if present is not None:
        raise ValueError(f"Gymnasium cannot make {env_id} any more: take {present!r}. {differences(env_id)}")


def former_wrappers(trained_in: str | None, present: str | None) -> tuple[tuple[str, dict[str, Any]], ...]:
    """
    :param trained_in: an id as it was when an agent was trained
    :param present: the one that is made
    :return: what has to be around the latter to show what the former did: entries of an ``env_wrapper``
    """
    known = former(trained_in)
    if known is None or not known.zeros or present == trained_in:
        return ()
    return ((WRAPPER, {"env_id": trained_in}),)


class FormerObservations(gym.ObservationWrapper):
    """
    The observations of a MuJoCo environment as they were before -v5.

    :param env: of -v5
    :param env_id: the former id, such as ``"Humanoid-v3"``
    :raises ValueError: if that is none of MuJoCo's before -v5, or ``env`` does not show what its -v5 does
    """

    def __init__(self, env: gym.Env, env_id: str) -> None:
        super().__init__(env)
        self.observation_space, self._insert = _inserting(env.observation_space, env_id)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        return self._insert(observation)


class VecFormerObservations(Layer):
    """
    :class:`FormerObservations` for a ``VecEnv``.

    :param venv: of -v5
    :param env_id: the former id
    :raises ValueError: as there
    """

    def __init__(self, venv: VecEnv, env_id: str) -> None:
        space, self._insert = _inserting(venv.observation_space, env_id)
        super().__init__(venv, space)

    def reset(self) -> VecEnvObs:
        return self._insert(self.venv.reset())  # type: ignore[arg-type]

    def step_wait(self) -> VecEnvStepReturn:
        obs, rewards, dones, infos = self.venv.step_wait()
        for info in infos:
            if info.get("terminal_observation") is not None:
                info["terminal_observation"] = self._insert(info["terminal_observation"])
        return self._insert(obs), rewards, dones, infos  # type: ignore[arg-type]


def _inserting(space: spaces.Space, env_id: str) -> tuple[spaces.Box, Callable[[np.ndarray], np.ndarray]]:
    """The former space of observations, and the function that puts zeros into n observations of the present one, or into one."""
    known = former(env_id)
    if known is None:
        names = ", ".join(sorted(FORMER))
        raise ValueError(f"{WRAPPER} is for the former ids of MuJoCo's {names} with -v2 to -v4, not {env_id!r}.")
    if not isinstance(space, spaces.Box) or space.shape != (known.size,):
        raise ValueError(
            f"{env_id} cannot be made of an environment that shows {space}: its -v{PRESENT} has {known.size} observations. If arguments "
            "of the environment (env_kwargs) change them, leave these out."
        )
    n_former = known.size + sum(count for _, count in known.zeros)
    kept = np.ones(n_former, dtype=bool)
    for start, count in known.zeros:
        kept[start : start + count] = False

    def insert(obs: np.ndarray) -> np.ndarray:
        whole = np.zeros((*obs.shape[:-1], n_former), dtype=obs.dtype)
        whole[..., kept] = obs
        return whole

    low, high = np.full(n_former, -np.inf, space.dtype), np.full(n_former, np.inf, space.dtype)
    low[kept], high[kept] = space.low, space.high
    return spaces.Box(low, high, dtype=space.dtype.type), insert  # type: ignore[union-attr]


def _mujoco() -> int:
    """The first number of MuJoCo's version; that of today's where it is not installed."""
    try:
        return int(version("mujoco").partition(".")[0])
    except (PackageNotFoundError, ValueError):
        return 3
