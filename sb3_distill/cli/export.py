"""``sb3-distill export``: an agent becomes a file that runs without Python, and is checked before it is kept."""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sb3_distill.cli.arguments import add_environment, number, whole
from sb3_distill.common.flags import in_flags
from sb3_distill.common.own_object import is_object_name
from sb3_distill.exporting.formats import FORMATS

if TYPE_CHECKING:
    from sb3_distill.exporting.export import Exported


def add_command(commands: Any) -> None:
    """
    :param commands: the subparsers of ``sb3-distill``
    """
    parser = commands.add_parser(
        "export",
        help="write an agent as ONNX, TorchScript or C",
        description=(
            "Write a student or a teacher as a file that takes the environment's observation and gives the action, and compare it "
            "with SB3's predict. Nothing in the agent's files is unpickled or evaluated."
        ),
    )
    parser.set_defaults(prepare=prepare)
    add = parser.add_argument
    add(
        "agent",
        metavar="AGENT",
        help="what 'distill' wrote, an SB3 zip, a folder of the RL Zoo, zoo:ALGO/ENV, hub:OWNER/NAME or a model, MODULE:NAME",
    )
    add("--to", choices=FORMATS, help="the format (default: what the suffix of --out says, else onnx)")
    add(
        "--out",
        metavar="FILE",
        help="where to (default: beside a student or zip of one's own, else in this folder, under its name)",
    )
    add("--int8", action="store_true", help="weights of eight bits, of ONNX and C (default: of float32)")
    add_environment(add, "where the agent was trained")
    add(
        "--observations",
        default=10_000,
        type=whole(1),
        metavar="N",
        help="by which the file is checked (default: %(default)s)",
    )
    add(
        "--tolerance",
        default=1e-5,
        type=number,
        metavar="X",
        help="how much answers may differ from SB3's, in units of max(1, their size) (default: %(default)s)",
    )
    add(
        "--layout",
        choices=["channels-first", "channels-last"],
        help="of images in the file's input (default: the environment's)",
    )
    add("--quiet", action="store_true", help="show no progress")
    add("--json", action="store_true", help="say what was written for programs")


def prepare(args: argparse.Namespace) -> Callable[[], None]:
    """
    :param args: see ``sb3-distill export --help``
    :return: exports
    :raises ValueError: for what does not exist or does not go together; also OSError and ImportError
    """
    with in_flags():
        return _prepared(args)


def _prepared(args: argparse.Namespace) -> Callable[[], None]:
    from sb3_distill.agents.find import find_agent
    from sb3_distill.agents.training_envs import training_of
    from sb3_distill.cli.teacher_names import typed_teacher
    from sb3_distill.exporting.export import is_export, target

    args.agent = typed_teacher(args.agent)
    agent = find_agent(args.agent)
    if args.out is None:
        args.out = str(default_out(args.agent, agent.checkpoint).with_suffix(FORMATS[args.to or "onnx"][0]))
        if Path(args.out).exists() and not is_export(Path(args.out)):
            raise FileExistsError(f"{args.out} is there, and no export: say with --out where this one goes.")
    path, to = target(args.out, args.to or (None if Path(args.out).suffix else "onnx"))
    env = None
    if args.env is not None or args.env_kwargs:
        env = training_of(agent, args.agent, args.env, args.env_kwargs).make_vec_env
    return partial(work, args, path, to, env)


def default_out(source: str, checkpoint: Path) -> Path:
    """
    :param source: of the agent, as it was typed
    :param checkpoint: its zip
    :return: where its file goes, but for the suffix
    """
    if source.startswith(("zoo:", "hub:")):
        return Path(source.partition(":")[2].replace("/", "-") + ".zip")
    return Path(source.replace(":", "-") + ".zip") if is_object_name(source) else checkpoint


def work(args: argparse.Namespace, path: Path, to: str, env: Any) -> None:
    """
    :param args: of ``export``
    :param path: of the file
    :param to: its format
    :param env: makes n environments, if they were asked for
    """
    from sb3_distill.common.phases import phase
    from sb3_distill.exporting.export import export

    with in_flags(), phase(f"Exporting {args.agent}, and comparing it with SB3's predict", args.quiet):
        exported = export(
            args.agent,
            path,
            to,
            env=env,
            int8=args.int8,
            layout=args.layout,
            n_observations=args.observations,
            tolerance=args.tolerance,
        )
    if args.json:
        sys.stdout.write(json.dumps(data_of(exported), indent=2) + "\n")
    else:
        sys.stdout.write(f"{exported}\n")


def data_of(exported: "Exported") -> dict[str, Any]:
    """
    :param exported: a file
    :return: all about it, for JSON
    """
    found = exported._asdict() | {"path": str(exported.path)}
    found["agreement"] = None if exported.agreement is None else exported.agreement._asdict()
    return found
