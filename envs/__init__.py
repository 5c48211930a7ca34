"""Environments and environment wrappers. Importing it registers the paper's environments with Gymnasium."""

from typing import TYPE_CHECKING

import sb3_distill.common.env_ids  # noqa: F401 - registers them
from sb3_distill.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from sb3_distill.envs.corridor import Corridor
    from sb3_distill.envs.forked_road import ForkedRoad
    from sb3_distill.envs.grid_world import GridWorld
    from sb3_distill.envs.oscillation import Oscillation
    from sb3_distill.envs.pixels import PixelObservation, make_pixel_vec_env
    from sb3_distill.envs.ray_vec_env import RayVecEnv
    from sb3_distill.envs.small_cart_pole import SmallCartPole
    from sb3_distill.envs.tabular import TabularEnv, TabularMDP
    from sb3_distill.envs.vector_env import GymnasiumVecEnv
    from sb3_distill.wrappers.teacher_reward import LogTeacherReward, TeacherReward, VecTeacherReward

__all__ = [
    "Corridor",
    "ForkedRoad",
    "GridWorld",
    "GymnasiumVecEnv",
    "LogTeacherReward",
    "Oscillation",
    "PixelObservation",
    "RayVecEnv",
    "SmallCartPole",
    "TabularEnv",
    "TabularMDP",
    "TeacherReward",
    "VecTeacherReward",
    "make_pixel_vec_env",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Corridor": "sb3_distill.envs.corridor",
        "ForkedRoad": "sb3_distill.envs.forked_road",
        "GridWorld": "sb3_distill.envs.grid_world",
        "Oscillation": "sb3_distill.envs.oscillation",
        "RayVecEnv": "sb3_distill.envs.ray_vec_env",
        "PixelObservation": "sb3_distill.envs.pixels",
        "make_pixel_vec_env": "sb3_distill.envs.pixels",
        "SmallCartPole": "sb3_distill.envs.small_cart_pole",
        "TabularEnv": "sb3_distill.envs.tabular",
        "TabularMDP": "sb3_distill.envs.tabular",
        "GymnasiumVecEnv": "sb3_distill.envs.vector_env",
        "LogTeacherReward": "sb3_distill.wrappers.teacher_reward",
        "TeacherReward": "sb3_distill.wrappers.teacher_reward",
        "VecTeacherReward": "sb3_distill.wrappers.teacher_reward",
    },
)
