"""Who acts: control policies q, by name, for every algorithm."""

from collections.abc import Callable
from typing import NamedTuple

import gymnasium as gym
import numpy as np

from sb3_distill.common.spaces import any_action


class Step(NamedTuple):
    """One step of n environments, before it is made.

    :param student: makes the student's n actions, as the environments take them
    :param teacher: makes the teacher's; it is asked when this is called, and not before
    :param space: of one action
    :param n: environments side by side
    :param beta: how likely the teacher acts where both do
    :param rng: of a draw between them
    """

    student: Callable[[], np.ndarray]
    teacher: Callable[[], np.ndarray]
    space: gym.Space
    n: int
    beta: float = 1.0
    rng: np.random.Generator | None = None


def student(step: Step) -> np.ndarray:
    """The student acts."""
    return step.student()


def teacher(step: Step) -> np.ndarray:
    """The teacher acts."""
    return step.teacher()


def uniform(step: Step) -> np.ndarray:
    """Every action is as likely as any other."""
    return np.stack([any_action(step.space) for _ in range(step.n)])


def mixed(step: Step) -> np.ndarray:
    """In each environment the teacher acts with probability β, and else the student (DAgger, Ross et al. 2011)."""
    assert step.rng is not None
    students = step.rng.random(step.n) >= step.beta
    if students.all():
        return step.student()
    actions = step.teacher()
    if students.any():
        actions[students] = step.student()[students]
    return actions


def disturbed(actions: np.ndarray, epsilon: float, space: gym.Space, rng: np.random.Generator) -> np.ndarray:
    """
    :param actions: n actions; changed in place
    :param epsilon: probability of a uniformly random one in its place
    :param space: of one action
    :param rng: of the draw whether
    :return: the same array
    """
    for i in np.flatnonzero(rng.random(len(actions)) < epsilon):
        actions[i] = any_action(space)
    return actions


#: from the names of control policies to what they do
CONTROLS: dict[str, Callable[[Step], np.ndarray]] = {
    "student": student,
    "teacher": teacher,
    "uniform": uniform,
    "mixed": mixed,
}
