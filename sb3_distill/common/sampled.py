"""Observations of which nothing but their space is known."""

import copy
from typing import Any

import numpy as np
from gymnasium import spaces

#: a bound beyond this is none: an observation near it is not sampled
_LARGE = 1e3


def sampled(space: spaces.Space, n: int) -> Any:
    """
    :param space: of observations
    :param n: how many
    :return: n observations from it, drawn with a seed; where its bounds are none, they are small numbers
    """
    space = _bounded(copy.deepcopy(space))
    space.seed(0)
    samples: list[Any] = [space.sample() for _ in range(n)]
    if isinstance(space, spaces.Dict):
        return {key: np.stack([sample[key] for sample in samples]) for key in space.spaces}
    return np.stack(samples)


def _bounded(space: spaces.Space) -> spaces.Space:
    """Without bounds that a float's own are, between which nearly all numbers are huge."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: _bounded(sub) for key, sub in space.spaces.items()})
    if isinstance(space, spaces.Box) and space.dtype.kind == "f":
        return spaces.Box(
            np.where(space.low < -_LARGE, -np.inf, space.low).astype(space.dtype),
            np.where(space.high > _LARGE, np.inf, space.high).astype(space.dtype),
            dtype=space.dtype.type,
        )
    return space
