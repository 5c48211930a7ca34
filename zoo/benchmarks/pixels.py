"""Students that see pictures, of teachers that read the state; and how PPO from the same pictures fares in as many steps.

``python -m sb3_distill.zoo.benchmarks.pixels``
    Trains what is asked for and has not been trained yet, and prints the table of all that is there: returns and shares of the teacher's
    return over random play, means over seeds with 95% intervals, and seconds of training. A student is a NatureCNN of 7% in eight
    environments; PPO has the same network and the RL Zoo's settings for Atari. Each finished run is a line
    of the file ``--out``, which may be stopped and gone on with at any time.
``python -m sb3_distill.zoo.benchmarks.pixels --table``
    Prints the table and trains nobody.
``python -m sb3_distill.zoo.benchmarks.pixels --speed``
    Prints how many steps an environment makes in a second that is drawn.
"""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import wrappers
from rich.console import Console
from rich.table import Table
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.agents.load import load_teacher
from sb3_distill.algorithms.ppo import DistillPPO
from sb3_distill.envs import make_pixel_vec_env
from sb3_distill.evaluation.episodes import EVALUATION_SEED, episode_returns, greedy, random_play
from sb3_distill.students.nature_cnn import student_arch
from sb3_distill.zoo.benchmarks.csv_lines import read, write


class Task(NamedTuple):
    """
    What a student is to do.

    :param env_id: the environment
    :param teacher: who reads its state
    :param env_kwargs: of the environment
    :param size: of the pictures
    :param steps: of a student
    :param temperature: of the teacher, by default the one that is known of it
    """

    env_id: str
    teacher: str
    env_kwargs: dict[str, Any]
    size: int
    steps: int
    temperature: float | None = None


TASKS = {
    "CartPole": Task("sb3_distill/SmallCartPole-v1", "zoo:dqn/CartPole-v1", {"size": 84}, 84, 32_768, 0.1),
    "Breakout": Task("MinAtar/Breakout-v1", "zoo:dqn/MinAtar-Breakout-v1", {}, 42, 65_536),
    "Freeway": Task("MinAtar/Freeway-v1", "zoo:dqn/MinAtar-Freeway-v1", {}, 42, 65_536),
}
METHODS = ("on_policy_distill", "n_distill")
#: those who are played and not trained here, and SB3's own algorithm from the same pictures without a teacher
TEACHER, RANDOM, SCRATCH = "teacher", "random play", "PPO alone"
WHO = (METHODS[0], SCRATCH)
#: of students, where their class has Pong's: they need smaller steps here, and end as a mean of the last weights
LEARNING: dict[str, Any] = {"learning_rate": LinearSchedule(1e-3, 5e-5, 1.0), "averaging": 0.5}
N_ENVS, EPISODES = 8, 50
#: of an episode: MinAtar's better players may never end one
LONGEST = 2_500
#: of Student's t at 97.5%, by the number of seeds
_T = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


def drawn(task: Task, n: int, seed: int | None = None) -> VecEnv:
    """
    :param task: of ``TASKS``
    :param n: environments
    :param seed: of the first
    :return: they, in pictures
    """
    return make_pixel_vec_env(task.env_id, n, seed, size=task.size, env_kwargs=task.env_kwargs)


def model_of(task: Task, who: str, seed: int) -> Any:
    """
    :param task: of ``TASKS``
    :param who: a row, or ``SCRATCH``
    :param seed: of all that is random
    :return: a model that is ready to learn
    """
    env = drawn(task, N_ENVS, seed)
    kwargs: dict[str, Any] = {"seed": seed, "device": "cpu", "policy_kwargs": student_arch("7%")}
    if who != SCRATCH:
        how: dict[str, Any] = {} if task.temperature is None else {"temperature": task.temperature}
        teacher = load_teacher(task.teacher, **how)
        kwargs |= LEARNING
        return DistillPPO("CnnPolicy", env, teacher=teacher, teacher_obs="state", method=who, **kwargs)
    return PPO(
        "CnnPolicy",
        env,
        n_steps=128,
        batch_size=256,
        n_epochs=4,
        ent_coef=0.01,
        learning_rate=LinearSchedule(2.5e-4, 0.0, 1.0),
        clip_range=LinearSchedule(0.1, 0.0, 1.0),
        **kwargs,
    )


def run(name: str, who: str, seed: int) -> dict[str, Any]:
    """
    :param name: of ``TASKS``
    :param who: a row, or one of those above
    :param seed: of all that is random
    :return: a line of the file
    """
    task = TASKS[name]
    steps, seconds = 0, 0.0
    if who in (TEACHER, RANDOM):
        teacher = load_teacher(task.teacher)
        act = teacher.act if who == TEACHER else random_play(teacher.action_space, EPISODES)
        returns = episode_returns(act, task.env_id, EPISODES, EVALUATION_SEED, LONGEST)
    else:
        model = model_of(task, who, seed)
        start = time.perf_counter()
        model.learn(task.steps)
        steps, seconds = model.num_timesteps, time.perf_counter() - start
        returns = episode_returns(greedy(model.predict), partial(drawn, task), EPISODES, EVALUATION_SEED, LONGEST)
    said = {"task": name, "who": who, "seed": seed, "steps": steps, "return": round(float(returns.mean()), 3)}
    return said | {"seconds": round(seconds, 1)}


def summary(lines: list[dict[str, str]]) -> Table:
    """
    :param lines: of the file
    :return: the table
    """
    table = Table(title="From pictures: mean return, share of the teacher's over random play, seconds of training")
    for column in ("task", "who", "seeds", "steps", "return", "share", "seconds"):
        table.add_column(column, justify="left" if column in ("task", "who") else "right")
    for name in TASKS:
        mine = [line for line in lines if line["task"] == name]
        known = {line["who"]: float(line["return"]) for line in mine}
        if not {TEACHER, RANDOM} <= set(known):
            continue
        for who in (TEACHER, RANDOM, *METHODS, SCRATCH):
            theirs = [line for line in mine if line["who"] == who]
            if not theirs:
                continue
            values = np.array([float(line["return"]) for line in theirs])
            shares = (values - known[RANDOM]) / (known[TEACHER] - known[RANDOM])
            n = len(shares)
            error = f" ± {_T[n] * np.std(shares, ddof=1) / n**0.5:.1%}" if n in _T else ""
            seconds = np.mean([float(line["seconds"]) for line in theirs])
            cells = (f"{values.mean():.1f}", f"{shares.mean():.1%}{error}", f"{seconds:.0f}")
            table.add_row(name, who, str(n), f"{int(theirs[0]['steps']):,}", *cells)
        table.add_section()
    return table


def speed(n_steps: int = 40) -> Table:
    """
    :param n_steps: of eight environments
    :return: steps in a second of the processor, which is how busy the machine is taken out, of environments that are drawn
    """
    table = Table(title=f"Steps in a second of one processor, {N_ENVS} environments, actions at random")
    for column in ("environment", "not drawn", "84 × 84", "42 × 42", "84 × 84 by Gymnasium's wrappers"):
        table.add_column(column, justify="left" if column == "environment" else "right")
    small = "sb3_distill/SmallCartPole-v1"
    for env_id in ("CartPole-v1", small, "MinAtar/Breakout-v1"):
        made: list[VecEnv] = [make_vec_env(env_id, N_ENVS, seed=0)]
        for size in (84, 42):
            kwargs = {"size": size} if env_id == small else {}
            made.append(make_pixel_vec_env(env_id, N_ENVS, 0, size=size, frames=1, env_kwargs=kwargs))
        made.append(make_vec_env(partial(by_gymnasium, env_id), N_ENVS, seed=0))
        table.add_row(env_id, *(f"{steps_a_second(env, n_steps):,.0f}" for env in made))
    return table


def by_gymnasium(env_id: str) -> gym.Env:
    """
    :param env_id: of Gymnasium
    :return: the environment in 84 × 84 grey pixels, in Gymnasium's own wrappers
    """
    env = wrappers.AddRenderObservation(gym.make(env_id, render_mode="rgb_array"))
    return wrappers.GrayscaleObservation(wrappers.ResizeObservation(env, (84, 84)), keep_dim=True)


def steps_a_second(env: VecEnv, n_steps: int) -> float:
    """
    :param env: is closed in the end
    :param n_steps: of all environments at once
    :return: of all together
    """
    env.reset()
    actions = [np.array([env.action_space.sample() for _ in range(env.num_envs)]) for _ in range(n_steps)]
    start = time.process_time()
    for some in actions:
        env.step(some)
    seconds = time.process_time() - start
    env.close()
    return env.num_envs * n_steps / seconds


def main(argv: list[str] | None = None) -> None:
    """:param argv: arguments, by default the command line's"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=["CartPole", "Breakout"])
    parser.add_argument("--who", nargs="+", choices=[*METHODS, SCRATCH], default=list(WHO))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("pixels.csv"), help="the file of all runs")
    parser.add_argument("--table", action="store_true", help="train nobody")
    parser.add_argument("--speed", action="store_true", help="train nobody, and see how fast environments are drawn")
    args = parser.parse_args(argv)
    th.set_num_threads(1)
    if args.speed:
        Console(width=120).print(speed())
        return
    jobs = [(name, who, 0) for name in args.tasks for who in (TEACHER, RANDOM)]
    jobs += [(name, who, seed) for name in args.tasks for seed in args.seeds for who in args.who]
    for name, who, seed in [] if args.table else jobs:
        if any((line["task"], line["who"], int(line["seed"])) == (name, who, seed) for line in read(args.out)):
            continue
        line = run(name, who, seed)
        write(args.out, [line])
        print(*line.values(), flush=True)
    Console(width=120).print(summary(read(args.out)))


if __name__ == "__main__":
    main()
