"""Figure 8: the imitation gap in the forked road. Which rows follow a teacher to where they cannot follow it, and which turn away."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from sb3_distill.evaluation.learning_curves import LEVEL_COLORS
from sb3_distill.rules.methods import get_method
from sb3_distill.tabular.experiments import FULL, Size
from sb3_distill.tabular.figures import GREY, STYLES, Drawing, canvas, dress
from sb3_distill.tabular.gap_networks import STUDENTS, Found, networks
from sb3_distill.tabular.imitation_gap import (
    Road,
    detours,
    followable,
    settle,
    side_by_side,
    softest,
    takes_the_detour,
    turning_point,
    with_env_reward,
)

#: lines, and the row of the table that each is
ROWS = {
    "teacher distill": "teacher_distill",
    "on-policy distill": "on_policy_distill",
    "N-distill": "n_distill",
    "entropy regularised": "entropy_regularised",
    "expected entropy": "expected_entropy",
    "teacher V reward": "teacher_v_reward",
}
#: those that are drawn where the others lie on them: a label in the legend for each
DRAWN = {
    "on-policy distill": "teacher and on-policy distill",
    "N-distill": "N-distill",
    "expected entropy": "expected entropy, entropy regularised",
    "teacher V reward": "teacher V reward",
}
#: the teacher where its softness is not what is asked about; at a fork it is sure of the right door
SHARP = 0.05
SOFTNESS = tuple(np.geomspace(0.03, 3.0, 33).tolist())
FORKS: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
LENGTHS: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 8, 10)
DISCOUNT = 0.9
#: so near an exact probability a network is there, however small the interval over its seeds
NEAR = 0.001
WEIGHTS: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0)


class Point(NamedTuple):
    """
    Where a row ends.

    :param part: of the figure
    :param label: of the row
    :param form: of the row
    :param road: and its teacher
    :param gamma: γ of r̂
    :param weight: of the environment's reward
    :param detour: how likely it takes the detour, by following its update
    :param closed: the same in closed form
    :param value: its return
    """

    part: str
    label: str
    form: str
    road: Road
    gamma: float
    weight: float
    detour: float
    closed: float
    value: float


def ends(
    part: str, label: str, roads: Sequence[Road], gamma: float = 1.0, weight: float = 0.0, form: str = "unbiased"
) -> Iterator[Point]:
    """
    :param part: of the figure
    :param label: a key of ``ROWS``
    :param roads: of one length and one number of forks
    :param gamma: γ of r̂
    :param weight: of the environment's reward
    :param form: of the row
    :return: where the row ends on each
    """
    row, world = get_method(ROWS[label], form), side_by_side(list(roads))
    probs = settle(world, with_env_reward(row, weight), gamma).probs
    for road, detour, value in zip(
        roads, takes_the_detour(world, probs).tolist(), world.expected_return(probs).tolist(), strict=True
    ):
        closed = detours(road, row, gamma, weight)
        yield Point(part, label, form, road, gamma, weight, detour, closed, value)


def exact() -> list[Point]:
    """:return: all that is computed and not learnt"""
    points = [p for label in ROWS for p in ends("softness", label, [Road(tau) for tau in SOFTNESS])]
    for label in ROWS:
        if label != "teacher distill":  # which ends where on-policy distill does
            points += [p for n in FORKS for p in ends("forks", label, [Road(SHARP, forks=n)])]
            points += [p for n in LENGTHS for p in ends("length", label, [Road(SHARP, n)], DISCOUNT)]
    for n in LENGTHS[:4]:
        for label in ("N-distill", "expected entropy", "entropy regularised"):
            points += ends("length, the paper's form", label, [Road(SHARP, n)], form="paper")
    for label in ("on-policy distill", "N-distill", "expected entropy"):
        points += [p for w in WEIGHTS for p in ends("weight of R", label, [Road()], weight=w)]
    return points


def draw(size: Size, folder: Path) -> Drawing:
    """
    :param size: of the experiments: a full one has all students and five seeds of each, which learn for half its steps
    :param folder: for finished runs of networks
    :return: figure 8
    """
    points = exact()
    students, n_seeds = (STUDENTS, 5) if size.n_mdps >= FULL.n_mdps else (STUDENTS[1:3], 2)
    found = networks(students, n_seeds, size.n_steps // 2, size.seed, folder)
    figure, panels = canvas(14, 8, 2, 3)
    (softness, value, forks), (length, weight, nets) = panels
    _lines(softness, points, "softness", lambda p: p.road.temperature, lambda p: p.detour)
    _lines(value, points, "softness", lambda p: p.road.temperature, lambda p: p.value)
    _lines(forks, points, "forks", lambda p: p.road.forks, lambda p: p.detour)
    _lines(length, points, "length", lambda p: p.road.length, lambda p: p.detour)
    _lines(weight, points, "weight of R", lambda p: p.weight, lambda p: p.detour)
    roads = [Road(tau) for tau in SOFTNESS]
    world = side_by_side(roads)
    teacher, best = world.mdp.expected_return(world.mdp.teacher_logits.softmax(-1)), followable(world)
    value.plot(SOFTNESS, teacher, color=LEVEL_COLORS[0], linestyle="--", linewidth=1.4, label="the teacher")
    value.plot(SOFTNESS, best, color=GREY, linestyle=":", linewidth=1.7, label="the best that can be followed")
    value.set_ylim(-0.03, 1.03)
    turns = softest(Road(), lambda road: turning_point(road, get_method("expected_entropy")))
    assert turns is not None
    softness.axvline(turns, color=STYLES["expected entropy"][0], linewidth=1, linestyle=":")
    softness.annotate(f"τ = {turns:.2f}", (turns, 0.93), (4, 0), textcoords="offset points", fontsize=8)
    threshold = (2 - 4 * Road().teacher_detours) / Road().detour
    weight.axvline(threshold, color=STYLES["on-policy distill"][0], linewidth=1, linestyle=":")
    weight.annotate(f"{threshold:.2f}", (threshold, 0.03), (4, 0), textcoords="offset points", fontsize=8)
    far = np.log(1 - Road().detour) / np.log(DISCOUNT) - 1
    length.axvline(far, color=STYLES["expected entropy"][0], linewidth=1, linestyle=":")
    length.annotate("γᴸ⁺¹ = ½", (far, 0.93), (4, 0), textcoords="offset points", fontsize=8)
    for axes, title, x in (
        (softness, "The softer the teacher", "τ of the teacher"),
        (forks, f"The more forks, τ = {SHARP:g}", "forks"),
        (length, f"The longer the road before the fork, γ = {DISCOUNT:g}", "steps of plain road, L"),
        (weight, "With the environment's reward, τ = 0.25", "weight of R"),
    ):
        axes.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
        dress(axes, title, x, "P(detour)", log=axes is softness)
        axes.set_ylim(-0.03, 1.03)
    dress(value, "What it is worth", "τ of the teacher", "return")
    _networks(nets, found)
    handles, labels = value.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return Drawing(figure, HEADER, [*map(_of_point, points), *map(_of_found, found)], _finding(points, found, turns))


def _lines(
    axes: Axes, points: list[Point], part: str, x: Callable[[Point], float], y: Callable[[Point], float]
) -> None:
    for label, name in DRAWN.items():
        mine = [p for p in points if (p.part, p.label) == (part, label)]
        color, dash = STYLES[label]
        marker = "o" if part in ("forks", "length") else None
        axes.plot(
            [*map(x, mine)],
            [*map(y, mine)],
            dash,
            color=color,
            marker=marker,
            markersize=3.5,
            linewidth=1.7,
            label=name,
        )


def _networks(axes: Axes, found: list[Found]) -> None:
    """Means and intervals of networks beside what the analysis says, one line each."""
    names = [one.student.label for one in found]
    for y, one in enumerate(found):
        mean, half = Found.interval(one.detour)
        said, _ = one.student.exact()
        axes.plot(
            [said], [y], "|", color="black", markersize=13, markeredgewidth=1.6, label="exact" if y == 0 else None
        )
        axes.errorbar([mean], [y], xerr=[half], color=_color(one.student.row), marker="o", markersize=4.5, capsize=3)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    dress(axes, "Networks, τ = 0.25 (bars: the exact end)", "P(detour)", "", log=False)
    axes.set_xlim(-0.03, 1.03)
    axes.tick_params(axis="y", labelsize=7.5)


def _color(row: str) -> str:
    return next(STYLES[label][0] for label, name in ROWS.items() if name == row)


HEADER = (
    *("part", "row", "form", "gamma", "weight_of_R", "tau", "length", "forks"),
    *("detour", "detour_half_interval", "detour_closed_form", "return", "return_half_interval", "return_exact"),
)


def _of_point(p: Point) -> tuple[Any, ...]:
    settings = (p.part, p.label, p.form, f"{p.gamma:g}", f"{p.weight:g}", f"{p.road.temperature:.6g}")
    numbers = (f"{p.detour:.10f}", "", f"{p.closed:.10f}", f"{p.value:.10f}", "", "")
    return (*settings, p.road.length, p.road.forks, *numbers)


def _of_found(one: Found) -> tuple[Any, ...]:
    s = one.student
    detour, value, said = Found.interval(one.detour), Found.interval(one.value), s.exact()
    settings = ("networks", s.label, "unbiased", f"{s.gamma:g}", f"{s.env_weight:g}", f"{s.road.temperature:.6g}")
    numbers = (*(f"{v:.5f}" for v in (*detour, said[0])), *(f"{v:.5f}" for v in (*value, said[1])))
    return (*settings, s.road.length, s.road.forks, *numbers)


def _finding(points: list[Point], found: list[Found], turns: float) -> str:
    apart = max(abs(p.detour - p.closed) for p in points)
    counts = {
        label: [p.road.forks for p in points if (p.part, p.label) == ("forks", label) and p.detour > 0.5]
        for label in DRAWN
    }
    turn = ", ".join(f"{DRAWN[label]} {f'from {min(n)} on' if n else 'never'}" for label, n in counts.items())
    return (
        f"The detour is taken more often than not, by the number of forks: {turn}. Of one fork, expected entropy and entropy regularised "
        f"turn away where the teacher is sharper than τ = {turns:.3f}. Followed updates and closed forms differ by at most {apart:.0e}. "
        + _of_networks(found)
    )


def _of_networks(found: list[Found]) -> str:
    """In a sentence, which networks are where the analysis says, and each that is not."""
    told, near, furthest = [], 0, 0.0
    stated = [one for one in found if not one.student.defaults]
    for one in found:
        (mean, half), (said, _) = Found.interval(one.detour), one.student.exact()
        is_near = abs(mean - said) <= max(half, NEAR)
        if one in stated:
            near, furthest = near + is_near, max(furthest, abs(mean - said))
        if not is_near or one not in stated:
            told.append(f"{one.student.label} {mean:.3f} ± {half:.3f} (exact {said:.3f})")
    return (
        f"Networks that learn by the rows as stated: in {near} of {len(stated)} the exact P(detour) is within the 95% interval, or "
        f"{NEAR:g} from the mean; the furthest is {furthest:.3f} away"
        + (f". Of the others: {'; '.join(told)}." if told else ".")
    )
