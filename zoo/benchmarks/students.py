"""The project's numbers, each printed by a command.

``python -m sb3_distill.zoo.benchmarks.students returns``
    From the RL Zoo's DQN agents to students of 7.5% of their parameters, with every row and its default settings: how many
    of five seeds reach the teacher in a given number of steps. Needs the folder that RL_TRAINED_AGENTS names. A finished
    run is kept in ``--out`` and not repeated.
``python -m sb3_distill.zoo.benchmarks.students speed``
    The time of DistillPPO over that of SB3's PPO on the same environment, network, rollout and epochs.
``python -m sb3_distill.zoo.benchmarks.students scale``
    Returns of students of CartPole's agent with rewards times 1e-6 to 1e6: the unit of the reward does not matter.
``python -m sb3_distill.zoo.benchmarks.students load``
    Seconds that ``load_teacher`` takes for each Q-network at hand, where its temperature is known and where it is looked for.
``python -m sb3_distill.zoo.benchmarks.students temperatures``
    Looks for these temperatures and writes ``zoo/agents/temperatures.json``, which ``load_teacher`` reads: after an agent was added.
"""

import argparse
import json
import os
import statistics
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from rich.console import Console
from rich.table import Table
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from tqdm import tqdm

from sb3_distill.agents.load import load_teacher
from sb3_distill.algorithms.ppo import DistillPPO
from sb3_distill.common.files import write_json
from sb3_distill.evaluation.episodes import EVALUATION_SEED, episode_returns, random_play, standard_error
from sb3_distill.rules.methods import METHODS
from sb3_distill.teachers.teacher import Teacher, actor_size
from sb3_distill.zoo.benchmarks.loading import load_table, write_temperatures
from sb3_distill.zoo.benchmarks.scale import scale_table

#: environment: (the zoo's agent, steps for the rows with ∇ℓ towards the teacher)
TASKS = {
    "CartPole-v1": ("dqn/CartPole-v1_1", 8_192),
    "Acrobot-v1": ("dqn/Acrobot-v1_1", 16_384),
    "LunarLander-v3": ("dqn/LunarLander-v2_1", 16_384),
    "MountainCar-v0": ("dqn/MountainCar-v0_1", 65_536),
}
STUDENT: dict[str, Any] = {"net_arch": [64, 64], "activation_fn": th.nn.ReLU}
N_ENVS, EPISODES = 8, 100


def steps_for(env_id: str, method: str) -> int:
    """
    :param env_id: one of ``TASKS``
    :param method: a row
    :return: how many environment steps it has
    """
    if method in ("entropy_regularised", "teacher_v_reward"):
        return 150_000
    return TASKS[env_id][1] * (2 if method == "expected_entropy" else 1)


@dataclass(frozen=True)
class Job:
    """One student."""

    env_id: str
    method: str
    form: str
    seed: int

    @property
    def name(self) -> str:
        """Of its file."""
        return "-".join(map(str, asdict(self).values()))


def zoo_teacher(env_id: str, **kwargs: Any) -> Teacher:
    """
    :param env_id: one of ``TASKS``
    :param kwargs: for :func:`~sb3_distill.load_teacher`
    :return: the zoo's DQN agent, never the bundled one
    :raises FileNotFoundError: if RL_TRAINED_AGENTS does not have it
    """
    for root in filter(None, os.environ.get("RL_TRAINED_AGENTS", "").split(os.pathsep)):
        folder = Path(root) / TASKS[env_id][0]
        if folder.is_dir():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return load_teacher(folder, **kwargs)
    raise FileNotFoundError(f"No {TASKS[env_id][0]}: set RL_TRAINED_AGENTS to a folder of the RL Zoo's trained agents.")


def distil(job: Job, temperature: float) -> dict[str, Any]:
    """
    Train one student with its row's defaults, and play 100 episodes.

    :param job: which
    :param temperature: the teacher's, so that it is chosen once and not in every process
    :return: what is kept of it
    """
    th.set_num_threads(1)
    teacher = zoo_teacher(job.env_id, temperature=temperature)
    env = make_vec_env(job.env_id, N_ENVS, seed=job.seed)
    kwargs: dict[str, Any] = dict(method=job.method, form=job.form, seed=job.seed, device="cpu", policy_kwargs=STUDENT)
    student = DistillPPO("MlpPolicy", env, teacher=teacher, **kwargs)
    start = time.perf_counter()
    student.learn(steps_for(job.env_id, job.method))
    seconds = time.perf_counter() - start
    returns = episode_returns(
        lambda obs: student.predict(obs, deterministic=True)[0], job.env_id, EPISODES, EVALUATION_SEED
    )
    return asdict(job) | {
        "returns": returns.tolist(),
        "seconds": seconds,
        "parameters": actor_size(student.policy),
        "steps": student.num_timesteps,
    }


def reference(env_id: str, temperature: float | str) -> dict[str, Any]:
    """
    :param env_id: one of ``TASKS``
    :param temperature: of the teacher, or ``"auto"``
    :return: the teacher's and uniform play's returns over the episodes that students play
    """
    teacher = zoo_teacher(env_id, temperature=temperature)
    randomly = random_play(teacher.action_space, EPISODES)
    return {
        "temperature": teacher.temperature,  # type: ignore[attr-defined]
        "report": teacher.temperature_report,  # type: ignore[attr-defined]
        "parameters": teacher.n_parameters,
        "returns": episode_returns(teacher.act, env_id, EPISODES, EVALUATION_SEED).tolist(),
        "random": episode_returns(randomly, env_id, EPISODES, EVALUATION_SEED).tolist(),
    }


def reaches(env_id: str, student: np.ndarray, teacher: np.ndarray, random: np.ndarray) -> bool:
    """
    Whether a student plays as well as its teacher.

    :param env_id: which decides how that is judged
    :param student: returns
    :param teacher: returns of the same episodes
    :param random: returns of uniform play
    :return: CartPole: at least 97% of the teacher's mean. LunarLander, whose episodes scatter: the mean is not
        below the teacher's by more than the 95% interval of the difference, episode by episode. Else: at least the
        teacher's mean less 3% of what it has over uniform play
    """
    if env_id.startswith("CartPole"):
        return bool(student.mean() >= 0.97 * teacher.mean())
    if env_id.startswith("LunarLander"):
        difference = student - teacher
        return bool(difference.mean() >= -1.96 * standard_error(difference))
    return bool(student.mean() >= teacher.mean() - 0.03 * (teacher.mean() - random.mean()))


def cached(path: Path, make: Any, *args: Any) -> Any:
    """
    :param path: a JSON file
    :param make: called with ``args`` where there is no such file
    :param args: for ``make``
    :return: what the file holds
    """
    if not path.exists():
        write_json(path, make(*args))
    return json.loads(path.read_text())


def returns_table(
    envs: list[str], methods: list[str], forms: list[str], seeds: int, temperature: float | str, out: Path, n_jobs: int
) -> Table:
    """
    Run what has not been run yet, and tabulate.

    :param envs: of ``TASKS``
    :param methods: rows
    :param forms: of the rows
    :param seeds: students of each
    :param temperature: of the teachers, or ``"auto"``
    :param out: folder for finished runs
    :param n_jobs: processes
    :return: a table
    """
    out.mkdir(parents=True, exist_ok=True)
    references = {env: cached(out / f"teacher-{env}.json", reference, env, temperature) for env in envs}
    jobs = [Job(e, m, f, s) for e in envs for m in methods for f in forms for s in range(seeds) if form_differs(m, f)]
    with ProcessPoolExecutor(n_jobs, mp_context=get_context("spawn")) as pool:
        futures = [
            pool.submit(cached, out / f"{job.name}.json", distil, job, references[job.env_id]["temperature"])
            for job in jobs
        ]
        for _ in tqdm(as_completed(futures), total=len(futures), desc="students"):
            pass
    results = {job: future.result() for job, future in zip(jobs, futures, strict=True)}

    table = Table(title=f"Students of the zoo's DQN agents, {seeds} seeds, {EPISODES} episodes each")
    for column in (
        "environment",
        "teacher",
        "random",
        "method",
        "steps",
        "size",
        "reached",
        "returns of the seeds",
        "s",
    ):
        table.add_column(column, justify="left" if column in ("environment", "method") else "right")
    table.add_column("paper's own form: reached, mean", justify="right")
    for env in envs:
        teacher, random = (np.array(references[env][key]) for key in ("returns", "random"))
        for k, method in enumerate(methods):
            cells = {}
            for form in forms:
                runs = [r for j, r in results.items() if (j.env_id, j.method, j.form) == (env, method, form)]
                if not runs:
                    continue
                good = sum(reaches(env, np.array(r["returns"]), teacher, random) for r in runs)
                cells[form] = (good, [float(np.mean(r["returns"])) for r in runs], runs)
            good, means, runs = cells.get("unbiased", next(iter(cells.values())))
            paper = cells.get("paper")
            if paper:
                paper_cell = f"{paper[0]}/{len(paper[2])}, {np.mean(paper[1]):.1f}"
            else:
                paper_cell = "not run" if form_differs(method, "paper") else "the same row"
            table.add_row(
                env if k == 0 else "",
                f"{teacher.mean():.1f} ± {standard_error(teacher):.1f}" if k == 0 else "",
                f"{random.mean():.1f}" if k == 0 else "",
                method,
                f"{steps_for(env, method):,}",
                f"{runs[0]['parameters'] / references[env]['parameters']:.1%}",
                f"{good}/{len(runs)}",
                " ".join(f"{mean:.0f}" if env.startswith("Cart") else f"{mean:.1f}" for mean in means),
                f"{np.mean([r['seconds'] for r in runs]):.0f}",
                paper_cell,
            )
        table.add_section()
    return table


def form_differs(method: str, form: str) -> bool:
    """Whether a row has a form of its own under that name."""
    return form == "unbiased" or METHODS["paper"][method] is not METHODS["unbiased"][method]


# --- speed ------------------------------------------------------------------------------------------------------------


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
        teacher = zoo_teacher(env_id, temperature=0.1)

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
    parser.add_argument("what", choices=["returns", "speed", "scale", "load", "temperatures"])
    parser.add_argument(
        "--envs", nargs="+", choices=list(TASKS), help="by default all, CartPole and LunarLander for speed"
    )
    parser.add_argument("--methods", nargs="+", choices=list(METHODS["unbiased"]), default=list(METHODS["unbiased"]))
    parser.add_argument("--forms", nargs="+", choices=["unbiased", "paper"], default=["unbiased", "paper"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--temperature",
        type=lambda text: text if text == "auto" else float(text),
        default="auto",
        help="of the teachers; use another --out for another temperature",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, help="of a timed run (default: 65,536), or of a student of scale (8,192)")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"))
    args = parser.parse_args(argv)
    if args.what == "returns":
        envs = args.envs or list(TASKS)
        table = returns_table(envs, args.methods, args.forms, args.seeds, args.temperature, args.out, args.jobs)
    elif args.what == "scale":
        table = scale_table(args.seeds, args.steps or 8_192, args.out, args.jobs)
    elif args.what == "load":
        table = load_table()
    elif args.what == "temperatures":
        table = write_temperatures()
    else:
        steps = args.steps or 65_536
        table = speed_table(args.envs or ["CartPole-v1", "LunarLander-v3"], args.methods, args.repeats, steps)
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
