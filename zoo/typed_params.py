"""What is typed after rl_zoo3's ``-params`` and ``--env-kwargs``: what is mistyped there ends in a line that says what to write."""

import argparse
import inspect
import re
from collections.abc import Iterable
from typing import Any

from rl_zoo3.utils import StoreDict

from sb3_distill.common.nearest import nearest
from sb3_distill.common.user_code import first_line

#: arguments of an algorithm that rl_zoo3 gives it itself, by its flags
FLAGS = ("env", "tensorboard_log", "seed", "verbose", "device")
#: keys of rl_zoo3's own, for the nearest names: it takes them out before the algorithm is given the others
ZOO_KEYS = (
    *("n_envs", "n_timesteps", "normalize", "frame_stack", "env_wrapper", "vec_env_wrapper", "callback", "env_kwargs"),
    *("monitor_kwargs", "noise_type", "noise_std"),
)
#: what it leaves in until it knows the actions
LATE = ("noise_type", "noise_std")


class StoreTyped(StoreDict):
    """rl_zoo3's ``NAME:VALUE`` pairs, whose values it evaluates as Python: what it cannot evaluate is an error of one line."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        typed: dict[str, Any] = {}
        for pair in values:
            try:
                super().__call__(parser, namespace, [pair], option_string)
            except Exception as error:  # whatever the text raises when it is evaluated
                raise ValueError(f"{option_string} {pair}: {_remedy(pair, error)}") from error
            typed |= getattr(namespace, self.dest)
        setattr(namespace, self.dest, typed)


def _remedy(pair: str, error: Exception) -> str:
    name, colon, value = pair.partition(":")
    if not colon:
        return "write NAME:VALUE, such as learning_rate:0.001."
    if not value.strip():
        return f"there is no value after the colon: write {name}:VALUE."
    said = f"rl_zoo3 evaluates values as Python, and {value!r} is none ({_said(error)})"
    if re.fullmatch(r"[^'\"()\[\]{}]+", value):  # text, whose quotes are missing or were the shell's
        return f"{said}: write a number, True or None, or text in two pairs of quotes, {name}:\"'{value}'\"."
    return f'{said}: write it as in Python, within quotes of the shell\'s, such as policy_kwargs:"dict(net_arch=[64])".'


def _said(error: Exception) -> str:
    return error.msg if isinstance(error, SyntaxError) else first_line(error)


def check_names(algo: str, algorithm: type, names: Iterable[str]) -> None:
    """
    :param algo: the algorithm as it is typed
    :param algorithm: its class
    :param names: of hyperparameters that rl_zoo3 has left for it
    :raises ValueError: for the first that it does not have, with the nearest names
    """
    known = arguments_of(algorithm)
    for name in names:
        if name in FLAGS:
            raise ValueError(f"{name} is a flag and no hyperparameter: --{name.replace('_', '-')}.")
        if name not in known and name not in LATE:
            choices = [*sorted(known - set(FLAGS)), *ZOO_KEYS]
            raise ValueError(f"{algo} has no hyperparameter {name!r}: {nearest(name, choices)}")


def arguments_of(algorithm: type) -> set[str]:
    """
    :param algorithm: a class of SB3's kind
    :return: the names that its constructor takes, those that it hands on to its bases' among them
    """
    names: set[str] = set()
    for base in algorithm.__mro__:
        if "__init__" not in vars(base):
            continue
        given = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        named = [
            argument.name for argument in given if argument.kind not in (argument.VAR_KEYWORD, argument.VAR_POSITIONAL)
        ]
        names |= {name for name in named if not name.startswith("_")}
        if not any(argument.kind is argument.VAR_KEYWORD for argument in given):
            break
    return names
