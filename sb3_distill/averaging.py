"""The mean of a network's weights over the end of a run (Polyak and Juditsky, 1992), and of what else it computes with."""

from typing import Any

import torch as th
from torch.nn.utils import parametrize

#: what torch starts a spectral norm with; it is more than a mean needs, whose vectors are nearly right
POWER_ITERATIONS = 15


class WeightMean:
    """
    Counts samples of a network and, in the end, puts their mean in their place.

    The mean is of parameters and of floating-point buffers: the running statistics of a BatchNorm belong to the weights that made
    them, and those of the last rollout alone would be of too few states. Counters and other buffers of whole numbers stay the last
    sample's, and so does whatever does not change, such as a mask of infinities.
    """

    def __init__(self) -> None:
        self.n_samples = 0
        self._mean: dict[str, th.Tensor] = {}

    @th.no_grad()
    def add(self, network: th.nn.Module) -> None:
        """:param network: of which the present weights are counted in"""
        self.n_samples += 1
        for name, value in _averaged(network).items():
            kept = self._mean.get(name)
            if kept is None or kept.shape != value.shape:  # a buffer may be made, or change its size, on the way
                self._mean[name] = value.detach().clone()
            elif not th.equal(kept, value):
                kept.lerp_(value, 1 / self.n_samples)

    @th.no_grad()
    def put_into(self, network: th.nn.Module) -> None:
        """:param network: becomes the mean of its samples"""
        for name, value in _averaged(network).items():
            value.copy_(self._mean[name])
        for module in network.modules():
            if parametrize.is_parametrized(module):
                renew_parametrizations(module)


def _averaged(network: th.nn.Module) -> dict[str, th.Tensor]:
    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    return {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}


def renew_parametrizations(module: th.nn.Module) -> None:
    """
    Parametrisations that find something out by and by, as the singular vectors of a spectral norm, do so for the present weights.

    :param module: with parametrised tensors, of torch's ``torch.nn.utils.parametrize``
    """
    parametrizations: Any = module.parametrizations
    training = parametrizations.training
    parametrizations.train()
    for name in parametrizations:
        for _ in range(POWER_ITERATIONS):
            getattr(module, name)
    parametrizations.train(training)
