"""What the unit of the reward does to a student: a number of :mod:`.students`."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from rich.table import Table
from stable_baselines3.common.env_util import make_vec_env

from sb3_distill.agents.load import EPISODES, load_teacher
from sb3_distill.algorithms.ppo import DistillPPO
from sb3_distill.common.files import write_json
from sb3_distill.evaluation.episodes import EVALUATION_SEED, episode_returns, greedy, standard_error
from sb3_distill.rules.methods import METHODS
from sb3_distill.teachers.q_network import QTeacher
from sb3_distill.teachers.tuning import tune_temperature

#: what rewards are multiplied by
SCALES = (1e-6, 1e-3, 1.0, 1e3, 1e6)
#: the rows that have a loss ℓ
ROWS = tuple(name for name, row in METHODS["unbiased"].items() if row.loss is not None)
#: of the bundled agent; episodes for each student
ENV_ID, PLAYED, N_ENVS = "CartPole-v1", 20, 8


def scaled_teacher(scale: float, temperature: float | None = None) -> QTeacher:
    """
    :param scale: of the rewards
    :param temperature: τ, by default to be found
    :return: CartPole's bundled agent as it would be, had its rewards been multiplied: its Q-values are
    """
    teacher: Any = load_teacher(f"zoo:dqn/{ENV_ID}", temperature=temperature or 1.0, device="cpu")
    with th.no_grad():
        for weights in teacher.policy.q_net.q_net[-1].parameters():
            weights.mul_(scale)
    if temperature is None:
        tune_temperature(teacher, EPISODES)
    return teacher


def one_student(row: str, scale: float, temperature: float, seed: int, steps: int) -> list[float]:
    """
    :param row: of the table
    :param scale: of the rewards
    :param temperature: τ of the teacher
    :param seed: of everything random
    :param steps: of all environments together
    :return: returns of the student's greedy play, in units of rewards that were not multiplied
    """
    th.set_num_threads(1)
    env = make_vec_env(
        ENV_ID,
        N_ENVS,
        seed=seed,
        wrapper_class=lambda env: gym.wrappers.TransformReward(env, lambda reward: scale * float(reward)),
    )
    kwargs: dict[str, Any] = {"policy_kwargs": {"net_arch": [32]}, "seed": seed, "device": "cpu"}
    student = DistillPPO("MlpPolicy", env, teacher=scaled_teacher(scale, temperature), method=row, **kwargs).learn(
        steps
    )
    return episode_returns(greedy(student.predict), ENV_ID, PLAYED, EVALUATION_SEED).tolist()


def scale_table(seeds: int, steps: int, out: Path, n_jobs: int, rows: Sequence[str] = ROWS) -> Table:
    """
    Students of one agent whose rewards are multiplied.

    :param seeds: students of each kind
    :param steps: of each student
    :param out: folder; the returns of all are written there
    :param n_jobs: processes
    :param rows: of the table
    :return: a table: mean over seeds, with the half of its 95% interval, t-distributed
    """
    out.mkdir(parents=True, exist_ok=True)
    temperatures = {scale: float(scaled_teacher(scale).temperature or 0.0) for scale in SCALES}
    kinds = [(row, scale, seed) for seed in range(seeds) for row in rows for scale in SCALES]
    with ProcessPoolExecutor(n_jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(one_student, row, scale, temperatures[scale], seed, steps) for row, scale, seed in kinds]
        returns = {kind: future.result() for kind, future in zip(kinds, futures, strict=True)}
    write_json(
        out / "scale.json", [{"row": r, "scale": c, "seed": s, "returns": x} for (r, c, s), x in returns.items()]
    )
    table = Table(title=f"{ENV_ID} with multiplied rewards: {seeds} seeds, {steps:,} steps, {PLAYED} episodes each")
    table.add_column("method")
    for scale in SCALES:
        table.add_column(f"× {scale:g}", justify="right")
    table.add_row("τ / scale", *(f"{temperatures[scale] / scale:.4g}" for scale in SCALES))
    for row in rows:
        cells = []
        for scale in SCALES:
            means = np.array([np.mean(returns[row, scale, seed]) for seed in range(seeds)])
            # 2.776: the t-distribution's, of five seeds; of fewer or more it is an approximation
            cells.append(f"{means.mean():.1f} ± {2.776 * standard_error(means) if seeds > 1 else 0:.1f}")
        table.add_row(row, *cells)
    return table
