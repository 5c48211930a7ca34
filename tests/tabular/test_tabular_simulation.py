"""The compiled simulation: its formulas are the library's, its numbers do not depend on how the work is cut."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.distributions import CategoricalDistribution

pytest.importorskip("numba")

from sb3_distill.envs.grid_world import CELLS, grid_mdp, random_cells
from sb3_distill.rules.methods import METHODS, get_method
from sb3_distill.rules.rewards import Transitions
from sb3_distill.tabular import kernels
from sb3_distill.tabular.exact import policy_value, state_visits
from sb3_distill.tabular.experiments import (
    BARREN,
    CLONING,
    CONTROLS,
    Interval,
    Result,
    Setting,
    Size,
    control_policies,
    hidden,
    simulate,
)
from sb3_distill.tabular.simulation import (
    Rule,
    distil,
    in_chunks,
    judge,
    random_states,
    softened,
    teachers_of,
    worlds_of,
)

N_ACTIONS = 4
ROWS = [(form, name) for form, rows in METHODS.items() for name in rows]


def policies(*shape, seed=0):
    logits = 2 * np.random.default_rng(seed).normal(size=(*shape, N_ACTIONS))
    return logits, softened(logits, 1.0, 0.0)


def torch_policy(probabilities):
    return CategoricalDistribution(probabilities.shape[-1]).proba_distribution(th.log(th.as_tensor(probabilities)))


@pytest.fixture(scope="module")
def small():
    """Three small worlds and soft teachers."""
    mdp = grid_mdp(np.stack([random_cells(i, size=6) for i in range(3)]), fall=0.05)
    return mdp, teachers_of(mdp, policies(3, 36)[1])


# --- formulas ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form, name", ROWS)
def test_losses_are_the_librarys(form, name):
    loss = METHODS[form][name].loss
    code = Rule(name, form).orders().loss
    _, teachers = policies(20, seed=1)
    logits, students = policies(20, seed=2)
    for s, (teacher, student, row) in enumerate(zip(teachers, students, logits, strict=True)):
        arguments = (code, teachers, np.log(teachers), s, student, np.log(student))
        theta = th.tensor(row, requires_grad=True)
        want = th.zeros((), dtype=th.float64) if loss is None else loss(torch_policy(teacher[None]), _of(theta))[0]
        assert kernels.loss_of(*arguments) == pytest.approx(want.item(), abs=1e-12)
        gradient = np.zeros(N_ACTIONS) if loss is None else th.autograd.grad(want, theta)[0].numpy()
        stepped = logits.copy()
        if code in (1, 2):
            kernels.descend_forward(teachers, s, student, 0.3, stepped)
        elif code:
            kernels.descend_reverse(*arguments, 0.3, stepped)
        np.testing.assert_allclose(stepped[s], row - 0.3 * gradient, atol=1e-12)
        np.testing.assert_array_equal(np.delete(stepped, s, 0), np.delete(logits, s, 0))


def _of(theta):
    return CategoricalDistribution(N_ACTIONS).proba_distribution(theta[None])


@pytest.mark.parametrize(
    ("form", "name", "baseline"), [(*row, "teacher") for row in ROWS] + [("paper", "teacher_v_reward", "student")]
)
def test_rewards_are_the_librarys(form, name, baseline):
    row = get_method(name, form, baseline)
    orders = Rule(row).orders()
    generator = np.random.default_rng(3)
    n, gamma = 40, 0.9
    teacher, student, teacher_next, student_next = (policies(n, seed=s)[1] for s in range(4))
    action = generator.integers(N_ACTIONS, size=n)
    paid, value, env_critic, value_next = generator.normal(size=(4, n))
    goes_on = generator.random(n) < 0.5
    if row.reward is None:
        want = np.zeros(n)
    else:
        step = Transitions(
            th.tensor(action),
            th.tensor(paid),
            th.tensor(goes_on, dtype=th.float64),
            gamma,
            torch_policy(teacher),
            torch_policy(student),
            th.tensor(value),
            th.tensor(env_critic),
            torch_policy(teacher_next),
            torch_policy(student_next),
            th.tensor(value_next),
        )
        want = row.reward(step, None if row.loss is None else row.loss.function).numpy()
    got = [
        kernels.reward_of(
            orders.reward,
            np.log(teacher[k, action[k]]),
            np.log(student[k, action[k]]),
            paid[k],
            gamma,
            goes_on[k],
            kernels.loss_of(
                orders.loss, teacher_next, np.log(teacher_next), k, student_next[k], np.log(student_next[k])
            ),
            env_critic[k] if kernels.REWARDS[orders.reward] == "teacher_value_student_baseline" else value[k],
            value_next[k],
        )
        for k in range(n)
    ]
    np.testing.assert_allclose(got, want, atol=1e-12)


def test_every_code_is_used():
    orders = [Rule(METHODS[form][name]).orders() for form, name in ROWS]
    assert {o.loss for o in orders} == set(range(len(kernels.LOSSES)))
    assert {o.reward for o in orders} == set(range(len(kernels.REWARDS) - 1))  # and the student's baseline
    assert [Rule("n_distill", control=c).orders().control for c in CONTROLS] == [0, 1, 2]


def test_softmax_of_extreme_logits_keeps_finite_logarithms():
    probability, logarithm = np.empty(3), np.empty(3)
    kernels.softmax(np.array([900.0, 0.0, -900.0]), probability, logarithm)
    np.testing.assert_array_equal(probability, [1, 0, 0])
    np.testing.assert_allclose(logarithm, [0, -900, -1800])


# --- a step -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [
        Rule("on_policy_distill"),
        Rule("teacher_distill"),
        Rule("on_policy_distill", control="uniform"),
        Rule("entropy_regularised"),
        Rule("entropy_regularised", form="unbiased"),
        Rule("n_distill", reward_coef=0.3, env_reward_coef=0.7),
        Rule("expected_entropy", loss_coef=0.4),
        Rule("expected_entropy", form="unbiased"),
        Rule("teacher_v_reward"),
        Rule(None, env_reward_coef=1.0, teacher_bootstrap=True),
        Rule("on_policy_distill", env_reward_coef=1.0, v_conditioned=True),
    ],
    ids=str,
)
def test_steps_are_those_of_plain_numpy(small, rule):
    mdp, teachers = small
    n_steps = 60
    logits, critics = policies(3, 36, seed=7)[0], np.random.default_rng(8).normal(size=(2, 3, 36))
    random = random_states(5, 3)
    tables = kernels.Tables(logits.copy(), critics[0].copy(), critics[1].copy(), mdp.start.argmax(-1), random.copy())
    lessons = kernels.Lessons(teachers.policy, np.log(teachers.policy), teachers.value)
    kernels.distil(worlds_of(mdp), lessons, tables, rule.orders(), n_steps, 0, 3)
    for b in range(3):
        want = plain(mdp[b], *(x[b] for x in teachers[:2]), logits[b], *critics[:, b], random[b : b + 1], rule, n_steps)
        for got, expected in zip((tables.logits[b], tables.critic[b], tables.env_critic[b]), want, strict=True):
            np.testing.assert_allclose(got, expected, atol=1e-9)


def plain(mdp, teacher, value, logits, critic, env_critic, random, rule, n_steps):
    """The same from the definitions, with the same dice."""
    theta, critic, env_critic, random = logits.copy(), critic.copy(), env_critic.copy(), random.copy()
    row, s = rule.row, mdp.start.argmax()
    for _ in range(n_steps):
        student = softened(theta[s], 1.0, 0.0)
        control = {"student": student, "teacher": teacher[s], "uniform": np.full(N_ACTIONS, 0.25)}
        action = _draw(control[rule.control or row.control], random)
        move = _draw(mdp.moves[action], random)
        to, paid = mdp.following[s, move], mdp.reward[s, move]
        goes_on = not mdp.terminal[to] and kernels.uniform(random) >= mdp.fall[s]
        gradient = np.zeros(N_ACTIONS)
        if row.loss is not None and (not rule.v_conditioned or value[s] > env_critic[s]):
            variable = th.tensor(theta[s], requires_grad=True)
            loss = row.loss(torch_policy(teacher[s][None]), _of(variable)).sum()
            gradient += rule.loss_coef * th.autograd.grad(loss, variable)[0].numpy()
        if row.reward is not None or rule.env_reward_coef:
            injected = 0.0
            if row.reward is not None:
                step = Transitions(
                    th.tensor([action]),
                    th.tensor([paid]),
                    th.tensor([goes_on], dtype=th.float64),
                    rule.gamma,
                    torch_policy(teacher[s][None]),
                    torch_policy(student[None]),
                    th.tensor([value[s]]),
                    th.tensor([env_critic[s]]),
                    torch_policy(teacher[to][None]),
                    torch_policy(softened(theta[to], 1.0, 0.0)[None]),
                    th.tensor([value[to]]),
                )
                injected = row.reward(step, None if row.loss is None else row.loss.function).item()
            ahead = (value if rule.teacher_bootstrap else critic)[to] * goes_on
            advantage = rule.reward_coef * injected + rule.env_reward_coef * paid + rule.gamma * ahead - critic[s]
            critic[s] += rule.critic_rate * advantage
            gradient -= advantage * (np.eye(N_ACTIONS)[action] - student)
        if rule.v_conditioned:
            env_critic[s] += rule.critic_rate * (paid + rule.gamma * env_critic[to] * goes_on - env_critic[s])
        theta[s] -= rule.learning_rate * gradient
        s = to if goes_on else _draw(mdp.start, random)
    return theta, critic, env_critic


def _draw(probability, random):
    return min(int(np.searchsorted(probability.cumsum(), kernels.uniform(random), side="right")), len(probability) - 1)


# --- evaluation -------------------------------------------------------------------------------------------------------


def test_judge_equals_exact_linear_solves():
    mdp = grid_mdp(np.stack([random_cells(i) for i in range(2)]))
    _, policy = policies(2, 400)
    value, visits = judge(mdp, policy, 0.95)
    np.testing.assert_allclose(value, policy_value(mdp, policy, 0.95), atol=1e-11)
    np.testing.assert_allclose(visits, state_visits(mdp, policy), atol=1e-10)


def test_curves_tell_of_the_exact_values(small):
    mdp, teachers = small
    curves = distil(mdp, teachers, Rule("on_policy_distill", learning_rate=0.0), [1, 5], random_states(0, 3))
    uniform = np.full((3, 36, N_ACTIONS), 0.25)
    want = (mdp.start * policy_value(mdp, uniform, 0.99)).sum(-1)
    np.testing.assert_allclose(curves.value, [want, want], atol=1e-10)
    each = (teachers.policy * np.log(4 * teachers.policy)).sum(-1)
    for k, policy in enumerate((uniform, teachers.policy, uniform)):
        d = state_visits(mdp, policy)
        np.testing.assert_allclose(curves.kl[1, k], (d * each).sum(-1) / d.sum(-1), atol=1e-10)


def test_a_student_becomes_its_teacher(small):
    mdp, teachers = small
    curves = distil(mdp, teachers, Rule("on_policy_distill"), [20_000], random_states(0, 3))
    assert curves.kl[-1, 0].max() < 1e-3
    np.testing.assert_allclose(curves.value[-1], (mdp.start * teachers.value).sum(-1), atol=0.05)


# --- random numbers ---------------------------------------------------------------------------------------------------


def test_random_numbers_are_uniform_and_independent():
    n, streams = 4_000, random_states(0, 60)
    assert len(set(streams)) == 60 and len(set(np.concatenate([streams, random_states(1, 60)]))) == 120
    x = np.array([[kernels.uniform(streams[k : k + 1]) for _ in range(n)] for k in range(60)])
    assert 0 <= x.min() and x.max() < 1
    error = 4 / np.sqrt(x.size)
    assert abs(x.mean() - 1 / 2) < error * np.sqrt(1 / 12)
    assert abs(x.var() - 1 / 12) < error * np.sqrt(1 / 180)
    centred = (x - 0.5) * np.sqrt(12)
    for lag in (1, 2, 3, 7):
        assert abs((centred[:, lag:] * centred[:, :-lag]).mean()) < 1.1 * error
    correlations = (centred @ centred.T / n)[np.triu_indices(60, 1)]
    assert abs(correlations).max() < 5 / np.sqrt(n)
    assert abs((centred[1:] * centred[:-1]).mean()) < 1.1 * error
    counts = np.histogram(x[:, 0], 4, (0, 1))[0]  # first numbers of neighbouring streams, too
    assert counts.min() >= 5


# --- chunks -----------------------------------------------------------------------------------------------------------


def same(a, b):
    assert list(a) == list(b)
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])


def run_figure(folder, n_mdps=6, chunk=50):
    rules = {"student": CLONING, "expected entropy": Rule("expected_entropy", env_reward_coef=1.0)}
    return simulate("test", Setting(), rules, Size(n_mdps, 200), folder, chunk)


def test_the_cut_into_chunks_changes_no_number(tmp_path):
    whole = run_figure(tmp_path / "a")
    for chunk in (1, 4):
        part = run_figure(tmp_path / str(chunk), chunk=chunk)
        same(whole.value, part.value)
        same(whole.kl, part.kl)
        np.testing.assert_array_equal(whole.teacher, part.teacher)


def test_the_number_of_threads_changes_no_number(tmp_path, monkeypatch):
    results = []
    for n in (1, 3):
        monkeypatch.setattr(kernels, "N_THREADS", n)
        results.append(run_figure(tmp_path / str(n)))
    same(results[0].value, results[1].value)
    same(results[0].kl, results[1].kl)


def test_an_interrupted_run_goes_on_and_ends_alike(tmp_path):
    done = []

    def work(first, count):
        if len(done) == 2 and first == 4:
            done.append("interrupted")
            raise KeyboardInterrupt
        done.append(first)
        return {"x": np.arange(first, first + count) ** 0.5, "y": np.ones((2, count)) * first}

    with pytest.raises(KeyboardInterrupt):
        in_chunks(work, 7, 2, tmp_path, "key", "label")
    assert len(list(tmp_path.iterdir())) == 2  # and nothing half-written
    resumed = in_chunks(work, 7, 2, tmp_path, "key", "label")
    assert done == [0, 2, "interrupted", 4, 6]
    same(resumed, in_chunks(work, 7, 2, tmp_path / "other", "key", "label"))
    assert resumed["x"].shape == (7,) and resumed["y"].shape == (2, 7)


def test_a_killed_run_leaves_nothing_half_done_and_goes_on(tmp_path):
    code = (
        "import sys, pathlib; sys.path[:0] = ['tests', 'tests/tabular']; import test_tabular_simulation as t\n"
        "t.run_figure(pathlib.Path(sys.argv[1]), 500, 1)"
    )
    root = Path(__file__).parents[2]
    run = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=root, stderr=subprocess.DEVNULL)
    try:
        while len(list(tmp_path.glob("[!.]*.npz"))) < 3 and run.poll() is None:
            time.sleep(0.01)
        assert run.poll() is None  # it is in the middle of its work
    finally:
        run.kill()
        run.wait()
    done = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("[!.]*.npz")}
    resumed = run_figure(tmp_path, len(done) + 1, 1)
    same(resumed.value, run_figure(tmp_path / "fresh", len(done) + 1).value)
    assert done.items() <= {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("[!.]*.npz")}.items()


@pytest.mark.parametrize(
    "damage", ["truncated", "empty", "garbage", "foreign", "flipped", "deleted", "a folder's worth"]
)
def test_a_chunk_that_is_not_to_be_believed_is_done_again(tmp_path, damage):
    calls = []

    def work(first, count):
        calls.append(first)
        return {"x": np.random.default_rng(first).random((50, count))}

    want = in_chunks(work, 4, 2, tmp_path, "key", "label")
    paths = sorted(tmp_path.iterdir())
    victim = paths[0]
    data = victim.read_bytes()
    middle = len(data) // 2
    if damage == "deleted":
        victim.unlink()
    elif damage == "foreign":
        victim.write_bytes(paths[1].read_bytes())
    else:
        flipped = data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]
        broken = {"truncated": data[:middle], "empty": b"", "garbage": b"PK\x03\x04" * 99, "flipped": flipped}
        victim.write_bytes(broken.get(damage, data * 2))
    same(want, in_chunks(work, 4, 2, tmp_path, "key", "label"))
    assert len(calls) in ((2, 3) if damage == "a folder's worth" else (3,))
    in_chunks(work, 4, 2, tmp_path, "another key", "label")
    assert len(calls) >= 4


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fails(file, **arrays):
        with open(file, "wb") as half:
            half.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fails)
    with pytest.raises(OSError, match="disk full"):
        in_chunks(lambda first, count: {"x": np.ones(count)}, 2, 2, tmp_path, "key", "label")
    assert not list(tmp_path.iterdir())


# --- experiments ------------------------------------------------------------------------------------------------------


def test_a_hidden_policy_moves_alike():
    _, policy = policies(10)
    many = hidden(policy, 64, np.random.default_rng(0))
    assert (many > 0).sum(-1).max() == N_ACTIONS
    np.testing.assert_allclose(np.stack([many[:, k::4].sum(-1) for k in range(4)], -1), policy)


def test_teachers_play_alike_whatever_the_number_of_actions():
    values = [Setting(n, epsilon=0.01).build(0, 0, 2)[1].value for n in (4, 64)]
    np.testing.assert_allclose(*values, atol=1e-9)


def test_in_the_worlds_of_figure_4_a_random_end_is_worth_nothing():
    probabilities = {name: cell.probability for name, cell in CELLS.items()} | dict(BARREN.probabilities)
    worth = sum(probabilities[name] * cell.reward for name, cell in CELLS.items() if cell.terminal)
    assert worth == pytest.approx(0)
    mdp, teachers = BARREN.build(0, 0, 200)
    uniform = judge(mdp, np.full_like(teachers.policy, 1 / mdp.n_actions))[0]
    assert abs((mdp.start * uniform).sum(-1).mean()) < 0.1 * (mdp.start * teachers.value).sum(-1).mean()


def test_a_share_is_a_ratio_of_means_over_the_same_worlds():
    generator = np.random.default_rng(0)
    teacher = 1 + generator.random(50)
    half = 0.5 * teacher  # of every world, so there is nothing to be uncertain about
    noisy = generator.normal(size=(2, 50))
    result = Result(np.array([1, 2]), teacher, teacher, {"half": np.stack([half, half]), "noisy": noisy}, {})
    for share, width in (result.share("half"), result.share("half", "half")):
        np.testing.assert_allclose(width, 0, atol=1e-12)
        np.testing.assert_allclose(share, share[0])
    np.testing.assert_allclose(result.share("half")[0], 0.5)
    np.testing.assert_allclose(result.share("half", "half")[0], 1)
    share, width = result.share("noisy", "half")
    np.testing.assert_allclose(share, noisy.mean(-1) / half.mean())
    resampled = generator.integers(50, size=(20_000, 50))
    spread = (noisy[0][resampled].mean(-1) / half[resampled].mean(-1)).std()
    assert width[0] == pytest.approx(1.96 * spread, rel=0.1)  # the bootstrap's interval


def test_steps_to_a_level_are_interpolated():
    steps = np.array([10, 100, 1000])
    value = np.array([[0.0, 0.0], [0.9, 0.9], [1.0, 1.0]])
    result = Result(steps, np.ones(2), np.zeros(2), {"student": value, "teacher": 0.5 * value}, {})
    np.testing.assert_allclose(result.steps_to("student"), 10**2.5)
    np.testing.assert_allclose(result.steps_to("student", 0.0), 10)
    np.testing.assert_array_equal(result.steps_to("teacher"), np.inf)
    share, half = result.share("student")
    np.testing.assert_allclose(share, value[:, 0])
    np.testing.assert_allclose(half, 0, atol=1e-12)
    assert result.gap(0.45) == Interval(*[pytest.approx(10**0.5)] * 3)


def test_student_control_is_faster(tmp_path):
    result = control_policies(Size(20), tmp_path)
    assert result.gap().value > 1.5
