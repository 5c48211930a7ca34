"""How far a student has come is said rightly: shares and their errors against a bootstrap, likeness against a count by hand."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from sb3_distill import PolicyDistillation, load_teacher
from sb3_distill.evaluation.episodes import episode_returns, greedy
from sb3_distill.evaluation.student_env import seen_by
from sb3_distill.experiment.comparison import likeness, share_of_teacher


def test_the_error_of_a_share_is_that_of_a_bootstrap():
    """Episodes are hard or easy for teacher, student and random play alike."""
    dice = np.random.default_rng(0)
    n = 200
    hard = dice.normal(size=n)
    teacher = 100 + 30 * hard + 5 * dice.normal(size=n)
    student = 80 + 28 * hard + 9 * dice.normal(size=n)
    random = 5 + 3 * dice.normal(size=n)
    share = share_of_teacher(teacher, student, random)
    assert share.mean == pytest.approx((student.mean() - random.mean()) / (teacher.mean() - random.mean()), rel=1e-12)
    drawn = dice.integers(n, size=(20_000, n))
    means = [x[drawn].mean(axis=1) for x in (teacher, student, random)]
    bootstrap = (means[1] - means[2]) / (means[0] - means[2])
    assert share.standard_error == pytest.approx(bootstrap.std(), rel=0.03)
    unpaired = np.sqrt(sum(x.var(ddof=1) / n for x in (teacher, student))) / (teacher.mean() - random.mean())
    assert share.standard_error < unpaired / 2


def test_a_share_has_no_unit_and_no_zero():
    dice = np.random.default_rng(1)
    teacher, student, random = (level + dice.normal(size=20) for level in (-90.0, -120.0, -200.0))
    share = share_of_teacher(teacher, student, random)
    moved = share_of_teacher(*(1e-4 * x + 7 for x in (teacher, student, random)))
    assert 0.6 < share.mean < 0.85
    np.testing.assert_allclose(moved, share, rtol=1e-6)


def test_a_perfect_copy_has_a_share_of_1_without_error():
    teacher = np.array([10.0, 12.0, 9.0])
    assert share_of_teacher(teacher, teacher, np.zeros(3)) == (1.0, 0.0)


@pytest.mark.parametrize("teacher", [np.array([1.0, -1.0, 2.0, -2.0]), np.zeros(4), -np.ones(4)])
def test_where_the_teacher_is_no_better_than_random_play_nothing_is_shared(teacher):
    assert share_of_teacher(teacher, teacher, np.zeros(4)) is None


def test_shares_of_other_episodes_are_refused():
    with pytest.raises(ValueError, match="3 of the teacher, 2 of the student"):
        share_of_teacher(np.ones(3), np.ones(2), np.zeros(3))


def biased(model, action):
    """The model, which always takes one action."""
    with th.no_grad():
        model.policy.action_net.weight.zero_()
        model.policy.action_net.bias.zero_()
        model.policy.action_net.bias[action] = 3.0
    return model


class Clock(gym.Env):
    """Shows the step's number, which decides what its teacher does; ends after 10 steps."""

    observation_space = spaces.Box(0, 10, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.array([self.t], np.float32), {}

    def step(self, action):
        self.t += 1
        return np.array([self.t], np.float32), 0.0, self.t == 10, False, {}


def test_likeness_is_counted_on_the_students_own_states():
    """The teacher's favourite is 1 where the clock shows more than 6: in 3 of 10 states. The student always takes 1."""
    env = DummyVecEnv([Clock] * 2)
    teacher_model = biased(PPO("MlpPolicy", env, policy_kwargs={"net_arch": []}, device="cpu"), 0)
    with th.no_grad():
        teacher_model.policy.action_net.weight[1] = 1.0
        teacher_model.policy.action_net.bias[:] = th.tensor([6.5, 0.0])
    student = biased(PPO("MlpPolicy", env, policy_kwargs={"net_arch": []}, device="cpu"), 1)
    found = likeness(student, load_teacher(teacher_model), env, n_states=40)
    t = np.tile(np.arange(10), 4)
    one = 1 / (1 + np.exp(6.5 - t))
    student_one = 1 / (1 + np.exp(-3.0))
    kl = one * np.log(one / student_one) + (1 - one) * np.log((1 - one) / (1 - student_one))
    assert (found.n_states, found.agreement, found.mean_distance) == (40, 0.3, None)
    assert found.kl == pytest.approx(kl.mean(), rel=1e-5)


def test_of_continuous_actions_the_distance_is_told():
    env = make_vec_env("Pendulum-v1", 2, seed=0)
    models = [PPO("MlpPolicy", env, policy_kwargs={"net_arch": []}, device="cpu") for _ in range(2)]
    for model, action in zip(models, (0.5, -9.0), strict=True):
        with th.no_grad():
            model.policy.action_net.weight.zero_()
            model.policy.action_net.bias.fill_(action)
    found = likeness(models[0], load_teacher(models[1]), env, n_states=10)
    assert found.mean_distance == pytest.approx(2.5)  # the environment takes −9 as −2
    assert found.agreement is None


def test_a_student_with_q_values_has_no_policy_to_compare():
    student = PolicyDistillation("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [8]}, device="cpu")
    found = likeness(student, load_teacher("zoo:dqn/CartPole-v1", temperature=0.1), make_vec_env("CartPole-v1", 2), 20)
    assert found.kl is None and 0 <= found.agreement <= 1


def normalised_student(around=lambda env: env):
    """A model of CartPole that has learnt with VecNormalize."""
    env = around(VecNormalize(make_vec_env("CartPole-v1", 2, seed=0)))
    model = PPO("MlpPolicy", env, n_steps=32, batch_size=32, seed=0, device="cpu").learn(64)
    model.get_vec_normalize_env().obs_rms.mean[:] = [1.0, 2.0, 3.0, 4.0]
    return model


@pytest.mark.parametrize("around", [lambda env: env, lambda env: VecFrameStack(env, 2)], ids=["plain", "stacked"])
def test_a_model_plays_with_the_statistics_that_it_has_learnt_with(around):
    model = normalised_student(around)
    env = seen_by(model, DummyVecEnv([lambda: gym.make("CartPole-v1")]))
    env.seed(3)
    raw = gym.make("CartPole-v1").reset(seed=3)[0]
    rms = model.get_vec_normalize_env().obs_rms
    expected = np.clip((raw - rms.mean) / np.sqrt(rms.var + 1e-8), -10, 10)
    np.testing.assert_allclose(env.reset()[0, -4:], expected, rtol=1e-5)
    before = rms.mean.copy(), rms.count
    episode_returns(greedy(model.predict), lambda n: seen_by(model, make_vec_env("CartPole-v1", n)), 3)
    np.testing.assert_array_equal(rms.mean, before[0])
    assert rms.count == before[1]
    assert env.step([0])[1][0] == 1.0  # the environment's own reward


def test_an_environment_in_the_wrappers_of_training_gets_the_models_statistics():
    model = normalised_student()
    given = VecNormalize(make_vec_env("CartPole-v1", 1))
    assert seen_by(model, given) is given
    np.testing.assert_array_equal(given.obs_rms.mean, [1.0, 2.0, 3.0, 4.0])
    assert given.obs_rms is not model.get_vec_normalize_env().obs_rms
    assert not given.training and not given.norm_reward


def test_other_observations_than_the_statistics_are_of_are_refused():
    with pytest.raises(ValueError, match="with the wrappers of training"):
        seen_by(normalised_student(), make_vec_env("Acrobot-v1", 1))


def test_likeness_of_a_normalised_student_is_of_the_teachers_own_observations():
    """A student with VecNormalize that does as its teacher does agrees with it in every state."""
    env = VecNormalize(make_vec_env("CartPole-v1", 2, seed=0))
    teacher = PPO("MlpPolicy", make_vec_env("CartPole-v1", 2, seed=0), seed=1, device="cpu")
    student = PPO("MlpPolicy", env, policy_kwargs={"net_arch": []}, n_steps=32, batch_size=32, seed=0, device="cpu")
    biased(student, 1)
    with th.no_grad():
        teacher.policy.action_net.bias[1] = 50.0
    found = likeness(student, load_teacher(teacher), make_vec_env("CartPole-v1", 2, seed=0), 50)
    assert found.agreement == 1.0


def test_the_training_environment_itself_goes_on_as_it_was():
    """Its VecNormalize still learns, and still normalises rewards; only what the comparison looks through stands still."""
    venv = VecNormalize(make_vec_env("CartPole-v1", 2, seed=0))
    model = PPO("MlpPolicy", venv, n_steps=32, batch_size=64, n_epochs=1, device="cpu").learn(64)
    count = venv.obs_rms.count
    likeness(model, load_teacher("zoo:dqn/CartPole-v1", temperature=0.1), model.get_env(), n_states=20)
    assert venv.training and venv.norm_reward and venv.obs_rms.count == count
    model.learn(64, reset_num_timesteps=False)
    assert venv.obs_rms.count > count


def test_the_training_environment_in_frames_is_read_in_frames():
    venv = VecFrameStack(VecNormalize(make_vec_env("CartPole-v1", 2, seed=0)), 3)
    model = PPO("MlpPolicy", venv, n_steps=32, batch_size=64, device="cpu")
    seen = seen_by(model, model.get_env())
    assert seen.observation_space.shape == (12,) and seen.reset().shape == (2, 12)
    assert venv.venv.training


def test_slow_steps_end_a_comparison_early():
    """With what there is by then: the first states, at least."""
    env = make_vec_env("CartPole-v1", 2, seed=0)
    student = PPO("MlpPolicy", env, seed=0, device="cpu")
    alike = likeness(student, load_teacher("zoo:dqn/CartPole-v1", temperature=0.1), env, n_states=100, seconds=0.0)
    assert alike.n_states == 2 and 0 <= alike.agreement <= 1 and alike.kl > 0
