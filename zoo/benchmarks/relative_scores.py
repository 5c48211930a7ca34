"""Scores of students relative to their teacher's: (student − random) / (teacher − random)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sb3_distill.evaluation.episodes import standard_error


class Reference(NamedTuple):
    """
    What students are compared with.

    :param teacher: mean return, playing greedily
    :param error: standard error of that
    :param random: mean return of random play
    :param parameters: of the teacher
    """

    teacher: float
    error: float
    random: float
    parameters: int

    def relative(self, mean_return: float) -> float:
        """
        :param mean_return: of a student
        :return: (student − random) / (teacher − random)
        """
        return (mean_return - self.random) / (self.teacher - self.random)


def measured(teacher: np.ndarray, random: np.ndarray, parameters: int) -> Reference:
    """
    :param teacher: returns of a teacher
    :param random: returns of random play
    :param parameters: the teacher's
    :return: what students are compared with
    :raises ValueError: if the teacher does not play better than at random
    """
    if teacher.mean() <= random.mean():
        raise ValueError(
            f"The teacher's mean return is {teacher.mean():.4g}, and random play's {random.mean():.4g}: no score can be relative to "
            "that. Train the teacher for longer, or choose another."
        )
    return Reference(float(teacher.mean()), standard_error(teacher), float(random.mean()), parameters)


class Relative(NamedTuple):
    """A score relative to the teacher's.

    :param mean: over students and episodes
    :param error: its standard error, the teacher's among it
    """

    mean: float
    error: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.error:.2f}"


def relative(found: Reference, runs: Sequence[Sequence[float]]) -> Relative:
    """
    :param found: the task's
    :param runs: returns of each student
    :return: their score; its error is that of the students' mean, by what the students differ, and of the teacher's
    """
    means = np.array([found.relative(float(np.mean(returns))) for returns in runs])
    unit = found.teacher - found.random
    # Of one student there is nothing but its episodes; what lies between several has the episodes' scatter in it.
    own = standard_error(means) if len(means) > 1 else standard_error(np.asarray(runs[0])) / unit
    return Relative(float(means.mean()), math.hypot(own, means.mean() * found.error / unit))


#: a score no better than random play would make every geometric mean 0
LEAST = 0.01


def geometric_mean(scores: Sequence[float]) -> float:
    """
    :param scores: relative to the teachers'
    :return: their geometric mean; scores below ``LEAST`` count as that
    """
    return float(np.exp(np.mean(np.log(np.maximum(scores, LEAST)))))


def mean_of(scores: Sequence[Relative]) -> Relative:
    """
    :param scores: of the tasks
    :return: their geometric mean; its error to first order
    """
    mean = geometric_mean([score.mean for score in scores])
    parts = [score.error / max(score.mean, LEAST) for score in scores]
    return Relative(mean, mean * math.hypot(*parts) / len(parts))
