"""``sb3-distill study``: many runs from one file, on this machine, on Ray, or in an array job; and tables of them."""

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sb3_distill.cli.arguments import whole

if TYPE_CHECKING:
    from sb3_distill.study.folders import State
    from sb3_distill.study.names import Run
    from sb3_distill.study.schedule import Progress
    from sb3_distill.study.study import Study

#: failed runs that are listed in the end, and lines of a plan about folders
MOST_LISTED = 20


def add_command(commands: Any) -> None:
    """
    :param commands: argparse's subparsers
    """
    parser = commands.add_parser(
        "study",
        help="many runs from one file, and their tables",
        description="Do all runs of a study: teachers × environments × methods × engines × students × seeds. What is done is skipped, "
        "what was begun goes on; a run that fails leaves its traceback in its folder, and stops nothing. Exit code 1 if one failed.",
    )
    parser.set_defaults(prepare=prepare_study)
    parser.add_argument("file", metavar="FILE", help="YAML; docs/studies.md says what is in it")
    parser.add_argument("--out", metavar="FOLDER", help="of the study (default: what the file says, or runs/FILE)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "-j", "--jobs", type=whole(1), metavar="N", help="processes of this machine (default: one for each core)"
    )
    where.add_argument(
        "--ray",
        nargs="?",
        const=True,
        default=False,
        metavar="ADDRESS",
        help="runs are tasks of a Ray cluster: HOST:6379, ray://HOST:10001, auto; without ADDRESS the one at hand, or a new one on this "
        "machine. Ray has no authentication",
    )
    parser.add_argument(
        "--shard",
        metavar="K/N",
        help="only the K-th of N parts, from 1 (default: that of SLURM's array job, if this is one, or all)",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--plan", action="store_true", help="say what would be run, check all of it, and run nothing")
    what.add_argument("--table", action="store_true", help="print and write tables of what is done, and run nothing")
    what.add_argument("--figures", action="store_true", help="as --table, and draw figures")
    parser.add_argument(
        "--reach",
        default=0.95,
        type=share,
        metavar="SHARE",
        help="of the teacher's return, the steps to which the tables tell, 95%% or 0.95 (default: 95%%)",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing but what failed")


def share(text: str) -> float:
    """
    >>> share("95%"), share("0.5")
    (0.95, 0.5)

    :param text: as it was typed
    :return: an argparse type: a number greater than 0, at most 2
    """
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value <= 2:
        raise argparse.ArgumentTypeError(f"must be a share such as 95% or 0.95, not {text!r}")
    return value


def prepare_study(args: argparse.Namespace) -> Callable[[], int | None]:
    """
    Read the study, look at its folder, and check what is to be run.

    :param args: see ``sb3-distill study --help``
    :return: runs it, and returns the exit code
    :raises ValueError: for whatever is wrong, all of it; also OSError and ImportError
    """
    from sb3_distill.study.faults import StudyError

    try:
        return _prepared(args)
    except StudyError as error:
        if len(error.faults) == 1:
            raise
        sys.stderr.write("".join(f"{error.source}: {fault}\n" for fault in error.faults))
        raise ValueError(f"{error.source} has {len(error.faults)} faults, and nothing was run.") from error


def _prepared(args: argparse.Namespace) -> Callable[[], int | None]:
    from sb3_distill.study.shards import parse_shard, slurm_shard
    from sb3_distill.study.study import Study

    shard = parse_shard(args.shard) if args.shard else slurm_shard(os.environ)
    study = Study(args.file, args.out)
    if args.table or args.figures:
        return partial(tell_tables, args, study)
    if args.ray is not False:
        from sb3_distill.common.ray_connection import check_ray

        check_ray(None if args.ray is True else args.ray)
    state = study.state()
    left = study.unfinished(state, shard)
    if not args.quiet:
        tell_plan(study, state, left, shard)
    study.check(left, partial(_tell_check, args.quiet))
    return (lambda: None) if args.plan else partial(run_study, args, study, state, left, shard)


def tell_tables(args: argparse.Namespace, study: "Study") -> None:
    """
    Write the tables, and print them.

    :param args: of ``study``
    :param study: read
    """
    text = study.tables(args.reach, args.figures)
    if not args.quiet:
        sys.stdout.write(text)
        sys.stderr.write(f"Written to {shown(study.out / 'tables')}\n")


def tell_plan(study: "Study", state: "State", left: "list[Run]", shard: tuple[int, int] | None) -> None:
    """
    Print what there is, and what is to be done.

    :param study: read
    :param state: of its folder
    :param left: runs to be done
    :param shard: of which part
    """
    from sb3_distill.study.folders import UNFINISHED

    part = f", part {shard[0]}/{shard[1]}" if shard else ""
    begun = sum(run.name in state.begun for run in left)
    runs = "run" if len(study.runs) == 1 else "runs"
    going_on = f" ({begun} from a checkpoint)" if begun else ""
    sys.stdout.write(
        f"{study.title}: {len(study.runs):,} {runs} in {shown(study.out)}, {len(state.finished):,} done{part}; {len(left):,} to "
        f"run{going_on}\n"
    )
    for name, differs in list(state.other_versions.items())[:MOST_LISTED]:
        sys.stdout.write(f"  {name} is of other versions ({differs}): kept, and not counted\n")
    more = len(state.other_versions) - MOST_LISTED
    if more > 0:
        sys.stdout.write(f"  and {more:,} more of other versions\n")
    if state.others:
        sys.stdout.write(
            f"  {state.others:,} folders are of runs that the study does not have: kept, and not counted\n"
        )
    if state.others_begun:
        sys.stdout.write(
            f"  {state.others_begun:,} folders under {UNFINISHED} are of such runs, or of other versions: kept, and not gone on with\n"
        )


def shown(path: Path) -> str:
    """
    :param path: absolute
    :return: as it is read best: from the working directory, if it lies in that
    """
    with suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _tell_check(quiet: bool, done: int, total: int) -> None:
    if not quiet and total > 20 and sys.stderr.isatty():
        sys.stderr.write(f"\rchecking {done + 1:,} of {total:,} settings" + ("\n" if done + 1 == total else ""))
        sys.stderr.flush()


def run_study(
    args: argparse.Namespace, study: "Study", state: "State", left: "list[Run]", shard: tuple[int, int] | None
) -> int:
    """
    Do what is left.

    :param args: of ``study``
    :param study: checked
    :param state: of its folder
    :param left: runs to be done
    :param shard: of which part
    :return: exit code: 1 if a run failed
    """
    from sb3_distill.study.live import Show
    from sb3_distill.study.shards import shard_of

    try:
        with Show(shard_of(study.runs, shard), study.title, args.quiet) as show:
            progress = study.carry_out(left, state, args.jobs, ray=args.ray, shard=shard, show=show)
    except KeyboardInterrupt as stop:
        stop.args = ("runs at work have written their checkpoints, and the same command goes on from there",)
        raise
    return tell_end(args, study, progress)


def tell_end(args: argparse.Namespace, study: "Study", progress: "Progress") -> int:
    """
    Print what came of a study.

    :param args: of ``study``
    :param study: that was run
    :param progress: in the end
    :return: exit code
    """
    from sb3_distill.study.folders import TRACEBACK, UNFINISHED
    from sb3_distill.study.live import duration

    failed = progress.failed
    if progress.disk_full:
        left = progress.total - progress.done
        sys.stderr.write(
            f"sb3-distill: the disk of {study.out} is full: {left:,} runs are left. Make room, and give the same command again.\n"
        )
    if not args.quiet:
        sys.stdout.write(f"{progress.done:,} of {progress.total:,} runs are done, in {duration(progress.seconds)}\n")
        if progress.done:
            out = f" --out {shlex.quote(str(args.out))}" if args.out else ""
            sys.stdout.write(f"Their tables: sb3-distill study {args.file}{out} --table\n")
    if not failed:
        return 0
    sys.stderr.write(
        f"sb3-distill: {len(failed):,} run{'s' if len(failed) > 1 else ''} failed; the same command tries again:\n"
    )
    for report in failed[:MOST_LISTED]:
        path = study.out / UNFINISHED / report.name / TRACEBACK
        where = f" ({shown(path)})" if path.exists() else ""
        sys.stderr.write(f"  {report.name}: {report.text}{where}\n")
    if len(failed) > MOST_LISTED:
        sys.stderr.write(f"  and {len(failed) - MOST_LISTED:,} more\n")
    return 1
