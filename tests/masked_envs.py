"""Small environments that say which of their actions are allowed, and networks that know of no masks."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_distill import load_teacher
from sb3_distill.common.masks import factors


class MaskedEnv(gym.Env):
    """
    Episodes of noise, every second one cut by a time limit after five steps, the others at an end after four. Which actions are allowed
    is drawn anew in each state, one of each factor at least. It fails where another one is taken.
    """

    def __init__(self, action_space=None, observation_space=None):
        self.action_space = action_space or spaces.Discrete(7)
        self.observation_space = observation_space or spaces.Box(-1, 1, (3,))
        self.n_episodes = 0

    def _next(self):
        self.mask = np.concatenate([self._factor(size) for size in factors(self.action_space)])
        if isinstance(self.observation_space, spaces.Dict):
            return {
                key: self.np_random.normal(size=sub.shape).astype(sub.dtype)
                for key, sub in self.observation_space.items()
            }
        return self.np_random.normal(size=self.observation_space.shape).astype(np.float32)

    def _factor(self, size):
        flags = self.np_random.random(size) < 0.4
        flags[self.np_random.integers(size)] = True
        return flags

    def action_masks(self):
        return self.mask

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        self.n_episodes += 1
        return self._next(), {}

    def step(self, action):
        assert is_allowed(self.action_space, self.mask, action), (action, self.mask)
        self.t += 1
        long = self.n_episodes % 2 == 0
        return self._next(), float(self.np_random.normal()), not long and self.t >= 4, long and self.t >= 5, {}


def is_allowed(space, mask, action):
    sizes = factors(space)
    starts = np.cumsum([0, *sizes[:-1]])
    return all(mask[start + int(a)] for start, a in zip(starts, np.ravel(action), strict=True))


def masked_envs(action_space=None, observation_space=None, n_envs=2, seed=0, kind=DummyVecEnv, env_class=MaskedEnv):
    envs = kind([lambda: env_class(action_space, observation_space)] * n_envs)
    envs.seed(seed)
    return envs


def masked_teacher(envs, **kwargs):
    """Of random weights, which are large enough for it to have opinions."""
    policy = "MultiInputPolicy" if isinstance(envs.observation_space, spaces.Dict) else "MlpPolicy"
    model = MaskablePPO(policy, envs, policy_kwargs=dict(net_arch=[8]), seed=1, device="cpu", n_steps=8, batch_size=8)
    for p in model.policy.action_net.parameters():
        p.data.mul_(200)
    return load_teacher(model, **kwargs)


SPACES = [spaces.Discrete(7), spaces.MultiDiscrete([3, 4]), spaces.MultiBinary(3)]


class Telling(MaskedEnv):
    """It says in each step's info which actions are allowed then."""

    def step(self, action):
        *step, info = super().step(action)
        return *step, info | {"action_mask": self.mask.astype(np.int8)}
