"""What an evaluation measures: whole episodes in one unit, in the observations that the player has learnt from, within a bound."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.atari_wrappers import ClipRewardEnv
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from sb3_distill import MultiTaskDistillation, OnlineDistillation, PolicyDistillation
from sb3_distill.evaluation import Episodes, episode_returns, play_episodes
from sb3_distill.evaluation.learning_curves import LearningCurve


class Endless(gym.Env):
    """Pays 5 a step; ends after as many steps as its seed says, or never."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)
    steps = 0

    def __init__(self, ends=True):
        self.ends = ends

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.last = 0, seed if self.ends else None
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        Endless.steps += 1
        return np.zeros(1, np.float32), 5.0, self.t == self.last, False, {}


def still(obs):
    return np.zeros(len(obs), dtype=int)


def test_a_script_plays_episodes_with_what_the_package_offers():
    played = play_episodes(still, lambda n: DummyVecEnv([Endless] * n), 2, seed=3)
    assert isinstance(played, Episodes) and played.n_cut == 0
    assert (
        episode_returns(still, lambda n: DummyVecEnv([Endless] * n), 2, seed=3).tolist()
        == [15, 20]
        == played.returns.tolist()
    )


def test_an_episode_that_is_cut_counts_in_the_units_of_those_that_end():
    """Beneath a wrapper that clips rewards a Monitor counts whole ones."""
    made = [lambda: ClipRewardEnv(Monitor(Endless()))]
    episodes = play_episodes(still, lambda n: DummyVecEnv(made * n), 4, seed=2, max_steps=3)
    assert episodes.returns.tolist() == [10.0, 15.0, 15.0, 15.0]
    assert (episodes.n_cut, episodes.n_steps) == (2, 12)


def test_atari_games_that_are_cut_count_their_unclipped_score():
    pytest.importorskip("ale_py")
    from sb3_distill.envs.atari import make_atari_vec_env

    def act(obs):
        return np.array([1 + step % 3 for _ in obs for step in [int(obs[0].sum())]])

    whole = {}
    for clip_reward in (True, False):
        whole[clip_reward] = play_episodes(
            act, lambda n, c=clip_reward: make_atari_vec_env("SpaceInvaders", n, clip_reward=c), 2, 0, 400
        )
    assert whole[True].n_cut == 2 and (whole[True].returns > 20).any()
    np.testing.assert_array_equal(whole[True].returns, whole[False].returns)


def fixed_statistics(model):
    """Statistics that tell with which of them the model was played."""
    model.get_vec_normalize_env().obs_rms.mean[:] = 100.0
    return model


class Recorder:
    """In the place of a model's ``predict``: takes down what it is shown."""

    def __init__(self):
        self.seen = []

    def __call__(self, obs, **kwargs):
        self.seen.append(np.array(obs))
        return np.zeros(len(obs), dtype=int), None


def test_a_curve_plays_the_student_with_its_vec_normalize(monkeypatch):
    env = VecNormalize(make_vec_env("CartPole-v1", 1))
    model = PPO("MlpPolicy", env, n_steps=32, batch_size=32, device="cpu")
    fixed_statistics(model)
    curve = LearningCurve("CartPole-v1", every=100, n_episodes=2)
    curve.init_callback(model)
    monkeypatch.setattr(model, "predict", recorder := Recorder())
    curve._evaluate()
    assert recorder.seen and all((obs == -10).all() for obs in recorder.seen)


def test_tasks_are_evaluated_with_their_vec_normalize():
    env = {"CartPole-v1": VecNormalize(make_vec_env("CartPole-v1", 1))}
    model = MultiTaskDistillation("MlpPolicy", env, policy_kwargs={"net_arch": [4]}, device="cpu")
    task = fixed_statistics(model.tasks["CartPole-v1"])
    task.policy.predict = recorder = Recorder()
    model.evaluate(n_episodes=2)
    assert recorder.seen and all((obs == -10).all() for obs in recorder.seen)


def test_a_followed_teacher_and_its_student_are_evaluated_with_their_vec_normalizes(monkeypatch, tmp_path):
    student = PolicyDistillation("MlpPolicy", VecNormalize(make_vec_env("CartPole-v1", 1)), device="cpu")
    teacher = DQN("MlpPolicy", VecNormalize(make_vec_env("CartPole-v1", 1)), device="cpu")
    follow = OnlineDistillation(student, "CartPole-v1", every=100, n_episodes=2)
    teacher.set_logger(configure(str(tmp_path), []))
    follow.init_callback(teacher)
    recorders = Recorder(), Recorder()
    for model, recorder in zip((student, teacher), recorders, strict=True):
        fixed_statistics(model)
        monkeypatch.setattr(model, "predict", recorder)
    monkeypatch.setattr(student, "learn", lambda n_steps: None)
    follow._evaluate()
    for recorder in recorders:
        assert recorder.seen and all((obs == -10).all() for obs in recorder.seen)


def test_all_evaluations_together_stay_within_their_steps():
    """In an environment without a time limit, which a student that has learnt nothing does not leave."""
    Endless.steps = 0
    model = PPO("MlpPolicy", DummyVecEnv([lambda: Endless(ends=False)]), n_steps=32, batch_size=32, device="cpu")
    curve = LearningCurve(lambda n: DummyVecEnv([lambda: Endless(ends=False)] * n), 32, 4, total_steps=2_000)
    model.learn(128, callback=curve)
    assert Endless.steps - 128 == curve.steps_made <= 2_000
    assert curve.steps_made > 1_900  # and they use them
    assert [(steps, score.n_cut) for steps, score in curve.points] == [(0, 4), (32, 4), (64, 4), (96, 4), (128, 4)]


def left(obs):
    return np.zeros(len(obs), dtype=int)


def test_a_vec_monitor_counts_episodes_that_are_cut():
    """Hand-written VecEnvs have no Monitor within, and SB3's VecMonitor keeps its counts itself."""
    played = play_episodes(left, lambda n: VecMonitor(make_vec_env("CartPole-v1", n)), 3, max_steps=5)
    assert played.n_cut == 3 and played.returns.tolist() == [5.0] * 3


class HasRewards(gym.Wrapper):
    """An attribute of its own hides that of the Monitor in it."""

    rewards = "goals and falls"


def test_a_monitor_that_does_not_tell_costs_no_run():
    def make(n):
        return DummyVecEnv([lambda: HasRewards(Monitor(gym.make("CartPole-v1")))] * n)

    with pytest.warns(UserWarning, match=r"^The Monitor of 3 episodes that were cut does not say .* 5 on average\.$"):
        played = play_episodes(left, make, 3, max_steps=5)
    assert played.returns.tolist() == [5.0] * 3


def test_as_many_environments_as_are_asked_for():
    with pytest.raises(ValueError, match=r"^env must be a function that makes as many .*: 5 were, and there are 2\.$"):
        play_episodes(left, lambda n: make_vec_env("CartPole-v1", 2), 5)


def test_the_environment_of_training_is_not_played_and_closed():
    venv = make_vec_env("CartPole-v1", 2)
    model = PPO("MlpPolicy", venv, n_steps=32, batch_size=64, device="cpu")
    with pytest.raises(ValueError, match=r"^The environment to evaluate in is the one of training"):
        model.learn(64, callback=LearningCurve(lambda n: venv, 64, 2))
    assert model.num_timesteps == 0
    model.learn(64)


@pytest.mark.parametrize("monitored", [True, False])
def test_returns_of_normalised_rewards_are_said(monitored):
    """Where a Monitor beneath counts the environment's own, they are these."""

    def made(n):
        return VecNormalize(DummyVecEnv([(lambda: Monitor(Endless())) if monitored else Endless] * n))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        returns = episode_returns(still, made, 2, seed=3)
    assert ["VecNormalize has normalised" in str(one.message) for one in caught] == ([] if monitored else [True])
    assert (returns.tolist() == [15, 20]) == monitored
