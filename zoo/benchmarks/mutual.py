"""Two students that teach each other beside the same two alone (Lin et al. 2017).

``python -m sb3_distill.zoo.benchmarks.mutual [--out FILE] [--figure FILE] [--seeds 5] [--env ID]``
    trains the pairs that FILE, a CSV, does not have yet, and prints how many steps they took to 90% of what PPO alone came to in the
    end, and draws the curves. Alone they are SB3's PPO with the same settings and seeds.
"""

import argparse
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from rich.console import Console
from rich.table import Table
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.algorithms.mutual import MutualDistillation
from sb3_distill.algorithms.ppo import OnPolicyDistill
from sb3_distill.common.files import write_figure
from sb3_distill.common.phases import phase
from sb3_distill.evaluation.episodes import standard_error
from sb3_distill.evaluation.learning_curves import Curve, draw_learning_curves
from sb3_distill.study.estimates import steps_to
from sb3_distill.zoo.benchmarks.csv_lines import read, write

#: environments: what PPO has there, the RL Zoo's but for shorter runs
TASKS: dict[str, dict[str, Any]] = {
    "CartPole-v1": dict(
        n_envs=8,
        n_steps=32,
        batch_size=256,
        n_epochs=20,
        gamma=0.98,
        gae_lambda=0.8,
        learning_rate=1e-3,
        clip_range=0.2,
    ),
    "LunarLander-v3": dict(
        n_envs=16,
        n_steps=128,
        batch_size=128,
        n_epochs=4,
        gamma=0.999,
        gae_lambda=0.98,
        ent_coef=0.01,
        learning_rate=1e-3,
    ),
}
#: and steps of each student, and of a point of its curve
STEPS = {"CartPole-v1": (24_576, 2_048), "LunarLander-v3": (65_536, 8_192)}
#: the first weight of ℓ, which falls to 0 until the end
LOSS_COEF = 0.1
SHARE = 0.9
KINDS = ("together", "alone")
FIELDS = ("env", "seed", "kind", "student", "steps", "mean_return")


def pair(env_id: str, seed: int, kind: str) -> list[dict[str, Any]]:
    """
    Train two students.

    :param env_id: one of ``TASKS``
    :param seed: of the pair: 2 seed and 2 seed + 1 are the students'
    :param kind: one of ``KINDS``
    :return: lines of the CSV: their curves
    """
    settings = dict(TASKS[env_id])
    total, every = STEPS[env_id]
    n_envs = settings.pop("n_envs")
    settings |= dict(learning_rate=LinearSchedule(settings["learning_rate"], 0.0, 1.0), device="cpu")
    envs = [make_vec_env(env_id, n_envs, seed=1_000 * (2 * seed + k)) for k in range(2)]
    if kind == "alone":
        for k, env in enumerate(envs):
            PPO("MlpPolicy", env, seed=2 * seed + k, **settings).learn(total)
    else:
        settings |= dict(loss_coef=LinearSchedule(LOSS_COEF, 0.0, 1.0), env_reward_coef=1.0, vf_coef=0.5)
        settings |= dict(normalize_advantage=True, max_grad_norm=0.5)
        students = [OnPolicyDistill("MlpPolicy", env, seed=2 * seed + k, **settings) for k, env in enumerate(envs)]
        MutualDistillation(students).learn(total)
    return [
        dict(zip(FIELDS, (env_id, seed, kind, k, steps, round(mean, 2)), strict=True))
        for k, env in enumerate(envs)
        for steps, mean in curve_of(env, total, every)
    ]


def curve_of(env: VecEnv, total: int, every: int) -> list[tuple[int, float]]:
    """
    :param env: in which somebody has learnt, each beneath a ``Monitor``
    :param total: how many steps
    :param every: of a point
    :return: steps, and the mean return of the episodes that have ended in the steps up to there; or of those before, if none has
    """
    returns = np.concatenate(env.env_method("get_episode_rewards"))
    ends = np.concatenate([np.cumsum(lengths) for lengths in env.env_method("get_episode_lengths")]) * env.num_envs
    curve: list[tuple[int, float]] = []
    for steps in range(every, total + 1, every):
        within = returns[(ends > steps - every) & (ends <= steps)]
        curve.append((steps, float(within.mean()) if len(within) else curve[-1][1]))
    return curve


def points(lines: list[dict[str, str]], env_id: str, kind: str) -> dict[tuple[int, int], list[tuple[int, float]]]:
    """
    :param lines: of the CSV
    :param env_id: of which environment
    :param kind: one of ``KINDS``
    :return: from (seed, student) to steps and mean returns
    """
    found: dict[tuple[int, int], list[tuple[int, float]]] = {}
    for line in lines:
        if (line["env"], line["kind"]) == (env_id, kind):
            one = found.setdefault((int(line["seed"]), int(line["student"])), [])
            one.append((int(line["steps"]), float(line["mean_return"])))
    return found


def table(lines: list[dict[str, str]]) -> Table:
    """
    :param lines: of the CSV
    :return: for people
    """
    made = Table(title="Two students that teach each other, and two alone", title_justify="left")
    for column in (
        "environment",
        "students",
        f"median steps to {SHARE:.0%} of PPO's",
        "reached by",
        "return in the end",
    ):
        made.add_column(column)
    for env_id in TASKS:
        alone = points(lines, env_id, "alone")
        if not alone:
            continue
        last = float(np.mean([curve[-1][1] for curve in alone.values()]))
        goal = last - (1 - SHARE) * abs(last)
        for kind in KINDS:
            curves = points(lines, env_id, kind)
            if not curves:
                continue
            took = [steps_to(steps, means, goal) for steps, means in (np.array(curve).T for curve in curves.values())]
            ends = np.array([curve[-1][1] for curve in curves.values()])
            made.add_row(
                f"{env_id} ({goal:.0f})",
                f"{len(curves)} {kind}",
                f"{float(np.median(took)):,.0f}",
                f"{int(np.isfinite(took).sum())}/{len(took)}",
                f"{ends.mean():.1f} ± {standard_error(ends):.1f}",
            )
    return made


def draw(lines: list[dict[str, str]], path: Path) -> None:
    """
    :param lines: of the CSV
    :param path: of a picture for each environment: ``NAME-ENV.png``
    """
    for env_id in TASKS:
        curves = []
        for kind in KINDS:
            found = list(points(lines, env_id, kind).values())
            if not found:
                continue
            returns = np.array([[mean for _, mean in curve] for curve in found])
            error = returns.std(axis=0, ddof=1) / np.sqrt(len(returns))
            name = "teach each other" if kind == "together" else "alone (PPO)"
            curves.append(Curve(name, [steps for steps, _ in found[0]], returns.mean(0).tolist(), error.tolist()))
        if curves:
            n = len(points(lines, env_id, KINDS[0]))
            figure = draw_learning_curves(curves, title=env_id, note=f"mean ± standard error of {n} students")
            write_figure(path.with_name(f"{path.stem}-{env_id}.png"), figure)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", default="runs/mutual.csv", type=Path)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--seeds", default=5, type=int)
    parser.add_argument("--env", choices=list(TASKS))
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    th.set_num_threads(1)
    for env_id, seed, kind in product([args.env] if args.env else TASKS, range(args.seeds), KINDS):
        there = [line for line in read(args.out) if (line["env"], line["kind"]) == (env_id, kind)]
        if any(int(line["seed"]) == seed for line in there):
            continue
        with phase(f"{env_id}, {kind}, seed {seed}"):
            write(args.out, pair(env_id, seed, kind))
    lines = read(args.out)
    Console(width=140).print(table(lines))
    if args.figure:
        draw(lines, args.figure)


if __name__ == "__main__":
    main()
