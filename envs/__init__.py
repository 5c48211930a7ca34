"""Environments and environment wrappers."""

from sb3_distill.envs.teacher_reward import LogTeacherReward, TeacherReward, VecTeacherReward

__all__ = ["LogTeacherReward", "TeacherReward", "VecTeacherReward"]
