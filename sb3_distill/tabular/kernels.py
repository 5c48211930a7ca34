"""Compiled loops: many MDPs side by side, a table of logits each, one transition and one update of a table a step.

Compiled code cannot call :mod:`sb3_distill.rules.losses` and :mod:`sb3_distill.rules.rewards`, so what it restates of them stands in
functions of its own here, and a test holds each equal to the function that it restates. Every MDP has its own random
numbers, seeded by its index, and no MDP's numbers are added to another's, so results depend neither on the number of
threads nor on which MDPs are simulated together.

Python's own threads run the loops (:func:`side_by_side`). Not numba's: its OpenMP is another one than PyTorch's, and after both
have run in a process, ``torch.linalg.solve`` fails.
"""

import itertools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

try:
    import numba
except ImportError:
    raise ImportError("The simulation needs numba: pip install 'sb3-distill[tabular]'") from None
import numpy as np

#: codes of what a kernel is told: places in these tuples
CONTROLS = ("student", "teacher", "uniform")
LOSSES = ("none", "cross_entropy", "kl", "reverse_cross_entropy", "reverse_kl")
REWARDS = ("none", "log_prob", "log_ratio", "next_loss", "teacher_value", "teacher_value_student_baseline")

#: all cores, or as many as the environment variable of that name says
N_THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]

compiled = numba.njit(cache=True, nogil=True)


class Worlds(NamedTuple):
    """B MDPs: the arrays of :class:`sb3_distill.envs.tabular.TabularMDP`, the first four with a leading dimension B."""

    following: Any
    reward: Any
    terminal: Any
    start: Any
    moves: Any
    fall: Any


class Lessons(NamedTuple):
    """What the teachers of B MDPs say: π(a|s) and its logarithm, shape (B, S, A), and V_π(s), shape (B, S)."""

    policy: Any
    log_policy: Any
    value: Any


class Tables(NamedTuple):
    """What changes as B students learn: logits (B, S, A), a critic of what they maximise and one of the environment's return
    (B, S), the state that each is in and its random state (B,)."""

    logits: Any
    critic: Any
    env_critic: Any
    state: Any
    random: Any


class Orders(NamedTuple):
    """How students learn: see :class:`sb3_distill.tabular.simulation.Rule`. The first three are codes."""

    control: Any
    loss: Any
    reward: Any
    loss_coef: Any
    reward_coef: Any
    env_reward_coef: Any
    gamma: Any
    learning_rate: Any
    critic_rate: Any
    v_conditioned: Any
    teacher_bootstrap: Any


# --- threads ----------------------------------------------------------------------------------------------------------


def side_by_side(kernel: Callable[..., None], n: int, *args: Any) -> None:
    """
    Run a kernel for n MDPs on all cores, or on as many as ``NUMBA_NUM_THREADS`` says.

    :param kernel: its last two arguments are the first MDP and the one after the last
    :param n: how many MDPs
    :param args: the kernel's other arguments
    """
    # More parts than threads, as episodes make some MDPs slower than others.
    edges = np.linspace(0, n, min(n, 4 * N_THREADS) + 1).astype(int).tolist()
    pool = ThreadPoolExecutor(N_THREADS)
    try:
        for done in [pool.submit(kernel, *args, *part) for part in itertools.pairwise(edges)]:
            done.result()
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt does not wait for what has not begun


# --- random numbers ---------------------------------------------------------------------------------------------------


@compiled
def seeded(seed: Any, index: Any) -> Any:
    """:return: the random state of one MDP: 64 bits, mixed (splitmix64) from a run's seed and the MDP's index"""
    z = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(index) * np.uint64(0xD1B54A32D192ED03)
    for _ in range(2):  # twice: 0 and 0 would stay 0 without the constant, and neighbours shall share nothing
        z += np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return z | np.uint64(1)  # xorshift cannot leave 0


@compiled
def uniform(random: Any) -> Any:
    """:return: a number in [0, 1); ``random``, an array with one state, moves on (xorshift64*, Vigna 2016)"""
    x = random[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    random[0] = x
    return ((x * np.uint64(0x2545F4914F6CDD1D)) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@compiled
def draw(probability: Any, random: Any) -> Any:
    """:return: an index, drawn from a distribution"""
    u = uniform(random)
    last = len(probability) - 1
    for i in range(last):
        u -= probability[i]
        if u < 0.0:
            return i
    return last


# --- formulas ---------------------------------------------------------------------------------------------------------


@compiled
def softmax(logits: Any, probability: Any, log_probability: Any) -> None:
    """Write softmax(logits) and its logarithm, which stays finite where a probability rounds to 0."""
    top = logits[0]
    for x in logits:
        top = max(top, x)
    total = 0.0
    for i in range(len(logits)):
        probability[i] = math.exp(logits[i] - top)
        total += probability[i]
    shift = top + math.log(total)
    for i in range(len(logits)):
        probability[i] /= total
        log_probability[i] = logits[i] - shift


@compiled
def loss_of(code: Any, teacher: Any, log_teacher: Any, s: Any, student: Any, log_student: Any) -> Any:
    """
    :return: ℓ of state s, from the tables π and log π and the student's π_θ(·|s) and its logarithm; see
        :mod:`sb3_distill.rules.losses`. Tables and s, as cutting rows out of them takes time
    """
    total = 0.0
    if code == 1:
        for i in range(len(student)):
            total -= teacher[s, i] * log_student[i]
    elif code == 2:
        for i in range(len(student)):
            total += teacher[s, i] * (log_teacher[s, i] - log_student[i])
    elif code == 3:
        for i in range(len(student)):
            total -= student[i] * log_teacher[s, i]
    elif code == 4:
        for i in range(len(student)):
            total += student[i] * (log_student[i] - log_teacher[s, i])
    return total


@compiled
def descend_forward(teacher: Any, s: Any, student: Any, rate: Any, logits: Any) -> None:
    """
    Subtract rate · ∂ℓ/∂logits from the logits of state s, for ℓ = H×(π‖π_θ) and KL(π‖π_θ): the gradient is the same. One
    function for all ℓ would make a step take half as long again, as measured, even where ℓ is none.
    """
    for i in range(len(student)):
        logits[s, i] -= rate * (student[i] - teacher[s, i])


@compiled
def descend_reverse(
    code: Any, teacher: Any, log_teacher: Any, s: Any, student: Any, log_student: Any, rate: Any, logits: Any
) -> None:
    """The same for H×(π_θ‖π) and KL(π_θ‖π), codes 3 and 4."""
    mean = loss_of(code, teacher, log_teacher, s, student, log_student)
    for i in range(len(student)):
        each = -log_teacher[s, i]
        if code == 4:
            each += log_student[i]
        logits[s, i] -= rate * student[i] * (each - mean)


@compiled
def reward_of(
    code: Any,
    log_teacher: Any,
    log_student: Any,
    paid: Any,
    gamma: Any,
    goes_on: Any,
    loss_next: Any,
    value: Any,
    value_next: Any,
) -> Any:
    """
    :return: r̂ of a step; see :mod:`sb3_distill.rules.rewards`. Log-probabilities are those of the action, ``value`` is V_π(s), or
        V_πθ(s) with the student's baseline
    """
    if code == 1:
        return log_teacher
    if code == 2:
        return log_teacher - log_student
    if code == 3:
        return -gamma * loss_next if goes_on else 0.0
    if code == 4 or code == 5:
        return paid + (gamma * value_next if goes_on else 0.0) - value
    return 0.0


# --- learning ---------------------------------------------------------------------------------------------------------


@compiled
def distil_one(worlds: Any, lessons: Any, tables: Any, orders: Any, n_steps: Any, b: Any) -> None:
    """
    Steps of MDP b.

    A step is one transition under the control policy, one descent of ℓ in its state, and, where there are rewards, one
    step of an actor-critic: the advantage is r̂ + γ V(s') − V(s), with a table V that learns from the same error.
    """
    following, paid_for, terminal = worlds.following[b], worlds.reward[b], worlds.terminal[b]
    teacher, log_teacher, teacher_value = lessons.policy[b], lessons.log_policy[b], lessons.value[b]
    logits, critic, env_critic = tables.logits[b], tables.critic[b], tables.env_critic[b]
    random = tables.random[b : b + 1]
    gamma, rate = orders.gamma, orders.learning_rate
    n_actions = logits.shape[1]
    student, log_student = np.empty(n_actions), np.empty(n_actions)
    student_next, log_student_next = np.empty(n_actions), np.empty(n_actions)
    s = tables.state[b]
    for _ in range(n_steps):
        softmax(logits[s], student, log_student)
        if orders.control == 0:
            action = draw(student, random)
        elif orders.control == 1:
            action = draw(teacher[s], random)
        else:
            action = int(uniform(random) * n_actions)
        move = draw(worlds.moves[action], random)
        paid = paid_for[s, move]
        to = following[s, move]
        goes_on = not terminal[to] and uniform(random) >= worlds.fall[s]
        weight = orders.loss_coef
        if orders.v_conditioned and teacher_value[s] <= env_critic[s]:
            weight = 0.0
        if orders.reward != 0 or orders.env_reward_coef != 0.0:
            loss_next = 0.0
            if orders.reward == 3 and goes_on:
                softmax(logits[to], student_next, log_student_next)
                loss_next = loss_of(orders.loss, teacher, log_teacher, to, student_next, log_student_next)
            injected = reward_of(
                orders.reward,
                log_teacher[s, action],
                log_student[action],
                paid,
                gamma,
                goes_on,
                loss_next,
                env_critic[s] if orders.reward == 5 else teacher_value[s],
                teacher_value[to],
            )
            value_next = 0.0
            if goes_on:
                value_next = teacher_value[to] if orders.teacher_bootstrap else critic[to]
            total = orders.reward_coef * injected + orders.env_reward_coef * paid
            advantage = total + gamma * value_next - critic[s]
            critic[s] += orders.critic_rate * advantage
            for i in range(n_actions):
                logits[s, i] -= rate * advantage * student[i]
            logits[s, action] += rate * advantage
        if orders.reward == 5 or orders.v_conditioned:
            env_next = gamma * env_critic[to] if goes_on else 0.0
            env_critic[s] += orders.critic_rate * (paid + env_next - env_critic[s])
        if orders.loss == 1 or orders.loss == 2:
            descend_forward(teacher, s, student, rate * weight, logits)
        elif orders.loss != 0:
            descend_reverse(orders.loss, teacher, log_teacher, s, student, log_student, rate * weight, logits)
        s = to if goes_on else draw(worlds.start[b], random)
    tables.state[b] = s


@compiled
def distil(worlds: Any, lessons: Any, tables: Any, orders: Any, n_steps: Any, first: Any, last: Any) -> None:
    """:func:`distil_one` for each of some MDPs."""
    for b in range(first, last):
        distil_one(worlds, lessons, tables, orders, n_steps, b)


@compiled
def q_learning(
    worlds: Any, q_values: Any, random: Any, n_steps: Any, epsilon: Any, gamma: Any, rate: Any, first: Any, last: Any
) -> None:
    """Steps of ε-greedy Q-learning in each of some MDPs; ``q_values`` (B, S, A) and ``random`` (B,) change."""
    for b in range(first, last):
        table, dice = q_values[b], random[b : b + 1]
        s = draw(worlds.start[b], dice)
        for _ in range(n_steps):
            action: Any = np.argmax(table[s])
            if uniform(dice) < epsilon:
                action = int(uniform(dice) * table.shape[1])
            move = draw(worlds.moves[action], dice)
            to = worlds.following[b, s, move]
            goes_on = not worlds.terminal[b, to] and uniform(dice) >= worlds.fall[s]
            target = worlds.reward[b, s, move]
            if goes_on:
                target += gamma * table[to].max()
            table[s, action] += rate * (target - table[s, action])
            s = to if goes_on else draw(worlds.start[b], dice)


# --- evaluation -------------------------------------------------------------------------------------------------------


@compiled
def bandwidth(following: Any) -> Any:
    """:return: the farthest that a move leads, |s' − s|: 20 in a grid of 20 columns"""
    far: Any = 0
    for s in range(following.shape[0]):
        for m in range(following.shape[1]):
            far = max(far, abs(following[s, m] - s))  # type: ignore[assignment]
    return far


@compiled
def factorise(following: Any, terminal: Any, fall: Any, chance: Any, gamma: Any) -> Any:
    """
    The LU decomposition of 1 − γ P, which has entries near its diagonal only: entry (s, s') stands at [s, width + s' − s].

    Rows sum to more than 0 and all but the diagonal is at most 0, so no pivoting is needed.
    """
    n, width = len(following), bandwidth(following)
    band = np.zeros((n, 2 * width + 1))
    for s in range(n):
        band[s, width] = 1.0
        if terminal[s]:
            continue
        for m in range(following.shape[1]):
            to = following[s, m]
            if not terminal[to]:
                band[s, width + to - s] -= gamma * (1.0 - fall[s]) * chance[s, m]
    for k in range(n):
        for i in range(k + 1, min(n, k + width + 1)):
            share = band[i, width + k - i] / band[k, width]
            if share != 0.0:
                band[i, width + k - i] = share
                # Slices, since an index that counts from 0 is one that the compiler vectorises.
                ahead, pivot = band[i, width + k - i + 1 : 2 * width + k - i + 1], band[k, width + 1 :]
                for j in range(width):
                    ahead[j] -= share * pivot[j]
    return band


@compiled
def solve(band: Any, x: Any) -> None:
    """Solve L U y = x; ``x`` becomes y."""
    n, width = len(band), band.shape[1] // 2
    for i in range(n):
        for k in range(max(0, i - width), i):
            x[i] -= band[i, width + k - i] * x[k]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, min(n, i + width + 1)):
            x[i] -= band[i, width + k - i] * x[k]
        x[i] /= band[i, width]


@compiled
def solve_transposed(band: Any, x: Any) -> None:
    """Solve (L U)ᵀ y = x; ``x`` becomes y."""
    n, width = len(band), band.shape[1] // 2
    for k in range(n):
        x[k] /= band[k, width]
        for i in range(k + 1, min(n, k + width + 1)):
            x[i] -= band[k, width + i - k] * x[k]
    for k in range(n - 1, -1, -1):
        for i in range(max(0, k - width), k):
            x[i] -= band[k, width + i - k] * x[k]


@compiled
def judge_one(worlds: Any, policy: Any, gamma: Any, value: Any, visits: Any, b: Any) -> None:
    """Write V_π(s), discounted, and the expected visits to s in an episode, undiscounted, of a policy in MDP b."""
    following, reward, terminal = worlds.following[b], worlds.reward[b], worlds.terminal[b]
    n_states, n_moves = following.shape
    chance = np.zeros((n_states, n_moves))
    for s in range(n_states):
        value[s], visits[s] = 0.0, worlds.start[b, s]
        if terminal[s]:
            continue
        for a in range(policy.shape[1]):
            for m in range(n_moves):
                chance[s, m] += policy[s, a] * worlds.moves[a, m]
        for m in range(n_moves):
            value[s] += chance[s, m] * reward[s, m]
    solve(factorise(following, terminal, worlds.fall, chance, gamma), value)
    solve_transposed(factorise(following, terminal, worlds.fall, chance, 1.0), visits)


@compiled
def judge(worlds: Any, policy: Any, gamma: Any, value: Any, visits: Any, first: Any, last: Any) -> None:
    """:func:`judge_one` for each of some MDPs: policies (B, S, A), values and visits (B, S)."""
    for b in range(first, last):
        judge_one(worlds, policy[b], gamma, value[b], visits[b], b)


@compiled
def judge_students(
    worlds: Any,
    lessons: Any,
    logits: Any,
    gamma: Any,
    teacher_visits: Any,
    uniform_visits: Any,
    out: Any,
    first: Any,
    last: Any,
) -> None:
    """
    Write what students are worth to ``out``, shape (4, B): V at the start, and KL(π‖π_θ) averaged over the states that
    student, teacher and uniform play visit.
    """
    for b in range(first, last):
        n_states, n_actions = logits.shape[1:]
        policy, log_policy = np.empty((n_states, n_actions)), np.empty(n_actions)
        kl, value, visits = np.empty(n_states), np.empty(n_states), np.empty(n_states)
        for s in range(n_states):
            softmax(logits[b, s], policy[s], log_policy)
            kl[s] = loss_of(2, lessons.policy[b], lessons.log_policy[b], s, policy[s], log_policy)
        judge_one(worlds, policy, gamma, value, visits, b)
        sums, weights = np.zeros(3), np.zeros(3)
        out[0, b] = 0.0
        for s in range(n_states):
            out[0, b] += worlds.start[b, s] * value[s]
            for k, d in enumerate((visits[s], teacher_visits[b, s], uniform_visits[b, s])):
                sums[k] += d * kl[s]
                weights[k] += d
        for k in range(3):
            out[1 + k, b] = sums[k] / weights[k]
