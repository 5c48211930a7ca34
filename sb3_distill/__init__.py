"""Policy distillation for Stable-Baselines3."""

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
    "NDistill",
    "NDistillA2C",
    "OnPolicyDistill",
    "OnPolicyDistillA2C",
    "Reward",
    "Teacher",
    "TeacherDistill",
    "TeacherDistillA2C",
    "TeacherVReward",
    "TeacherVRewardA2C",
    "load_teacher",
]
