"""How what a run has found is told: for ``results.json``, in words, and as a curve."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sb3_distill.common.files import write_csv, write_figure
from sb3_distill.evaluation import learning_curves, scores
from sb3_distill.evaluation.learning_curves import LearningCurve
from sb3_distill.evaluation.scores import Player, Score
from sb3_distill.experiment.comparison import Likeness, Share
from sb3_distill.experiment.settings import Settings


def comparison_data(share: Share | None, alike: Likeness, next_try: str | None) -> dict[str, Any]:
    """
    :param share: of the teacher's return; None if it is not better than random play
    :param alike: how alike the two act
    :param next_try: what :func:`~sb3_distill.experiment.advice.advice` says
    :return: for ``results.json``
    """
    return {
        "share_of_teacher": None if share is None else share.mean,
        "standard_error": None if share is None else share.standard_error,
        **alike._asdict(),
        "advice": next_try,
    }


def comparison_lines(share: Share | None, alike: Likeness, next_try: str | None) -> list[str]:
    """
    :param share: as for :func:`comparison_data`, as the others
    :return: the same in words
    """
    if share is None:
        lines = ["The teacher is not better than random play here, so that there is no share of its return to tell."]
    else:
        lines = [
            f"The student has {share.mean:.1%} ± {share.standard_error:.1%} of the teacher's return over random play."
        ]
    parts = []
    if alike.agreement is not None:
        parts.append(f"the same greedy action in {alike.agreement:.1%}")
    if alike.mean_distance is not None:
        parts.append(f"greedy actions {alike.mean_distance:.3g} apart")
    if alike.kl is not None:
        parts.append(f"KL(π‖π_θ) {alike.kl:.3g}")
    if parts:
        lines.append(f"On {alike.n_states:,} states of the student's play: {', '.join(parts)}.")
    if next_try is not None:
        lines.append(f"Below 95%: {next_try}.")
    return lines


def write_curve(
    out: Path, settings: Settings, curve: LearningCurve, players: list[Player], later: Sequence[tuple[int, Score]] = ()
) -> None:
    """
    Write ``learning_curve.csv`` and draw it as ``learning_curve.png``.

    :param out: a folder
    :param settings: of the experiment
    :param curve: of the student
    :param players: of whom the student has a curve, and the others a horizontal line each
    :param later: points of what followed the distillation
    """
    unit = "minibatches" if settings.memory else "environment steps"
    write_csv(
        out / "learning_curve.csv",
        [unit.replace(" ", "_"), "mean_return", "standard_error", "n_episodes", "episodes_cut"],
        [(steps, *point) for steps, point in (*curve.points, *later)],
    )
    names = {p.name: f"{p.name}, {p.parameters:,} parameters" if p.parameters else p.name for p in players}
    levels = [learning_curves.Level(names[p.name], scores.score(p.returns)) for p in players if p.name != "student"]
    note = f"mean ± standard error of {curve.n_episodes} episodes (student) or {settings.eval_episodes} (teacher, random play)"
    curves = [curve.curve(names["student"])]
    if later:
        went_on = [curve.points[-1], *later]
        steps, means, errors = zip(*((steps, s.mean, s.standard_error) for steps, s in went_on), strict=True)
        curves.append(learning_curves.Curve("reinforcement", steps, means, errors))
    figure = learning_curves.draw_learning_curves(curves, levels, settings.title, note)
    if later:
        figure.axes[0].axvline(curve.points[-1][0], color="#999999", linewidth=1.0, zorder=0)
    figure.axes[0].set_xlabel(unit)
    write_figure(out / "learning_curve.png", figure)
