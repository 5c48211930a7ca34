"""Returns of whole episodes, with the same seeds for everyone who plays."""

import copy
import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_distill.common.given_env import check_maker, made
from sb3_distill.common.layers import raw_env
from sb3_distill.common.masks import allowed_action, has_masks, masks_now
from sb3_distill.common.questions import as_dones, as_rewards, is_monitored, returns_so_far, seed_envs
from sb3_distill.common.spaces import any_action
from sb3_distill.common.whole_numbers import check_whole
from sb3_distill.evaluation.given import check_acts, checked

#: of the first episode of a comparison: the same for every run, and far from the seeds that training takes
EVALUATION_SEED = 2_000_000


class Episodes(NamedTuple):
    """What came of some episodes.

    :param returns: undiscounted, shape (n,); of an episode that was cut, what it had brought until then
    :param n_cut: how many did not come to their end
    :param n_steps: that were made, of all environments together
    """

    returns: np.ndarray
    n_cut: int
    n_steps: int


@dataclass(frozen=True)
class Heeding:
    """
    A player that takes no action which the environment forbids, where that says so.

    :param act: from a batch of n observations, and with them perhaps masks of the actions that are allowed, shape (n, columns), to n
        actions
    """

    act: Callable[..., np.ndarray]

    def __call__(self, obs: Any, masks: np.ndarray | None = None) -> np.ndarray:
        return self.act(obs) if masks is None else self.act(obs, masks)


def play_episodes(
    act: Any,
    env: str | gym.Env | VecEnv | Callable[[int], VecEnv],
    n_episodes: int = 100,
    seed: int = 0,
    max_steps: int | None = None,
) -> Episodes:
    """
    Play one episode in each of n environments, side by side. Where a ``Monitor`` beneath other wrappers counts whole games and
    unclipped rewards, as on Atari, these are the episodes.

    :param act: from a batch of n observations to n actions; or a model, whose ``predict`` acts greedily, or a teacher, who acts greedily on
        what it was trained to see. A :class:`Heeding` player is told which are allowed, and one that remembers has a method ``begin``,
        as :class:`Greedy` does
    :param env: a Gymnasium id, or a function that makes n environments, which are closed in the end; or an environment or ``VecEnv`` that
        was made, which is left open, and in which the episodes follow each other where there are fewer than n side by side
    :param n_episodes: n
    :param seed: episode k is seeded with ``seed + k``, so that two players meet the same episodes
    :param max_steps: an episode that has not ended by then is cut; None waits for its end
    :return: the episodes, all in the same units
    :raises ValueError: before any work, for what cannot act, no environment, no whole numbers, and if the function makes another number
        of environments; later for actions that are none, and for a reward that is not finite, of which there is no mean
    """
    _player(act)  # or it raises
    check_whole("n_episodes", n_episodes, 1)
    if seed is not None:
        check_whole("seed", seed, 0)
    if max_steps is not None:
        check_whole("max_steps", max_steps, 1)
    if isinstance(env, (gym.Env, VecEnv)):
        given = env if isinstance(env, VecEnv) else DummyVecEnv([lambda: env])
        player, seen = _seated(act, given)
        return _in_turns(player, seen, n_episodes, seed, max_steps)
    check_maker(env)
    n_envs = act.n_envs if _is_teacher(act) else None
    venv = make_plain_envs(env, n_envs or n_episodes) if isinstance(env, str) else made(env, n_envs or n_episodes)
    try:
        player, seen = _seated(act, venv)
        return _in_turns(player, seen, n_episodes, seed, max_steps)
    finally:
        venv.close()


def _in_turns(act: Any, venv: VecEnv, n_episodes: int, seed: int, max_steps: int | None) -> Episodes:
    """As many episodes at a time as there are environments; more than are wanted in the end."""
    found, first = [], 0
    while first < n_episodes:
        n = min(venv.num_envs, n_episodes - first)
        found.append(_side_by_side(act, venv, n, None if seed is None else seed + first, max_steps))
        first += n
    returns, cut, steps = zip(*found, strict=True)
    return Episodes(np.concatenate(returns), sum(cut), sum(steps))


def _seated(act: Any, venv: VecEnv) -> tuple[Any, VecEnv]:
    """Who acts, and what that one sees of an environment: a teacher says both, all others see what the environment shows."""
    return act.seated(venv) if _is_teacher(act) else (act, venv)


def _is_teacher(act: Any) -> bool:
    """By what it can do: what a teacher is is known on a higher floor."""
    return not isinstance(act, type) and callable(getattr(act, "seated", None))


def _player(act: Any) -> Callable[..., Any]:
    if isinstance(act, (Heeding, Greedy)) or _is_teacher(act):
        return act  # type: ignore[no-any-return]
    predict = None if isinstance(act, type) else getattr(act, "predict", None)
    if callable(predict):
        return greedy(predict)
    check_acts(act)
    return act  # type: ignore[no-any-return]


def _side_by_side(act: Any, venv: VecEnv, n: int, seed: Any, max_steps: int | None) -> Episodes:
    """An episode in each environment, of which the first n count."""
    player, n_envs = _player(act), venv.num_envs
    heeds = isinstance(player, Heeding) and has_masks(venv)
    seed_envs(venv, seed)
    obs = venv.reset()
    returns = np.zeros(n_envs)
    running = np.arange(n_envs) < n
    begin = getattr(player, "begin", lambda starts: None)  # who remembers has to know
    begin(np.ones(n_envs, dtype=bool))
    monitored = is_monitored(venv)
    normalizer = raw_env(venv)[1]
    if normalizer is not None and normalizer.norm_reward and not monitored:
        warnings.warn(
            "These returns are of the rewards that VecNormalize has normalised, for no Monitor beneath it counts the environment's: "
            "wrap the environments in Monitor, or play with norm_reward=False.",
            stacklevel=4,
        )
    step = 0
    while running.any() and (max_steps is None or step < max_steps):
        said = player(obs, masks_now(venv, f"in step {step + 1} of an episode")) if heeds else player(obs)  # type: ignore[call-arg]
        obs, rewards, ends, infos = venv.step(checked(said, venv.action_space, n_envs))
        paid = np.where(running, as_rewards(rewards), 0.0)
        if not np.isfinite(paid).all():
            raise ValueError(
                f"The reward after step {step + 1} of an episode is not finite: {paid[~np.isfinite(paid)][0]}. Mend the environment."
            )
        returns += paid
        dones = as_dones(ends)
        begin(dones)
        for i in np.flatnonzero(dones & running):
            running[i] = monitored and "episode" not in infos[i]
            if monitored and not running[i]:
                returns[i] = infos[i]["episode"]["r"]
        step += 1
    cut = np.flatnonzero(running)
    if monitored and len(cut):
        returns[cut] = returns_so_far(venv, cut, returns[cut])  # in the units of those that have ended
    return Episodes(returns[:n], len(cut), step * n)


def episode_returns(
    act: Any,
    env: str | gym.Env | VecEnv | Callable[[int], VecEnv],
    n_episodes: int = 100,
    seed: int = 0,
    max_steps: int | None = None,
) -> np.ndarray:
    """
    Play one episode in each of n environments, side by side; :func:`play_episodes` says besides how many were cut.

    :param act: from a batch of n observations to n actions; or a model, whose ``predict`` acts greedily, or a teacher, who acts greedily on
        what it was trained to see. A :class:`Heeding` player is told which are allowed, and one that remembers has a method ``begin``,
        as :class:`Greedy` does
    :param env: a Gymnasium id, or a function that makes n environments, which are closed in the end; or an environment or ``VecEnv`` that
        was made, which is left open, and in which the episodes follow each other where there are fewer than n side by side
    :param n_episodes: n
    :param seed: episode k is seeded with ``seed + k``, so that two players meet the same episodes
    :param max_steps: an episode that has not ended by then is cut; None waits for its end
    :return: undiscounted returns, shape (n,)
    :raises ValueError: as :func:`play_episodes` does
    """
    return play_episodes(act, env, n_episodes, seed, max_steps).returns


def random_play(space: gym.Space, n: int, seed: int = 0) -> Callable[[Any], np.ndarray]:
    """
    :param space: of the actions
    :param n: environments side by side
    :param seed: of the actions
    :return: from observations to n uniformly random actions, of those that are allowed, for :func:`episode_returns`
    """
    own = copy.deepcopy(space)
    own.seed(seed)

    def act(obs: Any, masks: np.ndarray | None = None) -> np.ndarray:
        if masks is not None:
            return np.stack([allowed_action(own, mask) for mask in masks])
        return np.stack([any_action(own) for _ in range(n)])

    return Heeding(act)


def make_plain_envs(env_id: str, n_envs: int) -> VecEnv:
    """
    :param env_id: a Gymnasium id
    :param n_envs: how many
    :return: n environments in one process, without a ``Monitor``
    """
    return DummyVecEnv([lambda: gym.make(env_id)] * n_envs)


def standard_error(returns: np.ndarray) -> float:
    """
    :param returns: of n episodes
    :return: of their mean; NaN for one episode
    """
    return float(returns.std(ddof=1) / np.sqrt(len(returns))) if len(returns) > 1 else float("nan")


class Greedy:
    """
    From observations to a model's deterministic actions, for :func:`play_episodes`. What the model remembers it keeps from step to step,
    and forgets where an episode begins.

    :param predict: of an SB3 model
    """

    def __init__(self, predict: Callable[..., tuple[np.ndarray, Any]]) -> None:
        self.predict = predict
        self.state: Any = None
        self.starts: np.ndarray | None = None

    def __call__(self, obs: Any, **more: Any) -> np.ndarray:
        """
        :param obs: of n environments, the same ones as before
        :param more: for the model, such as masks
        :return: n actions
        """
        remembered = () if self.state is None else (self.state, self.starts)
        actions, self.state = self.predict(obs, *remembered, deterministic=True, **more)
        return actions

    def begin(self, starts: np.ndarray) -> None:
        """:param starts: whether the next observation is the first of an episode, shape (n,)"""
        self.starts = starts


def greedy(predict: Callable[..., tuple[np.ndarray, Any]]) -> Callable[[Any], np.ndarray]:
    """
    :param predict: of an SB3 model
    :return: from observations to its deterministic actions, for :func:`~sb3_distill.evaluation.episodes.episode_returns`
    """
    if "action_masks" in inspect.signature(predict).parameters:
        return Heeding(lambda obs, masks=None: predict(obs, deterministic=True, action_masks=masks)[0])
    return Greedy(predict)
