"""What the paper's figures 3, 4, 5 and 6 run (Czarnecki et al. 2019, section 5), and the statistics of it.

The worlds are those of :mod:`sb3_distill.envs.grid_world`. A teacher's Q-values are learnt by Q-learning, ε-greedy, in 30,000
steps, as in the paper; its policy is (1−ε) softmax(Q/τ) + ε/|A|. A student learns for 30,000 steps, a transition and an update
each. What the paper does not say, or could not be read, is chosen here: each value stands once, in :class:`Setting` or beside the
experiment that needs another, and figures 3 and 4 are repeated under other choices.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sb3_distill.envs import corridor, grid_world, tabular
from sb3_distill.envs.corridor import corridor_mdp, corridor_teacher
from sb3_distill.envs.grid_world import grid_mdp, random_cells
from sb3_distill.envs.tabular import TabularMDP
from sb3_distill.tabular import kernels, simulation
from sb3_distill.tabular.simulation import (
    Rule,
    Teachers,
    distil,
    in_chunks,
    judge,
    learn_q_values,
    random_states,
    softened,
    teachers_of,
)

#: what figure 3 asks about
CONTROLS = ("student", "teacher", "uniform")
#: "reaches the teacher's return" means this share of it
REACHED = 0.95
#: of normal distributions: 95%
Z = 1.96
RESAMPLES = 2_000


@dataclass(frozen=True)
class Size:
    """
    How large an experiment is.

    :param n_mdps: worlds
    :param n_steps: transitions of each student
    :param seed: of everything random
    """

    n_mdps: int = 1_000
    n_steps: int = 30_000
    seed: int = 0

    def checkpoints(self, n: int = 25) -> list[int]:
        """:return: when students are looked at: at about n moments, evenly on a logarithmic scale"""
        return sorted({round(step) for step in np.geomspace(10, self.n_steps, n)})


FULL = Size()
QUICK = Size(40)


@dataclass(frozen=True)
class Setting:
    """
    Grid worlds and their teachers.

    :param n_actions: |A|
    :param noise: η, see :func:`~sb3_distill.envs.grid_world.grid_mdp`; the paper's
    :param probabilities: (kind of cell, probability) for those that are not the default
    :param exploration: ε of the Q-learning that makes the teacher. Chosen: at 0.1 it finds a goal in half as many worlds
    :param temperature: τ of the teacher's policy. Chosen: nearly greedy, as Q-values differ by tenths; figure 3 has others
    :param epsilon: ε of the teacher's policy: the share of its actions that is noise
    """

    n_actions: int = 4
    noise: float = 0.1
    probabilities: tuple[tuple[str, float], ...] = ()
    exploration: float = 0.5
    temperature: float = 0.001
    epsilon: float = 0.001

    def build(self, seed: int, first: int, count: int) -> tuple[TabularMDP, Teachers]:
        """
        :param seed: of the run
        :param first: number of the first world
        :param count: how many
        :return: worlds and teachers; the teacher of a world plays alike whatever the number of actions
        """
        numbers = range(first, first + count)
        cells = np.stack([random_cells(seed * 10**6 + i, probabilities=dict(self.probabilities)) for i in numbers])
        plain = grid_mdp(cells, noise=self.noise)
        q_values = learn_q_values(plain, random_states(2 * seed, count, first), epsilon=self.exploration)
        mdp = grid_mdp(cells, self.n_actions, self.noise)
        policy = softened(q_values, self.temperature, 0.0)
        if self.n_actions > policy.shape[-1]:
            policy = np.stack(
                [
                    hidden(p, self.n_actions, np.random.default_rng([seed, i]))
                    for p, i in zip(policy, numbers, strict=True)
                ]
            )
        return mdp, teachers_of(mdp, (1 - self.epsilon) * policy + self.epsilon / self.n_actions)


def hidden(policy: np.ndarray, n_actions: int, generator: np.random.Generator) -> np.ndarray:
    """
    A policy over four moves among more actions, of which number k makes move k mod 4: in each state, one action of the many
    that make a move is the teacher's for it. As the argmax of Q-values does, and unlike their mean over equal actions.

    :param policy: over moves, shape (S, 4)
    :param n_actions: |A|
    :param generator: picks the actions
    :return: over actions, shape (S, |A|)
    """
    n_moves = policy.shape[-1]
    chosen = generator.integers(n_actions // n_moves, size=policy.shape) * n_moves + np.arange(n_moves)
    out = np.zeros((len(policy), n_actions))
    np.put_along_axis(out, chosen, policy, axis=-1)
    return out


@dataclass(frozen=True)
class CorridorSetting:
    """
    Copies of one corridor with one teacher: they differ in their dice.

    :param teacher: ``"optimal"`` or ``"adversarial"``
    """

    teacher: Any

    def build(self, seed: int, first: int, count: int) -> tuple[TabularMDP, Teachers]:
        """As :meth:`Setting.build`."""
        one = corridor_mdp()
        following, reward, terminal, start = (
            np.repeat(x[None], count, 0) for x in (one.following, one.reward, one.terminal, one.start)
        )
        mdp = TabularMDP(following, reward, terminal, start, one.moves, one.fall)
        return mdp, teachers_of(mdp, np.repeat(corridor_teacher(self.teacher)[None], count, 0))


class Result(NamedTuple):
    """
    What an experiment found; B worlds, K checkpoints.

    :param steps: of the checkpoints, shape (K,)
    :param teacher: V_π at the start, discounted, shape (B,)
    :param uniform: V of uniform play at the start, shape (B,)
    :param value: V_πθ at the start, by row, each of shape (K, B)
    :param kl: E KL(π‖π_θ) over the states that student, teacher and uniform play visit, by row, each of shape (K, 3, B)
    """

    steps: np.ndarray
    teacher: np.ndarray
    uniform: np.ndarray
    value: dict[str, np.ndarray]
    kl: dict[str, np.ndarray]

    def share(self, row: str, of: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """
        :param row: its name
        :param of: the row that it is compared with; the teachers by default
        :return: the students' mean return over that of the others, and half the width of its 95% confidence interval;
            each of shape (K,)
        """
        value = self.value[row]
        others = np.broadcast_to(self.teacher if of is None else self.value[of], value.shape)
        mean = others.mean(-1)
        share = value.mean(-1) / mean
        # A ratio of means over the same worlds: its residuals are v − share · v_other.
        residuals = value - share[:, None] * others
        return share, Z * residuals.std(-1, ddof=1) / (abs(mean) * np.sqrt(len(self.teacher)))

    def steps_to(self, row: str, level: float = REACHED, weights: np.ndarray | None = None) -> np.ndarray:
        """
        When the mean return first reaches a share of the teachers' mean, interpolated between checkpoints on a log scale.

        :param row: its name
        :param level: the share
        :param weights: of worlds, shape (N, B): N ways to take the mean; all alike by default
        :return: shape (N,); infinite where it never does
        """
        if weights is None:
            weights = np.ones((1, len(self.teacher)))
        curve = weights @ self.value[row].T / (weights @ self.teacher)[:, None]
        reached = curve >= level
        at = reached.argmax(-1)
        before = np.maximum(at - 1, 0)
        rows = np.arange(len(curve))
        low, high = curve[rows, before], curve[rows, at]
        part = np.where(at > 0, (level - low) / np.where(high > low, high - low, 1.0), 0.0)
        log_steps = np.log(self.steps)
        found = np.exp(log_steps[before] + part * (log_steps[at] - log_steps[before]))
        return np.where(reached.any(-1), found, np.inf)

    def gap(self, level: float = REACHED) -> "Interval":
        """
        :param level: the share of the teachers' return that is to be reached
        :return: the steps that teacher control needs over those that student control needs, by bootstrap over worlds
        """
        n = len(self.teacher)
        generator = np.random.default_rng(0)
        weights = generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(float)

        def ratio(w: np.ndarray | None) -> np.ndarray:
            with np.errstate(invalid="ignore"):
                return self.steps_to("teacher", level, w) / self.steps_to("student", level, w)

        # Resamples in which neither reaches the level say nothing.
        ratios = ratio(weights)
        ratios = ratios[~np.isnan(ratios)]
        low, high = np.quantile(ratios, (0.025, 0.975), method="nearest") if len(ratios) else (np.nan, np.nan)
        return Interval(float(ratio(None)[0]), float(low), float(high))


class Interval(NamedTuple):
    """A number and its 95% confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def simulate(
    label: str,
    setting: Setting | CorridorSetting,
    rules: Mapping[str, Rule],
    size: Size,
    folder: Path,
    chunk: int = 50,
) -> Result:
    """
    Teach students by several rules in the same worlds, by the same teachers, with the same dice.

    :param label: of the progress bar and of the files of finished chunks
    :param setting: worlds and teachers
    :param rules: by the names of the rows
    :param size: how much of it
    :param folder: where finished chunks are kept
    :param chunk: worlds at a time
    :return: what was found
    """
    checkpoints = size.checkpoints()
    work = partial(_work, setting, rules, size, checkpoints)
    key = (source_digest(), setting, dict(rules), size.seed, checkpoints)
    arrays = in_chunks(work, size.n_mdps, chunk, folder, key, label)
    return Result(
        np.array(checkpoints),
        arrays["teacher"],
        arrays["uniform"],
        {row: arrays[f"{row}/value"] for row in rules},
        {row: arrays[f"{row}/kl"] for row in rules},
    )


def _work(
    setting: Setting | CorridorSetting,
    rules: Mapping[str, Rule],
    size: Size,
    checkpoints: Sequence[int],
    first: int,
    count: int,
) -> dict[str, np.ndarray]:
    """A chunk of :func:`simulate`."""
    mdp, teachers = setting.build(size.seed, first, count)
    uniform, _ = judge(mdp, np.full_like(teachers.policy, 1 / mdp.n_actions))
    arrays = {"teacher": (mdp.start * teachers.value).sum(-1), "uniform": (mdp.start * uniform).sum(-1)}
    random = random_states(2 * size.seed + 1, count, first)
    for row, rule in rules.items():
        curves = distil(mdp, teachers, rule, checkpoints, random)
        arrays |= {f"{row}/value": curves.value, f"{row}/kl": curves.kl}
    return arrays


@cache
def source_digest() -> str:
    """:return: a digest of the code that results depend on: chunks of other code are not used"""
    files = [Path(str(module.__file__)) for module in (kernels, simulation, tabular, grid_world, corridor)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in [*files, Path(__file__)])).hexdigest()


# --- figure 3: control policies ---------------------------------------------------------------------------------------

#: chosen: small enough that the steps of a run are told apart, large enough that students end at their teachers
CLONING = Rule("on_policy_distill", learning_rate=0.1)
TEMPERATURES = (0.001, 0.01, 0.1, 0.3, 1.0, 3.0)
#: what figure 3 is repeated with: a label, the setting, the learning rate and the level
CHOICES: tuple[tuple[str, Setting, float, float], ...] = (
    ("as chosen", Setting(), 0.1, REACHED),
    ("90% of the return", Setting(), 0.1, 0.9),
    ("98% of the return", Setting(), 0.1, 0.98),
    ("learning rate 0.03", Setting(), 0.03, REACHED),
    ("learning rate 0.5", Setting(), 0.5, REACHED),
    ("Q-learning with ε = 0.1", Setting(exploration=0.1), 0.1, REACHED),
    ("Q-learning with ε = 0.8", Setting(exploration=0.8), 0.1, REACHED),
    ("twice the walls", Setting(probabilities=(("wall", 0.2),)), 0.1, REACHED),
    ("half the goals", Setting(probabilities=(("goal", 0.005),)), 0.1, REACHED),
    ("four times the pits", Setting(probabilities=(("pit", 0.08),)), 0.1, REACHED),
    ("no transition noise", Setting(noise=0.0), 0.1, REACHED),
)


def control_policies(size: Size, folder: Path, temperature: float = Setting.temperature) -> Result:
    """
    :param size: how much of it
    :param folder: for chunks
    :param temperature: τ of the teachers
    :return: on-policy distill's loss under each control policy
    """
    rules = {control: replace(CLONING, control=control) for control in CONTROLS}
    return simulate(f"fig3 τ={temperature:g}", Setting(temperature=temperature), rules, size, folder)


def other_choices(size: Size, folder: Path) -> dict[str, Interval]:
    """
    :param size: how much of it; the worlds are a fifth
    :param folder: for chunks
    :return: the gap of figure 3 under each of ``CHOICES``
    """
    size = replace(size, n_mdps=max(4, size.n_mdps // 5))
    gaps = {}
    for label, setting, learning_rate, level in CHOICES:
        rules = {c: replace(CLONING, control=c, learning_rate=learning_rate) for c in ("student", "teacher")}
        gaps[label] = simulate("fig3 other choices", setting, rules, size, folder).gap(level)
    return gaps


# --- figure 4: many actions -------------------------------------------------------------------------------------------

ACTIONS = (4, 16, 64, 256, 1000)
#: Chosen: so many pits that an end drawn at random is worth nothing, 0.01 · 10 + 0.01 · 1 − 0.11 · 1 = 0, and nor is uniform
#: play. A reward of log π makes students look for the shortest way out; in the worlds of the other figures, where a random
#: end is worth 2.25, that alone has nearly half of the teacher's return.
BARREN = Setting(epsilon=0.01, probabilities=(("pit", 0.11),))
#: Chosen by a search over learning rates 0.02 to 32 and weights of r̂ from 0.003 to 1, the best final return at 4 and 1000
#: actions in the worlds of the other figures; the critic is the same. ∇ℓ of H×(π_θ‖π) starts at 1/|A| of its size, so it
#: wants a large rate, and r̂ a rate that the noise of one sampled action survives: 8 · 0.01. With equal rates expected entropy
#: collapses as well, and is drawn, too.
MANY_ACTIONS = {
    "on-policy distill": Rule("on_policy_distill", learning_rate=2.0),
    "expected entropy": Rule("expected_entropy", learning_rate=8.0, reward_coef=0.01),
    "entropy regularised": Rule("entropy_regularised", learning_rate=0.5),
    "expected entropy, r̂ weighs 1": Rule("expected_entropy", learning_rate=0.5),
    "entropy regularised, unbiased form": Rule("entropy_regularised", form="unbiased", learning_rate=0.5),
}
#: what the largest number of actions is repeated with: a label, the setting, a factor of the learning rates, one of the steps
MANY_ACTIONS_CHOICES: tuple[tuple[str, Setting, float, float], ...] = (
    ("as chosen", BARREN, 1.0, 1.0),
    ("learning rates / 4", BARREN, 0.25, 1.0),
    ("learning rates × 4", BARREN, 4.0, 1.0),
    ("three times the steps", BARREN, 1.0, 3.0),
    ("a teacher with ε = 0.001", replace(BARREN, epsilon=0.001), 1.0, 1.0),
    ("a teacher with ε = 0.1", replace(BARREN, epsilon=0.1), 1.0, 1.0),
    ("twice the walls", replace(BARREN, probabilities=(("pit", 0.11), ("wall", 0.2))), 1.0, 1.0),
    ("half the goals", replace(BARREN, probabilities=(("pit", 0.11), ("goal", 0.005))), 1.0, 1.0),
    ("pits 0.08", replace(BARREN, probabilities=(("pit", 0.08),)), 1.0, 1.0),
    ("pits 0.05", replace(BARREN, probabilities=(("pit", 0.05),)), 1.0, 1.0),
    ("pits 0.02, as elsewhere", replace(BARREN, probabilities=()), 1.0, 1.0),
)


def many_actions(size: Size, folder: Path) -> dict[int, Result]:
    """
    :param size: how much of it; the worlds are a tenth, as one takes as long as a hundred of figure 3
    :param folder: for chunks
    :return: by |A|. A teacher plays alike for every |A|, and 1% of its actions is noise, which bounds log π
    """
    size = replace(size, n_mdps=max(10, size.n_mdps // 10))
    return {
        n: simulate(f"fig4 {n} actions", replace(BARREN, n_actions=n), MANY_ACTIONS, size, folder, chunk=10)
        for n in ACTIONS
    }


def many_actions_otherwise(size: Size, folder: Path) -> dict[str, Result]:
    """
    :param size: how much of it; the worlds are a twentieth
    :param folder: for chunks
    :return: the first three rows of figure 4 with the largest number of actions, under each of ``MANY_ACTIONS_CHOICES``; nothing
        where that would be fewer than ten worlds, whose mean return may be close to 0
    """
    results: dict[str, Result] = {}
    if size.n_mdps < 200:
        return results
    size = replace(size, n_mdps=size.n_mdps // 20)
    for label, setting, rate, time in MANY_ACTIONS_CHOICES:
        rules = {
            row: replace(MANY_ACTIONS[row], learning_rate=rate * MANY_ACTIONS[row].learning_rate)
            for row in ("on-policy distill", "expected entropy", "entropy regularised")
        }
        longer = replace(size, n_steps=round(time * size.n_steps))
        setting = replace(setting, n_actions=ACTIONS[-1])
        results[label] = simulate("fig4 other choices", setting, rules, longer, folder, chunk=10)
    return results


# --- figure 5: imperfect teachers -------------------------------------------------------------------------------------

NOISY = Setting(epsilon=0.25)
#: chosen: one learning rate for all, at which on-policy distill has ended by 30,000 steps
IMPROVING = {
    "on-policy distill": Rule("on_policy_distill"),
    "on-policy distill + R": Rule("on_policy_distill", env_reward_coef=1.0),
    "V-conditioned + R": Rule("on_policy_distill", env_reward_coef=1.0, v_conditioned=True),
    "TD + V_π": Rule(None, env_reward_coef=1.0, teacher_bootstrap=True),
    "teacher V reward": Rule("teacher_v_reward"),
    "R alone": Rule(None, env_reward_coef=1.0),
}


def imperfect_teachers(size: Size, folder: Path) -> Result:
    """
    :param size: how much of it
    :param folder: for chunks
    :return: students of teachers a quarter of whose actions is noise
    """
    rules = {row: replace(rule, learning_rate=0.1, critic_rate=0.3) for row, rule in IMPROVING.items()}
    return simulate("fig5", NOISY, rules, size, folder)


# --- figure 6: the corridor -------------------------------------------------------------------------------------------

TEACHERS = ("optimal", "adversarial")
CORRIDOR = {
    "teacher distill": Rule("teacher_distill"),
    "on-policy distill": Rule("on_policy_distill"),
    "entropy regularised": Rule("entropy_regularised"),
    "N-distill": Rule("n_distill"),
    "expected entropy": Rule("expected_entropy"),
    "on-policy distill + R": Rule("on_policy_distill", env_reward_coef=1.0),
    "N-distill + R": Rule("n_distill", env_reward_coef=1.0),
    "V-conditioned + R": Rule("on_policy_distill", env_reward_coef=1.0, v_conditioned=True),
    "teacher V reward": Rule("teacher_v_reward"),
    "R alone": Rule(None, env_reward_coef=1.0),
}


def corridors(size: Size, folder: Path) -> dict[str, Result]:
    """
    :param size: how much of it
    :param folder: for chunks
    :return: by teacher
    """
    rules = {row: replace(rule, learning_rate=0.1) for row, rule in CORRIDOR.items()}
    return {kind: simulate(f"fig6 {kind}", CorridorSetting(kind), rules, size, folder, chunk=250) for kind in TEACHERS}
