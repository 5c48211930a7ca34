"""Observation and action spaces from what SB3 writes about them in a checkpoint, without running their pickles."""

import base64
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_distill.agents.unpickling import Inert, numeric, unpickle_inert

#: numbers in the largest observation that is believed, a colour image of 1182 × 1182: its bounds are laid out in memory
MAX_SIZE = 1 << 22
#: choices, of which there are only numbers; parts of a Dict; characters of a text, where numpy abbreviates long arrays
MAX_CHOICES, MAX_PARTS, MAX_TEXT = 1 << 26, 1_000, 1 << 20
#: axes of the largest Box; numpy and torch have no more than 64, and need one for batches
MAX_AXES = 32
#: types of a Box, by their names and by what pickles call them
_DTYPES = {
    text: np.dtype(name)
    for name in (
        *("bool", "float16", "float32", "float64"),
        *(f"{sign}int{n}" for sign in ("", "u") for n in (8, 16, 32, 64)),
    )
    for text in (name, np.dtype(name).str[1:])
}


def read_space(field: dict[str, Any]) -> spaces.Space:
    """
    A space from the text that SB3 writes beside its pickle; a ``Dict`` from the structure of the pickle.

    :param field: an entry ``observation_space`` or ``action_space`` of a checkpoint's ``data``
    :return: the space; bounds that the text abbreviates become infinite, an integer's as wide as its type
    :raises ValueError: for a kind of space that is not known here, or one of an absurd size
    """
    kind = field[":type:"].removesuffix("'>").rpartition(".")[2]
    if kind == "Dict":
        return _dict_from_structure(unpickle_inert(base64.b64decode(field[":serialized:"])))
    if kind == "Box":
        shape_text = field.get("_shape", field.get("shape"))
        shape = _shape(shape_text if isinstance(shape_text, list) else _numbers(shape_text))
        dtype = _dtype(field["dtype"])
        return _box(shape, dtype, lambda name, sign: _bound(_numbers(field[name]), shape, dtype, sign))
    return _simple(kind, lambda name, default=None: _numbers(field.get(name, default)))


def read_pickled_space(saved: Inert) -> spaces.Space:
    """
    :param saved: what the pickle of a space describes
    :return: the space
    :raises ValueError: as :func:`read_space`; a hostile pickle may raise anything else
    """
    return _dict_from_structure(saved) if saved.called.rpartition(".")[2] == "Dict" else _from_structure(saved)


def _simple(kind: str, get: Callable[..., np.ndarray]) -> spaces.Space:
    """A space of whole numbers."""
    if kind == "Discrete":
        return spaces.Discrete(int(_whole(get("n"))[0]), start=int(get("start", 0).flat[0]))
    if kind == "MultiDiscrete":
        nvec = _whole(get("nvec"))
        return spaces.MultiDiscrete(nvec, start=_starts(get("start", 0), nvec))
    if kind == "MultiBinary":
        n = _whole(get("n")).tolist()
        _shape(n)
        return spaces.MultiBinary(n[0] if len(n) == 1 else n)
    raise ValueError(
        f"it has a space of kind {kind[:80]}; known are Box, Dict, Discrete, MultiDiscrete and MultiBinary."
    )


def _starts(numbers: np.ndarray, nvec: np.ndarray) -> np.ndarray:
    """What the choices of a ``MultiDiscrete`` are counted from."""
    numbers = np.asarray(numbers).ravel()
    if numbers.size not in (1, nvec.size) or not (np.abs(numbers) <= MAX_CHOICES).all():
        raise ValueError(f"it has a space whose choices start at {str(numbers.tolist())[:80]}.")
    return np.broadcast_to(numbers, nvec.shape).astype(np.int64)


def _whole(numbers: np.ndarray) -> np.ndarray:
    """Counts, none of which is absurd."""
    numbers = np.atleast_1d(numbers)
    if not (numbers >= 1).all() or not numbers.sum() <= MAX_CHOICES:
        raise ValueError(f"it has a space of {str(numbers.tolist())[:80]} choices.")
    return numbers.astype(np.int64)


def _shape(numbers: Any) -> tuple[int, ...]:
    """A shape that does not fill the memory."""
    shape = tuple(int(n) for n in numbers)
    size = 1
    for n in shape:
        size *= n
        if n < 1 or size > MAX_SIZE or len(shape) > MAX_AXES:
            raise ValueError(f"it has a space of shape {str(shape)[:80]}, whose size is absurd.")
    return shape


def _dtype(name: Any) -> np.dtype:
    """Numpy itself knows types of which one value fills the memory."""
    if not isinstance(name, str) or name not in _DTYPES:
        raise ValueError(f"it has a space of the type {name[:80] if isinstance(name, str) else type(name)!r}.")
    return _DTYPES[name]


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
    text = str(text)
    if len(text) > MAX_TEXT:
        raise ValueError(f"it has a space described by {len(text):,} characters.")
    found = re.findall(r"[-+]?(?:inf|\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)", text)
    return np.array([float(number) for number in found])


def _dict_from_structure(saved: Inert) -> spaces.Dict:
    """A Dict from what a pickle says of it. SB3 knows no Dict within another."""
    found: dict[str, spaces.Space] = {}
    size = 0
    for key, part in saved.spaces.items():
        if not isinstance(key, str) or len(found) == MAX_PARTS:
            raise ValueError("it has a Dict space of too many parts, or of parts without names.")
        found[key] = _from_structure(part)
        size += int(np.prod(found[key].shape or ()))
        if size > MAX_SIZE:  # parts may share one large array
            raise ValueError("it has a Dict space of absurd size.")
    # As pairs: of a dictionary Gymnasium sorts the keys, and a network reads its parts in the order that it was built with.
    return spaces.Dict(list(found.items()))


def _from_structure(saved: Inert) -> spaces.Space:
    """A part of a Dict."""
    kind = saved.called.rpartition(".")[2]
    if kind == "Box":
        shape = _shape(saved.state["_shape"] if "_shape" in saved.state else saved.state["shape"])
        dtype = _dtype(saved.dtype.arguments[0])
        return _box(shape, dtype, lambda name, _: numeric(saved.state[name]).astype(dtype))
    return _simple(kind, lambda name, default=None: numeric(saved.state.get(name, default)))
