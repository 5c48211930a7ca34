"""How good a student was as it learned: played while it does, and drawn."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.common.event_callbacks import check_told_of_rollouts
from sb3_distill.common.given_env import check_maker
from sb3_distill.evaluation.episodes import greedy, make_plain_envs, play_episodes
from sb3_distill.evaluation.scores import Score, score
from sb3_distill.evaluation.student_env import made_for

#: of students; Okabe and Ito's palette, which colour-blind readers can tell apart
COLORS = ("#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
#: of teachers and other horizontal lines
LEVEL_COLORS = ("#D55E00", "#666666")
LEVEL_STYLES = ("--", ":")


class Curve(NamedTuple):
    """How good a student was as it learned; three columns of the same length.

    :param name: for the legend
    :param steps: environment steps so far
    :param mean: return
    :param standard_error: of that mean
    """

    name: str
    steps: Sequence[int]
    mean: Sequence[float]
    standard_error: Sequence[float]


class Level(NamedTuple):
    """How good somebody is who does not learn.

    :param name: for the legend
    :param score: a horizontal line
    """

    name: str
    score: Score


class LearningCurve(BaseCallback):
    """
    Plays the student greedily while it learns, in environments of its own, without a trace in its training.

    A point tells of the network after all updates that its steps have paid for: the first is the network as it was
    born, the last is the finished one. ``seconds`` is the time that this has taken off the training's.

    :param env: a Gymnasium id, or a function that makes n environments; around them is put the ``VecNormalize`` of the student's
        training, see :func:`~sb3_distill.evaluation.student_env.seen_by`
    :param every: environment steps from one evaluation to the next; they wait for the end of a rollout
    :param n_episodes: for each evaluation, with the same seeds
    :param seed: of the first episode; see :func:`~sb3_distill.evaluation.episodes.play_episodes`
    :param max_steps: an episode that has not ended by then is cut
    :param total_steps: how many steps all evaluations of a run may make, over all their environments: each has an equal share of what
        is left, and episodes that have not ended by then are cut. For environments without a time limit, where a student that
        has learnt nothing yet never ends an episode
    :raises ValueError: for numbers below 1, an unknown id, and what is no function that makes n environments; before any step of the
        training, if it makes others, or is within an event callback, which would never call it
    """

    def __init__(
        self,
        env: str | Callable[[int], VecEnv],
        every: int,
        n_episodes: int = 20,
        seed: int = 1_000_000,
        max_steps: int | None = None,
        total_steps: int | None = None,
    ) -> None:
        super().__init__()
        check_maker(env)
        for name, value in (("every", every), ("n_episodes", n_episodes)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value!r}.")
        self.env = env
        self.every = every
        self.n_episodes = n_episodes
        self.seed = seed
        self.max_steps = max_steps
        self.total_steps = total_steps
        #: that evaluations have made so far, of all environments together
        self.steps_made = 0
        self.seconds = 0.0
        #: (environment steps, score), in order
        self.points: list[tuple[int, Score]] = []

    def curve(self, name: str) -> Curve:
        """
        :param name: for the legend
        :return: what there is by now
        """
        steps, scores = [p[0] for p in self.points], [p[1] for p in self.points]
        return Curve(name, steps, [s.mean for s in scores], [s.standard_error for s in scores])

    def _init_callback(self) -> None:
        self._check_parent()

    def _on_training_start(self) -> None:
        self._check_parent()  # which a CallbackList may have set since

    def _check_parent(self) -> None:
        check_told_of_rollouts(self, f" It evaluates every {self.every} steps.")

    def _on_rollout_start(self) -> None:
        # Not at steps: the network changes after rollouts only, and in its last step a rollout has changed nothing yet.
        is_due = not self.points or self.num_timesteps // self.every > self.points[-1][0] // self.every
        if is_due and self._has_time():
            self._evaluate()

    def _has_time(self) -> bool:
        """Whether a point that is due is made now; else it waits for a later rollout."""
        return True

    def _on_step(self) -> bool:
        self._check_parent()
        return True

    def _on_training_end(self) -> None:
        self._evaluate()

    def _evaluate(self) -> None:
        start = time.perf_counter()
        self.points.append((self.model.num_timesteps, self._play(self.model)))
        self.seconds += time.perf_counter() - start

    def _play(self, model: BaseAlgorithm) -> Score:
        """Evaluate a model, in the observations that it has learnt from."""
        make = partial(make_plain_envs, self.env) if isinstance(self.env, str) else self.env
        episodes = play_episodes(
            greedy(model.predict), partial(made_for, model, make), self.n_episodes, self.seed, self._limit()
        )
        self.steps_made += episodes.n_steps
        return score(episodes.returns, episodes.n_cut)

    def _limit(self) -> int | None:
        """After how many steps the episodes of the next evaluation are cut, if they are."""
        limits = [self.max_steps] if self.max_steps is not None else []
        if self.total_steps is not None:
            n_left = 1 + max(0, self.model._total_timesteps - self.model.num_timesteps) // self.every
            limits.append(max(1, (self.total_steps - self.steps_made) // (n_left * self.n_episodes)))
        return min(limits, default=None)


def plain_axes(axes: Axes, grid: Literal["x", "y", "both"] = "both", labelsize: float | None = None) -> None:
    """
    The look of all figures here: a light grid behind what is drawn, and no frame.

    :param axes: to change
    :param grid: across which axes there are lines
    :param labelsize: of the numbers at the axes, in points; None for matplotlib's
    """
    axes.grid(axis=grid, color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if labelsize is not None:
        axes.tick_params(labelsize=labelsize)


def draw_learning_curves(
    curves: Sequence[Curve], levels: Sequence[Level] = (), title: str | None = None, note: str | None = None
) -> Figure:
    """
    Returns against environment steps, with bands of one standard error.

    :param curves: of students
    :param levels: horizontal lines: their teacher, random play
    :param title: above the axes
    :param note: what the numbers are means of, beneath the title
    :return: a figure that no global state knows about
    """
    figure = Figure(figsize=(6.4, 4.0), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    for k, curve in enumerate(curves):
        color = COLORS[k % len(COLORS)]
        mean_t, error_t = np.asarray(curve.mean), np.asarray(curve.standard_error)
        axes.fill_between(curve.steps, mean_t - error_t, mean_t + error_t, color=color, alpha=0.25, linewidth=0)
        axes.plot(curve.steps, mean_t, color=color, linewidth=1.8, marker="o", markersize=3.5, label=curve.name)
    for k, level in enumerate(levels):
        color, style = LEVEL_COLORS[k % len(LEVEL_COLORS)], LEVEL_STYLES[k % len(LEVEL_STYLES)]
        mean, error, *_ = level.score
        axes.axhspan(mean - error, mean + error, color=color, alpha=0.2, linewidth=0)
        # Above the curves: a student that has become its teacher would hide it.
        axes.axhline(mean, color=color, linestyle=style, linewidth=1.4, label=level.name, zorder=3)
    last = max((curve.steps[-1] for curve in curves), default=1)
    axes.set_xlim(-0.015 * last, 1.015 * last)
    axes.margins(y=0.06)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("environment steps")
    axes.set_ylabel("return (sum of an episode's rewards)")
    plain_axes(axes)
    if title is not None:
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold", pad=8 if note is None else 22)
    if note is not None:
        axes.annotate(note, (0, 1), (0, 7), "axes fraction", textcoords="offset points", fontsize=8.5, color="#555555")
    # Beneath the axes: inside, one corner or another holds data in every environment.
    n_columns = min(3, len(curves) + len(levels))
    figure.legend(loc="outside lower center", ncols=n_columns, frameon=False, fontsize=9)
    return figure
