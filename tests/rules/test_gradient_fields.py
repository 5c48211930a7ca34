"""The theorems of Czarnecki et al. 2019 about the very functions that train the networks, by exact linear solves."""

import pytest
import torch as th

from mdp import MDP
from sb3_distill.rules.methods import METHODS, TEACHER_V, Method, Reward, get_method
from sb3_distill.rules.rewards import Transitions
from sb3_distill.tabular.exact import asymmetry

ROWS = [pytest.param(row, id=f"{form}-{row.name}") for form, rows in METHODS.items() for row in rows.values()]
SEEDS = range(5)


def student_logits(mdp, seed):
    generator = th.Generator().manual_seed(1000 + seed)
    return th.randn(mdp.n_states, mdp.n_actions, generator=generator, dtype=th.float64)


@pytest.mark.parametrize("gamma", [1.0, 0.9])
@pytest.mark.parametrize("row", [p for p in ROWS if p.values[0].is_gradient])
def test_the_update_is_the_gradient_of_the_stated_loss(row, gamma):
    """Each row marked a gradient field descends its loss, at γ = 1 and, by discounted visits, below."""
    for seed in SEEDS:
        mdp = MDP.random(seed)
        logits = student_logits(mdp, seed).requires_grad_()
        (gradient,) = th.autograd.grad(mdp.stated_loss(row, logits, gamma), logits)
        update = mdp.expected_update(row, logits, gamma)
        assert (update - gradient).norm() / gradient.norm() < 1e-8


@pytest.mark.parametrize("row", ROWS)
def test_the_jacobian_is_symmetric_exactly_where_the_table_says_so(row):
    """Symmetric to 1e-6 for gradient fields, clearly not (0.05) for on-policy distill."""
    for seed in SEEDS:
        mdp = MDP.random(seed)
        found = asymmetry(mdp.jacobian(row, student_logits(mdp, seed), 1.0))
        assert found < 1e-6 if row.is_gradient else found > 0.05


def test_teacher_v_reward_with_the_students_baseline_is_no_gradient_field():
    """The slides' V_πθ(s_i) in place of V_π(s_i), which is why the latter is the default."""
    method = get_method("teacher_v_reward", baseline="student")
    assert not method.is_gradient
    mdp = MDP.random(0)
    assert asymmetry(mdp.jacobian(method, student_logits(mdp, 0), 1.0)) > 0.05


@pytest.mark.parametrize("name", ["n_distill", "expected_entropy", "entropy_regularised"])
def test_the_unbiased_form_rests_at_the_teacher_and_the_papers_does_not(name):
    """At a perfect copy the default form has nothing left to gain; the printed one would still rather end the episode."""
    mdp = MDP.random(3)
    assert mdp.expected_update(METHODS["unbiased"][name], mdp.teacher_logits, 1.0).norm() < 1e-12
    assert mdp.expected_update(METHODS["paper"][name], mdp.teacher_logits, 1.0).norm() > 0.05


def test_a_wrong_reward_is_noticed():
    """The check above would fail on a row without its γ, so it can fail."""
    row = METHODS["unbiased"]["n_distill"]
    mdp, gamma = MDP.random(1), 0.9
    reward = Reward(
        lambda step, loss: row.reward(step, loss) / gamma, "−ℓ(s_{i+1})", frozenset({"student", "next_state"})
    )
    wrong = Method("wrong", "student", row.loss, reward, True, row.descends)
    logits = student_logits(mdp, 1).requires_grad_()
    (gradient,) = th.autograd.grad(mdp.stated_loss(row, logits, gamma), logits)
    assert (mdp.expected_update(wrong, logits, gamma) - gradient).norm() / gradient.norm() > 1e-3


def test_teacher_value_reward_telescopes_to_the_return():
    """Σ γ^i r̂_i = Σ γ^i r_i − V_π(s_1) along an episode that ends, to the last term."""
    rng, gamma = th.Generator().manual_seed(0), 0.9
    rewards, values = th.randn(7, generator=rng), th.randn(7, generator=rng)
    step = Transitions(
        action_t=th.zeros(7),
        reward_t=rewards,
        continues_t=th.tensor([1.0] * 6 + [0.0]),
        gamma=gamma,
        teacher_t=None,
        teacher_value_t=values,
        teacher_value_tp1=th.cat([values[1:], th.tensor([1e6])]),
    )
    discount = gamma ** th.arange(7)
    assert th.isclose((discount * TEACHER_V(step)).sum(), (discount * rewards).sum() - values[0], atol=1e-5)


def test_with_a_shorter_horizon_the_teachers_value_reward_is_its_lambda_return():
    """Σ γ^k r̂_{t+k} = G^λ_t − V_π(s_t) with λ = γ/γ_π: n-step returns that V_π ends, one by one."""
    rng, gamma, theirs, n = th.Generator().manual_seed(0), 0.6, 0.9, 7
    rewards, values = (th.randn(n, generator=rng, dtype=th.float64) for _ in range(2))
    following = th.cat([values[1:], th.tensor([1e6])])  # what stands for the end must not matter
    step = Transitions(
        action_t=th.zeros(n),
        reward_t=rewards,
        continues_t=th.tensor([1.0] * (n - 1) + [0.0], dtype=th.float64),
        gamma=gamma,
        teacher_t=None,
        teacher_value_t=values,
        teacher_value_tp1=following,
        teacher_gamma=theirs,
    )
    lam = gamma / theirs
    returns = []
    for steps in range(1, n + 1):
        paid = sum(theirs**k * rewards[k] for k in range(steps))
        returns.append(paid + (theirs**steps * values[steps] if steps < n else 0.0))
    weights = [(1 - lam) * lam**k for k in range(n - 1)] + [lam ** (n - 1)]
    expected = sum(w * g for w, g in zip(weights, returns, strict=True)) - values[0]
    discount = gamma ** th.arange(n, dtype=th.float64)
    assert th.isclose((discount * TEACHER_V(step)).sum(), expected, rtol=1e-12)
    shorter = TEACHER_V(step._replace(teacher_gamma=None))
    assert not th.isclose((discount * shorter).sum(), expected, rtol=1e-3)
