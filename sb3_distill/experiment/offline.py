"""Policy distillation as a method of an experiment: what it has that the rows of the table do not."""

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sb3_distill.algorithms.policy_distillation import PolicyDistillation


#: of the method
NAME = "policy_distillation"


#: options that the rows do not have
OPTIONS: tuple[str, ...] = ("loss", "memory")


#: what the student may be; the first is the default
ENGINES = ("dqn", "ppo")


def student_class(args: Any) -> "partial[PolicyDistillation]":
    """
    :param args: of ``distill``
    :return: makes the student from policy, environment, ``teacher`` …
    :raises ValueError: if the memory cannot be read; also OSError and ImportError
    """
    from sb3_distill.algorithms.offline_memory import open_memory
    from sb3_distill.algorithms.policy_distillation import PolicyDistillation

    temperature = None if args.temperature == "auto" else args.temperature
    options = {"loss": args.loss, "temperature": temperature, "epsilon": args.epsilon}
    return partial(
        PolicyDistillation,
        student=args.engine,
        memory=None if args.memory is None else open_memory(args.memory),
        **{name: value for name, value in options.items() if value is not None},
    )


def settings(student: "PolicyDistillation") -> dict[str, Any]:
    """
    :param student: made
    :return: values of its options, also of those that were left out; ε is the teacher's play's, which a memory does without
    """
    epsilon = student.epsilon if student.memory is None else None
    return {"loss": student.loss, "temperature": student.temperature, "epsilon": epsilon}
