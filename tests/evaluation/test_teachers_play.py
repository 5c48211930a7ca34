"""A teacher plays as the model does that it was made of, in whatever it can read: one that remembers, and one that heeds masks, too."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from envs_for_tests import CountdownEnv
from masked_envs import MaskedEnv, masked_envs
from sb3_distill import EnsembleTeacher, load_teacher
from sb3_distill.evaluation.episodes import episode_returns, play_episodes


class Paid(CountdownEnv):
    """Pays what is done."""

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, float(np.sum(action)) * self.step_count, *rest


def paid(n):
    return DummyVecEnv([Paid] * n)


def model_of(cls, env, policy="MlpPolicy", **kwargs):
    model = cls(policy, env, seed=0, device="cpu", **kwargs)
    with th.random.fork_rng():
        th.manual_seed(0)
        for weights in model.policy.parameters():
            weights.data += 0.7 * th.randn_like(weights)
    return model


@pytest.fixture(scope="module")
def recurrent():
    return model_of(RecurrentPPO, paid(2), "MlpLstmPolicy", policy_kwargs=dict(lstm_hidden_size=4, net_arch=[4]))


@pytest.fixture(scope="module")
def right(recurrent):
    return episode_returns(recurrent, paid, 5, seed=3)


@pytest.mark.parametrize("env", [paid, lambda: paid(5), lambda: paid(2), lambda: VecNormalize(paid(2))])
def test_one_that_remembers(env, recurrent, right):
    """All at once, in turns, and beneath a VecNormalize: the teacher was trained without one."""
    found = episode_returns(load_teacher(recurrent), env if env is paid else env(), 5, seed=3)
    np.testing.assert_array_equal(found, right)
    assert len(set(right.tolist())) > 1


def test_in_the_environments_of_its_training(recurrent):
    """They are as it reads them already; so are those that its view was put around."""
    teacher = load_teacher(recurrent, env_id="CartPole-v1")
    teacher.make_env = paid
    want = episode_returns(recurrent, paid, 3, seed=1)
    np.testing.assert_array_equal(episode_returns(teacher, teacher.training_env(3), 3, seed=1), want)
    np.testing.assert_array_equal(episode_returns(teacher, teacher.training_env, 3, seed=1), want)


def test_controllers_have_a_memory_for_each_environment():
    class Counting:
        def reset(self):
            self.n = 0

        def __call__(self, obs):
            self.n += 1
            return self.n % 3

    found = play_episodes(load_teacher(Counting()), paid, 4)
    assert found.returns.tolist() == 4 * [1 * 1 + 2 * 2 + 0 + 4 * 1 + 5 * 2] and found.n_cut == 0


def test_one_that_heeds_masks():
    """The environment fails where a forbidden action is taken."""
    envs = masked_envs()
    model = model_of(MaskablePPO, envs)
    want = episode_returns(model, masked_envs(), 4, seed=3)
    for teacher in (load_teacher(model), load_teacher(model_of(DQN, DummyVecEnv([MaskedEnv]), buffer_size=10))):
        found = episode_returns(teacher, masked_envs(), 4, seed=3)
        assert np.isfinite(found).all()
    np.testing.assert_array_equal(episode_returns(load_teacher(model), masked_envs(), 4, seed=3), want)


def test_what_its_training_wrapped_around_is_put_there():
    model = model_of(PPO, VecFrameStack(paid(1), 3))
    teacher = load_teacher(model)
    teacher.vec_wrapper = lambda env: VecFrameStack(env, 3)
    want = episode_returns(model, lambda n: VecFrameStack(paid(n), 3), 4)
    np.testing.assert_array_equal(episode_returns(teacher, paid, 4), want)
    ensemble = EnsembleTeacher([teacher, teacher])
    np.testing.assert_array_equal(episode_returns(ensemble, lambda n: VecFrameStack(paid(n), 3), 4), want)


def test_what_it_cannot_read_is_said_before_any_step(recurrent):
    closed = []

    class Other(gym.Env):
        observation_space, action_space = spaces.Box(-1, 1, (7,)), spaces.Discrete(3)

        def close(self):
            closed.append(True)

    with pytest.raises(ValueError, match=r"\(7,\)"):
        episode_returns(load_teacher(recurrent), lambda n: DummyVecEnv([Other] * n), 2)
    assert closed == [True, True]
