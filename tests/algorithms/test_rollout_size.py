"""Rollouts and minibatches: what a user leaves out fits what was given."""

import warnings

import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from envs_for_tests import IMAGE_SPACE, CountdownEnv, actor_critic_teacher
from sb3_distill import DistillA2C, DistillPPO, NDistill, OnPolicyDistillA2C
from sb3_distill.algorithms.rollout_size import batch_that_fits, steps_that_fill


def make(engine, n_envs, policy="MlpPolicy", env=CountdownEnv, **kwargs):
    return engine(policy, DummyVecEnv([env] * n_envs), device="cpu", **kwargs)


@pytest.fixture(autouse=True)
def no_warning_of_cut_minibatches():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="You have specified a mini-batch size")
        yield


@pytest.mark.parametrize("n_envs", [1, 2, 3, 5, 7, 12])
@pytest.mark.parametrize("batch_size", [None, 100])
def test_the_rollout_is_a_multiple_of_the_minibatch(n_envs, batch_size):
    given = {} if batch_size is None else {"batch_size": batch_size}
    model = make(NDistill, n_envs, **given)
    assert model.n_steps >= 32
    assert model.n_steps * n_envs % model.batch_size == 0
    assert model.batch_size == (batch_size or 64)


def image_env():
    return CountdownEnv(IMAGE_SPACE)


@pytest.mark.parametrize("n_envs", [1, 3])
def test_of_image_students_too(n_envs):
    """Their minibatches are larger: one environment made rollouts of half a minibatch."""
    model = make(NDistill, n_envs, "CnnPolicy", image_env)
    assert model.batch_size == DistillPPO.pixel_defaults["batch_size"]
    assert model.n_steps * n_envs % model.batch_size == 0
    given = make(NDistill, n_envs, "CnnPolicy", image_env, n_steps=100)
    assert (given.n_steps, given.n_steps * n_envs % given.batch_size) == (100, 0)


@pytest.mark.parametrize(("n_steps", "n_envs"), [(10, 8), (101, 1), (100, 3), (128, 1), (16, 4)])
def test_the_minibatch_divides_the_rollout_that_is_given(n_steps, n_envs):
    model = make(NDistill, n_envs, n_steps=n_steps)
    assert model.n_steps == n_steps
    assert n_steps * n_envs % model.batch_size == 0
    assert 32 <= model.batch_size <= 128


def test_where_nothing_fits_sb3_warns_as_it_does_of_its_own():
    assert batch_that_fits(64, 2 * 251) == 64
    with pytest.raises(UserWarning, match="mini-batch size of 64"):
        make(NDistill, 2, n_steps=251)
    with pytest.raises(UserWarning, match="mini-batch size of 48"):
        make(NDistill, 2, n_steps=32, batch_size=48)


def test_by_hand():
    assert [steps_that_fill(128, 256, n) for n in (1, 2, 3, 4, 8, 100)] == [256, 128, 256, 128, 128, 128]
    assert [batch_that_fits(256, n) for n in (512, 300, 1000)] == [256, 300, 250]


def test_loading_with_other_environments_warns_with_the_numbers(tmp_path):
    teacher = actor_critic_teacher(CountdownEnv())
    make(NDistill, 8, teacher=teacher).save(tmp_path / "student")
    with pytest.warns(UserWarning, match="n_steps=32 in 1 environments has 32 states, and batch_size=64 leaves .* 32"):
        model = NDistill.load(tmp_path / "student", env=DummyVecEnv([CountdownEnv]), teacher=teacher)
    assert model.learn(64).num_timesteps == 64
    NDistill.load(tmp_path / "student", env=DummyVecEnv([CountdownEnv] * 4), teacher=teacher, n_steps=64)


@pytest.mark.parametrize("engine", [DistillA2C, OnPolicyDistillA2C])
def test_a_rollout_of_one_state(engine, tmp_path):
    """The standard deviation of one advantage is NaN, and SB3's A2C divides by it."""
    teacher = actor_critic_teacher(CountdownEnv())
    model = make(engine, 1, teacher=teacher, n_steps=1).learn(20)
    assert not model.normalize_advantage
    with pytest.raises(ValueError, match=r"^A rollout of n_steps=1 in one environment has a single advantage"):
        make(engine, 1, teacher=teacher, n_steps=1, normalize_advantage=True)
    make(engine, 2, teacher=teacher, n_steps=1).save(tmp_path / "student")
    with pytest.raises(ValueError, match="or normalize_advantage=False"):
        engine.load(tmp_path / "student", env=DummyVecEnv([CountdownEnv]), teacher=teacher)
    loaded = engine.load(
        tmp_path / "student", env=DummyVecEnv([CountdownEnv]), teacher=teacher, normalize_advantage=False
    )
    for student in (model, loaded.learn(20)):
        assert all(p.isfinite().all() for p in student.policy.parameters())
