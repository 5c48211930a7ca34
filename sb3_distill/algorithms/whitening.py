"""Students learn on whitened observations, and are the same network to everybody else: the first layers take the scale in.

A column of velocities that is ten times as large as one of angles has steps ten times as long. While SB3's ``train`` runs, the network
reads observations less their mean, in units of their standard deviation; before, its first layers are rewritten so that it is the
same function, and after it, so that it is the same function of the observations as they are. What acts, is looked at, averaged and
saved is SB3's own network, and knows of no statistics.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from torch import nn
from torch.nn.utils import parametrize

#: a standard deviation below this share of the mean is float32's rounding, and no scale
ROUNDING = 1e-5


class Statistics(NamedTuple):
    """
    Of all observations so far, in plain numbers, which a student's zip keeps as JSON.

    :param n: how many they are
    :param mean: of each number
    :param variance: of each number
    """

    n: int
    mean: list[float]
    variance: list[float]


def joined(known: Sequence | None, observations: np.ndarray) -> Statistics:
    """
    Statistics of what was seen before and of what is seen now, by Chan, Golub and LeVeque's formula.

    :param known: statistics, also as JSON has them; None if there are none
    :param observations: shape (n, columns), n at least 1
    :return: of both
    """
    new = observations.astype(np.float64)
    n, mean, variance = len(new), new.mean(axis=0), new.var(axis=0)
    if known is not None:
        before = Statistics(*known)
        total = before.n + n
        delta = mean - before.mean
        squares = np.multiply(before.variance, before.n) + variance * n + delta**2 * (before.n * n / total)
        mean, variance, n = before.mean + delta * n / total, squares / total, total
    return Statistics(n, mean.tolist(), variance.tolist())


def first_layers(policy: ActorCriticPolicy) -> list[nn.Module]:
    """
    :param policy: of a student
    :return: the layers that read its observations, if these are all that does: SB3's own networks of vectors, and sb3-contrib's with a
        memory; else none
    """
    space = policy.observation_space
    if not isinstance(space, spaces.Box) or is_image_space(space):
        return []
    if any(type(extractor) is not FlattenExtractor for extractor in _extractors(policy)):
        return []
    if isinstance(policy, RecurrentActorCriticPolicy):
        found: list[nn.Module] = [
            layer for layer in (policy.lstm_actor, policy.lstm_critic, policy.critic) if layer is not None
        ]
    elif type(policy.mlp_extractor) is not MlpExtractor:
        return []
    else:
        mlp = policy.mlp_extractor
        heads = ((mlp.policy_net, policy.action_net), (mlp.value_net, policy.value_net))
        found = [body[0] if len(body) else head for body, head in heads]
    plain = all(
        type(layer) in (nn.Linear, nn.LSTM)
        and not parametrize.is_parametrized(layer)
        and layer.bias is not False  # as an LSTM may have it
        and all(part.requires_grad for part in _first_parts(layer))
        for layer in found
    )
    return found if plain and len(set(found)) == len(found) else []


def _first_parts(layer: Any) -> tuple[th.Tensor, th.Tensor]:
    """Weight and bias that what the layer reads goes through."""
    return (layer.weight_ih_l0, layer.bias_ih_l0) if isinstance(layer, nn.LSTM) else (layer.weight, layer.bias)  # type: ignore[return-value]


@contextmanager
def whitened(policy: ActorCriticPolicy, statistics: Statistics | None) -> Iterator[None]:
    """
    A context in which the network's weights are those of whitened observations, which it whitens itself. Before, within and after it,
    it is the same function of the same observations, up to rounding, but for what is learnt within.

    :param policy: with :func:`first_layers`
    :param statistics: of observations; None to leave all as it is
    """
    if statistics is None:
        yield
        return
    layers = first_layers(policy)
    mean = th.tensor(statistics.mean, dtype=th.float64)
    std = th.tensor(statistics.variance, dtype=th.float64).sqrt()
    std = th.where(std > ROUNDING * mean.abs(), std, 1.0)  # what never changes is left in its own unit
    _rewrite(layers, std, mean)
    shift, scale = (x.to(policy.device, th.float32) for x in (mean, std))
    hooks = [
        extractor.register_forward_hook(lambda module, seen, features: (features - shift) / scale)
        for extractor in _extractors(policy)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        _rewrite(layers, 1 / std, -mean / std)


def _extractors(policy: ActorCriticPolicy) -> set[nn.Module]:
    return {policy.features_extractor, policy.pi_features_extractor, policy.vf_features_extractor}


@th.no_grad()
def _rewrite(layers: list[nn.Module], scale: th.Tensor, shift: th.Tensor) -> None:
    """Let layers take y, where they took x = scale · y + shift."""
    for layer in layers:
        weight, bias = _first_parts(layer)
        exact = weight.cpu().double()  # not all devices know float64
        bias.copy_(bias.cpu().double() + exact @ shift)
        weight.copy_(exact * scale)
