"""The command line: ``sb3-distill methods`` is here, each other command in a file of its own.

A subcommand has two halves. The first checks everything that the user said and loads what was named; what goes wrong
there is the user's to mend, so it ends in one line and exit code 2. The second does the work; what goes wrong there is
ours. PyTorch and SB3 are imported by the subcommands only: the help does not need them.
"""

import argparse
import io
import json
import os
import select
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from sb3_distill.common.interrupts import guarded, raise_if_interrupted
from sb3_distill.common.unread import finishing
from sb3_distill.common.user_code import told, traceback_text, users_frame

if TYPE_CHECKING:
    from sb3_distill.rules.methods import Method

#: the exit code of a program whose output nobody reads any more, by a shell's convention
CLOSED_PIPE = 141
#: commands that do nothing but tell, and so end when nobody reads it; the others finish their work
LISTS = ("teachers", "methods", "inspect")


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run a command.

    :param argv: arguments after the program's name, by default those of the process
    :return: exit code: 0; 1 if runs of a study failed; 2 after an error of the user's, the network or the disk, which stderr
        explains; 130 after Ctrl+C; 143 after SIGTERM; 141, without a word, if what reads the output has gone: :data:`LISTS` end then,
        the others finish their work
    """
    return guarded(partial(_told, argv), tell, program=argv is None)


def _told(argv: Sequence[str] | None) -> int:
    """The exit code, after what went wrong is told."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # An output that lacks π shall show a question mark.
            stream.reconfigure(errors="replace")
    try:
        code = run(argv)
        sys.stdout.flush()
        return code
    except (OSError, ValueError, ImportError) as error:  # also of the network, the Hub, the disk while it works
        raise_if_interrupted()
        if isinstance(error, BrokenPipeError) and is_closed(sys.stdout):
            return CLOSED_PIPE
        return _tell_error(error)
    except Exception as error:
        raise_if_interrupted()
        if users_frame(error) is None:
            raise
        return _tell_error(error)


def _tell_error(error: Exception) -> int:
    """The exit code of an error of the user's, after a line; what comes out of an environment has its place and its traceback."""
    place = users_frame(error)
    if place is None:
        tell(f"error: {str(error).strip() or type(error).__name__}")
        return 2
    tell(f"error: {told(error, place)}")
    with suppress(OSError):
        sys.stderr.write(traceback_text(error))
        sys.stderr.flush()
    return 2


def run(argv: Sequence[str] | None) -> int:
    """
    :param argv: of :func:`main`
    :return: exit code
    :raises ValueError: for what the user has to mend; also OSError, ImportError and KeyboardInterrupt
    """
    from sb3_distill.cli.completion import complete
    from sb3_distill.cli.parser import parse

    parser = make_parser()
    complete(parser)
    args = parse(parser, argv)
    with nullcontext() if args.command in LISTS else finishing():
        return _work(args)


def _work(args: argparse.Namespace) -> int:
    """Both halves of a command; the second may return an exit code."""
    with warnings.catch_warnings(record=True) as caught:
        work: Callable[[], int | None] = args.prepare(args)
    said: set[str] = set()

    def show(message: Warning | str, *place: Any) -> None:
        """Once, wherever it comes from: both halves of a command may look at the same file."""
        if str(message) not in said:
            said.add(str(message))
            tell(f"warning: {message}")

    for warning in caught:
        show(warning.message)
    raise_if_interrupted()
    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        return work() or 0


def tell(message: str) -> None:
    """:param message: for stderr, in one line. If nobody reads that either, it is lost"""
    with suppress(OSError):
        sys.stderr.write(f"sb3-distill: {' '.join(message.split())}\n")
        sys.stderr.flush()


def is_closed(stream: TextIO) -> bool:
    """
    :param stream: of the process, into which something could not be written; if nobody reads it, what it still holds is thrown away
    :return: whether nobody reads it
    """
    with suppress(OSError, ValueError):
        number = stream.fileno()
        poll = select.poll()
        poll.register(number, select.POLLOUT)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            # Python flushes it at its end, too, and would say that this fails.
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            return True
    return False


# --- what can be typed ------------------------------------------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    """
    :return: the parser; what it parses has ``prepare``, the first half of a subcommand
    """
    # Here, where Ctrl-C is already waited for.
    from importlib.metadata import version

    from sb3_distill.cli import distill as cli_distill
    from sb3_distill.cli.completion import SHELLS, PrintCompletion
    from sb3_distill.cli.export import add_command as add_export_command
    from sb3_distill.cli.memory import add_commands as add_memory_commands
    from sb3_distill.cli.parser import Parser
    from sb3_distill.cli.play import add_command as add_play_command
    from sb3_distill.cli.study import add_command as add_study_command
    from sb3_distill.cli.tabular import add_commands as add_paper_commands
    from sb3_distill.cli.teachers import add_commands as add_zoo_commands
    from sb3_distill.cli.train_teacher import add_command as add_train_teacher_command

    parser = Parser(
        prog="sb3-distill",
        description="Policy distillation: turn a trained agent into a small student.",
        epilog="'sb3-distill distill' alone turns the bundled CartPole-v1 agent into a student.",
    )
    parser.add_argument("--version", action="version", version=f"sb3-distill {version('sb3-distill')}")
    parser.add_argument(
        "--print-completion",
        choices=SHELLS,
        action=PrintCompletion,
        metavar="SHELL",
        help=f'print completion for {", ".join(SHELLS)}, as in: eval "$(sb3-distill --print-completion bash)"',
    )
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    methods = commands.add_parser(
        "methods", help="show the table of methods", description="Show the table of methods, in both forms."
    )
    methods.add_argument("--json", action="store_true", help="for programs")
    methods.set_defaults(prepare=prepare_methods)
    cli_distill.add_options(
        commands.add_parser(
            "distill",
            help="distil a teacher into a student",
            description="Distil a teacher into a student, compare the two, and save the student as a plain SB3 model.",
        )
    )
    add_study_command(commands)
    add_zoo_commands(commands)
    add_play_command(commands)
    add_export_command(commands)
    add_memory_commands(commands)
    add_train_teacher_command(commands)
    add_paper_commands(commands)
    return parser


# --- methods ----------------------------------------------------------------------------------------------------------


def prepare_methods(args: argparse.Namespace) -> Callable[[], None]:
    """
    :param args: see ``sb3-distill methods --help``
    :return: prints the table
    """
    return show_methods_as_json if args.json else show_methods


def show_methods() -> None:
    """Print the table of methods in both forms, and what is no row of it."""
    from sb3_distill.cli.columns import folded, table
    from sb3_distill.experiment import offline as policy_distillation
    from sb3_distill.rules.methods import FORMS

    header = ("name", "control", "loss ℓ", "reward r̂", "gradient?", "descends", "class")
    for form in FORMS:
        rows = [
            (
                *(row[key] for key in ("name", "control", "loss", "reward", "gradient", "descends")),
                ", ".join(row["classes"]),
            )
            for row in method_rows(form)
        ]
        sys.stdout.write(f'form="{form}"\n{table(header, rows)}\n')
    named = [
        (*(row[key] for key in ("name", "control", "weight", "loss", "reward")), ", ".join(row["classes"]))
        for row in named_rows()
    ]
    columns = ("name", "control", "weight", "loss ℓ", "reward r̂", "class")
    sys.stdout.write(f"with the environment's reward, and a loss_coef that falls to 0\n{table(columns, named)}\n")
    sys.stdout.write(
        f"{policy_distillation.NAME}\n"
        + folded("    ", "no row, but a --method too: it learns from a teacher's memory; class PolicyDistillation")
        + "\n"
        + folded("", "π is the teacher, π_θ the student. gradient?: whether the update is the gradient of anything.")
        + folded(
            "", "teacher_v_reward --baseline student: the reward is r_i + γ V_π(s_{i+1}) − V_πθ(s_i), no gradient."
        )
    )


def show_methods_as_json() -> None:
    """Print the same for programs."""
    from sb3_distill.rules.methods import FORMS

    data = {form: list(method_rows(form)) for form in FORMS} | {"named": list(named_rows())}
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def method_rows(form: str) -> Iterator[dict[str, Any]]:
    """
    :param form: ``"unbiased"`` or ``"paper"``
    :return: the rows that ``--method`` takes
    """
    from sb3_distill.rules.methods import METHODS

    return map(_described, METHODS[form].values())


def named_rows() -> Iterator[dict[str, Any]]:
    """
    :return: on-policy distill as others have named it, which ``--method`` takes, too
    """
    from sb3_distill.rules.methods import NAMED

    return ({**_described(row), "weight": row.weight.formula if row.weight else "1"} for row in NAMED.values())


def _described(row: "Method") -> dict[str, Any]:
    from sb3_distill.algorithms.engines import method_classes

    return {
        "name": row.name,
        "control": row.control,
        "loss": row.loss.formula if row.loss else "0",
        "reward": row.reward.formula if row.reward else "0",
        "gradient": "yes" if row.is_gradient else "no",
        "descends": row.descends,
        "classes": method_classes()[row.name],
    }
