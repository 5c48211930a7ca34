"""Figures of a study, in the style of the documentation's: scores, performance profiles, learning curves with bands."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from sb3_distill.common.files import write_figure
from sb3_distill.evaluation.learning_curves import COLORS, LEVEL_COLORS, plain_axes
from sb3_distill.study.estimates import TAIL, estimate, iqm, mean_of_tasks, profile_band, share_above
from sb3_distill.study.scores import Scored, Scores
from sb3_distill.study.tables import THRESHOLDS

#: samples of a band: it is drawn, and not read off
SAMPLES = 500
STYLES = ("-", "--", ":", "-.")
SHARE = "share of the teacher's return over random play"


def write_figures(folder: Path, title: str, scores: Scores) -> list[Path]:
    """
    :param folder: where the files go
    :param title: of the study
    :param scores: of it
    :return: the files; none if no run has a score
    :raises OSError: if the disk is full
    """
    if not any(scores.by_task(method) for method in scores.methods):
        return []
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"scores": score_figure, "profiles": profile_figure, "curves": curve_figure}
    paths = []
    for name, draw in drawn.items():
        paths.append(folder / f"{name}.png")
        write_figure(paths[-1], draw(scores, title))
    return paths


def score_figure(scores: Scores, title: str) -> Figure:
    """
    :param scores: of a study
    :param title: above
    :return: mean and IQM of each method over all tasks, with their intervals
    """
    methods = [method for method in scores.methods if scores.by_task(method)]
    figure = Figure(figsize=(6.8, 1.5 + 0.34 * len(methods)), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    for k, (name, marker) in enumerate((("IQM", "o"), ("mean", "D"))):
        for row, method in enumerate(methods):
            by_task = scores.by_task(method)
            statistic = iqm if name == "IQM" else mean_of_tasks([len(task) for task in by_task])
            found = estimate(by_task, statistic)
            y = row + (0.14 if k else -0.14)
            if np.isfinite(found.low):
                axes.plot([found.low, found.high], [y, y], color=COLORS[k], linewidth=2, alpha=0.6)
            axes.plot([found.value], [y], marker, color=COLORS[k], markersize=5, label=None if row else name)
    axes.axvline(1, color=LEVEL_COLORS[0], linestyle="--", linewidth=1.2, zorder=1.5, label="the teacher")
    axes.set_yticks(range(len(methods)), methods)
    axes.invert_yaxis()
    axes.set_xlabel(f"{SHARE}; 95% intervals", fontsize=9)
    plain_axes(axes, "x", labelsize=8)
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def profile_figure(scores: Scores, title: str) -> Figure:
    """
    :param scores: of a study
    :param title: above
    :return: performance profiles with 95% bands
    """
    figure = Figure(figsize=(6.4, 4.4), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    for k, method in enumerate(scores.methods):
        by_task = scores.by_task(method)
        if not by_task:
            continue
        color, style = _look(k)
        low, high = profile_band(by_task, THRESHOLDS)
        axes.fill_between(THRESHOLDS, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(THRESHOLDS, share_above(by_task, THRESHOLDS), style, color=color, linewidth=1.8, label=method)
    axes.axvline(1, color=LEVEL_COLORS[0], linestyle="--", linewidth=1.2, zorder=1.5, label="the teacher")
    axes.set_xlim(THRESHOLDS[0], THRESHOLDS[-1])
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(f"τ: {SHARE}")
    axes.set_ylabel("share of runs with more than τ")
    plain_axes(axes, labelsize=8)
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold")
    _legend(figure, len(scores.methods) + 1)
    return figure


def curve_figure(scores: Scores, title: str) -> Figure:
    """
    :param scores: of a study
    :param title: above
    :return: learning curves, one picture a task: means over the seeds, with 95% bands
    """
    n_columns = min(3, len(scores.tasks))
    n_rows = -(-len(scores.tasks) // n_columns)
    width = 6.4 if n_columns == 1 else 3.2 * n_columns
    figure = Figure(figsize=(width, 1.2 + (3.4 if n_columns == 1 else 2.2) * n_rows), dpi=160, layout="constrained")
    grid: Any = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True)
    labelled: set[str] = set()
    for k, axes in enumerate(grid.flat):
        axes.set_visible(k < len(scores.tasks))
    for axes, task in zip(grid.flat, scores.tasks, strict=False):
        for k, method in enumerate(scores.methods):
            runs = [r for r in scores.runs.get((task, method), []) if len(r.steps) and np.isfinite(r.share)]
            if not runs:
                continue
            color, style = _look(k)
            steps, mean, low, high = band(runs)
            axes.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
            label = None if method in labelled else method
            axes.plot(steps, mean, style, color=color, linewidth=1.6, label=label)
            labelled.add(method)
        named = None if axes is not grid.flat[0] else "the teacher"
        axes.axhline(1, color=LEVEL_COLORS[0], linestyle="--", linewidth=1, zorder=1.5, label=named)
        axes.set_title(task, loc="left", fontsize=9, fontweight="bold")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.set_ylim(-0.25, 1.25)
        plain_axes(axes, labelsize=8)
        axes.set_xlabel("environment steps", fontsize=8)
    figure.supylabel(SHARE, fontsize=9)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    _legend(figure, len(labelled) + 1)
    return figure


def band(runs: Sequence[Scored]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """
    :param runs: of one task and method
    :return: steps, the mean share of the runs there, and ends of its pointwise 95% interval of a bootstrap over runs, shape (n,) each.
        Between the points of a curve it is straight
    """
    last = min(float(run.steps[-1]) for run in runs)
    steps = np.unique(np.concatenate([run.steps for run in runs]))
    steps = steps[steps <= last]
    curves = np.array([np.interp(steps, run.steps, run.curve) for run in runs])
    drawn = np.random.default_rng(0).integers(len(runs), size=(SAMPLES, len(runs)))
    means = curves[drawn].mean(axis=1)
    low, high = np.quantile(means, [TAIL, 1 - TAIL], axis=0)
    return steps, curves.mean(axis=0), low, high


def _look(k: int) -> tuple[str, str]:
    return COLORS[k % len(COLORS)], STYLES[k // len(COLORS) % len(STYLES)]


def _legend(figure: Figure, n: int) -> None:
    figure.legend(loc="outside lower center", ncols=min(3, max(1, n)), frameon=False, fontsize=8)
