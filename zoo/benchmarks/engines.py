"""What distillation costs beside the algorithm of sb3-contrib's that it is put before.

``python -m sb3_distill.zoo.benchmarks.engines``
    Learns in turn with the algorithm alone and with rows of the table before it: the same environments, network, rollouts, minibatches
    and epochs, and a learning rate of 0, so that all play the very same episodes. The teacher, an agent of the same size, is included.
    It prints the medians of the rounds of seconds on the clock and of CPU seconds, and of what they are beside the algorithm alone in the
    same round: on a machine that does other work, the CPU's count.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch as th
from rich.console import Console
from rich.table import Table
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_distill.agents.load import load_teacher
from sb3_distill.algorithms.engines import ENGINES
from sb3_distill.zoo.benchmarks.masked import N_ENVS, made

ALONE = "alone"
ROWS = (ALONE, "on_policy_distill", "n_distill")
SETTINGS: dict[str, Any] = {
    "n_steps": 256,
    "batch_size": 64,
    "n_epochs": 10,
    "learning_rate": 0.0,
    "seed": 0,
    "device": "cpu",
}


class Setup(NamedTuple):
    """Where an engine is measured.

    :param algorithm: sb3-contrib's
    :param policy: of student and teacher
    :param env: makes the environments
    """

    algorithm: type
    policy: str
    env: Callable[[], Any]


SETUPS = {
    "maskable_ppo": Setup(MaskablePPO, "MlpPolicy", partial(made, N_ENVS, 0)),
    "recurrent_ppo": Setup(RecurrentPPO, "MlpLstmPolicy", partial(make_vec_env, "CartPole-v1", N_ENVS, seed=0)),
}


def seconds(engine: str, row: str, steps: int) -> tuple[float, float]:
    """
    :param engine: of ``SETUPS``
    :param row: of the table, or none
    :param steps: to learn for
    :return: seconds on the clock, and of the CPU
    """
    setup = SETUPS[engine]
    env = setup.env()
    if row == ALONE:
        model: Any = setup.algorithm(setup.policy, env, **SETTINGS)
    else:
        teacher = load_teacher(setup.algorithm(setup.policy, env, **SETTINGS | {"seed": 1}))
        model = ENGINES[engine].algorithm(setup.policy, env, teacher=teacher, method=row, **SETTINGS)
    clock, cpu = time.perf_counter(), time.process_time()
    model.learn(steps)
    return time.perf_counter() - clock, time.process_time() - cpu


def main(argv: list[str] | None = None) -> None:
    """:param argv: arguments, by default the command line's"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", choices=list(SETUPS), default=list(SETUPS))
    parser.add_argument("--steps", type=int, default=8_192, help="of each run (default: 8192)")
    parser.add_argument("--rounds", type=int, default=5, help="of each row (default: 5)")
    args = parser.parse_args(argv)
    th.set_num_threads(1)
    table = Table(title=f"{args.steps:,} steps, medians of {args.rounds} rounds")
    for column in ("engine", "row", "seconds", "beside it alone", "CPU seconds", "beside it alone"):
        table.add_column(column, justify="left" if column in ("engine", "row") else "right")
    for engine in args.engines:
        seconds(engine, ROWS[-1], args.steps // 8)  # what is imported and compiled is no cost of a run
        rounds = [{row: seconds(engine, row, args.steps) for row in ROWS} for _ in range(args.rounds)]
        for row in ROWS:
            cells = []
            for kind in range(2):
                took = statistics.median(one[row][kind] for one in rounds)
                beside = statistics.median(one[row][kind] / one[ALONE][kind] for one in rounds)
                cells += [f"{took:.2f}", f"{beside:.3f}"]
            table.add_row(engine, row, *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
