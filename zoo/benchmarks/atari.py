"""What distilling in pixels costs: speed and memory of DistillPPO on Pong beside SB3's PPO, and the environment beside ALE's and SB3's.

.. code-block:: console

    $ python -m sb3_distill.zoo.benchmarks.atari speed     # steps/s, where the time goes, peak memory
    $ python -m sb3_distill.zoo.benchmarks.atari env       # our VecEnv beside the raw AtariVectorEnv
    $ python -m sb3_distill.zoo.benchmarks.atari memory    # resident memory after 20,000 and 200,000 steps
    $ python -m sb3_distill.zoo.benchmarks.atari score     # of one teacher, in our VecEnv and in SB3's

Runs of a kind take turns in processes of their own, and medians are reported: machines are noisy. A teacher's weights have no
influence on its speed, so it is a fresh network of the size of the RL Zoo's.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
import torch as th
from gymnasium.vector import AutoresetMode
from rich.console import Console
from rich.table import Table
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack

from sb3_distill.agents.load import load_teacher
from sb3_distill.algorithms.distillation import Distillation
from sb3_distill.algorithms.ppo import DistillPPO
from sb3_distill.envs.atari import make_atari_vec_env
from sb3_distill.evaluation.episodes import episode_returns, standard_error
from sb3_distill.rules.methods import METHODS
from sb3_distill.students.nature_cnn import student_arch
from sb3_distill.students.pixels import multiplies_bfloat16_faster
from sb3_distill.zoo.benchmarks.atari_compression import MAX_STEPS, check_teacher
from sb3_distill.zoo.teacher_settings import STICKY

#: behind a row's name, for one that does without bfloat16
IN_FLOAT32 = " in float32"
GAME = "Pong"
N_ENVS = 8
SETTINGS: dict[str, Any] = {"n_steps": 128, "batch_size": 256, "n_epochs": 4, "seed": 0, "device": "cpu"}
WARM_UP = N_ENVS * 128
MIB = 2**20


def make_student(method: str, **kwargs: Any) -> Distillation:
    """
    :param method: a row
    :param kwargs: of :class:`~sb3_distill.DistillPPO`
    :return: a student of a fresh NatureCNN, on Pong
    """
    env = make_atari_vec_env(GAME, N_ENVS, seed=0)
    teacher = load_teacher(DQN("CnnPolicy", env, buffer_size=1, device="cpu"), temperature=0.1)
    return DistillPPO("CnnPolicy", env, teacher=teacher, method=method, **(SETTINGS | kwargs))


def make_ppo() -> PPO:
    """:return: SB3's PPO on SB3's Pong"""
    import ale_py

    gym.register_envs(ale_py)
    return PPO("CnnPolicy", VecFrameStack(make_atari_env(f"{GAME}NoFrameskip-v4", N_ENVS, seed=0), 4), **SETTINGS)


# --- speed ------------------------------------------------------------------------------------------------------------


def time_run(who: str, steps: int, threads: int) -> dict[str, Any]:
    """
    One timed run, in this process.

    :param who: ``"ppo"``, or a row, maybe ``IN_FLOAT32``
    :param steps: environment steps
    :param threads: of PyTorch
    :return: ``seconds``, ``peak`` in bytes, ``parts``: seconds of each part, ``peak_flops`` of a matrix product in each
        precision, and ``precisions`` of the parts
    """
    th.set_num_threads(threads)
    mixed = who != "ppo" and not who.endswith(IN_FLOAT32) and multiplies_bfloat16_faster("cpu")
    model: Any = make_ppo() if who == "ppo" else make_student(who.removesuffix(IN_FLOAT32), mixed_precision=mixed)
    model.learn(WARM_UP)
    parts: dict[str, float] = {}
    for method in ("step_async", "step_wait"):
        clock(parts, "environment", innermost(model), method)
    clock(parts, "student rollout", model.policy, "forward")
    clock(parts, "training", model, "train")
    if who != "ppo":
        clock(parts, "teacher", model.teacher, "answer")
    start = time.perf_counter()
    model.learn(steps)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # before the matrices
    precision = "bfloat16" if mixed else "float32"
    return {
        "seconds": seconds,
        "peak": peak,
        "parts": parts,
        "peak_flops": {"float32": matrix_product_flops(), "bfloat16": matrix_product_flops(th.bfloat16)},
        "precisions": {"student rollout": precision, "teacher": "float32", "training": precision},
    }


def innermost(model: Any) -> Any:
    """:return: what steps the games"""
    env = model.env
    while hasattr(env, "venv") and hasattr(env.venv, "step_wait"):
        env = env.venv
    return env


def clock(parts: dict[str, float], name: str, thing: Any, method: str) -> None:
    """
    Add up the seconds that a method takes.

    :param parts: where
    :param name: under which
    :param thing: whose method
    :param method: its name
    """
    parts[name] = 0.0
    call = getattr(thing, method)

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            parts[name] += time.perf_counter() - start

    setattr(thing, method, timed)


def matrix_product_flops(dtype: th.dtype = th.float32, size: int = 2048, repeats: int = 5) -> float:
    """:return: floating point operations a second of the best of some large matrix products"""
    a = th.rand(size, size).to(dtype)
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def network_flops() -> tuple[float, float]:
    """:return: floating point operations of a NatureCNN for one state: forwards, and forwards and backwards"""
    layers = [(84, 4, 32, 8, 4), (20, 32, 64, 4, 2), (9, 64, 64, 3, 1)]
    convolutions = [
        2 * ((side - k) // stride + 1) ** 2 * n_in * n_out * k * k for side, n_in, n_out, k, stride in layers
    ]
    forward = sum(convolutions) + 2 * 64 * 49 * 512
    return forward, 3 * forward - convolutions[0]  # no gradient with respect to the frames


def in_a_process(who: str, steps: int, threads: int) -> dict[str, Any]:
    """:meth:`time_run` in a process of its own, whose peak memory is the run's."""
    command = [
        sys.executable,
        "-m",
        __spec__.name,
        "one",
        "--who",
        who,
        "--steps",
        str(steps),
        "--threads",
        str(threads),
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    return json.loads(output.splitlines()[-1])  # type: ignore[no-any-return]


def speed_tables(methods: list[str], steps: int, repeats: int, threads: int) -> list[Table]:
    """
    :param methods: rows
    :param steps: environment steps of a run
    :param repeats: of each; the median counts
    :param threads: of PyTorch
    :return: speed and memory beside SB3's PPO, and where the time goes
    """
    exact = [method + IN_FLOAT32 for method in methods] if multiplies_bfloat16_faster("cpu") else []
    runs: dict[str, list[dict[str, Any]]] = {who: [] for who in ("ppo", *methods, *exact)}
    for _ in range(repeats):
        for who, results in runs.items():
            results.append(in_a_process(who, steps, threads))
    table = Table(
        title=f"{GAME}, NatureCNN, {N_ENVS} environments, 128 steps, batches of 256, 4 epochs, {threads} threads: "
        f"median of {repeats} runs of {steps:,} steps"
    )
    for column in ("", "steps/s", "of PPO's", "peak memory, MiB", "of PPO's"):
        table.add_column(column, justify="right" if column else "left")
    memory = {who: statistics.median(run["peak"] for run in results) / MIB for who, results in runs.items()}
    for who, results in runs.items():
        rate = steps / statistics.median(run["seconds"] for run in results)
        ratio = statistics.median(a["seconds"] / b["seconds"] for a, b in zip(runs["ppo"], results, strict=True))
        name = "SB3's PPO and make_atari_env" if who == "ppo" else f"DistillPPO, {who}"
        table.add_row(name, f"{rate:,.0f}", f"{ratio:.2f}", f"{memory[who]:,.0f}", f"{memory[who] / memory['ppo']:.2f}")
    return [table, *(parts_table(who, results, steps) for who, results in runs.items())]


def parts_table(who: str, results: list[dict[str, Any]], steps: int) -> Table:
    """
    :param who: ``"ppo"``, or a row
    :param results: of its runs
    :param steps: environment steps of a run
    :return: for each part its share of the time, and of the peak of a matrix product
    """
    forward, both = network_flops()
    flops = {"student rollout": forward, "teacher": forward, "training": SETTINGS["n_epochs"] * both}
    run = sorted(results, key=lambda run: run["seconds"])[len(results) // 2]
    peaks = ", ".join(f"{peak / 1e9:,.0f} in {precision}" for precision, peak in run["peak_flops"].items())
    table = Table(title=f"Where the time of {who} goes; the peak of a matrix product in GFLOP/s: {peaks}")
    for column in ("part", "share of the time", "GFLOP/s", "share of the peak"):
        table.add_column(column, justify="left" if column == "part" else "right")
    rest = run["seconds"] - sum(run["parts"].values())
    for part, seconds in (run["parts"] | {"rest": rest}).items():
        rate = flops.get(part, 0.0) * steps / seconds
        figures = ["—", "—"]
        if rate:
            precision = run["precisions"][part]
            figures = [f"{rate / 1e9:,.0f}", f"{rate / run['peak_flops'][precision]:.0%} of {precision}"]
        table.add_row(part, f"{seconds / run['seconds']:.0%}", *figures)
    return table


# --- the environment alone --------------------------------------------------------------------------------------------


def env_table(steps: int, repeats: int) -> Table:
    """
    :param steps: of all environments together, in a run
    :param repeats: of each; the median counts
    :return: our VecEnv beside ALE's own vector environment
    """
    table = Table(title=f"{GAME}, random play: steps/s, median of {repeats} runs of {steps:,} steps")
    for column in ("environments", "AtariVectorEnv", "make_atari_vec_env", "ratio", "SB3's make_atari_env"):
        table.add_column(column, justify="right")
    for n_envs in (8, 32):
        rates = [[play(make, n_envs, steps) for make in (raw, ours, sb3)] for _ in range(repeats)]
        raws, own, theirs = (statistics.median(column) for column in zip(*rates, strict=True))
        ratio = statistics.median(row[1] / row[0] for row in rates)
        table.add_row(str(n_envs), f"{raws:,.0f}", f"{own:,.0f}", f"{ratio:.2f}", f"{theirs:,.0f}")
    return table


def raw(n_envs: int) -> Any:
    """:return: ALE's own vector environment"""
    from ale_py.vector_env import AtariVectorEnv

    return AtariVectorEnv(GAME.lower(), n_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def ours(n_envs: int, **kwargs: Any) -> Any:
    """:return: our environment"""
    return make_atari_vec_env(GAME, n_envs, **kwargs)


def sb3(n_envs: int, **wrapper_kwargs: Any) -> Any:
    """:return: SB3's environment"""
    import ale_py

    gym.register_envs(ale_py)
    env = make_atari_env(f"{GAME}NoFrameskip-v4", n_envs, wrapper_kwargs=wrapper_kwargs)
    return VecFrameStack(env, 4)


def play(make: Callable[[int], Any], n_envs: int, steps: int) -> float:
    """:return: steps a second of all environments together"""
    env = make(n_envs)
    env.reset()
    actions = np.random.default_rng(0).integers(0, 6, (steps // n_envs, n_envs))
    start = time.perf_counter()
    for row in actions:
        env.step(row)
    seconds = time.perf_counter() - start
    env.close()
    return actions.size / seconds


def score_table(source: str, episodes: int, max_steps: int = MAX_STEPS) -> Table:
    """
    :param source: of a teacher of the game
    :param episodes: games in each environment, with sticky actions: without them they would be a few games over and over
    :param max_steps: a game that has not ended by then counts as it stands
    :return: its scores in ours and in SB3's
    """
    teacher = load_teacher(source, tune=False)
    returns = [
        episode_returns(teacher.act, partial(make, action_repeat_probability=STICKY), episodes, max_steps=max_steps)
        for make in (ours, sb3)
    ]
    means, errors = [x.mean() for x in returns], [standard_error(x) for x in returns]
    table = Table(title=f"Scores of {source}, {episodes} games each")
    for column in ("make_atari_vec_env", "SB3's make_atari_env", "difference"):
        table.add_column(column, justify="right")
    scores = [f"{mean:.1f} ± {error:.1f}" for mean, error in zip(means, errors, strict=True)]
    table.add_row(*scores, f"{means[0] - means[1]:.1f} ± {math.hypot(*errors):.1f}")
    return table


# --- a long run -------------------------------------------------------------------------------------------------------


#: rollouts whose median is the resident memory: after one alone it depends on what the allocator has just given back
WINDOW = 10


class Resident(BaseCallback):
    """Notes the resident memory at the end of every rollout."""

    def __init__(self) -> None:
        super().__init__()
        #: (environment steps, bytes), in order
        self.noted: list[tuple[int, int]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.noted.append((self.num_timesteps, psutil.Process().memory_info().rss))

    def window(self, steps: int) -> list[int]:
        """
        :param steps: environment steps
        :return: bytes of the last rollouts until then
        """
        return [size for noted, size in self.noted if noted <= steps][-WINDOW:]


def memory_table(steps: int) -> Table:
    """
    :param steps: of the run; its tenth is the first moment
    :return: resident memory at both
    """
    resident = Resident()
    make_student("n_distill", policy_kwargs=student_arch("4%")).learn(steps, callback=resident, progress_bar=True)
    table = Table(
        title=f"Resident memory of a run on {GAME}, N-distill, the smallest student: median of the last {WINDOW} rollouts, and range"
    )
    for column in ("environment steps", "MiB", "from", "to", "of the first"):
        table.add_column(column, justify="right")
    first = statistics.median(resident.window(steps // 10))
    for moment in (steps // 10, steps // 2, steps):
        sizes = resident.window(moment)
        median = statistics.median(sizes)
        table.add_row(
            f"{moment:,}", *(f"{size / MIB:,.0f}" for size in (median, min(sizes), max(sizes))), f"{median / first:.3f}"
        )
    return table


def main(argv: list[str] | None = None) -> None:
    """:param argv: arguments, by default the command line's"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "env", "memory", "score", "one"], help="'one' is for its own use")
    parser.add_argument(
        "--methods", nargs="+", choices=list(METHODS["unbiased"]), default=["n_distill", "on_policy_distill"]
    )
    parser.add_argument("--steps", type=int, help="of a run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch, for speed")
    parser.add_argument("--teacher", default=f"zoo:dqn/{GAME}NoFrameskip-v4", help="for score")
    parser.add_argument("--episodes", type=int, default=100, help="for score")
    parser.add_argument("--who", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.episodes < 2:
        parser.error(f"--episodes must be at least 2, for a standard error, not {args.episodes}")
    if args.what == "one":
        sys.stdout.write(json.dumps(time_run(args.who, args.steps, args.threads)) + "\n")
        return
    if args.what == "score":
        try:
            check_teacher(GAME, args.teacher)
        except (ValueError, OSError, ImportError) as error:
            parser.error(str(error))
    commands: dict[str, Callable[[], list[Table]]] = {
        "speed": partial(speed_tables, args.methods, args.steps or 8_192, args.repeats, args.threads),
        "env": lambda: [env_table(args.steps or 16_384, args.repeats)],
        "memory": lambda: [memory_table(args.steps or 200_000)],
        "score": lambda: [score_table(args.teacher, args.episodes)],
    }
    for table in commands[args.what]():
        Console(width=120).print(table)


if __name__ == "__main__":
    main()
