"""The paper's figures 2 to 7, and figure 8, which is not the paper's: each is run, drawn, put into numbers and into a sentence.

A figure is a function from a size and a folder for finished chunks to a :class:`Drawing`. One style for all: bands are 95%
confidence intervals over worlds, colours are Okabe and Ito's, and no two rows share both colour and dashes.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from sb3_distill.envs.grid_world import CELLS, look, random_cells
from sb3_distill.evaluation.learning_curves import COLORS, LEVEL_COLORS, plain_axes
from sb3_distill.evaluation.line_labels import label_ends
from sb3_distill.tabular import experiments
from sb3_distill.tabular.experiments import REACHED, Interval, Result, Size
from sb3_distill.tabular.oscillation import CENTRE, LIMIT, ROWS, orbit, returns

GREY = "#555555"
#: by row: a colour, a dash pattern
STYLES: dict[str, tuple[str, str]] = {
    "student": (COLORS[0], "-"),
    "teacher": (LEVEL_COLORS[0], "-"),
    "uniform": (COLORS[1], "-"),
    "teacher distill": (LEVEL_COLORS[0], "-"),
    "on-policy distill": (COLORS[0], "-"),
    "entropy regularised": (COLORS[3], "-"),
    "entropy regularised, unbiased form": (COLORS[3], ":"),
    "expected entropy": (COLORS[1], "-"),
    "expected entropy, r̂ weighs 1": (COLORS[1], ":"),
    "N-distill": (COLORS[2], "-"),
    "on-policy distill + R": (COLORS[0], "--"),
    "N-distill + R": (COLORS[2], "--"),
    "V-conditioned + R": (COLORS[1], "-."),
    "TD + V_π": (COLORS[3], "-"),
    "teacher V reward": ("#000000", "-"),
    "R alone": (GREY, ":"),
    "on_policy_distill": (COLORS[0], "-"),
    "n_distill": (COLORS[2], "-"),
}


class Drawing(NamedTuple):
    """
    A figure and what stands behind it.

    :param figure: to look at
    :param header: names of the columns
    :param rows: the numbers
    :param finding: in a sentence, with its figure
    """

    figure: Figure
    header: Sequence[str]
    rows: list[tuple[Any, ...]]
    finding: str


# --- style ------------------------------------------------------------------------------------------------------------


def canvas(width: float, height: float, rows: int = 1, columns: int = 1, **kwargs: Any) -> tuple[Figure, Any]:
    """
    :param width: in inches
    :param height: in inches
    :param rows: of axes
    :param columns: of axes
    :param kwargs: for matplotlib's ``subplots``
    :return: a figure that no global state knows about, and its axes
    """
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    return figure, figure.subplots(rows, columns, **kwargs)


def dress(axes: Axes, title: str, x: str, y: str, log: bool = True) -> None:
    """
    :param axes: to be labelled
    :param title: above them
    :param x: what goes right
    :param y: what goes up
    :param log: whether x is logarithmic
    """
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    plain_axes(axes, labelsize=8)


def band(axes: Axes, x: Any, mean: np.ndarray, half: np.ndarray, row: str, label: str | None = None) -> None:
    """
    :param axes: to draw on
    :param x: shape (K,)
    :param mean: shape (K,)
    :param half: width of the confidence interval, shape (K,)
    :param row: its style
    :param label: in the legend; the row's name by default
    """
    color, dash = STYLES[row]
    axes.fill_between(x, mean - half, mean + half, color=color, alpha=0.15, linewidth=0)
    axes.plot(x, mean, color=color, linestyle=dash, linewidth=1.7, label=label or row)


def below(figure: Figure, axes: Axes, columns: int, note: str) -> None:
    """
    A legend beneath the figure, where it hides nothing.

    :param figure: its own
    :param axes: whose lines are named
    :param columns: of the legend
    :param note: what bands and bars are
    """
    handles, labels = axes.get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    legend.set_title(note)
    legend.get_title().set_fontsize(8)


def intervals_over(result: Result) -> str:
    """
    :param result: of an experiment
    :return: what its bands are
    """
    return f"bands: 95% confidence intervals over {len(result.teacher):,} worlds"


def mean_and_half(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    :param values: worlds in the last axis
    :return: their mean, and half the width of its 95% confidence interval
    """
    return values.mean(-1), experiments.Z * values.std(-1, ddof=1) / np.sqrt(values.shape[-1])


def curve_rows(result: Result, *extra: Any) -> list[tuple[Any, ...]]:
    """
    :param result: of an experiment
    :param extra: what comes first in each row
    :return: row, steps, share of the teacher's return, its half interval
    """
    return [
        (*extra, row, int(step), f"{share:.5f}", f"{half:.5f}")
        for row in result.value
        for step, share, half in zip(result.steps, *result.share(row), strict=True)
    ]


def last(result: Result, row: str, of: str | None = None) -> tuple[float, float]:
    """
    :param result: of an experiment
    :param row: its name
    :param of: what it is compared with, see :meth:`~sb3_distill.tabular.experiments.Result.share`
    :return: the share of the return at the end, and half the width of its 95% confidence interval
    """
    share, half = result.share(row, of)
    return float(share[-1]), float(half[-1])


#: the rows of figure 4 that the paper sets against each other: which keeps its return, and which does not
COMPARED = ("expected entropy", "entropy regularised")


# --- the figures ------------------------------------------------------------------------------------------------------


def fig2(size: Size, folder: Path) -> Drawing:
    """The oscillation: on-policy distill circles, N-distill converges. Nothing is sampled."""
    figure, (plane, policies, losses) = canvas(12, 3.8, 1, 3)
    start = np.zeros(2)
    rows: list[tuple[Any, ...]] = []
    for name, duration, label in (
        ("on_policy_distill", 600.0, "on-policy distill"),
        ("n_distill", 3_000.0, "N-distill"),
    ):
        path = orbit(name, start, duration)
        color, _ = STYLES[name]
        plane.plot(*path.theta.T, color=color, linewidth=1.7)
        policies.plot(*path.policy.T, color=color, linewidth=1.7)
        shown = path.time <= 200
        losses.plot(path.time[shown], path.loss[shown], color=color, linewidth=1.7, label=label)
        thin = slice(None, None, 20)
        rows += [
            (label, f"{t:.1f}", *(f"{v:.6f}" for v in (*theta, *policy, loss)))
            for t, theta, policy, loss in zip(
                path.time[thin], path.theta[thin], path.policy[thin], path.loss[thin], strict=True
            )
        ]
        if name == "on_policy_distill":
            error = returns(path)
        else:
            distance, falls = float(np.abs(path.policy[-1] - LIMIT).max()), bool((np.diff(path.loss) < 0).all())
    for axes, centre, origin in ((plane, CENTRE, start), (policies, 1 / (1 + np.exp(-CENTRE)), np.array([0.5, 0.5]))):
        axes.plot(*origin, "o", color="black", markersize=6, label="start")
        axes.plot(*centre, "+", color="black", markersize=9, label="centre of the orbit")
    policies.plot(*LIMIT, "*", color="black", markersize=10, label="N-distill's limit", clip_on=False)
    plane.set(xlim=(-3.4, 3.4), ylim=(-1.6, 3.4))
    dress(plane, "Parameters", "θ₁", "θ₂", log=False)
    dress(policies, "Probabilities", "x = σ(θ₁)", "y = σ(θ₂)", log=False)
    policies.set(xlim=(0, 1), ylim=(0, 1))
    dress(losses, "Expected loss", "time", "E Σ ℓ", log=False)
    handles, labels = losses.get_legend_handles_labels()
    marks, names = policies.get_legend_handles_labels()
    figure.legend(handles + marks, labels + names, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    assert list(ROWS) == ["on_policy_distill", "n_distill"]
    finding = (
        f"On-policy distill goes {len(error)} times round and comes back to within {error.max():.1e} of its start each time, "
        f"as a share of its distance from the centre; N-distill's loss {'falls all the way' if falls else 'does not fall'} "
        f"and its policy ends {distance:.1e} from its limit."
    )
    return Drawing(figure, ("row", "time", "theta_1", "theta_2", "x", "y", "loss"), rows, finding)


def fig3(size: Size, folder: Path) -> Drawing:
    """Control policies: who should act while the student learns?"""
    headline = experiments.Setting.temperature
    results = {t: experiments.control_policies(size, folder, t) for t in experiments.TEMPERATURES}
    choices = experiments.other_choices(size, folder)
    result = results[headline]
    figure = Figure(figsize=(13, 7.4), dpi=110, layout="constrained")
    grid = figure.add_gridspec(2, 3)
    curves, sharpness, others = (figure.add_subplot(grid[0, k]) for k in range(3))
    for row in experiments.CONTROLS:
        band(curves, result.steps, *result.share(row), row, f"{row} acts")
    curves.axhline(REACHED, color="black", linewidth=1, linestyle=":")
    curves.annotate(f"{REACHED:.0%} of the teacher's", (12, REACHED + 0.015), fontsize=8)
    dress(curves, f"Return, τ = {headline:g}", "steps", "student's return / teacher's")

    gaps = {t: r.gap() for t, r in results.items()}
    low, mid, high = _bars(list(gaps.values()))
    sharpness.errorbar(list(gaps), mid, [mid - low, high - mid], color=COLORS[0], marker="o", markersize=5, capsize=3)
    sharpness.axhline(1, color="black", linewidth=1, linestyle=":")
    sharpness.annotate("as many", (min(gaps), 1.03), fontsize=8)
    dress(
        sharpness,
        "Steps of teacher control over student's",
        "τ of the teacher (left: deterministic)",
        "ratio of steps",
    )
    sharpness.set_ylim(0, _limit(mid))

    names = list(choices)[::-1]
    low, mid, high = _bars([choices[name] for name in names])
    others.errorbar(
        mid, range(len(names)), xerr=[mid - low, high - mid], color=COLORS[0], fmt="o", markersize=5, capsize=3
    )
    others.set_yticks(range(len(names)), names)
    others.axvline(1, color="black", linewidth=1, linestyle=":")
    dress(others, "The same ratio under other choices", "ratio of steps", "", log=False)
    others.set_xlim(0, _limit(mid))

    for k, who in enumerate(("student", "teacher", "uniform")):
        axes = figure.add_subplot(grid[1, k])
        for row in experiments.CONTROLS:
            band(axes, result.steps, *mean_and_half(result.kl[row][:, k]), row)
        dress(axes, f"KL in the states of {who}{'s' if who != 'uniform' else ' play'}", "steps", "KL(π‖π_θ), nats")
        axes.set_ylim(0, None)
    below(figure, curves, 3, f"{intervals_over(result)}; bars: the same over the worlds of that point")

    header = ("part", "name", "row", "steps", "value", "low", "high")
    rows: list[tuple[Any, ...]] = []
    for t, r in results.items():
        for row in experiments.CONTROLS:
            share, half = r.share(row)
            rows += _spread("return share", f"τ={t:g}", row, r.steps, share, half)
            for k, who in enumerate(("student", "teacher", "uniform")):
                rows += _spread(f"KL, states of {who}", f"τ={t:g}", row, r.steps, *mean_and_half(r.kl[row][:, k]))
    rows += [("gap", f"τ={t:g}", "", "", *(f"{v:.4f}" for v in g)) for t, g in gaps.items()]
    rows += [("gap, other choices", name, "", "", *(f"{v:.4f}" for v in g)) for name, g in choices.items()]
    steps = {row: float(result.steps_to(row)[0]) for row in experiments.CONTROLS}
    ladder = ", ".join(f"{g.value:.2f} at τ = {t:g}" for t, g in gaps.items())
    ahead = [_last_ahead(result, k) for k in range(3)]
    finding = (
        f"Student control reaches {REACHED:.0%} of the teacher's return in {steps['student']:,.0f} steps, teacher control in "
        f"{steps['teacher']:,.0f}: {gaps[headline]} times as many (95% interval over {len(result.teacher)} worlds); uniform "
        f"control in {steps['uniform']:,.0f}. The ratio by the teacher's temperature: {ladder}. Teacher control has the lower "
        f"KL up to step {ahead[1]:,} in the states that the teacher visits, {ahead[0]:,} in the student's own, {ahead[2]:,} in those "
        f"of uniform play; student control thereafter."
    )
    return Drawing(figure, header, rows, finding)


def _bars(intervals: list[Interval]) -> np.ndarray:
    """Low, middle and high ends, shape (3, n). An interval of few worlds may be open: its bar leaves the axes."""
    bars = np.minimum(np.array([(i.low, i.value, i.high) for i in intervals]).T, 1e3)
    return np.where(np.isnan(bars).any(0), 0.0, bars)


def _limit(values: np.ndarray) -> float:
    """The end of an axis for these, infinite ones and NaN apart."""
    return float(1.1 * values[values < 1e3].max(initial=1.0) + 1.0)


def _last_ahead(result: Result, k: int) -> int:
    """The last checkpoint at which teacher control has a lower KL than student control, in states of kind k; 0 if none."""
    lower = result.kl["teacher"][:, k].mean(-1) < result.kl["student"][:, k].mean(-1)
    return int(result.steps[lower].max(initial=0))


def _spread(
    part: str, name: str, row: str, steps: np.ndarray, mean: np.ndarray, half: np.ndarray
) -> list[tuple[Any, ...]]:
    """Rows of figure 3's table."""
    return [
        (part, name, row, int(s), f"{m:.5f}", f"{m - h:.5f}", f"{m + h:.5f}")
        for s, m, h in zip(steps, mean, half, strict=True)
    ]


def fig4(size: Size, folder: Path) -> Drawing:
    """Update rules as the number of actions grows."""
    results = experiments.many_actions(size, folder)
    choices = experiments.many_actions_otherwise(size, folder)
    counts = list(results)
    figure, (final, curves, *more) = canvas(15 if choices else 10, 4.8, 1, 3 if choices else 2)
    for row in experiments.MANY_ACTIONS:
        mean, half = np.transpose([last(r, row) for r in results.values()])
        band(final, counts, mean, half, row)
        final.plot(counts, mean, "o", color=STYLES[row][0], markersize=4)
        band(curves, results[counts[-1]].steps, *results[counts[-1]].share(row), row)
    random = [r.uniform.mean() / r.teacher.mean() for r in results.values()]
    final.plot(counts, random, color="#999999", linewidth=1, label="uniform play")
    curves.axhline(random[-1], color="#999999", linewidth=1)
    dress(final, f"After {size.n_steps:,} steps", "number of actions", "student's return / teacher's")
    final.set_xticks(counts, [f"{n}" for n in counts])
    dress(curves, f"With {counts[-1]:,} actions", "steps", "student's return / teacher's")

    of = "on-policy distill"
    ends = {row: [last(r, row, of) for r in results.values()] for row in COMPARED}
    otherwise = {row: [last(r, row, of) for r in choices.values()] for row in COMPARED}
    for others in more:
        for row, shares in otherwise.items():
            mean, half = np.transpose(shares)
            others.errorbar(
                mean, range(len(choices)), xerr=half, color=STYLES[row][0], fmt="o", markersize=5, capsize=3
            )
        others.set_yticks(range(len(choices)), list(choices))
        others.invert_yaxis()
        dress(others, f"Other choices, {counts[-1]:,} actions", "return / on-policy distill's", "", log=False)
    below(figure, final, 3, f"{intervals_over(results[counts[0]])}; bars: the same")

    keeps, loses = COMPARED
    lost, half = ends[loses][-1]
    finding = (
        f"From {counts[0]} to {counts[-1]:,} actions {keeps} keeps at least {min(ends[keeps])[0]:.0%} of {of}'s return; {loses} "
        f"falls to {lost:.0%} ± {half:.0%}, uniform play has {random[-1]:.0%} of the teacher's ({len(results[counts[0]].teacher)} "
        "worlds)."
    )
    if choices:
        finding += (
            f" Under {len(choices)} choices, {len(next(iter(choices.values())).teacher)} worlds each, {keeps} has "
            f"{min(otherwise[keeps])[0]:.0%} or more, {loses} "
            + ", ".join(f"{share:.0%} ({name})" for name, (share, _) in zip(choices, otherwise[loses], strict=True))
            + "."
        )
    rows = [("as chosen", n, "teacher", *row) for n, r in results.items() for row in curve_rows(r)]
    rows += [
        (name, counts[-1], of, row, int(choices[name].steps[-1]), f"{share:.5f}", f"{half:.5f}")
        for row, shares in otherwise.items()
        for name, (share, half) in zip(choices, shares, strict=True)
    ]
    return Drawing(figure, ("choice", "actions", "of", "row", "steps", "return_share", "half_interval"), rows, finding)


def fig5(size: Size, folder: Path) -> Drawing:
    """Imperfect teachers: who passes them?"""
    result = experiments.imperfect_teachers(size, folder)
    figure, axes = canvas(7.6, 4.6)
    for row in experiments.IMPROVING:
        band(axes, result.steps, *result.share(row), row)
    axes.axhline(1, color=LEVEL_COLORS[0], linewidth=1.4, linestyle="--")
    axes.annotate(
        "the teacher", (result.steps[0], 1), (0, 4), textcoords="offset points", fontsize=8, color=LEVEL_COLORS[0]
    )
    dress(
        axes,
        "A quarter of the teacher's actions is noise",
        f"steps; {intervals_over(result)}",
        "student's return / teacher's",
    )
    ends = [(row, last(result, row)[0], STYLES[row][0]) for row in experiments.IMPROVING]
    label_ends(axes, result.steps[-1], ends, gap=0.05, fontsize=9)
    final = {row: last(result, row) for row in experiments.IMPROVING}
    listed = "; ".join(f"{row} {share:.2f} ± {half:.2f}" for row, (share, half) in final.items())

    def passes(row: str) -> bool:
        return final[row][0] > 1 + final[row][1]

    finding = (
        f"Final returns over the teacher's, {len(result.teacher)} worlds: {listed}. V-conditioned + R "
        f"{'passes' if passes('V-conditioned + R') else 'does not pass'} the teacher, "
        f"on-policy distill {'passes it' if passes('on-policy distill') else 'does not'}."
    )
    return Drawing(figure, ("row", "steps", "return_share", "half_interval"), curve_rows(result), finding)


def fig6(size: Size, folder: Path) -> Drawing:
    """The corridor, with an optimal and an adversarial teacher."""
    results = experiments.corridors(size, folder)
    figure, panels = canvas(11, 5, 1, 2, sharey=True)
    rows: list[tuple[Any, ...]] = []
    ends, quick = {}, {}
    for axes, (kind, result) in zip(panels, results.items(), strict=True):
        for row, value in result.value.items():
            mean, half = mean_and_half(value)
            band(axes, result.steps, mean, half, row)
            rows += [
                (kind, row, int(s), f"{m:.5f}", f"{h:.5f}") for s, m, h in zip(result.steps, mean, half, strict=True)
            ]
            ends[kind, row] = mean[-1]
            quick[kind, row] = float(result.steps_to(row)[0])
        axes.axhline(result.teacher.mean(), color=LEVEL_COLORS[0], linewidth=1.4, linestyle="--", label="the teacher")
        dress(axes, f"{kind.capitalize()} teacher", "steps", "student's return" if axes is panels[0] else "")
    n_runs = len(next(iter(results.values())).teacher)
    below(
        figure,
        panels[0],
        4,
        f"means of {n_runs:,} runs; bands: 95% confidence intervals, mostly thinner than the lines",
    )
    good = [row for row in experiments.CORRIDOR if ends["adversarial", row] > 0.5]
    order = sorted(experiments.CORRIDOR, key=lambda row: quick["optimal", row])
    finding = (
        f"Optimal teacher: all rows end at {min(ends['optimal', row] for row in experiments.CORRIDOR):.2f} or more of at most "
        f"0.96; steps to {REACHED:.0%} of the teacher's return: "
        + ", ".join(f"{row} {quick['optimal', row]:,.0f}" for row in order)
        + f". Adversarial teacher: {', '.join(good)} recover; the others end at "
        f"{max(ends['adversarial', row] for row in experiments.CORRIDOR if row not in good):.2f} or less."
    )
    return Drawing(figure, ("teacher", "row", "steps", "return", "half_interval"), rows, finding)


def fig7(size: Size, folder: Path) -> Drawing:
    """Sampled worlds."""
    figure, panels = canvas(9, 6.6, 2, 3)
    rows: list[tuple[Any, ...]] = []
    n_worlds = panels.size
    for world, axes in enumerate(panels.flat):
        kinds = random_cells(size.seed * 10**6 + world)
        start = kinds.shape[0] // 2 * kinds.shape[1] + kinds.shape[1] // 2
        axes.imshow(look(kinds).picture(start, 14), interpolation="antialiased")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color("#cdcdcd")
        axes.set_title(f"world {world}", fontsize=9)
        rows += [(world, name, int((kinds == k).sum())) for k, name in enumerate(CELLS)]
    handles = [
        Patch(
            facecolor="#{:02x}{:02x}{:02x}".format(*cell.color),
            edgecolor="#999999",
            label=name
            if not cell.reward
            else f"{name} {cell.reward:+g}{', ends' if cell.terminal else ''}".replace("-", "−"),
        )
        for name, cell in CELLS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    goals = sum(count for _, name, count in rows if name == "goal")
    finding = (
        f"{n_worlds} of the worlds that figures 3 and 5 use; the disc is the start; {goals / n_worlds:.1f} goals each. Those of "
        "figure 4 have more pits."
    )
    return Drawing(figure, ("world", "cell", "count"), rows, finding)


def fig8(size: Size, folder: Path) -> Drawing:
    """The imitation gap: :mod:`sb3_distill.tabular.gap_figure`, which draws with what is above."""
    from sb3_distill.tabular.gap_figure import draw

    return draw(size, folder)


FIGURES: dict[str, Callable[[Size, Path], Drawing]] = {
    "fig2": fig2,
    "fig3": fig3,
    "fig4": fig4,
    "fig5": fig5,
    "fig6": fig6,
    "fig7": fig7,
    "fig8": fig8,
}
