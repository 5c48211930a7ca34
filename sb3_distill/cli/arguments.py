"""What may be typed after the flags that several commands share: numbers, lists, NAME=VALUE pairs, environments.

Nothing typed is evaluated; the one thing that runs is the module of ``MODULE:ID``, which the user has named. PyTorch is not
imported before an environment is looked up: the help does without it.
"""

import argparse
import ast
import json
import math
import re
from collections.abc import Callable
from typing import Any

from sb3_distill.common.typed_numbers import exactly

#: what Python, YAML and JSON call these
WORDS = {"true": True, "false": False, "none": None, "null": None}

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


# --- numbers ----------------------------------------------------------------------------------------------------------


def whole(least: int) -> Callable[[str], int]:
    """
    :param least: the least number that is taken
    :return: an argparse type: ``100000``, ``100_000``, ``100,000``, ``1e5`` and ``100k`` are the same
    """

    def parse(text: str) -> int:
        value = exactly(text)
        if value is None or not least <= value < 2**63 or value != int(value):
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, not {text!r}")
        return int(value)

    return parse


def wholes(least: int) -> Callable[[str], list[int]]:
    """
    :param least: the least number that is taken
    :return: an argparse type, to be used with :class:`Joined`: ``64,64``, ``[64, 64]`` and ``64`` are lists of whole numbers
    """
    one = whole(least)

    def parse(text: str) -> list[int]:
        inner = text.strip().strip("[]()").strip(", ")
        return [one(part) for part in re.split(r"[,\s]+", inner)] if inner else []

    return parse


class Joined(argparse.Action):
    """Several values, lists each, become one list: ``--net-arch 64,64`` and ``--net-arch 64 64`` are the same."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, [item for part in values for item in part])


def number(text: str) -> float:
    """
    :param text: as it was typed
    :return: an argparse type: a finite number
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}")
    return value


def number_or_auto(text: str) -> float | str:
    """
    :param text: as it was typed
    :return: an argparse type: a finite number, or ``"auto"``
    """
    if text == "auto":
        return text
    try:
        return number(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"must be a number greater than 0 or 'auto', not {text!r}") from None


# --- NAME=VALUE -------------------------------------------------------------------------------------------------------


class Pairs(argparse.Action):
    """``NAME=VALUE`` pairs, each made by :func:`pair`, become a dictionary; a flag given twice adds to it."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, (getattr(namespace, self.dest) or {}) | dict(values))


def pair(text: str) -> tuple[str, Any]:
    """
    :param text: ``NAME=VALUE``, or ``NAME:VALUE`` as rl_zoo3 writes it
    :return: an argparse type: the name and what :func:`literal` makes of the value
    """
    match = re.fullmatch(r"\s*([^\W\d]\w*)\s*[=:](.*)", text, re.DOTALL)
    if match is None:
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, such as render_mode=rgb_array or g=9.8, not {text!r}")
    return match[1], literal(match[2])


def literal(text: str) -> Any:
    """
    :param text: a number, True, False, None, a list, tuple or dictionary of such, or text, with or without quotes: what a run's
        settings can be written down as
    :return: the value. Nothing is evaluated
    """
    text = text.strip()
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        value = ast.literal_eval(text)
        json.dumps(value)
        return value
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        if text[:1] in ("[", "(", "{", "'", '"'):
            raise argparse.ArgumentTypeError(
                f"has a value that is no literal of Python, {text!r}: write it as in a=[1,2] or b={{'c':1}}"
            ) from None
        return text


# --- environments -----------------------------------------------------------------------------------------------------


def add_environment(add: Callable[..., Any], default: str) -> None:
    """
    Add ``--env`` and ``--env-kwargs``.

    :param add: ``add_argument`` of a parser or of a group
    :param default: what is taken if there is no ``--env``, for the help
    """
    add(
        "--env",
        metavar="[MODULE:]ID",
        help=f"Gymnasium environment; MODULE is imported first, from here or from what is installed (default: {default})",
    )
    add(
        "--env-kwargs",
        nargs="+",
        type=pair,
        action=Pairs,
        default={},
        metavar="NAME=VALUE",
        help="arguments of the environment: numbers, True, [1,2], text; nothing is evaluated",
    )
