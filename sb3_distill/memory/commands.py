"""``sb3-distill record``: a teacher plays, and its memory is written to disk."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        help="zoo:ALGO/ENV, hub:OWNER/NAME, or the path of an SB3 zip or of a folder of the RL Zoo",
    )
    add("--env", metavar="ID", help="Gymnasium environment (default: where the teacher was trained)")
    add("--steps", default=100_000, type=int, metavar="N", help="states to record (default: %(default)s)")
    add("--n-envs", default=8, type=int, metavar="N", help="environments side by side (default: %(default)s)")
    add("--epsilon", default=0.05, type=float, metavar="ε", help="share of random actions (default: %(default)s)")
    add("--seed", default=0, type=int, metavar="N", help="of everything random (default: %(default)s)")
    add("--out", metavar="FOLDER", help="where the memory goes (default: runs/memory-ENV-SEED)")


def prepare_record(args: argparse.Namespace) -> Callable[[], None]:
    """
    :param args: see ``sb3-distill record --help``
    :return: plays and writes
    :raises ValueError: for what does not exist or does not go together; also OSError and ImportError
    """
    from sb3_distill.distillation import check_env_id
    from sb3_distill.memory.recorder import check_numbers, prepare
    from sb3_distill.zoo.settings import usual_training
    from sb3_distill.zoo.teachers import find_agent, load_teacher, read_training_of

    check_numbers(args.steps, args.epsilon, args.seed)
    if args.n_envs < 1:
        raise ValueError(f"n_envs must be a whole number of at least 1, not {args.n_envs}.")
    if args.env is not None:
        check_env_id(args.env)
    trained = read_training_of(find_agent(args.teacher))
    if args.env is not None and (trained is None or trained.env_id != args.env):
        trained = usual_training(args.env)
    if trained is None or trained.env_id is None:
        raise ValueError(f"Nothing says where {args.teacher} was trained: add --env.")
    out = args.out or f"runs/memory-{trained.env_id.replace('/', '-')}-{args.seed}"
    env = trained.make_vec_env(args.n_envs)
    play = prepare(load_teacher(args.teacher, tune=False), env, args.steps, out, args.epsilon, args.seed)
    return partial(record_and_tell, play)


def record_and_tell(play: "Callable[[bool], DiskMemory]") -> None:
    """
    :param play: with a progress bar or without, to a memory
    """
    memory = play(sys.stderr.isatty())
    size = sum(file.stat().st_size for file in Path(memory.path).iterdir())
    sys.stdout.write(
        f"{len(memory):,} states of {memory.n_episodes:,} episodes of {memory.about.teacher} in {memory.path}: {size / 1e6:.1f} MB, "
        f"{size / len(memory):,.0f} bytes a state.\n"
    )
