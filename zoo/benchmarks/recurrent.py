"""Students that do not see velocities, of teachers that do: one that remembers, one that does not, one with four frames, and no teacher.

``python -m sb3_distill.zoo.benchmarks.recurrent``
    Trains what is asked for and has not been trained yet, and prints the table of all that is there: after how many steps a student first
    had 90% of its teacher's return over random play, and what it had in the end; means over seeds. Each finished run is a line of the
    file ``--out``, which may be stopped and gone on with at any time.
``python -m sb3_distill.zoo.benchmarks.recurrent --table``
    Prints the table and trains nobody.

It needs the folders of the RL Zoo's agents in RL_TRAINED_AGENTS.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from rich.console import Console
from rich.table import Table
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecFrameStack

from sb3_distill.agents.load import load_teacher
from sb3_distill.algorithms.ppo import DistillPPO
from sb3_distill.algorithms.recurrent_ppo import DistillRecurrentPPO
from sb3_distill.evaluation.episodes import EVALUATION_SEED, episode_returns, greedy, random_play
from sb3_distill.evaluation.learning_curves import LearningCurve
from sb3_distill.zoo.benchmarks.csv_lines import read, write


class Task(NamedTuple):
    """
    What a student is to do.

    :param env_id: the environment
    :param teacher: who sees all of it
    :param seen: the columns that the student sees, which are no velocities
    :param steps: of a student
    :param alone: of RecurrentPPO without a teacher
    """

    env_id: str
    teacher: str
    seen: list[int]
    steps: int
    alone: int


TASKS = {
    "CartPole": Task("CartPole-v1", "zoo:dqn/CartPole-v1", [0, 2], 32_768, 163_840),
    "Pendulum": Task("Pendulum-v1", "zoo:sac/Pendulum-v1", [0, 1], 65_536, 327_680),
    "LunarLander": Task("LunarLander-v3", "zoo:dqn/LunarLander-v2", [0, 1, 4, 6, 7], 131_072, 1_048_576),
    "HalfCheetah": Task("HalfCheetah-v5", "zoo:sac/HalfCheetah-v3", list(range(8)), 262_144, 2_097_152),
}
WHO = ("remembering", "MLP", "MLP, four frames", "RecurrentPPO alone")
N_ENVS = 8
#: of an evaluation while a student learns, and in the end
CURVE_EPISODES, END_EPISODES = 20, 100
#: share of the teacher's return over random play that is to be reached
GOAL = 0.9


class Columns(VecEnvWrapper):
    """
    An environment of which some numbers are seen.

    :param venv: the environment
    :param seen: columns of its observations
    """

    def __init__(self, venv: VecEnv, seen: list[int]) -> None:
        space: Any = venv.observation_space
        super().__init__(venv, spaces.Box(space.low[seen], space.high[seen], dtype=space.dtype))
        self.seen = seen

    def reset(self) -> Any:
        return self.venv.reset()[:, self.seen]  # type: ignore[call-overload,index]

    def step_wait(self) -> Any:
        obs, rewards, dones, infos = self.venv.step_wait()
        for i in np.flatnonzero(dones):
            if infos[i].get("terminal_observation") is not None:
                infos[i]["terminal_observation"] = infos[i]["terminal_observation"][self.seen]
        return obs[:, self.seen], rewards, dones, infos  # type: ignore[call-overload,index]


def make_env(task: Task, frames: int, n_envs: int, seed: int | None = None) -> VecEnv:
    """
    :param task: of ``TASKS``
    :param frames: that a student sees at once
    :param n_envs: environments side by side
    :param seed: of the first one
    :return: they, as a student sees them
    """
    env: VecEnv = Columns(make_vec_env(task.env_id, n_envs, seed=seed), task.seen)
    return env if frames == 1 else VecFrameStack(env, frames)


def references(task: Task) -> tuple[float, float]:
    """
    :param task: of ``TASKS``
    :return: mean returns of the teacher and of random play
    """
    teacher = load_teacher(task.teacher)
    theirs = episode_returns(teacher.act, task.env_id, END_EPISODES, EVALUATION_SEED)
    random = episode_returns(
        random_play(teacher.action_space, END_EPISODES), task.env_id, END_EPISODES, EVALUATION_SEED
    )
    return float(theirs.mean()), float(random.mean())


def student_of(task: Task, who: str, seed: int) -> Any:
    """
    :param task: of ``TASKS``
    :param who: of ``WHO``
    :param seed: of all that is random
    :return: a model that is ready to learn
    """
    env = make_env(task, 4 if "four" in who else 1, N_ENVS, seed)
    common: dict[str, Any] = {"seed": seed, "device": "cpu"}
    lstm = {"net_arch": [64], "lstm_hidden_size": 64}
    if who == "RecurrentPPO alone":
        return RecurrentPPO("MlpLstmPolicy", env, n_steps=128, batch_size=256, policy_kwargs=lstm, **common)
    common |= {"teacher": load_teacher(task.teacher), "teacher_obs": lambda venv: venv, "method": "on_policy_distill"}
    if who == "remembering":
        return DistillRecurrentPPO("MlpLstmPolicy", env, policy_kwargs=lstm, **common)
    return DistillPPO("MlpPolicy", env, policy_kwargs={"net_arch": [64, 64]}, **common)


class UntilGoal(LearningCurve):
    """
    Ends a run that has reached its goal twice in a row.

    :param goal: a mean return
    :param kwargs: of :class:`~sb3_distill.evaluation.learning_curves.LearningCurve`
    """

    def __init__(self, goal: float, stops: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.goal, self.stops = goal, stops

    def _on_step(self) -> bool:
        last = [score.mean for _, score in self.points[-2:]]
        return super()._on_step() and not (self.stops and len(last) == 2 and min(last) >= self.goal)


def trained(name: str, who: str, seed: int) -> dict[str, Any]:
    """
    :param name: of ``TASKS``
    :param who: of ``WHO``
    :param seed: of all that is random
    :return: a line of the file
    """
    task = TASKS[name]
    teacher, random = references(task)
    model = student_of(task, who, seed)
    goal = random + GOAL * (teacher - random)
    alone = who == "RecurrentPPO alone"
    steps = task.alone if alone else task.steps
    make: Callable[[int], VecEnv] = partial(make_env, task, 4 if "four" in who else 1)
    curve = UntilGoal(goal, alone, env=make, every=steps // (64 if alone else 16), n_episodes=CURVE_EPISODES)
    start = time.perf_counter()
    model.learn(steps, callback=curve)
    seconds = time.perf_counter() - start - curve.seconds
    reached = next((n for n, score in curve.points if score.mean >= goal), None)
    end = float(episode_returns(greedy(model.predict), make, END_EPISODES, EVALUATION_SEED).mean())
    return {
        "task": name,
        "who": who,
        "seed": seed,
        "steps": model.num_timesteps,
        "reached": "" if reached is None else reached,
        "end": round(end, 2),
        "teacher": round(teacher, 2),
        "random": round(random, 2),
        "seconds": round(seconds, 1),
    }


def summary(lines: list[dict[str, str]]) -> Table:
    """
    :param lines: of the file
    :return: the table
    """
    table = Table(
        title=f"Without velocities: steps to {GOAL:.0%} of the teacher's return over random play, and return in the end"
    )
    for column in ("task", "teacher", "who", "seeds", "reached", "steps there", "of steps", "return in the end"):
        table.add_column(column, justify="left" if column in ("task", "who") else "right")
    for name in TASKS:
        for who in WHO:
            runs = [line for line in lines if (line["task"], line["who"]) == (name, who)]
            if not runs:
                continue
            there = [int(run["reached"]) for run in runs if run["reached"]]
            ends = [float(run["end"]) for run in runs]
            median = f"{int(np.median(there)):,}" if there else "never"
            table.add_row(
                name,
                f"{float(runs[0]['teacher']):.0f}",
                who,
                str(len(runs)),
                f"{len(there)} of {len(runs)}",
                median,
                f"{max(int(run['steps']) for run in runs):,}",
                f"{np.mean(ends):.0f} ({min(ends):.0f} to {max(ends):.0f})",
            )
        table.add_section()
    return table


def main(argv: list[str] | None = None) -> None:
    """:param argv: arguments, by default the command line's"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--who", nargs="+", choices=list(WHO), default=list(WHO))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).with_name("recurrent.csv"), help="the file of all runs"
    )
    parser.add_argument("--table", action="store_true", help="train nobody")
    args = parser.parse_args(argv)
    th.set_num_threads(1)
    jobs = [(name, who, seed) for seed in args.seeds for who in args.who for name in args.tasks]
    for name, who, seed in [] if args.table else jobs:
        if any((line["task"], line["who"], line["seed"]) == (name, who, str(seed)) for line in read(args.out)):
            continue
        line = trained(name, who, seed)
        write(args.out, [line])
        print(*line.values(), flush=True)
    Console(width=160).print(summary(read(args.out)))


if __name__ == "__main__":
    main()
