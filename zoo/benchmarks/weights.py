"""What a weight of ℓ and a critic of the teacher's values cost: the time of a rollout with its updates, beside the same without.

``python -m sb3_distill.zoo.benchmarks.weights`` lets one student of each kind learn in turn, in one process, and prints ratios of wall
time and of the processor's, medians over the turns: neighbours in time are compared, whatever else the machine does.
"""

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.env_util import make_vec_env

from sb3_distill.agents.load import load_teacher
from sb3_distill.algorithms.ppo import DistillPPO

#: what is compared with the first: settings of DistillPPO
STUDENTS: dict[str, dict[str, Any]] = {
    "neither": {},
    "v_conditioned": {"weight": "v_conditioned"},
    "proximal": {"weight": "proximal"},
    "return_ratio": {"weight": "return_ratio"},
    "critic of V_π": {"critic": "teacher"},
    "critic of r + γ V_π": {"critic": "td"},
    "mixed control": {"control": "mixed", "beta": 0.5},
}


def seconds(env_id: str, repeats: int, rollouts: int) -> dict[str, np.ndarray]:
    """
    :param env_id: which has a teacher in the zoo, a DQN
    :param repeats: turns of each
    :param rollouts: in a turn
    :return: from names to wall time and the processor's, shape (repeats, 2)
    """
    teacher = load_teacher(f"zoo:dqn/{env_id}", device="cpu")
    students = {
        name: DistillPPO(
            "MlpPolicy",
            make_vec_env(env_id, 8, seed=0),
            teacher=teacher,
            method="on_policy_distill",
            env_reward_coef=1.0,
            seed=0,
            device="cpu",
            **settings,
        )
        for name, settings in STUDENTS.items()
    }
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in students}
    for turn in range(repeats + 1):
        for name, student in students.items():
            wall, processor = time.perf_counter(), time.process_time()
            student.learn(rollouts * student.n_steps * student.n_envs, reset_num_timesteps=False)
            if turn > 0:  # the first one warms up
                measured[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return {name: np.array(times) for name, times in measured.items()}


def price_table(measured: dict[str, np.ndarray], rollouts: int) -> Table:
    """
    :param measured: as of :func:`seconds`
    :param rollouts: in a turn
    :return: milliseconds a rollout, and ratios to the first
    """
    table = Table(
        "student", "ms a rollout", "wall time", "processor time", title="a rollout of 8 · 128 steps, 15 epochs of 64"
    )
    base = next(iter(measured.values()))
    for name, times in measured.items():
        ratios = np.median(times / base, axis=0)
        table.add_row(name, f"{1e3 * np.median(times[:, 0]) / rollouts:.0f}", *(f"{ratio:.3f}" for ratio in ratios))
    return table


def main(argv: Sequence[str] | None = None) -> None:
    """:param argv: arguments, by default those of the process"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="CartPole-v1", help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=9, help="turns of each student (default: %(default)s)")
    parser.add_argument("--rollouts", type=int, default=4, help="in a turn (default: %(default)s)")
    args = parser.parse_args(argv)
    th.set_num_threads(1)
    Console().print(price_table(seconds(args.env, args.repeats, args.rollouts), args.rollouts))


if __name__ == "__main__":
    main()
