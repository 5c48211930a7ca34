"""Observations of n environments, which are arrays or dictionaries of arrays."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


class ObservationLog:
    """Observations of n environments, step by step: copies, which no environment can overwrite."""

    def __init__(self) -> None:
        self._steps: list[Any] = []

    def append(self, obs: Any) -> None:
        """:param obs: of one step: an array of shape (n, …), or a dict or tuple of such"""
        self._steps.append(copy_obs(obs))

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, step: int) -> Any:
        return self._steps[step]

    def batch(self, first: int, more: Sequence[Any] = ()) -> Any:
        """:return: the observations from step ``first`` on, and ``more`` single ones, as one batch"""
        return concatenate_obs([*self._steps[first:], *([stack_obs(more)] if more else [])])

    def cut(self) -> None:
        """The next observation need not go on where the last one was, which makes no difference here."""


def each_part(obs: Any, change: Callable[[Any], Any]) -> Any:
    """
    :param obs: an array or a tensor, or a dict of such
    :param change: of one array or tensor
    :return: the same with each changed
    """
    return {key: change(value) for key, value in obs.items()} if isinstance(obs, dict) else change(obs)


def length(obs: Any) -> int:
    """
    :param obs: a batch of observations
    :return: of how many states
    """
    return len(next(iter(obs.values())) if isinstance(obs, dict) else obs)


def copy_obs(obs: Any) -> Any:
    """A copy that no environment can overwrite: of an array, or of a dict or tuple of arrays."""
    return each_part(obs, np.array)


def observation_of(obs: Any, i: int | slice) -> Any:
    """
    :param obs: of n environments, an array or a dict of arrays
    :param i: which environment, or which of them
    :return: its own, or a batch of theirs
    """
    return each_part(obs, lambda values: values[i])


def stack_obs(observations: Sequence[Any]) -> Any:
    """
    :param observations: k observations of one state each, arrays or dicts of arrays
    :return: the batch of k, an array or a dict of arrays
    """
    if isinstance(observations[0], dict):
        return {key: np.stack([obs[key] for obs in observations]) for key in observations[0]}
    return np.stack(observations)


def concatenate_obs(observations: list[Any]) -> Any:
    """
    :param observations: batches of observations, arrays or dicts of arrays
    :return: one batch
    """
    if isinstance(observations[0], dict):
        return {key: np.concatenate([obs[key] for obs in observations]) for key in observations[0]}
    return np.concatenate(observations)


def same_obs(a: Any, b: Any) -> bool:
    """Whether two batches of observations are equal to the bit."""
    if isinstance(a, dict):
        return isinstance(b, dict) and all(np.array_equal(a[key], b[key]) for key in a)
    return not isinstance(b, dict) and np.array_equal(a, b)


def check_finite(obs: Any, when: str, first: int = 0) -> None:
    """
    :param obs: a batch of observations
    :param when: for the message
    :param first: the environment that the batch starts with
    :raises ValueError: if one of them holds NaN or infinity: which environment, which step
    """
    for name, values in obs.items() if isinstance(obs, dict) else (("", obs),):
        # The sum first: it is finite nearly always, and half the price.
        if values.dtype.kind == "f" and not np.isfinite(values.sum()) and not np.isfinite(values).all():
            bad = int(np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))[0])
            key = f" {name!r}" if name else ""
            raise ValueError(
                f"The observation{key} of environment {first + bad} {when} is not finite: {values[bad]}. Mend the environment."
            )


def as_laid_out(values: np.ndarray, shape: tuple[int, ...], first: int = 0) -> np.ndarray:
    """
    :param values: an image, or n of them
    :param shape: of one
    :param first: of its axes
    :return: the image, its channels moved from one end to the other if that makes it one of this shape
    """
    given = values.shape[first:]
    if len(shape) != 3 or given == shape:
        return values
    if (*given[1:], given[0]) == shape:
        return np.moveaxis(values, first, -1)
    return np.moveaxis(values, -1, first) if (given[2], *given[:2]) == shape else values
