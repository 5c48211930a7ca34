"""ONNX: written by ``torch.onnx`` from a traced recipe, and run by ONNX Runtime."""

import logging
import re
import warnings
from collections.abc import Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch as th

from sb3_distill.common.user_code import first_line
from sb3_distill.exporting.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

#: of a terminal, in messages of torch's
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def check_installed() -> None:
    """:raises ImportError: if what ONNX needs is not there"""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"Exporting to ONNX needs {error.name}: pip install 'sb3-distill[export]'.") from error


def onnx_model(program: th.export.ExportedProgram, recipe: Recipe, metadata: Mapping[str, str]) -> "onnx.ModelProto":
    """
    :param program: of the recipe, with a dynamic batch
    :param recipe: it
    :param metadata: for the file
    :return: the model, its inputs and outputs called as the recipe's
    """
    with _quiet():
        try:
            made = th.onnx.export(
                program,
                dynamo=True,
                input_names=[port.name for port in recipe.inputs],
                output_names=[port.name for port in recipe.outputs],
                verbose=False,
            )
        except th.onnx.errors.OnnxExporterError as error:
            raise ValueError(
                f"Cannot export {type(recipe.policy).__name__}: ONNX cannot have what it does ({_cause_of(error)}). 'torchscript' is "
                "another format."
            ) from error
    assert made is not None
    model = made.model_proto
    name_batch(model, recipe)
    strip(model)
    set_metadata(model, metadata)
    return model


def _cause_of(error: BaseException) -> str:
    """In one line, of the many that torch writes: the first error of all, which names the operation."""
    while error.__cause__ is not None:
        error = error.__cause__
    return _COLOURS.sub("", first_line(error))


def name_batch(model: "onnx.ModelProto", recipe: Recipe) -> None:
    """
    :param model: changed: the axis of the batch is called ``batch`` at its inputs and outputs
    :param recipe: whose they are
    """
    for values, ports in ((model.graph.input, recipe.inputs), (model.graph.output, recipe.outputs)):
        for value, port in zip(values, ports, strict=True):
            for axis, size in enumerate(port.full_shape):
                dim = value.type.tensor_type.shape.dim[axis]
                if size == "batch":
                    dim.dim_param = "batch"
                else:
                    dim.dim_value = int(size)


def strip(model: "onnx.ModelProto") -> None:
    """:param model: changed: what torch notes about where operations came from, paths on this machine among it, goes"""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    model.doc_string = ""


def set_metadata(model: "onnx.ModelProto", metadata: Mapping[str, str]) -> None:
    """
    :param model: changed
    :param metadata: all that it shall have
    """
    del model.metadata_props[:]
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name = "sb3-distill"
    model.producer_version = metadata.get("sb3_distill_version", "")


def run_onnx(path: Path, threads: int = 1) -> Any:
    """
    :param path: of an ONNX file
    :param threads: that ONNX Runtime computes with
    :return: from inputs by name to outputs by name
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return run


@contextmanager
def _quiet() -> "Iterator[None]":
    """torch's exporter tells of its progress, and of packages that nobody needs here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
