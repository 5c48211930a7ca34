"""Students that teach each other while they learn (Lin et al. 2017; Zhang et al. 2018).

Each learns by reinforcement in an environment of its own, and from what the others have learnt by then: before each of its rollouts, the
others' present networks become its teacher. The weight of ℓ is to let go, for two good students need not be the same one.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

from sb3_distill.algorithms.distillation import Distillation
from sb3_distill.algorithms.schedules import TRIED
from sb3_distill.algorithms.snapshots import snapshot
from sb3_distill.common.layers import innermost
from sb3_distill.common.replaced import replaced
from sb3_distill.common.whole_numbers import check_whole
from sb3_distill.teachers.several import EnsembleTeacher
from sb3_distill.teachers.teacher import Teacher

SelfMutual = TypeVar("SelfMutual", bound="MutualDistillation")


class MutualDistillation:
    """
    Two or more students with each other as teachers.

    >>> from sb3_distill import DistillPPO, MutualDistillation
    >>> settings = dict(method="on_policy_distill", loss_coef=lambda left: 0.1 * left, env_reward_coef=1.0, vf_coef=0.5)
    >>> students = [DistillPPO("MlpPolicy", "CartPole-v1", gamma=0.98, seed=seed, **settings) for seed in (0, 1)]
    >>> both = MutualDistillation(students).learn(256)
    >>> [student.num_timesteps for student in students]
    [256, 256]

    :param students: of :class:`~sb3_distill.DistillPPO` or its kin, each with its own environment and a weight on the environment's
        reward; where they differ in spaces they cannot teach each other. A ``loss_coef`` that is a schedule goes from the beginning
        to the end of the run that they have together, as every other schedule does
    :raises ValueError: for fewer than two, the same one twice or in the same environment, if none has a weight on the environment's
        reward, and for students that cannot read each other's observations or do other actions
    :raises TypeError: for a student of another kind
    """

    def __init__(self, students: Sequence[Distillation]) -> None:
        for student in students:
            if not isinstance(student, Distillation):
                raise TypeError(
                    f"Students that teach each other are of DistillPPO or its kin, not {type(student).__name__}: of what else learns, "
                    "OnlineDistillation makes a teacher."
                )
        if len({id(student) for student in students}) != len(students) or len(students) < 2:
            raise ValueError(f"Give two or more students, each once: there are {len(students)}.")
        envs = [id(innermost(student.env)) for student in students if student.env is not None]
        if len(set(envs)) != len(envs):
            raise ValueError(
                "Students that teach each other have an environment each, and some have the same: where one has played, the other would go "
                "on with observations of before."
            )
        if not any(student.env_reward_coef(left) for student in students for left in TRIED):
            raise ValueError(
                "No student has a weight on the environment's reward, and of each other they learn nothing that one of them does not "
                "know: give one of them at least env_reward_coef=1.0."
            )
        averaged = [k for k, student in enumerate(students) if student.averaging]
        if averaged:
            warnings.warn(
                f"averaging does nothing while students teach each other, for each of their rollouts is a run of its own (students "
                f"{averaged}, counted from 0): their last weights stay. Give them averaging=0.",
                stacklevel=2,
            )
        self.students = list(students)
        for student in self.students:
            self._teach(student, first=True)
            student._check_teacher()

    def learn(
        self: SelfMutual,
        total_timesteps: int,
        callback: Callable[[Distillation], bool | None] | None = None,
        reset_num_timesteps: bool = True,
    ) -> SelfMutual:
        """
        Rollout by rollout, the student next that has made the fewest steps.

        :param total_timesteps: environment steps of each student
        :param callback: called with a student after each of its rollouts and updates; the run ends where it answers False
        :param reset_num_timesteps: whether the counts of steps start anew
        :return: the same, its students trained
        :raises ValueError: as :meth:`~sb3_distill.DistillPPO.learn` does
        """
        check_whole("total_timesteps", total_timesteps, 1)
        if callback is not None and not callable(callback):
            raise ValueError(
                f"callback is a function of a student, called after each of its rollouts, not {callback!r}. Callbacks of SB3's are for one "
                "student's own learn()."
            )
        first = {id(student) for student in self.students} if reset_num_timesteps else set()
        end = {id(s): total_timesteps + (0 if reset_num_timesteps else s.num_timesteps) for s in self.students}
        made = {id(s): 0 if reset_num_timesteps else s.num_timesteps for s in self.students}
        loggers = [student._custom_logger for student in self.students]
        try:
            while left := [s for s in self.students if made[id(s)] < end[id(s)]]:
                student = min(left, key=lambda s: made[id(s)])
                self._teach(student)
                _one_rollout(student, end[id(student)], id(student) in first)
                first.discard(id(student))
                student._custom_logger = True  # or each rollout would have a log of its own
                stopped = student.num_timesteps == made[id(student)]
                made[id(student)] = student.num_timesteps
                if stopped or (callback is not None and callback(student) is False):
                    break
        finally:
            for student, was in zip(self.students, loggers, strict=True):
                student._custom_logger = was
        return self

    def _teach(self, student: Distillation, first: bool = False) -> None:
        """Make the others, as they are now, the student's teacher."""
        others: list[Teacher] = [snapshot(other, first) for other in self.students if other is not student]
        student.teacher = others[0] if len(others) == 1 else EnsembleTeacher(others)


def _one_rollout(student: Distillation, end: int, begins: bool) -> None:
    """
    A rollout and its updates, with schedules that know when the whole run ends.

    :param student: who
    :param end: steps of the whole run
    :param begins: whether it is the first one
    """
    progress = student._update_current_progress_remaining
    with replaced(student, "_update_current_progress_remaining", lambda made, _: progress(made, end)):
        student.learn(student.n_steps * student.n_envs, reset_num_timesteps=begins)
