"""Tiny agents of all 13 algorithms, and of strange spaces."""

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib import ARS, QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv

from envs_for_tests import CountdownEnv
from sb3_distill import export

VECTOR = spaces.Box(-1.0, 1.0, (3,), np.float32)
UNEVEN = spaces.Box(np.float32([-2.0, 0.5]), np.float32([1.0, 5.0]))
SMALL = dict(net_arch=[8])
#: the 13 algorithms, with actions and arguments
ALGORITHMS = {
    "DQN": (DQN, spaces.Discrete(3)),
    "QRDQN": (QRDQN, spaces.Discrete(3)),
    "PPO": (PPO, spaces.MultiDiscrete([2, 3])),
    "A2C": (A2C, UNEVEN),
    "TRPO": (TRPO, spaces.MultiBinary(3)),
    "MaskablePPO": (MaskablePPO, spaces.Discrete(4)),
    "RecurrentPPO": (RecurrentPPO, spaces.Discrete(3)),
    "SAC": (SAC, UNEVEN),
    "TD3": (TD3, UNEVEN),
    "DDPG": (DDPG, UNEVEN),
    "TQC": (TQC, UNEVEN),
    "CrossQ": (CrossQ, UNEVEN),
    "ARS": (ARS, UNEVEN),
}


def made(cls, observation_space, action_space, env=None, policy=None, randomise=True, **kwargs):
    env = env or DummyVecEnv([lambda: CountdownEnv(observation_space, action_space)])
    if policy is None:
        policy = "MultiInput" if isinstance(observation_space, spaces.Dict) else "Mlp"
        policy += "LstmPolicy" if cls is RecurrentPPO else "Policy"
    settings = {"policy_kwargs": dict(SMALL), "seed": 0, "device": "cpu"} | kwargs
    if hasattr(cls, "learning_starts") or cls in (DQN, QRDQN, SAC, TD3, DDPG, TQC, CrossQ):
        settings.setdefault("buffer_size", 100)
    model = cls(policy, env, **settings)
    if randomise:  # what SB3 starts with is so small that bounds are never met
        with th.random.fork_rng():
            th.manual_seed(1)
            for name, weights in model.policy.named_parameters():
                if "log_std" not in name:
                    weights.data += 0.7 * th.randn_like(weights)
    return model


def written(source, path, **kwargs):
    return export(source, path, **({"n_observations": 1_000} | kwargs))


class Own(BaseFeaturesExtractor):
    """A user's: two branches and a norm."""

    def __init__(self, observation_space):
        super().__init__(observation_space, 6)
        self.a, self.b = th.nn.Linear(3, 6), th.nn.Sequential(th.nn.Linear(3, 6), th.nn.LayerNorm(6), th.nn.GELU())

    def forward(self, obs):
        return th.where(obs.sum(1, keepdim=True) > 0, self.a(obs), self.b(obs) * 2)


STRANGE = {
    "doubles as actions": (A2C, VECTOR, spaces.Box(-0.5, 0.5, (2, 2), np.float64), {}),
    "gSDE": (PPO, VECTOR, UNEVEN, dict(use_sde=True)),
    "squashed": (PPO, VECTOR, UNEVEN, dict(use_sde=True, policy_kwargs=dict(net_arch=[8], squash_output=True))),
    "SAC's gSDE": (SAC, VECTOR, UNEVEN, dict(use_sde=True)),
    "several axes": (PPO, spaces.Box(-1, 1, (2, 3, 2), np.float32), spaces.Discrete(2), {}),
    "doubles": (DQN, spaces.Box(-1, 1, (3,), np.float64), spaces.Discrete(2), {}),
    "bytes": (PPO, spaces.Box(0, 255, (5,), np.uint8), spaces.Discrete(2), {}),
    "a number": (PPO, spaces.Discrete(5), spaces.Discrete(2), {}),
    "numbers": (PPO, spaces.MultiDiscrete([2, 5]), spaces.Discrete(2), {}),
    "flags": (PPO, spaces.MultiBinary(4), spaces.Discrete(2), {}),
    "an extractor of one's own": (
        PPO,
        VECTOR,
        spaces.Discrete(3),
        dict(policy_kwargs=dict(features_extractor_class=Own)),
    ),
    "ARS with discrete actions": (ARS, VECTOR, spaces.Discrete(3), {}),
    "masks of several actions": (MaskablePPO, VECTOR, spaces.MultiDiscrete([2, 3]), {}),
    "masks of flags": (MaskablePPO, VECTOR, spaces.MultiBinary(3), {}),
    "one LSTM for both": (
        *(RecurrentPPO, VECTOR, UNEVEN),
        dict(policy_kwargs=dict(lstm_hidden_size=4, shared_lstm=True, enable_critic_lstm=False)),
    ),
}
