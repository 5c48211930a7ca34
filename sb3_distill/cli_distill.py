"""``sb3-distill distill``: what can be typed, and what it means."""

import argparse
import importlib
import json
import math
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sb3_distill import cli_offline

if TYPE_CHECKING:
    import gymnasium as gym
    import numpy as np
    from stable_baselines3.common.vec_env import VecEnv

    from sb3_distill.distillation import Distillation
    from sb3_distill.policy_distillation import PolicyDistillation
    from sb3_distill.report import LearningCurve, Player
    from sb3_distill.teachers import Teacher

#: options of the rows, with what they are if they are not given; None is the constructor's own
ROW_OPTIONS = {
    "form": "unbiased",
    "baseline": "teacher",
    "control": None,
    "loss_coef": None,
    "reward_coef": None,
    "env_reward_coef": None,
}
#: whose machinery trains a row; the first is the default
ROW_ENGINES = ("ppo", "a2c")
#: learning-curve points after the first
CURVE_POINTS = 16
CURVE_EPISODES = 20
#: an environment without a time limit must not stop a run for good
MAX_EPISODE_STEPS = 100_000
#: whose versions results depend on
PACKAGES = ("sb3-distill", "stable-baselines3", "sb3-contrib", "gymnasium", "torch", "numpy")


def add_options(distill: argparse.ArgumentParser) -> None:
    """
    :param distill: the parser of ``sb3-distill distill``
    """
    distill.set_defaults(prepare=prepare_distill)
    add = distill.add_argument_group("what").add_argument
    add(
        "--env",
        metavar="ID",
        help="Gymnasium environment, or MODULE:ID (default: that of --memory, or where --teacher was trained, or CartPole-v1)",
    )
    add(
        "--teacher",
        metavar="NAME",
        help="zoo:ALGO/ENV, hub:OWNER/NAME, or the path of an SB3 zip or of a folder of the RL Zoo (default: zoo:dqn/ENV)",
    )
    add(
        "--method",
        default="n-distill",
        metavar="NAME",
        help="see 'sb3-distill methods'; or policy-distillation, from a teacher's memory (default: %(default)s)",
    )
    add(
        "--engine",
        metavar="NAME",
        help="ppo or a2c: whose machinery trains (default: ppo); of policy-distillation dqn or ppo: what the student is "
        "(default: dqn)",
    )
    add(
        "--net-arch",
        default=[32, 32],
        type=_whole(1),
        nargs="*",
        metavar="UNITS",
        help="hidden layers of the student; nothing after it for a linear student (default: 32 32)",
    )
    add(
        "--size",
        metavar="SHARE",
        help="of a student that sees images, in place of --net-arch: 25%%, 7%% or 4%% of a NatureCNN, or of MinAtar's network",
    )

    add = distill.add_argument_group("how long, and with which dice").add_argument
    add(
        "--steps",
        default=16_384,
        type=_whole(1),
        metavar="N",
        help="environment steps; with --memory, minibatches (default: %(default)s)",
    )
    add("--n-envs", default=8, type=_whole(1), metavar="N", help="environments side by side (default: %(default)s)")
    add("--seed", default=0, type=_whole(0), metavar="N", help="of everything random (default: %(default)s)")
    add(
        "--threads",
        type=_whole(1),
        metavar="N",
        help="of PyTorch (default: 1, which is fastest for networks as small as MlpPolicy's; PyTorch's own for images)",
    )

    add = distill.add_argument_group("the teacher, if it is a Q-network: (1-ε) softmax(Q/τ) + ε/|A|").add_argument
    add(
        "--temperature",
        default="auto",
        type=_temperature,
        metavar="τ",
        help="auto takes the largest that plays as greedily acting does; of policy-distillation 0.01 (default: %(default)s)",
    )
    add(
        "--epsilon",
        type=_number,
        metavar="ε",
        help="between 0 and 1 (default: 0.01); of policy-distillation the probability of a random action (default: 0.05)",
    )

    add = distill.add_argument_group("the method, if it is a row of 'sb3-distill methods'").add_argument
    add("--form", metavar="NAME", help="unbiased or paper (default: unbiased)")
    add("--baseline", metavar="NAME", help="of teacher-v-reward: teacher or student (default: teacher)")
    add("--control", metavar="NAME", help="who acts: student, teacher or uniform (default: the method's own)")
    add("--loss-coef", type=_number, metavar="X", help="weight of the loss ℓ (default: 1)")
    add("--reward-coef", type=_number, metavar="X", help="weight of the reward r̂ (default: the method's own)")
    add("--env-reward-coef", type=_number, metavar="X", help="weight of the environment's reward (default: 0)")

    cli_offline.add_options(distill)

    add = distill.add_argument_group("results").add_argument
    add(
        "--eval-episodes",
        default=100,
        type=_whole(2),
        metavar="N",
        help="for teacher and student each, at the end (default: %(default)s)",
    )
    add("--out", metavar="FOLDER", help="where the files go (default: runs/METHOD-ENGINE-ENV-SEED)")
    add("--overwrite", action="store_true", help="replace the student that the folder holds")


def _whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text.replace("_", ""))
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, not {text!r}")
        return value

    return parse


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}")
    return value


def _temperature(text: str) -> float | str:
    if text == "auto":
        return text
    try:
        return _number(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"must be a number greater than 0 or 'auto', not {text!r}") from None


def prepare_distill(args: argparse.Namespace) -> Callable[[], None]:
    """
    Check the arguments, cheapest first, load the teacher and build the student.

    :param args: see ``sb3-distill distill --help``
    :return: trains and writes
    :raises ValueError: for what does not exist or does not go together; also OSError and ImportError
    """
    import torch as th
    from rich.console import Console

    from sb3_distill.distillation import check_env_id
    from sb3_distill.features import min_atar_student
    from sb3_distill.nature_cnn import student_arch
    from sb3_distill.spaces import check_spaces
    from sb3_distill.temperature import check_softness
    from sb3_distill.zoo.checkpoint import read_checkpoint
    from sb3_distill.zoo.settings import usual_training
    from sb3_distill.zoo.teachers import find_agent, read_training_of

    settle_method(args)
    args.env = args.env or default_env(args)
    module, _, args.env = args.env.rpartition(":")
    args.module = module
    if module:
        # As gymnasium.make does it: the module registers the environment.
        importlib.import_module(module)
    check_env_id(args.env)
    if args.size:
        student_arch(args.size)
    check_softness(None if args.temperature == "auto" else args.temperature, args.epsilon or 0.0)
    out = output_folder(args)
    source = args.teacher or default_teacher(args.env)
    agent = find_agent(source)
    checkpoint = read_checkpoint(agent.checkpoint)
    trained = read_training_of(agent)
    if trained is None or trained.env_id != args.env:
        trained = usual_training(args.env)
    env = trained.make_monitored(args.n_envs, args.seed)
    check_spaces(source, checkpoint.observation_space, checkpoint.action_space, env.observation_space, env.action_space)

    policy = policy_for(env.observation_space)
    images = policy == "CnnPolicy"
    # What has rows and columns and is no image to SB3 is a board, such as MinAtar's.
    sized = student_arch if images else min_atar_student
    if args.size and len(env.observation_space.shape or ()) != 3:
        raise ValueError(f"--size is for images, and {args.env} shows {env.observation_space}: use --net-arch.")
    if args.threads or not images:
        th.set_num_threads(args.threads or 1)
    device = "auto" if images else "cpu"
    build = partial(
        student_class(args),
        policy,
        env,
        policy_kwargs=sized(args.size) if args.size else {"net_arch": args.net_arch},
        seed=args.seed,
        device=device,
    )
    # A student without a teacher takes no time and checks the rest, before the teacher's temperature takes some.
    build(teacher=None)
    with Console(stderr=True).status("Loading the teacher and seeing how it plays …"):
        teacher = find_teacher(args, source, device)
    student = build(teacher=teacher)
    out.mkdir(parents=True, exist_ok=True)
    return partial(distill, args, teacher, student, out, trained.make_vec_env)


def settle_method(args: argparse.Namespace) -> None:
    """
    Check what says how is learnt, and fill in what was left out.

    :param args: of ``distill``; ``method`` becomes the name with underscores, and ``engine`` and the rows' options get values
    :raises ValueError: for a name that there is not, and options that the method does not have
    """
    from sb3_distill.methods import METHODS, get_method, nearest

    method = args.method.replace("-", "_")
    choices = (*METHODS["unbiased"], cli_offline.NAME)
    if method not in choices:
        raise ValueError(f"Unknown method {args.method!r}: {nearest(method, choices)}")
    args.method = method
    offline = method == cli_offline.NAME
    foreign = tuple(ROW_OPTIONS) if offline else cli_offline.OPTIONS
    given = [f"--{hyphens(name)}" for name in foreign if getattr(args, name) is not None]
    if given:
        raise ValueError(
            f"--method {hyphens(method)} has no {' and no '.join(given)}: leave out what it does not have."
        )
    engines = cli_offline.ENGINES if offline else ROW_ENGINES
    args.engine = engines[0] if args.engine is None else args.engine
    if args.engine not in engines:
        raise ValueError(f"Unknown engine {args.engine!r} of {hyphens(method)}: {nearest(args.engine, engines)}")
    if offline:
        cli_offline.check_options(args)
        return
    for name, value in ROW_OPTIONS.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    get_method(method, args.form, args.baseline)


def student_class(args: argparse.Namespace) -> "Callable[..., Distillation | PolicyDistillation]":
    """
    :param args: of ``distill``, settled
    :return: makes the student from what all methods have: policy, environment, ``teacher`` …
    """
    if args.method == cli_offline.NAME:
        return cli_offline.student_class(args)
    from sb3_distill import DistillA2C, DistillPPO

    options = {name: getattr(args, name) for name in ROW_OPTIONS if getattr(args, name) is not None}
    return partial({"ppo": DistillPPO, "a2c": DistillA2C}[args.engine], method=args.method, **options)


def find_teacher(args: argparse.Namespace, source: str, device: str) -> "Teacher":
    """
    :param args: of ``distill``, settled
    :param source: of :func:`~sb3_distill.load_teacher`
    :param device: where the teacher answers
    :return: the teacher; its temperature is chosen if the method uses it
    """
    from sb3_distill.zoo.teachers import load_teacher

    if args.method == cli_offline.NAME:
        return load_teacher(source, env_id=args.env, device=device, tune=False)
    return load_teacher(source, env_id=args.env, temperature=args.temperature, epsilon=args.epsilon, device=device)


def output_folder(args: argparse.Namespace) -> Path:
    """
    :param args: of ``distill``, settled
    :return: where its files go; it may not exist yet
    :raises ValueError: if there is a student already, or something that is no folder
    """
    name = f"{hyphens(args.method)}-{args.engine}-{args.env.replace('/', '-')}-{args.seed}"
    out = Path(args.out).expanduser() if args.out else Path("runs") / name
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is not a folder: choose another with --out.")
    if (out / "student.zip").exists() and not args.overwrite:
        raise ValueError(f"{out} holds a student already: choose another folder with --out, or add --overwrite.")
    return out


def policy_for(space: "gym.Space") -> str:
    """
    :param space: of the observations
    :return: SB3's name for the policy that reads them
    """
    from gymnasium import spaces
    from stable_baselines3.common.preprocessing import is_image_space

    if isinstance(space, spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if is_image_space(space) else "MlpPolicy"


def distill(
    args: argparse.Namespace,
    teacher: "Teacher",
    student: "Distillation | PolicyDistillation",
    out: Path,
    make_env: "Callable[[int], VecEnv]",
) -> None:
    """
    Train the student, compare it with its teacher, write the files.

    :param args: of ``distill``
    :param teacher: the student's
    :param student: untrained
    :param out: a folder
    :param make_env: makes n environments to play in
    """
    from sb3_distill import report
    from sb3_distill.evaluation import EVALUATION_SEED, episode_returns, random_play
    from sb3_distill.files import replacing
    from sb3_distill.teachers import actor_size

    sys.stdout.write(f"{describe(about_teacher(args, teacher))}\n")
    curve = report.LearningCurve(
        make_env, max(1, args.steps // CURVE_POINTS), CURVE_EPISODES, max_steps=MAX_EPISODE_STEPS
    )
    seconds = train(student, args.steps, curve)
    # Before anything else can go wrong.
    with replacing(out / "student.zip") as temporary:
        student.save(temporary)

    def returns(
        act: "Callable[[Any], np.ndarray]", view: "Callable[[VecEnv], VecEnv]" = lambda env: env
    ) -> "np.ndarray":
        return episode_returns(act, lambda n: view(make_env(n)), args.eval_episodes, EVALUATION_SEED, MAX_EPISODE_STEPS)

    steps = None if args.memory else student.num_timesteps  # those of a memory were taken before
    students_play = returns(report.greedy(student.predict))
    players = [
        report.Player("teacher", returns(teacher.act, teacher.view), teacher.n_parameters),
        report.Player("student", students_play, actor_size(student.policy), steps, seconds),
        report.Player("random play", returns(random_play(student.action_space, args.eval_episodes))),
    ]
    title = f"{hyphens(args.method)} with {args.engine.upper()} on {args.env}"
    write_results(out, args, teacher, student, players)
    write_curve(out, args, title, curve, players)
    report.show(
        report.result_table(players, f"{title}: the same {args.eval_episodes} episodes for all", teacher.n_parameters)
    )
    sys.stdout.write(f"Written to {out}:\n" + "".join(f"  {out / name}\n" for name in report.RUN_FILES))
    sys.stdout.write("Load the student:\n" + "".join(f"  {line}\n" for line in loading_lines(args.engine, out)))


def write_results(
    out: Path,
    args: argparse.Namespace,
    teacher: "Teacher",
    student: "Distillation | PolicyDistillation",
    players: "list[Player]",
) -> None:
    """
    Write ``results.json``: all that the run was made from, and what came of it.

    :param out: a folder
    :param args: of ``distill``
    :param teacher: the student's
    :param student: trained
    :param players: teacher, student and others
    """
    from sb3_distill.files import write_json
    from sb3_distill.report import result_data

    data = {
        "settings": settings(args, student),
        "teacher": about_teacher(args, teacher),
        "players": result_data(players),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }
    write_json(out / "results.json", data)


def write_curve(
    out: Path, args: argparse.Namespace, title: str, curve: "LearningCurve", players: "list[Player]"
) -> None:
    """
    Write ``learning_curve.csv`` and draw it as ``learning_curve.png``.

    :param out: a folder
    :param args: of ``distill``
    :param title: above the figure
    :param curve: of the student
    :param players: of whom the student has a curve, and the others a horizontal line each
    """
    from sb3_distill import report
    from sb3_distill.files import write_csv, write_figure

    unit = "minibatches" if args.memory else "environment steps"
    write_csv(
        out / "learning_curve.csv",
        [unit.replace(" ", "_"), "mean_return", "standard_error", "n_episodes"],
        [(steps, *point) for steps, point in curve.points],
    )
    names = {p.name: f"{p.name}, {p.parameters:,} parameters" if p.parameters else p.name for p in players}
    levels = [report.Level(names[p.name], report.score(p.returns)) for p in players if p.name != "student"]
    note = (
        f"mean ± standard error of {CURVE_EPISODES} episodes (student) or {args.eval_episodes} (teacher, random play)"
    )
    figure = report.draw_learning_curves([curve.curve(names["student"])], levels, title, note)
    figure.axes[0].set_xlabel(unit)
    write_figure(out / "learning_curve.png", figure)


def describe(about: dict[str, Any]) -> str:
    """
    :param about: a teacher, see :func:`about_teacher`
    :return: a line about it
    """
    line = f"Teacher {about['name']}: {about['parameters']:,} parameters"
    if "temperature" not in about:
        return line
    return (
        f"{line}, temperature {about['temperature']:.3g} ({about['temperature_report']}), epsilon {about['epsilon']:g}"
    )


def about_teacher(args: argparse.Namespace, teacher: "Teacher") -> dict[str, Any]:
    """
    :param args: of ``distill``, settled
    :param teacher: loaded
    :return: its name and size and, of a Q-network, how its policy is made, if the method learns from that
    """
    from sb3_distill.teachers import QTeacher

    about: dict[str, Any] = {"name": teacher.name, "parameters": teacher.n_parameters}
    if isinstance(teacher, QTeacher) and args.method != cli_offline.NAME:
        about |= {
            "temperature": teacher.temperature,
            "temperature_report": teacher.temperature_report,
            "epsilon": teacher.epsilon,
        }
    return about


def train(student: "Distillation | PolicyDistillation", steps: int, curve: "LearningCurve") -> float:
    """
    :param student: untrained
    :param steps: environment steps, or minibatches of a memory
    :param curve: evaluates the student now and then
    :return: seconds of training, without those of the evaluations
    """
    start = time.perf_counter()
    student.learn(steps, callback=curve, progress_bar=True)
    return time.perf_counter() - start - curve.seconds


def settings(args: argparse.Namespace, student: "Distillation | PolicyDistillation") -> dict[str, Any]:
    """
    :param args: of ``distill``, settled
    :param student: made from them
    :return: the arguments that the method has, with its own values for those that were left out
    """
    from sb3_distill.distillation import Distillation

    foreign = cli_offline.OPTIONS if isinstance(student, Distillation) else tuple(ROW_OPTIONS)
    left_out = ("prepare", "command", "overwrite", "module", *foreign)
    given = {name: value for name, value in vars(args).items() if name not in left_out}
    given["env"] = f"{args.module}:{args.env}" if args.module else args.env
    given["teacher"] = args.teacher or default_teacher(args.env)
    if not isinstance(student, Distillation):
        return given | cli_offline.settings(student)
    coefficients = {name: getattr(student, name)(1.0) for name in ("loss_coef", "reward_coef", "env_reward_coef")}
    return given | {"control": student.control} | coefficients


def loading_lines(engine: str, out: Path) -> list[str]:
    """
    :param engine: whose machinery trained
    :param out: the folder with the student
    :return: two lines of Python
    """
    name = engine.upper()
    path = json.dumps(str(out / "student.zip"), ensure_ascii=False)
    return [f"from stable_baselines3 import {name}", f"student = {name}.load({path})"]


def default_env(args: argparse.Namespace) -> str:
    """
    :param args: of ``distill``
    :return: the environment of what was named: of the memory, or of the teacher's training; the bundled agent's if neither was
    :raises ValueError: if nothing says it; also for a memory or a teacher that cannot be read
    """
    from sb3_distill.policy_distillation import open_memory
    from sb3_distill.zoo.teachers import find_agent, read_training_of

    if args.memory is None and args.teacher is None:
        return "CartPole-v1"
    if args.memory is not None:
        env_id = open_memory(args.memory).about.env_id
    else:
        trained = read_training_of(find_agent(args.teacher))
        env_id = None if trained is None else trained.env_id
    if env_id is None:
        raise ValueError(f"Nothing says which environment {args.memory or args.teacher} is of: add --env.")
    return env_id


def default_teacher(env_id: str) -> str:
    """
    :param env_id: a Gymnasium id
    :return: the name of the teacher for it
    """
    return f"zoo:dqn/{env_id}"


def hyphens(name: str) -> str:
    """
    :param name: of a method
    :return: as it is typed
    """
    return name.replace("_", "-")
