"""Online policy distillation: the student follows a teacher that is still learning (Rusu et al. 2015, section 4.4).

The policy of a DQN changes for better and worse while it learns. So the student is taught by the best teacher so far: by that
state of the network which had the highest return when it was evaluated.
"""

import math
from collections.abc import Callable

from matplotlib.figure import Figure
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.algorithms.policy_distillation import PolicyDistillation
from sb3_distill.algorithms.snapshots import snapshot
from sb3_distill.evaluation.learning_curves import Curve, LearningCurve, draw_learning_curves
from sb3_distill.evaluation.scores import Score


class OnlineDistillation(LearningCurve):
    """
    A callback for a teacher's ``learn``, with which a student follows it.

    Every so many steps the teacher is evaluated. If it is better than ever, a copy of it becomes the student's teacher, and the
    student's memory begins anew. Then the student learns for some steps, which are a run of its own: its schedules go from their
    start to their end. The teacher learns as it would without the student, to the bit.

    >>> from stable_baselines3 import DQN
    >>> from sb3_distill.algorithms.online import OnlineDistillation
    >>> from sb3_distill.algorithms.policy_distillation import PolicyDistillation
    >>> student = PolicyDistillation("MlpPolicy", "CartPole-v1", policy_kwargs=dict(net_arch=[16]))
    >>> follow = OnlineDistillation(student, "CartPole-v1", every=200, n_episodes=2)
    >>> model = DQN("MlpPolicy", "CartPole-v1").learn(400, callback=follow)
    >>> [curve.steps for curve in follow.curves()]
    [[0, 200, 400], [0, 200, 400]]

    :param student: with an environment of its own to play its teacher in, and without a memory
    :param env: where both are evaluated: a Gymnasium id, or a function that makes n environments
    :param every: steps of the teacher's environments from one evaluation to the next
    :param n_steps: of the student's environments after each evaluation but the first, which finds an untrained teacher; by
        default as many as ``every``
    :param n_episodes: for each evaluation, with the same seeds
    :param seed: of the first episode; see :func:`~sb3_distill.evaluation.episodes.episode_returns`
    :param max_steps: an episode that has not ended by then is cut
    :raises ValueError: if the student has nothing to play in, or a memory; and as
        :class:`~sb3_distill.evaluation.learning_curves.LearningCurve` does
    :raises TypeError: for a student of another kind
    """

    def __init__(
        self,
        student: PolicyDistillation,
        env: str | Callable[[int], VecEnv],
        every: int,
        n_steps: int | None = None,
        n_episodes: int = 20,
        seed: int = 1_000_000,
        max_steps: int | None = None,
    ) -> None:
        if not isinstance(student, PolicyDistillation):
            raise TypeError(f"The student has to be a PolicyDistillation, with env=…, not {type(student).__name__}.")
        if student.env is None or student.memory is not None:
            raise ValueError("The student has to play its teacher: make it with env=… and without memory=….")
        super().__init__(env, every, n_episodes, seed, max_steps)
        self.student = student
        self.n_steps = every if n_steps is None else n_steps
        #: the highest mean return of the teacher so far
        self.best_mean = -math.inf
        #: (the teacher's environment steps, the student's score then), in order
        self.student_points: list[tuple[int, Score]] = []

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self.student.set_teacher(snapshot(self.model))  # does it fit at all?

    def _evaluate(self) -> None:
        super()._evaluate()
        steps, teachers = self.points[-1]
        if teachers.mean > self.best_mean:
            self.best_mean = teachers.mean
            self.student.set_teacher(snapshot(self.model, first=False))
        if steps > 0:
            self.student.learn(self.n_steps)
        students = self._play(self.student)
        self.student_points.append((steps, students))
        self.logger.record("online/teacher_return", teachers.mean)
        self.logger.record("online/student_return", students.mean)

    def curves(self) -> list[Curve]:
        """:return: the teacher's and the student's, at the same steps of the teacher's environments"""
        steps, scores = [p[0] for p in self.student_points], [p[1] for p in self.student_points]
        student = Curve("student", steps, [s.mean for s in scores], [s.standard_error for s in scores])
        return [self.curve("teacher"), student]

    def figure(self, title: str | None = None) -> Figure:
        """
        Both curves beside each other.

        :param title: above the axes
        :return: a figure that no global state knows about
        """
        return draw_learning_curves(self.curves(), title=title)
