"""Environments and environment wrappers. Importing it registers the paper's environments with Gymnasium."""

from gymnasium.envs.registration import register

from sb3_distill.envs.corridor import MAX_EPISODE_STEPS, Corridor
from sb3_distill.envs.grid_world import GridWorld
from sb3_distill.envs.oscillation import Oscillation
from sb3_distill.envs.tabular import TabularEnv, TabularMDP
from sb3_distill.envs.teacher_reward import LogTeacherReward, TeacherReward, VecTeacherReward
from sb3_distill.envs.vector_env import GymnasiumVecEnv

__all__ = [
    "Corridor",
    "GridWorld",
    "GymnasiumVecEnv",
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

# An episode of Seaquest has no end while the submarine stays at the surface, so all games are cut, long after any that was ever
# played in earnest; the package's own environments are not.
for _game in ("asterix", "breakout", "freeway", "seaquest", "space_invaders"):
    for _version in (0, 1):
        register(
            f"MinAtar/{_game.title().replace('_', '')}-v{_version}",
            entry_point="sb3_distill.envs.min_atar:MinAtarEnv",
            max_episode_steps=10_000,
            kwargs={"game": _game, "use_minimal_action_set": _version == 1},
        )
