"""Students of continuous teachers: how much of the teacher's return over random play they have, greedily and drawing their actions.

``python -m sb3_distill.zoo.benchmarks.continuous``
    Trains what is asked for and has not been trained yet, one student after the other, and prints the table of all that is there: means
    over seeds with 95% intervals, and how many seeds they are of. A student is two layers of 64 with its class's own defaults in
    eight environments. Each finished run is a line of the file ``--out``, which may be stopped and gone on with at any time.
``python -m sb3_distill.zoo.benchmarks.continuous --table``
    Prints the table and trains nobody.

It needs the folders of the RL Zoo's agents, MuJoCo's among them, in RL_TRAINED_AGENTS.
"""

import argparse
import csv
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from rich.console import Console
from rich.table import Table
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_distill.agents.load import load_teacher
from sb3_distill.algorithms.ppo import DistillPPO
from sb3_distill.common.files import replacing
from sb3_distill.evaluation.episodes import EVALUATION_SEED, episode_returns, random_play
from sb3_distill.teachers.teacher import Teacher

#: teachers, and the steps that their students learn for
TASKS = {
    "sac/HalfCheetah-v3": 196_608,
    "sac/Hopper-v3": 65_536,
    "sac/Walker2d-v3": 131_072,
    "sac/Swimmer-v3": 65_536,
    "ppo/HalfCheetah-v3": 131_072,
    "ppo/Hopper-v3": 65_536,
    "ppo/Walker2d-v3": 131_072,
    "ppo/Swimmer-v3": 65_536,
    "sac/Pendulum-v1": 24_576,
    "sac/MountainCarContinuous-v0": 24_576,
    "ppo/LunarLanderContinuous-v2": 65_536,
    "ppo/BipedalWalker-v3": 131_072,
}
METHODS = ("on_policy_distill", "n_distill", "teacher_distill", "expected_entropy")
#: those who are played and not trained, and SB3's own algorithm without a teacher
TEACHER, RANDOM, SCRATCH = "teacher", "random play", "PPO from scratch"
N_ENVS = 8
#: played for each number: of episodes of 1,000 steps, and of shorter ones that scatter more
EPISODES = {"HalfCheetah": 10, "Hopper": 20, "Walker2d": 20, "Swimmer": 10}
#: what is to be reached, greedily and drawing
GOALS = (0.95, 0.90)
#: of Student's t at 97.5%, by the number of seeds
_T = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


class Run(NamedTuple):
    """
    A line of the file.

    :param teacher: of ``TASKS``
    :param who: a row of the table of methods, or one of those above
    :param seed: of its training
    :param steps: that it learnt for
    :param greedy: mean return of its most probable actions
    :param drawn: and of drawn ones
    :param seconds: of training, on one thread of a machine that may have been busy
    """

    teacher: str
    who: str
    seed: int
    steps: int
    greedy: float
    drawn: float
    seconds: float


def read(path: Path) -> list[Run]:
    """
    :param path: of the file
    :return: what is in it; nothing if there is none
    """
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = (str, str, int, int, float, float, float)
    return [Run(*(kind(row[name]) for kind, name in zip(kinds, Run._fields, strict=True))) for row in rows]


def write(path: Path, runs: Iterable[Run]) -> None:
    """
    :param path: of the file, which is whole at any moment
    :param runs: that it is to have
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(Run._fields)
        lines.writerows(runs)


def zoo_teacher(name: str) -> Teacher:
    """
    :param name: of ``TASKS``
    :return: the teacher, in the environment of today
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what differs in -v5 is in docs/teachers.md
        return load_teacher(f"zoo:{name}")


def played(act: Callable[[Any], np.ndarray], env: Any, name: str) -> float:
    """
    :param act: from observations to actions
    :param env: an id, or a function that makes n
    :param name: of ``TASKS``
    :return: the mean return
    """
    n = EPISODES.get(name.partition("/")[2].partition("-")[0], 50)
    return round(float(episode_returns(act, env, n, EVALUATION_SEED).mean()), 2)


def reference(name: str, who: str) -> Run:
    """
    :param name: of ``TASKS``
    :param who: the teacher, or random play
    :return: its returns
    """
    teacher = zoo_teacher(name)
    assert teacher.env_id is not None
    if who == RANDOM:
        n = EPISODES.get(name.partition("/")[2].partition("-")[0], 50)
        value = played(random_play(teacher.action_space, n), teacher.env_id, name)
        return Run(name, who, 0, 0, value, value, 0.0)

    def drawn(obs: Any) -> np.ndarray:
        seen = obs if teacher.normalize_obs is None else teacher.normalize_obs(obs)
        return teacher.policy.predict(seen)[0]

    th.manual_seed(0)
    env = teacher.training_env
    return Run(name, who, 0, 0, played(teacher.act, env, name), played(drawn, env, name), 0.0)


def trained(name: str, who: str, seed: int, steps: int) -> Run:
    """
    :param name: of ``TASKS``
    :param who: a row, or PPO from scratch
    :param seed: of the student and its environments
    :param steps: to learn for
    :return: what came of it
    """
    teacher = zoo_teacher(name)
    assert teacher.env_id is not None
    env = make_vec_env(teacher.env_id, N_ENVS, seed=seed)
    kwargs: dict[str, Any] = {"seed": seed, "device": "cpu", "policy_kwargs": {"net_arch": [64, 64]}}
    if who == SCRATCH:
        model: Any = PPO("MlpPolicy", env, n_steps=2_048 // N_ENVS, **kwargs)
    else:
        model = DistillPPO("MlpPolicy", env, teacher=teacher, method=who, **kwargs)
    start = time.perf_counter()
    model.learn(steps)
    seconds = time.perf_counter() - start
    greedy = played(lambda obs: model.predict(obs, deterministic=True)[0], teacher.env_id, name)
    th.manual_seed(0)
    return Run(name, who, seed, steps, greedy, played(lambda obs: model.predict(obs)[0], teacher.env_id, name), seconds)


def interval(values: list[float]) -> tuple[float, float]:
    """
    :param values: of seeds
    :return: their mean, and half of its 95% interval, NaN for one seed
    """
    n = len(values)
    half = _T.get(n, 1.96) * float(np.std(values, ddof=1)) / n**0.5 if n > 1 else float("nan")
    return float(np.mean(values)), half


def share(value: float, teacher: float, random: float) -> float:
    """
    :param value: a return
    :param teacher: the teacher's, played in the same way
    :param random: of random play
    :return: what it has of the teacher's return over random play
    """
    return (value - random) / (teacher - random)


def summary(runs: list[Run]) -> Table:
    """
    :param runs: all that there are
    :return: the table: returns of the players, shares of the students
    """
    table = Table(
        title="Share of the teacher's return over random play, mean ± 95% interval of the seeds: greedy; drawn"
    )
    for column in ("teacher", "greedy", "drawn", "random"):
        table.add_column(column, justify="left" if column == "teacher" else "right")
    shown = [who for who in (*METHODS, SCRATCH) if any(run.who == who for run in runs)]
    for who in shown:
        table.add_column(who.replace("_", " "), justify="right")
    reached = dict.fromkeys(shown, (0, 0, 0))
    for name in TASKS:
        mine = [run for run in runs if run.teacher == name]
        known = {run.who: run for run in mine if run.who in (TEACHER, RANDOM)}
        if len(known) < 2:
            continue
        teacher, random = known[TEACHER], known[RANDOM]
        cells = []
        for who in shown:
            students = [run for run in mine if run.who == who]
            if not students:
                cells.append("")
                continue
            greedy = interval([share(run.greedy, teacher.greedy, random.greedy) for run in students])
            drawn = interval([share(run.drawn, teacher.drawn, random.drawn) for run in students])
            steps = " ".join(f"{n // 1_024}k" for n in sorted({run.steps for run in students}))
            cells.append(f"{_percent(greedy)}; {_percent(drawn)}\n{len(students)} seeds, {steps} steps")
            n, g, d = reached[who]
            reached[who] = (n + 1, g + (greedy[0] >= GOALS[0]), d + (drawn[0] >= GOALS[1]))
        table.add_row(name, f"{teacher.greedy:.0f}", f"{teacher.drawn:.0f}", f"{random.greedy:.0f}", *cells)
        table.add_section()
    told = [f"{g} of {n} at {GOALS[0]:.0%}; {d} of {n} at {GOALS[1]:.0%}" for n, g, d in reached.values()]
    table.add_row("reached, of those run", "", "", "", *told)
    return table


def _percent(value: tuple[float, float]) -> str:
    mean, half = value
    return f"{mean:.1%}" if np.isnan(half) else f"{mean:.1%} ± {half:.1%}"


def main(argv: list[str] | None = None) -> None:
    """:param argv: arguments, by default the command line's"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teachers", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--methods", nargs="+", choices=[*METHODS, SCRATCH], default=[*METHODS, SCRATCH])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--steps", type=int, help="of every student, in place of its task's")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).with_name("continuous.csv"), help="the file of all runs"
    )
    parser.add_argument("--table", action="store_true", help="train nobody")
    args = parser.parse_args(argv)
    th.set_num_threads(1)
    jobs = [(name, who, 0) for name in args.teachers for who in (TEACHER, RANDOM)]
    jobs += [(name, who, seed) for seed in args.seeds for who in args.methods for name in args.teachers]
    for name, who, seed in [] if args.table else jobs:
        known = read(args.out)
        if any((run.teacher, run.who, run.seed) == (name, who, seed) for run in known):
            continue
        steps = args.steps or TASKS[name]
        run = reference(name, who) if who in (TEACHER, RANDOM) else trained(name, who, seed, steps)
        write(args.out, [*known, run])
        print(*run, flush=True)
    Console(width=240).print(summary(read(args.out)))


if __name__ == "__main__":
    main()
