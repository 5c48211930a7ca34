"""``sb3-distill record``: a teacher plays, and its memory is written to disk."""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sb3_distill.cli.arguments import add_environment, number, whole
from sb3_distill.common.own_env import split_module

if TYPE_CHECKING:
    from sb3_distill.memory.disk import DiskMemory


def add_commands(commands: Any) -> None:
    """
    :param commands: the subparsers of ``sb3-distill``
    """
    record = commands.add_parser(
        "record",
        help="record a teacher's memory",
        description="Let a teacher play, and write to disk the states that it meets and what it says about them. What was "
        "stopped goes on when the same command is given again.",
    )
    record.set_defaults(prepare=prepare_record)
    add = record.add_argument
    add(
        "teacher",
        metavar="TEACHER",
        help="zoo:ALGO/ENV, hub:OWNER/NAME, the path of an SB3 zip, of a folder of the RL Zoo, or of a run of 'distill', or MODULE:NAME "
        "of a function",
    )
    add_environment(add, "where the teacher was trained")
    add("--steps", default=100_000, type=whole(1), metavar="N", help="states to record (default: %(default)s)")
    add("--n-envs", default=8, type=whole(1), metavar="N", help="environments side by side (default: %(default)s)")
    add("--epsilon", default=0.05, type=number, metavar="ε", help="share of random actions (default: %(default)s)")
    add("--seed", default=0, type=whole(0), metavar="N", help="of everything random (default: %(default)s)")
    add(
        "--device",
        default="auto",
        metavar="NAME",
        help="where the teacher answers: cpu, cuda, … (default: %(default)s)",
    )
    add("--out", metavar="FOLDER", help="where the memory goes (default: runs/memory-ENV-SEED)")
    add("--quiet", action="store_true", help="show no progress")
    add("--json", action="store_true", help="say what was recorded for programs")


def prepare_record(args: argparse.Namespace) -> Callable[[], None]:
    """
    :param args: see ``sb3-distill record --help``
    :return: plays and writes
    :raises ValueError: for what does not exist or does not go together; also OSError and ImportError
    """
    from sb3_distill.agents.find import find_agent
    from sb3_distill.agents.load import load_teacher
    from sb3_distill.agents.training_envs import training_of
    from sb3_distill.cli.teacher_names import typed_teacher
    from sb3_distill.common.phases import phase
    from sb3_distill.memory.recorder import check_numbers, prepare

    args.teacher = typed_teacher(args.teacher)
    check_numbers(args.steps, args.epsilon, args.seed)
    with phase(f"Loading {args.teacher}", args.quiet):
        trained = training_of(find_agent(args.teacher), args.teacher, args.env, args.env_kwargs)
        out = args.out or f"runs/memory-{str(trained.env_id).replace('/', '-')}-{args.seed}"
        env = trained.make_vec_env(args.n_envs)
        module = split_module(args.env or "")[0] or None
        teacher = load_teacher(args.teacher, tune=False, device=args.device)
        play = prepare(teacher, env, args.steps, out, args.epsilon, args.seed, trained.env_kwargs, module)
    return partial(record_and_tell, play, out, args.quiet, args.json)


def record_and_tell(play: "Callable[[bool], DiskMemory]", out: str, quiet: bool = False, as_json: bool = False) -> None:
    """
    :param play: with a progress bar or without, to a memory
    :param out: the folder of the memory
    :param quiet: whether no progress is shown
    :param as_json: whether the result is told for programs
    :raises KeyboardInterrupt: if it is interrupted, with what becomes of what was recorded
    """
    from sb3_distill.common.phases import phase

    try:
        if sys.stderr.isatty() and not quiet:
            memory = play(True)
        else:
            with phase(f"Recording into {out}", quiet):
                memory = play(False)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"what was recorded is in {out}, and the same command goes on with it") from None
    size = sum(file.stat().st_size for file in Path(memory.path).iterdir())
    if as_json:
        about = {
            "path": str(memory.path),
            "states": len(memory),
            "episodes": memory.n_episodes,
            "teacher": memory.about.teacher,
            "env": memory.about.env_id,
            "env_kwargs": memory.about.env_kwargs,
            "seed": memory.seed,
            "bytes": size,
        }
        sys.stdout.write(json.dumps(about, indent=2, ensure_ascii=False) + "\n")
        return
    sys.stdout.write(
        f"{len(memory):,} states of {memory.n_episodes:,} episodes of {memory.about.teacher} in {memory.path}: {size / 1e6:.1f} MB, "
        f"{size / len(memory):,.0f} bytes a state.\n"
    )
