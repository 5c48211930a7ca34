"""Observations to compare answers by: drawn from the space, and met in play."""

import time
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.common.masks import allowed_action, has_masks, masks_now
from sb3_distill.common.observations import concatenate_obs, copy_obs, each_part, length
from sb3_distill.common.questions import as_dones
from sb3_distill.common.spaces import any_action
from sb3_distill.exporting.agent import Exportable, cast
from sb3_distill.exporting.recipe import Recipe
from sb3_distill.teachers.onnx_function import MASKS, START

#: ranges wider than that are drawn from a Gaussian: the ends of float32 are no observation
WIDEST = 1e4
#: seconds that play takes at most
SECONDS = 20.0
#: numbers that are drawn at once
AT_ONCE = 1 << 20
#: environments side by side
N_ENVS = 8


class Asked(NamedTuple):
    """What both sides are asked about.

    :param inputs: by name, a batch each
    :param observations: the same as the environment gives them
    :param n_met: how many of them were met in play; those come first
    """

    inputs: dict[str, np.ndarray]
    observations: Any
    n_met: int

    @property
    def n(self) -> int:
        """How many."""
        return length(self.observations)


def drawn(space: spaces.Space, n: int, rng: np.random.Generator, statistics: Any = None) -> Any:
    """
    :param space: of observations
    :param n: how many
    :param rng: by which
    :param statistics: of a ``VecNormalize``: where there are some, observations are drawn around its means
    :return: n observations
    """
    if isinstance(space, spaces.Dict):
        return {key: drawn(sub, n, rng, _part(statistics, key)) for key, sub in space.spaces.items()}
    if isinstance(space, spaces.Discrete):
        return space.start + rng.integers(space.n, size=n, dtype=np.int64)
    if isinstance(space, spaces.MultiDiscrete):
        return (space.start + rng.integers(space.nvec, size=(n, *space.shape))).astype(space.dtype)
    if isinstance(space, spaces.MultiBinary):
        return rng.integers(2, size=(n, *space.shape)).astype(space.dtype)
    if not isinstance(space, spaces.Box):
        raise ValueError(
            f"Cannot draw observations of {space}: SB3 knows Box, Discrete, MultiDiscrete, MultiBinary and Dict."
        )
    return _drawn_box(space, n, rng, statistics)


def _drawn_box(space: spaces.Box, n: int, rng: np.random.Generator, statistics: Any) -> np.ndarray:
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    if np.issubdtype(space.dtype, np.integer):
        least = np.where(high > -WIDEST, -WIDEST, high - WIDEST)
        most = np.where(low < WIDEST, WIDEST, low + WIDEST)
        low, high = low.clip(least), high.clip(max=most)
        return rng.integers(
            low.astype(space.dtype), high.astype(space.dtype), size=(n, *space.shape), dtype=space.dtype, endpoint=True
        )
    narrow = (low > -WIDEST) & (high < WIDEST)
    mean, var = statistics if statistics is not None else (0.0, 9 / 4)
    if np.ndim(mean) and np.shape(mean) != space.shape:  # of one frame
        repeats = space.shape[-1] // np.shape(mean)[-1]
        mean, var = (np.concatenate([x] * repeats, axis=-1) for x in (mean, var))
    values = np.empty((n, *space.shape), space.dtype)
    step = max(1, AT_ONCE // max(1, int(np.prod(space.shape))))
    for first in range(0, n, step):  # in double precision they are many times as large
        part = values[first : first + step]
        found = np.asarray(mean) + 2 * np.sqrt(np.asarray(var)) * rng.standard_normal(part.shape)
        if statistics is None and narrow.any():
            found = np.where(
                narrow, rng.uniform(np.where(narrow, low, 0), np.where(narrow, high, 1), part.shape), found
            )
        part[:] = found.clip(low, high)
    return values


def _part(statistics: Any, key: str) -> Any:
    if statistics is None:
        return None
    mean, var = statistics
    return (mean[key], var[key]) if isinstance(mean, dict) and key in mean else None


def met(agent: Exportable, env: VecEnv, n: int, seconds: float = SECONDS) -> tuple[Any, np.ndarray | None]:
    """
    Let an agent play, and keep what it sees.

    :param agent: who plays, greedily; a tenth of its steps are random, so that it sees more than its best path
    :param env: with its observations; it is reset, and left open
    :param n: how many observations, at most
    :param seconds: after which it plays no further
    :return: up to n observations as the environment gives them, and the masks of actions there if it hands some out
    """
    end = time.monotonic() + seconds
    env.seed(0)
    env.action_space.seed(0)
    rng = np.random.default_rng(0)
    obs: Any = env.reset()
    seen, state, starts = [], None, np.ones(env.num_envs, dtype=bool)
    masks: list[np.ndarray] | None = [] if has_masks(env) else None
    more: Any = {}
    for step in range(-(-n // env.num_envs)):
        obs = cast(obs, agent.observation_space)
        seen.append(copy_obs(obs))
        if masks is not None:
            masks.append(masks_now(env, f"in step {step + 1} of its play"))
        if time.monotonic() > end:
            break
        if agent.is_recurrent:
            more = {"state": state, "episode_start": starts}
        elif masks is not None and agent.is_masked:
            more = {"action_masks": masks[-1]}
        actions, state = agent.predict(obs, **more)
        for i in np.flatnonzero(rng.random(env.num_envs) < 0.1):
            space = env.action_space
            actions[i] = any_action(space) if masks is None else allowed_action(space, masks[-1][i])
        obs, _, dones, _ = env.step(actions)
        starts = as_dones(dones)
    flags = None if masks is None else np.concatenate(masks)[:n]
    return each_part(concatenate_obs(seen), lambda values: values[:n]), flags


def asked(agent: Exportable, recipe: Recipe, n: int, env: VecEnv | None = None, seed: int = 0) -> Asked:
    """
    :param agent: who is exported
    :param recipe: what it does
    :param n: how many observations
    :param env: where half of them are met, if one is at hand
    :param seed: of those that are drawn
    :return: they
    """
    rng = np.random.default_rng(seed)
    parts, flags = [], None
    if env is not None and n > 1:
        seen, flags = met(agent, env, n // 2)
        parts.append(seen)
    n_met = length(parts[0]) if parts else 0
    statistics = agent.statistics
    around = None if statistics is None or statistics.obs_mean is None else (statistics.obs_mean, statistics.obs_var)
    parts.append(cast(drawn(agent.observation_space, n - n_met, rng, around), agent.observation_space))
    obs = concatenate_obs(parts)
    inputs = {port.name: obs if port.key is None else obs[port.key] for port in recipe.observations}
    for port in recipe.extras:
        shape = list(port.shape)
        shape.insert(port.batch_axis, n)
        inputs[port.name] = _extra(port.name, tuple(shape), rng)
        if port.name == MASKS and flags is not None:
            inputs[MASKS][:n_met] = flags
    return Asked(inputs, obs, n_met)


def _extra(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if name == START:
        return (rng.random(shape) < 0.1).astype(np.float32)
    if name == MASKS:
        masks = rng.random(shape) < 0.7
        masks[: len(masks) // 2] = True
        return masks
    return rng.uniform(-1, 1, shape).astype(np.float32)
