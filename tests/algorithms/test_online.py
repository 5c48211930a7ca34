"""A student that follows a teacher which is still learning."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from matplotlib.figure import Figure
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from envs_for_tests import Chain
from sb3_distill.algorithms.online import OnlineDistillation
from sb3_distill.algorithms.policy_distillation import PolicyDistillation
from sb3_distill.evaluation.episodes import episode_returns, greedy
from sb3_distill.evaluation.scores import Score

SMALL = dict(policy_kwargs=dict(net_arch=[16]), device="cpu", seed=0)


def chains(n):
    return DummyVecEnv([Chain] * n)


def student(env=None, **kwargs):
    return PolicyDistillation("MlpPolicy", env or chains(1), **(SMALL | dict(train_freq=20, batch_size=16) | kwargs))


def dqn(env=None, **kwargs):
    return DQN("MlpPolicy", env or chains(1), **(SMALL | dict(learning_starts=10, buffer_size=1_000) | kwargs))


def test_the_student_follows_and_both_curves_are_recorded():
    """A DQN that learns to walk a corridor; points at the same steps, from the newborn network to the finished one."""
    follow = OnlineDistillation(student(), chains, every=400, n_episodes=2)
    model = dqn(exploration_fraction=0.5, learning_rate=1e-2, target_update_interval=50).learn(2_000, callback=follow)
    teacher, pupil = follow.curves()
    assert teacher.steps == pupil.steps == [0, 400, 800, 1_200, 1_600, 2_000]
    assert max(teacher.mean) == -5.0  # the shortest way
    assert pupil.mean[-1] == -5.0
    assert episode_returns(greedy(follow.student.predict), chains, 2).tolist() == [-5.0, -5.0]
    assert isinstance(follow.figure("Chain"), Figure)
    assert model.num_timesteps == 2_000


def weights(policy):
    return th.cat([parameter.detach().flatten() for parameter in policy.q_net.parameters()]).clone()


def test_the_student_is_taught_by_the_best_teacher_so_far(monkeypatch):
    """A teacher that gets worse teaches nothing more, and one that gets better replaces the one before, memory and all."""
    scripted = iter([-50.0, -9.0, -20.0, -5.0, -30.0])
    pupil = student()
    play = OnlineDistillation._play
    monkeypatch.setattr(
        OnlineDistillation,
        "_play",
        lambda self, model: play(self, model) if model is pupil else Score(next(scripted), 0.0, 2),
    )
    taught = []
    learn = pupil.learn
    pupil.learn = lambda n: (learn(n), taught.append((pupil.teacher.name, weights(pupil.teacher.policy))))
    follow = OnlineDistillation(pupil, chains, every=100, n_steps=40, n_episodes=2)
    model = dqn().learn(400, callback=follow)
    assert [name for name, _ in taught] == [f"DQN model after {k} steps" for k in (100, 100, 300, 300)]
    first, second, third, fourth = (values for _, values in taught)
    assert th.equal(first, second) and th.equal(third, fourth) and not th.equal(second, third)
    assert not th.equal(fourth, weights(model.policy))  # a copy: the network itself has learned on
    assert follow.best_mean == -5.0
    assert len(pupil.replay_buffer) == 80  # those of 300 and 400


@pytest.mark.parametrize("normalised", [False, True])
def test_the_teacher_learns_as_without_a_student(normalised):
    """To the bit: nothing that the student does is drawn from the global random state, or changes the teacher's network."""

    def run(followed):
        th.manual_seed(0)
        env = VecNormalize(chains(2)) if normalised else chains(2)
        pupil = student()
        model = dqn(env, train_freq=1)
        follow = OnlineDistillation(pupil, chains, every=100, n_steps=40, n_episodes=2)
        return model.learn(300, callback=follow if followed else None).policy.state_dict()

    alone, accompanied = run(False), run(True)
    assert all(th.equal(alone[key], accompanied[key]) for key in alone)


def test_a_student_of_a_normalised_teacher_sees_raw_observations():
    """The copy keeps the statistics of its moment."""
    env = VecNormalize(make_vec_env("CartPole-v1", 2, seed=0))
    pupil = student(make_vec_env("CartPole-v1", 2, seed=1))
    dqn(env).learn(200, callback=OnlineDistillation(pupil, "CartPole-v1", every=100, n_steps=40, n_episodes=2))
    states, answers = pupil.replay_buffer._observations[""][:20], pupil.replay_buffer._answers[:20]
    normalised = pupil.teacher.normalize_obs(states)
    assert not np.allclose(states, normalised)
    with th.no_grad():
        expected = pupil.teacher.policy.q_net(th.as_tensor(normalised, dtype=th.float32))
    assert np.allclose(answers, pupil.teacher.value_scale * expected.numpy(), atol=1e-5)


def test_any_teacher_can_be_followed():
    """A PPO, whose students learn from its distribution."""
    env = DummyVecEnv([Chain] * 2)
    pupil = student(student="ppo")
    follow = OnlineDistillation(pupil, chains, every=64, n_steps=40, n_episodes=2)
    PPO("MlpPolicy", env, n_steps=32, batch_size=32, **SMALL).learn(128, callback=follow)
    assert pupil.replay_buffer.about.kind == "parameters"
    assert [curve.steps for curve in follow.curves()] == [[0, 64, 128]] * 2


def test_a_student_that_cannot_follow():
    """Said before any work."""
    from_memory = student()
    from_memory.env = None
    with pytest.raises(ValueError, match=r"make it with env=… and without memory=…"):
        OnlineDistillation(from_memory, chains, every=100)
    model = dqn()
    with pytest.raises(ValueError, match=r"does not fit the environment.*\(5,\).*\(6,\)"):
        model.learn(200, callback=OnlineDistillation(student(DummyVecEnv([Wide])), chains, every=100))
    assert model.num_timesteps == 0


class Wide(Chain):
    """Six cells."""

    n_cells = 6

    def __init__(self):
        super().__init__()
        self.observation_space = spaces.Box(0.0, 1.0, (6,), np.float32)
