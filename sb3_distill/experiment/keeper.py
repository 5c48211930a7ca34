"""What a run keeps while it learns: its curve and its checkpoints, from which it goes on after it was stopped or killed."""

import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from sb3_distill.common.interrupts import Postponed
from sb3_distill.evaluation.learning_curves import LearningCurve
from sb3_distill.evaluation.scores import Score
from sb3_distill.experiment.checkpoints import restore_mean
from sb3_distill.experiment.progress import ProgressLine

#: seconds that evaluations may take more than the training has, before points wait: an environment may be slow
CURVE_SECONDS = 10.0
#: from one checkpoint to the next, not counting the rollout that it waits for: what a killed run loses
CHECKPOINT_SECONDS = 20.0


class Keeper(LearningCurve):
    """
    A learning curve that also writes checkpoints, and lets a signal wait until what was learnt is in one.

    :param write: a checkpoint; what it is given goes into it
    :param args: of :class:`~sb3_distill.evaluation.learning_curves.LearningCurve`, as ``kwargs``
    """

    line: ProgressLine
    postponed: Postponed

    def __init__(self, write: Callable[[dict[str, Any]], None], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._write = write
        #: steps in the last checkpoint, and points of the curve in it
        self.kept: tuple[int, int] | None = None
        self._mean_of: Mapping[str, Any] | None = None
        self._written = self._started = time.monotonic()
        self._seconds_before = 0.0
        self._evaluating_before = 0.0
        self._problem: OSError | None = None

    def take_up(self, state: Mapping[str, Any]) -> None:
        """
        :param state: what :meth:`save` has written
        """
        self.points = [(steps, Score(*score)) for steps, score in state["points"]]
        self.seconds = self._evaluating_before = state["evaluation_seconds"]
        self.steps_made = state["evaluation_steps"]
        self._seconds_before = state["training_seconds"]
        self._mean_of = state["student"]
        self.kept = (state["student"]["counters"]["num_timesteps"], len(self.points))

    @property
    def training_seconds(self) -> float:
        """Of all parts, without evaluations, and without what was lost."""
        return self._trained_until(self._ended)

    def _trained_until(self, now: float) -> float:
        return self._seconds_before + now - self._started - (self.seconds - self._evaluating_before)

    def _has_time(self) -> bool:
        return not self.points or self.seconds <= self._trained_until(time.monotonic()) + CURVE_SECONDS

    def kept_words(self) -> str:
        """What is on disk, for messages."""
        steps = 0 if self.kept is None else self.kept[0]
        return f"{steps:,} {'minibatches' if self._reads else 'steps'} are saved"

    @property
    def _reads(self) -> bool:
        """Whether a memory is learnt from, and nothing is played: then every step is an update."""
        return getattr(self.model, "memory", None) is not None

    def save(self) -> None:
        """Write a checkpoint, if there is anything new. A full disk is a warning: the training goes on, and tries again later."""
        self._ended = time.monotonic()
        now = (self.model.num_timesteps, len(self.points))
        if self.kept == now:
            return
        try:
            self._write(
                {
                    "points": self.points,
                    "evaluation_seconds": self.seconds,
                    "evaluation_steps": self.steps_made,
                    "training_seconds": self.training_seconds,
                }
            )
            self.kept, self._problem = now, None
        except OSError as error:
            if self._problem is None:
                warnings.warn(
                    f"No checkpoint after {now[0]:,} steps: {error}. Training goes on; {self.kept_words()}, and what comes "
                    "after them would be lost with the process."
                )
            self._problem = error
        self._written = time.monotonic()

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self._started = self._ended = self._written = time.monotonic()
        if self._mean_of is not None:
            restore_mean(self.model, self._mean_of)  # type: ignore[arg-type]

    def _on_rollout_start(self) -> None:
        # Here all that was played is learnt from, and nothing new is played yet.
        self._began = self.model.num_timesteps
        if self.postponed.asked:
            self.save()
            self.postponed.act_if_asked()
        if time.monotonic() - self._written > CHECKPOINT_SECONDS:
            self.save()
        super()._on_rollout_start()

    def _on_step(self) -> bool:
        if self.postponed.late:
            played = self.model.num_timesteps
            if not self._reads:  # nothing was learnt since the rollout began: it is played once more
                self.model.num_timesteps = self._began
            self.save()
            self.model.num_timesteps = played
            self.postponed.act_if_asked()
        return super()._on_step()

    def _on_training_end(self) -> None:
        self.save()
        if not self.points or self.points[-1][0] < self.model.num_timesteps:
            super()._on_training_end()

    def _evaluate(self) -> None:
        try:
            with self.line.doing(f"{self.n_episodes} episodes"), self.postponed.at_once():
                super()._evaluate()
        finally:
            self.save()
