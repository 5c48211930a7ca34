"""Weights, mixtures and bounds in tables: the functions that train networks, against sums written out by hand."""

import math
from dataclasses import replace

import pytest
import torch as th

from sb3_distill.rules.methods import CROSS_ENTROPY, METHODS, PROXIMAL, V_CONDITION, Method, Weight, get_method
from sb3_distill.rules.weights import Returns
from sb3_distill.tabular.exact import MDP, asymmetry

GAMMA, BETA, CLIP = 0.9, 0.3, 0.2


@pytest.fixture(scope="module")
def world():
    """An MDP of three states and two actions, the student's logits now, and those of the rollout."""
    generator = th.Generator().manual_seed(3)
    now, old = (th.randn(3, 2, generator=generator, dtype=th.float64) for _ in range(2))
    return MDP.random(9, 3, 2, 0.25), now, old


def probabilities(logits):
    return [[math.exp(x) / sum(math.exp(y) for y in row) for x in row] for row in logits.tolist()]


def value(mdp, policy, reward, gamma):
    """V by repeated backups."""
    v, transition = [0.0] * 3, mdp.transition.tolist()
    for _ in range(300):
        v = [
            sum(
                policy[s][a] * (reward[s][a] + gamma * sum(transition[s][a][t] * v[t] for t in range(3)))
                for a in range(2)
            )
            for s in range(3)
        ]
    return v


def visits(mdp, policy, gamma):
    now, total, transition = mdp.start.tolist(), [0.0] * 3, mdp.transition.tolist()
    for k in range(300):
        total = [x + gamma**k * y for x, y in zip(total, now, strict=True)]
        now = [sum(now[s] * policy[s][a] * transition[s][a][t] for s in range(3) for a in range(2)) for t in range(3)]
    return total


def test_the_v_condition_leaves_out_the_states_in_which_the_student_is_better(world):
    mdp, logits, _ = world
    row = get_method("on_policy_distill", weight="v_conditioned")
    teacher, student = probabilities(mdp.teacher_logits), probabilities(logits)
    reward = mdp.reward.tolist()
    theirs, ours = value(mdp, teacher, reward, GAMMA), value(mdp, student, reward, GAMMA)
    counts = [a > b for a, b in zip(theirs, ours, strict=True)]
    assert any(counts) and not all(counts)
    d = visits(mdp, student, GAMMA)
    expected = [[d[s] * counts[s] * (student[s][a] - teacher[s][a]) for a in range(2)] for s in range(3)]
    assert th.allclose(mdp.expected_update(row, logits, GAMMA), th.tensor(expected, dtype=th.float64), atol=1e-10)


def test_the_proximal_weight_is_the_larger_of_ratio_and_floor_with_its_gradient(world):
    """∇(w ℓ) = w ∇ℓ + ℓ ∇w by central differences of the plain sum; both sides of the maximum occur."""
    mdp, logits, old = world
    row = get_method("proximal_distill")
    teacher, acted = probabilities(mdp.teacher_logits), probabilities(old)
    d = visits(mdp, acted, GAMMA)
    above = [
        p > (1 - CLIP) * q for P, Q in zip(probabilities(logits), acted, strict=True) for p, q in zip(P, Q, strict=True)
    ]
    assert any(above) and not all(above)

    def objective(at):
        now, total = probabilities(at), 0.0
        for s in range(3):
            loss = -sum(teacher[s][a] * math.log(now[s][a]) for a in range(2))
            weight = sum(acted[s][a] * max(now[s][a] / acted[s][a], 1 - CLIP) for a in range(2))
            total += d[s] * weight * loss
        return total

    step = 1e-6 * th.eye(6, dtype=th.float64).reshape(6, 3, 2)
    expected = th.tensor([(objective(logits + e) - objective(logits - e)) / 2e-6 for e in step], dtype=th.float64)
    found = mdp.expected_update(row, logits, GAMMA, old=old, clip_range=CLIP)
    assert th.allclose(found.flatten(), expected, atol=1e-8)
    for mutant in (
        lambda s: s.log_ratio.exp().clamp(min=1 - s.clip_range).detach(),
        lambda s: s.log_ratio.exp().clamp(max=1 - s.clip_range),
        lambda s: s.log_ratio.exp().clamp(min=1 + s.clip_range),
    ):
        wrong = replace(row, weight=Weight(mutant, "?", PROXIMAL.needs))
        error = mdp.expected_update(wrong, logits, GAMMA, old=old, clip_range=CLIP).flatten() - expected
        assert error.norm() > 0.01 * expected.norm()


def test_before_the_first_step_the_proximal_weight_changes_nothing_in_the_mean(world):
    """ρ is 1, and ℓ ∇ρ has mean 0, whoever acts: the draws are the student's own."""
    mdp, logits, _ = world
    for control in ("student", "teacher", "uniform"):
        weighted = get_method("on_policy_distill", control=control, weight="proximal")
        plain = get_method("on_policy_distill", control=control)
        found, expected = (mdp.expected_update(row, logits, GAMMA) for row in (weighted, plain))
        assert th.allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("name", ["on_policy_distill", "n_distill", "expected_entropy"])
def test_the_return_ratio_turns_the_whole_row_down(world, name):
    """ℓ and the reward that carries it: the direction stays that of the gradient field."""
    mdp, logits, _ = world
    returns = []
    for policy in (probabilities(mdp.teacher_logits), probabilities(logits), [[0.5, 0.5]] * 3):
        v = value(mdp, policy, mdp.reward.tolist(), 1.0)
        returns.append(sum(p * x for p, x in zip(mdp.start.tolist(), v, strict=True)))
    share = min(max((returns[0] - returns[1]) / (returns[0] - returns[2]), 0.0), 1.0)
    row = get_method(name, weight="return_ratio")
    assert 0.05 < share < 0.95
    assert mdp.coefficient(row, logits) == pytest.approx(share)
    assert row.coefficient(Returns(*returns)) == pytest.approx(share)
    plain = mdp.expected_update(get_method(name), logits, GAMMA)
    assert th.allclose(mdp.expected_update(row, logits, GAMMA), share * plain, atol=1e-12)


def test_a_mixture_visits_states_and_draws_actions_as_beta_says(world):
    """q = β π + (1−β) π_θ, and ℓ alone, by hand."""
    mdp, logits, _ = world
    row = get_method("on_policy_distill", control="mixed")
    teacher, student = probabilities(mdp.teacher_logits), probabilities(logits)
    q = [[BETA * t + (1 - BETA) * s for t, s in zip(T, S, strict=True)] for T, S in zip(teacher, student, strict=True)]
    d = visits(mdp, q, GAMMA)
    expected = [[d[s] * (student[s][a] - teacher[s][a]) for a in range(2)] for s in range(3)]
    found = mdp.expected_update(row, logits, GAMMA, beta=BETA)
    assert th.allclose(found, th.tensor(expected, dtype=th.float64), atol=1e-10)
    for beta, control in ((0.0, "student"), (1.0, "teacher")):
        other = mdp.expected_update(get_method("on_policy_distill", control=control), logits, GAMMA)
        assert th.allclose(mdp.expected_update(row, logits, GAMMA, beta=beta), other, atol=1e-12)


def test_the_policy_gradient_of_a_mixture_weighs_its_actions_by_the_ratio(world):
    """Σ_s d_q(s) Σ_a q(a|s) (π_θ(a|s) / q(a|s)) ∇log π_θ(a|s) Q^q(s, a), by hand."""
    mdp, logits, _ = world
    row = get_method("teacher_v_reward", control="mixed")
    teacher, student = probabilities(mdp.teacher_logits), probabilities(logits)
    q = [[BETA * t + (1 - BETA) * s for t, s in zip(T, S, strict=True)] for T, S in zip(teacher, student, strict=True)]
    v_pi = value(mdp, teacher, mdp.reward.tolist(), GAMMA)

    def after(v, s, a):
        return GAMMA * sum(mdp.transition[s, a, t].item() * v[t] for t in range(3))

    reward = [[mdp.reward[s, a].item() + after(v_pi, s, a) - v_pi[s] for a in range(2)] for s in range(3)]
    v_q, d = value(mdp, q, reward, GAMMA), visits(mdp, q, GAMMA)
    expected = [[0.0, 0.0] for _ in range(3)]
    for s in range(3):
        for a in range(2):
            ratio = student[s][a] / q[s][a]
            for b in range(2):
                score = (a == b) - student[s][b]
                expected[s][b] -= d[s] * q[s][a] * ratio * score * (reward[s][a] + after(v_q, s, a))
    found = mdp.expected_update(row, logits, GAMMA, beta=BETA)
    assert th.allclose(found, th.tensor(expected, dtype=th.float64), atol=1e-9)


def test_a_bound_that_does_not_bind_changes_nothing_and_one_that_does_leaves_the_printed_row_a_gradient(world):
    """max(log π, −b) is a reward like any other; with π_θ or ℓ beneath the bound the field is none where it binds."""
    mdp, logits, _ = world
    for form in METHODS:
        for name in ("entropy_regularised", "n_distill", "expected_entropy"):
            row = METHODS[form][name]
            free = mdp.expected_update(row, logits, 1.0)
            assert th.equal(mdp.expected_update(row, logits, 1.0, bound=1e3), free)
            found = asymmetry(mdp.jacobian(row, logits, 1.0, bound=0.3))
            is_fixed = form == "paper" and name == "entropy_regularised"
            assert found < 1e-10 if is_fixed else found > 1e-3


def test_weights_that_lean_on_the_student_go_with_no_reward_of_the_row():
    for weight, needs in ((V_CONDITION, "student"), (PROXIMAL, "student")):
        assert Method("mine", needs, CROSS_ENTROPY, weight=weight).state_weight is weight
        with pytest.raises(ValueError, match="does not carry it"):
            replace(METHODS["unbiased"]["n_distill"], weight=weight)
