"""A recipe as the graph of its operations, by ``torch.export``."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch as th

from sb3_distill.common.user_code import first_line
from sb3_distill.exporting.recipe import Recipe
from sb3_distill.rules.distributions import unvalidated


def traced(recipe: Recipe, examples: Sequence[np.ndarray], dynamic: bool = True) -> th.export.ExportedProgram:
    """
    :param recipe: what an agent does
    :param examples: a batch of at least two for each of its inputs, or of one where the batch is fixed
    :param dynamic: whether the batch may be of any size
    :return: the graph
    :raises ValueError: if the agent's network does what cannot be traced
    """
    batch = th.export.Dim("batch", min=1)
    shapes = tuple({port.batch_axis: batch} for port in recipe.inputs) if dynamic else None
    with tracing(recipe):
        try:
            return th.export.export(
                recipe, tensors(examples), dynamic_shapes=None if shapes is None else {"given": shapes}
            )
        except Exception as error:  # torch's exporter raises many kinds, its internal ones among them
            raise ValueError(
                f"Cannot export {type(recipe.policy).__name__}: torch.export cannot trace what it does ({type(error).__name__}: "
                f"{first_line(error)}). Networks have to be made of tensor operations alone."
            ) from error


@contextmanager
def tracing(recipe: Recipe) -> Iterator[None]:
    """
    A context in which a recipe can be traced: as in play, without checks of values, and without notes of what torch will do one day.

    :param recipe: whose policy is left as it was
    """
    mode = recipe.policy.training
    # SB3's distributions keep what they were last made of: a trace's is no tensor that anybody could copy or save.
    kept = [
        (module.action_dist, dict(vars(module.action_dist)))
        for module in recipe.policy.modules()
        if hasattr(module, "action_dist")
    ]
    recipe.policy.set_training_mode(False)
    recipe.eval()
    try:
        # With gradients: a Categorical asks for them, and a change of mode would be an operation of the graph.
        with unvalidated(), th.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for distribution, attributes in kept:
            vars(distribution).clear()
            vars(distribution).update(attributes)
        recipe.policy.set_training_mode(mode)


def tensors(arrays: Sequence[np.ndarray]) -> tuple[th.Tensor, ...]:
    """:return: copies as tensors"""
    return tuple(th.as_tensor(np.array(array)) for array in arrays)
