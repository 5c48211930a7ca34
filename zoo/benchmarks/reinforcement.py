"""
What reinforcement learning does to a student that was distilled: ``python -m sb3_distill.zoo.benchmarks.reinforcement``.

Each student goes on for 50,000 steps in several ways, and is evaluated after each rollout that passes a further 4,096 steps. A line
of the CSV is a run; what is in it already is not run again. One way trains nothing and plays as many other episodes: what the lowest of
so many means is by chance.
"""

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from rich.table import Table
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_distill.agents.load import load_teacher
from sb3_distill.algorithms.ppo import OnPolicyDistill
from sb3_distill.algorithms.then_rl import rl_callbacks, rl_model
from sb3_distill.evaluation.episodes import EVALUATION_SEED, episode_returns, random_play
from sb3_distill.evaluation.learning_curves import LearningCurve
from sb3_distill.evaluation.scores import show
from sb3_distill.zoo.benchmarks.csv_lines import read, write

N_ENVS, STEPS, EVERY, EPISODES = 8, 50_000, 4_096, 20
#: environment, teacher, steps of the distillation
TASKS = {
    "CartPole-v1": ("zoo:dqn/CartPole-v1", 16_384),
    "Acrobot-v1": ("zoo:dqn/Acrobot-v1", 16_384),
    "LunarLander-v3": ("zoo:dqn/LunarLander-v2", 32_768),
    "MountainCar-v0": ("zoo:dqn/MountainCar-v0", 32_768),
    "Pendulum-v1": ("zoo:ppo/Pendulum-v1", 65_536),
    "Hopper-v5": ("zoo:ppo/Hopper-v3", 131_072),
}


def plain(student: Any, **settings: Any) -> OnPolicyAlgorithm:
    """SB3's ``PPO.load(student)``, but for the settings."""
    model = PPO(student.policy_class, student.env, policy_kwargs=student.policy_kwargs, seed=student.seed, **settings)
    model.policy.load_state_dict(student.policy.state_dict())
    return model


def scratch(student: Any) -> OnPolicyAlgorithm:
    """A student that has learnt nothing."""
    kwargs: Any = {"policy_kwargs": student.policy_kwargs, "seed": student.seed, "device": "cpu"}
    return PPO(student.policy_class, student.env, **kwargs)


def ours(warmup: int | None = None, leash: float = 1.0) -> Callable[[OnPolicyAlgorithm], tuple[Any, list[Any]]]:
    """``then_rl``, or a part of it."""

    def made(student: OnPolicyAlgorithm) -> tuple[Any, list[Any]]:
        model = rl_model(student)
        return model, rl_callbacks(model, STEPS, warmup, leash)

    return made


#: the way of a student that learns nothing more
STILL = "untrained, other episodes"
#: from the name of a way to the model that goes on, and its callbacks
WAYS: dict[str, Callable[[OnPolicyAlgorithm], tuple[Any, list[Any]]]] = {
    "then_rl": ours(),
    "then_rl without leash": ours(None, 0.0),
    "then_rl without warm-up": ours(0),
    "settings alone": ours(0, 0.0),
    "SB3's defaults": lambda student: (plain(student, device="cpu"), []),
    "n_steps=128, lr 3e-4": lambda student: (plain(student, n_steps=128, device="cpu"), []),
    "from scratch": lambda student: (scratch(student), []),
}


def distilled(env_id: str, seed: int, folder: Path) -> OnPolicyDistill:
    """The student of an environment and a seed, from its file if it is there."""
    teacher, steps = TASKS[env_id]
    env = make_vec_env(env_id, N_ENVS, seed=seed)
    path = folder / f"{env_id}-{seed}.zip"
    if path.exists():
        return OnPolicyDistill.load(path, env=env, device="cpu")
    kwargs: Any = {"policy_kwargs": {"net_arch": [64, 64]}, "seed": seed, "device": "cpu"}
    student = OnPolicyDistill("MlpPolicy", env, teacher=load_teacher(teacher, env_id=env_id), **kwargs)
    student.learn(steps)
    student.save(path)
    return student


def gone_on(env_id: str, seed: int, way: str, folder: Path) -> dict[str, Any]:
    """
    :param env_id: of :data:`TASKS`
    :param seed: of the student, and of what follows
    :param way: of :data:`WAYS`, or ``STILL``
    :param folder: with students
    :return: a line of the CSV
    """
    student = distilled(env_id, seed, folder)
    if way == STILL:
        seeds = (EVALUATION_SEED + k * EPISODES for k in range(1 + STEPS // EVERY))
        means = [float(episode_returns(student, env_id, EPISODES, first).mean()) for first in seeds]
        return {
            "env": env_id,
            "seed": seed,
            "way": way,
            "distilled": means[0],
            "lowest": min(means),
            "final": means[-1],
        }
    model, callbacks = WAYS[way](student)
    model.set_random_seed(seed)
    curve = LearningCurve(env_id, EVERY, EPISODES)
    model.learn(STEPS, callback=[*callbacks, curve])
    means = [float(score.mean) for _, score in curve.points]
    return {"env": env_id, "seed": seed, "way": way, "distilled": means[0], "lowest": min(means), "final": means[-1]}


def players(env_id: str) -> dict[str, float]:
    """Mean returns of the teacher and of random play."""
    teacher = load_teacher(TASKS[env_id][0], env_id=env_id, device="cpu")
    env = make_vec_env(env_id, 1)
    acts = {"teacher": teacher.act, "random": random_play(env.action_space, EPISODES)}
    return {name: float(episode_returns(act, env_id, EPISODES, EVALUATION_SEED).mean()) for name, act in acts.items()}


def table(rows: list[dict[str, str]]) -> Table:
    """
    :param rows: of the CSV
    :return: for each task and way, how many of the seeds kept 95% of what was distilled throughout, and means
    """
    shown = Table(
        title=f"{STEPS:,} steps of reinforcement after distillation: lowest and final of {EPISODES} greedy episodes"
    )
    for name in ("task", "way", "seeds", "kept 95%", "distilled", "lowest", "final", "teacher"):
        shown.add_column(name, justify="left" if name in ("task", "way") else "right")
    keys = dict.fromkeys((row["env"], row["way"]) for row in rows)
    for env_id, way in sorted(keys, key=lambda key: (list(TASKS).index(key[0]), [STILL, *WAYS].index(key[1]))):
        mine = [row for row in rows if (row["env"], row["way"]) == (env_id, way)]
        start, low, end, least = (
            np.array([float(row[k]) for row in mine]) for k in ("distilled", "lowest", "final", "random")
        )
        kept = int(((low - least) >= 0.95 * (start - least)).sum())
        numbers = (f"{x.mean():.1f}" for x in (start, low, end))
        shown.add_row(env_id, way, str(len(mine)), f"{kept}/{len(mine)}", *numbers, f"{float(mine[0]['teacher']):.1f}")
    return shown


def main() -> None:
    """Run what is missing, and show all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--env", nargs="*", default=["CartPole-v1", "Acrobot-v1", "LunarLander-v3"], choices=list(TASKS)
    )
    parser.add_argument("--way", nargs="*", default=[STILL, *WAYS], choices=[STILL, *WAYS])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/reinforcement"))
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_name("reinforcement.csv"))
    parser.add_argument("--show", action="store_true", help="run nothing")
    args = parser.parse_args()
    th.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    known: dict[str, dict[str, float]] = {}
    for seed in range(0 if args.show else args.seeds):
        for env_id in args.env:
            for way in args.way:
                rows = read(args.csv)
                if any((r["env"], r["seed"], r["way"]) == (env_id, str(seed), way) for r in rows):
                    continue
                if env_id not in known:
                    known[env_id] = players(env_id)
                row = gone_on(env_id, seed, way, args.out) | known[env_id]
                write(args.csv, [row])
                sys.stderr.write(f"{row}\n")
    show(table(read(args.csv)))


if __name__ == "__main__":
    main()
