"""Exact mathematics against independent computations: iteration, enumeration, simulation, finite differences."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch as th

from sb3_distill.envs.corridor import corridor_mdp, corridor_teacher
from sb3_distill.envs.grid_world import grid_mdp, random_cells
from sb3_distill.envs.oscillation import oscillation_mdp, oscillation_policy
from sb3_distill.rules.methods import CROSS_ENTROPY, METHODS, Method, get_method
from sb3_distill.tabular import exact, theorems
from sb3_distill.tabular.exact import MDP, asymmetry, expected_return, policy_value, state_visits
from sb3_distill.tabular.oscillation import (
    CENTRE,
    LIMIT,
    ROWS,
    exact_update,
    expected_loss,
    invariant,
    orbit,
    returns,
    update,
)

BASELINE = get_method("teacher_v_reward", baseline="student")
UNIFORM = Method("uniform", "uniform", CROSS_ENTROPY, None, True, "E Σ H×(π‖π_θ)")
ALL = {f"{form}-{row.name}": row for form, rows in METHODS.items() for row in rows.values()} | {"baseline": BASELINE}
rows = pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in ALL.items()])
CELLS = {"wall": 0.15, "goal": 0.05, "pit": 0.05, "bonus": 0.1, "malus": 0.1}


@pytest.fixture(scope="module")
def worlds():
    """Three grid worlds and a random policy for each."""
    mdp = grid_mdp(np.stack([random_cells(seed, 5, CELLS) for seed in range(3)]), n_actions=5, fall=0.05)
    return mdp, np.random.default_rng(0).dirichlet(np.ones(5), size=(3, 25))


def random_mdp(seed, n_states=3, n_actions=2, end=0.25):
    """An MDP and a student's logits."""
    mdp = MDP.random(seed, n_states, n_actions, end)
    generator = th.Generator().manual_seed(100 + seed)
    return mdp, th.randn(n_states, n_actions, generator=generator, dtype=th.float64)


# --- values, visits, returns ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_values_and_visits_are_what_iteration_converges_to(worlds, gamma):
    """V by repeated backups and visits by pushing the start distribution forward, from the dense arrays."""
    mdp, policy = worlds
    dense = mdp.dense()
    value, now, visits = np.zeros((3, 25)), mdp.start, np.zeros((3, 25))
    for t in range(600):
        value = (policy * (dense.reward + gamma * np.einsum("nsat,nt->nsa", dense.transition, value))).sum(-1)
        visits += gamma**t * now
        now = np.einsum("ns,nsa,nsat->nt", now, policy, dense.transition)
    assert now.sum() < 1e-12
    assert np.allclose(policy_value(mdp, policy, gamma), value, rtol=0, atol=1e-10)
    assert np.allclose(state_visits(mdp, policy, gamma), visits, rtol=0, atol=1e-10)
    assert np.allclose(expected_return(mdp, policy, gamma), value[:, 12], rtol=0, atol=1e-10)
    assert not policy_value(mdp, policy, gamma)[mdp.terminal].any()


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_values_and_visits_are_what_episodes_average(worlds, gamma):
    """Within 4 standard errors of 4,000 episodes, move by move from the compact arrays."""
    mdp, policy, n, rng = worlds[0][0], worlds[1][0], 4000, np.random.default_rng(1)
    state, alive, total, visits = np.full(n, 12), np.ones(n, bool), np.zeros(n), np.zeros((n, 25))
    discount = 1.0
    while alive.any():
        visits[alive, state[alive]] += discount
        action = (rng.random((n, 1)) > policy[state].cumsum(-1)).sum(-1).clip(max=4)
        move = (rng.random((n, 1)) > mdp.moves[action].cumsum(-1)).sum(-1).clip(max=3)
        total += discount * alive * mdp.reward[state, move]
        fell = rng.random(n) < mdp.fall[state]
        state = mdp.following[state, move]
        alive &= ~(mdp.terminal[state] | fell)
        discount *= gamma
    assert abs(total.mean() - expected_return(mdp, policy, gamma)) < 4 * total.std() / math.sqrt(n)
    error = np.abs(visits.mean(0) - state_visits(mdp, policy, gamma))
    assert np.all(error <= 4 * visits.std(0) / math.sqrt(n) + 1e-9)


@pytest.mark.parametrize("mistakes", [0.3, 0.05])
def test_the_corridor_is_the_gamblers_ruin(mistakes):
    """V(i) = P(right end) − P(left end) = 2 (1 − ρ^i) / (1 − ρ^n) − 1 with ρ = P(left) / P(right), at γ = 1."""
    mdp = corridor_mdp(length=7)
    i, rho = np.arange(7), mistakes / (1 - mistakes)
    value = 2 * (1 - rho**i) / (1 - rho**6) - 1
    value[[0, 6]] = 0  # the ends have been left
    assert np.allclose(policy_value(mdp, corridor_teacher("optimal", 7, mistakes), 1.0), value)
    assert np.allclose(policy_value(mdp, corridor_teacher("adversarial", 7, mistakes), 1.0), -value[::-1])


def test_worlds_are_solved_a_few_at_a_time(worlds, monkeypatch):
    """Chunks, single worlds, and one policy for all are the same numbers."""
    mdp, policy = worlds
    whole = policy_value(mdp, policy, 0.9)
    monkeypatch.setattr(exact, "CHUNK", 2)
    assert np.array_equal(policy_value(mdp, policy, 0.9), whole)
    assert np.allclose([policy_value(mdp[i], policy[i], 0.9) for i in range(3)], whole)
    assert np.allclose(state_visits(mdp, policy[0])[0], state_visits(mdp[0], policy[0]))


def test_torch_and_numpy_agree_about_the_same_arrays(worlds):
    """MDP.of a grid world gives the values, action values, visits and return of the grid world's own functions."""
    mdp, policy = worlds
    table = MDP.of(mdp, np.zeros((3, 25, 5)))
    probs = th.from_numpy(policy)
    value = policy_value(mdp, policy, 0.9)
    assert np.allclose(table.policy_value(probs, table.reward, 0.9), value)
    assert np.allclose(table.action_value(probs, table.reward, 0.9), mdp.backup(value, 0.9))
    assert np.allclose(table.visits(probs, 0.9), state_visits(mdp, policy, 0.9))
    assert np.allclose(table.expected_return(probs, 0.9), expected_return(mdp, policy, 0.9))
    assert np.allclose(table.teacher_value(0.9), policy_value(mdp, np.full((25, 5), 0.2), 0.9))


# --- update rules -----------------------------------------------------------------------------------------------------


def softmax(logits):
    return np.array([[math.exp(x) / sum(map(math.exp, row)) for x in row] for row in logits.tolist()])


class ByHand:
    """A row's ℓ, ∇ℓ and r̂ in plain numpy, from the table of the paper and from the KL forms; its name is a key of ``ALL``."""

    def __init__(self, name, mdp, logits, gamma):
        self.row, self.kl, self.gamma = name.split("-")[-1], name.startswith("unbiased"), gamma
        self.pi, self.student, self.reward = softmax(mdp.teacher_logits), softmax(logits), mdp.reward.numpy()
        self.control = self.pi if self.row == "teacher_distill" else self.student
        self.value, self.student_value = (
            mdp.policy_value(th.from_numpy(policy), mdp.reward, gamma).numpy() for policy in (self.pi, self.student)
        )

    def loss(self, s):
        p, q = self.pi[s], self.student[s]
        if self.row == "expected_entropy":
            return (q * (self.kl * np.log(q) - np.log(p))).sum()
        return (p * (self.kl * np.log(p) - np.log(q))).sum()

    def loss_gradient(self, s):
        p, q = self.pi[s], self.student[s]
        if self.row == "expected_entropy":
            cost = self.kl * np.log(q) - np.log(p)
            return q * (cost - (q * cost).sum())
        return np.zeros_like(q) if self.row in ("entropy_regularised", "teacher_v_reward", "baseline") else q - p

    def r_hat(self, s, a, following):
        if self.row in ("n_distill", "expected_entropy"):
            return 0.0 if following is None else -self.gamma * self.loss(following)
        if self.row == "entropy_regularised":
            return np.log(self.pi[s, a]) - self.kl * np.log(self.student[s, a])
        if self.row in ("teacher_v_reward", "baseline"):
            ahead = 0.0 if following is None else self.gamma * self.value[following]
            return self.reward[s, a] + ahead - (self.student_value if self.row == "baseline" else self.value)[s]
        return 0.0


def trajectories(mdp, control, s, probability, depth, steps=()):
    """All that start in s and end within ``depth`` steps, with their probabilities."""
    for a in range(mdp.n_actions):
        p = probability * control[s, a]
        yield (*steps, (s, a, None)), p * (1 - float(mdp.transition[s, a].sum()))
        if depth > 1:
            for t in range(mdp.n_states):
                p_t = p * float(mdp.transition[s, a, t])
                yield from trajectories(mdp, control, t, p_t, depth - 1, (*steps, (s, a, t)))


def by_trajectories(mdp, name, logits, gamma, depth):
    """Equation 1 as it is written: a sum over trajectories of at most ``depth`` steps, times their probabilities."""
    row, update = ByHand(name, mdp, logits, gamma), np.zeros(logits.shape)
    for s in range(mdp.n_states):
        for steps, probability in trajectories(mdp, row.control, s, float(mdp.start[s]), depth):
            to_go = 0.0
            for s_t, a_t, s_tp1 in reversed(steps):
                to_go = row.r_hat(s_t, a_t, s_tp1) + gamma * to_go
                score = np.eye(mdp.n_actions)[a_t] - row.student[s_t]
                update[s_t] += probability * (-score * to_go + row.loss_gradient(s_t))
    return update


@pytest.mark.parametrize("gamma", [1.0, 0.9])
@pytest.mark.parametrize("name", ALL)
def test_the_update_is_equation_1_over_all_trajectories(name, gamma):
    """With plain visits, as equation 1 has them; to the probability of the trajectories that are too long to list."""
    mdp, logits = random_mdp(1, n_states=2)
    mdp = replace(mdp, transition=0.03 * mdp.transition)
    listed = by_trajectories(mdp, name, logits, gamma, depth=4)
    found = mdp.expected_update(ALL[name], logits, gamma, lambda control: mdp.visits(control, 1.0)).numpy()
    assert np.abs(found).max() > 0.05
    assert np.abs(found - listed).max() < 1e-5


@rows
@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_the_jacobian_is_that_of_central_differences(row, gamma):
    """Three MDPs at once against one at a time, through visits, values and rewards."""
    mdps, logits = zip(*[random_mdp(seed) for seed in range(3)], strict=True)
    found = MDP.stack(mdps).jacobian(row, th.stack(logits), gamma)
    assert found.shape == (3, 6, 6)
    step = 1e-5
    for mdp, at, jacobian in zip(mdps, logits, found, strict=True):
        for i in range(6):
            shift = step * th.eye(6, dtype=th.float64)[i].reshape(3, 2)
            up, down = (mdp.expected_update(row, at + sign * shift, gamma) for sign in (1, -1))
            assert th.allclose(jacobian[:, i], (up - down).flatten() / (2 * step), rtol=0, atol=1e-8)


@rows
def test_mdps_side_by_side_are_each_one(row):
    mdps, logits = zip(*[random_mdp(seed) for seed in range(3)], strict=True)
    together = MDP.stack(mdps).expected_update(row, th.stack(logits), 0.9)
    alone = [mdp.expected_update(row, at, 0.9) for mdp, at in zip(mdps, logits, strict=True)]
    assert th.allclose(together, th.stack(alone), rtol=0, atol=1e-13)


@rows
def test_the_stated_loss_is_its_definition(row):
    """E_q Σ_t γ^t c(s_t, a_t), by pushing the start distribution forward and plain logarithms."""
    mdp, logits = random_mdp(4)
    if not row.is_gradient:
        with pytest.raises(ValueError, match="nothing"):
            mdp.stated_loss(row, logits, 1.0)
        return
    gamma, pi, student = 0.9, softmax(mdp.teacher_logits), softmax(logits)
    control = pi if row.control == "teacher" else student
    total, now = 0.0, mdp.start.numpy()
    for t in range(200):
        following = np.zeros(3)
        for s in range(3):
            for a in range(2):
                log_pi, log_student = math.log(pi[s][a]), math.log(student[s][a])
                cost = {
                    "E_π Σ H×(π‖π_θ)": -pi[s][a] / control[s][a] * log_student,
                    "E_πθ Σ H×(π‖π_θ)": -pi[s][a] / control[s][a] * log_student,
                    "E_πθ Σ KL(π‖π_θ)": pi[s][a] / control[s][a] * (log_pi - log_student),
                    "E_πθ Σ −log π(a_t|s_t)": -log_pi,
                    "E_πθ Σ KL(π_θ‖π)": log_student - log_pi,
                    "−E_πθ Σ r_t": -float(mdp.reward[s, a]),
                }[row.descends]
                p = now[s] * control[s][a]
                total += gamma**t * p * cost
                following += p * mdp.transition[s, a].numpy()
        now = following
    assert float(mdp.stated_loss(row, logits, gamma)) == pytest.approx(total, abs=1e-10)


def test_uniform_control_is_a_gradient_field():
    """Its visits do not depend on the student, as under teacher control."""
    mdp, logits = random_mdp(5)
    uniform = th.full((3, 2), 0.5, dtype=th.float64)
    visits, error = mdp.visits(uniform, 1.0), logits.softmax(-1) - mdp.teacher_logits.softmax(-1)
    assert th.allclose(mdp.expected_update(UNIFORM, logits, 1.0), visits[:, None] * error)
    assert asymmetry(mdp.jacobian(UNIFORM, logits, 1.0)) < 1e-12


def test_a_reward_under_another_control_is_an_error():
    mdp, logits = random_mdp(5)
    row = replace(METHODS["paper"]["n_distill"], control="teacher")
    with pytest.raises(ValueError, match="control='student'"):
        mdp.expected_update(row, logits, 1.0)


def test_plain_visits_with_a_discount_leave_the_gradient_field():
    """What SB3 does: at γ = 0.9 N-distill is then some percent off, and its Jacobian no longer symmetric."""
    mdp, logits = theorems.random_mdps(20)
    row = METHODS["unbiased"]["n_distill"]
    found = asymmetry(mdp.jacobian(row, logits, 0.9, lambda control: mdp.visits(control, 1.0)))
    assert 0.005 < found.min() and found.max() < 0.5


def test_asymmetry_by_hand():
    jacobians = th.tensor([[[1.0, 2.0], [2.0, 3.0]], [[0.0, 1.0], [-1.0, 0.0]], [[1.0, 1.0], [0.0, 1.0]]])
    assert th.allclose(asymmetry(jacobians), th.tensor([0.0, 2.0, math.sqrt(2 / 3)]))


# --- theorems ---------------------------------------------------------------------------------------------------------


def test_theorems_hold_on_ten_mdps():
    """And a row that claims what it is not is found out."""
    checks = theorems.check_fields(10)
    assert len(checks) == 2 * 9 and all(check.holds for check in checks)
    mdp, logits = theorems.random_mdps(10)
    liar = replace(METHODS["paper"]["on_policy_distill"], is_gradient=True, descends="E_πθ Σ H×(π‖π_θ)")
    assert not theorems.check_field(mdp, logits, liar, "paper", 1.0).holds
    modest = replace(METHODS["paper"]["n_distill"], is_gradient=False)
    assert not theorems.check_field(mdp, logits, modest, "paper", 1.0).holds


def test_the_command_prints_both_tables_and_fails_when_a_theorem_does(capsys, monkeypatch):
    theorems.main(["--n", "2"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in METHODS["paper"]) and "2 random MDPs" in printed and "turns" in printed
    monkeypatch.setattr(theorems, "ASYMMETRIC", 3.0)
    with pytest.raises(SystemExit, match="does not hold"):
        theorems.main(["--n", "2"])


# --- the oscillation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROWS)
def test_closed_forms_of_the_oscillation_are_the_exact_update(name):
    for theta in np.random.default_rng(0).normal(scale=2, size=(5, 2)):
        assert np.allclose(update(name, theta), exact_update(ROWS[name], theta), rtol=0, atol=1e-13)


def test_the_oscillations_loss_is_minus_the_return_and_n_distill_its_gradient():
    for theta in np.random.default_rng(1).normal(scale=2, size=(5, 2)):

        def loss(at):
            return -expected_return(oscillation_mdp(), oscillation_policy(at))

        step = 1e-5 * np.eye(2)
        gradient = [(loss(theta + step[i]) - loss(theta - step[i])) / 2e-5 for i in range(2)]
        assert np.allclose(update("n_distill", theta), gradient, rtol=0, atol=1e-9)
        assert expected_loss(1 / (1 + np.exp(-theta))) == pytest.approx(loss(theta))


def test_on_policy_distill_keeps_its_constant_of_motion():
    """Its gradient is orthogonal to the update everywhere, and the update vanishes at the centre only."""
    step = 1e-5 * np.eye(2)
    for theta in np.random.default_rng(2).normal(scale=2, size=(5, 2)):
        gradient = [(invariant(theta + step[i]) - invariant(theta - step[i])) / 2e-5 for i in range(2)]
        assert abs(np.dot(update("on_policy_distill", theta), gradient)) < 1e-8
    assert np.allclose(update("on_policy_distill", CENTRE), 0) and invariant(CENTRE) < invariant(CENTRE + step).min()


@pytest.mark.parametrize("start", [(0.0, 0.0), (-1.0, 1.0)])
def test_on_policy_distill_circles_and_n_distill_converges(start):
    check = theorems.check_oscillation(np.array(start))
    assert check.circles and check.converges and check.turns >= 10 and check.furthest < 1e-3


def test_paths_side_by_side_are_each_one_and_steps_are_small_enough():
    """Ten times the steps change a path by less than 1e-6."""
    starts = np.array([[0.0, 0.0], [1.0, -1.0]])
    for name in ROWS:
        both = orbit(name, starts, 20.0)
        assert both.theta.shape == both.policy.shape == (201, 2, 2) and both.loss.shape == (201, 2)
        for i in range(2):
            fine = orbit(name, starts[i], 20.0, step=0.01)
            assert np.allclose(both.theta[:, i], fine.theta[::10], rtol=0, atol=1e-6)
            assert np.allclose(both.policy[-1, i], 1 / (1 + np.exp(-fine.theta[-1])), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="Unknown row"):
        update("teacher_distill", starts)


def test_returns_measures_an_orbit_that_does_not_close():
    """A spiral that loses a tenth of its radius a turn is a tenth away from its start after the first."""
    turns = np.linspace(0, 3.5, 5_000)
    radius = 0.9**turns
    theta = CENTRE + np.stack([radius * np.cos(2 * np.pi * turns), radius * np.sin(2 * np.pi * turns)], axis=-1)
    path = orbit("n_distill", CENTRE, 0.1)._replace(theta=theta)
    assert returns(path) == pytest.approx([0.1, 0.19, 0.271], abs=1e-4)
    assert np.abs(LIMIT - 1).max() == 0
