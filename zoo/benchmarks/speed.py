"""The time of DistillPPO over that of SB3's PPO on the same environment, network, rollout and epochs.

``python -m sb3_distill.zoo.benchmarks.speed`` needs the folder that RL_TRAINED_AGENTS names, for LunarLander's teacher.
"""

import argparse
import statistics
import time
from typing import Any

import torch as th
from rich.console import Console
from rich.table import Table
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_distill.agents.load import load_teacher
from sb3_distill.algorithms.ppo import DistillPPO
from sb3_distill.rules.methods import METHODS
from sb3_distill.teachers.teacher import Teacher

N_ENVS = 8


def speed_table(envs: list[str], methods: list[str], repeats: int, steps: int) -> Table:
    """
    Time DistillPPO beside PPO, alternating, with one network, rollout and number of epochs.

    :param envs: Gymnasium ids
    :param methods: rows
    :param repeats: of each; the median ratio is reported
    :param steps: environment steps of a run
    :return: a table
    """
    th.set_num_threads(1)
    # A rate of 0: all arithmetic is done and no policy changes, so that both play the very same episodes. What an
    # environment costs depends on how it is played (a lander that hovers is dearer than one that falls).
    settings: dict[str, Any] = dict(n_steps=128, batch_size=256, n_epochs=4, learning_rate=0.0, seed=0, device="cpu")
    settings["policy_kwargs"] = {"net_arch": [64, 64]}
    table = Table(
        title=f"Wall time of DistillPPO over PPO's: {N_ENVS} environments, median of {repeats}, {steps:,} steps"
    )
    for column in ("environment", "method", "PPO, steps/s", "DistillPPO, steps/s", "ratio"):
        table.add_column(column, justify="left" if column in ("environment", "method") else "right")
    for env_id in envs:
        teacher = load_teacher(f"zoo:dqn/{env_id.replace('Lander-v3', 'Lander-v2')}", temperature=0.1)

        def run(method: str | None, env_id: str = env_id, teacher: Teacher = teacher) -> float:
            env = make_vec_env(env_id, N_ENVS, seed=0)
            model = (
                PPO("MlpPolicy", env, **settings)
                if method is None
                else DistillPPO("MlpPolicy", env, teacher=teacher, method=method, **settings)
            )
            start = time.perf_counter()
            model.learn(steps)
            return time.perf_counter() - start

        run(None)
        for method in methods:
            pairs = [(run(None), run(method)) for _ in range(repeats)]
            plain, ours = (statistics.median(pair[k] for pair in pairs) for k in (0, 1))
            ratio = statistics.median(b / a for a, b in pairs)
            table.add_row(env_id, method, f"{steps / plain:,.0f}", f"{steps / ours:,.0f}", f"{ratio:.3f}")
    return table


def main(argv: list[str] | None = None) -> None:
    """:param argv: arguments, by default the command line's"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=["CartPole-v1", "LunarLander-v3"])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS["unbiased"]), default=list(METHODS["unbiased"]))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=65_536, help="of a timed run")
    args = parser.parse_args(argv)
    Console(width=200).print(speed_table(args.envs, args.methods, args.repeats, args.steps))


if __name__ == "__main__":
    main()
