"""Observation and action spaces from what SB3 writes about them in a checkpoint, without running their pickles."""

import base64
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_distill.zoo.unpickling import numeric, unpickle_inert

#: numbers in the largest observation that is believed: a colour image of 4096 × 4096 has 50 million
MAX_SIZE = 1 << 26


def read_space(field: dict[str, Any]) -> spaces.Space:
    """
    A space from the text that SB3 writes beside its pickle; a ``Dict`` from the structure of the pickle.

    :param field: an entry ``observation_space`` or ``action_space`` of a checkpoint's ``data``
    :return: the space; bounds that the text abbreviates become infinite, an integer's as wide as its type
    :raises ValueError: for a kind of space that is not known here, or one of an absurd size
    """
    kind = field[":type:"].removesuffix("'>").rpartition(".")[2]
    if kind == "Dict":
        return _from_structure(unpickle_inert(base64.b64decode(field[":serialized:"])))
    if kind == "Box":
        shape_text = field.get("_shape", field.get("shape"))
        shape = _shape(shape_text if isinstance(shape_text, list) else _numbers(shape_text))
        dtype = np.dtype(field["dtype"])
        return _box(shape, dtype, lambda name, sign: _bound(_numbers(field[name]), shape, dtype, sign))
    return _simple(kind, lambda name, default=None: _numbers(field.get(name, default)))


def _simple(kind: str, get: Callable[..., np.ndarray]) -> spaces.Space:
    """A space of whole numbers."""
    if kind == "Discrete":
        return spaces.Discrete(int(_whole(get("n"))[0]), start=int(get("start", 0).flat[0]))
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(_whole(get("nvec")).astype(np.int64))
    if kind == "MultiBinary":
        n = _whole(get("n")).tolist()
        _shape(n)
        return spaces.MultiBinary(n[0] if len(n) == 1 else n)
    raise ValueError(f"it has a space of kind {kind}; known are Box, Dict, Discrete, MultiDiscrete and MultiBinary.")


def _whole(numbers: np.ndarray) -> np.ndarray:
    """Counts, none of which is absurd."""
    numbers = np.atleast_1d(numbers)
    if not ((numbers >= 1) & (numbers <= MAX_SIZE)).all() or numbers.size > MAX_SIZE:
        raise ValueError(f"it has a space of {numbers.tolist()} choices.")
    return numbers.astype(np.int64)


def _shape(numbers: Any) -> tuple[int, ...]:
    """A shape that does not fill the memory."""
    shape = tuple(int(n) for n in numbers)
    size = 1
    for n in shape:
        size *= n
    if min(shape, default=1) < 0 or size > MAX_SIZE:
        raise ValueError(f"it has a space of shape {shape}, whose size is absurd.")
    return shape


def _box(shape: tuple[int, ...], dtype: np.dtype, bound: Callable[[str, int], np.ndarray]) -> spaces.Box:
    return spaces.Box(bound("low", -1), bound("high", 1), shape, dtype.type)


def _bound(numbers: np.ndarray, shape: tuple[int, ...], dtype: np.dtype, sign: int) -> np.ndarray:
    """The bounds of a Box from as many numbers as the text has."""
    size = int(np.prod(shape))
    if numbers.size not in (1, size):
        integer = np.issubdtype(dtype, np.integer)
        values = set(numbers.tolist())
        widest = (np.iinfo(dtype).min if sign < 0 else np.iinfo(dtype).max) if integer else sign * np.inf
        # An image's bounds are printed as "[[[0 0 ... 0 0]]]": one number, over and over.
        numbers = np.array([values.pop() if integer and len(values) == 1 else widest], dtype)
    return np.broadcast_to(numbers.reshape(shape if numbers.size == size else ()), shape).astype(dtype)


def _numbers(text: Any) -> np.ndarray:
    """All numbers in a piece of text, as float64."""
    found = re.findall(r"[-+]?(?:inf|\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)", str(text))
    return np.array([float(number) for number in found])


def _from_structure(saved: Any) -> spaces.Space:
    """A space from stand-ins with its attributes."""
    kind = type(saved).__name__
    state = vars(saved)
    if kind == "Dict":
        return spaces.Dict({str(key): _from_structure(space) for key, space in state["spaces"].items()})
    if kind == "Box":
        shape = _shape(state["_shape"] if "_shape" in state else state["shape"])
        dtype = np.dtype(state["dtype"].kind)
        return _box(shape, dtype, lambda name, _: numeric(state[name]).astype(dtype))
    return _simple(kind, lambda name, default=None: numeric(state.get(name, default)))
