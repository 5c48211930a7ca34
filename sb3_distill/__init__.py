"""Policy distillation for Stable-Baselines3."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sb3_distill.a2c import (
        DistillA2C,
        EntropyRegularisedA2C,
        ExpectedEntropyDistillA2C,
        NDistillA2C,
        OnPolicyDistillA2C,
        TeacherDistillA2C,
        TeacherVRewardA2C,
    )
    from sb3_distill.methods import METHODS, Loss, Method, Reward
    from sb3_distill.multi_task import MultiTaskDistillation
    from sb3_distill.online import OnlineDistillation
    from sb3_distill.policy_distillation import PolicyDistillation
    from sb3_distill.ppo import (
        DistillPPO,
        EntropyRegularised,
        ExpectedEntropyDistill,
        NDistill,
        OnPolicyDistill,
        TeacherDistill,
        TeacherVReward,
    )
    from sb3_distill.teachers import Teacher
    from sb3_distill.zoo.teachers import load_teacher

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "DistillA2C",
    "DistillPPO",
    "EntropyRegularised",
    "EntropyRegularisedA2C",
    "ExpectedEntropyDistill",
    "ExpectedEntropyDistillA2C",
    "Loss",
    "Method",
    "MultiTaskDistillation",
    "NDistill",
    "NDistillA2C",
    "OnPolicyDistill",
    "OnPolicyDistillA2C",
    "OnlineDistillation",
    "PolicyDistillation",
    "Reward",
    "Teacher",
    "TeacherDistill",
    "TeacherDistillA2C",
    "TeacherVReward",
    "TeacherVRewardA2C",
    "load_teacher",
]

_MODULES = ("ppo", "a2c", "methods", "teachers", "zoo.teachers", "policy_distillation", "multi_task", "online")


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: torch takes a second, and ``sb3-distill --help`` does not need it."""
    if name in __all__:
        for module in _MODULES:
            value = getattr(importlib.import_module(f"{__name__}.{module}"), name, None)
            if value is not None:
                globals()[name] = value
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
