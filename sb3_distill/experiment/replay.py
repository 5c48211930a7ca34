"""Episodes that a checkpoint was written in the middle of: they are played again, up to where they were.

Environments cannot be saved in general. But those of Gymnasium draw from ``np_random``, so that an episode is its generator's state before
the reset and the actions since: these are kept, and played again by the process that goes on. It trusts the outcome only if observations
and generators are what they were, to the bit.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecTransposeImage

#: actions of the longest episode that is kept: one without a time limit may never end
LONGEST = 100_000
#: the attribute of a ``DummyVecEnv`` that keeps them
_KEPT = "_sb3_distill_episodes"


class Episode:
    """
    The present episode of one environment, which it records from now on.

    :param env: of Gymnasium, in all its wrappers
    """

    def __init__(self, env: Any) -> None:
        self.env = env
        self._reset, self._step = env.reset, env.step
        env.reset, env.step = self.reset, self.step
        #: the generator's state before the reset; None before there was one, and where there is no generator
        self.before: dict[str, Any] | None = None
        self.seed: int | None = None
        self.actions: list[np.ndarray] = []
        #: steps of all episodes
        self.n_steps = 0

    def reset(self, **kwargs: Any) -> Any:
        """The environment's own, and a new episode begins."""
        self.seed = kwargs.get("seed")
        self.before = None if kwargs.get("options") else generator_state(self.env)
        self.actions = []
        return self._reset(**kwargs)

    def step(self, action: Any) -> Any:
        """The environment's own."""
        if len(self.actions) < LONGEST:
            self.actions.append(np.array(action))
        else:
            self.before = None
        self.n_steps += 1
        return self._step(action)

    def kept(self) -> dict[str, Any] | None:
        """What another process needs to come to the same state; None if that is not known."""
        if self.before is None:
            return None
        actions = np.array(self.actions) if self.actions else np.zeros((0, *(self.env.action_space.shape or ())))
        return {"before": self.before, "seed": self.seed, "actions": actions, "after": generator_state(self.env)}

    def play_again(self, kept: Mapping[str, Any]) -> Any:
        """
        :param kept: of :meth:`kept`
        :return: the last observation
        :raises ValueError: if it is not the same episode
        """
        self.env.unwrapped.np_random.bit_generator.state = kept["before"]
        obs, _ = self.reset(seed=kept["seed"])
        for action in kept["actions"]:
            if not self.env.action_space.contains(action):
                raise ValueError(f"{action!r} is no action")
            obs, _, terminated, truncated, _ = self.step(action)
            if terminated or truncated:
                raise ValueError("the episode ends before it should")
        if generator_state(self.env) != kept["after"]:
            raise ValueError("other random numbers were drawn")
        return obs


def generator_state(env: Any) -> dict[str, Any] | None:
    """
    :param env: of Gymnasium
    :return: of its random numbers; None if it has none that are known
    """
    try:
        state = env.unwrapped.np_random.bit_generator.state
    except Exception:  # whatever an environment of somebody's does here
        return None
    return state if isinstance(state, dict) and isinstance(state.get("state"), dict) else None


def record_episodes(env: VecEnv | None) -> None:
    """
    Keep what it takes to come to the same states again, from the next reset on, where that can be done: in environments of this
    process, side by side, whose observations nothing around them remembers.

    :param env: of a student, before it has played in it
    """
    inner = _plain(env)
    if inner is not None and not hasattr(inner, _KEPT):
        setattr(inner, _KEPT, [Episode(one) for one in inner.envs])


def episodes_of(student: Any) -> dict[str, Any] | None:
    """
    :param student: between two of its rollouts
    :return: for :func:`go_on`; None where episodes cannot be played again, in the middle of a rollout, and for what learns from more than
        its last rollout, such as a memory
    """
    if not isinstance(student, OnPolicyAlgorithm):
        return None
    inner = _plain(student.env)
    recorded: list[Episode] = getattr(inner, _KEPT, [])
    if inner is None or not recorded or student._last_obs is None:
        return None
    if any(episode.n_steps * len(recorded) != student.num_timesteps for episode in recorded):
        return None
    kept = [episode.kept() for episode in recorded]
    if any(one is None for one in kept):
        return None
    shown = {name or "": np.array(values) for name, values in inner.buf_obs.items()}
    return {"kept": kept, "shown": shown, "last": student._last_obs, "starts": student._last_episode_starts}


def go_on(student: Any, saved: Mapping[str, Any] | None) -> bool:
    """
    Play the episodes again that a checkpoint was written in the middle of.

    :param student: restored otherwise; its environments have not been played in
    :param saved: of :func:`episodes_of`
    :return: whether its environments are where they were; else its next rollout begins new episodes
    """
    inner = _plain(student.env)
    if saved is None or inner is None or not hasattr(inner, _KEPT):
        return False
    recorded: list[Episode] = getattr(inner, _KEPT)
    try:
        if len(saved["kept"]) != len(recorded):
            raise ValueError(f"{len(saved['kept'])} environments were kept")
        for k, (episode, kept) in enumerate(zip(recorded, saved["kept"], strict=True)):
            inner._save_obs(k, episode.play_again(kept))
            episode.n_steps = student.num_timesteps // len(recorded)
        for name, values in inner.buf_obs.items():
            if not _same(values, saved["shown"][name or ""]):
                raise ValueError("the observations are others")
        starts = np.array(saved["starts"])
        if starts.shape != (len(recorded),):
            raise ValueError("it is not known which episodes have just begun")
    except Exception as error:  # an environment's own code is played here, in a state that may be damaged
        warnings.warn(
            "Its episodes could not be played again up to where the checkpoint was written, so that new ones begin "
            f"({type(error).__name__}: {error}): the end will not be that of a run in one piece."
        )
        return False
    inner._reset_seeds()
    student._last_obs, student._last_episode_starts = saved["last"], starts
    return True


def _plain(env: VecEnv | None) -> DummyVecEnv | None:
    while isinstance(env, VecTransposeImage):
        env = env.venv
    return env if type(env) is DummyVecEnv else None


def _same(one: np.ndarray, other: Any) -> bool:
    other = np.asarray(other)
    return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()
