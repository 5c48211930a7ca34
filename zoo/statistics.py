"""What a ``VecNormalize`` has learnt: live, or from a ``vecnormalize.pkl`` whose pickle is not run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from sb3_distill.zoo.errors import CheckpointError
from sb3_distill.zoo.unpickling import MAX_PICKLE, numeric, unpickle_inert


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
    each = (lambda get: {k: get(v) for k, v in rms.items()}) if isinstance(rms, dict) else (lambda get: get(rms))
    epsilon = float(numeric(vec_normalize.epsilon))
    return NormalizeStatistics(
        obs_mean=each(lambda r: numeric(r.mean)) if norm_obs else None,
        obs_var=each(lambda r: numeric(r.var)) if norm_obs else None,
        clip_obs=float(numeric(vec_normalize.clip_obs)),
        epsilon=epsilon,
        reward_scale=float(np.sqrt(numeric(vec_normalize.ret_rms.var) + epsilon)) if norm_reward else 1.0,
    )


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
        data = file.read(MAX_PICKLE + 1)
    try:
        return normalize_statistics(unpickle_inert(data))
    except Exception as error:  # a hostile pickle may raise anything at all
        raise CheckpointError(f"{path} holds no VecNormalize statistics: {type(error).__name__}: {error}") from error


def normalizer(statistics: NormalizeStatistics) -> Callable[[Any], Any] | None:
    """
    From an environment's observations to those that the teacher was trained on, by SB3's own formula.

    :param statistics: frozen
    :return: a function of a batch of observations; None if observations were left alone
    """
    if statistics.obs_mean is None:
        return None
    # A VecNormalize that wraps nothing: its methods need the statistics only.
    frozen = VecNormalize.__new__(VecNormalize)
    frozen.norm_obs, frozen.clip_obs, frozen.epsilon = True, statistics.clip_obs, statistics.epsilon

    def running(mean: Any, var: Any) -> RunningMeanStd:
        rms = RunningMeanStd(shape=mean.shape)
        rms.mean, rms.var = mean, var
        return rms

    if isinstance(statistics.obs_mean, dict):
        frozen.norm_obs_keys = list(statistics.obs_mean)
        frozen.obs_rms = {k: running(statistics.obs_mean[k], statistics.obs_var[k]) for k in statistics.obs_mean}
    else:
        frozen.obs_rms = running(statistics.obs_mean, statistics.obs_var)  # type: ignore[assignment]
    return frozen.normalize_obs
