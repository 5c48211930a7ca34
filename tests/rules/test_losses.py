"""Losses, parameters of distributions and their gradients, against sums over all actions and against quadrature."""

import itertools

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.distributions import (
    DiagGaussianDistribution,
    SquashedDiagGaussianDistribution,
    StateDependentNoiseDistribution,
)
from stable_baselines3.common.policies import ActorCriticPolicy

from envs_for_tests import ACTION_SPACES
from sb3_distill.algorithms.advantages import next_states
from sb3_distill.algorithms.gradient import WeighAndAttach
from sb3_distill.rules import losses
from sb3_distill.rules.distributions import from_parameters, parameter_size, parameters, plain
from sb3_distill.rules.rewards import Transitions, next_loss

N_STATES = 5
LOSSES = ("cross_entropy", "kl", "reverse_cross_entropy", "reverse_kl")
DISCRETE = ("discrete", "multi_discrete", "multi_binary")
CLASSES = {"discrete": "Categorical", "multi_discrete": "MultiCategorical", "multi_binary": "Bernoulli"}


@pytest.fixture(params=ACTION_SPACES)
def kind(request):
    """Each kind of action space."""
    return request.param


def random_parameters(kind, seed, n=N_STATES, scale=2.0):
    """Unnormalised parameters of n states in float64; standard deviations stay within a factor of 2 of 1."""
    size = {"discrete": 3, "multi_discrete": 5, "multi_binary": 3, "box": 4}[kind]
    params = scale * np.random.default_rng(seed).standard_normal((n, size))
    if kind == "box":
        params[:, 2:] = np.log(2) * np.tanh(params[:, 2:])
    return params


def distribution(kind, params):
    """The distribution under test."""
    return from_parameters(ACTION_SPACES[kind], th.as_tensor(params))


def log_softmax(x):
    """In numpy, stable."""
    x = x - x.max()
    return x - np.log(np.exp(x).sum())


def log_probs(kind, row):
    """log p of every joint action of one state, and what each counts in a sum: 1, or the area of its grid cell."""
    if kind == "discrete":
        return log_softmax(row), 1.0
    if kind == "multi_discrete":
        factors = [log_softmax(row[:2]), log_softmax(row[2:])]
        return np.array([a + b for a, b in itertools.product(*factors)]), 1.0
    if kind == "multi_binary":
        factors = [log_softmax(np.array([0.0, logit])) for logit in row]
        return np.array([sum(joint) for joint in itertools.product(*factors)]), 1.0
    # The trapezoidal rule on a grid that ends where Gaussians are below 1e-16 is exact to rounding.
    x = np.linspace(-30, 30, 601)
    one, two = (
        -0.5 * ((x - m) / np.exp(s)) ** 2 - s - 0.5 * np.log(2 * np.pi) for m, s in zip(row[:2], row[2:], strict=True)
    )
    return one[:, None] + two[None, :], (x[1] - x[0]) ** 2


def slow(kind, name, teacher, student):
    """A loss as a sum over all actions, state by state."""
    result = []
    for t, s in zip(teacher, student, strict=True):
        (p, weight), (q, _) = log_probs(kind, t), log_probs(kind, s)
        if name.startswith("reverse_"):
            p, q = q, p
        each = p - q if name.endswith("kl") else -q
        result.append((weight * np.exp(p) * each).sum())
    return np.array(result)


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_its_sum_over_all_actions(kind, name):
    """The closed forms, their directions and the sum over factors; one value per state."""
    teacher, student = random_parameters(kind, 0), random_parameters(kind, 1)
    value = getattr(losses, name)(distribution(kind, teacher), distribution(kind, student))
    assert value.shape == (N_STATES,)
    np.testing.assert_allclose(value.numpy(), slow(kind, name, teacher, student), rtol=1e-11, atol=1e-12)


def test_the_two_primitives_take_the_first_argument_as_the_distribution_of_the_expectation(kind):
    """cross_entropy_of(p, q) and kl_of(p, q) average over p."""
    p, q = random_parameters(kind, 2), random_parameters(kind, 3)
    for primitive, name in ((losses.cross_entropy_of, "cross_entropy"), (losses.kl_of, "kl")):
        value = primitive(distribution(kind, p), distribution(kind, q)).numpy()
        np.testing.assert_allclose(value, slow(kind, name, p, q), rtol=1e-11, atol=1e-12)
        assert np.abs(value - slow(kind, name, q, p)).min() > 1e-3  # so the direction was tested


def test_the_entropy_is_the_sum_over_all_actions_and_torchs(kind):
    """H(p) in closed form."""
    params = random_parameters(kind, 4)
    value = losses.entropy(distribution(kind, params)).numpy()
    np.testing.assert_allclose(value, slow(kind, "cross_entropy", params, params), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(value, distribution(kind, params).entropy().numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("prefix", ["", "reverse_"])
def test_a_cross_entropy_is_a_kl_plus_the_entropy(kind, prefix):
    """H×(p‖q) = KL(p‖q) + H(p), in both directions."""
    teacher, student = (distribution(kind, random_parameters(kind, seed)) for seed in (5, 6))
    parts = getattr(losses, f"{prefix}kl")(teacher, student) + losses.entropy(student if prefix else teacher)
    whole = getattr(losses, f"{prefix}cross_entropy")(teacher, student)
    np.testing.assert_allclose(whole.numpy(), parts.numpy(), rtol=1e-12)


@pytest.mark.parametrize("name", ["kl", "reverse_kl"])
def test_a_kl_is_0_for_a_copy_and_else_positive(kind, name):
    """In float32, which is what students have: 300 pairs, near and far."""
    teacher = random_parameters(kind, 7, 300).astype(np.float32)
    noise = random_parameters(kind, 8, 300) * np.logspace(-2, 0.5, 300)[:, None]
    student = (teacher + noise).astype(np.float32)
    loss = getattr(losses, name)
    assert (loss(distribution(kind, teacher), distribution(kind, student)) > 0).all()
    assert (loss(distribution(kind, teacher), distribution(kind, teacher)) == 0).all()


def test_the_plain_losses_swap_into_the_reverse_ones(kind):
    """To the bit: there is one formula for each, not two."""
    teacher, student = (distribution(kind, random_parameters(kind, seed)) for seed in (9, 10))
    assert th.equal(losses.reverse_kl(teacher, student), losses.kl(student, teacher))
    assert th.equal(losses.reverse_cross_entropy(teacher, student), losses.cross_entropy(student, teacher))
    assert not th.equal(losses.reverse_kl(teacher, student), losses.kl(teacher, student))


def test_losses_do_not_mix_states(kind):
    """The loss of a batch is that of its states, one by one."""
    teacher, student = random_parameters(kind, 11), random_parameters(kind, 12)
    for name in LOSSES:
        loss = getattr(losses, name)
        batch = loss(distribution(kind, teacher), distribution(kind, student))
        one = [
            loss(distribution(kind, t[None]), distribution(kind, s[None]))
            for t, s in zip(teacher, student, strict=True)
        ]
        np.testing.assert_allclose(batch.numpy(), th.cat(one).numpy(), rtol=1e-14)


def test_an_unknown_distribution_is_refused():
    """No closed form: an error that names the class, and not a wrong number."""
    dist = sde()[0]
    with pytest.raises(TypeError, match="StateDependentNoiseDistribution"):
        losses.cross_entropy_of(dist, dist)


# --- extremes ---------------------------------------------------------------------------------------------------------

LOGITS = np.array([-1e4, -20.0, 0.0, 20.0, 1e4])


def extreme_pairs(kind):
    """Teachers and students of every pair of logits out of LOGITS in their first two columns."""
    pairs = np.array(list(itertools.product(LOGITS, repeat=4)))
    both = np.zeros((2, len(pairs), {"discrete": 3, "multi_discrete": 5, "multi_binary": 3}[kind]))
    both[0, :, :2], both[1, :, :2] = pairs[:, :2], pairs[:, 2:]
    return both


@pytest.mark.parametrize("kind", DISCRETE)
@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits_stay_finite(kind, name):
    """A saturated student (probability 1 or 0 after rounding) has a finite loss and gradient, and the right one."""
    teacher, student = extreme_pairs(kind)
    value = getattr(losses, name)(distribution(kind, teacher), distribution(kind, student))
    np.testing.assert_allclose(value.numpy(), slow(kind, name, teacher, student), rtol=1e-11, atol=1e-11)
    theta = th.as_tensor(student, dtype=th.float32).requires_grad_()
    single = getattr(losses, name)(distribution(kind, teacher.astype(np.float32)), distribution(kind, theta))
    (gradient,) = th.autograd.grad(single.sum(), theta)
    assert th.isfinite(single).all()
    assert th.isfinite(gradient).all()


# --- gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(kind, name):
    """With respect to the student, and to the teacher too."""

    def loss(teacher, student):
        return getattr(losses, name)(distribution(kind, teacher), distribution(kind, student))

    both = [th.from_numpy(random_parameters(kind, seed, scale=1.0)).requires_grad_() for seed in (13, 14)]
    assert th.autograd.gradcheck(loss, both, eps=1e-6, atol=1e-8, rtol=1e-6)


def student_gradient(kind, name, teacher, student):
    """∇ of the sum over states, in the student's parameters."""
    theta = th.as_tensor(student).requires_grad_()
    return th.autograd.grad(getattr(losses, name)(distribution(kind, teacher), distribution(kind, theta)).sum(), theta)[
        0
    ]


def test_kl_and_cross_entropy_have_one_gradient(kind):
    """They differ by the teacher's entropy only."""
    teacher, student = random_parameters(kind, 15), random_parameters(kind, 16)
    gradients = [student_gradient(kind, name, teacher, student) for name in ("kl", "cross_entropy")]
    np.testing.assert_allclose(*gradients, rtol=1e-12, atol=1e-14)
    assert gradients[0].abs().max() > 0.1


@pytest.mark.parametrize("name", ["cross_entropy", "kl", "reverse_kl"])
def test_a_copy_of_the_teacher_is_where_the_gradient_vanishes(kind, name):
    """What these losses replicate is the teacher."""
    teacher = random_parameters(kind, 17)
    assert student_gradient(kind, name, teacher, teacher).abs().max() < 1e-14


def test_the_reverse_cross_entropy_is_least_at_the_most_probable_action():
    """It turns a student deterministic: a copy of the teacher costs more than always doing the likeliest thing."""
    teacher = random_parameters("discrete", 18)
    greedy = 1e3 * np.eye(3)[teacher.argmax(1)]
    costs = [
        losses.reverse_cross_entropy(distribution("discrete", teacher), distribution("discrete", student))
        for student in (greedy, teacher, *(1e3 * np.eye(3)[np.full(N_STATES, a)] for a in range(3)))
    ]
    assert (costs[0] < costs[1]).all()
    assert th.equal(costs[0], th.stack(costs[2:]).min(0).values)


# --- distributions as parameters --------------------------------------------------------------------------------------


def test_parameters_and_from_parameters_are_inverse(kind):
    """Numbers to distribution to numbers, of the documented width, and the same distribution again."""
    params = parameters(distribution(kind, random_parameters(kind, 19)))
    assert params.shape == (N_STATES, parameter_size(ACTION_SPACES[kind]))
    again = distribution(kind, params)
    np.testing.assert_allclose(parameters(again), params, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(
        losses.kl(distribution(kind, random_parameters(kind, 19)), again), np.zeros(N_STATES), atol=1e-13
    )


def test_parameters_mean_what_the_table_says(kind):
    """Log-probabilities per factor, logits, or means before log standard deviations."""
    raw = random_parameters(kind, 20)
    expected = {
        "discrete": lambda r: log_softmax(r),
        "multi_discrete": lambda r: np.concatenate([log_softmax(r[:2]), log_softmax(r[2:])]),
        "multi_binary": lambda r: r,
        "box": lambda r: r,
    }[kind]
    np.testing.assert_allclose(
        parameters(distribution(kind, raw)), np.stack([expected(r) for r in raw]), rtol=1e-12, atol=1e-14
    )


def test_parameters_outlive_the_policys_next_call(kind):
    """SB3 returns one object that its next call overwrites: what is kept must be the numbers."""
    th.manual_seed(0)
    policy = ActorCriticPolicy(
        spaces.Box(-1, 1, (3,)), ACTION_SPACES[kind], lambda _: 0.0, net_arch=[8], ortho_init=False
    )
    first, second = th.randn(2, 4, 3, generator=th.Generator().manual_seed(1))
    dist = policy.get_distribution(first)
    kept = parameters(dist)
    copy = kept.detach().clone()
    of_second = parameters(policy.get_distribution(second))
    assert th.equal(parameters(dist), of_second)  # the object is about other states now
    assert th.equal(kept, copy)
    assert not th.equal(kept, of_second)


def test_parameters_stay_on_the_graph(kind):
    """A gradient reaches what the distribution was made of."""
    raw = th.from_numpy(random_parameters(kind, 21)).requires_grad_()
    weights = th.randn(N_STATES, raw.shape[1], generator=th.Generator().manual_seed(2), dtype=th.float64)
    (gradient,) = th.autograd.grad((weights * parameters(distribution(kind, raw))).sum(), raw)
    assert (gradient.abs().sum(1) > 0.1).all()


def test_parameter_size_of_larger_spaces_and_of_unknown_ones():
    """The number of columns, and an error that names the kinds that have one."""
    assert parameter_size(spaces.Discrete(7)) == 7
    assert parameter_size(spaces.MultiDiscrete([2, 5, 4])) == 11
    assert parameter_size(spaces.MultiBinary(6)) == 6
    assert parameter_size(spaces.Box(-1, 1, (2, 3))) == 12
    with pytest.raises(TypeError, match=r"Tuple.*Discrete, MultiDiscrete, MultiBinary or Box"):
        parameter_size(spaces.Tuple([spaces.Discrete(2)]))


def sde(squash_output=False, n=N_STATES):
    """gSDE over two actions, and the mean, the log-scales and the features that it is made of."""
    generator = th.Generator().manual_seed(3)
    mean, latent = (th.randn(n, size, generator=generator, dtype=th.float64) for size in (2, 4))
    dist = StateDependentNoiseDistribution(2, squash_output=squash_output, learn_features=True)
    dist.proba_distribution_net(latent_dim=4, latent_sde_dim=4)
    log_std = 0.3 * th.randn(4, 2, generator=generator, dtype=th.float64)
    mean, log_std = mean.requires_grad_(), log_std.requires_grad_()
    dist.sample_weights(log_std)
    return dist.proba_distribution(mean, log_std, latent), mean, log_std, latent


def test_gsde_is_the_gaussian_that_it_is_in_every_state():
    """plain() keeps its mean and the standard deviation that its features give it, and its log-probabilities."""
    dist, mean, log_std, latent = sde()
    gaussian = plain(ACTION_SPACES["box"], dist)
    assert type(gaussian) is DiagGaussianDistribution
    variance = (latent.numpy() ** 2) @ np.exp(2 * log_std.detach().numpy()) + dist.epsilon
    expected = np.concatenate([mean.detach(), 0.5 * np.log(variance)], axis=1)
    np.testing.assert_allclose(parameters(gaussian).detach(), expected, rtol=1e-12, atol=1e-14)
    actions = th.randn(N_STATES, 2, generator=th.Generator().manual_seed(4), dtype=th.float64)
    np.testing.assert_allclose(gaussian.log_prob(actions).detach(), dist.log_prob(actions).detach(), rtol=1e-12)
    for name in LOSSES:
        teacher = random_parameters("box", 22)
        value = getattr(losses, name)(distribution("box", teacher), gaussian).detach()
        np.testing.assert_allclose(value, slow("box", name, teacher, expected), rtol=1e-10)


@pytest.mark.parametrize("name", LOSSES)
def test_a_gsde_students_gradient_is_that_of_finite_differences(name):
    """Through plain(), to the mean and to the noise's log-scales."""
    _, mean, log_std, latent = sde()
    teacher = distribution("box", random_parameters("box", 23))

    def loss(mean, log_std):
        dist = StateDependentNoiseDistribution(2, learn_features=True)
        dist.proba_distribution_net(latent_dim=4, latent_sde_dim=4)
        return getattr(losses, name)(
            teacher, plain(ACTION_SPACES["box"], dist.proba_distribution(mean, log_std, latent))
        )

    assert th.autograd.gradcheck(loss, (mean, log_std), eps=1e-6, atol=1e-7, rtol=1e-6)


def test_plain_leaves_other_distributions_alone(kind):
    """The object itself."""
    dist = distribution(kind, random_parameters(kind, 24))
    assert plain(ACTION_SPACES[kind], dist) is dist


def test_squashed_actions_are_refused():
    """Their KL against unsquashed ones has no closed form; the message says what to change."""
    squashed_sde = sde(squash_output=True)[0]
    gaussian = SquashedDiagGaussianDistribution(2).proba_distribution(th.zeros(1, 2), th.zeros(1, 2))
    for dist in (squashed_sde, gaussian):
        with pytest.raises(TypeError, match=rf"{type(dist).__name__}.*squash_output=False"):
            parameters(dist)
    with pytest.raises(TypeError, match="squash_output=False"):
        plain(ACTION_SPACES["box"], squashed_sde)


# --- one step later ---------------------------------------------------------------------------------------------------


def play(ends):
    """
    What next_states() is told and should answer, by walking through episodes.

    :param ends: "", "terminated" or "truncated" for each step and environment
    """
    fresh = itertools.count(1)
    state = [next(fresh) for _ in ends[0]]
    x, expected, truncated, last = list(state), [], [], []
    for step, row in enumerate(ends):
        for i, end in enumerate(row):
            state[i] = next(fresh)  # where the step led to
            expected.append(state[i] if end != "terminated" else None)
            if end == "truncated":
                truncated.append((step, i, None))
                last.append(state[i])
            if end:
                state[i] = next(fresh)  # where the next episode starts
        x += state
    return x + last, expected, truncated


@pytest.mark.parametrize("n_steps, n_envs", [(3, 2), (2, 3), (5, 1), (1, 3)])
def test_next_states_against_every_way_in_which_episodes_end(n_steps, n_envs):
    """Terminations and time limits at every position: first step, last step, several environments in one step."""
    n = n_steps * n_envs
    for flat in itertools.product(("", "terminated", "truncated"), repeat=n):
        ends = [flat[k : k + n_envs] for k in range(0, n, n_envs)]
        x, expected, truncated = play(ends)
        given = th.tensor(x)
        result = next_states(given, n, n_envs, truncated)
        assert [r if e is not None else None for r, e in zip(result.tolist(), expected, strict=True)] == expected, ends
        assert given.tolist() == x  # nothing was written to it


def test_next_states_keeps_columns_together():
    """Distributions have a row of parameters per state."""
    x, expected, truncated = play([("", "truncated"), ("truncated", "")])
    rows = th.stack([th.tensor(x), -th.tensor(x)], dim=1)
    assert next_states(rows, 4, 2, truncated).tolist() == [[e, -e] for e in expected]


def test_next_loss_masks_what_follows_nothing_and_nothing_else():
    """The loss at a terminal state may be NaN or infinite and is 0; elsewhere it must not be hidden."""
    inf, nan = float("inf"), float("nan")
    values = th.tensor([1.0, nan, inf, -inf, 7.0, nan, inf])
    step = Transitions(None, None, th.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]), 0.5, None)
    result = next_loss(step, lambda teacher, student: values)
    np.testing.assert_array_equal(result, [-0.5, 0.0, 0.0, 0.0, 0.0, nan, -inf])


def test_next_loss_is_of_the_next_states_distributions(kind):
    """−γ ℓ(π(·|s_{t+1}), π_θ(·|s_{t+1})), the teacher first."""
    teacher, student = random_parameters(kind, 25), random_parameters(kind, 26)
    step = Transitions(
        *(None, None, th.ones(N_STATES), 0.9, None),
        teacher_tp1=distribution(kind, teacher),
        student_tp1=distribution(kind, student),
    )
    np.testing.assert_allclose(next_loss(step, losses.kl), -0.9 * slow(kind, "kl", teacher, student), rtol=1e-11)


# --- ∇ℓ on the graph --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("coef", [None, 0.0, 0.7])
def test_the_loss_is_added_and_the_policy_gradient_weighed_in_the_gradient_alone(weight, coef):
    """Against autograd of the written-out sum; also where log-probabilities carry no gradient, or there is no loss."""
    theta = th.randn(4, generator=th.Generator().manual_seed(5), dtype=th.float64).requires_grad_()

    def parts():
        return theta**3, None if coef is None else (theta.sin() ** 2).mean()  # log-probabilities, and a loss

    log_prob, loss = parts()
    written_out = weight * (log_prob - 1).square().mean() + (0.0 if loss is None else coef * loss)
    (expected,) = th.autograd.grad(written_out, theta)
    for detached in (False, True) if weight == 0 and loss is not None else (False,):
        log_prob, loss = parts()
        attached = WeighAndAttach.apply(log_prob.detach() if detached else log_prob, weight, loss, coef)
        assert th.equal(attached, log_prob)
        objective = (attached - 1).square().mean()
        assert objective.item() == (log_prob - 1).square().mean().item()  # what is logged knows neither weight nor ℓ
        (gradient,) = th.autograd.grad(objective, theta)
        np.testing.assert_allclose(gradient, expected, rtol=1e-13, atol=1e-16)
