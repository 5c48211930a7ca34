"""Environments and environment wrappers. Importing it registers the paper's environments with Gymnasium."""

from gymnasium.envs.registration import register

from sb3_distill.envs.corridor import MAX_EPISODE_STEPS, Corridor
from sb3_distill.envs.grid_world import GridWorld
from sb3_distill.envs.oscillation import Oscillation
from sb3_distill.envs.tabular import TabularEnv, TabularMDP
from sb3_distill.envs.teacher_reward import LogTeacherReward, TeacherReward, VecTeacherReward

__all__ = [
    "Corridor",
    "GridWorld",
    "LogTeacherReward",
    "Oscillation",
    "TabularEnv",
    "TabularMDP",
    "TeacherReward",
    "VecTeacherReward",
]

register("sb3_distill/GridWorld-v0", entry_point="sb3_distill.envs.grid_world:GridWorld")
register(
    "sb3_distill/Corridor-v0",
    entry_point="sb3_distill.envs.corridor:Corridor",
    max_episode_steps=MAX_EPISODE_STEPS,
)
register("sb3_distill/Oscillation-v0", entry_point="sb3_distill.envs.oscillation:Oscillation")
