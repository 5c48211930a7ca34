"""Whether what a study names is there: methods, engines, environments, teachers, memories, each looked up once."""

from functools import cache
from typing import Any

from sb3_distill.common.nearest import nearest
from sb3_distill.common.own_env import find_environment
from sb3_distill.experiment import offline

#: settings that name something
NAMING = ("method", "engine", "env", "teacher", "memory", "size", "device")


def look_up(name: str, value: Any) -> None:
    """
    :param name: of a setting
    :param value: that it may have
    :raises ValueError: if there is no such thing, with the nearest one; also OSError and ImportError
    """
    if name in NAMING:
        error = _problem(name, value)
        if error is not None:
            raise error


@cache
def _problem(name: str, value: str) -> Exception | None:
    try:
        {
            "method": _method,
            "engine": _engine,
            "env": find_environment,
            "teacher": _teacher,
            "memory": _memory,
            "size": _size,
            "device": _device,
        }[name](value)
    except (ValueError, OSError, ImportError) as error:
        return error
    return None


def _method(value: str) -> None:
    from sb3_distill.rules.methods import METHODS

    choices = (*METHODS["unbiased"], offline.NAME)
    if value not in choices:
        raise ValueError(f"Unknown method {value.replace('_', '-')!r}: {nearest(value, choices)}")


def _engine(value: str) -> None:
    from sb3_distill.algorithms.engines import ENGINES

    choices = tuple(dict.fromkeys((*ENGINES, *offline.ENGINES)))
    if value not in choices:
        raise ValueError(f"Unknown engine {value!r}: {nearest(value, choices)}")


def _teacher(value: str) -> None:
    from sb3_distill.agents.find import find_agent

    find_agent(value)


def _memory(value: str) -> None:
    from sb3_distill.algorithms.policy_distillation import open_memory

    open_memory(value)


def _size(value: str) -> None:
    from sb3_distill.students.nature_cnn import student_arch

    student_arch(value)


def _device(value: str) -> None:
    from sb3_distill.experiment.plan import check_device

    check_device(value)
