"""How fast the simulation is: ``python -m sb3_distill.zoo.benchmarks.tabular``.

Runs figure 3 at one temperature in full, from Q-learning to the last evaluation, and prints its seconds, the memory of the
process and the environment steps per second of distillation, beside those of the same work in plain numpy on one core: the
same worlds, teachers and rule, all worlds a step at a time. What is said of one core is per second of CPU time, so that other
programs on the machine do not count.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from sb3_distill.envs.tabular import TabularMDP
from sb3_distill.tabular import kernels
from sb3_distill.tabular.experiments import CLONING, Setting, Size, control_policies
from sb3_distill.tabular.kernels import N_THREADS
from sb3_distill.tabular.simulation import Rule, Teachers, random_states, worlds_of

#: steps of numpy's in each world, enough to time
NUMPY_STEPS = 300


class Rate(NamedTuple):
    """Transitions, with their updates.

    :param second: per second
    :param core: per second of CPU time
    """

    second: float
    core: float


class Watch:
    """Starts when it is made."""

    def __init__(self) -> None:
        self._start, self._cpu_start = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """:return: seconds, and seconds of CPU time, of all threads, since the start"""
        return time.perf_counter() - self._start, time.process_time() - self._cpu_start

    def rate(self, n: int) -> Rate:
        """
        :param n: what was done since the start
        :return: how fast that was
        """
        seconds, cpu_seconds = self.read()
        return Rate(n / seconds, n / cpu_seconds)


def compiled_rate(mdp: TabularMDP, teachers: Teachers, rule: Rule, n_steps: int) -> Rate:
    """
    :param mdp: B MDPs
    :param teachers: theirs
    :param rule: how students learn
    :param n_steps: of each
    :return: how fast it is
    """
    worlds = worlds_of(mdp)
    lessons = kernels.Lessons(teachers.policy, np.log(teachers.policy), teachers.value)
    shape = mdp.terminal.shape
    logits = np.zeros((*shape, mdp.n_actions))
    tables = kernels.Tables(
        logits, np.zeros(shape), np.zeros(shape), mdp.start.argmax(-1), random_states(1, len(logits))
    )
    watch = Watch()
    kernels.side_by_side(kernels.distil, len(logits), worlds, lessons, tables, rule.orders(), n_steps)
    return watch.rate(len(logits) * n_steps)


def learn_in_numpy(mdp: TabularMDP, teachers: Teachers, rule: Rule, n_steps: int) -> np.ndarray:
    """
    On-policy distill in plain numpy, all worlds a step at a time.

    :param mdp: B MDPs
    :param teachers: theirs
    :param rule: of which the learning rate matters
    :param n_steps: of each
    :return: logits, shape (B, S, A)
    """
    generator = np.random.default_rng(0)
    first = mdp.start.argmax(-1)
    all_b, state = np.arange(len(first)), first.copy()
    logits = np.zeros((*mdp.terminal.shape, mdp.n_actions))
    cumulative_moves = mdp.moves.cumsum(-1)
    for _ in range(n_steps):
        row = logits[all_b, state]
        student = np.exp(row - row.max(-1, keepdims=True))
        student /= student.sum(-1, keepdims=True)
        dice = generator.random((3, len(first)))
        action = (student.cumsum(-1)[:, :-1] <= dice[0][:, None]).sum(-1)
        move = (cumulative_moves[action, :-1] <= dice[1][:, None]).sum(-1)
        logits[all_b, state] = row - rule.learning_rate * (student - teachers.policy[all_b, state])
        to = mdp.following[all_b, state, move]
        ends = mdp.terminal[all_b, to] | (dice[2] < mdp.fall[state])
        state = np.where(ends, first, to)
    return logits


def peak_gib() -> float:
    """:return: the most memory that this process has had, in GiB; NaN where the system does not tell"""
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description="How fast the tabular simulation is.")
    parser.add_argument("--worlds", type=int, default=1_000, metavar="N", help="(default: %(default)s)")
    args = parser.parse_args()
    size = Size(args.worlds)
    mdp, teachers = Setting().build(size.seed, 0, 4)
    with tempfile.TemporaryDirectory() as folder:
        control_policies(Size(4, 100), Path(folder))  # compiles, or reads what was compiled
        watch = Watch()
        result = control_policies(size, Path(folder))
        seconds, cpu_seconds = watch.read()
    memory = peak_gib()
    mdp, teachers = Setting().build(size.seed, 0, size.n_mdps)
    fast = compiled_rate(mdp, teachers, CLONING, size.n_steps)
    watch = Watch()
    learn_in_numpy(mdp, teachers, CLONING, NUMPY_STEPS)
    slow = watch.rate(size.n_mdps * NUMPY_STEPS)
    table = Table(title="Figure 3 at one temperature", title_justify="left", show_header=False)
    table.add_row("worlds × steps × control policies", f"{size.n_mdps:,} × {size.n_steps:,} × {len(result.value)}")
    table.add_row("seconds, with Q-learning and evaluations", f"{seconds:.1f}")
    table.add_row("seconds of CPU time", f"{cpu_seconds:.1f}")
    table.add_row("memory", f"{memory:.2f} GiB")
    table.add_row(f"environment steps per second, numba, {N_THREADS} threads", f"{fast.second:,.0f}")
    table.add_row("environment steps per second, numba, one core", f"{fast.core:,.0f}")
    table.add_row("environment steps per second, numpy, one core", f"{slow.core:,.0f}")
    table.add_row("ratio, core for core", f"{fast.core / slow.core:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
