"""The tables of *Policy Distillation* (Rusu et al. 2015, arXiv 1511.06295) on nine tasks, each by a command.

.. code-block:: console

    $ python -m sb3_distill.zoo.benchmarks.offline losses     # KL, NLL and MSE with one architecture
    $ python -m sb3_distill.zoo.benchmarks.offline sizes      # students of 25%, 7% and 4% of the teacher's parameters
    $ python -m sb3_distill.zoo.benchmarks.offline tasks      # one student of MinAtar's five games
    $ python -m sb3_distill.zoo.benchmarks.offline control    # environment steps to 95% of the teacher: its play, or the student's

``losses`` and ``sizes`` let the student play more and more in the teacher's place (``dagger``): a small student gets into states that
its teacher never sees. ``tasks`` learns from memories of the teachers alone, as the paper does, and so does one side of ``control``.

Scores are relative to the teacher's: (student − random) / (teacher − random), of greedy play. MinAtar's teachers are bundled, the RL
Zoo's four are found in the folder that RL_TRAINED_AGENTS names. A finished run is kept in ``--out`` and not repeated. Each command
prints a table and writes it with a figure to ``--out``.
"""

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import LinearSchedule
from tqdm import tqdm

from sb3_distill.algorithms.multi_task import MultiTaskDistillation
from sb3_distill.algorithms.policy_distillation import PolicyDistillation
from sb3_distill.algorithms.ppo import DistillPPO
from sb3_distill.common.files import write_csv, write_figure
from sb3_distill.evaluation.episodes import EVALUATION_SEED, episode_returns, greedy
from sb3_distill.evaluation.learning_curves import LearningCurve
from sb3_distill.rules.offline_losses import LOSSES
from sb3_distill.students.features import MinAtarCNN
from sb3_distill.study.estimates import steps_to
from sb3_distill.teachers.teacher import actor_size
from sb3_distill.zoo.benchmarks import score_figures as figures
from sb3_distill.zoo.benchmarks.cached import cached
from sb3_distill.zoo.benchmarks.nine_tasks import (
    EPISODES,
    MAX_STEPS,
    PLAY_ENVS,
    SHARES,
    TASKS,
    memory_of,
    reference,
    student_arch,
    teacher_of,
)
from sb3_distill.zoo.benchmarks.relative_scores import Reference, Relative, mean_of, relative

#: what ``losses`` compares has this share of the teacher's parameters, and so have the students of ``control``
SHARE = "25%"
#: of the teacher's Q-values, in units of Q. Chosen by trials on four of the tasks; the paper has 0.01
TEMPERATURE = 0.1
#: how students learn: so many minibatches for so many steps of each environment, and a teacher that leaves the play to its student
PLAY: dict[str, Any] = {
    "train_freq": 32,
    "gradient_steps": 96,
    "batch_size": 128,
    "buffer_size": 400_000,
    "epsilon": 0.0,
    "dagger": LinearSchedule(1.0, 0.0, 0.5),
}
#: of the student of several games: states in each one's memory, and minibatches of each
N_STATES, N_UPDATES = 200_000, 20_000
#: of a student of five games: 24.3% of its five teachers' parameters together
FIVE_GAMES = {
    "features_extractor_class": MinAtarCNN,
    "features_extractor_kwargs": {"filters": (16,), "features_dim": 150},
    "net_arch": [],
}
#: points of a learning curve, and episodes of each
POINTS, POINT_EPISODES = 16, 20
#: environments of ``control``, steps of each between updates, and how often a step is learnt from, as DistillPPO does by default
N_ENVS, N_STEPS, N_EPOCHS, BATCH = 8, 128, 15, 64
#: "reached", of the teacher's score
REACHED = 0.95


class Settings(NamedTuple):
    """What a command was told.

    :param tasks: names in ``TASKS``
    :param seeds: students of each kind
    :param out: folder of finished runs, memories, tables and figures
    :param jobs: processes
    :param scale: of all numbers of states, updates and steps: 1, or less for a trial
    """

    tasks: list[str]
    seeds: int
    out: Path
    jobs: int
    scale: float

    @property
    def students(self) -> str:
        """How many of each kind, in words for titles."""
        return "1 seed" if self.seeds == 1 else f"{self.seeds} seeds"

    def scaled(self, n: int) -> int:
        """:return: n, or less for a trial"""
        return max(1, round(n * self.scale))


# --- students ---------------------------------------------------------------------------------------------------------


def one_student(name: str, loss: str, share: str, seed: int, n_steps: int, n_teacher: int) -> dict[str, Any]:
    """
    Train a student, and play.

    :param name: of the task
    :param loss: of ``PolicyDistillation``
    :param share: of the teacher's parameters
    :param seed: of everything random
    :param n_steps: of all environments together
    :param n_teacher: the teacher's parameters
    :return: what is kept of it
    """
    th.set_num_threads(1)
    task = TASKS[name]
    kwargs: dict[str, Any] = {"policy_kwargs": student_arch(task, share, n_teacher), "seed": seed, "device": "cpu"}
    kwargs |= {"teacher": teacher_of(task), "loss": loss, "temperature": TEMPERATURE}
    student = PolicyDistillation("MlpPolicy", make_vec_env(task.env_id, PLAY_ENVS, seed=seed), **PLAY, **kwargs)
    start = time.perf_counter()
    student.learn(n_steps)
    seconds = time.perf_counter() - start
    returns = episode_returns(greedy(student.predict), task.env_id, EPISODES, EVALUATION_SEED, MAX_STEPS)
    return {"returns": returns.tolist(), "parameters": actor_size(student.policy), "seconds": seconds}


def five_games_student(names: list[str], seed: int, n_updates: int, memories: dict[str, str]) -> dict[str, Any]:
    """
    Train one student of several games' memories, and play them all.

    :param names: of the games
    :param seed: of everything random
    :param n_updates: minibatches, of all games together
    :param memories: from Gymnasium ids to folders
    :return: what is kept of it
    """
    th.set_num_threads(1)
    kwargs: dict[str, Any] = {"policy_kwargs": FIVE_GAMES, "seed": seed, "device": "cpu"}
    student = MultiTaskDistillation(
        "MlpPolicy", memory=memories, temperature=TEMPERATURE, batch_size=PLAY["batch_size"], **kwargs
    )
    start = time.perf_counter()
    student.learn(n_updates)
    seconds = time.perf_counter() - start
    played = student.evaluate(n_episodes=EPISODES, max_steps=MAX_STEPS)
    returns = {name: played[TASKS[name].env_id].tolist() for name in names}
    return {"returns": returns, "parameters": student.n_parameters, "seconds": seconds}


def learning_curve(name: str, control: str, seed: int, n_steps: int, n_teacher: int) -> dict[str, Any]:
    """
    Train a student while the teacher or it itself plays. Both have one network, one target, softmax(Q / τ), and learn from as many
    states for each step, with their own classes' learning rates.

    :param name: of the task
    :param control: who plays: ``"teacher"`` or ``"student"``
    :param seed: of everything random
    :param n_steps: of all environments together
    :param n_teacher: the teacher's parameters
    :return: what is kept of it: steps, and mean returns
    """
    th.set_num_threads(1)
    task = TASKS[name]
    env = make_vec_env(task.env_id, N_ENVS, seed=seed)
    teacher = teacher_of(task, temperature=TEMPERATURE, epsilon=0.0)
    kwargs: dict[str, Any] = {"policy_kwargs": student_arch(task, SHARE, n_teacher), "seed": seed, "device": "cpu"}
    kwargs |= {"teacher": teacher, "batch_size": BATCH}
    student: Any
    if control == "teacher":
        frequency: dict[str, Any] = {"train_freq": N_STEPS, "gradient_steps": N_ENVS * N_STEPS * N_EPOCHS // BATCH}
        student = PolicyDistillation("MlpPolicy", env, student="ppo", temperature=TEMPERATURE, **frequency, **kwargs)
    else:
        frequency = {"n_steps": N_STEPS, "n_epochs": N_EPOCHS}
        student = DistillPPO("MlpPolicy", env, method="on_policy_distill", **frequency, **kwargs)
    curve = LearningCurve(task.env_id, max(1, n_steps // POINTS), POINT_EPISODES, max_steps=MAX_STEPS)
    student.learn(n_steps, callback=curve)
    return {"steps": [steps for steps, _ in curve.points], "means": [score.mean for _, score in curve.points]}


# --- commands ---------------------------------------------------------------------------------------------------------


def run_all(settings: Settings, jobs: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """
    Run what has not been run yet, several at a time.

    :param settings: of the command
    :param jobs: by name, that of the file with what comes of it
    :return: by the same names
    """
    folder = settings.out / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(settings.jobs, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(cached, folder / f"{name}.json", job): name for name, job in jobs.items()}
        done = {futures[f]: f.result() for f in tqdm(as_completed(futures), total=len(futures), desc="runs")}
    return {name: done[name] for name in jobs}


def references(settings: Settings) -> dict[str, Reference]:
    """
    :param settings: of the command
    :return: of each task
    """
    found = run_all(settings, {f"teacher-{name}": partial(reference, TASKS[name]) for name in settings.tasks})
    return {name: Reference(*found[f"teacher-{name}"]) for name in settings.tasks}


def memories(settings: Settings) -> dict[str, str]:
    """
    :param settings: of the command
    :return: from names of tasks to the folders of their teachers' memories
    """
    folder = settings.out / "memories"
    return {name: str(memory_of(TASKS[name], folder, settings.scaled(N_STATES), True).path) for name in settings.tasks}


def scores_of(settings: Settings, kinds: Sequence[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Relative]]:
    """
    :param settings: of the command
    :param kinds: losses and shares
    :return: for each of them, the score on every task
    """
    found = references(settings)
    jobs: dict[tuple[str, str, str, int], str] = {}
    calls = {}
    for name in settings.tasks:
        for loss, share in kinds:
            n_steps = settings.scaled(TASKS[name].steps_for(share))
            for seed in range(settings.seeds):
                label = f"student-{name}-{loss}-{share.rstrip('%')}-{seed}-{n_steps}"
                jobs[name, loss, share, seed] = label
                calls[label] = partial(one_student, name, loss, share, seed, n_steps, found[name].parameters)
    done = run_all(settings, calls)
    return {
        (loss, share): {
            name: relative(
                found[name], [done[jobs[name, loss, share, seed]]["returns"] for seed in range(settings.seeds)]
            )
            for name in settings.tasks
        }
        for loss, share in kinds
    }


def losses_command(settings: Settings) -> None:
    """:param settings: of the command"""
    kinds = [(loss, SHARE) for loss in LOSSES]
    scores = {loss.upper(): column for (loss, _), column in scores_of(settings, kinds).items()}
    title = f"Three losses: students of {SHARE} of the teacher, {settings.students}"
    show(settings, "losses", scores, title)


def sizes_command(settings: Settings) -> None:
    """:param settings: of the command"""
    kinds = [("kl", share) for share in SHARES]
    scores = {share: column for (_, share), column in scores_of(settings, kinds).items()}
    title = f"Compression: KL, {settings.students}"
    show(settings, "sizes", scores, title)
    means = {share: mean_of(list(column.values())) for share, column in scores.items()}
    write_figure(settings.out / "score_against_size.png", figures.score_against_size(scores, means, title))


def tasks_command(settings: Settings) -> None:
    """:param settings: of the command"""
    settings = settings._replace(tasks=[name for name in settings.tasks if TASKS[name].is_min_atar])
    if not settings.tasks:
        raise SystemExit("tasks is about MinAtar's games: name at least one.")
    found, recorded = references(settings), memories(settings)
    by_id = {TASKS[name].env_id: recorded[name] for name in settings.tasks}
    n_updates = settings.scaled(N_UPDATES * len(settings.tasks))
    labels = [f"together-{'-'.join(settings.tasks)}-{seed}-{n_updates}" for seed in range(settings.seeds)]
    calls = {
        label: partial(five_games_student, settings.tasks, seed, n_updates, by_id) for seed, label in enumerate(labels)
    }
    done = list(run_all(settings, calls).values())
    scores = {name: relative(found[name], [run["returns"][name] for run in done]) for name in settings.tasks}
    share = done[0]["parameters"] / sum(each.parameters for each in found.values())
    title = f"One student of {len(scores)} games, {share:.1%} of their teachers' parameters, {settings.students}"
    show(settings, "tasks", {"one student": scores}, title)


def control_command(settings: Settings) -> None:
    """:param settings: of the command"""
    found = references(settings)
    controls = {"teacher": "offline KL", "student": "on-policy distill"}
    labels = {
        (name, control, seed): f"control-{name}-{control}-{seed}-{settings.scaled(TASKS[name].n_race)}"
        for name in settings.tasks
        for control in controls
        for seed in range(settings.seeds)
    }
    done = run_all(
        settings,
        {
            label: partial(
                learning_curve,
                name,
                control,
                seed,
                settings.scaled(TASKS[name].n_race),
                found[name].parameters,
            )
            for (name, control, seed), label in labels.items()
        },
    )
    table = Table(
        title=f"Environment steps to {REACHED:.0%} of the teacher: median of {settings.students}, and of how many reached it"
    )
    for column in ("task", *(f"{what} ({who} plays)" for who, what in controls.items()), "ratio"):
        table.add_column(column, justify="left" if column == "task" else "right")
    rows = []
    curves: dict[str, dict[str, list[tuple[list[int], list[float]]]]] = {}
    for name in settings.tasks:
        medians, cells = [], []
        for control, what in controls.items():
            runs = [done[labels[name, control, seed]] for seed in range(settings.seeds)]
            in_units = [(run["steps"], [found[name].relative(mean) for mean in run["means"]]) for run in runs]
            curves.setdefault(name, {})[what] = in_units
            reached = [steps_to(np.asarray(steps), np.asarray(means), REACHED) for steps, means in in_units]
            medians.append(statistics.median(reached))
            n = sum(math.isfinite(steps) for steps in reached)
            shown = f"{medians[-1]:,.0f}" if math.isfinite(medians[-1]) else f"> {in_units[0][0][-1]:,}"
            cells.append(f"{shown} ({n}/{settings.seeds})")
        ratio = medians[0] / medians[1] if all(map(math.isfinite, medians)) else math.nan
        table.add_row(name, *cells, f"{ratio:.2f}" if math.isfinite(ratio) else "—")
        rows.append((name, *medians))
    Console(width=120).print(table)
    write_csv(settings.out / "control.csv", ["task", *controls.values()], rows)
    write_figure(settings.out / "control.png", figures.curves(curves, REACHED))


def show(settings: Settings, what: str, scores: Mapping[str, Mapping[str, Relative]], title: str) -> None:
    """
    Print a table, and write it and a figure of it.

    :param settings: of the command
    :param what: the command, for names of files
    :param scores: from columns to tasks to scores
    :param title: of both
    """
    table = Table(title=title)
    table.add_column("task")
    for column in scores:
        table.add_column(column, justify="right")
    for name in settings.tasks:
        table.add_row(name, *(str(column[name]) for column in scores.values()))
    table.add_section()
    means = {column: mean_of(list(by_task.values())) for column, by_task in scores.items()}
    table.add_row("geometric mean", *map(str, means.values()))
    Console(width=120).print(table)
    header = ["task", *(f"{column}{part}" for column in scores for part in ("", " error"))]
    rows = [(name, *(x for column in scores.values() for x in column[name])) for name in settings.tasks]
    write_csv(settings.out / f"{what}.csv", header, rows)
    write_figure(settings.out / f"{what}.png", figures.scores(scores, means, title))


COMMANDS: dict[str, Callable[[Settings], None]] = {
    "losses": losses_command,
    "sizes": sizes_command,
    "tasks": tasks_command,
    "control": control_command,
}


def main(argv: list[str] | None = None) -> None:
    """:param argv: arguments, by default the command line's"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(COMMANDS))
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS), help="by default all nine")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="of states, updates and steps; less than 1 for a trial"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/offline"))
    args = parser.parse_args(argv)
    if args.seeds < 1 or args.jobs < 1 or not 0 < args.scale <= 1:
        parser.error(
            f"--seeds and --jobs must be at least 1 and --scale in (0, 1], not {args.seeds}, {args.jobs} and {args.scale}"
        )
    try:
        for name in args.tasks:
            teacher_of(TASKS[name])
    except (ValueError, OSError) as error:
        parser.error(str(error))
    COMMANDS[args.what](Settings(args.tasks, args.seeds, args.out, args.jobs, args.scale))


if __name__ == "__main__":
    main()
