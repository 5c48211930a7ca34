"""A model that does something else than its network says is found out: what it does is not what it teaches."""

import pickle
import random
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import ARS, QRDQN, TQC, MaskablePPO, RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy

from envs_for_tests import ACTION_SPACES, DICT_SPACE, IMAGE_SPACE, Chain, CountdownEnv, actor_critic_teacher
from sb3_distill import NDistill, OnPolicyDistill, load_teacher
from sb3_distill.algorithms.online import OnlineDistillation
from sb3_distill.algorithms.policy_distillation import PolicyDistillation

STUDENT = dict(device="cpu", seed=0, n_steps=16, batch_size=16, n_epochs=1)


def small(**kwargs):
    """A new one for each: SAC writes into its ``policy_kwargs``."""
    return dict(policy_kwargs=dict(net_arch=[16]), device="cpu", seed=0) | kwargs


BOX = spaces.Box(np.array([-1.0, 10.0], np.float32), np.array([1.0, 14.0], np.float32))


def envs(n=1, **kwargs):
    return DummyVecEnv([lambda: CountdownEnv(**kwargs)] * n)


def said(work):
    """The warnings about predict, after some work."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        work()
    return [str(warning.message) for warning in caught if "does not do what its network says" in str(warning.message)]


class WorstFirst(DQNPolicy):
    def _predict(self, obs, deterministic=True):
        return (-self.q_net(obs)).argmax(dim=1)


class Mirrored(ActorCriticPolicy):
    def _predict(self, observation, deterministic=False):
        return 2 - super()._predict(observation, deterministic)


class Filtered(SACPolicy):
    def _predict(self, observation, deterministic=False):
        return super()._predict(observation, deterministic).clamp(-0.01, 0.01)


class Masked(DQN):
    """Its actions are filtered outside of the policy."""

    n_asked = 0

    def predict(self, *args, **kwargs):
        self.n_asked += 1
        actions, state = super().predict(*args, **kwargs)
        return np.minimum(actions, 1) if self.get_env() is None else 1 / 0, state


OTHERS = {
    "policy of a DQN": lambda: DQN(WorstFirst, envs(), **small()),
    "policy of an actor-critic": lambda: PPO(Mirrored, envs(), **small()),
    "policy of a SAC": lambda: SAC(Filtered, envs(action_space=BOX), **small()),
    "policy alone": lambda: PPO(Mirrored, envs(), **small()).policy,
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_model_that_does_something_else_is_a_warning(kind):
    """With its two numbers, once; it draws no random number. A policy of the user's own is known by its answers alone."""
    source = OTHERS[kind]()
    states = random.getstate(), np.random.get_state()[1].copy(), th.random.get_rng_state()
    (message,) = said(lambda: load_teacher(source, tune=False))
    assert " of 256 states sampled from its observation space" in message
    says = "Q-values" if "DQN" in kind else "action distribution"
    assert f"The {says} teach, and not what predict does" in message
    assert random.getstate() == states[0] and np.array_equal(np.random.get_state()[1], states[1])
    assert th.equal(th.random.get_rng_state(), states[2])


def test_an_algorithm_with_its_own_predict():
    """It is asked without its environment, and as a copy: what it counts is not counted."""
    model = Masked("MlpPolicy", envs(), **small())
    model.q_net.q_net[-1].bias.data[2] = 10.0
    (message,) = said(lambda: load_teacher(model))
    assert message.startswith("Masked model does not do what its network says: in 256 of 256 states")
    assert model.n_asked == 0 and model.env is not None


def test_its_own_states_come_first():
    """A filter that acts where the model has been, and nowhere else."""

    class Careful(DQNPolicy):
        def _predict(self, obs, deterministic=True):
            actions = self.q_net(obs).argmax(dim=1)
            return th.where((obs == obs.round()).all(dim=1), (actions + 1) % 2, actions)

    model = DQN(Careful, DummyVecEnv([Chain]), learning_starts=10, buffer_size=500, **small()).learn(300)
    (message,) = said(lambda: load_teacher(model))
    assert "in 256 of 256 states of its replay buffer" in message


class OnlyInPlay(DQNPolicy):
    """Does something else in the corners of a corridor, which no sample of the space is."""

    def _predict(self, obs, deterministic=True):
        actions = self.q_net(obs).argmax(dim=1)
        return th.where((obs == obs.round()).all(dim=1), 1 - actions, actions)


@pytest.mark.parametrize("student", [NDistill, PolicyDistillation])
def test_the_first_states_of_play_are_compared_too(student):
    """Once, and not in the rollouts that follow."""
    model = DQN(OnlyInPlay, DummyVecEnv([Chain]), **small())
    teacher = []
    assert said(lambda: teacher.append(load_teacher(model))) == []
    settings = STUDENT if student is NDistill else small(train_freq=64, batch_size=16)
    pupil = student("MlpPolicy", DummyVecEnv([Chain]), teacher=teacher[0], **settings)
    (message,) = said(lambda: pupil.learn(128))
    assert " states of the student's play" in message
    assert said(lambda: pupil.learn(128)) == []
    pickle.dumps(teacher[0])


def test_a_teacher_that_is_followed_is_said_once():
    """Not at every evaluation, and not of its copies, which stand still while the model goes on."""
    pupil = PolicyDistillation("MlpPolicy", DummyVecEnv([Chain]), **small(train_freq=20, batch_size=16))
    follow = OnlineDistillation(pupil, lambda n: DummyVecEnv([Chain] * n), every=50, n_steps=20, n_episodes=2)
    model = DQN(WorstFirst, DummyVecEnv([Chain]), learning_starts=10, buffer_size=500, **small())
    assert len(said(lambda: model.learn(200, callback=follow))) == 1
    plain = DQN("MlpPolicy", DummyVecEnv([Chain]), learning_starts=10, buffer_size=500, **small())
    pupil = PolicyDistillation("MlpPolicy", DummyVecEnv([Chain]), **small(train_freq=20, batch_size=16))
    follow = OnlineDistillation(pupil, lambda n: DummyVecEnv([Chain] * n), every=50, n_steps=20, n_episodes=2)
    assert said(lambda: plain.learn(200, callback=follow)) == []


PLAIN = {
    "dqn": lambda: DQN("MlpPolicy", envs(), **small()),
    "dqn, images": lambda: DQN("CnnPolicy", envs(observation_space=IMAGE_SPACE), buffer_size=100, device="cpu"),
    "dqn, dict": lambda: DQN("MultiInputPolicy", envs(observation_space=DICT_SPACE), **small()),
    "dqn, discrete": lambda: DQN("MlpPolicy", envs(observation_space=spaces.Discrete(6)), **small()),
    "dqn, normalised": lambda: DQN("MlpPolicy", VecNormalize(envs()), learning_starts=9, **small()).learn(300),
    "dqn, no bounds": lambda: DQN("MlpPolicy", gym.make("CartPole-v1"), **small()),
    "qrdqn": lambda: QRDQN("MlpPolicy", envs(), **small()),
    "sac": lambda: SAC("MlpPolicy", envs(action_space=BOX), **small()),
    "sac, sde": lambda: SAC("MlpPolicy", envs(action_space=BOX), use_sde=True, **small()),
    "tqc": lambda: TQC("MlpPolicy", envs(action_space=BOX), **small()),
    "td3": lambda: TD3("MlpPolicy", envs(action_space=BOX), **small()),
    "ars": lambda: ARS("LinearPolicy", envs(), device="cpu"),
    "ars, box": lambda: ARS("MlpPolicy", envs(action_space=BOX), device="cpu"),
    "recurrent": lambda: RecurrentPPO("MlpLstmPolicy", envs(), device="cpu"),
    "masks": lambda: MaskablePPO("MlpPolicy", envs(), **small()),
    **{
        f"ppo, {name}": lambda space=space: PPO("MlpPolicy", envs(action_space=space), **small())
        for name, space in ACTION_SPACES.items()
    },
}


@pytest.mark.parametrize("kind", PLAIN)
def test_nothing_is_said_of_models_that_do_as_they_teach(kind):
    """Of every family and space, in sampled states and in a student's first ones."""
    model = PLAIN[kind]()
    teacher = []
    assert said(lambda: teacher.append(load_teacher(model))) == []
    if "ars" in kind:
        assert said(lambda: load_teacher(model, **({"epsilon": 1.0} if kind == "ars" else {}))) == []
    if kind in ("dqn", "ppo, box", "recurrent", "dqn, dict"):
        space = model.observation_space
        policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
        env = envs(2, observation_space=space, action_space=model.action_space)
        assert said(lambda: OnPolicyDistill(policy, env, teacher=teacher[0], **STUDENT).learn(64)) == []


def test_a_recurrent_policy_is_asked_as_at_the_start_of_an_episode():
    """So its own ``_predict`` is found, too."""
    model = RecurrentPPO("MlpLstmPolicy", envs(), device="cpu")
    own = type("Own", (type(model.policy),), {"_predict": _least})
    model.policy.__class__ = own
    assert len(said(lambda: load_teacher(model))) == 1


def _least(self, observation, lstm_states, episode_starts, deterministic=False):
    distribution, lstm_states = self.get_distribution(observation, lstm_states, episode_starts)
    return distribution.distribution.logits.argmin(dim=1), lstm_states


@pytest.mark.parametrize("error", [RuntimeError, NotImplementedError, AttributeError, KeyError])
def test_where_the_comparison_fails_there_is_none(error):
    """An exotic ``predict`` does not cost a run, and a teacher of one's own class is taken as it is."""

    class Exotic(DQN):
        def predict(self, *args, **kwargs):
            raise error("mine")

    teacher = []
    assert said(lambda: teacher.append(load_teacher(Exotic("MlpPolicy", envs(), **small())))) == []
    assert said(lambda: NDistill("MlpPolicy", envs(), teacher=teacher[0], **STUDENT).learn(32)) == []
    assert said(lambda: NDistill("MlpPolicy", envs(), teacher=actor_critic_teacher(CountdownEnv()), **STUDENT)) == []
