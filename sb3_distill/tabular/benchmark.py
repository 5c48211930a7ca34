"""How fast the simulation is: ``python -m sb3_distill.tabular.benchmark``.

Runs figure 3 at one temperature in full, from Q-learning to the last evaluation, and prints its seconds, the memory of the
process and the environment steps per second of distillation, beside those of the same work in plain numpy on one core: the
same worlds, teachers and rule, all worlds a step at a time.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

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


def compiled_rate(mdp: TabularMDP, teachers: Teachers, rule: Rule, n_steps: int) -> float:
    """
    :param mdp: B MDPs
    :param teachers: theirs
    :param rule: how students learn
    :param n_steps: of each
    :return: transitions, with their updates, per second
    """
    worlds = worlds_of(mdp)
    lessons = kernels.Lessons(teachers.policy, np.log(teachers.policy), teachers.value)
    shape = mdp.terminal.shape
    logits = np.zeros((*shape, mdp.n_actions))
    tables = kernels.Tables(
        logits, np.zeros(shape), np.zeros(shape), mdp.start.argmax(-1), random_states(1, len(logits))
    )
    start = time.perf_counter()
    kernels.side_by_side(kernels.distil, len(logits), worlds, lessons, tables, rule.orders(), n_steps)
    return len(logits) * n_steps / (time.perf_counter() - start)


def numpy_rate(mdp: TabularMDP, teachers: Teachers, rule: Rule, n_steps: int) -> float:
    """
    On-policy distill, as in :func:`compiled_rate`.

    :param mdp: B MDPs
    :param teachers: theirs
    :param rule: of which the learning rate matters
    :param n_steps: of each
    :return: transitions, with their updates, per second
    """
    generator = np.random.default_rng(0)
    first = mdp.start.argmax(-1)
    all_b, state = np.arange(len(first)), first.copy()
    logits = np.zeros((*mdp.terminal.shape, mdp.n_actions))
    cumulative_moves = mdp.moves.cumsum(-1)
    start = time.perf_counter()
    for _ in range(n_steps):
        row = logits[all_b, state]
        student = np.exp(row - row.max(-1, keepdims=True))
        student /= student.sum(-1, keepdims=True)
        dice = generator.random((4, len(first)))
        action = (student.cumsum(-1)[:, :-1] <= dice[0][:, None]).sum(-1)
        move = (cumulative_moves[action, :-1] <= dice[1][:, None]).sum(-1)
        logits[all_b, state] = row - rule.learning_rate * (student - teachers.policy[all_b, state])
        to = mdp.following[all_b, state, move]
        ends = mdp.terminal[all_b, to] | (dice[2] < mdp.fall[state])
        state = np.where(ends, first, to)
    return len(first) * n_steps / (time.perf_counter() - start)


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
        start = time.perf_counter()
        result = control_policies(size, Path(folder))
        seconds = time.perf_counter() - start
    memory = peak_gib()
    mdp, teachers = Setting().build(size.seed, 0, size.n_mdps)
    fast = compiled_rate(mdp, teachers, CLONING, size.n_steps)
    slow = numpy_rate(mdp, teachers, CLONING, NUMPY_STEPS)
    table = Table(title="Figure 3 at one temperature", title_justify="left", show_header=False)
    table.add_row("worlds × steps × control policies", f"{size.n_mdps:,} × {size.n_steps:,} × {len(result.value)}")
    table.add_row("seconds, with Q-learning and evaluations", f"{seconds:.1f}")
    table.add_row("memory", f"{memory:.2f} GiB")
    table.add_row(f"environment steps per second, numba, {N_THREADS} threads", f"{fast:,.0f}")
    table.add_row("environment steps per second, numpy, 1 core", f"{slow:,.0f}")
    table.add_row("ratio", f"{fast / slow:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
