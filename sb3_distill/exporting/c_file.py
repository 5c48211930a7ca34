"""A C header with one function, from an observation to an action: C99, no dependencies, no allocation; compiled and run for the check."""

import ctypes
import re
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch as th

from sb3_distill.exporting.c_code import Code
from sb3_distill.exporting.c_layers import functions
from sb3_distill.exporting.c_operations import Unsupported, translate
from sb3_distill.exporting.c_values import C_TYPES, Buffer, Value
from sb3_distill.exporting.recipe import Port, Recipe
from sb3_distill.exporting.traced import traced

#: the compilers that are looked for
COMPILERS = ("cc", "gcc", "clang")
#: how they are told to compile for this machine: with a fused multiply-add, if it has one
NATIVE = ["-march=native"]


def write_c(
    recipe: Recipe, examples: Sequence[np.ndarray], metadata: Mapping[str, str], path: Path, name: str, int8: bool
) -> None:
    """
    :param recipe: what an agent does
    :param examples: a batch of at least one for each of its inputs
    :param metadata: for the comment at its top
    :param path: of the header
    :param name: before all names in it
    :param int8: whether weights become whole numbers of eight bits
    :raises Unsupported: for an operation that C cannot have
    """
    path.write_text(header(recipe, examples, metadata, name, int8), encoding="utf-8")


def header(recipe: Recipe, examples: Sequence[np.ndarray], metadata: Mapping[str, str], name: str, int8: bool) -> str:
    """:return: the text of :func:`write_c`"""
    one = [np.take(example, [0], axis=port.batch_axis) for example, port in zip(examples, recipe.inputs, strict=True)]
    program = traced(recipe, one, dynamic=False)
    code = Code(name, int8)
    inputs = []
    for port, argument in zip(recipe.inputs, c_names(recipe.inputs), strict=True):
        dtype = _dtype(port)
        shape = tuple(1 if size == "batch" else int(size) for size in port.full_shape)
        size = int(np.prod(shape))
        inputs.append(Value(Buffer(argument, C_TYPES[dtype], size), th.arange(size).reshape(shape), dtype))
    outputs = translate(code, program, inputs)
    for port, value in zip(recipe.outputs, outputs, strict=True):
        found = value if isinstance(value, Value) else code.constant(value)
        solid = code.solid(found)
        solid.buffer.dies = len(code.statements)
        code.statements.append(
            f"    if ({port.name}) for (i0 = 0; i0 < {solid.places.numel()}; ++i0) {port.name}[i0] = {solid.buffer.name}[i0];\n"
        )
    return _text(recipe, code, metadata)


def c_names(ports: Sequence[Port]) -> list[str]:
    """
    :param ports: inputs
    :return: names of arguments, all different
    """
    found: list[str] = []
    for port in ports:
        text = re.sub(r"\W+", "_", port.name, flags=re.ASCII)
        text = text if port.key is None else f"observation_{text.removeprefix('observation_')}"
        while text in found:
            text += "_"
        found.append(text)
    return found


def c_prefix(path: Path) -> str:
    """
    :param path: of a header
    :return: what its names begin with: all of its name but the suffix, so that two headers of a program have two
    """
    text = re.sub(r"\W+", "_", path.stem, flags=re.ASCII).strip("_") or "agent"
    return f"agent_{text}" if text[0].isdigit() else text


def arguments(recipe: Recipe) -> list[str]:
    """:return: the parameters of the function, with their types"""
    found = []
    for port, name in zip(recipe.inputs, c_names(recipe.inputs), strict=True):
        found.append(f"const {_ctype(port)} *{name}")
    return [*found, *(f"{_ctype(port)} *{port.name}" for port in recipe.outputs)]


def _dtype(port: Port) -> th.dtype:
    found = th.as_tensor(np.zeros(1, port.dtype)).dtype
    if found not in C_TYPES:
        raise Unsupported(
            f"C has no type for the input {port.name!r} of {np.dtype(port.dtype)}: export to 'onnx' or 'torchscript'."
        )
    return found


def _ctype(port: Port) -> str:
    return C_TYPES[_dtype(port)]


def _text(recipe: Recipe, code: Code, metadata: Mapping[str, str]) -> str:
    name = code.name
    places = code_places(code.buffers)
    sizes = sizes_of(places)
    memory = "".join(f"    {ctype} m_{ctype}[{size}];\n" for ctype, size in sizes.items())
    memory += "".join(
        f"    {buffer.ctype} *const {buffer.name} = m_{buffer.ctype} + {offset};\n" for buffer, offset in places
    )
    counters = "".join(f"i{k}, " for k in range(8) if re.search(rf"\bi{k}\b", "".join(code.statements))).rstrip(", ")
    about = "\n".join(f" * {key}: {comment(value)}" for key, value in metadata.items())
    shapes = "\n".join(
        f" * {argument}: {_ctype(port)}[{int(np.prod(port.shape))}], shape {port.shape}"
        for argument, port in [
            *zip(c_names(recipe.inputs), recipe.inputs, strict=True),
            *((port.name, port) for port in recipe.outputs),
        ]
    )
    guard = f"{name.upper()}_H"
    return (
        f"/* Written by sb3-distill. {name}_act: from an observation to an action. No allocation, no dependencies but C's own headers.\n"
        f" * One state at a time; an output that is not needed may be NULL.\n{shapes}\n *\n{about}\n */\n"
        f"#ifndef {guard}\n#define {guard}\n#include <math.h>\n#include <stddef.h>\n#include <stdint.h>\n\n"
        + "\n".join(code.constants)
        + f"\n\n{functions(name, code.helpers)}\nstatic void {name}_act({', '.join(arguments(recipe))}) {{\n"
        + memory
        + (f"    int {counters};\n" if counters else "")
        + "".join(code.statements)
        + f"}}\n\n#endif /* {guard} */\n"
    )


def comment(text: str) -> str:
    """
    :param text: of an agent's files, which may be anybody's: the name of an environment, keys of observations
    :return: it in one line that no compiler takes for the end of a comment, nor for a line that goes on
    """
    line = "".join(char if char.isprintable() else " " for char in text)
    for mark, instead in (("\\", "|"), ("??", "? ?"), ("?/", "? /"), ("*/", "* /"), ("/*", "/ *")):
        line = line.replace(mark, instead)
    return line


# --- memory -----------------------------------------------------------------------------------------------------------


def code_places(buffers: Sequence[Buffer]) -> list[tuple[Buffer, int]]:
    """
    :param buffers: in the order in which they are written
    :return: each with its place in the memory of its type: what is not read any more is written over
    """
    found: dict[Buffer, int] = {}
    for buffer in buffers:
        assert buffer.born is not None
        if buffer.over in found and buffer.over is not None and buffer.over.dies <= buffer.born:
            found[buffer] = found[buffer.over]
            continue
        busy = sorted(
            (offset, offset + other.size)
            for other, offset in found.items()
            if other.ctype == buffer.ctype and other.dies >= buffer.born
        )
        place = 0
        for start, end in busy:
            if start - place >= buffer.size:
                break
            place = max(place, end)
        found[buffer] = place
    return list(found.items())


def sizes_of(places: Sequence[tuple[Buffer, int]]) -> dict[str, int]:
    """:return: how many numbers of each type are in memory at once, by :func:`code_places`"""
    sizes: dict[str, int] = {}
    for buffer, place in places:
        sizes[buffer.ctype] = max(sizes.get(buffer.ctype, 0), place + buffer.size)
    return sizes


# --- compiled ---------------------------------------------------------------------------------------------------------


def compiler() -> str | None:
    """
    :return: the path of this machine's C compiler, if it has one
    """
    return next((path for name in COMPILERS if (path := shutil.which(name))), None)


def run_c(path: Path, recipe: Recipe, name: str) -> Any:
    """
    :param path: of a header
    :param recipe: whose inputs and outputs it has
    :param name: before its names
    :return: from inputs by name to outputs by name
    :raises RuntimeError: if there is no compiler, or it fails
    """
    library, folder = compiled(path, recipe, name)

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        given = [
            np.ascontiguousarray(np.moveaxis(inputs[port.name], port.batch_axis, 0).astype(port.dtype, copy=False))
            for port in recipe.inputs
        ]
        n = len(given[0])
        found = [np.zeros((n, *port.shape), port.dtype) for port in recipe.outputs]
        library.run(ctypes.c_long(n), *(array.ctypes.data_as(ctypes.c_void_p) for array in (*given, *found)))
        return {
            port.name: np.moveaxis(values, 0, port.batch_axis)
            for port, values in zip(recipe.outputs, found, strict=True)
        }

    run.library = library  # type: ignore[attr-defined]
    weakref.finalize(run, shutil.rmtree, folder, ignore_errors=True)
    return run


def compiled(path: Path, recipe: Recipe, name: str) -> tuple[Any, str]:
    """
    :param path: of a header
    :param recipe: whose inputs and outputs it has
    :param name: before its names
    :return: a library with ``run(n, inputs, outputs)``, and the folder that it is in
    :raises RuntimeError: if there is no compiler, or it fails
    """
    program = compiler()
    if program is None:
        raise RuntimeError(f"No C compiler is at hand: {', '.join(COMPILERS)} were looked for.")
    ports = [*zip(c_names(recipe.inputs), recipe.inputs, strict=True), *((port.name, port) for port in recipe.outputs)]
    steps = ", ".join(f"{text} + k * {int(np.prod(port.shape))}" for text, port in ports)
    folder = tempfile.mkdtemp(prefix="sb3-distill-c-")
    source = Path(folder) / "run.c"
    shutil.copyfile(path, Path(folder) / "agent.h")  # whatever characters its own path has
    source.write_text(
        f'#include "agent.h"\nvoid run(long n, {", ".join(arguments(recipe))}) {{\n'
        f"    long k;\n    for (k = 0; k < n; ++k) {name}_act({steps});\n}}\n"
    )
    command = [program, "-std=c99", "-O2", "-Wall", "-shared", "-fPIC", str(source), "-o", f"{folder}/run.so", "-lm"]
    for more in (NATIVE, []):  # for this very processor, if the compiler knows how to say that
        done = subprocess.run([*command, *more], capture_output=True, text=True)  # noqa: S603 - our own text
        if not done.returncode:
            return ctypes.CDLL(f"{folder}/run.so"), folder
    shutil.rmtree(folder, ignore_errors=True)
    raise RuntimeError(f"{program} cannot compile {path}: {done.stderr[:2000]}")
