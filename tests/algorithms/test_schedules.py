"""Settings that depend on the progress of a run: none of SB3's kind ends one, and those that would are refused before it."""

import json

import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import HParam
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv

from envs_for_tests import CountdownEnv, actor_critic_teacher
from sb3_distill import DistillA2C, DistillPPO, NDistill, PolicyDistillation, TeacherDistill, TeacherVReward
from sb3_distill.algorithms.schedules import LoggableSchedule, schedule_of, value_at

SMALL = dict(n_steps=16, batch_size=16, n_epochs=1)


def make(engine=DistillPPO, **kwargs):
    settings = dict(SMALL) if issubclass(engine, DistillPPO) else dict(n_steps=16)
    teacher = actor_critic_teacher(CountdownEnv())
    return engine("MlpPolicy", DummyVecEnv([CountdownEnv]), teacher=teacher, device="cpu", **(settings | kwargs))


@pytest.mark.parametrize("make_number", [float, np.float32, th.tensor, np.array])
@pytest.mark.parametrize("name", ["loss_coef", "reward_coef", "env_reward_coef", "learning_rate"])
@pytest.mark.parametrize("engine", [DistillPPO, DistillA2C])
def test_a_last_rollout_that_ends_after_the_run(engine, name, make_number):
    """Progress falls below 0 there, and ``c * p`` with it: SB3's PPO finishes, and so does a student, at a rate that is not negative."""
    model = make(engine, **{name: lambda p: make_number(1e-3 * p)}).learn(40)
    assert model.num_timesteps == 48 > 40
    assert model._current_progress_remaining == 0.0
    assert model.policy.optimizer.param_groups[0]["lr"] >= 0.0


def test_without_distillation_progress_is_sb3s():
    """To the bit, below 0 too."""
    settings = dict(SMALL, learning_rate=lambda p: 1e-3 * p, seed=1, device="cpu", gamma=0.9, normalize_advantage=True)
    settings |= dict(max_grad_norm=0.5, vf_coef=0.5)
    ours = DistillPPO(
        "MlpPolicy",
        DummyVecEnv([CountdownEnv]),
        teacher=actor_critic_teacher(CountdownEnv()),
        loss_coef=0.0,
        reward_coef=0.0,
        env_reward_coef=1.0,
        **settings,
    ).learn(40)
    plain = PPO("MlpPolicy", DummyVecEnv([CountdownEnv]), **settings).learn(40)
    assert ours._current_progress_remaining == plain._current_progress_remaining < 0
    for a, b in zip(ours.policy.parameters(), plain.policy.parameters(), strict=True):
        assert th.equal(a, b)


@pytest.mark.parametrize("name", ["loss_coef", "reward_coef", "env_reward_coef", "learning_rate"])
@pytest.mark.parametrize("schedule", [lambda p: 1 / p, lambda p: np.array([p, p])])
def test_a_schedule_that_would_fail_is_refused_before_any_work(name, schedule):
    with pytest.raises(ValueError, match=rf"^{name} must give a number for every progress_remaining from 1 to 0"):
        make(**{name: schedule})


@pytest.mark.parametrize("schedule", [lambda p: p - 0.5, lambda p: float("nan"), lambda p: float("inf")])
def test_a_schedule_that_gives_no_weight_is_refused_before_any_work(schedule):
    with pytest.raises(ValueError, match=r"^Coefficients must be at least 0"):
        make(loss_coef=schedule)


def test_what_is_no_schedule():
    with pytest.raises(
        ValueError, match=r"^loss_coef must be a number or a schedule of progress_remaining, not 'much'"
    ):
        make(loss_coef="much")
    assert schedule_of("x", np.float32(0.5))(1.0) == schedule_of("x", th.tensor(0.5))(0.0) == 0.5
    assert value_at("x", lambda p: p, -0.1) == 0.0


def test_a_second_run_begins_with_its_own_progress():
    """Its first rollout was weighed with what the last one had ended with."""
    seen = []

    class Watch(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_start(self):
            seen.append(self.model._weights()[1])

    model = make(method="n_distill", reward_coef=LinearSchedule(1.0, 0.0, 1.0))
    model.learn(32, callback=Watch())
    model.learn(32, callback=Watch())
    assert seen == [1.0, 0.5] * 2
    model.learn(32, callback=Watch(), reset_num_timesteps=False)
    assert seen[4:] == [0.5, 0.25]  # of 64 steps in all, as SB3 counts


@pytest.mark.parametrize("engine", [DistillPPO, DistillA2C])
def test_a_run_of_no_steps(engine):
    model = make(engine, averaging=1.0)
    before = [p.clone() for p in model.policy.parameters()]
    model.learn(0)
    model.learn(0, reset_num_timesteps=False)
    assert all(th.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))
    model.learn(16)


class HParamCallback(BaseCallback):
    """As SB3's documentation has it."""

    def _on_training_start(self):
        hyperparameters = {"learning rate": self.model.learning_rate, "gamma": self.model.gamma}
        self.logger.record("hparams", HParam(hyperparameters, {"a": 0.0}), exclude=("stdout", "log", "json", "csv"))

    def _on_step(self):
        return True


@pytest.mark.parametrize("engine", [NDistill, DistillA2C, PolicyDistillation])
def test_the_default_learning_rate_can_be_logged(engine, tmp_path):
    """It is a schedule; TensorBoard takes numbers. In a student that was loaded, too."""
    pytest.importorskip("tensorboard")
    teacher = actor_critic_teacher(CountdownEnv())
    small = {NDistill: dict(SMALL), DistillA2C: {}, PolicyDistillation: dict(loss="kl", temperature=1.0, train_freq=8)}
    env = DummyVecEnv([CountdownEnv])
    model = engine(
        "MlpPolicy", env, teacher=teacher, tensorboard_log=str(tmp_path / "tb"), device="cpu", **small[engine]
    )
    model.learn(16, callback=HParamCallback())
    model.save(tmp_path / "student")
    loaded = engine.load(tmp_path / "student", env=env, teacher=teacher)
    loaded.learn(16, callback=HParamCallback())
    assert loaded.learning_rate == model.learning_rate == model.lr_schedule(1.0)
    assert loaded.lr_schedule(0.0) == model.lr_schedule(0.0) < model.learning_rate
    assert json.loads(json.dumps(model.learning_rate)) == model.learning_rate


def test_what_is_saved_has_sb3s_own_schedule(tmp_path):
    model = make(NDistill)
    model.save(tmp_path / "student")
    plain = PPO.load(tmp_path / "student")
    assert type(plain.learning_rate) is LinearSchedule
    assert plain.lr_schedule(0.5) == model.lr_schedule(0.5) != model.lr_schedule(1.0)


def test_a_learning_rate_that_is_given_stays():
    assert make(learning_rate=1e-3).learning_rate == 1e-3
    mine = make(learning_rate=LoggableSchedule(1e-3, 1e-4, 0.5))
    assert (mine.learning_rate, mine.lr_schedule(0.2)) == (1e-3, 1e-4)
    assert repr(mine.learning_rate) == "LinearSchedule(start=0.001, end=0.0001, end_fraction=0.5)"


def test_a_weight_that_falls_to_0_leaves_no_negative_rate_behind():
    """Kickstarting: with ℓ gone at the end, the last update is the environment's alone, and still descends."""
    schedules = dict(loss_coef=lambda p: p, learning_rate=lambda p: 1e-3 * p)
    model = make(method="on_policy_distill", env_reward_coef=1.0, **schedules).learn(40)
    assert model._current_progress_remaining == 0.0
    assert model.policy.optimizer.param_groups[0]["lr"] == 0.0


@pytest.mark.parametrize("weight", [1.0, lambda p: 1.0, FloatSchedule(1.0)])
def test_a_weight_of_a_term_that_a_row_does_not_have_is_refused_whatever_its_kind(weight):
    with pytest.raises(ValueError, match=r"^The method 'teacher_distill' has no reward r̂"):
        make(method="teacher_distill", reward_coef=weight)


def test_a_student_of_one_method_is_not_loaded_as_one_of_another(tmp_path):
    make(NDistill).save(tmp_path / "student.zip")
    assert DistillPPO.load(tmp_path / "student.zip").method == "n_distill"
    with pytest.raises(ValueError, match=r"^This is a student of 'n_distill', and TeacherDistill is 'teacher_distill'"):
        TeacherDistill.load(tmp_path / "student.zip")


def test_gamma_may_be_a_schedule():
    """A rollout has the number that it gives as the rollout begins, in the student's rewards and in SB3's advantages."""
    seen = []

    class Seen(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):
            buffer, model = self.model.rollout_buffer, self.model
            seen.append(model.gamma)
            assert model.gamma == buffer.gamma
            ahead = np.append(buffer.values[1:, 0], model.policy.predict_values(th.tensor(model._last_obs)).item())
            begins = np.append(buffer.episode_starts[1:, 0], model._last_episode_starts[0])
            one_step = buffer.rewards[:, 0] + seen[-1] * ahead * (1 - begins) - buffer.values[:, 0]
            np.testing.assert_allclose(buffer.advantages[:, 0], one_step, atol=1e-5)

    model = make(method="teacher_v_reward", gamma=LinearSchedule(0.5, 0.9, 0.5), gae_lambda=0.0, averaging=0.0)
    model.learn(64, callback=Seen())
    assert seen == pytest.approx([0.5, 0.7, 0.9, 0.9])


@pytest.mark.parametrize("engine", [DistillPPO, DistillA2C])
def test_a_schedule_of_one_number_is_that_number(engine):
    """To the bit, r̂ = −γ ℓ included."""
    one, other = (make(engine, method="n_distill", gamma=gamma, seed=0).learn(64) for gamma in (0.9, lambda _: 0.9))
    for a, b in zip(one.policy.parameters(), other.policy.parameters(), strict=True):
        assert th.equal(a, b)


def test_a_student_with_a_scheduled_gamma_is_saved_and_loaded(tmp_path):
    """As SB3's own PPO, with the number of its last rollout, and as itself, with the schedule; a number that is given replaces it."""
    schedule = LinearSchedule(0.5, 0.9, 0.5)
    model = make(gamma=schedule).learn(64)
    model.save(tmp_path / "student")
    assert PPO.load(tmp_path / "student", env=model.env, device="cpu").gamma == 0.9
    loaded = DistillPPO.load(tmp_path / "student", env=model.env, teacher=model.teacher, device="cpu")
    assert loaded.gamma_schedule(1.0) == 0.5
    assert loaded.learn(16).gamma == schedule(0.0)
    fixed = DistillPPO.load(tmp_path / "student", env=model.env, teacher=model.teacher, gamma=0.7, device="cpu")
    assert fixed.learn(16).gamma == 0.7
    loaded.gamma = 0.6
    assert loaded.learn(16).gamma == loaded.rollout_buffer.gamma == 0.6
    for gamma, expected in ((0.7, 0.7), (LinearSchedule(0.3, 0.4, 1.0), 0.3)):
        given = DistillPPO.load(tmp_path / "student", env=model.env, custom_objects={"gamma": gamma}, device="cpu")
        given.teacher = model.teacher
        assert given.gamma == expected
        assert given.learn(16).gamma == (0.7 if expected == 0.7 else 0.4)
    PPO.load(tmp_path / "student", gamma=0.2, device="cpu").save(tmp_path / "theirs")
    theirs = DistillPPO.load(tmp_path / "theirs", env=model.env, teacher=model.teacher, device="cpu")
    assert theirs.learn(16).gamma == 0.2


def test_a_class_with_a_scheduled_gamma_loads_sb3s_own(tmp_path):
    PPO("MlpPolicy", DummyVecEnv([CountdownEnv]), gamma=0.95, device="cpu", **SMALL).save(tmp_path / "plain")
    teacher = actor_critic_teacher(CountdownEnv())
    model = TeacherVReward.load(tmp_path / "plain", DummyVecEnv([CountdownEnv]), teacher=teacher, device="cpu")
    assert callable(TeacherVReward.settings(CountdownEnv())["gamma"])
    assert model.learn(16).gamma == 0.95


def test_values_that_are_compared_are_of_one_discount():
    """V_πθ beside V_π: the class's default does not rise there, and one that is given is a warning."""
    assert not callable(TeacherVReward.settings(CountdownEnv(), baseline="student")["gamma"])
    teacher = actor_critic_teacher(CountdownEnv())
    teacher.gamma = 0.99
    model = make(method="teacher_v_reward", baseline="student", gamma=LinearSchedule(0.5, 0.9, 0.5))
    model.teacher = teacher
    with pytest.warns(UserWarning, match=r"V_πθ of the student's gamma=0\.5 rising to 0\.9\. Give gamma=0\.99\."):
        model.learn(16)


def test_a_gamma_outside_its_range_is_refused():
    with pytest.raises(
        ValueError, match=r"^gamma must lie between 0 and 1, and its schedule gives 1\.5 for progress_remaining=0\."
    ):
        make(gamma=LinearSchedule(0.5, 1.5, 1.0))
    with pytest.raises(ValueError, match=r"its schedule gives 1\.2 for progress_remaining=0\.75"):
        make(gamma=lambda p: 1.2 if 0.6 < p < 0.9 else 0.9).learn(64)
    with pytest.raises(ValueError, match="gamma of PPO is a number, not a schedule"):
        make().then_rl(16, gamma=LinearSchedule(0.5, 0.9, 1.0))
