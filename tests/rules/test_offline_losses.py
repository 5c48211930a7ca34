"""The three losses of offline policy distillation, against computations of their own and finite differences."""

import math

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_distill.rules.distributions import from_parameters
from sb3_distill.rules.offline_losses import check_loss, kl, mse, nll, state_loss

N, A = 6, 4


@pytest.fixture
def q():
    """Q-values of a teacher and of a student, in double precision."""
    generator = th.Generator().manual_seed(0)
    teacher = 3 + th.randn(N, A, generator=generator, dtype=th.float64)
    return teacher, th.randn(N, A, generator=generator, dtype=th.float64, requires_grad=True)


def softmax(row):
    exps = [math.exp(x - max(row)) for x in row]
    return [e / sum(exps) for e in exps]


@pytest.mark.parametrize("temperature", [0.1, 1.0, 7.0])
def test_kl_is_the_sum_that_the_paper_prints(q, temperature):
    """Σ softmax(q/τ) ln[softmax(q/τ) / softmax(q^S)], state by state and action by action."""
    teacher, student = q
    expected = []
    for row, own in zip(teacher.tolist(), student.tolist(), strict=True):
        p, p_student = softmax([x / temperature for x in row]), softmax(own)
        expected.append(sum(a * math.log(a / b) for a, b in zip(p, p_student, strict=True)))
    assert kl(teacher, student, temperature).tolist() == pytest.approx(expected, rel=1e-12)


def test_the_temperature_is_the_teachers_alone(q):
    """A student that says q/τ is a perfect copy; one that says q is not."""
    teacher, _ = q
    assert kl(teacher, teacher / 0.5, 0.5).abs().max() < 1e-14
    assert kl(teacher, teacher, 0.5).min() > 1e-3


def test_nll_is_minus_the_log_probability_of_the_greedy_action(q):
    teacher, student = q
    expected = [
        -math.log(softmax(own)[max(range(A), key=row.__getitem__)])
        for row, own in zip(teacher.tolist(), student.tolist(), strict=True)
    ]
    assert nll(teacher, student).tolist() == pytest.approx(expected, rel=1e-12)
    # Of equal Q-values a DQN plays the first: np.argmax and th.argmax agree on it.
    assert nll(th.tensor([[1.0, 2.0, 2.0]]), th.tensor([[0.0, 1.0, 5.0]])).item() == pytest.approx(
        -math.log(softmax([0, 1, 5])[1])
    )


def test_mse_is_the_squared_distance(q):
    teacher, student = q
    expected = [
        sum((a - b) ** 2 for a, b in zip(row, own, strict=True))
        for row, own in zip(teacher.tolist(), student.tolist(), strict=True)
    ]
    assert mse(teacher, student).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", ["kl", "nll", "mse"])
def test_gradients_are_finite_differences_and_the_closed_forms(loss, q):
    """softmax(q^S) − softmax(q/τ), softmax(q^S) − the greedy action, 2 (q^S − q)."""
    teacher, student = q
    function = state_loss(loss, "q_values", spaces.Discrete(A), 0.3)
    assert th.autograd.gradcheck(lambda own: function(teacher, own), (student,))
    (gradient,) = th.autograd.grad(function(teacher, student).sum(), student)
    own = student.detach()
    expected = {
        "kl": th.softmax(own, -1) - th.softmax(teacher / 0.3, -1),
        "nll": th.softmax(own, -1) - th.nn.functional.one_hot(teacher.argmax(-1), A),
        "mse": 2 * (own - teacher),
    }[loss]
    assert th.allclose(gradient, expected, atol=1e-12)


def test_a_small_temperature_stays_finite():
    """Q-values of 1,000 at τ = 1e-4 are logits of 1e7: the loss is that of the greedy action, and so is its gradient."""
    teacher = th.tensor([[1000.0, 990.0, -1000.0]])
    student = th.tensor([[0.3, 0.1, -0.2]], requires_grad=True)
    loss = kl(teacher, student, 1e-4)
    assert loss.item() == pytest.approx(nll(teacher, student).item(), rel=1e-6)
    loss.sum().backward()
    assert th.isfinite(student.grad).all()


SPACES = {
    "discrete": (spaces.Discrete(4), 4),
    "multi_discrete": (spaces.MultiDiscrete([2, 3]), 5),
    "multi_binary": (spaces.MultiBinary(3), 3),
    "box": (spaces.Box(-1.0, 1.0, (2,), np.float32), 4),
}


def kl_by_torch(kind, teacher, student):
    """KL(π‖π_θ) by torch's own formulas."""
    d = th.distributions

    def of(make, *arrays):
        return d.kl_divergence(make(*[a for a, _ in arrays]), make(*[b for _, b in arrays]))

    if kind == "box":
        pairs = [(teacher[:, :2], student[:, :2]), (teacher[:, 2:].exp(), student[:, 2:].exp())]
        return of(d.Normal, *pairs).sum(-1)
    if kind == "multi_binary":
        return of(lambda logits: d.Bernoulli(logits=logits), (teacher, student)).sum(-1)
    parts = [slice(0, 2), slice(2, 5)] if kind == "multi_discrete" else [slice(0, 4)]
    return sum(of(lambda logits: d.Categorical(logits=logits), (teacher[:, p], student[:, p])) for p in parts)


@pytest.mark.parametrize("kind", SPACES)
def test_kl_of_an_actor_critic_teacher_is_that_of_its_own_distribution(kind):
    """In closed form for each kind of action, and whatever τ is."""
    space, columns = SPACES[kind]
    generator = th.Generator().manual_seed(1)
    teacher, student = (th.randn(N, columns, generator=generator, dtype=th.float64) for _ in range(2))
    for temperature in (0.01, 1.0):
        found = state_loss("kl", "parameters", space, temperature)(teacher, student)
        assert th.allclose(found, kl_by_torch(kind, teacher, student), rtol=1e-6)
    assert th.autograd.gradcheck(
        lambda own: state_loss("kl", "parameters", space, 1.0)(teacher, own), (student.requires_grad_(),)
    )


@pytest.mark.parametrize("kind", ["discrete", "multi_discrete", "multi_binary"])
def test_nll_of_an_actor_critic_teacher_is_that_of_its_mode(kind):
    space, columns = SPACES[kind]
    generator = th.Generator().manual_seed(2)
    teacher, student = (th.randn(N, columns, generator=generator) for _ in range(2))
    found = state_loss("nll", "parameters", space, 0.01)(teacher, student)
    distribution = from_parameters(space, student)
    # The mode, found by trying all actions.
    grids = [range(n) for n in space.nvec] if kind == "multi_discrete" else [range(2)] * 3
    actions = [[a] for a in range(4)] if kind == "discrete" else [[a, b] for a in grids[0] for b in grids[1]]
    if kind == "multi_binary":
        actions = [[a, b, c] for a in range(2) for b in range(2) for c in range(2)]
    shape = (-1,) if kind == "discrete" else (N, -1)
    tried = [th.tensor([action] * N, dtype=th.float32).reshape(shape) for action in actions]
    best = th.stack([from_parameters(space, teacher).log_prob(a) for a in tried]).argmax(0)
    log_probs = th.stack([distribution.log_prob(a) for a in tried])
    assert th.allclose(found, -log_probs[best, th.arange(N)], atol=1e-5)


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, math.inf, "auto", None])
def test_a_temperature_is_a_number_greater_than_zero(temperature):
    with pytest.raises(ValueError, match=r"temperature must be a number greater than 0, not"):
        check_loss("kl", temperature)


def test_losses_that_a_teacher_cannot_serve():
    """Each message says what to use instead."""
    with pytest.raises(ValueError, match="Unknown loss 'nl': did you mean 'nll'"):
        check_loss("nl", 1.0)
    with pytest.raises(ValueError, match="Unknown loss 'huber': choose one of kl, nll, mse"):
        check_loss("huber", 1.0)
    with pytest.raises(ValueError, match=r"loss='mse' needs a teacher's Q-values.*use loss='kl' or 'nll'"):
        state_loss("mse", "parameters", spaces.Discrete(2), 1.0)
    with pytest.raises(ValueError, match=r"loss='nll' has no minimum.*use loss='kl'"):
        state_loss("nll", "parameters", SPACES["box"][0], 1.0)
