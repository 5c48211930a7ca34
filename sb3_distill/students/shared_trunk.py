"""One network for several tasks, as SB3 policies that share layers.

Each task has an SB3 policy of its own, with its own spaces, so that preprocessing, playing and saving are SB3's. Layers that have
the same shape in all tasks are one and the same in memory: the trunk. A task has to itself

* its output layer, the "controller layer" of Rusu et al. 2015 (arXiv 1511.06295, section 3.3), always;
* its first layer, if the tasks' observations have different numbers of channels or features. Padding them to the largest with
  zeros would share that layer, too; but the third channel of one game and that of another have nothing in common, and every task
  would carry the others' weights along.
"""

from collections.abc import Sequence

import torch as th
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy
from torch import nn


class SharedTrunk(nn.Module):
    """
    The networks of several policies, with common layers and one optimiser.

    In its state, and in a file of it, what is shared is one tensor.

    :param policies: of one class and one architecture, changed in place: the first one's weights are the common ones
    :param lr_schedule: of the optimiser
    """

    def __init__(self, policies: Sequence[DQNPolicy | ActorCriticPolicy], lr_schedule: Schedule) -> None:
        super().__init__()
        # A DQN's target network is no part of a student.
        self.networks = nn.ModuleList([p.q_net if isinstance(p, DQNPolicy) else p for p in policies])
        share(list(self.networks))
        first = policies[0]
        self.optimizer = first.optimizer_class(self.parameters(), lr=lr_schedule(1), **first.optimizer_kwargs)  # type: ignore[call-arg]

    def set_training_mode(self, mode: bool) -> None:
        """:param mode: whether the networks are trained now, which dropout and batch normalisation ask"""
        self.train(mode)

    @property
    def n_parameters(self) -> int:
        """How many numbers pick the actions of all tasks together: shared ones count once, and no critic's."""
        counted = {
            id(p): p.numel() for net in self.networks for name, p in net.named_parameters() if not _is_critics(name)
        }
        return sum(counted.values())


def share(networks: Sequence[nn.Module]) -> list[str]:
    """
    Make one layer of those that have the same name and the same shapes in all networks, but for the output layers.

    :param networks: changed in place: what they share is the first one's
    :return: names of the layers that are shared
    """
    first, *others = networks
    own = _output_layers(first)
    shared = []
    for name, layer in first.named_modules():
        tensors = _tensors(layer)
        twins = [dict(network.named_modules()).get(name) for network in others]
        if not tensors or name in own or any(twin is None or _shapes(twin) != _shapes(layer) for twin in twins):
            continue
        for twin in twins:
            for key, tensor in tensors.items():
                setattr(twin, key, tensor)
        shared.append(name)
    return shared


def _tensors(layer: nn.Module) -> dict[str, th.Tensor]:
    """A layer's own parameters and buffers, without those of layers inside it."""
    return {**dict(layer.named_parameters(recurse=False)), **dict(layer.named_buffers(recurse=False))}


def _shapes(layer: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in _tensors(layer).items()}


def _output_layers(network: nn.Module) -> set[str]:
    """Names of the layers that are never shared; the network itself is one, whose own parameters are an actor's log σ."""
    if isinstance(network, ActorCriticPolicy):
        return {"", "action_net", "value_net"}
    return {[name for name, layer in network.named_modules() if _tensors(layer)][-1]}


def _is_critics(name: str) -> bool:
    return name.startswith(("value_net.", "mlp_extractor.value_net.", "vf_features_extractor.")) or name == "log_std"
