"""Whether what a study names is there: methods, engines, environments, teachers, memories, from what is there now."""

from sb3_distill.common.nearest import nearest
from sb3_distill.common.own_env import find_environment
from sb3_distill.experiment import offline

#: settings that name something
NAMING = ("method", "engine", "env", "teacher", "memory", "size", "device")


def problem(name: str, value: str) -> Exception | None:
    """
    :param name: of a setting, one of :data:`NAMING`
    :param value: that it may have
    :return: what is wrong if there is no such thing, with the nearest one
    """
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
