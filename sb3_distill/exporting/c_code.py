"""C that is written statement by statement: memory of fixed size, loops over it, and calls of layers."""

from typing import Any

import numpy as np
import torch as th

from sb3_distill.exporting.c_layers import in_fours
from sb3_distill.exporting.c_values import C_TYPES, Buffer, Value, loops, numbers
from sb3_distill.exporting.eight_bits import whole_numbers


class Code:
    """
    C that is written statement by statement.

    :param name: before all names in it
    :param int8: whether weights become whole numbers of eight bits
    """

    def __init__(self, name: str, int8: bool) -> None:
        self.name, self.int8 = name, int8
        self.constants: list[str] = []
        self.statements: list[str] = []
        self.buffers: list[Buffer] = []
        self.helpers: set[str] = set()

    # --- memory

    def constant(self, tensor: th.Tensor) -> Value:
        """:return: a tensor that is known"""
        array = tensor.detach().contiguous().numpy()
        name = self.table(array)
        return Value(Buffer(name, C_TYPES[tensor.dtype], array.size), _places(tensor.shape), tensor.dtype)

    def table(self, array: np.ndarray) -> str:
        """:return: the name of constants"""
        array = array.astype(np.uint8) if array.dtype == bool else array
        name = f"{self.name}_c{len(self.constants)}"
        ctype = C_TYPES[th.as_tensor(np.zeros(1, array.dtype)).dtype]
        self.constants.append(f"static const {ctype} {name}[{max(1, array.size)}] = {{\n{numbers(array)}\n}};")
        return name

    def new(self, shape: tuple[int, ...], dtype: th.dtype, reads: list[Value], over: Buffer | None = None) -> Value:
        """:return: memory for the next statement to write, which reads these"""
        now = len(self.statements)
        buffer = Buffer(f"v{len(self.buffers)}", C_TYPES[dtype], max(1, int(np.prod(shape))), now, now, over)
        self.buffers.append(buffer)
        for value in reads:
            value.buffer.dies = now
        return Value(buffer, _places(shape), dtype)

    def solid(self, value: Value) -> Value:
        """:return: the same numbers, one after the other from the first place of a buffer on"""
        return value if value.contiguous else self.elementwise("{0}", [value], value.dtype)

    def regular(self, value: Value) -> Value:
        """:return: the same numbers, evenly spaced"""
        if value.strides() is not None:
            return value
        places = value.places.flatten().tolist()
        out = self.new(value.shape, value.dtype, [value])
        self.statements.append(
            "".join(f"    {out.buffer.name}[{k}] = {value.buffer.name}[{place}];\n" for k, place in enumerate(places))
        )
        return out

    # --- statements

    def elementwise(self, expression: str, values: list[Value], dtype: th.dtype) -> Value:
        """:return: an expression of numbers, number by number"""
        values = [self.regular(value) for value in values]
        shape = tuple(th.broadcast_shapes(*(value.shape for value in values)))
        spread = [Value(v.buffer, v.places.expand(shape), v.dtype) for v in values]
        # Number by number over what is read there and nowhere else.
        elsewhere = {value.buffer for value in spread if not value.contiguous}
        free = [v.buffer for v in spread if v.buffer not in elsewhere and v.buffer.size == int(np.prod(shape))]
        over = next((buffer for buffer in free if buffer.ctype == C_TYPES[dtype]), None)
        out = self.new(shape, dtype, spread, over)
        sizes, indices = loops(shape, [*spread, out])
        reads = [f"{value.buffer.name}[{index}]" for value, index in zip(spread, indices, strict=False)]
        double = any(value.dtype == th.float64 for value in values)
        text = expression.format(*reads, s="" if double else "f", t=out.buffer.ctype)
        line = f"{out.buffer.name}[{indices[-1]}] = ({out.buffer.ctype})({text});"
        self.statements.append(nest(sizes, line))
        return out

    def reduce(self, kind: str, value: Value, axes: list[int], keep: bool, dtype: th.dtype) -> Value:
        """:return: a sum or a maximum over axes"""
        value = self.regular(value)
        axes = [axis % len(value.shape) for axis in axes] if axes else list(range(len(value.shape)))
        kept = [axis for axis in range(len(value.shape)) if axis not in axes]
        size = int(np.prod([value.shape[axis] for axis in axes]))
        moved = value.places.permute(*kept, *axes).reshape(*(value.shape[axis] for axis in kept), size)
        flat = self.regular(Value(value.buffer, moved, value.dtype))
        flat = flat if flat.strides() is not None else self.solid(flat)
        shape = tuple(value.shape[axis] for axis in kept)
        out = self.new(shape, dtype, [flat])
        wide = Value(out.buffer, out.places.unsqueeze(-1).expand(*shape, 1), dtype)
        first = Value(flat.buffer, flat.places[..., :1], flat.dtype)
        sizes, (at, to) = loops((*shape, 1), [first, wide])
        step = (flat.strides() or (0, (1,)))[1][-1]
        read = f"{flat.buffer.name}[{at} + {step} * k]"
        start, more = {"sum": ("0", "a += x;"), "max": (f"{flat.buffer.name}[{at}]", "a = x > a ? x : a;")}[kind]
        ctype = out.buffer.ctype
        body = (
            f"{{ {ctype} a = {start}; int k; for (k = 0; k < {size}; ++k) {{ const {ctype} x = ({ctype}){read}; {more} }} "
            f"{out.buffer.name}[{to}] = a; }}"
        )
        self.statements.append(nest(sizes, body))
        if keep:
            shape = tuple(1 if axis in axes else size for axis, size in enumerate(value.shape))
        return Value(out.buffer, out.places.reshape(shape), dtype)

    def argmax(self, value: Value, axis: int | None, keep: bool) -> Value:
        """:return: where the largest number is, the first of several"""
        if axis is None:
            value, axis = Value(value.buffer, value.places.flatten(), value.dtype), 0
        axis %= len(value.shape)
        size = value.shape[axis]
        flat = self.regular(Value(value.buffer, value.places.movedim(axis, -1), value.dtype))
        shape = flat.shape[:-1]
        out = self.new(shape, th.int64, [flat])
        first = Value(flat.buffer, flat.places[..., 0], flat.dtype)
        sizes, (at, to) = loops(shape, [first, out])
        step = (flat.strides() or (0, (1,)))[1][-1]
        name = flat.buffer.name
        body = (
            f"{{ int k, best = 0; for (k = 1; k < {size}; ++k) if ({name}[{at} + {step} * k] > {name}[{at} + {step} * best]) best = k; "
            f"{out.buffer.name}[{to}] = best; }}"
        )
        self.statements.append(nest(sizes, body))
        return Value(out.buffer, out.places.unsqueeze(axis), th.int64) if keep else out

    def join(self, values: list[Value], axis: int) -> Value:
        """:return: values side by side"""
        values = [self.regular(value) for value in values]
        shape = tuple(th.cat([value.places for value in values], axis).shape)
        out = self.new(shape, values[0].dtype, values)
        lines, start = [], 0
        for value in values:
            part = Value(out.buffer, out.places.narrow(axis, start, value.shape[axis]), out.dtype)
            sizes, (at, to) = loops(value.shape, [value, part])
            lines.append(nest(sizes, f"{out.buffer.name}[{to}] = {value.buffer.name}[{at}];"))
            start += value.shape[axis]
        self.statements.append("".join(lines))
        return out

    # --- layers

    def linear(self, value: Value, weight: th.Tensor, bias: th.Tensor | None) -> Value:
        """:return: of a fully connected layer"""
        value = self.solid(value)
        n_out, n_in = weight.shape
        n = int(np.prod(value.shape[:-1]))
        table, scales, shift = self.weights(weight, bias)
        out = self.new((*value.shape[:-1], n_out), th.float32, [value])
        row, to = (f" + {n_in} * i0", f" + {n_out} * i0") if n != 1 else ("", "")
        given = ", ".join([value.buffer.name + row, table, *scales, shift, out.buffer.name + to])
        call = f"{self._function('linear', scales)}({given}, {n_in}, {n_out});"
        self.statements.append(nest([n] if n != 1 else [], call))
        return out

    def conv2d(
        self, value: Value, weight: th.Tensor, bias: th.Tensor | None, stride: list[int], pad: list[int]
    ) -> Value:
        """:return: of a convolution"""
        value = self.solid(value)
        n_out, n_in, kh, kw = weight.shape
        height, width = value.shape[-2:]
        oh, ow = (height + 2 * pad[0] - kh) // stride[0] + 1, (width + 2 * pad[-1] - kw) // stride[-1] + 1
        table, scales, shift = self.weights(weight.reshape(n_out, -1), bias)
        out = self.new((1, n_out, oh, ow), th.float32, [value])
        given = [value.buffer.name, table, *scales, shift, out.buffer.name]
        sizes = [n_in, height, width, n_out, kh, kw, stride[0], stride[-1], pad[0], pad[-1], oh, ow]
        self.statements.append(f"    {self._function('conv2d', scales)}({', '.join([*given, *map(str, sizes)])});\n")
        return out

    def weights(self, weight: th.Tensor, bias: th.Tensor | None) -> tuple[str, list[str], str]:
        """:return: names of weights, of their scales if they are whole numbers, and of the bias"""
        matrix = weight.detach().float().numpy()
        shift = "0" if bias is None else self.table(bias.detach().float().numpy())
        found = whole_numbers(matrix, 0) if self.int8 else None
        if found is None:
            return self.table(in_fours(matrix)), [], shift
        whole, scale = found
        return self.table(in_fours(whole)), [self.table(scale)], shift

    def _function(self, layer: str, scales: list[str]) -> str:
        """The name of what computes a layer, whose weights have scales if they are whole numbers."""
        kind = f"{layer}_i8" if scales else layer
        self.helpers.add(kind)
        return f"{self.name}_{kind}"


def nest(sizes: list[int], body: str) -> str:
    """
    :param sizes: of loops over ``i0``, ``i1`` …
    :param body: a statement
    :return: it in these loops
    """
    heads = "".join(f"for (i{k} = 0; i{k} < {size}; ++i{k}) " for k, size in enumerate(sizes))
    return f"    {heads}{body}\n"


def _places(shape: Any) -> th.Tensor:
    return th.arange(int(np.prod(tuple(shape)))).reshape(tuple(shape))
