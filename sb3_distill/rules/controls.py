"""Who acts: control policies q, by name, for every algorithm; and with what probability a mixture draws its actions."""

from collections.abc import Callable
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import torch as th

from sb3_distill.common.masks import allowed_action
from sb3_distill.common.nearest import nearest
from sb3_distill.common.spaces import any_action

#: for how long a mixture leaves the turn to whom it has drawn
PER = ("step", "episode")


class Step(NamedTuple):
    """One step of n environments, before it is made.

    :param student: makes the student's n actions, as the environments take them
    :param teacher: makes the teacher's; it is asked when this is called, and not before
    :param space: of one action
    :param n: environments side by side
    :param teachers_turn: where both act: says in which environments it is the teacher's turn, shape (n,); called once a step
    :param masks: which actions are allowed, shape (n, columns), where they are masked
    """

    student: Callable[[], np.ndarray]
    teacher: Callable[[], np.ndarray]
    space: gym.Space
    n: int
    teachers_turn: Callable[[], np.ndarray] | None = None
    masks: np.ndarray | None = None


def student(step: Step) -> np.ndarray:
    """The student acts."""
    return step.student()


def teacher(step: Step) -> np.ndarray:
    """The teacher acts."""
    return step.teacher()


def uniform(step: Step) -> np.ndarray:
    """Every action that is allowed is as likely as any other."""
    if step.masks is not None:
        return np.stack([allowed_action(step.space, mask) for mask in step.masks])
    return np.stack([any_action(step.space) for _ in range(step.n)])


def mixed(step: Step) -> np.ndarray:
    """In each environment the teacher acts with probability β, and else the student (DAgger, Ross et al. 2011)."""
    assert step.teachers_turn is not None
    students = ~step.teachers_turn()
    if students.all():
        return step.student()
    actions = step.teacher()
    if students.any():
        actions[students] = step.student()[students]
    return actions


class Turns:
    """
    Whose turn it is in a mixture, in each of n environments.

    :param per: ``"step"`` or ``"episode"``: how long a draw holds
    :param rng: of the draws
    :raises ValueError: for anything else

    :ivar present: where it was the teacher's turn last, shape (n,); empty before the first draw
    """

    def __init__(self, per: str, rng: np.random.Generator) -> None:
        check_per(per)
        self.per, self.rng = per, rng
        self.present = np.zeros(0, dtype=bool)

    def teachers(self, beta: float, starts: np.ndarray) -> np.ndarray:
        """
        :param beta: β, how likely the teacher is drawn
        :param starts: where an episode begins with this step, shape (n,)
        :return: where it is the teacher's turn, shape (n,)
        """
        drawn = self.rng.random(len(starts)) < beta
        if self.per == "episode" and len(self.present) == len(starts):
            drawn = np.where(np.asarray(starts, dtype=bool), drawn, self.present)
        self.present = drawn
        return drawn.copy()


def check_per(per: str) -> None:
    """
    :param per: of a mixture
    :raises ValueError: if it is neither ``"step"`` nor ``"episode"``
    """
    if per not in PER:
        raise ValueError(f"Unknown beta_per {per!r}: {nearest(str(per), PER)}")


def log_density(teacher: th.Tensor, student: th.Tensor, beta: th.Tensor) -> th.Tensor:
    """
    With what density a mixture draws the actions that it executes: q(a|s) = β π(a|s) + (1−β) π_θ(a|s).

    :param teacher: log π(a|s), shape (n,)
    :param student: log π_θ(a|s), shape (n,)
    :param beta: β at the time, or where a draw holds for an episode 1 in the teacher's and 0 in the student's, shape (n,)
    :return: log q(a|s), shape (n,); log π_θ(a|s) itself where β is 0
    """
    return th.logaddexp(beta.log() + teacher, th.log1p(-beta) + student)


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
