"""The mean of a network's weights over the end of a run (Polyak and Juditsky, 1992), and of what else it computes with."""

from typing import Any

import torch as th
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from sb3_distill.algorithms.remembering import blank
from sb3_distill.common.observations import each_part, length
from sb3_distill.common.torch_draws import same_draws

#: what torch starts a spectral norm with; it is more than a mean needs, whose vectors are nearly right
POWER_ITERATIONS = 15
#: states that are kept for a network with BatchNorm
N_STATES = 4_096


class WeightMean:
    """
    Counts samples of a network and, in the end, puts their mean in their place.

    The mean is of parameters and of floating-point buffers. Counters and other buffers of whole numbers stay the last sample's, and
    so does whatever does not change, such as a mask of infinities. The running statistics of a BatchNorm are those of none of the
    weights that were averaged: they are found for the mean itself, on states of all its samples (Izmailov et al., 2018, section 3.2).
    """

    def __init__(self) -> None:
        self.n_samples = 0
        self._mean: dict[str, th.Tensor] = {}
        self._states: list[Any] = []
        self._every = 1

    @th.no_grad()
    def add(self, network: th.nn.Module, states: Any = None) -> None:
        """
        :param network: of which the present weights are counted in
        :param states: some that it learnt from, as it takes them: a tensor or a dict of tensors; of use where it has a BatchNorm
        """
        if states is not None and self.n_samples % self._every == 0 and _batch_norms(network):
            self._keep(states)
        self.n_samples += 1
        for name, value in _averaged(network).items():
            kept = self._mean.get(name)
            if kept is None or kept.shape != value.shape:  # a buffer may be made, or change its size, on the way
                self._mean[name] = value.detach().clone()
            elif not th.equal(kept, value):
                kept.lerp_(value, 1 / self.n_samples)

    def _keep(self, states: Any) -> None:
        """As many of these states, evenly spread over the samples, as there is room for."""
        self._states.append(each_part(states, lambda x: x[:N_STATES].detach().clone()))
        while len(self._states) > 1 and sum(map(length, self._states)) > N_STATES:
            self._states = self._states[::2]
            self._every *= 2

    @th.no_grad()
    def put_into(self, network: th.nn.Module) -> None:
        """:param network: becomes the mean of its samples"""
        for name, value in _averaged(network).items():
            value.copy_(self._mean[name])
        for module in network.modules():
            if parametrize.is_parametrized(module):
                renew_parametrizations(module)
        if self._states:
            renew_statistics(network, _joined(self._states))


@th.no_grad()
def renew_statistics(network: th.nn.Module, states: Any) -> None:
    """
    The running statistics of every BatchNorm become those of the network's present weights, in play: without dropout.

    :param network: left in evaluation mode
    :param states: as it takes them; their mean and variance are what the first layer meets
    """
    network.eval()
    momenta = {module: module.momentum for module in _batch_norms(network)}
    for module in momenta:
        module.reset_running_stats()
        module.momentum = None  # the mean of all, and not a running one
        module.train()
    try:
        with same_draws(next(network.parameters()).device):  # a policy draws actions, which nobody takes
            _forward(network, states)
    finally:
        for module, momentum in momenta.items():
            module.momentum = momentum
            module.eval()


def _forward(network: th.nn.Module, states: Any) -> None:
    if isinstance(network, RecurrentActorCriticPolicy):
        # Each as the first of an episode: what is normalised are observations, before they are remembered.
        n = length(states)
        network(states, blank(network, n), th.ones(n, device=network.device))
    else:
        network(states)


def _batch_norms(network: th.nn.Module) -> list[_BatchNorm]:
    return [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


def _joined(batches: list[Any]) -> Any:
    if isinstance(batches[0], dict):
        return {key: th.cat([batch[key] for batch in batches]) for key in batches[0]}
    return th.cat(batches)


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
