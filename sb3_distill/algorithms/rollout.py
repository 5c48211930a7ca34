"""The first seam: SB3's ``collect_rollouts`` runs on an environment that is listened to, and in which somebody else may act."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.algorithms.frame_stack import observation_log
from sb3_distill.common.layers import raw_env
from sb3_distill.common.tap import StudentView, Tap
from sb3_distill.teachers.teacher import Answer
from sb3_distill.teachers.view import TeacherView


class Rollout:
    """
    What is heard in one rollout.

    :param env: the environment that the algorithm steps
    :param tap: what listens to it, where the teacher sees it
    :param student: the parameters of π_θ(·|s_t), one array of shape (n_envs, columns) a step
    :param answers: the teacher's for s_1, s_2 …, as far as it was asked already, to act
    :param turns: in a mixture, where it was the teacher's turn, one array of shape (n_envs,) a step
    :param drawn: and what it drew there, unclipped, of shape (n_envs, …)
    :param masks: of the actions that are allowed in s_1, s_2 …, as far as they were asked for, one array of booleans of shape
        (n_envs, columns) a step; none where actions are not masked
    :param end_masks: of those that are allowed in the states at which time limits cut episodes, likewise, shape (columns,)
    """

    def __init__(self, env: StudentView, tap: Tap) -> None:
        self.env = env
        self.tap = tap
        self.student: list[np.ndarray] = []
        self.answers: list[Answer] = []
        self.turns: list[np.ndarray] = []
        self.drawn: dict[int, np.ndarray] = {}
        self.masks: list[np.ndarray] = []
        self.end_masks: list[np.ndarray] = []

    @property
    def student_parameters(self) -> th.Tensor:
        """All of :attr:`student`, in rows: those of one step are neighbours."""
        student = np.stack(self.student)
        return th.from_numpy(student).reshape(student.shape[0] * student.shape[1], -1)

    def masks_since(self, step: int, with_ends: bool = False) -> np.ndarray | None:
        """
        :param step: of a state, the first being 0
        :param with_ends: whether those of the states at which time limits cut episodes follow
        :return: the masks from that state on, in rows; None where actions are not masked
        """
        if not self.masks:
            return None
        return np.concatenate([*self.masks[step:], *(mask[None] for mask in self.end_masks if with_ends)])

    @property
    def n_answered(self) -> int:
        """For how many steps there are answers."""
        return sum(len(answer.parameters) for answer in self.answers) // self.env.num_envs


@contextmanager
def listening(
    env: VecEnv,
    view: TeacherView | None,
    obs: Any,
    act: Callable[[Rollout, np.ndarray], np.ndarray],
    buffer: RolloutBuffer,
    n_steps: int,
    reward_scale: float,
    is_paid: bool,
    is_cut: bool,
    on_others: Callable[[int], None],
) -> Iterator[Rollout]:
    """
    A context in which an environment is listened to.

    :param env: the student's, in all its wrappers
    :param view: what the teacher sees, where that is something else
    :param obs: what the teacher sees of the present states
    :param act: called with what is heard and the student's actions, before each step; returns those to execute
    :param buffer: where SB3 puts the rollout: a callback may play in this environment, too, and does so after a step, before the
        buffer has that step
    :param n_steps: of the rollout
    :param reward_scale: a factor for the environment's reward, as the algorithm sees it
    :param is_paid: whether that has a weight at all
    :param is_cut: whether the present states need not go on where the last ones were
    :param on_others: called when others have stepped or reset the environment, with the number of observations so far
    :return: what is heard
    """
    raw, _ = raw_env(env)

    def is_own_next() -> bool:
        return len(rollout.tap.rewards) == buffer.pos < n_steps

    def before_step(actions: np.ndarray) -> np.ndarray:
        return act(rollout, actions)

    student_view = StudentView(env, reward_scale, is_own_next, is_paid)
    if view is None:
        tapped, see, log = raw, None, observation_log(raw, n_steps + 1)
    else:
        tapped, see, log = view.env, view.step, None
    tap = Tap(tapped, obs, before_step, see, log, lambda: student_view.stepping, on_others)
    if is_cut:
        tap.observations.cut()
    rollout = Rollout(student_view, tap)
    try:
        with tap:
            yield rollout
    finally:
        del student_view.is_next  # in a circle with the rollout, which would wait for the garbage collector
