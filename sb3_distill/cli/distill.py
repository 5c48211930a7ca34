"""``sb3-distill distill``: what can be typed, what it means, and what is told in the end."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sb3_distill.cli import offline as cli_offline
from sb3_distill.cli.arguments import Joined, add_environment, number, number_or_auto, whole, wholes
from sb3_distill.cli.teacher_names import typed_teacher
from sb3_distill.common.flags import in_flags
from sb3_distill.common.own_env import import_environment
from sb3_distill.experiment import offline as policy_distillation

if TYPE_CHECKING:
    from sb3_distill.experiment.run import Experiment, Outcome, Plan, Settings
    from sb3_distill.experiment.run_folder import RunFolder
    from sb3_distill.memory.memory import About

#: options of the rows, with what they are if they are not given; None is the constructor's own
ROW_OPTIONS = {
    "form": "unbiased",
    "baseline": "teacher",
    "control": None,
    "loss_coef": None,
    "reward_coef": None,
    "env_reward_coef": None,
    "gamma": None,
}
#: what the name of the default folder begins with, and what changes nothing about the student
UNNAMED = ("method", "engine", "env", "seed", "threads", "device", "eval_episodes", "tensorboard_log")
#: what is in that name only where runs differ in it
ALSO_NAMED = ("net_arch", "steps", "n_envs", "temperature")


def add_options(distill: argparse.ArgumentParser) -> None:
    """
    :param distill: the parser of ``sb3-distill distill``
    """
    distill.set_defaults(prepare=prepare_distill)
    add = distill.add_argument_group("what").add_argument
    add_environment(add, "that of --memory, with its arguments, or where --teacher was trained, or CartPole-v1")
    add(
        "--teacher",
        metavar="NAME",
        help="the path of an SB3 zip or of a folder of the RL Zoo, zoo:ALGO/ENV (zoo: may be left out), or hub:OWNER/NAME "
        "(default: zoo:dqn/ENV)",
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
        help="ppo, a2c or trpo: whose machinery trains (default: ppo); of policy-distillation dqn or ppo: what the student is "
        "(default: dqn)",
    )
    add(
        "--net-arch",
        default=[32, 32],
        type=wholes(1),
        action=Joined,
        nargs="*",
        metavar="UNITS",
        help="hidden layers of the student, 64,64 or 64 64; nothing after it for a linear student (default: 32 32)",
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
        type=whole(1),
        metavar="N",
        help="environment steps, such as 100k or 1e5; with --memory, minibatches (default: %(default)s)",
    )
    add("--n-envs", default=8, type=whole(1), metavar="N", help="environments side by side (default: %(default)s)")
    add("--seed", default=0, type=whole(0), metavar="N", help="of everything random (default: %(default)s)")
    add(
        "--learning-rate",
        type=number,
        metavar="X",
        help="a constant one (default: the method's own, which falls)",
    )
    add(
        "--threads",
        type=whole(1),
        metavar="N",
        help="of PyTorch (default: 1, which is fastest for networks as small as MlpPolicy's; PyTorch's own for images)",
    )
    add("--device", metavar="NAME", help="cpu, cuda, … (default: cpu; for images the fastest there is)")

    add = distill.add_argument_group("the teacher, if it is a Q-network: (1-ε) softmax(Q/τ) + ε/|A|").add_argument
    add(
        "--temperature",
        default="auto",
        type=number_or_auto,
        metavar="τ",
        help="auto takes the largest that plays as greedily acting does; of policy-distillation for its loss (default: %(default)s)",
    )
    add(
        "--epsilon",
        type=number,
        metavar="ε",
        help="between 0 and 1 (default: 0.01); of policy-distillation the probability of a random action (default: 0.05)",
    )

    add = distill.add_argument_group("the method, if it is a row of 'sb3-distill methods'").add_argument
    add("--form", metavar="NAME", help="unbiased or paper (default: unbiased)")
    add("--baseline", metavar="NAME", help="of teacher-v-reward: teacher or student (default: teacher)")
    add("--control", metavar="NAME", help="who acts: student, teacher or uniform (default: the method's own)")
    add("--loss-coef", type=number, metavar="X", help="weight of the loss ℓ (default: 1)")
    add("--reward-coef", type=number, metavar="X", help="weight of the reward r̂ (default: the method's own)")
    add("--env-reward-coef", type=number, metavar="X", help="weight of the environment's reward (default: 0)")
    add("--gamma", type=number, metavar="γ", help="discount of the student's rewards (default: the method's own)")

    cli_offline.add_options(distill)

    add = distill.add_argument_group("results").add_argument
    add(
        "--eval-episodes",
        default=100,
        type=whole(2),
        metavar="N",
        help="for teacher and student each, at the end (default: %(default)s)",
    )
    add(
        "--out",
        metavar="FOLDER",
        help="where the files go; a run that was stopped there goes on (default: runs/METHOD-ENGINE-ENV-SEED, and what differs from "
        "the defaults)",
    )
    add(
        "--overwrite",
        action="store_true",
        help="replace a finished run that the folder holds, or an unfinished one with other settings",
    )
    add("--tensorboard-log", metavar="FOLDER", help="of TensorBoard's logs, for any number of runs")
    add("--json", action="store_true", help="print the results as JSON, and nothing else, on stdout")
    talk = distill.add_mutually_exclusive_group().add_argument
    talk("-q", "--quiet", action="store_true", help="say nothing but errors and warnings")
    talk("-v", "--verbose", action="store_true", help="print SB3's log of every rollout, in place of the progress bar")


# --- before the work --------------------------------------------------------------------------------------------------


def prepare_distill(args: argparse.Namespace) -> Callable[[], None]:
    """
    Check the arguments, cheapest first, load the teacher and build the student.

    :param args: see ``sb3-distill distill --help``
    :return: trains and writes
    :raises ValueError: for what does not exist or does not go together; also OSError and ImportError
    """
    with only_json(args.json):
        return _prepared(args)


def _prepared(args: argparse.Namespace) -> Callable[[], None]:
    settle_method(args)
    args.teacher = args.teacher and typed_teacher(args.teacher)
    from sb3_distill.experiment.run import Experiment, prepare
    from sb3_distill.experiment.run_folder import RunFolder

    with in_flags():
        settings = settings_of(args)
        plan = prepare(settings, verbose=int(args.verbose))
        out = Path(args.out).expanduser() if args.out else default_out(plan, args.env_kwargs)
        folder = RunFolder(out, plan.described, args.overwrite)
        if folder.finished:
            return partial(tell_finished, args, folder)
        return partial(distill_or_tell, args, Experiment(plan, folder, args.quiet))


def settle_method(args: argparse.Namespace) -> None:
    """
    Check what says how is learnt, and fill in what was left out.

    :param args: of ``distill``; ``method`` becomes the name with underscores, and ``engine`` and the rows' options get values
    :raises ValueError: for a name that there is not, and options that the method does not have
    """
    from sb3_distill.algorithms.engines import ENGINES
    from sb3_distill.common.nearest import nearest
    from sb3_distill.rules.methods import METHODS, get_method

    method = args.method.replace("-", "_")
    choices = (*METHODS["unbiased"], policy_distillation.NAME)
    if method not in choices:
        raise ValueError(f"Unknown method {args.method!r}: {nearest(method, choices)}")
    args.method = method
    offline = method == policy_distillation.NAME
    foreign = tuple(ROW_OPTIONS) if offline else policy_distillation.OPTIONS
    given = [f"--{hyphens(name)}" for name in foreign if getattr(args, name) is not None]
    if given:
        raise ValueError(
            f"--method {hyphens(method)} has no {' and no '.join(given)}: leave out what it does not have."
        )
    engines = policy_distillation.ENGINES if offline else tuple(ENGINES)
    args.engine = engines[0] if args.engine is None else args.engine
    if args.engine not in engines:
        raise ValueError(f"Unknown engine {args.engine!r} of {hyphens(method)}: {nearest(args.engine, engines)}")
    if offline:
        cli_offline.check_options(args)
        return
    for name, value in ROW_OPTIONS.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    with in_flags():
        get_method(method, args.form, args.baseline)


def settings_of(args: argparse.Namespace) -> "Settings":
    """
    :param args: of ``distill``, settled
    :return: the experiment that they describe
    :raises ValueError: if nothing says which environment it is, or there is no such; also OSError and ImportError
    """
    from dataclasses import fields

    from sb3_distill.algorithms.policy_distillation import open_memory
    from sb3_distill.experiment.run import Settings
    from sb3_distill.memory.check import check_memory

    about = None if args.memory is None else open_memory(args.memory).about
    env = args.env or (default_env(args.teacher) if about is None else env_of_memory(args.memory, about))
    env_id = import_environment(env)
    if about is not None:
        check_memory(about, env_id=env_id, name=f"The memory {args.memory}")
    given = {f.name: getattr(args, f.name) for f in fields(Settings)}
    if about is not None:  # it plays where its states are from, but for what is asked for
        given["env_kwargs"] = {**(about.env_kwargs or {}), **args.env_kwargs}
    teacher = args.teacher or (default_teacher(env_id) if about is None else teacher_of_memory(args.memory, about))
    return Settings(**given | {"env": env, "teacher": teacher, "net_arch": tuple(args.net_arch)})


def default_out(plan: "Plan", env_kwargs: Mapping[str, Any]) -> Path:
    """
    :param plan: of the experiment
    :param env_kwargs: that were typed, without those of a memory
    :return: where its files go if nothing else is said
    """
    from dataclasses import asdict

    from sb3_distill.experiment.run import Settings
    from sb3_distill.experiment.run_folder import default_folder

    settings = plan.settings
    start = f"{hyphens(settings.method)}-{settings.engine}-{settings.env_id.replace('/', '-')}-{settings.seed}"
    usual = asdict(Settings(settings.env, default_teacher(settings.env_id))) | ROW_OPTIONS
    typed = asdict(settings) | {"env_kwargs": dict(env_kwargs)}
    given = {name: value for name, value in typed.items() if value not in (None, usual[name])}
    also = {name: given[name] for name in ALSO_NAMED if name in given}
    if settings.memory is not None:  # whose teacher it is, and whose path may be long
        given.pop("teacher", None)
        also["memory"] = given["memory"]
        given["memory"] = Path(settings.memory).expanduser().absolute().name.removeprefix("memory-")
    named = {name: value for name, value in given.items() if name not in (*UNNAMED, *ALSO_NAMED)}
    return default_folder(start, named, also, plan.described)


def default_env(teacher: str | None) -> str:
    """
    :param teacher: as it was typed, if it was
    :return: the environment of its training; the bundled agent's if no teacher was named
    :raises ValueError: if nothing says it; also for a teacher that cannot be read
    """
    from sb3_distill.agents.find import find_agent, read_training_of
    from sb3_distill.agents.training_envs import of_unknown_module

    if teacher is None:
        return "CartPole-v1"
    agent = find_agent(teacher)
    trained = read_training_of(agent)
    if trained is None or trained.env_id is None:
        raise ValueError(
            of_unknown_module(agent, teacher) or f"Nothing says which environment {teacher} is of: add --env."
        )
    return trained.env_id


def env_of_memory(memory: str, about: "About") -> str:
    """
    :param memory: as it was typed
    :param about: what it is of
    :return: the environment that it was recorded in
    :raises ValueError: if it does not say, or that is not registered here
    """
    import gymnasium as gym

    from sb3_distill.common.env_ids import is_known

    env_id = about.env_id
    if env_id is None:
        raise ValueError(f"Nothing says which environment {memory} is of: add --env.")
    if env_id not in gym.registry and (about.module or not is_known(env_id)):
        of = f"{about.module or 'MODULE'}:{env_id}"
        raise ValueError(
            f"The memory {memory} was recorded in {of}, which is not registered here: add --env {of} if you trust that module, "
            "which is imported then."
        )
    return env_id


def teacher_of_memory(memory: str, about: "About") -> str:
    """
    :param memory: as it was typed
    :param about: what it is of
    :return: the teacher that it names, if that is at hand: of the zoo, or a path
    :raises ValueError: if it is not
    """
    from sb3_distill.agents.find import zoo_folders

    name = about.teacher
    if name in zoo_folders():
        return f"zoo:{name}"
    if Path(name).exists():
        return name
    raise ValueError(f"The memory {memory} is of the teacher {name!r}, which is not here: add --teacher.")


def default_teacher(env_id: str) -> str:
    """
    :param env_id: a Gymnasium id
    :return: the name of the teacher for it
    """
    return f"zoo:dqn/{env_id}"


@contextmanager
def only_json(asked: bool) -> Iterator[None]:
    """
    A context in which whatever is printed goes to stderr.

    :param asked: whether it does
    """
    if not asked:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


# --- the work ---------------------------------------------------------------------------------------------------------


def distill_or_tell(args: argparse.Namespace, experiment: "Experiment") -> None:
    """
    :func:`distill`, or say that another process, which was begun earlier, has done it meanwhile.

    :param args: of ``distill``
    :param experiment: prepared
    """
    from sb3_distill.experiment.run_folder import FinishedError

    try:
        distill(args, experiment)
    except FinishedError:
        tell_finished(args, experiment.folder)


def distill(args: argparse.Namespace, experiment: "Experiment") -> None:
    """
    Train the student, compare it with its teacher, write the files, and tell of them.

    :param args: of ``distill``
    :param experiment: prepared
    """
    folder = experiment.folder
    with only_json(args.json), folder.at_work():
        from sb3_distill.experiment.run import about_teacher

        experiment.catch_up()
        about = about_teacher(experiment.teacher, experiment.plan.settings)
        if not args.quiet:
            sys.stdout.write(f"{describe(about)}\n")
            if experiment.steps_before:
                sys.stdout.write(
                    f"Going on in {folder.path} after {experiment.steps_before:,} of {args.steps:,} steps; episodes begin anew.\n"
                )
        with in_flags():
            outcome = experiment.run()
        if not args.quiet:
            if about.get("temperature", 0) is None:
                sys.stdout.write(f"{describe(outcome.data['teacher'])}\n")
            tell(args, experiment, outcome)
    if args.json:
        tell_json(outcome.data)


def tell(args: argparse.Namespace, experiment: "Experiment", outcome: "Outcome") -> None:
    """
    Print what came of an experiment.

    :param args: of ``distill``
    :param experiment: ended
    :param outcome: of it
    """
    from sb3_distill.evaluation import scores
    from sb3_distill.experiment.run import episode_limit
    from sb3_distill.experiment.run_folder import RUN_FILES

    settings, out = experiment.plan.settings, experiment.folder.path
    title = f"{settings.title}: the same {args.eval_episodes} episodes for all"
    scores.show(scores.result_table(outcome.players, title, experiment.teacher.n_parameters))
    sys.stdout.write("".join(f"{line}\n" for line in outcome.lines))
    n_cut = sum(player.n_cut for player in outcome.players)
    if n_cut:
        sys.stdout.write(f"Cut are episodes that had not ended after {episode_limit(settings.env_id):,} steps.\n")
    sys.stdout.write(f"Written to {out}:\n" + "".join(f"  {out / name}\n" for name in RUN_FILES))
    sys.stdout.write("Load the student:\n" + "".join(f"  {line}\n" for line in loading_lines(args.engine, out)))


def tell_finished(args: argparse.Namespace, folder: "RunFolder") -> None:
    """
    Say that there is nothing left to do.

    :param args: of ``distill``
    :param folder: of the run that has ended
    """
    folder.clean()
    if args.json:
        tell_json(folder.read_results())
    elif not args.quiet:
        sys.stdout.write(
            f"{folder.path} holds a student already, of this very command: choose another folder with --out, or add --overwrite "
            "to train it again.\n"
        )


def tell_json(data: Mapping[str, Any]) -> None:
    """
    :param data: to be printed
    """
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def describe(about: dict[str, Any]) -> str:
    """
    :param about: a teacher, see :func:`~sb3_distill.experiment.run.about_teacher`
    :return: a line about it
    """
    line = f"Teacher {about['name']}: {about['parameters']:,} parameters"
    if "temperature" not in about:
        return line
    if about["temperature"] is None:
        return (
            f"{line}, temperature to be chosen from the observations of the first rollout, epsilon {about['epsilon']:g}"
        )
    return (
        f"{line}, temperature {about['temperature']:.3g} ({about['temperature_report']}), epsilon {about['epsilon']:g}"
    )


def loading_lines(engine: str, out: Path) -> list[str]:
    """
    :param engine: whose machinery trained
    :param out: the folder with the student
    :return: two lines of Python
    """
    name = engine.upper()
    path = json.dumps(str(out / "student.zip"), ensure_ascii=False)
    return [f"from stable_baselines3 import {name}", f"student = {name}.load({path})"]


def hyphens(name: str) -> str:
    """
    :param name: of a method
    :return: as it is typed
    """
    return name.replace("_", "-")
