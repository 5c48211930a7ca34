"""Whose reward is reported, in which unit a critic is, and teachers that travel to other processes."""

import copy
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecMonitor, VecNormalize

from envs_for_tests import actor_critic_teacher
from sb3_distill import TeacherVReward, TeacherVRewardA2C, load_teacher
from sb3_distill.algorithms import distillation
from sb3_distill.algorithms.advantages import add_reward
from sb3_distill.common.layers import reward_unit
from sb3_distill.common.replaced import replaced
from sb3_distill.envs import TeacherReward, VecTeacherReward


class Pays(gym.Env):
    """Pays 3 a step, for six steps; the observation array is written over by the next step, and by the next reset."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self):
        self.array = np.zeros(3, np.float32)

    def _obs(self):
        self.array[:] = self.np_random.uniform(-1, 1, 3)
        return self.array

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action):
        self.t += 1
        return self._obs(), 3.0, False, self.t == 6, {}


@pytest.fixture
def teacher():
    return actor_critic_teacher(Pays())


# --- whose return -----------------------------------------------------------------------------------------------------


def test_a_monitor_outside_does_not_report_what_the_teacher_pays(teacher):
    """``make_vec_env`` puts one around whatever it is given: the return in infos stays the environment's, and a warning says so."""
    env = make_vec_env(lambda: TeacherReward(Pays(), teacher), 2, seed=0)
    with pytest.warns(UserWarning, match=r"outer one's file .* wrapper_class=TeacherReward"):
        model = PPO("MlpPolicy", env, n_steps=32, batch_size=32, device="cpu").learn(64)
    assert {episode["r"] for episode in model.ep_info_buffer} == {18.0}
    assert evaluate_policy(model, env, 4)[0] == 18.0
    inside = make_vec_env(Pays, 2, seed=0, wrapper_class=TeacherReward, wrapper_kwargs={"teacher": teacher})
    assert evaluate_policy(model, inside, 4)[0] == 18.0


def test_a_vec_monitor_outside_does_not_either(teacher):
    """Where a monitor is beneath; where there is none, nobody else counts, and nothing is kept from it."""
    monitored = VecMonitor(VecTeacherReward(VecMonitor(DummyVecEnv([Pays] * 2)), teacher))
    model = PPO("MlpPolicy", monitored, n_steps=32, batch_size=32, device="cpu").learn(64)
    assert {episode["r"] for episode in model.ep_info_buffer} == {18.0}
    alone = VecMonitor(VecTeacherReward(DummyVecEnv([Pays] * 2), teacher))
    assert PPO("MlpPolicy", alone, n_steps=32, batch_size=32, device="cpu").learn(64).ep_info_buffer


def test_infos_travel(teacher):
    """As copies and as pickles, with what was in them."""
    env = TeacherReward(Pays(), teacher)
    env.reset(seed=0)
    for _ in range(6):
        info = env.step(0)[-1]
    assert info["episode"]["r"] == 18.0 and "teacher_reward" in info
    for same in (copy.deepcopy(info), pickle.loads(pickle.dumps(info)), info.copy()):
        assert dict(same) == dict(info)


def test_the_last_observation_outlives_the_reset(teacher):
    """SB3 hands it on after the environment has written the next episode's first one into the same array."""
    env = DummyVecEnv([lambda: TeacherReward(Pays(), teacher)])
    env.seed(0)
    kept = [env.reset()[0].copy()]
    for _ in range(6):
        obs, _, _, infos = env.step([0])
        kept.append(obs[0].copy())
    assert not np.array_equal(infos[0]["terminal_observation"], kept[-1])


# --- the unit of a critic ---------------------------------------------------------------------------------------------


def rollout(cls, teacher, sigma, normalised, env_reward_coef):
    """One rollout of a student whose critic is of the return over ``sigma``: r̂, advantages, values, returns."""
    env = make_vec_env(lambda: gym.make("CartPole-v1", max_episode_steps=9), 3, seed=1)
    if normalised:
        env = VecNormalize(env, norm_obs=False, training=False, clip_reward=1e9, epsilon=0.0)
        env.ret_rms.var = sigma**2
    model = cls(
        "MlpPolicy",
        env,
        teacher=teacher,
        baseline="student",
        env_reward_coef=env_reward_coef,
        n_steps=32,
        seed=0,
        device="cpu",
    )
    with th.no_grad():
        model.policy.value_net.bias += 7.0
        for weight in model.policy.value_net.parameters():
            weight /= sigma if normalised else 1.0
    model.train = lambda: None
    paid = []

    def add(buffer, compute, last_values, injected, *rest):
        paid.append(injected.copy())
        add_reward(buffer, compute, last_values, injected, *rest)

    with replaced(distillation, "add_reward", add):
        model.learn(96)
    buffer = model.rollout_buffer
    return paid[0], buffer.advantages, buffer.values, buffer.returns


@pytest.mark.parametrize("cls", [TeacherVReward, TeacherVRewardA2C])
@pytest.mark.parametrize("env_reward_coef", [0.0, 0.5])
def test_a_students_baseline_is_in_the_environments_unit(cls, env_reward_coef):
    """
    Under ``VecNormalize(norm_reward=True)`` a critic V of r has learnt V/σ. A student with that critic in normalised rewards has the r̂
    and the advantages that one with V has in raw ones, for any σ: they are computed from rewards, time limits and all, alike.
    """
    teacher = actor_critic_teacher(gym.make("CartPole-v1"))
    found = []
    for sigma, normalised in ((1.0, False), (8.0, True), (0.01, True)):
        paid, advantages, values, returns = rollout(cls, teacher, sigma, normalised, env_reward_coef)
        found.append((paid, advantages, values * sigma, returns * sigma))
    assert np.abs(found[0][2]).min() > 1
    for mine in found[1:]:
        for a, b in zip(mine, found[0], strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


def test_the_unit_is_what_vec_normalize_divides_by():
    """Of all that are in the chain and normalise rewards."""
    base = DummyVecEnv([Pays])
    assert reward_unit(base) == 1.0
    inner = VecNormalize(base, norm_reward=False)
    outer = VecNormalize(VecMonitor(inner), clip_reward=1e9, training=False)
    inner.ret_rms.var, outer.ret_rms.var = 100.0, 4.0
    outer.reset()
    assert outer.step(np.zeros(1, int))[1][0] * reward_unit(outer) == pytest.approx(3.0)


# --- teachers that travel ---------------------------------------------------------------------------------------------


def normalised_teacher():
    env = VecNormalize(make_vec_env("CartPole-v1", 2, seed=0))
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=64, device="cpu", seed=0).learn(128)
    return load_teacher(model), env


def test_a_normalised_teacher_can_be_pickled():
    """And answers as before: a recipe for workers in other processes, and for copies."""
    teacher, env = normalised_teacher()
    assert teacher.env_id == "CartPole-v1"
    obs = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    expected = teacher.answer(obs, with_value=True)
    np.testing.assert_allclose(teacher.normalize_obs(obs), env.normalize_obs(obs), atol=1e-6)
    for same in (pickle.loads(pickle.dumps(teacher)), copy.deepcopy(teacher)):
        for a, b in zip(same.answer(obs, with_value=True), expected, strict=True):
            assert th.equal(a, b)


def test_a_normalised_teacher_pays_in_a_worker():
    """TeacherReward in SB3's SubprocVecEnv pays what it pays here."""
    teacher, _ = normalised_teacher()

    def make():
        return TeacherReward(gym.make("CartPole-v1"), teacher)

    paid = []
    for env in (DummyVecEnv([make]), SubprocVecEnv([make], start_method="fork")):
        env.seed(0)
        env.reset()
        paid.append([env.step(np.ones(1, int))[1][0] for _ in range(4)])
        env.close()
    np.testing.assert_allclose(*paid, rtol=1e-6)


class CustomNetwork(th.nn.Module):
    """As in SB3's documentation of custom networks, with other names."""

    latent_dim_pi = latent_dim_vf = 8

    def __init__(self, n):
        super().__init__()
        self.trunk, self.value_net = th.nn.Linear(n, 8), th.nn.Linear(n, 8)

    def forward_actor(self, x):
        return self.trunk(x)

    def forward_critic(self, x):
        return self.value_net(x)

    def forward(self, x):
        return self.trunk(x), self.value_net(x)


class CustomPolicy(ActorCriticPolicy):
    def _build_mlp_extractor(self):
        self.mlp_extractor = CustomNetwork(self.features_dim)


def test_a_custom_network_can_be_printed():
    """Its actor is counted: what is not the critic's."""
    teacher = load_teacher(PPO(CustomPolicy, "CartPole-v1", device="cpu"))
    assert teacher.n_parameters == (4 * 8 + 8) + (8 * 2 + 2)
    assert f"{teacher.n_parameters:,} parameters" in repr(teacher)


def test_a_live_model_that_was_loaded_without_its_vec_normalize_is_said(tmp_path):
    """As its zip is; not where it has the statistics, is given them, or never had any."""
    venv = VecNormalize(make_vec_env("CartPole-v1", 2, seed=0))
    model = PPO("MlpPolicy", venv, n_steps=32, batch_size=64, device="cpu").learn(64)
    model.save(tmp_path / "agent.zip")
    venv.save(tmp_path / "statistics.pkl")
    with pytest.warns(UserWarning, match=r"^PPO model was trained under a VecNormalize, and was loaded without it"):
        load_teacher(PPO.load(tmp_path / "agent.zip", device="cpu"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_teacher(model)
        load_teacher(PPO.load(tmp_path / "agent.zip", device="cpu"), vec_normalize=tmp_path / "statistics.pkl")
        load_teacher(PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, device="cpu").learn(32))
