"""What a step earns: r̂, as pure functions of one batch of transitions (s_t, a_t, r_t, s_{t+1}).

A name ending in ``_t`` belongs to the step, one ending in ``_tp1`` to the state that the step led to. Whatever belongs to
s_{t+1} carries one factor γ, so that R̂_t = Σ_{i≥t} γ^{i−t} r̂_i discounts it as a term of step t+1; at a terminal
s_{t+1} it is 0, while a state at which a time limit cut the episode counts like any other.

No gradient flows through a reward.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch as th
from stable_baselines3.common.distributions import Distribution

from sb3_distill.common.shapes import check_same_shape


class Transitions(NamedTuple):
    """A batch of n transitions as the teacher and the student see them. Tensors have shape (n,) unless said otherwise.

    :param action_t: the executed actions, unclipped, shape (n, …) as SB3's ``log_prob`` takes them
    :param reward_t: the environment's own reward, unnormalised
    :param continues_t: 0 where s_{t+1} is terminal, else 1 (a time limit does not make a state terminal)
    :param gamma: the discount factor γ
    :param teacher_t: π(·|s_t)
    :param student_t: π_θ(·|s_t), as it was when a_t was drawn; None where no student is known
    :param teacher_value_t: V_π(s_t); None unless the reward asks for values, as for those below
    :param student_value_t: V_πθ(s_t) of the environment's return
    :param teacher_tp1: π(·|s_{t+1}); None unless the reward asks for the next state, as for those below
    :param student_tp1: π_θ(·|s_{t+1})
    :param teacher_value_tp1: V_π(s_{t+1})
    :param teacher_gamma: the discount γ_π of the returns that V_π is of; None where it is γ
    """

    action_t: th.Tensor
    reward_t: th.Tensor
    continues_t: th.Tensor
    gamma: float
    teacher_t: Distribution
    student_t: Any = None
    teacher_value_t: Any = None
    student_value_t: Any = None
    teacher_tp1: Any = None
    student_tp1: Any = None
    teacher_value_tp1: Any = None
    teacher_gamma: float | None = None


LossFunction = Callable[[Distribution, Distribution], th.Tensor]
RewardFunction = Callable[[Transitions, Any], th.Tensor]


def next_loss(step: Transitions, loss: LossFunction) -> th.Tensor:
    """r̂_t = −γ ℓ(s_{t+1}): what makes E Σ ∇ℓ the gradient of E Σ ℓ (Czarnecki et al. 2019, theorem 2).

    With ℓ = H×(π_θ‖π) it is γ E_{a∼π_θ} log π(a|s_{t+1}), which has the expectation of the paper's sampled
    γ log π(a_{t+1}|s_{t+1}), less variance, and exists where there is no a_{t+1}.
    """
    # where, not a product: the loss of a state that follows nothing may be anything, and 0 · inf is not 0.
    loss_tp1 = loss(step.teacher_tp1, step.student_tp1)
    check_same_shape(loss_tp1=loss_tp1, continues_t=step.continues_t)
    return -step.gamma * th.where(step.continues_t > 0, loss_tp1, th.zeros_like(loss_tp1))


def log_prob(step: Transitions, loss: LossFunction | None = None) -> th.Tensor:
    """r̂_t = log π(a_t|s_t) (entropy regularised, Czarnecki et al. 2019, table 1)."""
    return step.teacher_t.log_prob(step.action_t)


def log_ratio(step: Transitions, loss: LossFunction | None = None) -> th.Tensor:
    """r̂_t = log π(a_t|s_t) − log π_θ(a_t|s_t): entropy regularised plus the student's own entropy.

    Its return is minus the KL divergence between the student's and the teacher's distributions over trajectories, which
    is least at the teacher however episodes end.
    """
    teacher, student = step.teacher_t.log_prob(step.action_t), step.student_t.log_prob(step.action_t)
    check_same_shape(teacher=teacher, student=student)
    return teacher - student


def teacher_value(step: Transitions, loss: LossFunction | None = None) -> th.Tensor:
    """r̂_t = r_t + γ_π V_π(s_{t+1}) − V_π(s_t) (teacher V reward, Czarnecki et al. 2019).

    With γ = γ_π the sum over an episode telescopes to its return minus V_π(s_1): in expectation plain policy gradient. With a lesser γ
    it is the λ-return of V_π, λ = γ/γ_π, minus V_π(s_t): V_π judges what lies beyond the next 1/(1−λ) steps.
    """
    return _advantage(step, step.teacher_value_t, step.gamma if step.teacher_gamma is None else step.teacher_gamma)


def teacher_value_student_baseline(step: Transitions, loss: LossFunction | None = None) -> th.Tensor:
    """r̂_t = r_t + γ V_π(s_{t+1}) − V_πθ(s_t): teacher V reward as table 1 of the paper prints it. No gradient field."""
    return _advantage(step, step.student_value_t, step.gamma)


def _advantage(step: Transitions, value_t: th.Tensor, gamma: float) -> th.Tensor:
    """Of the teacher's critic where the step led to, and of any where it came from."""
    check_same_shape(
        reward_t=step.reward_t, continues_t=step.continues_t, value_t=value_t, teacher_value_tp1=step.teacher_value_tp1
    )
    return step.reward_t + gamma * step.continues_t * step.teacher_value_tp1 - value_t
