"""Students of 25%, 7% and 4% of a NatureCNN, of any Atari teacher: how they score, and how fast they learn and play.

.. code-block:: console

    $ python -m sb3_distill.zoo.benchmarks.atari_compression --env PongNoFrameskip-v4
    $ python -m sb3_distill.zoo.benchmarks.atari_compression --env PongNoFrameskip-v4 --sizes 7% --seeds 3

Scores are relative to the teacher's, (student − random) / (teacher − random), of whole games, played greedily. As the RL Zoo has the
games, nothing in them is random but how long a game's start is waited for, so greedy games are few different ones, over and
over. So students learn with sticky actions (ALE repeats an action now and then), and both scores are told: in the game as it
is, and with sticky actions.
Of each run the network of the best point of its learning curve is the student, as a DQN teacher is the best of its evaluations; these
are other games than those of the score. A finished run is kept in ``--out``, with its student, and not repeated. The table and a
figure of the learning curves are written there, too.
"""

import argparse
import copy
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.agents.load import load_teacher
from sb3_distill.algorithms.ppo import DistillPPO
from sb3_distill.common.env_ids import rom_of
from sb3_distill.common.files import replacing, write_csv, write_figure
from sb3_distill.common.spaces import check_spaces
from sb3_distill.envs.atari import make_atari_vec_env
from sb3_distill.evaluation.episodes import EVALUATION_SEED, episode_returns, greedy, random_play
from sb3_distill.evaluation.learning_curves import LearningCurve
from sb3_distill.rules.methods import METHODS
from sb3_distill.students.nature_cnn import STUDENTS, student_arch
from sb3_distill.teachers.q_network import QTeacher
from sb3_distill.teachers.teacher import actor_size
from sb3_distill.zoo.benchmarks.cached import cached
from sb3_distill.zoo.benchmarks.relative_scores import Reference, measured
from sb3_distill.zoo.benchmarks.score_figures import curves
from sb3_distill.zoo.dqn_training import MAX_EVALUATED_STEPS
from sb3_distill.zoo.teacher_settings import STICKY

METHODS_SHOWN = ("expected_entropy", "n_distill", "on_policy_distill")
N_ENVS = 32
#: of the scores of students, the teacher and random play, and of each point of a learning curve
EPISODES, POINT_EPISODES = 100, 20
#: of a Q-network as the teacher: that of Rusu et al. (2015)
TEMPERATURE = 0.01
#: of a learning curve, after the first
POINTS = 12
#: ALE cuts a game after 108,000 frames
MAX_STEPS = 27_000
#: "the teacher's score"
REACHED = 0.99
#: single observations that are acted on while actions per second are counted
TIMED_ACTIONS = 500


class Kind(NamedTuple):
    """
    What is distilled how.

    :param env_id: a game, by the name of its environment
    :param teacher: of :func:`~sb3_distill.load_teacher`
    :param method: a row
    :param size: of ``student_arch``
    :param steps: of all environments together
    :param seed: of everything random
    :param temperature: of the teacher, if that is a Q-network
    """

    env_id: str
    teacher: str
    method: str
    size: str
    steps: int
    seed: int
    temperature: float

    @property
    def name(self) -> str:
        """Of its file."""
        what = f"{self.env_id}-{self.method}-{self.size.rstrip('%')}-{self.steps}-{self.seed}-{self.temperature:g}"
        return what.replace("/", "-")


class BestOfCurve(LearningCurve):
    """A learning curve that also knows how long was trained, and keeps the network of its best point."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: seconds of training at each point, without evaluations
        self.times: list[float] = []
        #: of the point with the highest mean, the last of several
        self.best: dict[str, Any] = {}

    def _on_training_start(self) -> None:
        self._started = time.perf_counter()

    def _evaluate(self) -> None:
        self.times.append(time.perf_counter() - self._started - self.seconds)
        super()._evaluate()
        means = [score.mean for _, score in self.points]
        if means[-1] == max(means):
            self.best = copy.deepcopy(self.model.policy.state_dict())


def games(env_id: str, sticky: float = 0.0) -> Callable[[int], VecEnv]:
    """
    :param env_id: a game
    :param sticky: the probability that a frame has the action of the one before
    :return: makes n of it
    """
    return partial(make_atari_vec_env, env_id, action_repeat_probability=sticky)


def scores(act: Callable[[Any], np.ndarray], env_id: str, sticky: float) -> np.ndarray:
    """
    :param act: from a batch of observations to actions
    :param env_id: a game
    :param sticky: the probability that a frame has the action of the one before
    :return: of ``EPISODES`` whole games
    """
    return episode_returns(act, games(env_id, sticky), EPISODES, EVALUATION_SEED, MAX_STEPS)


def check_teacher(env_id: str, source: str) -> None:
    """
    :param env_id: a game
    :param source: of its teacher
    :raises ValueError: for an unknown game, or a teacher that does not play it; also OSError and ImportError
    """
    rom_of(env_id)
    teacher = load_teacher(source, env_id=env_id, tune=False)
    env = make_atari_vec_env(env_id, 1)
    env.close()
    check_spaces(teacher.name, teacher.observation_space, teacher.action_space, env.observation_space, env.action_space)


def reference(env_id: str, source: str) -> dict[str, Any]:
    """
    :param env_id: a game
    :param source: of its teacher
    :return: the scores that students are compared with, and what the teacher takes
    """
    teacher = load_teacher(source, env_id=env_id, tune=False)
    references = [
        measured(
            scores(teacher.act, env_id, sticky),
            scores(random_play(teacher.action_space, EPISODES), env_id, sticky),
            teacher.n_parameters,
        )
        for sticky in (0.0, STICKY)
    ]
    return {
        "reference": references[0],
        "sticky": references[1],
        "actions_per_second": actions_per_second(teacher.act, env_id),
    }


def distil(kind: Kind, folder: Path) -> dict[str, Any]:
    """
    Train one student, and play.

    :param kind: which
    :param folder: where the student is saved, by the kind's name
    :return: what is kept of it
    """
    teacher = load_teacher(kind.teacher, tune=False)
    if isinstance(teacher, QTeacher):
        teacher.temperature = kind.temperature
    student = DistillPPO(
        "CnnPolicy",
        games(kind.env_id, STICKY)(N_ENVS),
        teacher=teacher,
        method=kind.method,
        policy_kwargs=student_arch(kind.size),
        seed=kind.seed,
    )
    curve = BestOfCurve(games(kind.env_id), max(1, kind.steps // POINTS), POINT_EPISODES, max_steps=MAX_EVALUATED_STEPS)
    student.learn(kind.steps, callback=curve, progress_bar=True)
    student.policy.load_state_dict(curve.best)
    with replacing(folder / f"{kind.name}.zip") as temporary:
        student.save(temporary)
    act = greedy(student.predict)
    return {
        "returns": scores(act, kind.env_id, 0.0).tolist(),
        "sticky": scores(act, kind.env_id, STICKY).tolist(),
        "parameters": actor_size(student.policy),
        "steps": [steps for steps, _ in curve.points],
        "means": [score.mean for _, score in curve.points],
        "times": curve.times,
        "actions_per_second": actions_per_second(act, kind.env_id),
    }


def actions_per_second(act: Any, env_id: str) -> float:
    """
    :param act: from a batch of observations to actions
    :param env_id: a game
    :return: how many single observations it acts on in a second
    """
    env = make_atari_vec_env(env_id, 1)
    obs = env.reset()
    env.close()
    act(obs)
    start = time.perf_counter()
    for _ in range(TIMED_ACTIONS):
        act(obs)
    return TIMED_ACTIONS / (time.perf_counter() - start)


def compression_table(kinds: list[Kind], out: Path) -> Table:
    """
    Run what has not been run yet, write the curves, and tabulate.

    :param kinds: of one game, teacher, number of steps and temperature; those that differ in their seed alone share a line
    :param out: folder of finished runs, tables and figures
    :return: a table
    """
    env_id, source, _, _, steps, _, temperature = kinds[0]
    lines: dict[tuple[str, str], list[Kind]] = {}
    for kind in kinds:
        lines.setdefault((kind.method, kind.size), []).append(kind)
    seeds = len({kind.seed for kind in kinds})
    (out / "runs").mkdir(parents=True, exist_ok=True)
    found = cached(out / "runs" / f"{env_id}-teacher.json", reference, env_id, source)
    unit, sticky = Reference(*found["reference"]), Reference(*found["sticky"])
    table = Table(
        title=f"{env_id}: students of {steps:,} steps, seeds: {seeds}, {EPISODES} games each, τ = {temperature:g}"
    )
    columns = [
        "student",
        "parameters",
        "of the teacher's",
        "score",
        "relative score",
        "sticky score",
        "relative sticky score",
        "actions/s",
        "steps to 99%",
        "s to 99%",
    ]
    for column in columns:
        table.add_column(column, justify="left" if column == "student" else "right")
    rows: list[list[str]] = [
        [
            f"the teacher, {source}",
            f"{unit.parameters:,}",
            "100%",
            f"{unit.teacher:.1f} ± {unit.error:.1f}",
            "1",
            f"{sticky.teacher:.1f} ± {sticky.error:.1f}",
            "1",
            f"{found['actions_per_second']:,.0f}",
            "—",
            "—",
        ],
        ["random play", "—", "—", f"{unit.random:.1f}", "0", f"{sticky.random:.1f}", "0", "—", "—", "—"],
    ]
    drawn: dict[str, dict[str, Any]] = {}
    for (method, size), same in lines.items():
        runs = [cached(out / "runs" / f"{kind.name}.json", distil, kind, out / "runs") for kind in same]
        drawn.setdefault(method, {})[size] = [
            (run["steps"], [unit.relative(mean) for mean in run["means"]]) for run in runs
        ]
        rows.append([f"{method}, {size}", *cells(unit, sticky, runs)])
    for row in rows:
        table.add_row(*row)
    write_csv(out / f"{env_id}.csv", columns, rows)
    write_figure(out / f"{env_id}.png", curves(drawn, REACHED))
    return table


def cells(unit: Reference, sticky: Reference, runs: list[dict[str, Any]]) -> list[str]:
    """
    :param unit: what scores are relative to
    :param sticky: the same, with sticky actions
    :param runs: of one method and size, with several seeds
    :return: their line of the table
    """
    means, sticky_means = ([float(np.mean(run[key])) for run in runs] for key in ("returns", "sticky"))
    reached = [first_at(REACHED, unit, run) for run in runs]
    parameters = runs[0]["parameters"]
    return [
        f"{parameters:,}",
        f"{parameters / unit.parameters:.1%}",
        " ".join(f"{mean:.1f}" for mean in means),
        " ".join(f"{unit.relative(mean):.3f}" for mean in means),
        " ".join(f"{mean:.1f}" for mean in sticky_means),
        " ".join(f"{sticky.relative(mean):.3f}" for mean in sticky_means),
        f"{np.median([run['actions_per_second'] for run in runs]):,.0f}",
        " ".join("—" if k is None else f"{run['steps'][k]:,}" for k, run in zip(reached, runs, strict=True)),
        " ".join("—" if k is None else f"{run['times'][k]:,.0f}" for k, run in zip(reached, runs, strict=True)),
    ]


def first_at(level: float, unit: Reference, run: dict[str, Any]) -> int | None:
    """
    :param level: of the relative score
    :param unit: what scores are relative to
    :param run: with its learning curve
    :return: the first point of the curve that has it; None if none has
    """
    return next((k for k, mean in enumerate(run["means"]) if unit.relative(mean) >= level), None)


def main(argv: list[str] | None = None) -> None:
    """:param argv: arguments, by default the command line's"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="PongNoFrameskip-v4", help="a game")
    parser.add_argument("--teacher", help="as sb3-distill distill has it (default: zoo:dqn/ENV)")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS["unbiased"]), default=list(METHODS_SHOWN))
    parser.add_argument("--sizes", nargs="+", choices=list(STUDENTS), default=["25%", "7%", "4%"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=480_000, help="of each student")
    parser.add_argument(
        "--temperature", type=float, default=TEMPERATURE, help="of a Q-network as the teacher (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, help="of PyTorch (default: its own)")
    parser.add_argument("--out", type=Path, default=Path("runs/compression"))
    args = parser.parse_args(argv)
    if min(args.seeds, args.steps, 1 if args.threads is None else args.threads) < 1:
        parser.error(
            f"--seeds, --steps and --threads must be at least 1, not {args.seeds}, {args.steps}, {args.threads}"
        )
    if not 0 < args.temperature < math.inf:
        parser.error(f"--temperature must be greater than 0, not {args.temperature}")
    if args.threads:
        th.set_num_threads(args.threads)
    source = args.teacher or f"zoo:dqn/{args.env}"
    try:
        check_teacher(args.env, source)
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))
    kinds = [
        Kind(args.env, source, method, size, args.steps, seed, args.temperature)
        for method in args.methods
        for size in args.sizes
        for seed in range(args.seeds)
    ]
    Console(width=190).print(compression_table(kinds, args.out))


if __name__ == "__main__":
    main()
