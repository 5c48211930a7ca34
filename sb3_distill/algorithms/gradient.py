"""The third seam: while SB3's ``train`` runs, each minibatch's log-probabilities carry ∇ℓ and the policy gradient's weight."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.policies import ActorCriticPolicy

from sb3_distill.common.replaced import replaced

#: from the values and the log-probabilities of a minibatch, shape (n,), on the graph, to mean w·ℓ
BatchLoss = Callable[[th.Tensor, th.Tensor], th.Tensor]


class Attached:
    """
    What was attached: mean losses of all minibatches, and the last one's observations as the network takes them, with what else it was
    given, such as masks.
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.last_obs: Any = None
        self.last_more: dict[str, Any] = {}


@contextmanager
def attaching(
    policy: ActorCriticPolicy,
    loss: BatchLoss | None,
    loss_coef: float,
    pg_coef: float,
    learns_values: bool,
    num_timesteps: int,
) -> Iterator[Attached]:
    """
    A context in which ``policy.evaluate_actions``, the one forward pass of a minibatch, attaches ∇ℓ to the graph and weighs the
    policy gradient.

    :param policy: the student's
    :param loss: of a minibatch, or None; called right after the forward pass
    :param loss_coef: weight of ∇ℓ
    :param pg_coef: weight of the policy gradient; with 0 there is none
    :param learns_values: whether the critic learns
    :param num_timesteps: for messages
    :return: what was attached
    """
    evaluate_actions = policy.evaluate_actions
    attached = Attached()

    def evaluate_and_attach(
        obs: Any, actions: th.Tensor, *rest: Any, **more: Any
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor | None]:
        attached.last_obs, attached.last_more = obs, more
        values, log_prob, entropy = evaluate_actions(obs, actions, *rest, **more)
        mean = None
        if loss is not None:
            mean = loss(values.detach().flatten(), log_prob)
            attached.losses.append(check_loss(mean.item(), len(attached.losses), num_timesteps))
        if entropy is None:
            # What SB3 would estimate it with; a view of its own, so that the policy gradient's weight is not on it.
            entropy = -log_prob
            log_prob = log_prob.view_as(log_prob)
        if not learns_values:
            values = values.detach()
        if pg_coef == 0:
            log_prob = log_prob.detach()
        if mean is not None or pg_coef != 1:
            log_prob = WeighAndAttach.apply(log_prob, pg_coef, mean, loss_coef)
        return values, log_prob, entropy

    with replaced(policy, "evaluate_actions", evaluate_and_attach):
        yield attached


class WeighAndAttach(th.autograd.Function):
    """
    Returns log-probabilities unchanged; whatever loss is computed from them has its gradient multiplied by ``weight`` and gains
    ``coef · loss`` in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, log_prob: th.Tensor, weight: float, loss: th.Tensor | None, coef: float) -> th.Tensor:
        ctx.weight, ctx.coef = weight, coef
        return log_prob.view_as(log_prob)

    @staticmethod
    def backward(ctx: Any, grad: th.Tensor) -> tuple[th.Tensor | None, None, th.Tensor | None, None]:  # type: ignore[override]
        weighed = grad * ctx.weight if ctx.needs_input_grad[0] else None
        return weighed, None, grad.new_tensor(ctx.coef) if ctx.needs_input_grad[2] else None, None


def check_loss(loss: float, update: int, num_timesteps: int) -> float:
    """
    :param loss: ℓ, mean over a minibatch
    :param update: the minibatch's number since the rollout
    :param num_timesteps: for the message
    :return: the loss
    :raises ValueError: if it is not finite, before it reaches the optimiser
    """
    if not np.isfinite(loss):
        raise ValueError(
            f"The distillation loss is {loss} in update {update + 1} after {num_timesteps} steps: "
            "lower learning_rate or loss_coef."
        )
    return loss


def check_on_graph(loss: th.Tensor, log_prob: th.Tensor, row: str) -> None:
    """
    :param loss: ℓ of a minibatch
    :param log_prob: of its actions, from the same pass
    :param row: for the message
    :raises ValueError: if nothing can be learnt from ℓ, though the student can learn
    """
    if log_prob.requires_grad and not loss.requires_grad:
        raise ValueError(
            f"The loss ℓ of row {row!r} has no gradient: do not detach it, and compute it from the student's distribution with PyTorch."
        )
