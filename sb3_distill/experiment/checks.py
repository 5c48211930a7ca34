"""What each setting of a run may be: a table of checks by field, for settings that come from Python."""

import json
import math
import os
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from sb3_distill.common.folders import check_folder

#: returns a setting as a run keeps it, or None where it is not what is allowed
Check = Callable[[Any], Any]


def check_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """
    >>> from sb3_distill.experiment.checks import check_settings
    >>> check_settings({"steps": 0})
    Traceback (most recent call last):
    ValueError: steps must be a whole number of at least 1, not 0.

    :param given: fields of :class:`~sb3_distill.experiment.settings.Settings` by name; None is left out
    :return: the same in plain types
    :raises ValueError: for a value that cannot be a setting, with what is allowed
    """
    return {name: value if value is None else _checked(name, value) for name, value in given.items()}


def check_call(out: Any, overwrite: Any, quiet: Any) -> Path | None:
    """
    :param out: of ``distill``: a folder
    :param overwrite: as the next, True or False
    :param quiet: likewise
    :return: the folder, if one is given
    :raises ValueError: for what is none of these, and a folder that cannot be made
    """
    for name, value in (("overwrite", overwrite), ("quiet", quiet)):
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, not {value!r}.")
    if out is None:
        return None
    folder = Path(_checked("out", out)).expanduser()
    check_folder(folder)
    return folder


def _checked(name: str, value: Any) -> Any:
    allowed, check = (CHECKS | CALL)[name]
    kept = check(value)
    if kept is None:
        if name in MOST and isinstance(value, Integral) and int(value) > MOST[name]:
            allowed += f" and at most {MOST[name]:,}"
        said = " ".join(repr(value).split())
        hint = HINTS.get(name)
        more = "" if hint is None or isinstance(value, (str, int, float)) else f" {hint}"
        kind = "" if isinstance(value, (str, int, float, list, tuple, dict)) else f"{type(value).__name__} "
        raise ValueError(f"{name} must be {allowed}, not {kind}{said[:80]}{'…' if len(said) > 80 else ''}.{more}")
    return kept


# --- kinds ------------------------------------------------------------------------------------------------------------


LARGEST = 2**63 - 1
#: the largest of whole numbers, which are told to whom has given more: environments side by side would be made until memory ends, and a
#: seed is NumPy's
MOST = dict.fromkeys(("steps", "threads", "eval_episodes", "then_rl"), LARGEST) | {"n_envs": 100_000, "seed": 2**32 - 1}


def _whole(least: int, most: int = LARGEST) -> tuple[str, Check]:
    def check(value: Any) -> int | None:
        is_whole = isinstance(value, Integral) and not isinstance(value, bool)
        return int(value) if is_whole and least <= value <= most else None

    return f"a whole number of at least {least}", check


def _number(value: Any) -> float | None:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, str) and value else None


def _path(value: Any) -> str | None:
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    return _text(text)


def _layers(value: Any) -> list[int] | None:
    if isinstance(value, (str, Mapping)) or not hasattr(value, "__iter__"):
        return None
    check = _whole(1)[1]
    layers = [check(units) for units in value]
    return None if None in layers else layers


def _arguments(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        return None
    try:
        json.dumps(dict(value))
    except (TypeError, ValueError):
        return None
    return dict(value)


_NUMBER: tuple[str, Check] = ("a number", _number)
_NAME: tuple[str, Check] = ("a name, as text", _text)

#: what is allowed, in words, and the check
CHECKS: dict[str, tuple[str, Check]] = {
    "env": ("a Gymnasium id or 'MODULE:ID', as text", _text),
    "teacher": ("a path or a name such as 'zoo:dqn/CartPole-v1'", _path),
    "method": _NAME,
    "engine": _NAME,
    "env_kwargs": ("a dict from names to numbers, text, lists and the like, which JSON can hold", _arguments),
    "net_arch": ("a list of whole numbers of at least 1", _layers),
    "size": ("'25%', '7%' or '4%'", _text),
    "student_obs": ("'pixels', 'pixels:42' or a key of the environment's Dict, as text", _text),
    "steps": _whole(1),
    "n_envs": _whole(1, MOST["n_envs"]),
    "seed": _whole(0, MOST["seed"]),
    "threads": _whole(1),
    "device": (
        "a name such as 'cpu'",
        lambda value: _text(str(value)) if type(value).__name__ == "device" else _text(value),
    ),
    "learning_rate": _NUMBER,
    "gamma": _NUMBER,
    "temperature": ("a number or 'auto'", lambda value: value if value == "auto" else _number(value)),
    "epsilon": _NUMBER,
    "form": _NAME,
    "baseline": _NAME,
    "control": _NAME,
    "weight": _NAME,
    "critic": _NAME,
    "beta": _NUMBER,
    "beta_per": _NAME,
    "teacher_return": _NUMBER,
    "random_return": _NUMBER,
    "reward_bound": _NUMBER,
    "loss_coef": _NUMBER,
    "reward_coef": _NUMBER,
    "env_reward_coef": _NUMBER,
    "loss": _NAME,
    "memory": ("the path of a folder", _path),
    "eval_episodes": _whole(2),
    "noise": _NUMBER,
    "then_rl": _whole(1),
    "tensorboard_log": ("the path of a folder", _path),
}

#: the same of what is no setting
CALL: dict[str, tuple[str, Check]] = {"out": ("the path of a folder", _path)}

_IN_PYTHON = "A run's files say how to repeat it, and these are text and numbers: in Python, use"
#: where somebody has an object
HINTS = {
    "teacher": f"{_IN_PYTHON} NDistill(…, teacher=load_teacher(model)).learn(…).",
    "env": f'{_IN_PYTHON} NDistill("MlpPolicy", env, teacher=load_teacher(…)).learn(…), or register the environment.',
    "method": f"{_IN_PYTHON} DistillPPO(…, method=row).learn(…).",
    **dict.fromkeys(
        ("learning_rate", "beta", "loss_coef", "reward_coef", "env_reward_coef"),
        f"{_IN_PYTHON} NDistill(…).learn(…), which takes schedules.",
    ),
}
