"""``sb3-distill teachers``, ``inspect`` and ``push``: what is at hand, what a file is, and where a student goes."""

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from sb3_distill.zoo.inspection import AtHand, Inspection


def add_commands(commands: Any) -> None:
    """
    :param commands: the subparsers of ``sb3-distill``
    """
    teachers = commands.add_parser(
        "teachers",
        help="list the teachers at hand",
        description="List the bundled agents, and those in the folders that RL_TRAINED_AGENTS names.",
    )
    teachers.set_defaults(prepare=prepare_teachers)
    inspect = commands.add_parser(
        "inspect",
        help="show what a checkpoint is, without running it",
        description="Show what a checkpoint is, what SB3's load would execute in it, and whether it can teach.",
    )
    inspect.add_argument("path", metavar="PATH", help="an SB3 zip, or a folder: every zip beneath it")
    inspect.set_defaults(prepare=prepare_inspect)
    from sb3_distill.zoo import push

    push.add_options(
        commands.add_parser(
            "push",
            help="put a student on the Hugging Face Hub",
            description="Put a student and a model card on the Hugging Face Hub.",
        )
    )


def prepare_teachers(args: argparse.Namespace) -> Callable[[], None]:
    """
    :param args: nothing
    :return: prints the table
    """
    return show_teachers


def show_teachers() -> None:
    """Print what :func:`~sb3_distill.zoo.inspection.teachers_at_hand` finds."""
    from sb3_distill.report import show
    from sb3_distill.zoo.inspection import teachers_at_hand

    show(teachers_table(teachers_at_hand()))
    sys.stdout.write("* of the last episodes of training, in which the agent explored and still learnt.\n")
    if not os.environ.get("RL_TRAINED_AGENTS"):
        sys.stdout.write("Set RL_TRAINED_AGENTS to a folder of the RL Zoo's trained agents to have more.\n")


def teachers_table(teachers: "list[AtHand]") -> "Table":
    """
    :param teachers: at hand
    :return: a line for each
    """
    from rich.table import Table

    table = Table(title=f"{len(teachers)} teachers at hand: load_teacher('zoo:NAME')")
    for column in ("name", "teaches as", "parameters", "reported return", "source", "licence"):
        table.add_column(column, justify="right" if column in ("parameters", "reported return") else "left")
    for teacher in teachers:
        about = teacher.inspection
        table.add_row(
            *map(
                plain,
                (
                    teacher.name,
                    about.teacher or f"cannot: {about.problem}",
                    f"{about.n_parameters:,}",
                    reported(about),
                    teacher.source,
                    teacher.licence,
                ),
            )
        )
    return table


def plain(text: str) -> str:
    """
    :param text: from a file that may lie
    :return: without what a terminal would obey, and without rich's markup
    """
    from rich.markup import escape

    return escape("".join(c if c.isprintable() else "?" for c in text))


def reported(about: "Inspection") -> str:
    """
    :param about: a checkpoint
    :return: mean ± standard deviation of the return that its files report
    """
    if about.reported is None:
        return "?"
    star = "*" if "training" in about.reported.source else ""
    return f"{about.reported.mean:.1f} ± {about.reported.std:.1f}{star}"


def prepare_inspect(args: argparse.Namespace) -> Callable[[], None]:
    """
    :param args: see ``sb3-distill inspect --help``
    :return: prints what the files are
    :raises FileNotFoundError: if there is no zip
    """
    from sb3_distill.zoo.inspection import checkpoints_in

    path = Path(args.path).expanduser()
    return partial(show_inspections, checkpoints_in(path), path.is_dir())


def show_inspections(paths: list[Path], in_short: bool) -> None:
    """
    :param paths: of zips
    :param in_short: a line for each, and not a table for each
    """
    from sb3_distill.report import show
    from sb3_distill.zoo.inspection import inspect
    from sb3_distill.zoo.teachers import BUNDLED

    inspect(
        next(BUNDLED.rglob("*.zip"))
    )  # torch imports parts of itself at the first network, which is no file's fault
    about = [inspect(path) for path in paths]
    if in_short:
        show(inspections_table(about))
        can = sum(a.teacher is not None for a in about)
        slowest = max(a.seconds for a in about)
        sys.stdout.write(f"{can} of {len(about)} can teach. The slowest took {slowest:.3f} s to read and rebuild.\n")
    else:
        for one in about:
            show(inspection_table(one))


def inspections_table(about: "list[Inspection]") -> "Table":
    """
    :param about: checkpoints
    :return: a line for each
    """
    from rich.table import Table

    table = Table(title="what SB3's load would execute, and what is read instead")
    for column in ("file", "made by SB3", "policy", "numbers", "teaches as", "pickles", "beyond the usual", "seconds"):
        table.add_column(column, justify="right" if column in ("numbers", "pickles", "seconds") else "left")
    for one in about:
        table.add_row(
            *map(
                plain,
                (
                    "/".join(one.path.parts[-3:]),
                    one.made_by.get("Stable-Baselines3", "?"),
                    one.checkpoint.policy_class.rpartition(".")[2] if one.checkpoint else "?",
                    f"{one.n_parameters:,}",
                    one.teacher or f"cannot: {one.problem}",
                    str(len(one.executed)),
                    ", ".join(suspicious(one)),
                    f"{one.seconds:.3f}",
                ),
            )
        )
    return table


def suspicious(about: "Inspection") -> list[str]:
    """
    :param about: a checkpoint
    :return: what its pickles bring that plain data would not: code, and names outside the usual packages
    """
    from sb3_distill.zoo.inspection import has_code, unusual

    names = [name for executed in about.executed.values() for name in unusual(executed)]
    code = [place.removeprefix("data: ") for place, executed in about.executed.items() if has_code(executed)]
    return [f"code in {place}" for place in code] + list(dict.fromkeys(names))


def inspection_table(about: "Inspection") -> "Table":
    """
    :param about: a checkpoint
    :return: all about it
    """
    from rich.table import Table

    from sb3_distill.zoo.inspection import describe_space, has_code, unusual

    table = Table(title=plain(str(about.path)), show_header=False)

    def add(name: str, value: str) -> None:
        table.add_row(plain(name), plain(value))

    add("can teach", f"yes, as a {about.teacher}" if about.teacher else f"no: {about.problem}")
    if about.checkpoint is not None:
        saved = about.checkpoint
        add("policy", saved.policy_class)
        add("its arguments", ", ".join(f"{k}={v}" for k, v in saved.policy_kwargs.items()) or "none")
        add("observations", describe_space(saved.observation_space))
        add("actions", describe_space(saved.action_space))
        add("numbers in the weights", f"{about.n_parameters:,}")
    add("made by", ", ".join(f"{name} {value}" for name, value in about.made_by.items()) or "it does not say")
    if about.trained_steps is not None:
        add("trained for", f"{about.trained_steps:,} steps")
    if about.reported is not None:
        add("reported return", f"{reported(about)} ({about.reported.n_episodes} episodes, {about.reported.source})")
    table.add_section()
    for place, names in about.executed.items():
        notes = ["code of its own"] if has_code(names) else []
        notes += [f"unusual: {name}" for name in unusual(names)]
        add(f"load would unpickle {place}", ", ".join(names) + (f"  [{'; '.join(notes)}]" if notes else ""))
    if not about.executed:
        add("load would unpickle", "nothing that can be read")
    table.add_section()
    add("read and rebuilt in", f"{about.seconds:.3f} s, and none of it was executed")
    return table
