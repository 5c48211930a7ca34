"""argparse, with errors of one line that name the nearest command or flag."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from sb3_distill.common.nearest import matches, nearest


class UsageError(ValueError):
    """Arguments that cannot be parsed."""


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors look like all others: no usage text above them."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            what = str(action.metavar or action.dest).lower()
            raise UsageError(f"Unknown {what} {value!r}: {nearest(str(value), map(str, action.choices))}")


def commands_of(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """
    :param parser: with subcommands
    :return: their parsers
    """
    return next(action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))


def flags_of(parser: argparse.ArgumentParser) -> list[str]:
    """
    :param parser: of a command
    :return: its flags, ``--env`` …
    """
    return [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """
    :param parser: with a destination ``command``, and subcommands
    :param argv: arguments after the program's name, by default those of the process
    :return: what they mean
    :raises UsageError: if they cannot be parsed; of an unknown flag the nearest ones
    """
    args, unknown = parser.parse_known_args(sys.argv[1:] if argv is None else argv)
    if not unknown:
        return args
    command = commands_of(parser)[args.command]
    flag = unknown[0].partition("=")[0]
    if not flag.startswith("-"):
        raise UsageError(f"{command.prog} does not take {' '.join(unknown)!r} (see {command.prog} --help)")
    flags = flags_of(command)
    near = matches(flag, flags)
    meant = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(flags)}."
    raise UsageError(f"{command.prog} has no {flag}: {meant} (see {command.prog} --help)")
