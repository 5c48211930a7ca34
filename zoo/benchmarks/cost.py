"""What work costs, by its size: ``python -m sb3_distill.zoo.benchmarks.cost ppo|environments|runs``, then ``model``.

CPU seconds are compared where one process works, so that somebody else's work on the machine counts as little as possible. Without a
token Ray has no authentication: ``environments`` is run in a network that has the loopback alone,
``unshare -n sh -c 'ip link set lo up && python -m sb3_distill.zoo.benchmarks.cost environments'``.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from rich.console import Console
from rich.table import Table
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import SubprocVecEnv

from sb3_distill import DistillPPO, distill, load_teacher
from sb3_distill.common.files import write_json
from sb3_distill.envs.ray_vec_env import RayVecEnv
from sb3_distill.zoo.benchmarks.numpy_cartpole import NumpyCartPole

SIZES = (8, 64, 512, 4096)
ROWS = (None, "on_policy_distill", "n_distill")
MILLISECONDS = (0.1, 1.0, 2.0, 5.0, 20.0)
RUN_STEPS = (2_048, 8_192, 32_768)


def learn(n_envs: int, row: str | None, steps: int) -> dict[str, float]:
    """
    :param n_envs: environments side by side
    :param row: of DistillPPO; None for PPO
    :param steps: to learn for, at least
    :return: CPU seconds a step, of them the teacher's; bytes of memory an environment
    """
    # PPO's defaults are 10 epochs of 32 minibatches. A rate of 0: all arithmetic is done, and all play the very same episodes.
    n_steps = max(16, 2048 // n_envs)
    rollout = n_envs * n_steps
    settings: dict[str, Any] = dict(
        n_steps=n_steps, batch_size=rollout // 32, n_epochs=10, learning_rate=0.0, device="cpu"
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    env = NumpyCartPole(n_envs)
    asked = [0.0]
    model: PPO
    if row is None:
        model = PPO("MlpPolicy", env, seed=0, **settings)
    else:
        teacher = load_teacher("zoo:dqn/CartPole-v1", temperature=0.1)
        answer = teacher.answer_in_chunks

        def timed(*args: Any) -> Any:
            start = time.process_time()
            found = answer(*args)
            asked[0] += time.process_time() - start
            return found

        teacher.answer_in_chunks = timed  # type: ignore[assignment, method-assign]
        model = DistillPPO("MlpPolicy", env, teacher=teacher, method=row, seed=0, **settings)
    model.learn(rollout)
    asked[0], start = 0.0, time.process_time()
    model.learn(steps)
    seconds = time.process_time() - start
    done = -(-steps // rollout) * rollout
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return {"seconds": seconds / done, "teacher": asked[0] / done, "bytes": grown / n_envs}


def apart(function: Callable[..., Any], *args: Any) -> Any:
    """What a function returns in a process of its own, which has imported what this one has."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(function, args)


def ppo_table(out: Path, repeats: int, steps: int) -> Table:
    """
    DistillPPO beside PPO, taking turns.

    :param out: folder for the numbers
    :param repeats: of each; the least CPU time counts
    :param steps: of each, at least
    :return: a table
    """
    th.set_num_threads(1)
    table = Table(
        title=f"CPU time beside PPO's, the least of {repeats}; the teacher has 67,586 parameters, the student 9,155"
    )
    for column in (
        "environments",
        "row",
        "steps/s",
        "of PPO's time",
        "without the teacher's passes",
        "KiB an environment",
    ):
        table.add_column(column, justify="left" if column == "row" else "right")
    found = []
    for n_envs in SIZES:
        runs: dict[str | None, list[dict[str, float]]] = {row: [] for row in ROWS}
        for _ in range(repeats):
            for row in ROWS:
                runs[row].append(apart(learn, n_envs, row, steps))
        best = {row: min(of_row, key=lambda run: run["seconds"]) for row, of_row in runs.items()}
        plain = best[None]["seconds"]
        for row, run in best.items():
            memory = statistics.median(one["bytes"] for one in runs[row])
            without = (run["seconds"] - run["teacher"]) / plain
            table.add_row(
                f"{n_envs:,}",
                row or "PPO",
                f"{1 / run['seconds']:,.0f}",
                f"{run['seconds'] / plain:.2f}",
                f"{without:.2f}",
                f"{memory / 1024:,.1f}",
            )
            found.append({"n_envs": n_envs, "row": row, **run, "bytes": memory})
        write_json(out / "ppo.json", found)
    return table


class Busy(gym.Env):
    """
    An environment whose step keeps a core busy.

    :param milliseconds: of CPU time, for a step
    """

    observation_space = gym.spaces.Box(-1, 1, (4,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, milliseconds: float) -> None:
        self.seconds = milliseconds / 1000

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return np.zeros(4, dtype=np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        end = time.process_time() + self.seconds
        while time.process_time() < end:
            pass
        return np.zeros(4, dtype=np.float32), 0.0, False, False, {}


def rate(env: Any, seconds: float) -> float:
    """
    :param env: vectorised
    :param seconds: to play for
    :return: steps of all environments a second
    """
    actions = np.zeros(env.num_envs, dtype=np.int64)
    n, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        env.step(actions)
        n += env.num_envs
    return n / passed


def environments_table(out: Path, repeats: int, n_envs: int, seconds: float) -> Table:
    """
    RayVecEnv beside SubprocVecEnv.

    :param out: folder for the numbers
    :param repeats: of each, taking turns; the highest rate counts
    :param n_envs: environments; SubprocVecEnv has a process for each, RayVecEnv one for each core
    :param seconds: of each
    :return: a table
    """
    import ray

    theirs = [SubprocVecEnv([partial(Busy, ms)] * n_envs, start_method="fork") for ms in MILLISECONDS]
    ray.init(include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    cores = int(ray.cluster_resources()["CPU"])
    table = Table(title=f"Steps a second of {n_envs} environments on {cores} cores, the highest of {repeats}")
    for column in ("ms a step", "SubprocVecEnv", "RayVecEnv", "ratio", "cores' worth"):
        table.add_column(column, justify="right")
    found = []
    for ms, sub in zip(MILLISECONDS, theirs, strict=True):
        env = RayVecEnv([partial(Busy, ms)] * n_envs, envs_per_actor=-(-n_envs // cores))
        rates = []
        for one in (sub, env):
            one.reset()
            rate(one, 0.2)
        for _ in range(repeats):
            rates.append((rate(sub, seconds), rate(env, seconds)))
        of_sub, of_ray = (max(pair[k] for pair in rates) for k in (0, 1))
        n_actors = len(env._actors)
        for one in (sub, env):
            one.close()
        worth = of_ray * ms / 1000
        table.add_row(
            f"{ms:g}", f"{of_sub:,.0f}", f"{of_ray:,.0f}", f"{of_ray / of_sub:.2f}", f"{worth:.2f} of {cores}"
        )
        found.append({"ms": ms, "subproc": of_sub, "ray": of_ray, "n_envs": n_envs, "n_actors": n_actors})
        write_json(out / "environments.json", found)
    return table


def runs_table(out: Path, repeats: int) -> Table:
    """
    Whole runs of ``sb3-distill distill`` on CartPole: CPU seconds and bytes.

    :param out: folder for the numbers
    :param repeats: of each length, with a seed each
    :return: a table
    """
    th.set_num_threads(1)
    table = Table(title="n-distill on CartPole-v1")
    for column in ("steps", "seed", "CPU seconds", "KiB", "files"):
        table.add_column(column, justify="right")
    found = []
    for seed in range(repeats):
        for steps in RUN_STEPS:
            with tempfile.TemporaryDirectory() as folder:
                run = Path(folder) / "run"
                start = time.process_time()
                distill("zoo:dqn/CartPole-v1", steps=steps, seed=seed, out=run)
                seconds = time.process_time() - start
                files = [path for path in run.rglob("*") if path.is_file()]
                size = sum(path.stat().st_size for path in files)
            table.add_row(f"{steps:,}", str(seed), f"{seconds:.1f}", f"{size / 1024:,.0f}", str(len(files)))
            found.append({"steps": steps, "seconds": seconds, "bytes": size, "files": len(files)})
            write_json(out / "runs.json", found)
    return table


def fitted(x: list[float], y: list[float]) -> tuple[float, float]:
    """
    :param x: where something was measured
    :param y: what was
    :return: a and b of y = a + b x, by least squares
    """
    b, a = np.polyfit(x, y, 1)
    return float(a), float(b)


def model_text(out: Path, n_runs: int, n_cores: int, steps: int) -> str:
    """
    :param out: folder of the numbers
    :param n_runs: to plan for
    :param n_cores: to plan for
    :param steps: of a run
    :return: the model, fitted to what was measured, and what it says
    """
    runs = json.loads((out / "runs.json").read_text(encoding="utf-8"))
    a, b = fitted([run["steps"] for run in runs], [run["seconds"] for run in runs])
    off = max(abs(a + b * run["steps"] - run["seconds"]) / run["seconds"] for run in runs)
    size, files = (statistics.mean(run[key] for run in runs) for key in ("bytes", "files"))
    seconds = a + b * steps
    waves = -(-n_runs // n_cores)
    lines = [
        f"A run: {a:.1f} s + {1e6 * b:.0f} µs a step (off by {100 * off:.0f}% at most); {size / 1024:.0f} KiB in {files:.0f} files.",
        f"{n_runs:,} runs of {steps:,} steps: {n_runs * seconds / 3600:,.1f} core hours, on {n_cores:,} cores {waves} runs one after "
        f"another, {waves * seconds / 60:.1f} minutes; {n_runs * size / 2**30:.1f} GiB in {n_runs * files:,.0f} files, "
        f"{n_cores / seconds:.0f} runs ending a second.",
    ]
    if (out / "environments.json").exists():
        rates = json.loads((out / "environments.json").read_text(encoding="utf-8"))
        # A step of all: what the k environments of an actor take, one after another, and what messages take.
        k = rates[0]["n_envs"] / rates[0]["n_actors"]
        least, slope = fitted([k * run["ms"] for run in rates], [1000 * run["n_envs"] / run["ray"] for run in rates])
        actors = rates[0]["n_actors"]
        lines.append(
            f"A step of RayVecEnv with {actors} actors: {2 * actors} messages, {least:.2f} ms + {slope:.2f} times what an actor's "
            f"environments take."
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """:param argv: arguments, by default the command line's"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["ppo", "environments", "runs", "model"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=65_536, help="of a timed run of ppo; of a run of model")
    parser.add_argument("--envs", type=int, default=8, help="of environments")
    parser.add_argument("--seconds", type=float, default=2.0, help="of environments, for each rate")
    parser.add_argument("--runs", type=int, default=10_000, help="of model")
    parser.add_argument("--cores", type=int, default=1_000, help="of model")
    parser.add_argument("--out", type=Path, default=Path("runs/cost"))
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.what == "model":
        print(model_text(args.out, args.runs, args.cores, args.steps))
        return
    if args.what == "ppo":
        table = ppo_table(args.out, args.repeats, args.steps)
    elif args.what == "environments":
        table = environments_table(args.out, args.repeats, args.envs, args.seconds)
    else:
        table = runs_table(args.out, args.repeats)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
