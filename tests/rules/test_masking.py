"""A teacher among the actions that are allowed, against probabilities in float64."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.distributions import make_masked_proba_distribution

from masked_envs import SPACES, masked_envs, masked_teacher
from sb3_distill import EnsembleTeacher, load_teacher
from sb3_distill.rules import losses
from sb3_distill.rules.distributions import from_parameters, parameter_size, plain
from sb3_distill.rules.masking import FORBIDDEN, masked
from sb3_distill.rules.temperature import GRID, softest_by_loss
from sb3_distill.teachers.noise import made_noisy

RNG = np.random.default_rng(0)
MASKS = np.array([[1, 0, 1, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 0, 0, 0]], bool)
OBS = RNG.normal(size=(4, 3)).astype(np.float32)


def renormalised(p):
    p = np.asarray(p, np.float64) * MASKS
    return p / p.sum(1, keepdims=True)


def softmax(x):
    x = np.asarray(x, np.float64)
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize("size", [1.0, 30.0, 3e4])
def test_it_is_exact_also_where_the_teacher_is_sure_of_what_is_forbidden(size):
    logits = RNG.normal(size=(4, 7)) * size
    ours = masked(spaces.Discrete(7), th.tensor(logits, dtype=th.float32), MASKS)
    inside = np.where(MASKS, logits.astype(np.float32).astype(np.float64), -np.inf)
    assert np.allclose(ours.exp(), softmax(inside), atol=1e-6)
    assert (ours[~th.as_tensor(MASKS)] == FORBIDDEN).all() and th.isfinite(ours).all()
    assert th.allclose(masked(spaces.Discrete(7), ours, MASKS), ours, atol=1e-6)
    some = th.tensor(logits, dtype=th.float32).where(th.as_tensor(MASKS), th.nan)
    assert th.equal(masked(spaces.Discrete(7), some, MASKS), ours)  # what is forbidden may be anything


def masks_of(space, n):
    sizes = (
        [2] * 3 if isinstance(space, spaces.MultiBinary) else [7] if isinstance(space, spaces.Discrete) else space.nvec
    )
    columns = []
    for size in sizes:
        flags = RNG.random((n, size)) < 0.5
        flags[np.arange(n), RNG.integers(size, size=n)] = True
        columns.append(flags)
    return np.concatenate(columns, axis=1)


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.kl, losses.reverse_cross_entropy, losses.reverse_kl])
def test_every_loss_and_its_gradient_are_those_among_the_allowed(loss, space):
    """Against plain autograd of probabilities in float64, in which what is forbidden does not occur."""
    n, width = 50, parameter_size(space)
    masks, theirs = masks_of(space, n), 3 * RNG.normal(size=(n, width))
    binary = isinstance(space, spaces.MultiBinary)
    logits = th.tensor(3 * RNG.normal(size=(n, 2 * width if binary else width)), dtype=th.float32, requires_grad=True)
    student = make_masked_proba_distribution(space).proba_distribution(logits)
    student.apply_masking(masks)
    teacher = from_parameters(space, masked(space, th.tensor(theirs, dtype=th.float32), masks))
    values = loss(teacher, plain(space, student))
    values.sum().backward()

    exact = logits.detach().double().requires_grad_()
    pi = th.tensor(theirs)
    if binary:
        pi = th.stack([th.zeros_like(pi), pi], -1).reshape(n, -1)
    sizes = [2] * width if binary else [7] if isinstance(space, spaces.Discrete) else space.nvec.tolist()
    total = th.zeros(n, dtype=th.float64)
    for a, b, mask in zip(pi.split(sizes, 1), exact.split(sizes, 1), th.as_tensor(masks).split(sizes, 1), strict=True):
        for i in range(n):
            p, q = a[i][mask[i]].log_softmax(0), b[i][mask[i]].log_softmax(0)
            first, second = (q, p) if "reverse" in loss.__name__ else (p, q)
            total[i] = total[i] - (first.exp() * second).sum()
            if loss.__name__.endswith("kl"):
                total[i] = total[i] + (first.exp() * first).sum()
    total.sum().backward()
    assert th.allclose(values.double(), total, atol=1e-4)
    assert th.allclose(logits.grad.double(), exact.grad, atol=1e-5)


def test_a_q_network_is_asked_about_what_is_allowed_alone():
    def q(obs):
        return np.concatenate([obs * 5, obs[:, :1] * 7, 90 + obs], axis=1)  # and it is sure of what it never tried

    values = q(OBS).astype(np.float64)
    p = softmax(np.where(MASKS, values / 0.5, -np.inf))
    for epsilon in (0.0, 0.25):
        teacher = load_teacher(q, answers="q_values", batched=True, temperature=0.5, epsilon=epsilon)
        teacher.meet(spaces.Box(-9, 9, (3,)), spaces.Discrete(7))
        answer = teacher.answer(OBS, with_value=True, masks=MASKS)
        want = (1 - epsilon) * p + epsilon * MASKS / MASKS.sum(1, keepdims=True)
        assert np.allclose(answer.parameters.exp(), want, atol=1e-5)
        assert np.allclose(answer.value, (want * values).sum(1), atol=1e-3)
        assert np.array_equal(teacher.act(OBS, MASKS), np.where(MASKS, values, -np.inf).argmax(1))
    chosen = load_teacher(q, answers="q_values", batched=True)
    chosen.meet(spaces.Box(-9, 9, (3,)), spaces.Discrete(7))
    assert th.isfinite(chosen.answer(OBS, masks=MASKS).parameters).all() and chosen.temperature > 0


@pytest.mark.parametrize("n", [40, 400])
def test_a_temperature_is_chosen_by_what_is_allowed(n):
    """Against float64 over the allowed actions, states that leave one of them apart: forbidden ones are none, however low their value."""
    rng = np.random.default_rng(1)
    obs = rng.normal(size=(n, 7)).astype(np.float32)
    masks = rng.random((n, 7)) < 0.3
    masks[np.arange(n), rng.integers(7, size=n)] = True
    free = masks.sum(1) > 1
    assert 0 < (~free).sum() < 0.5 * n
    teacher = load_teacher(lambda x: 3 * x, answers="q_values", batched=True)
    teacher.meet(spaces.Box(-9, 9, (7,)), spaces.Discrete(7))
    teacher.answer(obs, masks=masks)
    values = np.where(masks, 3.0 * obs.astype(np.float64), np.nan)[free]
    unit = np.sqrt(np.nanmean((values - np.nanmean(values, 1, keepdims=True)) ** 2))
    scores = np.where(np.isnan(values), -np.inf, values)
    sure = [tau for tau in GRID if softmax(scores / (tau * unit)).max(1).mean() >= 0.9]
    assert teacher.temperature == pytest.approx(max(sure) * unit, rel=1e-5)

    def given_away(tau):
        return np.nansum(softmax(scores / (tau * unit)) * (np.nanmax(values, 1, keepdims=True) - values), 1).mean()

    most = np.nanmean(np.nanmax(values, 1, keepdims=True) - values) / 80
    q_values = th.as_tensor(np.where(masks, 3.0 * obs, -np.inf))[free]
    assert softest_by_loss(q_values) == pytest.approx(max(t for t in GRID if given_away(t) <= most) * unit, rel=1e-5)


def test_teachers_of_teachers_and_noisy_ones_are_masked_before_they_are_mixed():
    envs = masked_envs()
    one, other = masked_teacher(envs), load_teacher(lambda obs: 3)
    other.meet(one.observation_space, one.action_space)
    p, q = (renormalised(teacher.answer(OBS).parameters.double().exp()) for teacher in (one, other))
    assert np.allclose(q[0], MASKS[0] / 3, atol=1e-6)  # it has said nothing of those that are left
    for teacher, want in (
        (EnsembleTeacher([one, other], [3, 1]), 0.75 * p + 0.25 * q),
        (made_noisy(one, 0.4), 0.6 * p + 0.4 * MASKS / MASKS.sum(1, keepdims=True)),
    ):
        assert np.allclose(teacher.answer(OBS, masks=MASKS).parameters.exp(), want, atol=1e-5)
        assert np.allclose(teacher.answer_in_chunks(OBS, chunk=2, masks=MASKS).parameters.exp(), want, atol=1e-5)
        assert all(mask[a] for _ in range(20) for mask, a in zip(MASKS, teacher.act(OBS, MASKS), strict=True))
