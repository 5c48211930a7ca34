"""``sb3-distill train-teacher``: trains the DQN teacher of an environment and files it as the RL Zoo does.

``sb3-distill train-teacher --env ID --out zoo/agents`` made what is in ``zoo/agents``.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sb3_distill.cli.arguments import number, whole

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from stable_baselines3 import DQN
    from stable_baselines3.common.vec_env import VecEnv

    from sb3_distill.evaluation.scores import Player
    from sb3_distill.zoo.dqn_training import Trained
    from sb3_distill.zoo.teacher_settings import TeacherSettings

#: of the agent that is filed, and of random play
N_EPISODES = 100
#: an environment without a time limit must not stop a run for good
MAX_EPISODE_STEPS = 100_000


def add_command(commands: Any) -> None:
    """
    :param commands: the subparsers of ``sb3-distill``
    """
    parser = commands.add_parser(
        "train-teacher",
        help="train a DQN teacher",
        description="Train the DQN teacher of an environment and file it as the RL Zoo does. What was killed goes on when the "
        "same command is given again.",
    )
    parser.set_defaults(prepare=prepare)
    add = parser.add_argument
    add("--env", required=True, metavar="ID", help="CartPole-v1, MinAtar/Breakout-v1, …: an unknown one lists all")
    add("--out", default="agents", metavar="FOLDER", help="the agent goes to FOLDER/dqn/ENV_1 (default: %(default)s)")
    add("--seed", default=0, type=whole(0), metavar="N", help="of everything random (default: %(default)s)")
    add("--steps", type=whole(1), metavar="N", help="environment steps (default: as many as the environment needs)")
    add(
        "--stop-at",
        type=number,
        metavar="RETURN",
        help="stop at the first evaluation with such a mean return: an imperfect teacher, made on purpose (default: do not)",
    )
    add("--threads", type=whole(1), metavar="N", help="of PyTorch (default: 1; PyTorch's own for large images)")
    add("--device", metavar="NAME", help="of the network: cpu, cuda, … (default: cpu; auto for large images)")
    add("--overwrite", action="store_true", help="replace the agent that the folder holds")
    add("--quiet", action="store_true", help="show no progress")


def prepare(args: argparse.Namespace) -> Callable[[], None]:
    """
    :param args: see ``sb3-distill train-teacher --help``
    :return: trains and files
    :raises ValueError: for what does not exist or does not go together
    """
    import torch as th

    if args.device is not None:
        check_device(args.device)
    job = plan(args.env, Path(args.out).expanduser(), args.seed, args.steps, args.overwrite)
    if args.device is not None:
        job = job._replace(settings=job.settings._replace(device=args.device))
    if args.stop_at is not None:
        job = job._replace(settings=job.settings._replace(stop_at=args.stop_at))
    threads = args.threads or job.settings.threads
    if threads is not None:
        th.set_num_threads(threads)
    return partial(run_or_say, job, progress_bar=not args.quiet)


def check_device(name: str) -> None:
    """
    :param name: of PyTorch, or ``"auto"``
    :raises ValueError: if there is none of that name here
    """
    import torch as th

    try:
        # Where there is no CUDA, SB3 would take the CPU for it without a word.
        th.zeros(1, device="cpu" if name == "auto" else name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"There is no device {name!r} here: {' '.join(str(error).split())[:200]}") from error


def run_or_say(job: "Job", progress_bar: bool) -> None:
    """
    :param job: as :func:`run` takes it, like the other
    :param progress_bar: whether to show one
    :raises KeyboardInterrupt: if it is interrupted, with what becomes of the training
    """
    try:
        run(job, progress_bar)
    except KeyboardInterrupt:
        from sb3_distill.zoo.dqn_training import latest_checkpoint

        said = f"its checkpoints are in {job.work}, and the same command goes on with the last"
        raise KeyboardInterrupt(
            said if latest_checkpoint(job.work) is not None else "nothing has been saved yet"
        ) from None


class Job(NamedTuple):
    """One teacher to be trained.

    :param env_id: of Gymnasium
    :param settings: how
    :param seed: of everything random
    :param folder: where the agent will be
    """

    env_id: str
    settings: "TeacherSettings"
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """Of the agent's files."""
        return file_name(self.env_id)

    @property
    def work(self) -> Path:
        """Where checkpoints are while it is being trained."""
        return self.folder.with_name(f"{self.folder.name}.training")

    def make_envs(self, n_envs: int, seed: int) -> "VecEnv":
        """
        :param n_envs: how many
        :param seed: of the first
        :return: environments as the teacher is trained in them
        :raises ValueError: if they cannot be made
        """
        from sb3_distill.agents.training import training

        return training(self.env_id, self.settings.environment, None, self.folder).make_monitored(n_envs, seed)


def file_name(env_id: str) -> str:
    """
    :param env_id: of Gymnasium
    :return: what the RL Zoo calls its files
    """
    return env_id.replace("/", "-")


def plan(env_id: str, out: Path, seed: int = 0, steps: int | None = None, overwrite: bool = False) -> Job:
    """
    Check what is wanted, and open the folder of the training.

    :param env_id: a line of the table
    :param out: folder of agents
    :param seed: of everything random
    :param steps: environment steps; None for the table's
    :param overwrite: whether an agent that is there may be replaced
    :return: what to run
    :raises ValueError: for an unknown environment (with the nearest), a number that is too small, an agent that is there
        already, an environment that is not installed, or an unfinished training of another kind in the agent's place
    """
    from sb3_distill.common.folders import check_folder
    from sb3_distill.common.nearest import nearest
    from sb3_distill.zoo.dqn_training import open_folder
    from sb3_distill.zoo.teacher_settings import TEACHERS

    if env_id not in TEACHERS:
        raise ValueError(f"No settings for a teacher of {env_id!r}: {nearest(env_id, TEACHERS)}")
    settings = TEACHERS[env_id]
    if seed < 0 or (steps is not None and steps < 1):
        raise ValueError(f"The seed must be at least 0 and the steps at least 1, not {seed} and {steps}.")
    if steps is not None:
        settings = settings._replace(n_timesteps=steps)
    check_folder(out, "choose another with --out")
    job = Job(env_id, settings, seed, out / "dqn" / f"{file_name(env_id)}_1")
    if job.folder.exists() and not overwrite:
        raise ValueError(f"{job.folder} holds an agent already: choose another folder with --out, or add --overwrite.")
    job.make_envs(1, seed).close()
    open_folder(job.work, {"env": env_id, "seed": seed, "steps": settings.n_timesteps})
    return job


def run(job: Job, progress_bar: bool = False) -> None:
    """
    Train, file the best network, and show how well it plays.

    :param job: what to run; where a part of it was run before, it goes on from there
    :param progress_bar: whether to show one
    """
    from sb3_distill.evaluation import scores
    from sb3_distill.teachers.teacher import actor_size
    from sb3_distill.zoo.dqn_training import latest_checkpoint, train_dqn

    checkpoint = latest_checkpoint(job.work)
    if checkpoint is not None:
        sys.stdout.write(f"Continuing {checkpoint}\n")
    trained = train_dqn(job.make_envs, job.settings, job.seed, job.work, progress_bar)
    best, k = trained.best, job.settings.n_eval_episodes
    players = [
        scores.Player("teacher", play(job, best), actor_size(best.policy), trained.timesteps, trained.seconds),
        scores.Player("random play", play(job, None)),
    ]
    file_agent(job, trained, players)
    scores.show(scores.result_table(players, f"DQN on {job.env_id}: the same {N_EPISODES} episodes for both"))
    sys.stdout.write(f"The best of {len(trained.evaluations)} evaluations of {k} episodes is in {job.folder}\n")


def play(job: Job, model: "DQN | None") -> "np.ndarray":
    """
    :param job: says where
    :param model: plays greedily; None is random play
    :return: the returns of ``N_EPISODES`` episodes, which are the same ones for all
    """
    from sb3_distill.evaluation.episodes import EVALUATION_SEED, episode_returns, greedy, random_play

    def make_envs(n: int) -> "VecEnv":
        return job.make_envs(n, EVALUATION_SEED)

    if model is not None:
        act = greedy(model.predict)
    else:
        env = make_envs(1)
        act = random_play(env.action_space, N_EPISODES, job.seed)
        env.close()

    return episode_returns(act, make_envs, N_EPISODES, EVALUATION_SEED, MAX_EPISODE_STEPS)


def file_agent(job: Job, trained: "Trained", players: "list[Player]") -> None:
    """
    Write the best network and all about it in the RL Zoo's layout, in one piece, and remove the checkpoints.

    ``evaluations.npz`` is of the agent that is filed, and ``learning_curve.csv`` of the training that it is the best of.

    :param job: whose folder is made, or replaced
    :param trained: what came of it
    :param players: the teacher's returns first, then others'
    """
    import numpy as np
    import yaml

    from sb3_distill.common.files import write_csv, write_figure
    from sb3_distill.evaluation.scores import score
    from sb3_distill.zoo.dqn_training import save_to_play

    job.folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=job.folder.parent) as name:
        new, old = Path(name) / "new", Path(name) / "old"
        (new / job.name).mkdir(parents=True)
        save_to_play(trained.best, new / f"{job.name}.zip")
        about = {"algo": "dqn", "env": job.env_id, "env_kwargs": None, "seed": job.seed}
        (new / job.name / "config.yml").write_text(yaml.safe_dump(config(job.settings)))
        (new / job.name / "args.yml").write_text(yaml.safe_dump(about))
        np.savez(
            new / "evaluations.npz", timesteps=np.array([trained.best.num_timesteps]), results=players[0].returns[None]
        )
        write_csv(
            new / "learning_curve.csv",
            ["environment_steps", "mean_return", "standard_error", "n_episodes"],
            [(e.timesteps, *score(e.returns)) for e in trained.evaluations],
        )
        write_figure(new / "learning_curve.png", learning_curve(job, trained, players))
        if job.folder.exists():
            os.replace(job.folder, old)
        os.replace(new, job.folder)
    shutil.rmtree(job.work)


def learning_curve(job: Job, trained: "Trained", players: "list[Player]") -> "Figure":
    """
    :param job: for the title
    :param trained: the curve
    :param players: horizontal lines
    :return: a figure
    """
    from sb3_distill.evaluation import learning_curves, scores

    returns = [scores.score(e.returns) for e in trained.evaluations]
    curve = learning_curves.Curve(
        "training",
        [e.timesteps for e in trained.evaluations],
        [score.mean for score in returns],
        [score.standard_error for score in returns],
    )
    levels = [learning_curves.Level(p.name, scores.score(p.returns)) for p in players]
    note = f"mean ± standard error of {job.settings.n_eval_episodes} episodes (training) or {N_EPISODES} (teacher, random play)"
    return learning_curves.draw_learning_curves([curve], levels, f"DQN on {job.env_id}", note)


def config(settings: "TeacherSettings") -> dict[str, Any]:
    """
    :param settings: of a teacher
    :return: the RL Zoo's ``config.yml`` of it: classes become the text of a name, as there
    """
    about = {**settings.environment, "n_envs": settings.n_envs, "n_timesteps": settings.n_timesteps}
    return about | {
        name: value if isinstance(value, (int, float, str)) else as_text(value)
        for name, value in settings.hyperparameters.items()
    }


def as_text(value: Any) -> str:
    """
    :param value: keyword arguments, classes among them, or a learning rate that falls to 0
    :return: as the RL Zoo's files have it: ``dict(net_arch=[], features_extractor_class=MinAtarCNN)``, ``lin_0.001``
    """
    from stable_baselines3.common.utils import LinearSchedule

    if isinstance(value, LinearSchedule):
        return f"lin_{value.start}"
    if isinstance(value, Mapping):
        return f"dict({', '.join(f'{name}={as_text(item)}' for name, item in value.items())})"
    return value.__name__ if isinstance(value, type) else repr(value)
