"""Weights of eight bits that a network bears: each row of a layer has a scale, and what rounding a weight costs, the others make up for.

Greedy actions hang on small differences of large Q-values, and rounding to the nearest of 255 numbers turns more than half of them in the
RL Zoo's LunarLander. So weights are rounded one column after the other, and after each the rest of its row is moved to where the layer's
outputs stay what they were, on the inputs that the layer has in play (Frantar et al. 2022, arXiv 2210.17323, equations 2 and 3). What is
left of the mean error goes into the bias.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th
from torch import nn

from sb3_distill.exporting.observations import Asked
from sb3_distill.exporting.recipe import Recipe
from sb3_distill.exporting.traced import tensors, tracing

#: the largest whole number
MOST = 127
#: states that layers are measured by, and rows of inputs of one layer: a convolution has one for each pixel
N_STATES, N_ROWS = 1_024, 8_192
#: layers of more inputs are rounded to the nearest, which costs them less
WIDEST = 2_048
#: of the mean square of an input, added to each, so that inputs that never differ do not make up for others
DAMPING = 0.01


@contextmanager
def rounded(recipe: Recipe, questions: Asked) -> Iterator[None]:
    """
    A context in which the linear layers and convolutions of a policy have rounded weights.

    :param recipe: whose policy it is; it is left as it was
    :param questions: observations that it bears them in: those that were met in play, if there are enough
    """
    last = questions.n_met if questions.n_met >= N_STATES // 4 else questions.n
    rows = np.unique(np.linspace(0, last - 1, min(last, N_STATES)).astype(int))
    part = {port.name: np.take(questions.inputs[port.name], rows, axis=port.batch_axis) for port in recipe.inputs}
    given = tensors([part[port.name] for port in recipe.inputs])
    kept: list[tuple[th.Tensor, th.Tensor]] = []
    try:
        with tracing(recipe), th.no_grad():
            for layer, before in _inputs(recipe, given).items():
                now = _inputs(recipe, given).get(layer, before)  # behind the layers that are rounded already
                kept += [(weights, weights.clone()) for weights in (layer.weight, layer.bias) if weights is not None]
                _round(layer, before, now)
        yield
    finally:
        with th.no_grad():
            for weights, value in kept:
                weights.copy_(value)


def _inputs(recipe: Recipe, given: tuple[th.Tensor, ...]) -> dict[Any, th.Tensor]:
    """From the layers, in the order in which they compute, to the rows that their weights are multiplied with."""
    found: dict[Any, th.Tensor] = {}

    def hear(layer: Any, args: Any) -> None:
        found[layer] = _rows(layer, args[0])

    handles = [
        module.register_forward_pre_hook(hear)
        for module in recipe.policy.modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
    ]
    try:
        recipe(*given)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _rows(layer: Any, values: th.Tensor) -> th.Tensor:
    if isinstance(layer, nn.Conv2d):
        padding: Any = layer.padding if not isinstance(layer.padding, str) else 0
        patches = nn.functional.unfold(values, layer.kernel_size, layer.dilation, padding, layer.stride)
        values = patches.transpose(1, 2)
    rows = values.reshape(-1, values.shape[-1])
    return rows[:: -(-len(rows) // N_ROWS)].double()


def _round(layer: Any, before: th.Tensor, now: th.Tensor) -> None:
    """
    :param layer: changed
    :param before: rows of inputs, as they were
    :param now: as they are with the layers before it rounded
    """
    weights = layer.weight.flatten(1).double()
    grouped = weights.shape[1] != now.shape[1]  # a convolution in groups
    if grouped or weights.shape[1] > WIDEST:
        found = nearest_rows(weights)
    else:
        found = compensated(weights, now)
    if layer.bias is not None and not grouped:
        layer.bias += (before @ weights.T - now @ found.T).mean(0).to(layer.bias.dtype)
    layer.weight.copy_(found.reshape(layer.weight.shape))


def scales(weights: th.Tensor) -> th.Tensor:
    """:return: of each row, shape (n, 1)"""
    scale = weights.abs().amax(dim=1, keepdim=True) / MOST
    return th.where(scale > 0, scale, th.ones_like(scale))


def whole_numbers(weights: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """
    :param weights: of a layer
    :param axis: of its rows
    :return: the nearest whole numbers, of eight bits, and the scale of each row, shape (n,)
    """
    others = tuple(k for k in range(weights.ndim) if k != axis)
    scale = np.abs(weights).max(axis=others, keepdims=True).astype(np.float32) / MOST
    scale[scale == 0] = 1
    return np.rint(weights / scale).clip(-MOST, MOST).astype(np.int8), scale.flatten()


def nearest_rows(weights: th.Tensor) -> th.Tensor:
    """
    :param weights: shape (outputs, inputs)
    :return: each the nearest of its row's 255 numbers
    """
    scale = scales(weights)
    return (weights / scale).round() * scale


def compensated(weights: th.Tensor, rows: th.Tensor) -> th.Tensor:
    """
    :param weights: shape (outputs, inputs)
    :param rows: what they are multiplied with, shape (n, inputs)
    :return: of each row's 255 numbers such that products with the rows stay near what they were
    """
    n_in = weights.shape[1]
    moments = rows.T @ rows / len(rows)
    moments += (DAMPING * moments.diagonal().mean() + 1e-12) * th.eye(n_in, dtype=moments.dtype)
    upper = th.linalg.cholesky(th.linalg.inv(moments), upper=True)
    scale = scales(weights)
    # The largest weight of a row is what its scale is made of: it stays, so that others find the same scale.
    largest = nn.functional.one_hot(weights.abs().argmax(dim=1), n_in).bool()
    left, found = weights.clone(), th.empty_like(weights)
    for column in range(n_in):
        whole = (left[:, column] / scale[:, 0]).round().clamp(-MOST, MOST)
        found[:, column] = whole * scale[:, 0]
        error = (left[:, column] - found[:, column]) / upper[column, column]
        move = error[:, None] * upper[column, column + 1 :]
        left[:, column + 1 :] -= move.masked_fill(largest[:, column + 1 :], 0)
    return found
