"""Values on their way through generated C: where a tensor's numbers lie in memory, and loops over them.

A view of a tensor (a permutation, a slice, an expansion, a part) costs nothing: it is other places in the same buffer. Which places,
torch itself says, by doing to the places what it does to the tensor.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th

#: C's names of torch's dtypes
C_TYPES = {
    th.float32: "float",
    th.float64: "double",
    th.int64: "int64_t",
    th.int32: "int32_t",
    th.int16: "int16_t",
    th.int8: "int8_t",
    th.uint32: "uint32_t",
    th.uint16: "uint16_t",
    th.uint8: "uint8_t",
    th.bool: "uint8_t",
}


@dataclass(eq=False)
class Buffer:
    """Memory that a value is written to.

    :param name: a pointer in C
    :param ctype: of its numbers
    :param size: how many
    :param born: the statement that writes it; None for inputs, outputs and constants, which have memory of their own
    :param dies: the last statement that reads it
    :param over: a buffer that it may be written over, number by number
    """

    name: str
    ctype: str
    size: int
    born: int | None = None
    dies: int = -1
    over: "Buffer | None" = None


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor in C.

    :param buffer: where it is
    :param places: of its numbers in the buffer, in the tensor's shape
    :param dtype: torch's
    """

    buffer: Buffer
    places: th.Tensor
    dtype: th.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return tuple(self.places.shape)

    @property
    def contiguous(self) -> bool:
        """Whether its numbers are the whole buffer, in order."""
        return bool((self.places.flatten() == th.arange(self.places.numel())).all())

    def strides(self) -> tuple[int, tuple[int, ...]] | None:
        """
        :return: its first place, and how far numbers are apart along each axis; None if that is not the same everywhere
        """
        if self.places.numel() == 0:
            return 0, (0,) * self.places.dim()
        first = int(self.places.flatten()[0])
        steps = []
        for axis, size in enumerate(self.shape):
            index: list[Any] = [0] * len(self.shape)
            index[axis] = min(1, size - 1)
            steps.append(int(self.places[tuple(index)]) - first)
        want = th.full(self.shape, first)
        for axis, (size, step) in enumerate(zip(self.shape, steps, strict=True)):
            shape = [1] * len(self.shape)
            shape[axis] = size
            want = want + (th.arange(size) * step).reshape(shape)
        return (first, tuple(steps)) if th.equal(want, self.places) else None


def loops(shape: tuple[int, ...], values: list[Value]) -> tuple[list[int], list[str]]:
    """
    :param shape: of what is computed, number by number and in order
    :param values: that are read, of the same shape
    :return: the sizes of nested loops over ``i0``, ``i1`` … and an index for each value
    """
    axes = [axis for axis, size in enumerate(shape) if size != 1]
    found = []
    for value in values:
        strides = value.strides()
        assert strides is not None
        found.append([strides[1][axis] for axis in axes])
    sizes = [shape[axis] for axis in axes]
    # Axes that all values go through without a gap are one loop.
    k = len(sizes) - 1
    while k > 0:
        if all(steps[k - 1] == steps[k] * sizes[k] for steps in found):
            sizes[k - 1] *= sizes.pop(k)
            for steps in found:
                del steps[k - 1]
        k -= 1
    indices = []
    for value, steps in zip(values, found, strict=True):
        strides = value.strides()
        assert strides is not None
        terms = [f"{step} * i{k}" if step != 1 else f"i{k}" for k, step in enumerate(steps) if step]
        indices.append(" + ".join(terms + ([str(strides[0])] if strides[0] or not terms else [])))
    return sizes, indices


def numbers(array: np.ndarray) -> str:
    """
    :param array: of constants
    :return: as C writes them, exactly
    """
    flat = array.flatten()
    if flat.dtype == np.float32:
        texts = [_real(float(x), "f", 9) for x in flat]
    elif flat.dtype == np.float64:
        texts = [_real(float(x), "", 17) for x in flat]
    else:
        texts = [str(int(x)) for x in flat]
    lines, line = [], ""
    for text in texts:
        if len(line) + len(text) > 118:
            lines.append(line)
            line = ""
        line += text + ","
    return "\n".join([*lines, line])


def _real(x: float, suffix: str, digits: int) -> str:
    if np.isinf(x):
        return "INFINITY" if x > 0 else "-INFINITY"
    if np.isnan(x):
        return "NAN"
    text = f"{x:.{digits}g}"
    return (text if any(c in text for c in ".e") else text + ".0") + suffix
