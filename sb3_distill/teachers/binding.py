"""A teacher bound to an environment: what it sees there, where it has been, and that it is asked about each state once."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.common.layers import innermost, raw_env
from sb3_distill.common.observations import same_obs
from sb3_distill.teachers.teacher import Answer, Teacher
from sb3_distill.teachers.view import TeacherView, Wrap, view_of


class Binding:
    """What an algorithm knows of a teacher in its environment, from one rollout to the next."""

    def __init__(self) -> None:
        #: what the teacher sees, where that is something else than what the student sees
        self.view: TeacherView | None = None
        self._of: tuple[Any, ...] = (None, None, None)
        #: who was asked last, about which states, and what the answer was
        self._carried: tuple[Teacher, Any, Answer, np.ndarray | None] | None = None

    @property
    def teacher(self) -> Teacher | None:
        """Whose view it is, if one was bound."""
        return self._of[0]  # type: ignore[no-any-return]

    def is_of(self, teacher: Teacher, env: VecEnv, teacher_obs: Wrap | str | None) -> bool:
        """:return: whether these very objects were bound last"""
        return all(a is b for a, b in zip(self._of, (teacher, env, teacher_obs), strict=True))

    def bind(self, teacher: Teacher, env: VecEnv, teacher_obs: Wrap | str | None) -> None:
        """
        :param teacher: who is asked
        :param env: the student's environment, in all its wrappers
        :param teacher_obs: puts the teacher's wrappers around an environment, see :mod:`~sb3_distill.teachers.view`
        :raises ValueError: if no view gives the teacher the observations that it was trained on
        """
        self.view = view_of(teacher, raw_env(env)[0], innermost(env), teacher_obs)
        self._of = (teacher, env, teacher_obs)

    @property
    def begins_with_an_episode(self) -> bool:
        """Whether what the teacher sees is not known before the next reset."""
        return self.view is not None and self.view.obs is None

    def forget(self) -> None:
        """What the teacher sees is not known any more."""
        if self.view is not None:
            self.view.obs = None

    def hearing(self, steps: bool) -> AbstractContextManager[None]:
        """
        :param steps: whether steps are heard, besides resets
        :return: a context in which the view hears what the environment says
        """
        return nullcontext() if self.view is None else self.view.hearing(steps=steps)

    def carry(self, teacher: Teacher, obs: Any, answer: Answer, masks: np.ndarray | None = None) -> None:
        """
        :param teacher: who was asked
        :param obs: about which states, in which the next rollout begins
        :param answer: what it said
        :param masks: of the actions that were allowed there, if they are masked
        """
        self._carried = (teacher, obs, answer, masks)

    def carried(self, teacher: Teacher, obs: Any, masks: np.ndarray | None = None) -> Answer | None:
        """
        :param teacher: who is to be asked
        :param obs: about which states
        :param masks: of the actions that are allowed there, if they are masked
        :return: what it said about these very states in the end of the rollout before, if it did; once
        """
        carried, self._carried = self._carried, None
        if carried is None or carried[0] is not teacher or not same_obs(carried[1], obs):
            return None
        if (masks is None) != (carried[3] is None) or (masks is not None and not np.array_equal(masks, carried[3])):  # type: ignore[arg-type]
            return None
        return carried[2]
