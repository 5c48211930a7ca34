"""``sb3-distill paper`` and ``recommend``: the figures of *Distilling Policy Distillation*, and its advice."""

import argparse
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sb3_distill.cli.arguments import whole

if TYPE_CHECKING:
    from sb3_distill.tabular.experiments import Size

FIGURES = ("fig2", "fig3", "fig4", "fig5", "fig6", "fig7", "fig8")
QUESTIONS = {
    "strong": "Is the teacher strong: is a student that plays as it does good enough? No, if it is imperfect: noisy, weak, stopped early",
    "improve": "Do you prefer improvement over speed: shall the student go on to pass its teacher?",
    "guarantee": "Do you want a convergence guarantee: an update that is the gradient of something?",
    "value": "Has the teacher a value function that you trust?",
}


def add_commands(commands: Any) -> None:
    """
    :param commands: the subparsers of ``sb3-distill``
    """
    paper = commands.add_parser(
        "paper",
        help="reproduce the figures of Distilling Policy Distillation",
        description="Run the experiment behind a figure of Czarnecki et al. 2019, draw it, and say what it finds. An "
        "interrupted run goes on where it was.",
    )
    paper.add_argument("figure", metavar="FIGURE", help=f"{', '.join(FIGURES)} or all")
    paper.add_argument("--quick", action="store_true", help="a small version: all of it in 90 seconds")
    paper.add_argument(
        "--seed", default=0, type=whole(0), metavar="N", help="of everything random (default: %(default)s)"
    )
    paper.add_argument(
        "--out", default="runs/paper", metavar="FOLDER", help="where the files go (default: %(default)s)"
    )
    paper.set_defaults(prepare=prepare_paper)

    recommend = commands.add_parser(
        "recommend",
        help="which method to use",
        description="Ask the questions of the paper's figure 1, those that no option answers, and name a method.",
    )
    for name, question in QUESTIONS.items():
        recommend.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, help=question)
    recommend.set_defaults(prepare=prepare_recommend)


# --- paper ------------------------------------------------------------------------------------------------------------


def prepare_paper(args: argparse.Namespace) -> Callable[[], None]:
    """
    :param args: see ``sb3-distill paper --help``
    :return: runs and writes
    :raises ValueError: for a figure that there is not; ImportError without numba, OSError for a folder that cannot be
    """
    from sb3_distill.common.folders import check_folder
    from sb3_distill.common.nearest import nearest

    names = FIGURES if args.figure == "all" else (args.figure,)
    if args.figure not in (*FIGURES, "all"):
        raise ValueError(f"Unknown figure {args.figure!r}: {nearest(args.figure, [*FIGURES, 'all'])}")

    from sb3_distill.tabular.experiments import FULL, QUICK, Size

    size = QUICK if args.quick else FULL
    out = Path(args.out).expanduser()
    check_folder(out, "choose another with --out")
    (out / "chunks").mkdir(parents=True, exist_ok=True)
    return partial(draw_figures, names, Size(size.n_mdps, size.n_steps, args.seed), out)


def draw_figures(names: tuple[str, ...], size: "Size", out: Path) -> None:
    """
    :param names: of figures
    :param size: of the experiments
    :param out: where the files go. Finished chunks of work are kept in ``chunks`` until all figures are written, so that a run
        of several that is interrupted goes on in the middle of the last one
    :raises KeyboardInterrupt: if it is interrupted
    """
    from sb3_distill.common.files import write_csv, write_figure
    from sb3_distill.common.phases import phase
    from sb3_distill.tabular.figures import FIGURES as functions

    begin = time.perf_counter()
    chunks = {name: out / "chunks" / f"{name}-{size.n_mdps}-{size.n_steps}-{size.seed}" for name in names}
    for name in names:
        start = time.perf_counter()
        try:
            with phase(f"The experiment of {name}"):
                drawing = functions[name](size, chunks[name])
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the same command goes on where it was") from None
        write_csv(out / f"{name}.csv", drawing.header, drawing.rows)
        write_figure(out / f"{name}.png", drawing.figure)
        seconds = time.perf_counter() - start
        sys.stdout.write(f"{name}: {drawing.finding}\n      {out / name}.png and .csv, {seconds:.1f} s\n")
        sys.stdout.flush()
    for folder in chunks.values():
        shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # another run's are in it
        (out / "chunks").rmdir()
    if len(names) > 1:
        sys.stdout.write(f"{len(names)} figures in {time.perf_counter() - begin:.1f} s\n")


# --- recommend --------------------------------------------------------------------------------------------------------


def prepare_recommend(args: argparse.Namespace) -> Callable[[], None]:
    """
    :param args: see ``sb3-distill recommend --help``
    :return: asks what was not said, and answers
    :raises ValueError: if something was not said and nobody can be asked
    """
    from sb3_distill.tabular.recommend import missing

    answers = {name: getattr(args, name) for name in QUESTIONS}
    unanswered = missing(answers)
    if unanswered and not sys.stdin.isatty():
        flags = ", ".join(f"--{name} or --no-{name}" for name in unanswered)
        raise ValueError(f"There is nobody to ask: add {flags}.")
    return partial(recommend, answers)


def recommend(answers: dict[str, bool | None]) -> None:
    """
    :param answers: to the questions, None where there is none
    """
    from sb3_distill.tabular.recommend import missing, recommendation

    while unanswered := missing(answers):
        answers[unanswered[0]] = ask(QUESTIONS[unanswered[0]])
    advice = recommendation(answers)
    sys.stdout.write(f"{advice.title}\n\nwhy:  {advice.reason}\n\n{advice.code}\n")


def ask(question: str) -> bool:
    """
    :param question: to be answered by yes or no, until it is
    :return: whether it was yes
    """
    while True:
        sys.stdout.write(f"{question} [y/n] ")
        sys.stdout.flush()
        answer = sys.stdin.readline()
        if not answer:
            raise KeyboardInterrupt  # the end of the input: nobody will answer
        if answer.strip().lower() in ("y", "yes", "n", "no"):
            return answer.strip().lower().startswith("y")
