"""Students that teach each other: who teaches whom and when, and what the schedules of a whole run are."""

import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_distill import DistillPPO, EnsembleTeacher, MutualDistillation, OnPolicyDistill

SETTINGS = dict(policy_kwargs=dict(net_arch=[8]), n_steps=16, batch_size=32, n_epochs=2, gamma=0.98, device="cpu")


def student(seed, loss_coef=1.0, n_steps=16, cls=OnPolicyDistill, **kwargs):
    env = make_vec_env("CartPole-v1", 2, seed=seed)
    settings = (
        SETTINGS | dict(n_steps=n_steps, loss_coef=loss_coef, env_reward_coef=1.0, vf_coef=0.5, seed=seed) | kwargs
    )
    return cls("MlpPolicy", env, **settings)


def weights(model):
    return th.cat([p.detach().flatten().clone() for p in model.policy.parameters()])


def test_each_learns_from_the_others_as_they_are_now(monkeypatch):
    """The teacher of a rollout has the other's weights of that moment, and keeps them."""
    students = [student(k) for k in range(2)]
    both = MutualDistillation(students)
    heard = []
    train = OnPolicyDistill.train

    def listening(self):
        other = students[1 - students.index(self)]
        taught = th.cat([p.detach().flatten() for p in self.teacher.policy.parameters()])
        heard.append((students.index(self), self.num_timesteps, th.equal(taught, weights(other))))
        before = self.rollout_buffer.teacher_parameters.copy()
        train(self)
        obs = self.rollout_buffer.observations.reshape(-1, 4)
        expected = self.teacher.answer(obs).parameters.numpy().reshape(before.shape[0] * before.shape[1], -1)
        # SB3 has flattened the buffer by then: one environment after the other.
        np.testing.assert_allclose(before.swapaxes(0, 1).reshape(expected.shape), expected, rtol=1e-4)

    monkeypatch.setattr(OnPolicyDistill, "train", listening)
    both.learn(96)
    assert heard == [(k, steps, True) for steps in (32, 64, 96) for k in (0, 1)]


def test_without_a_weight_each_is_ppo_to_the_bit():
    """The rounds change nothing: neither environments nor schedules nor dice, where one learns after the other."""
    rate = lambda left: 1e-3 * left  # noqa: E731
    one, _ = students = [
        student(k, loss_coef=0.0, learning_rate=rate, normalize_advantage=True, max_grad_norm=0.5) for k in range(2)
    ]
    # The dice are PyTorch's global ones, which the students share: the other does not throw any.
    students[1].learn = lambda *args, **kwargs: setattr(students[1], "num_timesteps", students[1].num_timesteps + 32)
    both = MutualDistillation(students)
    alone = PPO("MlpPolicy", make_vec_env("CartPole-v1", 2, seed=0), seed=0, **SETTINGS | dict(learning_rate=rate))
    one.set_random_seed(0)
    one.env.seed(0)
    both.learn(128)
    alone.set_random_seed(0)
    alone.env.seed(0)
    alone.learn(128)
    assert th.equal(weights(one), weights(alone))


def test_schedules_go_from_beginning_to_end_of_the_whole_run():
    seen = []
    students = [student(k, loss_coef=lambda left: seen.append(left) or left) for k in range(2)]
    seen.clear()
    lefts = []
    MutualDistillation(students).learn(128, callback=lambda s: lefts.append(s._current_progress_remaining))
    assert lefts == pytest.approx([0.75, 0.75, 0.5, 0.5, 0.25, 0.25, 0.0, 0.0])
    assert "_update_current_progress_remaining" not in vars(students[0])


def test_rollouts_of_different_lengths_keep_pace():
    """The next is who has made the fewest steps; each stops when it has all of its own."""
    students = [student(0), student(1, n_steps=48)]
    order = []
    MutualDistillation(students).learn(
        96, callback=lambda s: order.append((students.index(s), s.num_timesteps)) and None
    )
    assert order == [(0, 32), (1, 96), (0, 64), (0, 96)]
    MutualDistillation(students).learn(32, reset_num_timesteps=False)
    assert [s.num_timesteps for s in students] == [128, 192]


def test_a_callback_ends_it_and_logs_are_one_per_student(tmp_path):
    students = [student(k, tensorboard_log=str(tmp_path)) for k in range(2)]
    MutualDistillation(students).learn(320, callback=lambda s: s.num_timesteps < 64)
    assert [s.num_timesteps for s in students] == [64, 32]
    assert len(list(tmp_path.glob("*/events*"))) == 2
    assert not students[0]._custom_logger


def test_three_have_the_mean_of_the_two_others():
    students = [student(k, cls=DistillPPO, method="on_policy_distill") for k in range(3)]
    MutualDistillation(students).learn(32)
    teacher = students[2].teacher
    assert isinstance(teacher, EnsembleTeacher) and len(teacher.teachers) == 2


def test_who_cannot_teach_the_other_is_refused_before_any_work():
    one = student(0)
    with pytest.raises(ValueError, match=r"Give two or more students, each once: there are 1"):
        MutualDistillation([one])
    with pytest.raises(ValueError, match=r"each once: there are 2"):
        MutualDistillation([one, one])
    with pytest.raises(TypeError, match=r"of DistillPPO or its kin, not PPO"):
        MutualDistillation([one, PPO("MlpPolicy", "CartPole-v1", device="cpu")])
    other = OnPolicyDistill("MlpPolicy", "Acrobot-v1", **SETTINGS | dict(n_steps=32))
    with pytest.raises(ValueError, match=r"does not fit the environment"):
        MutualDistillation([one, other])


def test_averaging_that_would_do_nothing_is_said():
    with pytest.warns(UserWarning, match=r"averaging does nothing while .* \(students \[1\]"):
        MutualDistillation([student(0), student(1, averaging=0.5)])


def test_students_have_an_environment_each_and_something_to_learn():
    """In one environment each would go on with what it saw before the other played."""
    env = make_vec_env("CartPole-v1", 2)
    settings = dict(env_reward_coef=1.0, n_steps=16, device="cpu")
    pair = [OnPolicyDistill("MlpPolicy", env, seed=seed, **settings) for seed in (0, 1)]
    with pytest.raises(ValueError, match="an environment each, and some have the same"):
        MutualDistillation(pair)
    with pytest.raises(ValueError, match=r"No student has a weight on the environment's reward.*env_reward_coef=1\.0"):
        MutualDistillation([student(0, env_reward_coef=0.0), student(1, env_reward_coef=0.0)])
    with pytest.raises(ValueError, match="callback is a function of a student"):
        MutualDistillation([student(0), student(1)]).learn(32, callback=[print])
    with pytest.raises(ValueError, match="total_timesteps must be a whole number"):
        MutualDistillation([student(0), student(1)]).learn("100")
