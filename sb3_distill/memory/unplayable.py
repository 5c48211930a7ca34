"""What stands for an environment while a memory is read: SB3's loop and its callbacks look at one."""

from typing import Any

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv


class Unplayable(gym.Env):
    """
    Spaces without an environment.

    :param observation_space: of a memory's states
    :param action_space: of its teacher
    """

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self.observation_space = observation_space
        self.action_space = action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        raise NotImplementedError("The student learns from a memory, and there is no environment to play in.")


def unplayable(observation_space: spaces.Space, action_space: spaces.Space) -> VecEnv:
    """
    :param observation_space: as the next, of :class:`Unplayable`
    :param action_space: see there
    :return: one of it
    """
    return DummyVecEnv([lambda: Unplayable(observation_space, action_space)])
