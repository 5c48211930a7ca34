"""Every class that is to be as good an SB3 model as PPO and A2C are, and the smallest student of each."""

import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

import sb3_distill
from envs_for_tests import CountdownEnv, actor_critic_teacher
from sb3_distill import (
    DistillA2C,
    DistillPPO,
    DistillRecurrentPPO,
    EntropyRegularisedTRPO,
    TeacherVRewardTRPO,
)

ROWS = (
    "TeacherDistill",
    "OnPolicyDistill",
    "EntropyRegularised",
    "NDistill",
    "ExpectedEntropyDistill",
    "TeacherVReward",
)
PPO_CLASSES = [DistillPPO, *(getattr(sb3_distill, name) for name in ROWS)]
A2C_CLASSES = [DistillA2C, *(getattr(sb3_distill, name + "A2C") for name in ROWS)]
#: TRPO serves the rows that are a reward
TRPO_CLASSES = [EntropyRegularisedTRPO, TeacherVRewardTRPO]
CLASSES = PPO_CLASSES + A2C_CLASSES + TRPO_CLASSES
#: one class of each engine, for what does not depend on the row
ENGINES = [DistillPPO, DistillA2C]
#: that with policies of its own
CONTRIB = [DistillRecurrentPPO]

N_ENVS, N_STEPS = 2, 8
#: steps in a rollout
ROLLOUT = N_ENVS * N_STEPS


def small(cls, **kwargs):
    """Settings of a student that costs next to nothing."""
    settings = dict(n_steps=N_STEPS, seed=0, device="cpu")
    if cls in PPO_CLASSES + CONTRIB:
        settings |= dict(batch_size=N_STEPS, n_epochs=2)
    if cls in CLASSES + CONTRIB:
        settings["policy_kwargs"] = dict(net_arch=[8])
    if cls is DistillRecurrentPPO:
        settings["policy_kwargs"] |= dict(lstm_hidden_size=8)
    return settings | kwargs


def countdown_envs(observation_space=None, action_space=None, n_envs=N_ENVS, seed=0):
    """Episodes of five steps of noise, some of them cut by a time limit."""
    envs = DummyVecEnv([lambda: CountdownEnv(observation_space, action_space)] * n_envs)
    envs.seed(seed)
    return envs


def check_parameters(a, b, are_same):
    """All of them, or some with exact_match=False; names too many or too few are SB3's errors."""
    params = a.get_parameters()
    assert set(params) == {"policy", "policy.optimizer"}
    assert not are_same(a, b)
    b.set_parameters(params, exact_match=True, device="cpu")
    assert are_same(a, b)
    fewer = {"policy": dict(list(params["policy"].items())[1:])}
    b.set_parameters(fewer, exact_match=False)
    with pytest.raises(RuntimeError, match="Missing key"):
        b.set_parameters(params | fewer)
    with pytest.raises(ValueError, match="do not match agents' parameters"):
        b.set_parameters({"policy": params["policy"]})
    with pytest.raises(ValueError, match="invalid object name"):
        b.set_parameters(params | {"q_net": {}})


def teacher_for(env):
    """With random weights; it sees what the student sees."""
    single = CountdownEnv(env.observation_space, env.action_space)
    return actor_critic_teacher(single, net_arch=[8])


def policy_of(cls, kind):
    """
    :param cls: one of ``CLASSES`` or ``CONTRIB``
    :param kind: ``"Mlp"``, ``"Cnn"`` or ``"MultiInput"``
    """
    return kind + ("LstmPolicy" if cls is DistillRecurrentPPO else "Policy")


def student(cls, env=None, policy=None, **kwargs):
    """
    :param cls: one of ``CLASSES`` or ``CONTRIB``
    :param env: by default two small ones
    """
    env = countdown_envs() if env is None else env
    if policy is None:
        policy = policy_of(cls, "MultiInput" if isinstance(env.observation_space, spaces.Dict) else "Mlp")
    kwargs = {"teacher": teacher_for(env)} | kwargs
    return cls(policy, env, **small(cls, **kwargs))
