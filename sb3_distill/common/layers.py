"""The layers of wrappers around a vectorised environment."""

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import (
    VecEnv,
    VecEnvWrapper,
    VecNormalize,
)
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices


def raw_env(env: VecEnv) -> tuple[VecEnv, VecNormalize | None]:
    """
    Where an environment's observations are as it made them.

    :param env: any stack of wrappers
    :return: what is beneath its lowest ``VecNormalize``, and that ``VecNormalize``; else the whole stack and None
    """
    raw, vec_normalize, layer = env, None, env
    while isinstance(layer, VecEnvWrapper):
        if isinstance(layer, VecNormalize):
            raw, vec_normalize = layer.venv, layer
        layer = layer.venv
    return raw, vec_normalize


def reward_unit(env: VecEnv) -> float:
    """
    :param env: any stack of wrappers
    :return: how much of the environment's own reward a reward of 1 is outside, after every ``VecNormalize`` with ``norm_reward``;
        as they are now, and apart from their clipping
    """
    unit, layer = 1.0, env
    while isinstance(layer, VecEnvWrapper):
        if isinstance(layer, VecNormalize) and layer.norm_reward:
            unit *= float(np.sqrt(layer.ret_rms.var + layer.epsilon))
        layer = layer.venv
    return unit


def innermost(env: VecEnv) -> VecEnv:
    """
    :param env: any stack of wrappers
    :return: the environment in it
    """
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    return env


class Layer(VecEnvWrapper):
    """A ``VecEnvWrapper`` that can be put around any environment: SB3's asks for ``render_mode``, which not all of them know."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        if attr_name == "render_mode":
            return [getattr(self.venv, "render_mode", None) for _ in self._get_indices(indices)]
        return super().get_attr(attr_name, indices)
