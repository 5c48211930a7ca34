"""The command line: ``sb3-distill distill`` and ``methods``; ``teachers``, ``inspect`` and ``push`` are the zoo's,
``paper`` and ``recommend`` the tabular laboratory's.

A subcommand has two halves. The first checks everything that the user said and loads what was named; what goes wrong
there is the user's to mend, so it ends in one line and exit code 2. The second does the work; what goes wrong there is
ours. PyTorch and SB3 are imported by the subcommands only: the help does not need them.
"""

import argparse
import io
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import NoReturn

from sb3_distill import cli_distill, cli_offline
from sb3_distill.memory.commands import add_commands as add_memory_commands
from sb3_distill.tabular.commands import add_commands as add_paper_commands
from sb3_distill.zoo.commands import add_commands as add_zoo_commands
from sb3_distill.zoo.train_teacher import add_command as add_train_teacher_command


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run a command.

    :param argv: arguments after the program's name, by default those of the process
    :return: exit code: 0; 2 after an error of the user's, the network or the disk, which stderr explains; 130 after Ctrl+C
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # An output that lacks π shall show a question mark.
            stream.reconfigure(errors="replace")
    try:
        args = make_parser().parse_args(argv)
        with warnings.catch_warnings(record=True) as caught:
            work: Callable[[], None] = args.prepare(args)
    except (ValueError, OSError, ImportError) as error:
        sys.stderr.write(f"sb3-distill: error: {error}\n")
        return 2
    for warning in caught:
        sys.stderr.write(f"sb3-distill: warning: {warning.message}\n")
    try:
        work()
    except KeyboardInterrupt:
        sys.stderr.write("sb3-distill: interrupted\n")
        return 130
    except (OSError, ValueError) as error:  # the network, the Hub, the disk; what only shows while it runs
        sys.stderr.write(f"sb3-distill: error: {error}\n")
        return 2
    return 0


# --- what can be typed ------------------------------------------------------------------------------------------------


class UsageError(ValueError):
    """Arguments that cannot be parsed."""


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors look like all others: no usage text above them."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def make_parser() -> argparse.ArgumentParser:
    """
    :return: the parser; what it parses has ``prepare``, the first half of a subcommand
    """
    parser = Parser(
        prog="sb3-distill",
        description="Policy distillation: turn a trained agent into a small student.",
        epilog="'sb3-distill distill' alone turns the bundled CartPole-v1 agent into a student.",
    )
    parser.add_argument("--version", action="version", version=f"sb3-distill {version('sb3-distill')}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    methods = commands.add_parser(
        "methods", help="show the table of methods", description="Show the table of methods, in both forms."
    )
    methods.set_defaults(prepare=prepare_methods)
    cli_distill.add_options(
        commands.add_parser(
            "distill",
            help="distil a teacher into a student",
            description="Distil a teacher into a student, compare the two, and save the student as a plain SB3 model.",
        )
    )
    add_zoo_commands(commands)
    add_memory_commands(commands)
    add_train_teacher_command(commands)
    add_paper_commands(commands)
    return parser


# --- methods ----------------------------------------------------------------------------------------------------------


def prepare_methods(args: argparse.Namespace) -> Callable[[], None]:
    """
    :param args: nothing
    :return: prints the table
    """
    return show_methods


def show_methods() -> None:
    """Print the table of methods in both forms."""
    from sb3_distill.methods import FORMS
    from sb3_distill.report import methods_table, show

    for form in FORMS:
        show(methods_table(form))
    sys.stdout.write(
        "π is the teacher, π_θ the student. gradient?: whether the update is the gradient of anything.\n"
        f"No row, but a --method too: {cli_distill.hyphens(cli_offline.NAME)}, from a teacher's memory.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
