"""Small environments and teachers for tests."""

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy, MultiInputActorCriticPolicy

from sb3_distill.teachers.actor_critic import ActorCriticTeacher
from sb3_distill.teachers.q_network import QTeacher


class CountdownEnv(gym.Env):
    """Observation: noise of a given space. Ends after five steps, every third episode by a time limit."""

    def __init__(self, observation_space=None, action_space=None):
        self.observation_space = observation_space or spaces.Box(-1.0, 1.0, (3,), np.float32)
        self.action_space = action_space or spaces.Discrete(3)
        self.episode = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.episode, self.step_count = self.episode + 1, 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(np.asarray(action, self.action_space.dtype)), action
        self.step_count += 1
        over, limit = self.step_count == 5, self.episode % 3 == 0
        return self.observation_space.sample(), 1.0, over and not limit, over and limit, {}


DICT_SPACE = spaces.Dict({"a": spaces.Box(-1.0, 1.0, (2,), np.float32), "b": spaces.Box(0.0, 5.0, (3,), np.float32)})
IMAGE_SPACE = spaces.Box(0, 255, (36, 36, 1), np.uint8)
ACTION_SPACES = {
    "discrete": spaces.Discrete(3),
    "multi_discrete": spaces.MultiDiscrete([2, 3]),
    "multi_binary": spaces.MultiBinary(3),
    "box": spaces.Box(-1.0, 1.0, (2,), np.float32),
}


class Chain(gym.Env):
    """A corridor of five cells with a goal at its end: left or right, −1 a step, 50 steps at most, success ends it."""

    n_cells = 5

    def __init__(self):
        self.observation_space = spaces.Box(0.0, 1.0, (self.n_cells,), np.float32)
        self.action_space = spaces.Discrete(2)

    def _obs(self):
        return np.eye(self.n_cells, dtype=np.float32)[min(self.cell, self.n_cells - 1)]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell, self.step_count = 0, 0
        return self._obs(), {}

    def step(self, action):
        self.cell = max(0, self.cell + (1 if action == 1 else -1))
        self.step_count += 1
        return self._obs(), -1.0, self.cell >= self.n_cells, self.step_count >= 50, {}


gym.register("SB3DistillChain-v0", entry_point="envs_for_tests:Chain")


def actor_critic_teacher(env, seed=0, **kwargs):
    """A PPO teacher with random weights, larger outputs than SB3's initial ones."""
    th.manual_seed(seed)
    policy_class = MultiInputActorCriticPolicy if isinstance(env.observation_space, spaces.Dict) else ActorCriticPolicy
    policy = policy_class(env.observation_space, env.action_space, lambda _: 0.0, ortho_init=False, **kwargs)
    return ActorCriticTeacher(policy, name="random")


class CountingTeacher(QTeacher):
    """Remembers every observation that it was asked about."""

    def __init__(self, teacher):
        super().__init__(teacher.policy, teacher.temperature, teacher.epsilon, name="counting", env_id=teacher.env_id)
        self.seen = []

    def answer(self, obs, with_value=False):
        self.seen.append(np.array(obs))
        return super().answer(obs, with_value)
