"""How far r̂ may lie from 0: the logarithm of a density has no limits, and that of a far action is in the thousands of nats."""

import math
from numbers import Real
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces

#: by default, for each dimension of a continuous action: a density that is e⁵ times, or 1/e⁵ of, what it is compared with says all
NATS_PER_DIMENSION = 5.0


def bound_of(given: float | None, in_nats: bool, action_space: spaces.Space) -> float | None:
    """
    >>> from gymnasium.spaces import Box, Discrete
    >>> from sb3_distill.rules.bounds import bound_of
    >>> bound_of(None, True, Box(-1, 1, (2,))), bound_of(None, True, Discrete(2)), bound_of(3.0, True, Discrete(2))
    (10.0, None, 3.0)

    :param given: by a user; ``math.inf`` for none
    :param in_nats: whether r̂ is made of logarithms of probabilities
    :param action_space: of one environment
    :return: the largest |r̂|. Unless one is given, 5 nats for each dimension of a continuous action if r̂ is in nats, else None, for
        no bound: ε bounds the logarithm of a discrete teacher's probabilities, and V_π is in units of the environment's reward
    :raises ValueError: if what is given is no number greater than 0
    """
    if given is not None:
        if isinstance(given, bool) or not isinstance(given, Real) or not given > 0:  # nor is NaN
            raise ValueError(
                f"reward_bound, the largest |r̂|, must be a number greater than 0, or math.inf for no bound, not {given!r}."
            )
        return None if math.isinf(given) else float(given)
    if in_nats and isinstance(action_space, spaces.Box):
        return NATS_PER_DIMENSION * int(np.prod(action_space.shape))
    return None


def bounded(reward: Any, bound: float | None) -> th.Tensor:
    """
    :param reward: r̂, a tensor of any shape
    :param bound: greater than 0, or None for no bound
    :return: r̂ between −bound and bound
    """
    return reward if bound is None else reward.clamp(-bound, bound)
