"""Experiments whose students remember: they are played with their memory, compared with it, and go on with it."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.vec_env import DummyVecEnv

import sb3_distill
from envs_for_tests import CountdownEnv
from sb3_distill import load_teacher, then_rl
from sb3_distill.cli import main
from sb3_distill.evaluation.episodes import greedy, play_episodes
from sb3_distill.experiment import keeper
from sb3_distill.experiment import run as experiment
from sb3_distill.experiment.comparison import likeness
from sb3_distill.experiment.keeper import Keeper
from sb3_distill.rules.distributions import parameters

GIVEN = dict(engine="recurrent_ppo", steps=384, n_envs=2, eval_episodes=2, temperature=0.01, net_arch=(8,))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(experiment, "CURVE_EPISODES", 2)
    monkeypatch.setattr(experiment, "CURVE_POINTS", 2)


class Stopped(BaseException):
    pass


def test_a_run_that_goes_on_ends_as_one_in_one_piece(monkeypatch, tmp_path, capsys):
    """What is remembered in the middle of an episode goes with the checkpoint."""
    sb3_distill.distill(env="CartPole-v1", out=str(tmp_path / "whole"), **GIVEN)
    monkeypatch.setattr(keeper, "CHECKPOINT_SECONDS", 0.0)
    step = Keeper._on_step

    def stopping(self):
        if self.num_timesteps == 300:
            raise Stopped
        return step(self)

    with monkeypatch.context() as patched, pytest.raises(Stopped):
        patched.setattr(Keeper, "_on_step", stopping)
        sb3_distill.distill(env="CartPole-v1", out=str(tmp_path / "parts"), **GIVEN)
    sb3_distill.distill(env="CartPole-v1", out=str(tmp_path / "parts"), **GIVEN)
    models = [RecurrentPPO.load(tmp_path / name / "student.zip", device="cpu") for name in ("whole", "parts")]
    one, other = (model.policy.state_dict() for model in models)
    assert all(th.equal(one[name], other[name]) for name in one)
    assert models[0].policy.lstm_actor.hidden_size == 8
    assert main(["play", str(tmp_path / "whole"), "--episodes", "2", "--quiet"]) == 0
    assert "return" in capsys.readouterr().out


def test_what_has_no_memory_says_so(tmp_path):
    with pytest.raises(ValueError, match="of networks without a memory"):
        sb3_distill.distill(env="CartPole-v1", out=str(tmp_path), engine="recurrent_ppo", size="7%")


class Counting(gym.Env):
    """Episodes of three steps, whose one observation says nothing."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(1, np.float32), float(action == self.t - 1), self.t == 3, False, {}


class Counter:
    """Does what the number of steps since the episode began says: it remembers that."""

    def predict(self, obs, state=None, episode_start=None, deterministic=False):
        count = np.zeros(len(obs), int) if state is None else np.where(episode_start, 0, state)
        return count, count + 1


def test_episodes_are_played_with_a_memory_that_begins_with_each():
    act = greedy(Counter().predict)
    for _ in range(2):  # a player may be used again: what it remembers is of episodes that are over
        assert play_episodes(act, lambda n: DummyVecEnv([Counting] * n), 2).returns.tolist() == [3, 3]


def test_likeness_is_of_what_the_student_remembers():
    """Against the network's own probabilities, walked along by hand."""
    env = DummyVecEnv([CountdownEnv] * 2)
    env.seed(0)
    settings = dict(n_steps=8, batch_size=8, device="cpu", policy_kwargs=dict(net_arch=[8], lstm_hidden_size=8), seed=0)
    student = RecurrentPPO("MlpLstmPolicy", env, **settings)
    with th.no_grad():
        for p in student.policy.parameters():
            p.mul_(4.0)
    teacher = load_teacher(lambda obs: 0, observation_space=env.observation_space, action_space=env.action_space)
    kls, state, starts = [], None, np.ones(2)
    env.seed(3)
    obs = env.reset()
    for _ in range(12):
        actions, after = student.predict(obs, state, starts, deterministic=True)
        memory = tuple(th.as_tensor(part, dtype=th.float32) for part in state or (np.zeros((1, 2, 8)),) * 2)
        with th.no_grad():
            seen = student.policy.get_distribution(th.as_tensor(obs), memory, th.as_tensor(starts).float())[0]
            mine = parameters(seen).log_softmax(-1)
        pi = teacher.answer(obs).parameters.log_softmax(-1)
        kls.append((pi.exp() * (pi - mine)).sum(-1))
        state = after
        obs, _, starts, _ = env.step(actions)
    env.seed(3)
    alike = likeness(student, teacher, env, n_states=24)
    assert alike.n_states == 24 and alike.kl == pytest.approx(float(th.cat(kls).mean()), rel=1e-5)


def test_a_student_that_remembers_goes_on_by_recurrent_ppo():
    env = DummyVecEnv([CountdownEnv] * 2)
    settings = dict(n_steps=8, batch_size=8, device="cpu", policy_kwargs=dict(net_arch=[8], lstm_hidden_size=8), seed=0)
    student = sb3_distill.DistillRecurrentPPO("MlpLstmPolicy", env, **settings)
    model = student.then_rl(64, n_steps=16, batch_size=16, n_epochs=1)
    assert type(model) is RecurrentPPO and model.num_timesteps == 64
    with pytest.raises(
        ValueError, match=r"^PPO does not train RecurrentActorCriticPolicy: .* goes on with 'recurrent_ppo'"
    ):
        then_rl(student, 64, algorithm="ppo")
    flat = sb3_distill.DistillPPO("MlpPolicy", env, device="cpu")
    with pytest.raises(ValueError, match=r"^RecurrentPPO does not train ActorCriticPolicy"):
        flat.then_rl(64, algorithm="recurrent_ppo")
