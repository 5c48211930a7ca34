"""On a GPU, where there is one: every class learns there, teacher and student may be on two devices, and what is saved loads elsewhere."""

import numpy as np
import pytest
import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import VecTransposeImage

import sb3_distill
from envs_for_tests import IMAGE_SPACE, actor_critic_teacher
from sb3_classes import CLASSES, countdown_envs, small
from sb3_distill import MultiTaskDistillation, NDistill, PolicyDistillation, load_teacher

pytestmark = pytest.mark.cuda

GPU = "cuda"
PAIRS = [(GPU, GPU), (GPU, "cpu"), ("cpu", GPU)]


def teacher_on(device, env):
    teacher = actor_critic_teacher(env)
    teacher.policy.to(device)
    return teacher


@pytest.mark.parametrize(("student", "teacher"), PAIRS)
@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_learns_with_its_teacher_on_any_device(cls, student, teacher, tmp_path):
    env = countdown_envs()
    model = cls("MlpPolicy", env, teacher=teacher_on(teacher, env), **small(cls, device=student))
    before = [p.detach().clone() for p in model.policy.parameters()]
    model.learn(32)
    assert all(p.device.type == th.device(student).type and th.isfinite(p).all() for p in model.policy.parameters())
    assert any(not th.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))
    model.save(tmp_path / "student")
    again = cls.load(tmp_path / "student", device="cpu")  # as on a machine without a GPU
    obs = np.zeros((1, *env.observation_space.shape), dtype=np.float32)
    assert again.predict(obs, deterministic=True)[0] == model.predict(obs, deterministic=True)[0]


@pytest.mark.parametrize("engine", ["DistillPPO", "DistillA2C"])
def test_the_answers_in_the_buffer_are_those_of_the_cpu(engine):
    """To the rounding of another processor."""
    cls = getattr(sb3_distill, engine)
    env = countdown_envs()
    teacher = teacher_on(GPU, env)
    model = cls("MlpPolicy", env, teacher=teacher, **small(cls, device=GPU)).learn(16)
    seen = model.rollout_buffer.observations.reshape(-1, *env.observation_space.shape)
    teacher.policy.to("cpu")
    kept = model.rollout_buffer.teacher_parameters.reshape(len(seen), -1)
    np.testing.assert_allclose(kept, teacher.answer(seen).parameters.numpy(), atol=1e-4)


@pytest.mark.parametrize("mixed_precision", [None, True, False])
def test_images_are_learnt_in_either_precision(mixed_precision):
    env = VecTransposeImage(countdown_envs(observation_space=IMAGE_SPACE))
    given = small(NDistill, device=GPU, mixed_precision=mixed_precision)
    model = NDistill("CnnPolicy", env, teacher=teacher_on(GPU, env), **given).learn(32)
    assert all(p.dtype == th.float32 and th.isfinite(p).all() for p in model.policy.parameters())


@pytest.mark.parametrize(("student", "teacher"), PAIRS)
@pytest.mark.parametrize("loss", ["kl", "nll", "mse"])
def test_policy_distillation_learns_on_any_device(student, teacher, loss, tmp_path):
    source = load_teacher("zoo:dqn/CartPole-v1", device=teacher, tune=False)
    model = PolicyDistillation("MlpPolicy", "CartPole-v1", teacher=source, loss=loss, device=student, seed=0).learn(512)
    model.save(tmp_path / "student")
    plain = DQN.load(tmp_path / "student", device="cpu")
    obs = np.zeros((1, 4), dtype=np.float32)
    assert plain.predict(obs, deterministic=True)[0] == model.predict(obs, deterministic=True)[0]


def test_several_tasks_share_a_gpu():
    teachers = {"CartPole-v1": load_teacher("zoo:dqn/CartPole-v1", tune=False, device=GPU)}
    model = MultiTaskDistillation("MlpPolicy", ["CartPole-v1"], teacher=teachers, device=GPU, seed=0).learn(256)
    assert next(model.policy.parameters()).device.type == GPU
