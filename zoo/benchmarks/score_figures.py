"""Figures of scores relative to the teacher's: of several kinds of students, against size, and while they learn."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, StrMethodFormatter

from sb3_distill.evaluation.learning_curves import COLORS, LEVEL_COLORS, plain_axes
from sb3_distill.evaluation.line_labels import label_ends
from sb3_distill.zoo.benchmarks.relative_scores import Relative

GREY = "#777777"
#: of ten Atari games (Rusu et al. 2015)
PAPER = {"25%": 1.08, "7%": 1.02, "4%": 0.84}


def scores(columns: Mapping[str, Mapping[str, Relative]], means: Mapping[str, Relative], title: str) -> Figure:
    """
    A line of dots for each task, and one for the geometric means.

    :param columns: from columns to tasks to scores
    :param means: from columns to geometric means
    :param title: above
    :return: a figure that no global state knows about
    """
    tasks = [*next(iter(columns.values())), "geometric mean"]
    figure = Figure(figsize=(6.8, 0.9 + 0.38 * len(tasks)), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    n = len(columns)
    for k, (name, by_task) in enumerate(columns.items()):
        shown = [*by_task.values(), means[name]]
        rows = np.arange(len(tasks)) + 0.22 * (k - (n - 1) / 2)
        axes.errorbar(
            [score.mean for score in shown],
            rows,
            xerr=[score.error for score in shown],
            fmt="o",
            markersize=4.5,
            linewidth=1.2,
            color=COLORS[k],
            label=name,
        )
    axes.axvline(1, color=LEVEL_COLORS[0], linestyle="--", linewidth=1.2, zorder=0, label="the teacher")
    axes.axhline(len(tasks) - 1.5, color=GREY, linewidth=0.8)
    axes.set_yticks(range(len(tasks)), tasks)
    axes.invert_yaxis()
    axes.set_xlabel("score relative to the teacher's (0 is random play); bars are standard errors")
    plain_axes(axes, "x", labelsize=8)
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold")
    if n > 1:
        figure.legend(loc="outside lower center", ncols=n + 1, frameon=False, fontsize=9)
    return figure


def score_against_size(
    columns: Mapping[str, Mapping[str, Relative]], means: Mapping[str, Relative], title: str
) -> Figure:
    """
    A thin line for each task, a thick one for the geometric means, and the paper's; each has its name beside it.

    :param columns: from shares such as ``"25%"`` to tasks to scores
    :param means: from shares to geometric means
    :param title: above
    :return: a figure that no global state knows about
    """
    figure = Figure(figsize=(6.8, 4.6), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    shares = sorted(columns, key=_percent)
    x = [_percent(share) for share in shares]
    ends = []
    for task, by_share in ((task, [columns[share][task].mean for share in shares]) for task in columns[shares[0]]):
        axes.plot(x, by_share, color=GREY, linewidth=0.8, alpha=0.6)
        ends.append((task, by_share[-1], GREY))
    y = [means[share].mean for share in shares]
    errors = [means[share].error for share in shares]
    axes.errorbar(x, y, yerr=errors, fmt="o-", color=COLORS[0], linewidth=2)
    ends.append(("geometric mean ± its error", y[-1], COLORS[0]))
    paper = [PAPER[share] for share in shares]
    axes.plot(x, paper, "s--", color=COLORS[1])
    ends.append(("the paper's, ten Atari games", paper[-1], COLORS[1]))
    axes.axhline(1, color=LEVEL_COLORS[0], linestyle="--", linewidth=1.2, zorder=0)
    axes.annotate("the teacher", (x[0], 1), (2, 4), textcoords="offset points", fontsize=8, color=LEVEL_COLORS[0])
    axes.set_xscale("log")
    axes.set_xlim(3.6, 26)
    axes.set_xticks(x, shares)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("student's parameters, of the teacher's")
    axes.set_ylabel("score relative to the teacher's")
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold")
    plain_axes(axes, labelsize=8)
    label_ends(axes, x[-1], ends, gap=0.045)
    return figure


def curves(
    by_task: Mapping[str, Mapping[str, Sequence[tuple[Sequence[int], Sequence[float]]]]], level: float
) -> Figure:
    """
    Learning curves, one picture a task: thick lines are means over the seeds, thin ones the seeds.

    :param by_task: from tasks to names of curves to runs: steps and scores
    :param level: a horizontal line
    :return: a figure that no global state knows about
    """
    n_columns = min(3, len(by_task))
    n_rows = -(-len(by_task) // n_columns)
    figure = Figure(figsize=(3.2 * n_columns, 0.5 + 2.2 * n_rows), dpi=160, layout="constrained")
    grid: Any = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True)
    for k, axes in enumerate(grid.flat):
        axes.set_visible(k < len(by_task))
    for k, (axes, (task, by_name)) in enumerate(zip(grid.flat, by_task.items(), strict=False)):
        for color, (name, runs) in zip(COLORS, by_name.items(), strict=False):
            for _, run in runs:
                axes.plot(runs[0][0], run, color=color, linewidth=0.6, alpha=0.4)
            mean = np.mean([run for _, run in runs], axis=0)
            axes.plot(runs[0][0], mean, color=color, linewidth=1.8, label=name if k == 0 else None)
        dashed = None if k else f"{level:.0%} of the teacher's"
        axes.axhline(level, color=LEVEL_COLORS[0], linestyle="--", linewidth=1, zorder=0, label=dashed)
        axes.set_title(task, loc="left", fontsize=9, fontweight="bold")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.set_ylim(-0.2, 1.4)
        plain_axes(axes, labelsize=8)
    figure.supxlabel("environment steps", fontsize=9)
    figure.supylabel("score relative to the teacher's", fontsize=9)
    figure.legend(loc="outside upper right", ncols=5, frameon=False, fontsize=9)
    return figure


def _percent(share: str) -> float:
    return float(share.rstrip("%"))
