"""``sb3-distill teachers``, ``inspect`` and ``push``: what is at hand, what a file is, and where a student goes."""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sb3_distill.agents.inspection import AtHand, Inspection


def add_commands(commands: Any) -> None:
    """
    :param commands: the subparsers of ``sb3-distill``
    """
    teachers = commands.add_parser(
        "teachers",
        help="list the teachers at hand",
        description="List the bundled agents, and those in the folders that RL_TRAINED_AGENTS names.",
    )
    teachers.add_argument("--json", action="store_true", help="for programs")
    teachers.set_defaults(prepare=prepare_teachers)
    inspect = commands.add_parser(
        "inspect",
        help="show what a checkpoint is, without running it",
        description="Show what a checkpoint is, what SB3's load would execute in it, and whether it can teach.",
    )
    inspect.add_argument(
        "path", metavar="PATH", help="an SB3 zip, zoo:ALGO/ENV, hub:OWNER/NAME, or a folder: every zip beneath it"
    )
    inspect.add_argument("--json", action="store_true", help="for programs")
    inspect.set_defaults(prepare=prepare_inspect)
    from sb3_distill.cli import push

    push.add_options(
        commands.add_parser(
            "push",
            help="put a student on the Hugging Face Hub",
            description="Put a student and a model card on the Hugging Face Hub.",
        )
    )


# --- teachers ---------------------------------------------------------------------------------------------------------


def prepare_teachers(args: argparse.Namespace) -> Callable[[], None]:
    """
    :param args: see ``sb3-distill teachers --help``
    :return: prints the table
    """
    return partial(show_teachers, args.json)


def show_teachers(as_json: bool = False) -> None:
    """
    Print what :func:`~sb3_distill.agents.inspection.teachers_at_hand` finds.

    :param as_json: for programs
    """
    from sb3_distill.agents.inspection import teachers_at_hand
    from sb3_distill.cli.columns import folded
    from sb3_distill.common.phases import phase

    with phase("Reading the agents at hand"):
        teachers = teachers_at_hand()
    if as_json:
        write_json([teacher_data(teacher) for teacher in teachers])
        return
    sys.stdout.write(teachers_table(teachers) + "\n")
    notes = [f"{len(teachers)} teachers at hand, for load_teacher(NAME), --teacher NAME and sb3-distill play NAME."]
    if any(starred(teacher.inspection) for teacher in teachers):
        notes.append("* of the last episodes of training, in which the agent explored and still learnt.")
    if not os.environ.get("RL_TRAINED_AGENTS"):
        notes.append("Set RL_TRAINED_AGENTS to a folder of the RL Zoo's trained agents to have more.")
    sys.stdout.write("".join(folded("", note) for note in notes))


def teachers_table(teachers: "list[AtHand]") -> str:
    """
    :param teachers: at hand
    :return: a line for each, which begins with the name that ``--teacher`` takes
    """
    from sb3_distill.cli.columns import table

    header = ("name", "reported return", "parameters", "teaches as", "source", "licence")
    rows = []
    for teacher in teachers:
        about = teacher.inspection
        cells = (f"zoo:{teacher.name}", reported(about), f"{about.n_parameters:,}", taught(about), teacher.source)
        rows.append([plain(cell) for cell in (*cells, teacher.licence)])
    return table(header, rows, right=("reported return", "parameters"))


def teacher_data(teacher: "AtHand") -> dict[str, Any]:
    """
    :param teacher: at hand
    :return: all about it, for JSON
    """
    about = inspection_data(teacher.inspection)
    return {"name": f"zoo:{teacher.name}", "source": teacher.source, "licence": teacher.licence} | about


def taught(about: "Inspection") -> str:
    """
    :param about: a checkpoint
    :return: the family of teacher that it makes, or why there is none
    """
    return about.teacher or f"cannot: {about.problem}"


def write_json(data: Any) -> None:
    """:param data: for stdout; what files claim may be infinite, and is null then"""
    sys.stdout.write(json.dumps(_finite(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _finite(value) for name, value in data.items()}
    if isinstance(data, list):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def plain(text: str) -> str:
    """
    :param text: from a file that may lie
    :return: without what a terminal would obey
    """
    return "".join(c if c.isprintable() else "?" for c in text)


def reported(about: "Inspection") -> str:
    """
    :param about: a checkpoint
    :return: mean ± standard deviation of the return that its files report
    """
    if about.reported is None:
        return "?"
    return f"{about.reported.mean:.1f} ± {about.reported.std:.1f}{'*' if starred(about) else ''}"


def starred(about: "Inspection") -> bool:
    """
    :param about: a checkpoint
    :return: whether the return that its files report is of training
    """
    return about.reported is not None and "training" in about.reported.source


# --- inspect ----------------------------------------------------------------------------------------------------------


def prepare_inspect(args: argparse.Namespace) -> Callable[[], None]:
    """
    :param args: see ``sb3-distill inspect --help``
    :return: prints what the files are
    :raises FileNotFoundError: if there is no zip
    """
    from sb3_distill.agents.find import find_agent
    from sb3_distill.agents.inspection import checkpoints_in
    from sb3_distill.common.own_object import is_object_name

    if is_object_name(args.path):
        raise ValueError(
            f"{args.path} is of a module, and inspect looks into files: give --teacher {args.path} to distill."
        )
    if args.path.startswith(("zoo:", "hub:")):
        return partial(show_inspections, [find_agent(args.path).checkpoint], False, args.json)
    paths = checkpoints_in(Path(args.path).expanduser())
    return partial(show_inspections, paths, len(paths) > 1, args.json)


def show_inspections(paths: list[Path], in_short: bool, as_json: bool = False) -> None:
    """
    :param paths: of zips
    :param in_short: a line for each, and not all about each
    :param as_json: all about each, for programs
    """
    from sb3_distill.agents.find import BUNDLED
    from sb3_distill.agents.inspection import inspect
    from sb3_distill.common.phases import phase

    about = []
    with phase(f"Reading {len(paths)} checkpoints" if len(paths) > 1 else f"Reading {paths[0]}"):
        # torch imports parts of itself at the first network, which is no file's fault
        inspect(next(BUNDLED.rglob("*.zip")))
        about = [inspect(path) for path in paths]
    if as_json:
        write_json([inspection_data(one) for one in about])
    elif in_short:
        can = sum(a.teacher is not None for a in about)
        slowest = max(a.seconds for a in about)
        sys.stdout.write(
            f"{inspections_table(about)}\n{can} of {len(about)} can teach. Pickles: how many things SB3's load would unpickle; here "
            f"none was. The slowest took {slowest:.3f} s to read and rebuild.\n"
        )
    else:
        for one in about:
            sys.stdout.write(inspection_text(one))


def inspections_table(about: "list[Inspection]") -> str:
    """
    :param about: checkpoints
    :return: a line for each
    """
    from sb3_distill.cli.columns import table

    header = ("file", "parameters", "made by SB3", "pickles", "seconds", "policy", "teaches as", "beyond the usual")
    rows = [
        [
            plain(cell)
            for cell in (
                str(one.path),
                f"{one.n_parameters:,}",
                one.made_by.get("Stable-Baselines3", "?"),
                str(len(one.executed)),
                f"{one.seconds:.3f}",
                one.checkpoint.policy_class.rpartition(".")[2] if one.checkpoint else "?",
                taught(one),
                ", ".join(suspicious(one)),
            )
        ]
        for one in about
    ]
    return table(header, rows, right=("parameters", "pickles", "seconds"))


def suspicious(about: "Inspection") -> list[str]:
    """
    :param about: a checkpoint
    :return: what its pickles bring that plain data would not: code, and names outside the usual packages
    """
    from sb3_distill.agents.inspection import has_code, unusual

    names = [name for executed in about.executed.values() for name in unusual(executed)]
    code = [place.removeprefix("data: ") for place, executed in about.executed.items() if has_code(executed)]
    return [f"code in {place}" for place in code] + list(dict.fromkeys(names))


def inspection_text(about: "Inspection") -> str:
    """
    :param about: a checkpoint
    :return: all about it
    """
    from sb3_distill.cli.columns import pairs

    return f"{plain(str(about.path))}\n" + pairs((plain(name), plain(value)) for name, value in facts(about))


def facts(about: "Inspection") -> Iterator[tuple[str, str]]:
    """
    :param about: a checkpoint
    :return: all about it: names and values
    """
    from sb3_distill.agents.inspection import describe_space, has_code, unusual
    from sb3_distill.common.articles import with_article

    yield "can teach", f"yes, as {with_article(about.teacher)}" if about.teacher else f"no: {about.problem}"
    if about.checkpoint is not None:
        saved = about.checkpoint
        yield "policy", saved.policy_class
        yield "its arguments", ", ".join(f"{k}={v}" for k, v in saved.policy_kwargs.items()) or "none"
        yield "observations", describe_space(saved.observation_space)
        yield "actions", describe_space(saved.action_space)
        yield "parameters", f"{about.n_parameters:,}"
    yield "made by", ", ".join(f"{name} {value}" for name, value in about.made_by.items()) or "it does not say"
    if about.trained_steps is not None:
        yield "trained for", f"{about.trained_steps:,} steps"
    if about.reported is not None:
        yield "reported return", f"{reported(about)} ({about.reported.n_episodes} episodes, {about.reported.source})"
    for place, names in about.executed.items():
        notes = ["code of its own"] if has_code(names) else []
        notes += [f"unusual: {name}" for name in unusual(names)]
        yield f"load would unpickle {place}", ", ".join(names) + (f"  [{'; '.join(notes)}]" if notes else "")
    if not about.executed:
        yield "load would unpickle", "nothing that can be read"
    yield "read and rebuilt in", f"{about.seconds:.3f} s, and none of it was executed"


def inspection_data(about: "Inspection") -> dict[str, Any]:
    """
    :param about: a checkpoint
    :return: all about it, for JSON
    """
    from sb3_distill.agents.inspection import describe_space

    saved = about.checkpoint
    return {
        "path": str(about.path),
        "teaches_as": about.teacher,
        "problem": about.problem,
        "policy": saved.policy_class if saved else None,
        "policy_kwargs": {name: str(value) for name, value in saved.policy_kwargs.items()} if saved else None,
        "observation_space": describe_space(saved.observation_space) if saved else None,
        "action_space": describe_space(saved.action_space) if saved else None,
        "parameters": about.n_parameters if saved else None,
        "made_by": about.made_by,
        "trained_steps": about.trained_steps,
        "reported_return": about.reported._asdict() if about.reported else None,
        "would_unpickle": about.executed,
        "beyond_the_usual": suspicious(about),
        "seconds": about.seconds,
    }
