"""Distillation in thousands of tabular MDPs side by side, a transition and an update a step.

The loops are in :mod:`sb3_distill.tabular.kernels`. Work is cut into chunks of MDPs; a finished chunk is a file, so an
interrupted run goes on where it was, and neither the cut nor the number of threads changes a number.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from sb3_distill.common.damaged_zip import UNREADABLE_ZIP
from sb3_distill.common.files import replacing
from sb3_distill.envs.tabular import TabularMDP
from sb3_distill.rules import losses, rewards
from sb3_distill.rules.methods import Method, get_method
from sb3_distill.tabular import kernels

#: the array of a chunk's file that says which work it is of
_DIGEST = "digest"
_LOSS_CODES: dict[Any, int] = {
    None: 0,
    losses.cross_entropy: 1,
    losses.kl: 2,
    losses.reverse_cross_entropy: 3,
    losses.reverse_kl: 4,
}
_REWARD_CODES: dict[Any, int] = {
    None: 0,
    rewards.log_prob: 1,
    rewards.log_ratio: 2,
    rewards.next_loss: 3,
    rewards.teacher_value: 4,
    rewards.teacher_value_student_baseline: 5,
}


@dataclass(frozen=True)
class Rule:
    """
    How a table learns. The names are those of the deep algorithms.

    :param method: a row of the table of methods, or its name; None learns by the environment's reward alone
    :param form: ``"paper"`` or ``"unbiased"``
    :param control: who picks the actions; by default the row's own
    :param loss_coef: weight of ℓ
    :param reward_coef: weight of r̂
    :param env_reward_coef: weight of the environment's reward (+R)
    :param gamma: discount factor γ
    :param learning_rate: of the logits
    :param critic_rate: of the critics' tables
    :param v_conditioned: ℓ counts only where V_π(s) > V_πθ(s) (Czarnecki et al. 2019, proposition 2)
    :param teacher_bootstrap: the advantage is r_t + γ V_π(s_{t+1}) − V(s_t) (TD + V_π, proposition 3)
    """

    method: str | Method | None
    form: str = "paper"
    control: str | None = None
    loss_coef: float = 1.0
    reward_coef: float = 1.0
    env_reward_coef: float = 0.0
    gamma: float = 0.99
    learning_rate: float = 0.5
    critic_rate: float = 0.1
    v_conditioned: bool = False
    teacher_bootstrap: bool = False

    @property
    def row(self) -> Method:
        """The method's row."""
        if isinstance(self.method, Method):
            return self.method
        return Method("reward", "student") if self.method is None else get_method(self.method, self.form)

    def orders(self) -> kernels.Orders:
        """:return: the same for the kernels"""
        row = self.row
        return kernels.Orders(
            kernels.CONTROLS.index(self.control or row.control),
            _LOSS_CODES[row.loss and row.loss.function],
            _REWARD_CODES[row.reward and row.reward.function],
            float(self.loss_coef),
            float(self.reward_coef),
            float(self.env_reward_coef),
            float(self.gamma),
            float(self.learning_rate),
            float(self.critic_rate),
            self.v_conditioned,
            self.teacher_bootstrap,
        )


class Teachers(NamedTuple):
    """A teacher for each of B MDPs.

    :param policy: π(a|s), shape (B, S, A)
    :param value: V_π(s), discounted, shape (B, S)
    :param visits: to s in an episode, expected, not discounted, shape (B, S)
    """

    policy: np.ndarray
    value: np.ndarray
    visits: np.ndarray


class Curves(NamedTuple):
    """How the students of B MDPs fared.

    :param steps: transitions seen by then, shape (K,)
    :param value: V_πθ at the start, discounted, in the environment's reward, shape (K, B)
    :param kl: E[KL(π‖π_θ)] over the states that student, teacher and uniform play visit, shape (K, 3, B)
    """

    steps: np.ndarray
    value: np.ndarray
    kl: np.ndarray


def random_states(seed: int, n: int, first: int = 0) -> np.ndarray:
    """
    :param seed: of the run
    :param n: how many MDPs
    :param first: number of the first of them
    :return: a random state for each, shape (n,); that of an MDP depends on the seed and its number alone
    """
    return np.array([kernels.seeded(seed, first + k) for k in range(n)], dtype=np.uint64)


def worlds_of(mdp: TabularMDP) -> kernels.Worlds:
    """
    :param mdp: B MDPs
    :return: their arrays as the kernels take them: one layout and one type each, so that each kernel is compiled once
    """
    types = (np.int64, np.float64, np.bool_, np.float64, np.float64, np.float64)
    arrays = (mdp.following, mdp.reward, mdp.terminal, mdp.start, mdp.moves, mdp.fall)
    b = len(mdp.terminal)
    shapes = [(b, *a.shape[1 - (a.ndim == want - 1) :]) for a, want in zip(arrays[:4], (3, 3, 2, 2), strict=True)]
    full = [np.broadcast_to(a, shape) for a, shape in zip(arrays[:4], shapes, strict=True)]
    return kernels.Worlds(*(np.ascontiguousarray(a, t) for a, t in zip((*full, *arrays[4:]), types, strict=True)))


def judge(mdp: TabularMDP, policy: np.ndarray, gamma: float = 0.99) -> tuple[np.ndarray, np.ndarray]:
    """
    What policies are worth and where they lead, exactly.

    :param mdp: B MDPs
    :param policy: π(a|s), shape (B, S, A)
    :param gamma: discount factor γ, of the value alone
    :return: V_π(s), and the expected visits to s in an episode, not discounted; each of shape (B, S)
    """
    value, visits = np.empty(mdp.terminal.shape), np.empty(mdp.terminal.shape)
    arguments = (worlds_of(mdp), np.ascontiguousarray(policy), gamma, value, visits)
    kernels.side_by_side(kernels.judge, len(value), *arguments)
    return value, visits


def learn_q_values(
    mdp: TabularMDP,
    random: np.ndarray,
    n_steps: int = 30_000,
    epsilon: float = 0.1,
    gamma: float = 0.99,
    learning_rate: float = 0.1,
) -> np.ndarray:
    """
    Q-learning, ε-greedy, from 0: the paper's teachers.

    :param mdp: B MDPs
    :param random: their random states, which move on
    :param n_steps: transitions in each
    :param epsilon: of the ε-greedy policy that plays
    :param gamma: discount factor γ
    :param learning_rate: of the table
    :return: Q(s, a), shape (B, S, A)
    """
    q_values = np.zeros((*mdp.terminal.shape, mdp.n_actions))
    arguments = (worlds_of(mdp), q_values, random, n_steps, epsilon, gamma, learning_rate)
    kernels.side_by_side(kernels.q_learning, len(q_values), *arguments)
    return q_values


def softened(q_values: np.ndarray, temperature: float, epsilon: float) -> np.ndarray:
    """
    :param q_values: shape (…, A)
    :param temperature: τ, in units of Q
    :param epsilon: ε
    :return: (1−ε) softmax(Q/τ) + ε/|A|
    """
    weights = np.exp((q_values - q_values.max(-1, keepdims=True)) / temperature)
    return (1 - epsilon) * weights / weights.sum(-1, keepdims=True) + epsilon / q_values.shape[-1]


def teachers_of(mdp: TabularMDP, policy: np.ndarray, gamma: float = 0.99) -> Teachers:
    """
    :param mdp: B MDPs
    :param policy: π(a|s) > 0, shape (B, S, A)
    :param gamma: discount factor γ
    :return: policies, with their exact values
    """
    return Teachers(policy, *judge(mdp, policy, gamma))


def distil(mdp: TabularMDP, teachers: Teachers, rule: Rule, checkpoints: Sequence[int], random: np.ndarray) -> Curves:
    """
    Teach a table in each of B MDPs, from uniform policies.

    :param mdp: B MDPs
    :param teachers: theirs
    :param rule: how the tables learn
    :param checkpoints: numbers of steps, ascending, at which the tables are looked at
    :param random: the MDPs' random states, which are left as they are, so that rules can be compared on the same dice
    :return: how they fared
    """
    worlds = worlds_of(mdp)
    lessons = kernels.Lessons(teachers.policy, np.log(teachers.policy), teachers.value)
    shape = mdp.terminal.shape
    logits = np.zeros((*shape, mdp.n_actions))
    tables = kernels.Tables(logits, np.zeros(shape), np.zeros(shape), mdp.start.argmax(-1), random.copy())
    _, uniform_visits = judge(mdp, np.full_like(logits, 1 / mdp.n_actions))
    out = np.empty((len(checkpoints), 4, len(logits)))
    for k, steps in enumerate(np.diff(checkpoints, prepend=0)):
        kernels.side_by_side(kernels.distil, len(logits), worlds, lessons, tables, rule.orders(), int(steps))
        arguments = (worlds, lessons, logits, rule.gamma, teachers.visits, uniform_visits, out[k])
        kernels.side_by_side(kernels.judge_students, len(logits), *arguments)
    return Curves(np.array(checkpoints), out[:, 0], out[:, 1:])


def in_chunks(
    work: Callable[[int, int], dict[str, np.ndarray]], n: int, size: int, folder: Path, key: Any, label: str
) -> dict[str, np.ndarray]:
    """
    Do a piece of work for n MDPs, chunk by chunk, and keep what is done.

    :param work: from the first MDP of a chunk and their number to arrays whose last axis is the MDP
    :param n: how many MDPs
    :param size: of a chunk
    :param folder: where finished chunks are kept
    :param key: whatever the results depend on, with a ``repr`` that tells; a chunk of another key is not used
    :param label: of the progress bar
    :return: the arrays of all MDPs
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for first in tqdm(range(0, n, size), desc=label, unit="chunk", leave=False, disable=None):
        count = min(size, n - first)
        digest = hashlib.sha256(repr((key, first, count)).encode()).hexdigest()
        path = folder / f"{digest[:32]}.npz"
        part = read_chunk(path, digest, count)
        if part is None:
            part = work(first, count)
            with replacing(path) as temporary:
                np.savez(temporary, **part, **{_DIGEST: np.array(digest)})  # type: ignore[arg-type]
        parts.append(part)
    return {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}


def read_chunk(path: Path, digest: str, count: int) -> dict[str, np.ndarray] | None:
    """
    :param path: of a file that may be missing, broken or another's
    :param digest: that it must hold
    :param count: how many MDPs it must tell of
    :return: its arrays, or None if it is not to be believed
    """
    try:
        with np.load(path, allow_pickle=False) as saved:
            arrays = {name: saved[name] for name in saved.files}
    except UNREADABLE_ZIP:
        return None
    if str(arrays.pop(_DIGEST, "")) != digest or any(a.shape[-1:] != (count,) for a in arrays.values()):
        return None
    return arrays
