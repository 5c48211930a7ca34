"""What a teacher says about states, as a memory keeps it, and what it does there."""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces

from sb3_distill.common.spaces import env_actions
from sb3_distill.memory.memory import Kind
from sb3_distill.rules.distributions import from_parameters
from sb3_distill.teachers.q_network import QTeacher
from sb3_distill.teachers.teacher import Teacher


def kind_of(teacher: Teacher) -> Kind:
    """
    :param teacher: of any family
    :return: what it answers with: a Q-network with Q(s, ·), every other one with the parameters of π(·|s)
    """
    return "q_values" if isinstance(teacher, QTeacher) else "parameters"


def answers_of(teacher: Teacher, obs: Any) -> np.ndarray:
    """
    Ask a teacher about some states: one forward pass.

    :param teacher: who
    :param obs: n observations as the environment gives them
    :return: Q-values or parameters, see :func:`kind_of`; shape (n, columns), float32
    :raises ValueError: if they are not finite
    """
    answers = teacher.q_values(obs) if isinstance(teacher, QTeacher) else teacher.answer(obs).parameters
    if not th.isfinite(answers).all():
        raise ValueError(f"The teacher {teacher.name} answered with NaN or infinity: are its weights damaged?")
    return answers.float().cpu().numpy()


def greedy_actions(kind: Kind, action_space: spaces.Space, answers: np.ndarray) -> np.ndarray:
    """
    What a teacher does without exploring.

    :param kind: of the answers
    :param action_space: the teacher's
    :param answers: for n states, shape (n, columns)
    :return: n actions as environments take them: of the largest Q-value, or the most probable ones
    """
    if kind == "q_values":
        return answers.argmax(axis=1)
    return env_actions(action_space, from_parameters(action_space, th.from_numpy(answers)).mode())
