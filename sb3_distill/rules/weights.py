"""How much ℓ counts in a state: w, as pure functions of a minibatch of states."""

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
    :param log_ratio: log π_θ(a_t|s_t) − log π_old(a_t|s_t), on the graph
    """

    teacher: Distribution
    student: Distribution
    teacher_value: Any = None
    student_value: Any = None
    log_ratio: Any = None


WeightFunction = Callable[[States], th.Tensor]


def v_condition(states: States) -> th.Tensor:
    """
    ℓ counts only where the teacher's future is better than the student's (Czarnecki et al. 2019, proposition 2).

    :param states: with both values
    :return: 1[V_π(s_t) > V_πθ(s_t)], shape (n,), off the graph
    :raises ValueError: if the two values have other shapes, which would be broadcast
    """
    check_same_shape(teacher_value=states.teacher_value, student_value=states.student_value)
    return (states.teacher_value > states.student_value).to(states.teacher_value.dtype).detach()
