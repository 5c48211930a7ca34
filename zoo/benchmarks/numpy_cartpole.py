"""Gymnasium's CartPole for any number of environments at once, in NumPy: what a step costs besides is what is measured."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn


class NumpyCartPole(VecEnv):
    """
    CartPole-v1 as SB3's ``VecEnv``, with its dynamics, ends and time limit of 500 steps.

    :param num_envs: how many
    """

    def __init__(self, num_envs: int) -> None:
        self.one = gym.make("CartPole-v1").unwrapped
        super().__init__(num_envs, self.one.observation_space, self.one.action_space)
        self.rng = np.random.default_rng(0)
        self.nothing: dict[str, Any] = {}

    def _starts(self, n: int) -> np.ndarray:
        return self.rng.uniform(-0.05, 0.05, (n, 4))

    def reset(self) -> np.ndarray:
        self.rng = np.random.default_rng(self._seeds[0])
        self._reset_seeds()
        self.state, self.age = self._starts(self.num_envs), np.zeros(self.num_envs, dtype=np.int64)
        return self.state.astype(np.float32)

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        one: Any = self.one
        _, x_dot, theta, theta_dot = self.state.T
        force = np.where(self.actions == 1, one.force_mag, -one.force_mag)
        sin, cos = np.sin(theta), np.cos(theta)
        pulled = (force + one.polemass_length * theta_dot**2 * sin) / one.total_mass
        theta_acc = (one.gravity * sin - cos * pulled) / (one.length * (4 / 3 - one.masspole * cos**2 / one.total_mass))
        x_acc = pulled - one.polemass_length * theta_acc * cos / one.total_mass
        rates = np.stack([x_dot, x_acc, theta_dot, theta_acc], axis=1)
        self.state = self.state + one.tau * rates
        self.age = self.age + 1
        fallen = (np.abs(self.state[:, 0]) > one.x_threshold) | (np.abs(self.state[:, 2]) > one.theta_threshold_radians)
        dones = fallen | (self.age >= 500)
        infos = [self.nothing] * self.num_envs
        for i in np.flatnonzero(dones).tolist():
            last = self.state[i].astype(np.float32)
            infos[i] = {"terminal_observation": last, "TimeLimit.truncated": not fallen[i]}
        n = int(dones.sum())
        if n:
            self.state[dones], self.age[dones] = self._starts(n), 0
        return self.state.astype(np.float32), np.ones(self.num_envs, dtype=np.float32), dones, infos

    def close(self) -> None:
        """Nothing is open."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        return [getattr(self.one, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        raise NotImplementedError("All environments are one.")

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        return [getattr(self.one, method_name)(*args, **kwargs) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> Sequence[bool]:  # type: ignore[override]
        return [False for _ in self._get_indices(indices)]
