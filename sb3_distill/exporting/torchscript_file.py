"""TorchScript: the recipe traced by ``torch.jit``, for LibTorch and other programs without Python."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch as th

from sb3_distill.common.user_code import first_line
from sb3_distill.exporting.recipe import Recipe
from sb3_distill.exporting.traced import tensors, tracing

#: the name of the metadata within the file
METADATA = "sb3_distill.json"


def write_torchscript(recipe: Recipe, examples: Any, metadata: Mapping[str, str], path: Path) -> None:
    """
    :param recipe: what an agent does
    :param examples: a batch of each of its inputs
    :param metadata: for the file
    :param path: of it
    """
    learning = [weights for weights in recipe.parameters() if weights.requires_grad]
    try:
        # Whoever runs the file does not learn, and would keep a graph of all that it has answered.
        for weights in learning:
            weights.requires_grad_(False)
        with tracing(recipe), th.no_grad():
            # Not to be checked by torch, which runs it once more: the file is, by more than that.
            module = th.jit.trace(recipe, tensors(examples), check_trace=False)
            th.jit.save(module, str(path), _extra_files={METADATA: json.dumps(dict(metadata))})
    except RuntimeError as error:
        raise ValueError(
            f"Cannot export {type(recipe.policy).__name__}: TorchScript cannot have what it does ({first_line(error)}). 'onnx' and 'c' are "
            "other formats."
        ) from error
    finally:
        for weights in learning:
            weights.requires_grad_(True)


def run_torchscript(path: Path, recipe: Recipe) -> Any:
    """
    :param path: of a TorchScript file
    :param recipe: whose inputs and outputs it has
    :return: from inputs by name to outputs by name
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch.jit is old
        module = th.jit.load(str(path))
    names = [port.name for port in recipe.outputs]

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with th.no_grad():
            found = module(*(th.as_tensor(inputs[port.name]) for port in recipe.inputs))
        return {name: values.numpy() for name, values in zip(names, found, strict=True)}

    return run
