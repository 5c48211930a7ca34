"""What a ``VecNormalize`` has learnt: live, or from a ``vecnormalize.pkl`` whose pickle is not run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from sb3_distill.agents.errors import CheckpointError
from sb3_distill.agents.unpickling import MAX_NUMBERS, MAX_PICKLE, numeric, unpickle_inert


class NormalizeStatistics(NamedTuple):
    """What a ``VecNormalize`` did to observations and rewards.

    :param obs_mean: running mean, shape of the observation; a dict for Dict observations; None if they were left alone
    :param obs_var: running variance, likewise
    :param clip_obs: bound on the normalised observation
    :param epsilon: added to variances
    :param reward_scale: what a normalised reward is to be multiplied with, sqrt(ret_rms.var + ε); 1 if it was left alone
    """

    obs_mean: Any
    obs_var: Any
    clip_obs: float
    epsilon: float
    reward_scale: float


def normalize_statistics(vec_normalize: Any) -> NormalizeStatistics:
    """
    A frozen copy of what a ``VecNormalize`` has learnt.

    :param vec_normalize: a live one, or what stands in for one in an unpickled file
    :return: its statistics
    """
    norm_obs, norm_reward = bool(numeric(vec_normalize.norm_obs)), bool(numeric(vec_normalize.norm_reward))
    rms = vec_normalize.obs_rms if norm_obs else None
    epsilon = float(numeric(vec_normalize.epsilon))
    return NormalizeStatistics(
        obs_mean=_each(rms, "mean") if norm_obs else None,
        obs_var=_each(rms, "var") if norm_obs else None,
        clip_obs=float(numeric(vec_normalize.clip_obs)),
        epsilon=epsilon,
        reward_scale=float(np.sqrt(numeric(vec_normalize.ret_rms.var) + epsilon)) if norm_reward else 1.0,
    )


def _each(rms: Any, name: str) -> Any:
    """The means or variances of one RunningMeanStd, or of a dictionary of such."""
    if not isinstance(rms, dict):
        return numeric(getattr(rms, name))
    found: dict[str, np.ndarray] = {}
    size = 0
    for key, part in rms.items():
        found[key] = numeric(getattr(part, name))
        size += found[key].size
        if size > MAX_NUMBERS:  # parts may share one large array
            raise ValueError(f"statistics of more than {MAX_NUMBERS:,} numbers are too large.")
    return found


def read_vecnormalize(path: str | Path) -> NormalizeStatistics:
    """
    Read a ``vecnormalize.pkl`` without running the pickle.

    :param path: the file
    :return: its statistics
    :raises FileNotFoundError: if there is no such file
    :raises CheckpointError: if the file is damaged or holds no such statistics
    """
    path = Path(path)
    with path.open("rb") as file:
        # No more than there is: a buffer of the size that is asked for would be made first.
        data = file.read(min(path.stat().st_size, MAX_PICKLE) + 1)
    try:
        statistics = normalize_statistics(unpickle_inert(data))
        _check_numbers(statistics)
        return statistics
    except Exception as error:  # a hostile pickle may raise anything at all
        raise CheckpointError(f"{path} holds no VecNormalize statistics: {type(error).__name__}: {error}") from error


def _parts(arrays: Any) -> dict[str, np.ndarray]:
    """Means or variances by the part of the observation that they are of, "" for the whole."""
    if arrays is None:
        return {}
    return arrays if isinstance(arrays, dict) else {"": arrays}


def _check_numbers(statistics: NormalizeStatistics) -> None:
    """Refuses what would make observations of no numbers."""
    means, variances = list(_parts(statistics.obs_mean).values()), list(_parts(statistics.obs_var).values())
    scales = np.array([statistics.clip_obs, statistics.epsilon, statistics.reward_scale])
    if np.isnan(scales).any() or not all(np.isfinite(array).all() for array in (*means, *variances)):
        raise ValueError("not all of them are numbers")
    if any((array < 0).any() for array in (scales, *variances)):
        raise ValueError("some of them are negative")


def check_observations(statistics: NormalizeStatistics, space: spaces.Space, path: str, frame_stack: int = 1) -> None:
    """
    :param statistics: of a ``VecNormalize``
    :param space: what the policy sees
    :param path: of the statistics, for the message
    :param frame_stack: how many frames that is, where each was normalised before
    :raises CheckpointError: if they are of other observations
    """
    seen = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    means, variances = _parts(statistics.obs_mean), _parts(statistics.obs_var)
    for key, mean in means.items():
        shape = seen[key].shape if key in seen else None
        if shape and shape[-1] % frame_stack == 0:
            shape = (*shape[:-1], shape[-1] // frame_stack)
        # A policy sees images channels first, and VecNormalize saw them as the environment has them.
        if shape is None or mean.shape not in (shape, (*shape[1:], *shape[:1])) or variances[key].shape != mean.shape:
            raise CheckpointError(
                f"{path} holds statistics of other observations than the agent's: of shape {mean.shape}"
                f"{f' for {key[:80]!r}' if key else ''}, where the agent sees {'nothing' if shape is None else shape}."
            )


def normalizer(statistics: NormalizeStatistics) -> Callable[[Any], Any] | None:
    """
    From an environment's observations to those that the teacher was trained on, by SB3's own formula.

    The RL Zoo stacks frames around a ``VecNormalize``, so where there are several frames each is normalised. Those before the
    first of an episode are zeros there, normalised or not: so the oldest frames, as far as they are all zeros, stay zeros.

    :param statistics: frozen
    :return: a function of a batch of observations; None if observations were left alone
    """
    return None if statistics.obs_mean is None else Normalizer(statistics)


def undoing(statistics: NormalizeStatistics) -> dict[str, Any]:
    """
    :param statistics: of a ``VecNormalize``
    :return: the arguments of a :class:`~sb3_distill.Teacher` that was trained under it, in an environment without it
    """
    return {"normalize_obs": normalizer(statistics), "value_scale": statistics.reward_scale}


class Normalizer:
    """
    What :func:`normalizer` makes. Unlike a function within one it can be pickled, for workers in other processes.

    :param statistics: frozen, of observations
    """

    def __init__(self, statistics: NormalizeStatistics) -> None:
        self.statistics = statistics

    def __call__(self, obs: Any) -> Any:
        """
        :param obs: n observations as the environment gives them
        :return: normalised
        """
        mean, var = self.statistics.obs_mean, self.statistics.obs_var
        if not isinstance(obs, dict):
            return self._normalize(obs, mean, var)
        return {key: self._normalize(part, mean[key], var[key]) if key in mean else part for key, part in obs.items()}

    def _normalize(self, values: np.ndarray, mean: np.ndarray, var: np.ndarray) -> np.ndarray:
        # A VecNormalize that wraps nothing: its formula needs the statistics only.
        frozen = VecNormalize.__new__(VecNormalize)
        frozen.clip_obs, frozen.epsilon = self.statistics.clip_obs, self.statistics.epsilon
        width = mean.shape[-1] if mean.ndim else 0
        n_frames = values.shape[-1] // width if width else 1
        rms = RunningMeanStd(shape=())
        rms.mean, rms.var = (np.concatenate([x] * n_frames, axis=-1) if n_frames > 1 else x for x in (mean, var))
        normalized = frozen._normalize_obs(values, rms).astype(np.float32)
        if n_frames <= 1:
            return normalized
        frames = values.reshape(*values.shape[:-1], n_frames, width)
        seen = frames.any(axis=(*range(1, frames.ndim - 2), frames.ndim - 1), keepdims=True)
        begun = np.logical_or.accumulate(seen, axis=-2)
        return np.where(begun, normalized.reshape(frames.shape), np.float32(0)).reshape(values.shape)
