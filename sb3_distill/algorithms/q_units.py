"""A Q-network that learns in units of its own and answers in the teacher's.

Rewards have any unit, and Q-values too: a network whose weights begin near 0.1 and move by a learning rate a step does not come to
values of 1e5, and cannot tell 1e-5 from 2e-5. So while it is trained its last layer is that of (Q − shift) / scale, and for
everyone else that of Q: a linear layer, so that what is saved is a plain DQN.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch as th
from stable_baselines3.dqn.policies import DQNPolicy
from torch import nn


class QUnits:
    """
    The units in which a student's Q-values are learnt.

    :param policy: the student's; its network ends with a linear layer, as all of SB3's do
    :param q_values: the teacher's, of a batch of states, finite; shape (n, |A|)
    :param fresh: whether the student has learnt nothing yet: then its weights are taken as they are for weights in these units
    :raises ValueError: if the network ends with anything else
    """

    def __init__(self, policy: DQNPolicy, q_values: th.Tensor, fresh: bool) -> None:
        q = q_values.detach().cpu().double()
        #: mean over states and actions, and standard deviation (1 where there is none)
        self.shift = float(q.mean())
        self.scale = float(q.std(correction=0)) or 1.0
        self._layer = output_layer(policy)
        # What is learnt is kept beside what is shown. To and fro, a shift many times the scale would round it away.
        self._learnt: list[th.Tensor] | None = [p.detach().clone() for p in self._layer.parameters()] if fresh else None
        self._shown: list[th.Tensor] | None = (
            None if not fresh else [p.detach().clone() for p in self._layer.parameters()]
        )

    def normalized(self, q_values: th.Tensor) -> th.Tensor:
        """
        :param q_values: the teacher's, shape (n, |A|)
        :return: (Q − shift) / scale
        """
        return (q_values - self.shift) / self.scale

    @contextmanager
    def learning(self) -> Iterator[None]:
        """A context in which the student's answers are in these units."""
        weight, bias = self._layer.parameters()
        with th.no_grad():
            if self._learnt is None or any(
                not th.equal(p, shown) for p, shown in zip((weight, bias), self._shown or [], strict=True)
            ):  # somebody else has set them
                self._learnt = [weight / self.scale, (bias - self.shift) / self.scale]
            for p, learnt in zip((weight, bias), self._learnt, strict=True):
                p.copy_(learnt)
        try:
            yield
        finally:
            with th.no_grad():
                self._learnt = [weight.detach().clone(), bias.detach().clone()]
                weight.mul_(self.scale)
                bias.mul_(self.scale).add_(self.shift)
                self._shown = [weight.detach().clone(), bias.detach().clone()]


def output_layer(policy: DQNPolicy) -> nn.Linear:
    """
    :param policy: a Q-network
    :return: its last layer
    :raises ValueError: if that is not linear, with a bias
    """
    layers = [layer for layer in policy.q_net.modules() if next(layer.parameters(recurse=False), None) is not None]
    if not isinstance(layers[-1], nn.Linear) or layers[-1].bias is None:
        raise ValueError(
            f"loss='mse' learns Q-values in units of their own, which needs a network that ends with a linear layer with a bias, "
            f"and {type(policy.q_net).__name__} ends with {layers[-1]}: use loss='kl' or 'nll'."
        )
    return layers[-1]
