"""Imperfect teachers made on purpose: a share of their actions is uniform."""

import copy
import math
from numbers import Real
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces

from sb3_distill.rules.masking import FORBIDDEN


def check_noise(noise: Any) -> float:
    """
    :param noise: the share of the actions that is uniform
    :return: the same
    :raises ValueError: if it is not in [0, 1]
    """
    if isinstance(noise, bool) or not (isinstance(noise, Real) and 0 <= float(noise) <= 1):
        raise ValueError(f"noise is the share of a teacher's actions that is uniform, between 0 and 1, not {noise!r}.")
    return float(noise)


def made_noisy(teacher: Any, noise: float, seed: int = 0) -> Any:
    """
    :param teacher: a :class:`~sb3_distill.Teacher`, which stays as it is
    :param noise: the share of its actions that is uniform
    :param seed: of which of its actions are, where it plays
    :return: a teacher with that share of noise, whatever it had; the same where it has that share already
    :raises ValueError: for actions other than ``Discrete``, whose mixture with uniform ones no student's distribution can be compared with
    """
    if noise == teacher.noise:
        return teacher
    if not isinstance(teacher.action_space, spaces.Discrete):
        raise ValueError(
            f"noise={noise:g} is for Discrete actions, and {teacher.name} has {teacher.action_space}: what it does with a share of uniform "
            "actions is no distribution of SB3's. Leave noise out, or take an early checkpoint of it."
        )
    noisy = copy.copy(teacher)
    noisy.noise, noisy.noise_rng = noise, np.random.default_rng(seed)
    return noisy


def with_noise(log_probs: th.Tensor, noise: float, masks: np.ndarray | None = None) -> th.Tensor:
    """
    (1 − noise) π + noise/|A|.

    :param log_probs: log π, shape (n, |A|)
    :param noise: in (0, 1]
    :param masks: where some actions are forbidden, of the same shape: |A| is then how many are allowed, and π is masked
    :return: its logarithm, of the same shape
    """
    if masks is None:
        uniform = th.full_like(log_probs, math.log(noise / log_probs.shape[-1]))
    else:
        allowed = th.as_tensor(masks, device=log_probs.device)
        uniform = (noise / allowed.sum(-1, keepdim=True).to(log_probs.dtype)).log().where(allowed, FORBIDDEN)
    if noise == 1:
        return uniform
    return th.logaddexp(log_probs.log_softmax(-1) + math.log1p(-noise), uniform)


def noisy_actions(
    actions: np.ndarray, noise: float, n: int, rng: np.random.Generator, masks: np.ndarray | None = None
) -> np.ndarray:
    """
    :param actions: m discrete ones
    :param noise: the probability of a uniform one in the place of each
    :param n: how many actions there are
    :param rng: of both draws
    :param masks: where some are forbidden, shape (m, n)
    :return: m actions, 0 … n−1
    """
    if masks is None:
        drawn = rng.integers(n, size=actions.shape).astype(actions.dtype)
    else:
        drawn = (rng.random((len(actions), n)) + masks).argmax(-1).reshape(actions.shape).astype(actions.dtype)
    return np.where(rng.random(actions.shape) < noise, drawn, actions)
