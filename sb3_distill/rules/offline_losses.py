"""What a state of a teacher's memory costs a student: the three losses of policy distillation, as pure functions.

q is what the teacher said there, q^S what the student says; |A| actions, n states. Each loss has shape (n,) and is
differentiable in the student's part. The paper sums over the memory's states, the algorithm averages over a minibatch's.

========  ==================================================  ===========================================================
name      loss of a state                                     its minimum
========  ==================================================  ===========================================================
``kl``    Σ_a p_a ln(p_a / softmax(q^S)_a), p = softmax(q/τ)  the teacher's policy at temperature τ
``nll``   −ln softmax(q^S)[argmax q]                          the teacher's greedy action, and nothing of the others
``mse``   Σ_a (q_a − q^S_a)²                                  the teacher's Q-values, scale and all
========  ==================================================  ===========================================================

τ divides the teacher's Q-values alone: Q-values of different actions are close to each other, and a small τ (0.01 in the
paper, whose rewards are clipped) makes the policy sharp that is copied. Q-values have the unit of the reward, and so has τ. An
actor-critic teacher has a policy of its own and no Q-values: there ``kl`` and ``nll`` take that policy, and τ has no part.

Source: Rusu et al. 2015, arXiv 1511.06295, section 3.
"""

from collections.abc import Callable
from functools import partial

import torch as th
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from torch.nn import functional

from sb3_distill.common.nearest import nearest
from sb3_distill.common.shapes import check_same_shape
from sb3_distill.rules import losses
from sb3_distill.rules.distributions import from_parameters
from sb3_distill.rules.temperature import soften

LOSSES = ("kl", "nll", "mse")
#: from n teacher's answers and n student's, shape (n, columns) each, to n losses
StateLoss = Callable[[th.Tensor, th.Tensor], th.Tensor]


def kl(teacher_q: th.Tensor, student_q: th.Tensor, temperature: float) -> th.Tensor:
    """
    KL(softmax(q/τ) ‖ softmax(q^S)).

    :param teacher_q: Q(s, ·) or, with τ = 1, log-probabilities; shape (n, |A|)
    :param student_q: Q-values or log-probabilities, of which only differences within a row count; shape (n, |A|)
    :param temperature: τ > 0, in units of Q
    :return: shape (n,), in nats
    :raises ValueError: if the shapes differ
    """
    check_same_shape(teacher_q=teacher_q, student_q=student_q)
    log_p = soften(teacher_q, temperature)
    return (log_p.exp() * (log_p - functional.log_softmax(student_q, dim=-1))).sum(-1)


def nll(teacher_q: th.Tensor, student_q: th.Tensor) -> th.Tensor:
    """
    −ln softmax(q^S)[argmax q].

    :param teacher_q: Q(s, ·) or log-probabilities, shape (n, |A|); of equal ones the first counts, as when a DQN plays
    :param student_q: as for :func:`kl`
    :return: shape (n,), in nats
    :raises ValueError: if the shapes differ
    """
    check_same_shape(teacher_q=teacher_q, student_q=student_q)
    return functional.cross_entropy(student_q, teacher_q.argmax(-1), reduction="none")


def mse(teacher_q: th.Tensor, student_q: th.Tensor) -> th.Tensor:
    """
    ‖q − q^S‖².

    :param teacher_q: Q(s, ·), shape (n, |A|)
    :param student_q: the student's, in the same units; shape (n, |A|)
    :return: shape (n,), in units of Q squared
    :raises ValueError: if the shapes differ
    """
    check_same_shape(teacher_q=teacher_q, student_q=student_q)
    return (teacher_q - student_q).square().sum(-1)


def nll_of_mode(teacher: Distribution, student: Distribution) -> th.Tensor:
    """
    −ln π_θ(argmax_a π(a)): :func:`nll` for actions of several parts.

    :param teacher: n distributions over a ``MultiDiscrete`` or ``MultiBinary`` space
    :param student: as many
    :return: shape (n,), in nats
    """
    return -student.log_prob(teacher.mode())


def state_loss(loss: str, kind: str, action_space: spaces.Space, temperature: float) -> StateLoss:
    """
    The loss of a state for one kind of teacher.

    :param loss: ``"kl"``, ``"nll"`` or ``"mse"``
    :param kind: of the answers, ``"q_values"`` or ``"parameters"``; see :class:`~sb3_distill.memory.memory.About`
    :param action_space: of teacher and student
    :param temperature: τ > 0, in units of Q; of Q-values only
    :return: from answers and the student's Q-values (or the parameters of its distribution) to losses
    :raises ValueError: for a τ or a name that there is not, and for a loss that this teacher cannot serve
    """
    check_loss(loss, temperature)
    if kind == "q_values":
        of_q: dict[str, StateLoss] = {"kl": partial(kl, temperature=temperature), "nll": nll, "mse": mse}
        return of_q[loss]
    if loss == "mse":
        raise ValueError(
            "loss='mse' needs a teacher's Q-values, and this one answers with the parameters of its action distribution: use "
            "loss='kl' or 'nll', or a DQN or QR-DQN as the teacher."
        )
    if isinstance(action_space, spaces.Discrete):
        return nll if loss == "nll" else partial(kl, temperature=1.0)
    if loss == "nll" and isinstance(action_space, spaces.Box):
        raise ValueError(
            f"loss='nll' has no minimum for the continuous actions of {action_space}, whose density grows without bound as "
            "the student's standard deviation falls: use loss='kl'."
        )
    function = losses.kl if loss == "kl" else nll_of_mode
    return lambda teacher, student: function(
        from_parameters(action_space, teacher), from_parameters(action_space, student)
    )


def check_loss(loss: str, temperature: float) -> None:
    """
    :param loss: a name
    :param temperature: τ
    :raises ValueError: if there is no such loss, with the nearest ones, or τ is not a number greater than 0
    """
    if loss not in LOSSES:
        raise ValueError(f"Unknown loss {loss!r}: {nearest(str(loss), LOSSES)}")
    if not (isinstance(temperature, (int, float)) and 0 < temperature < float("inf")):
        raise ValueError(f"temperature must be a number greater than 0, not {temperature!r}.")
