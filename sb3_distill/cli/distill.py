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

if TYPE_CHECKING:
    from sb3_distill.experiment.outcome import Outcome
    from sb3_distill.experiment.run import Experiment
    from sb3_distill.experiment.run_folder import RunFolder


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
        help="the path of an SB3 zip or of a folder of the RL Zoo, zoo:ALGO/ENV (zoo: may be left out), hub:OWNER/NAME, or MODULE:NAME of "
        "a function of yours (default: zoo:dqn/ENV)",
    )
    add(
        "--student-obs",
        metavar="WHAT",
        help="what the student sees, if it is not what its teacher reads: pixels, which the environment draws, pixels:42 of another size "
        "than 84 × 84, pixels:inverted where they are mostly white, pixels:84:rgb:frames=2 with colours and in stacks of 2, or a key of "
        "the environment's Dict",
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
        help="whose machinery trains: ppo, a2c, trpo, recurrent_ppo for a student that remembers, or maskable_ppo for one that "
        "heeds masks (default: ppo); of "
        "policy-distillation dqn or ppo: what the student is "
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
    add(
        "--then-rl",
        type=whole(1),
        metavar="N",
        help="go on from the student by N steps of reinforcement learning that holds on to what was learnt (default: none)",
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

    add(
        "--noise",
        type=number,
        metavar="SHARE",
        help="of any teacher with discrete actions: the share of them that is uniform, between 0 and 1 (default: 0)",
    )

    add = distill.add_argument_group("the method, if it is a row of 'sb3-distill methods'").add_argument
    add("--form", metavar="NAME", help="unbiased or paper (default: unbiased)")
    add("--baseline", metavar="NAME", help="of teacher-v-reward: teacher or student (default: teacher)")
    add(
        "--control",
        metavar="NAME",
        help="who acts: student, teacher, uniform, or mixed, which needs --beta (default: the method's own)",
    )
    add(
        "--beta",
        type=number,
        metavar="β",
        help="of --control mixed: how likely the teacher acts at a step and not the student, between 0 and 1",
    )
    add("--beta-per", metavar="NAME", help="of --control mixed: step or episode, how long a draw holds (default: step)")
    add(
        "--weight",
        metavar="NAME",
        help="of the loss ℓ: v_conditioned counts states in which the teacher's value is above the student's, and proximal has it lean "
        "on actions that have become likelier, both for methods without a reward r̂; return_ratio turns it down as the student's return "
        "nears the teacher's (default: 1)",
    )
    add(
        "--teacher-return",
        type=number,
        metavar="G",
        help="of --weight return_ratio: the teacher's mean return (default: of 10 episodes that it plays)",
    )
    add(
        "--random-return",
        type=number,
        metavar="G",
        help="of --weight return_ratio: that of random play (default: of 10 episodes)",
    )
    add(
        "--reward-bound",
        type=number,
        metavar="X",
        help="the largest |r̂| (default: 5 nats for each dimension of a continuous action, else none)",
    )
    add(
        "--critic",
        metavar="NAME",
        help="what the student's critic learns of the teacher's value: teacher, V_π(s), or td, r + γ V_π(s') (default: the return)",
    )
    add(
        "--loss-coef",
        type=number,
        metavar="X",
        help="weight of the loss ℓ (default: 1; with the environment's reward, it falls to 0)",
    )
    add("--reward-coef", type=number, metavar="X", help="weight of the reward r̂ (default: the method's own)")
    add(
        "--env-reward-coef",
        type=number,
        metavar="X",
        help="weight of the environment's reward (default: 0; of kickstarting and proximal-distill 1)",
    )
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
    args.teacher = args.teacher and typed_teacher(args.teacher)
    from sb3_distill.common.folders import check_folder
    from sb3_distill.experiment.defaults import default_out, settings_from
    from sb3_distill.experiment.plan import prepare
    from sb3_distill.experiment.run import Experiment
    from sb3_distill.experiment.run_folder import RunFolder

    with in_flags():
        if args.out:
            check_folder(Path(args.out).expanduser())
        plan = prepare(settings_from(given(args)), verbose=int(args.verbose))
        out = Path(args.out).expanduser() if args.out else default_out(plan, args.env_kwargs)
        folder = RunFolder(out, plan.described, args.overwrite)
        if folder.finished:
            return partial(tell_finished, args, folder)
        return partial(distill_or_tell, args, Experiment(plan, folder, args.quiet))


def given(args: argparse.Namespace) -> dict[str, Any]:
    """
    :param args: of ``distill``
    :return: what was typed of the settings of an experiment
    """
    from dataclasses import fields

    from sb3_distill.experiment.settings import Settings

    return {f.name: getattr(args, f.name) for f in fields(Settings)}


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
    with only_json(args.json), in_flags(), folder.at_work():
        from sb3_distill.experiment.outcome import about_teacher

        experiment.catch_up()
        about = about_teacher(experiment.teacher, experiment.plan.settings)
        if not args.quiet:
            sys.stdout.write(f"{describe(about)}\n")
            if experiment.steps_before:
                episodes = "go on where they were" if experiment.in_place else "begin anew"
                sys.stdout.write(
                    f"Going on in {folder.path} after {experiment.steps_before:,} of "
                    f"{args.steps + (args.then_rl or 0):,} steps; episodes {episodes}.\n"
                )
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
    from sb3_distill.experiment.outcome import episode_limit
    from sb3_distill.experiment.run_folder import RUN_FILES

    settings, out = experiment.plan.settings, experiment.folder.path
    title = f"{settings.title}: the same {args.eval_episodes} episodes for all"
    scores.show(scores.result_table(outcome.players, title, experiment.teacher.n_parameters))
    sys.stdout.write("".join(f"{line}\n" for line in outcome.lines))
    n_cut = sum(player.n_cut for player in outcome.players)
    if n_cut:
        sys.stdout.write(f"Cut are episodes that had not ended after {episode_limit(settings.env_id):,} steps.\n")
    sys.stdout.write(f"Written to {out}:\n" + "".join(f"  {out / name}\n" for name in RUN_FILES))
    sys.stdout.write("Load the student:\n" + "".join(f"  {line}\n" for line in loading_lines(settings.engine, out)))


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
    :param about: a teacher, see :func:`~sb3_distill.experiment.outcome.about_teacher`
    :return: a line about it
    """
    size = f"{about['parameters']:,} parameters" if about["parameters"] else "no network"
    line = f"Teacher {about['name']}: {size}"
    if about.get("noise"):
        line += f", {about['noise']:.0%} of its actions uniform"
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
    from sb3_distill.cli.push import loaded_by

    package, name = loaded_by(engine)
    path = json.dumps(str(out / "student.zip"), ensure_ascii=False)
    return [f"from {package} import {name}", f"student = {name}.load({path})"]
