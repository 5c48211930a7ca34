"""How much ℓ counts: w of a state, as pure functions of a minibatch of states, and λ of a rollout, of the returns so far."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch as th
from stable_baselines3.common.distributions import Distribution

from sb3_distill.common.shapes import check_same_shape


class States(NamedTuple):
    """A minibatch of n states as teacher and student see them. Tensors have shape (n,); what the row does not need is None.

    :param teacher: π(·|s_t)
    :param student: π_θ(·|s_t), as it is now, on the graph
    :param teacher_value: V_π(s_t), in units of the environment's reward
    :param student_value: V_πθ(s_t) of the environment's return, in the same units, off the graph
    :param log_ratio: log π_θ(a_t|s_t) − log π_old(a_t|s_t), on the graph; a_t is what the student has drawn there, whoever acted
    :param clip_range: ε of PPO's objective
    """

    teacher: Distribution
    student: Distribution
    teacher_value: Any = None
    student_value: Any = None
    log_ratio: Any = None
    clip_range: Any = None


class Returns(NamedTuple):
    """Mean undiscounted returns of episodes, in units of the environment's reward.

    :param teacher: G_π
    :param student: G_πθ, of its last episodes; None before the first one has ended
    :param random: of uniformly random play
    """

    teacher: float
    student: float | None
    random: float


WeightFunction = Callable[[States], th.Tensor]
CoefficientFunction = Callable[[Returns], float]


def v_condition(states: States) -> th.Tensor:
    """
    ℓ counts only where the teacher's future is better than the student's (Czarnecki et al. 2019, proposition 2).

    :param states: with both values
    :return: 1[V_π(s_t) > V_πθ(s_t)], shape (n,), off the graph
    :raises ValueError: if the two values have other shapes, which would be broadcast
    """
    check_same_shape(teacher_value=states.teacher_value, student_value=states.student_value)
    return (states.teacher_value > states.student_value).to(states.teacher_value.dtype).detach()


def proximal(states: States) -> th.Tensor:
    """
    ℓ counts as much as its action has gained or lost in probability since the rollout, which keeps the student near what it was
    (Spigler 2025, arXiv 2407.15134). Where the action has become likelier, there is a gradient through the weight, too.

    :param states: with the logarithm of the ratio, and ε
    :return: max(ρ_t, 1−ε) with ρ_t = π_θ(a_t|s_t) / π_old(a_t|s_t), shape (n,), on the graph
    """
    return states.log_ratio.exp().clamp(min=1 - states.clip_range)


def return_ratio(returns: Returns) -> float:
    """
    What the student still lacks of the teacher's return: it lets go as it succeeds (QDagger: Agarwal et al. 2022, arXiv 2206.01626,
    with random play at 0, which has no meaning where returns are negative).

    >>> from sb3_distill.rules.weights import Returns, return_ratio
    >>> return_ratio(Returns(teacher=-100.0, student=-200.0, random=-500.0))
    0.25

    :param returns: the teacher's above random play's
    :return: λ = clip((G_π − G_πθ) / (G_π − G_random), 0, 1); 1 before the student's first episode has ended
    """
    if returns.student is None:
        return 1.0
    return min(max((returns.teacher - returns.student) / (returns.teacher - returns.random), 0.0), 1.0)


def check_returns(returns: Returns) -> None:
    """
    :param returns: to be compared
    :raises ValueError: if the teacher's is not above random play's, or one of them is no number
    """
    for name, value in (("teacher_return", returns.teacher), ("random_return", returns.random)):
        if not math.isfinite(value):
            raise ValueError(f"{name} must be a mean return, a finite number, not {value!r}.")
    if returns.teacher <= returns.random:
        raise ValueError(
            f"A return ratio is what the student lacks of the teacher's return, and teacher_return={returns.teacher:.4g} is not above "
            f"random_return={returns.random:.4g}: give those of this environment, or leave weight='return_ratio' out."
        )
