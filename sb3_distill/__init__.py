"""Policy distillation for Stable-Baselines3."""

from typing import TYPE_CHECKING

from sb3_distill.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from sb3_distill.agents.load import load_teacher
    from sb3_distill.algorithms.a2c import (
        DistillA2C,
        EntropyRegularisedA2C,
        ExpectedEntropyDistillA2C,
        NDistillA2C,
        OnPolicyDistillA2C,
        TeacherDistillA2C,
        TeacherVRewardA2C,
    )
    from sb3_distill.algorithms.critic_warmup import CriticWarmup
    from sb3_distill.algorithms.multi_task import MultiTaskDistillation
    from sb3_distill.algorithms.online import OnlineDistillation
    from sb3_distill.algorithms.policy_distillation import PolicyDistillation
    from sb3_distill.algorithms.ppo import (
        DistillPPO,
        EntropyRegularised,
        ExpectedEntropyDistill,
        NDistill,
        OnPolicyDistill,
        TeacherDistill,
        TeacherVReward,
    )
    from sb3_distill.algorithms.trpo import DistillTRPO, EntropyRegularisedTRPO, TeacherVRewardTRPO
    from sb3_distill.experiment.distill import distill
    from sb3_distill.exporting.export import export
    from sb3_distill.rules.methods import METHODS, Loss, Method, Reward, Weight
    from sb3_distill.study.study import Study
    from sb3_distill.teachers.teacher import Teacher

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "CriticWarmup",
    "DistillA2C",
    "DistillPPO",
    "DistillTRPO",
    "EntropyRegularised",
    "EntropyRegularisedA2C",
    "EntropyRegularisedTRPO",
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
    "Study",
    "Teacher",
    "TeacherDistill",
    "TeacherDistillA2C",
    "TeacherVReward",
    "TeacherVRewardA2C",
    "TeacherVRewardTRPO",
    "Weight",
    "distill",
    "export",
    "load_teacher",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "load_teacher": "sb3_distill.agents.load",
        "DistillA2C": "sb3_distill.algorithms.a2c",
        "EntropyRegularisedA2C": "sb3_distill.algorithms.a2c",
        "ExpectedEntropyDistillA2C": "sb3_distill.algorithms.a2c",
        "NDistillA2C": "sb3_distill.algorithms.a2c",
        "OnPolicyDistillA2C": "sb3_distill.algorithms.a2c",
        "TeacherDistillA2C": "sb3_distill.algorithms.a2c",
        "TeacherVRewardA2C": "sb3_distill.algorithms.a2c",
        "CriticWarmup": "sb3_distill.algorithms.critic_warmup",
        "MultiTaskDistillation": "sb3_distill.algorithms.multi_task",
        "OnlineDistillation": "sb3_distill.algorithms.online",
        "PolicyDistillation": "sb3_distill.algorithms.policy_distillation",
        "DistillPPO": "sb3_distill.algorithms.ppo",
        "EntropyRegularised": "sb3_distill.algorithms.ppo",
        "ExpectedEntropyDistill": "sb3_distill.algorithms.ppo",
        "NDistill": "sb3_distill.algorithms.ppo",
        "OnPolicyDistill": "sb3_distill.algorithms.ppo",
        "TeacherDistill": "sb3_distill.algorithms.ppo",
        "TeacherVReward": "sb3_distill.algorithms.ppo",
        "Loss": "sb3_distill.rules.methods",
        "DistillTRPO": "sb3_distill.algorithms.trpo",
        "EntropyRegularisedTRPO": "sb3_distill.algorithms.trpo",
        "TeacherVRewardTRPO": "sb3_distill.algorithms.trpo",
        "distill": "sb3_distill.experiment.distill",
        "export": "sb3_distill.exporting.export",
        "METHODS": "sb3_distill.rules.methods",
        "Method": "sb3_distill.rules.methods",
        "Reward": "sb3_distill.rules.methods",
        "Weight": "sb3_distill.rules.methods",
        "Study": "sb3_distill.study.study",
        "Teacher": "sb3_distill.teachers.teacher",
    },
)
