"""Weights of eight bits that a network bears: each row of a layer has a scale, and what rounding costs, other weights make up for.

Greedy actions hang on small differences of large Q-values, and rounding to the nearest of 255 numbers turns more than half of them in the
RL Zoo's LunarLander. So, on the inputs that a layer has in play:

* its weights are fitted to what it computed before from what the rounded layers before it give it now: linear regression, damped;
* each row has the scale that costs least by the squared error of its outputs, which may cut its largest weights;
* weights are rounded one column after the other, and after each the rest of its row is moved to where the outputs stay what they were
  (Frantar et al. 2022, arXiv 2210.17323, equations 2 and 3); what is left of the mean error goes into the bias;
* the last layers, from which actions are chosen and nothing else is computed, stay as they are: they are small, and nothing makes up for
  what they lose. So do the first ones, which read the observation, where they have few of the weights: there are few of them to make
  up for each other.

Of LSTMs and of layers with many inputs or in groups, weights are rounded to the nearest.
"""

from collections.abc import Callable, Iterator
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
#: states that layers are measured by, of vectors and of images, and rows of inputs of one layer: a convolution has one for each pixel
N_STATES, N_IMAGES, N_ROWS = 8_192, 512, 8_192
#: layers of more inputs are rounded to the nearest, which costs them less
WIDEST = 2_048
#: of the mean square of an input, added to each, so that inputs that never differ do not make up for others
DAMPING = 0.01
#: the first layers stay as they are if they have at most this share of all weights
SMALL = 1 / 8
#: the largest weight of a row beneath which it is 0
TRACE = 1e-30
#: shares of the scale that keeps the largest weight, among which each row's is chosen
SHARES = np.linspace(0.4, 1.0, 13)

Layers = nn.Linear | nn.Conv2d


@contextmanager
def rounded(recipe: Recipe, questions: Asked) -> Iterator[None]:
    """
    A context in which the linear layers, convolutions and LSTMs of a policy have rounded weights, but for the last ones.

    :param recipe: whose policy it is; it is left as it was
    :param questions: observations that it bears them in: those that were met in play, if there are enough
    :raises ValueError: for a policy that has no layer to round
    """
    modules = list(recipe.policy.modules())
    most = N_IMAGES if any(isinstance(module, nn.Conv2d) for module in modules) else N_STATES
    last = questions.n_met if questions.n_met >= most // 32 else questions.n
    rows = np.unique(np.linspace(0, last - 1, min(last, most)).astype(int))
    part = {port.name: np.take(questions.inputs[port.name], rows, axis=port.batch_axis) for port in recipe.inputs}
    given = tensors([part[port.name] for port in recipe.inputs])
    kept: list[tuple[th.Tensor, th.Tensor]] = []
    try:
        with tracing(recipe), th.no_grad():
            before = inputs_of(recipe, given)
            few = tuple(x.split(2, dim=port.batch_axis)[0] for x, port in zip(given, recipe.inputs, strict=True))
            ends = ends_of(recipe, few)
            for layer in before:
                if layer not in ends:
                    kept += [(weights, weights.clone()) for weights in layer.parameters()]
                    _round(layer, before[layer], _input_of(recipe, given, layer))
            for module in modules:
                if isinstance(module, nn.LSTM):
                    kept += [(weights, weights.clone()) for weights in module.parameters()]
                    _round_lstm(module)
        if not kept:
            raise ValueError(
                f"int8 rounds the layers that others follow, and {type(recipe.policy).__name__} has none: leave int8 out."
            )
        yield
    finally:
        with th.no_grad():
            for weights, value in kept:
                weights.copy_(value)


# --- what a layer is given --------------------------------------------------------------------------------------------


class _Heard(Exception):
    """The layer that was waited for has its input."""


@contextmanager
def _hearing(recipe: Recipe, hear: Callable[[Any, th.Tensor], None]) -> Iterator[None]:
    """A context in which the layers of a policy tell what they are given, in the order in which they compute."""
    handles = [
        module.register_forward_pre_hook(lambda layer, args: hear(layer, args[0]))
        for module in recipe.policy.modules()
        if isinstance(module, Layers)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def inputs_of(recipe: Recipe, given: tuple[th.Tensor, ...]) -> dict[Any, th.Tensor]:
    """
    :param recipe: of a policy
    :param given: a batch of each of its inputs
    :return: from the layers, in the order in which they compute, to the rows that their weights are multiplied with
    """
    found: dict[Any, th.Tensor] = {}
    with _hearing(recipe, lambda layer, values: found.__setitem__(layer, _rows(layer, values))):
        recipe(*given)
    return found


def _input_of(recipe: Recipe, given: tuple[th.Tensor, ...], wanted: Any) -> th.Tensor:
    """The rows of one layer, as the layers before it are now."""
    found: list[th.Tensor] = []

    def hear(layer: Any, args: Any) -> None:
        found.append(_rows(layer, args[0]))
        raise _Heard

    handle = wanted.register_forward_pre_hook(hear)
    try:
        recipe(*given)
    except _Heard:
        pass
    finally:
        handle.remove()
    return found[0]


def ends_of(recipe: Recipe, given: tuple[th.Tensor, ...]) -> list[Any]:
    """
    :param recipe: of a policy
    :param given: a small batch of each of its inputs
    :return: the layers that stay as they are: those from which no other layer computes, and, if they are small, those that compute from
        no other layer. Where one gives NaN, those that compute from it are given some
    """
    layers = list(inputs_of(recipe, given))
    first, last = list(layers), []
    for layer in layers:
        reached: list[Any] = []

        def hear(other: Any, values: th.Tensor, layer: Any = layer, reached: list[Any] = reached) -> None:
            if other is not layer and bool(values.isnan().any()):
                reached.append(other)

        handle = layer.register_forward_hook(lambda _, __, out: th.full_like(out, th.nan))
        try:
            with _hearing(recipe, hear):
                recipe(*given)
        finally:
            handle.remove()
        first = [one for one in first if one not in reached]
        if not reached:
            last.append(layer)
    small = _size(first) <= SMALL * _size(layers)
    return last + first if small else last


def _size(layers: list[Any]) -> int:
    return sum(layer.weight.numel() for layer in layers)


def _rows(layer: Any, values: th.Tensor) -> th.Tensor:
    if isinstance(layer, nn.Conv2d):
        padding: Any = layer.padding if not isinstance(layer.padding, str) else 0
        patches = nn.functional.unfold(values, layer.kernel_size, layer.dilation, padding, layer.stride)
        values = patches.transpose(1, 2)
    rows = values.reshape(-1, values.shape[-1])
    return rows[:: -(-len(rows) // N_ROWS)].double()


# --- rounding ---------------------------------------------------------------------------------------------------------


def _round(layer: Any, before: th.Tensor, now: th.Tensor) -> None:
    """
    :param layer: changed
    :param before: rows of inputs, as they were
    :param now: as they are with the layers before it rounded
    """
    weights = without_traces(layer.weight.flatten(1).double())
    grouped = weights.shape[1] != now.shape[1]  # a convolution in groups
    if grouped or weights.shape[1] > WIDEST:
        found = nearest_rows(weights)
    else:
        middle, was = (x.mean(0) if layer.bias is not None else x.new_zeros(()) for x in (now, before))
        found = compensated(fitted(weights, before - was, now - middle), now - middle)
    if layer.bias is not None and not grouped:
        layer.bias += (before @ weights.T - now @ found.T).mean(0).to(layer.bias.dtype)
    layer.weight.copy_(found.reshape(layer.weight.shape))


def _round_lstm(lstm: nn.LSTM) -> None:
    for name, weights in lstm.named_parameters():
        if weights.dim() == 2 and name.startswith("weight"):
            weights.copy_(nearest_rows(without_traces(weights.double())))


def without_traces(weights: th.Tensor) -> th.Tensor:
    """:return: the same, but for rows whose scale would be no number of float32 that others can divide by: they are 0"""
    return weights.masked_fill(weights.abs().amax(dim=1, keepdim=True) < TRACE, 0)


def scales(weights: th.Tensor) -> th.Tensor:
    """:return: of each row, shape (n, 1), as who reads the weights finds them: the largest is 127 of them"""
    scale = weights.abs().amax(dim=1, keepdim=True) / MOST
    return th.where(scale > 0, scale, th.ones_like(scale))


def whole_numbers(weights: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray] | None:
    """
    :param weights: of a layer
    :param axis: of its rows
    :return: the whole numbers of eight bits that they are, and the scale of each row, shape (n,); None for a layer that was left as it is
    """
    others = tuple(k for k in range(weights.ndim) if k != axis)
    scale = np.abs(weights).max(axis=others, keepdims=True).astype(np.float32) / MOST
    scale[scale == 0] = 1
    whole = np.rint(weights / scale)
    if np.abs(weights / scale - whole).max(initial=0) > 1e-3:
        return None
    return whole.clip(-MOST, MOST).astype(np.int8), scale.flatten()


def nearest_rows(weights: th.Tensor) -> th.Tensor:
    """
    :param weights: shape (outputs, inputs)
    :return: each the nearest of its row's 255 numbers
    """
    scale = scales(weights)
    return (weights / scale).round() * scale


def moments_of(rows: th.Tensor) -> th.Tensor:
    """:return: their mean squares and products, damped, shape (inputs, inputs)"""
    moments = rows.T @ rows / len(rows)
    return moments + (DAMPING * moments.diagonal().mean() + 1e-12) * th.eye(len(moments), dtype=moments.dtype)


def fitted(weights: th.Tensor, before: th.Tensor, now: th.Tensor) -> th.Tensor:
    """
    :param weights: shape (outputs, inputs)
    :param before: rows that they were multiplied with, shape (n, inputs)
    :param now: what is there in their place
    :return: weights whose products with these are nearest to what they were, by ridge regression towards the weights
    """
    damped = moments_of(now)
    crossed = now.T @ before / len(now) + damped - now.T @ now / len(now)
    return th.linalg.solve(damped, crossed @ weights.T).T


def best_scales(weights: th.Tensor, moments: th.Tensor) -> th.Tensor:
    """
    :param weights: shape (outputs, inputs)
    :param moments: of what they are multiplied with
    :return: of each row, shape (n, 1): that by which rounding to the nearest costs least in the square of its output
    """
    tried = th.stack([scales(weights) * share for share in SHARES])
    errors = (weights / tried).round().clamp(-MOST, MOST) * tried - weights
    costs = ((errors @ moments) * errors).sum(-1)
    return tried[..., 0].gather(0, costs.argmin(0, keepdim=True)).T


def compensated(weights: th.Tensor, rows: th.Tensor) -> th.Tensor:
    """
    :param weights: shape (outputs, inputs)
    :param rows: what they are multiplied with, shape (n, inputs)
    :return: of each row's 255 numbers such that products with the rows stay near what they were
    """
    n_in = weights.shape[1]
    moments = moments_of(rows)
    upper = th.linalg.cholesky(th.linalg.inv(moments), upper=True)
    scale = best_scales(weights, moments)
    # The largest weight of a row is not moved, so that it is 127 scales, by which others find the same scale.
    largest = nn.functional.one_hot(weights.abs().argmax(dim=1), n_in).bool()
    left, found = weights.clone(), th.empty_like(weights)
    for column in range(n_in):
        whole = (left[:, column] / scale[:, 0]).round().clamp(-MOST, MOST)
        found[:, column] = whole * scale[:, 0]
        error = (left[:, column] - found[:, column]) / upper[column, column]
        move = error[:, None] * upper[column, column + 1 :]
        left[:, column + 1 :] -= move.masked_fill(largest[:, column + 1 :], 0)
    return found
