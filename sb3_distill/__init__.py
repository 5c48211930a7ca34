"""Policy distillation for Stable-Baselines3."""

from typing import TYPE_CHECKING

from sb3_distill.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from sb3_distill.agents.load import load_teacher
    from sb3_distill.algorithms.a2c import (
        DistillA2C,
        EntropyRegularisedA2C,
        ExpectedEntropyDistillA2C,
        KickstartingA2C,
        NDistillA2C,
        OnPolicyDistillA2C,
        TeacherDistillA2C,
        TeacherVRewardA2C,
    )
    from sb3_distill.algorithms.critic_warmup import CriticWarmup
    from sb3_distill.algorithms.leash import Leash
    from sb3_distill.algorithms.maskable_ppo import (
        DistillMaskablePPO,
        EntropyRegularisedMaskablePPO,
        ExpectedEntropyDistillMaskablePPO,
        KickstartingMaskablePPO,
        NDistillMaskablePPO,
        OnPolicyDistillMaskablePPO,
        ProximalDistillMaskablePPO,
        TeacherDistillMaskablePPO,
        TeacherVRewardMaskablePPO,
    )
    from sb3_distill.algorithms.multi_task import MultiTaskDistillation
    from sb3_distill.algorithms.mutual import MutualDistillation
    from sb3_distill.algorithms.online import OnlineDistillation
    from sb3_distill.algorithms.policy_distillation import PolicyDistillation
    from sb3_distill.algorithms.ppo import (
        DistillPPO,
        EntropyRegularised,
        ExpectedEntropyDistill,
        Kickstarting,
        NDistill,
        OnPolicyDistill,
        ProximalDistill,
        TeacherDistill,
        TeacherVReward,
    )
    from sb3_distill.algorithms.recurrent_ppo import (
        DistillRecurrentPPO,
        EntropyRegularisedRecurrentPPO,
        ExpectedEntropyDistillRecurrentPPO,
        KickstartingRecurrentPPO,
        NDistillRecurrentPPO,
        OnPolicyDistillRecurrentPPO,
        ProximalDistillRecurrentPPO,
        TeacherDistillRecurrentPPO,
        TeacherVRewardRecurrentPPO,
    )
    from sb3_distill.algorithms.then_rl import then_rl
    from sb3_distill.algorithms.trpo import DistillTRPO, EntropyRegularisedTRPO, TeacherVRewardTRPO
    from sb3_distill.experiment.distill import distill
    from sb3_distill.exporting.export import export
    from sb3_distill.rules.methods import METHODS, Coefficient, Loss, Method, Reward, Weight
    from sb3_distill.study.study import Study
    from sb3_distill.teachers.several import BestTeacher, EnsembleTeacher, PerEnvTeacher
    from sb3_distill.teachers.teacher import Teacher

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "BestTeacher",
    "Coefficient",
    "CriticWarmup",
    "DistillA2C",
    "DistillMaskablePPO",
    "DistillPPO",
    "DistillRecurrentPPO",
    "DistillTRPO",
    "EnsembleTeacher",
    "EntropyRegularised",
    "EntropyRegularisedA2C",
    "EntropyRegularisedMaskablePPO",
    "EntropyRegularisedRecurrentPPO",
    "EntropyRegularisedTRPO",
    "ExpectedEntropyDistill",
    "ExpectedEntropyDistillA2C",
    "ExpectedEntropyDistillMaskablePPO",
    "ExpectedEntropyDistillRecurrentPPO",
    "Kickstarting",
    "KickstartingA2C",
    "KickstartingMaskablePPO",
    "KickstartingRecurrentPPO",
    "Leash",
    "Loss",
    "Method",
    "MultiTaskDistillation",
    "MutualDistillation",
    "NDistill",
    "NDistillA2C",
    "NDistillMaskablePPO",
    "NDistillRecurrentPPO",
    "OnPolicyDistill",
    "OnPolicyDistillA2C",
    "OnPolicyDistillMaskablePPO",
    "OnPolicyDistillRecurrentPPO",
    "OnlineDistillation",
    "PerEnvTeacher",
    "PolicyDistillation",
    "ProximalDistill",
    "ProximalDistillMaskablePPO",
    "ProximalDistillRecurrentPPO",
    "Reward",
    "Study",
    "Teacher",
    "TeacherDistill",
    "TeacherDistillA2C",
    "TeacherDistillMaskablePPO",
    "TeacherDistillRecurrentPPO",
    "TeacherVReward",
    "TeacherVRewardA2C",
    "TeacherVRewardMaskablePPO",
    "TeacherVRewardRecurrentPPO",
    "TeacherVRewardTRPO",
    "Weight",
    "distill",
    "export",
    "load_teacher",
    "then_rl",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "load_teacher": "sb3_distill.agents.load",
        "DistillA2C": "sb3_distill.algorithms.a2c",
        "EntropyRegularisedA2C": "sb3_distill.algorithms.a2c",
        "ExpectedEntropyDistillA2C": "sb3_distill.algorithms.a2c",
        "KickstartingA2C": "sb3_distill.algorithms.a2c",
        "NDistillA2C": "sb3_distill.algorithms.a2c",
        "OnPolicyDistillA2C": "sb3_distill.algorithms.a2c",
        "TeacherDistillA2C": "sb3_distill.algorithms.a2c",
        "TeacherVRewardA2C": "sb3_distill.algorithms.a2c",
        "CriticWarmup": "sb3_distill.algorithms.critic_warmup",
        "Leash": "sb3_distill.algorithms.leash",
        "then_rl": "sb3_distill.algorithms.then_rl",
        "DistillMaskablePPO": "sb3_distill.algorithms.maskable_ppo",
        "EntropyRegularisedMaskablePPO": "sb3_distill.algorithms.maskable_ppo",
        "ExpectedEntropyDistillMaskablePPO": "sb3_distill.algorithms.maskable_ppo",
        "KickstartingMaskablePPO": "sb3_distill.algorithms.maskable_ppo",
        "NDistillMaskablePPO": "sb3_distill.algorithms.maskable_ppo",
        "OnPolicyDistillMaskablePPO": "sb3_distill.algorithms.maskable_ppo",
        "ProximalDistillMaskablePPO": "sb3_distill.algorithms.maskable_ppo",
        "TeacherDistillMaskablePPO": "sb3_distill.algorithms.maskable_ppo",
        "TeacherVRewardMaskablePPO": "sb3_distill.algorithms.maskable_ppo",
        "MultiTaskDistillation": "sb3_distill.algorithms.multi_task",
        "MutualDistillation": "sb3_distill.algorithms.mutual",
        "OnlineDistillation": "sb3_distill.algorithms.online",
        "PolicyDistillation": "sb3_distill.algorithms.policy_distillation",
        "DistillPPO": "sb3_distill.algorithms.ppo",
        "EntropyRegularised": "sb3_distill.algorithms.ppo",
        "ExpectedEntropyDistill": "sb3_distill.algorithms.ppo",
        "Kickstarting": "sb3_distill.algorithms.ppo",
        "NDistill": "sb3_distill.algorithms.ppo",
        "OnPolicyDistill": "sb3_distill.algorithms.ppo",
        "ProximalDistill": "sb3_distill.algorithms.ppo",
        "TeacherDistill": "sb3_distill.algorithms.ppo",
        "TeacherVReward": "sb3_distill.algorithms.ppo",
        "DistillRecurrentPPO": "sb3_distill.algorithms.recurrent_ppo",
        "EntropyRegularisedRecurrentPPO": "sb3_distill.algorithms.recurrent_ppo",
        "ExpectedEntropyDistillRecurrentPPO": "sb3_distill.algorithms.recurrent_ppo",
        "KickstartingRecurrentPPO": "sb3_distill.algorithms.recurrent_ppo",
        "NDistillRecurrentPPO": "sb3_distill.algorithms.recurrent_ppo",
        "OnPolicyDistillRecurrentPPO": "sb3_distill.algorithms.recurrent_ppo",
        "ProximalDistillRecurrentPPO": "sb3_distill.algorithms.recurrent_ppo",
        "TeacherDistillRecurrentPPO": "sb3_distill.algorithms.recurrent_ppo",
        "TeacherVRewardRecurrentPPO": "sb3_distill.algorithms.recurrent_ppo",
        "Loss": "sb3_distill.rules.methods",
        "DistillTRPO": "sb3_distill.algorithms.trpo",
        "EntropyRegularisedTRPO": "sb3_distill.algorithms.trpo",
        "TeacherVRewardTRPO": "sb3_distill.algorithms.trpo",
        "distill": "sb3_distill.experiment.distill",
        "Coefficient": "sb3_distill.rules.methods",
        "export": "sb3_distill.exporting.export",
        "METHODS": "sb3_distill.rules.methods",
        "Method": "sb3_distill.rules.methods",
        "Reward": "sb3_distill.rules.methods",
        "Weight": "sb3_distill.rules.methods",
        "BestTeacher": "sb3_distill.teachers.several",
        "EnsembleTeacher": "sb3_distill.teachers.several",
        "PerEnvTeacher": "sb3_distill.teachers.several",
        "Study": "sb3_distill.study.study",
        "Teacher": "sb3_distill.teachers.teacher",
    },
)
