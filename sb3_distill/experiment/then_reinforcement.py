"""The second phase of a run: reinforcement learning that goes on from the student, with checkpoints of its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_distill.algorithms.critic_warmup import CriticWarmup
from sb3_distill.algorithms.then_rl import rl_callbacks, rl_model
from sb3_distill.common.interrupts import Postponed
from sb3_distill.experiment.checkpoints import restore_student, student_state
from sb3_distill.experiment.keeper import Keeper
from sb3_distill.experiment.progress import ProgressLine

#: the student as it was distilled, beside ``student.zip``
DISTILLED = "distilled.zip"


class Reinforcement:
    """
    A student that goes on, at the beginning or where the last part has left it.

    :param student: distilled
    :param steps: of this phase
    :param keeper: of its curve and checkpoints
    """

    def __init__(self, student: OnPolicyAlgorithm, steps: int, keeper: Keeper) -> None:
        self.student, self.steps, self.keeper = student, steps, keeper
        self.model = rl_model(student)
        self._begun = False

    def take_up(self, state: Mapping[str, Any], path: Path) -> None:
        """
        :param state: what :meth:`state` gave
        :param path: of the checkpoint, for messages
        """
        restore_student(self.model, state["student"], path)  # type: ignore[arg-type]
        self.keeper.take_up(state)
        self._begun = True

    def state(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """
        :param about: of the keeper
        :return: for a checkpoint
        """
        return {"student": student_state(self.model), "temperature": None, **about}  # type: ignore[arg-type]

    def run(self, quiet: bool, log_name: str) -> None:
        """
        :param quiet: whether nothing is said
        :param log_name: of TensorBoard's
        """
        model, keeper = self.model, self.keeper
        left = max(0, self.steps - model.num_timesteps)
        callbacks = rl_callbacks(model, self.steps, policy=self.student.policy)
        warmup = callbacks[0]
        assert isinstance(warmup, CriticWarmup)
        warmup.n_rollouts = max(0, warmup.n_rollouts - model.num_timesteps // (model.n_steps * model.n_envs))
        text = f"reinforcement learning for {self.steps:,} steps"
        with ProgressLine(text, self.steps, quiet) as line, Postponed() as postponed:
            keeper.line, keeper.postponed = line, postponed
            model.learn(left, [*callbacks, line, keeper], tb_log_name=log_name, reset_num_timesteps=not self._begun)

    def points(self) -> list[tuple[int, Any]]:
        """Of the curve, in steps since the distillation began; the first one is the distilled student, which its own curve ends with."""
        return [(self.student.num_timesteps + steps, score) for steps, score in self.keeper.points[1:]]

    def data(self) -> dict[str, Any]:
        """For ``results.json``."""
        means = [score.mean for _, score in self.keeper.points]
        return {
            "algorithm": type(self.model).__name__,
            "begins_after": self.student.num_timesteps,
            "steps": self.model.num_timesteps,
            "distilled_return": means[0],
            "lowest_return": min(means),
            "final_return": means[-1],
            "episodes": self.keeper.n_episodes,
            "student_before": DISTILLED,
        }

    def line(self) -> str:
        """In words."""
        about = self.data()
        return (
            f"{about['steps']:,} steps of {about['algorithm']} after the distillation took the mean of {about['episodes']} episodes from "
            f"{about['distilled_return']:.1f} to {about['final_return']:.1f}, {about['lowest_return']:.1f} at the lowest; {DISTILLED} is "
            "the student as it was distilled."
        )
