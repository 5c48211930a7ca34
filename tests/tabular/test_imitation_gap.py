"""A student that sees less than its teacher: linear solves against all episodes written out, and against closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecExtractDictObs

pytest.importorskip("numba")

from mdp import rollout_visits
from sb3_distill import DistillPPO
from sb3_distill.envs.forked_road import ForkedRoad, forked_road_mdp
from sb3_distill.rules.methods import METHODS
from sb3_distill.tabular.gap_networks import STUDENTS, learnt, policy_of, states_of, teacher_of
from sb3_distill.tabular.imitation_gap import (
    Road,
    cost_of_the_road,
    detours,
    followable,
    settle,
    side_by_side,
    softest,
    takes_the_detour,
    turning_point,
    with_env_reward,
)

ROAD = Road(temperature=0.3, length=1, forks=2, detour=0.4, wrong=-0.6)
ROWS = {f"{form}-{name}": row for form, rows in METHODS.items() for name, row in rows.items()}
GAMMA = 0.9


def episodes(road, probs):
    """Every episode: its probability, and its steps (s, o, a, r). Nothing of the library but the environment's arrays."""
    mdp, seen = forked_road_mdp(road.length, road.forks, road.detour, road.wrong), road.world().seen.tolist()

    def go(state, chance, steps):
        if mdp.terminal[state]:
            yield chance, steps
            return
        for action in (0, 1):
            step = (state, seen[state], action, mdp.reward[state, action])
            yield from go(mdp.following[state, action], chance * probs[seen[state]][action], [*steps, step])

    for state in np.flatnonzero(mdp.start):
        yield from go(state, mdp.start[state], [])


def softmax(x):
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def by_hand(name, form, teacher, value, probs, steps, t):
    """ℓ of step t, its gradient in the logits, and r̂, with the formulas of the table; nothing after the end."""
    if t >= len(steps):
        return 0.0, 0.0, 0.0
    state, o, a, r = steps[t]
    p, q = teacher[state], probs[o]
    forward, reverse, h_p, h_q = -p @ np.log(q), -q @ np.log(p), -p @ np.log(p), -q @ np.log(q)
    unbiased = form == "unbiased"
    if name in ("teacher_distill", "on_policy_distill"):
        return forward, q - p, 0.0
    if name == "n_distill":
        loss, gradient = forward - unbiased * h_p, q - p
        return loss, gradient, -GAMMA * by_hand(name, form, teacher, value, probs, steps, t + 1)[0]
    if name == "expected_entropy":
        each = -np.log(p) + unbiased * np.log(q)
        loss, gradient = reverse - unbiased * h_q, q * (each - q @ each)
        return loss, gradient, -GAMMA * by_hand(name, form, teacher, value, probs, steps, t + 1)[0]
    if name == "entropy_regularised":
        return 0.0, 0.0, np.log(p[a]) - unbiased * np.log(q[a])
    following = value[steps[t + 1][0]] if t + 1 < len(steps) else 0.0
    return 0.0, 0.0, r + GAMMA * following - value[state]


def backed_up(teacher):
    """V_π of the teacher."""
    mdp = forked_road_mdp(ROAD.length, ROAD.forks, ROAD.detour, ROAD.wrong)
    value = np.zeros(mdp.n_states)
    for _ in range(mdp.n_states):
        ahead = value[mdp.following] * ~mdp.terminal[mdp.following]
        value = (teacher * (mdp.reward + GAMMA * ahead)).sum(-1) * ~mdp.terminal
    return value


@pytest.fixture(scope="module")
def student():
    world = ROAD.world()
    logits = th.randn(world.n_seen, 2, generator=th.Generator().manual_seed(3), dtype=th.float64)
    return world, logits


def test_returns_and_visits_are_those_of_all_episodes(student):
    world, logits = student
    probs = softmax(logits.numpy())
    every = list(episodes(ROAD, probs))
    assert abs(sum(chance for chance, _ in every) - 1) < 1e-12
    paid = sum(chance * sum(r for *_, r in steps) for chance, steps in every)
    assert abs(world.expected_return(logits.softmax(-1)).item() - paid) < 1e-12
    detour = sum(chance for chance, steps in every if len(steps) == 1)
    assert abs(takes_the_detour(world, logits.softmax(-1)).item() - detour) < 1e-12
    visits = np.zeros(world.mdp.n_states)
    for chance, steps in every:
        for state, *_ in steps:
            visits[state] += chance
    assert np.abs(world.mdp.visits(world.in_states(logits.softmax(-1)), 1.0).numpy() - visits).max() < 1e-12


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_the_update_under_aliasing_is_that_of_all_episodes(name, weight, student):
    """E Σ γ^t [∇ℓ_t − ∇log π_θ(a_t|o_t) R̂_t], every episode written out: 1e-10."""
    world, logits = student
    form, row_name = name.split("-")
    row = ROWS[name]
    if row.control != "student" and weight:
        pytest.skip("a reward needs the student's own actions")
    probs = softmax(logits.numpy())
    teacher = softmax(world.mdp.teacher_logits.numpy())
    value = backed_up(teacher)
    expected = np.zeros(probs.shape)
    who = episodes(ROAD, probs)
    if row.control == "teacher":  # who acts sees the state: the chance of its actions, not of the student's
        who = [
            (0.5 * np.prod([teacher[s][a] for s, _, a, _ in steps]), steps)
            for _, steps in episodes(ROAD, np.full(probs.shape, 0.5))
        ]
    for chance, steps in who:
        parts = [by_hand(row_name, form, teacher, value, probs, steps, t) for t in range(len(steps))]
        for t, (_, o, a, _) in enumerate(steps):
            later = [GAMMA ** (i - t) * (parts[i][2] + weight * steps[i][3]) for i in range(t, len(steps))]
            expected[o] += chance * GAMMA**t * (parts[t][1] - (np.eye(2)[a] - probs[o]) * sum(later))
    update = world.expected_update(with_env_reward(row, weight), logits, GAMMA)
    assert np.abs(update.numpy() - expected).max() < 1e-10


@pytest.mark.parametrize("name", ROWS)
def test_every_row_ends_where_the_closed_form_says(name):
    """Followed from a uniform student, for a soft and a sharp teacher, with the environment's reward and without: 1e-8."""
    roads = [ROAD, ROAD._replace(temperature=0.08)]
    world = side_by_side(roads)
    for weight in (0.0, 1.5) if ROWS[name].control == "student" else (0.0,):
        end = settle(world, with_env_reward(ROWS[name], weight), GAMMA)
        found = takes_the_detour(world, end.probs)
        said = [detours(road, ROWS[name], GAMMA, weight) for road in roads]
        assert np.abs(found.numpy() - said).max() < 1e-8


def test_the_best_that_can_be_followed_is_the_best_of_all_tables():
    """And no row has more, but one that remembers the cue, which has all of it."""
    for road in (ROAD, ROAD._replace(detour=-0.5), ROAD._replace(wrong=0.9), ROAD._replace(cue=True)):
        world = road.world()
        tables = itertools.product((0, 1), repeat=world.n_seen)
        every = th.stack([th.eye(2, dtype=th.float64)[list(table)] for table in tables])
        best = world.mdp.expected_return(world.in_states(every)).max()
        assert abs(followable(world) - best).item() < 1e-12
    world = ROAD._replace(cue=True).world(remembers=True)
    assert followable(world).item() == pytest.approx(1.0, abs=1e-12)
    assert settle(world, METHODS["unbiased"]["n_distill"]).probs.numpy() == pytest.approx(
        world.mdp.teacher_logits.softmax(-1).numpy(), abs=1e-8
    )


def test_when_the_rows_turn_away():
    """−log π(detour) is paid once: one fork is enough for KL(π_θ‖π), three for KL(π‖π_θ), and ∇ℓ alone never turns."""
    rows = METHODS["unbiased"]
    sharp = Road(temperature=0.05)
    turns = {
        (name, forks): turning_point(sharp._replace(forks=forks), rows[name]) > 0
        for name in ("on_policy_distill", "n_distill", "expected_entropy")
        for forks in (1, 2, 3)
    }
    assert [turns["on_policy_distill", k] for k in (1, 2, 3)] == [False] * 3
    assert [turns["n_distill", k] for k in (1, 2, 3)] == [False, False, True]
    assert [turns["expected_entropy", k] for k in (1, 2, 3)] == [True] * 3
    # log 2 a fork, against a teacher that never takes the detour
    assert cost_of_the_road(sharp, rows["n_distill"]) == pytest.approx(math.log(2), abs=1e-9)
    # log cosh z = z/2 at z = 1/τ
    softness = softest(Road(), lambda road: turning_point(road, rows["expected_entropy"]))
    assert math.log(math.cosh(1 / softness)) == pytest.approx(0.5 / softness, abs=1e-9)
    assert (
        softest(Road(), lambda road: turning_point(road, rows["expected_entropy"], 0.5)) is None
    )  # γ = ½ does not look so far
    # the paper's form pays log 2 for every step of plain road
    assert (
        turning_point(Road(0.05, 2), METHODS["paper"]["n_distill"])
        > 0
        > turning_point(Road(0.05, 2), rows["n_distill"])
    )
    # +R: a weight above 4 = 2/0.5
    assert (
        turning_point(sharp, rows["on_policy_distill"], 1.0, 4.1)
        > 0
        > turning_point(sharp, rows["on_policy_distill"], 1.0, 3.9)
    )


# --- networks ---------------------------------------------------------------------------------------------------------

N_ENVS, N_STEPS, ROLLOUTS = 64, 8, 20


def test_the_sampled_update_of_a_student_that_sees_less_is_the_exact_one():
    """N-distill in the environment, the teacher told by ``teacher_obs``: the mean of rollouts within three standard errors."""
    road, row = ROAD._replace(length=0, forks=2), METHODS["unbiased"]["n_distill"]
    world = road.world()
    logits = th.randn(world.n_seen, 2, generator=th.Generator().manual_seed(5), dtype=th.float64)
    table = world.in_states(logits)
    kwargs = {"length": 0, "forks": 2, "detour": road.detour, "wrong": road.wrong}
    env = VecExtractDictObs(make_vec_env(ForkedRoad, N_ENVS, seed=0, env_kwargs=kwargs), "seen")
    model = DistillPPO(
        "MlpPolicy",
        env,
        teacher=teacher_of(world),
        teacher_obs=states_of,
        method="n_distill",
        gamma=GAMMA,
        gae_lambda=1.0,
        normalize_advantage=False,
        learning_rate=1.0,
        vf_coef=0.0,
        max_grad_norm=1e9,
        reward_coef=1.0,
        averaging=0.0,
        n_steps=N_STEPS,
        batch_size=N_STEPS * N_ENVS,
        n_epochs=1,
        policy_kwargs={"net_arch": [], "optimizer_class": th.optim.SGD},
        seed=0,
    )
    model.set_logger(Logger(None, []))
    value = world.mdp.policy_value(table.softmax(-1), world.mdp.reward_sa(row, table, GAMMA), GAMMA)
    policy = model.policy
    policy.value_net.weight.data[0] = (
        world.gathered(value.unsqueeze(-1))[:, 0].float() / 2
    )  # the mean over the hidden bit
    policy.value_net.bias.data.zero_()
    samples = []
    for _ in range(ROLLOUTS):
        policy.action_net.weight.data = logits.T.float().clone()
        policy.action_net.bias.data.zero_()
        model.learn(N_STEPS * N_ENVS)
        samples.append((logits.T.float() - policy.action_net.weight.data).T.double())
    found = th.stack(samples)

    def weigh(control):
        return rollout_visits(world.mdp, control, N_STEPS, 0.0)

    said = world.gathered(world.mdp.expected_update(row, table, GAMMA, weigh))
    error = (found.var(0) / ROLLOUTS).sum().sqrt()
    assert (found.mean(0) - said).norm() < 3 * error < 0.3 * said.norm()


@pytest.mark.parametrize("student", [STUDENTS[1], STUDENTS[11]], ids=lambda student: student.label)
def test_networks_are_asked_in_each_state_with_what_they_remember(student):
    """Against the policy that plays: its probabilities step by step, both hidden bits, memory and all."""
    model = learnt(student, 64 * 16, 0)
    said = policy_of(model, student.road)
    env = ForkedRoad(cue=student.road.cue)
    for bit in (0, 1):
        env.reset(seed=0)
        env.state, state, done = 3 * bit, None, False
        while not done:
            obs = np.array([env.seen[env.state]])
            if student.remembers:
                starts = np.array([env.state % 3 == 0])
                _, following = model.predict(obs, state, starts)
                tensors = tuple(
                    th.zeros(1, 1, 32) if state is None else th.as_tensor(x) for x in (state or (None, None))
                )
                probs = model.policy.get_distribution(th.as_tensor(obs), tensors, th.as_tensor(starts).float())[0]
                state = following
            else:
                probs = model.policy.get_distribution(th.as_tensor(obs))
            assert np.allclose(probs.distribution.probs.detach().numpy()[0], said[env.state], atol=1e-6)
            done = env.step(0)[2]
