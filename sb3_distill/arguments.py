"""What may be typed after the flags that several commands share: numbers, lists, NAME=VALUE pairs, environments.

Nothing typed is evaluated; the one thing that runs is the module of ``MODULE:ID``, which the user has named. PyTorch is not
imported before an environment is looked up: the help does without it.
"""

import argparse
import ast
import importlib
import json
import math
import os
import re
import sys
import traceback
from collections.abc import Callable
from decimal import Decimal
from types import TracebackType
from typing import Any

#: what may stand after a whole number
SUFFIXES = {"k": 10**3, "m": 10**6}
#: what Python, YAML and JSON call these
WORDS = {"true": True, "false": False, "none": None, "null": None}

_WHOLE = re.compile(r"(\d+(_\d+)*|\d{1,3}(,\d{3})+)(\.\d+)?(e\+?\d{1,2}|[km])?", re.IGNORECASE | re.ASCII)
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


# --- numbers ----------------------------------------------------------------------------------------------------------


def whole(least: int) -> Callable[[str], int]:
    """
    :param least: the least number that is taken
    :return: an argparse type: ``100000``, ``100_000``, ``100,000``, ``1e5`` and ``100k`` are the same
    """

    def parse(text: str) -> int:
        value = _exactly(text.strip().lower())
        if value is None or not least <= value < 2**63 or value != int(value):
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, not {text!r}")
        return int(value)

    return parse


def _exactly(text: str) -> Decimal | None:
    """The number, without the errors of a float; None if it is none."""
    if not _WHOLE.fullmatch(text):
        return None
    factor = SUFFIXES.get(text[-1], 1)
    return Decimal(text.rstrip("km").replace(",", "").replace("_", "")) * factor


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


def split_module(env: str) -> tuple[str, str]:
    """
    :param env: ``MODULE:ID`` or ``ID``
    :return: the module, empty if there is none, and the id
    """
    module, _, env_id = env.rpartition(":")
    return module, env_id


def import_environment(env: str) -> str:
    """
    Find an environment that the user has typed, in the working directory too.

    :param env: ``MODULE:ID``, whose module is imported to register it, or ``ID``
    :return: the id
    :raises ValueError: if the module is not there or cannot be imported, and if there is no environment of that id then: what is
        near it
    :raises ImportError: for an Atari game, if ale-py is missing
    """
    import gymnasium as gym

    from sb3_distill.env_ids import check_env_id
    from sb3_distill.flags import as_flags

    module, env_id = split_module(env)
    if not module:
        try:
            check_env_id(env_id)
        except ValueError as error:
            raise ValueError(as_flags(str(error))) from error
        return env_id
    before = set(gym.registry)
    import_module(module)
    if env_id in gym.registry:
        return env_id
    registered = [known for known in gym.registry if known not in before or _is_from(module, known)]
    said = f"it registers {', '.join(map(repr, registered[:8]))}" if registered else "it registers nothing"
    try:
        check_env_id(env_id)
    except ValueError:
        raise ValueError(f"The module {module!r} has no environment {env_id!r}: {said} with Gymnasium.") from None
    return env_id


def _is_from(module: str, env_id: str) -> bool:
    """Whether an environment's code is in a module, which may have been imported before."""
    import gymnasium as gym

    entry_point = gym.registry[env_id].entry_point
    place = entry_point.partition(":")[0] if isinstance(entry_point, str) else getattr(entry_point, "__module__", "")
    return f"{place}.".startswith(f"{module}.")


def import_module(module: str) -> None:
    """
    Import a module that the user has named, in the working directory or installed.

    :param module: dotted
    :raises ValueError: if it is not there, or its code raises: what, and in which line
    """
    name = module.removesuffix(".py").replace(os.sep, ".")
    if module != name or not _MODULE.fullmatch(module):
        hint = repr(name) if _MODULE.fullmatch(name) else "it as Python imports it, such as a.b"
        raise ValueError(f"{module!r} is no name of a module: write {hint}.")
    working_directory_on_path()
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise ValueError(_cannot(module, error)) from error
        raise ValueError(
            f"No module {module!r}: there is none in the working directory, {os.getcwd()}, and none is installed."
        ) from error
    except (Exception, SystemExit) as error:  # it is the user's code, which raises whatever it likes
        raise ValueError(_cannot(module, error)) from error


def working_directory_on_path() -> None:
    """Let modules be imported from the working directory, after what is installed, which none of them is to hide."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def _cannot(module: str, error: BaseException) -> str:
    where = _line_of(module, error.__traceback__)
    said = " ".join(str(error).split())
    return f"The module {module!r} cannot be imported:{where} {type(error).__name__}{': ' if said else ''}{said}"


def _line_of(module: str, trace: TracebackType | None) -> str:
    """Where in the module's own file it happened, as text."""
    tail = module.replace(".", "/")
    for frame in reversed(traceback.extract_tb(trace)):
        if frame.filename.replace(os.sep, "/").removesuffix(".py").removesuffix("/__init__").endswith(tail):
            return f" {frame.filename}, line {frame.lineno}:"
    return ""
