"""Imperfect teachers made on purpose: a share of their actions is uniform, exactly, and their value stays."""

import numpy as np
import pytest
import torch as th

from envs_for_tests import ACTION_SPACES, CountdownEnv, actor_critic_teacher
from sb3_distill import NDistill, distill, load_teacher
from sb3_distill.teachers.fingerprint import fingerprint_of

OBS = np.random.default_rng(0).uniform(-0.2, 0.2, (64, 4)).astype(np.float32)


def cart_pole(**kwargs):
    return load_teacher("zoo:dqn/CartPole-v1", temperature=0.1, device="cpu", **kwargs)


@pytest.mark.parametrize("noise", [0.25, 0.5, 1.0])
def test_the_mixture_is_exact(noise):
    """π becomes (1 − noise) π + noise/|A|, V stays, and nothing else of the teacher changes."""
    clean, noisy = cart_pole(), cart_pole(noise=noise)
    expected = (1 - noise) * clean.answer(OBS).parameters.double().exp() + noise / 2
    answer = noisy.answer(OBS, with_value=True)
    th.testing.assert_close(answer.parameters.double().exp(), expected, rtol=1e-5, atol=1e-7)
    assert th.equal(answer.value, clean.answer(OBS, with_value=True).value)
    assert noisy.temperature == clean.temperature
    assert th.allclose(noisy.distribution(OBS).distribution.probs.double(), expected, atol=1e-6)


def test_it_plays_with_that_share():
    """Of 20,000 actions: the other one of two is done in half of the share."""
    obs = np.repeat(OBS[:1], 20_000, axis=0)
    noisy, clean = cart_pole(noise=0.5), cart_pole().act(OBS[:1])[0]
    acts = noisy.act(obs)
    assert acts.dtype == cart_pole().act(obs).dtype
    assert abs((acts != clean).mean() - 0.25) < 0.02
    assert (cart_pole(noise=0.5).act(obs) == acts).all()  # the same draws in every process


def test_the_given_teacher_stays():
    teacher = actor_critic_teacher(CountdownEnv())
    noisy = load_teacher(teacher, noise=0.25)
    assert (teacher.noise, noisy.noise) == (0.0, 0.25)
    assert load_teacher(noisy) is noisy
    assert fingerprint_of(teacher) != fingerprint_of(noisy)
    assert fingerprint_of(load_teacher(noisy, noise=0.5)) != fingerprint_of(noisy)
    NDistill("MlpPolicy", CountdownEnv(), teacher=noisy, n_steps=16, batch_size=16, device="cpu").learn(16)


def test_a_run_with_noise(tmp_path):
    """The teacher that is compared with plays with noise, too, and the files say so."""
    kwargs = dict(steps=64, n_envs=2, net_arch=[8], temperature=0.01, eval_episodes=3, quiet=True, out=tmp_path / "run")
    data = distill("zoo:dqn/CartPole-v1", noise=1.0, **kwargs).data
    assert data["settings"]["noise"] == 1.0
    assert data["teacher"]["noise"] == 1.0
    assert np.mean(data["players"]["teacher"]["returns"]) < 100
    with pytest.raises(ValueError, match="noise"):
        distill("zoo:dqn/CartPole-v1", **kwargs)


def test_bad_input():
    for noise in (-0.1, 1.1, float("nan"), "some", True):
        with pytest.raises(ValueError, match="between 0 and 1"):
            cart_pole(noise=noise)
    for kind in ("multi_discrete", "multi_binary", "box"):
        teacher = actor_critic_teacher(CountdownEnv(action_space=ACTION_SPACES[kind]))
        with pytest.raises(ValueError, match="is for Discrete actions"):
            load_teacher(teacher, noise=0.25)
    with pytest.raises(ValueError, match="plays with epsilon"):
        distill(method="policy-distillation", noise=0.25)
