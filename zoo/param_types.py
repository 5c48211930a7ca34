"""Whether the value of a hyperparameter is of a kind that the algorithm takes: else it would end in somebody's traceback, later."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

#: by type: what it is called, and whether a value is one
KINDS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    int: ("a whole number", lambda value: isinstance(value, Integral) and not isinstance(value, bool)),
    float: ("a number", lambda value: isinstance(value, Real) and not isinstance(value, bool)),
    bool: ("True or False", lambda value: isinstance(value, bool)),
    str: ("text", lambda value: isinstance(value, str)),
    type(None): ("None", lambda value: value is None),
    dict: ("a dict(…)", lambda value: isinstance(value, Mapping)),
    tuple: ("a tuple", lambda value: isinstance(value, (tuple, list))),
    list: ("a list", lambda value: isinstance(value, (tuple, list))),
    Callable: ("a schedule", callable),
}
#: whole numbers for which SB3 takes 1e4 too, as the RL Zoo's files have it; it counts with the others
_ANY_NUMBER = ("learning_starts", "target_update_interval")
#: rl_zoo3's own keys, which it takes out: the least that each may be
ZOO_SIZES = {"n_envs": 1, "n_timesteps": 1, "frame_stack": 1}


def check_types(algo: str, algorithm: type, given: Mapping[str, Any]) -> None:
    """
    :param algo: the algorithm as it is typed
    :param algorithm: its class
    :param given: hyperparameters for its constructor, schedules and text already made what they mean
    :raises ValueError: for the first value of another kind than the constructor says, with what is allowed
    """
    for name, value in given.items():
        allowed = kinds_of(algorithm, name)
        if name in _ANY_NUMBER and int in allowed:
            allowed = (*allowed, float)
        if allowed and not any(KINDS[kind][1](value) for kind in allowed):
            words = " or ".join(dict.fromkeys(KINDS[kind][0] for kind in allowed))
            raise ValueError(f"The hyperparameter {name} of {algo} must be {words}, not {_short(value)}.")


def check_zoo_sizes(given: Mapping[str, Any]) -> None:
    """
    :param given: hyperparameters as they were typed
    :raises ValueError: for one of :data:`ZOO_SIZES` that is no whole number, or too small
    """
    for name, least in ZOO_SIZES.items():
        value = given.get(name, least)
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or value < least
            or not float(value).is_integer()
        ):
            raise ValueError(
                f"The hyperparameter {name} must be a whole number of at least {least}, not {_short(value)}."
            )


def kinds_of(algorithm: type, name: str) -> tuple[Any, ...]:
    """
    :param algorithm: a class of SB3's kind
    :param name: of an argument of its constructor, or of one of its bases'
    :return: keys of :data:`KINDS`; none where the annotation allows what is not in there, or there is none
    """
    for base in algorithm.__mro__:
        if "__init__" not in vars(base) or name not in inspect.signature(vars(base)["__init__"]).parameters:
            continue
        hint = inspect.signature(vars(base)["__init__"]).parameters[name].annotation
        if isinstance(hint, str):  # of a module whose annotations are evaluated when they are asked for
            try:
                hint = typing.get_type_hints(vars(base)["__init__"]).get(name, Any)
            except Exception:  # names that only a type checker knows
                return ()
        union = typing.get_origin(hint) in (typing.Union, types.UnionType)
        parts = typing.get_args(hint) if union else (hint,)
        kinds = tuple(_kind(part) for part in parts)
        return () if None in kinds else kinds
    return ()


def _kind(hint: Any) -> Any:
    """The key of :data:`KINDS`; None where there is none."""
    origin = typing.get_origin(hint) or hint
    origin = Callable if origin in (Callable, typing.get_origin(Callable[..., Any])) else origin
    return origin if origin in KINDS else None


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:60]}…"
