"""Runs rl_zoo3's own scripts with the distillation algorithms registered in them.

``train`` and ``enjoy`` have scripts of their own here. ``python -m sb3_distill.zoo.rl_zoo record_video --algo n_distill …``
is ``python -m rl_zoo3.record_video``, and any other module of rl_zoo3 runs likewise.
"""

import importlib
import importlib.util
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from sb3_distill.common.own_env import import_environment, split_module, working_directory_on_path

USAGE = "usage: python -m sb3_distill.zoo.rl_zoo MODULE ..., where MODULE is one of rl_zoo3's, such as record_video"


def rl_zoo3_module(name: str) -> ModuleType:
    """
    Import a module of rl_zoo3 after the algorithms are registered; without rl_zoo3 the process ends in one line.

    :param name: without ``rl_zoo3.``
    :return: the module
    """
    try:
        importlib.import_module("sb3_distill.zoo.registration")
        return importlib.import_module(f"rl_zoo3.{name}")
    except ModuleNotFoundError as error:
        sys.exit(f"{error}: pip install 'sb3-distill[zoo]'")


def run(program: str, name: str) -> int:
    """
    Run a function of rl_zoo3 with the arguments of the process, in whose working directory modules may be. ``--env MODULE:ID`` is
    ``--env ID --gym-packages MODULE``.

    :param program: as the user calls it, for messages
    :param name: of a module of rl_zoo3, which has a function of that name
    :return: exit code: 0; 2 after an error of the user's, which stderr explains in a line; 130 after Ctrl+C
    """
    if Path.cwd() != Path(__file__).resolve().parent:  # where our modules would hide others of the same name
        working_directory_on_path()
    try:
        sys.argv[1:] = with_packages(sys.argv[1:])
        function: Callable[[], None] = getattr(rl_zoo3_module(name), name)
        function()
    except KeyboardInterrupt:
        sys.stderr.write(f"{program}: interrupted\n")
        return 130
    except (
        BrokenPipeError
    ):  # whoever read the output has gone, and Python would say at its end that it cannot be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (OSError, ValueError, ImportError) as error:
        message = " ".join(str(error).split())
        if message.startswith("Hyperparameters not found"):
            message += ": write an entry for it into a file of your own, and give that with -conf FILE (docs/rl_zoo.md)"
        elif "not found in gym registry" in message:
            message += " If a module of yours registers it, name that, too: --env my_module:ID"
        elif message.startswith(("Observation spaces do not match", "Action spaces do not match")):
            message = f"The agent that was given is of another environment than --env. {message}"
        sys.stderr.write(f"{program}: error: {message}\n")
        return 2
    return 0


def with_packages(argv: list[str]) -> list[str]:
    """
    >>> with_packages(["--env", "sb3_distill.envs:MinAtar/Breakout-v1", "--gym-packages", "json"])
    ['--env', 'MinAtar/Breakout-v1', '--gym-packages', 'sb3_distill.envs', 'json']

    :param argv: of rl_zoo3
    :return: the same, without a module before the environment's id: rl_zoo3 has a flag for it
    :raises ValueError: if the module is not there, cannot be imported or does not register that environment
    """
    argv = [part for given in argv for part in (given.split("=", 1) if given.startswith("--env=") else [given])]
    if "--env" not in argv[:-1]:
        return argv
    place = argv.index("--env") + 1
    module, _ = split_module(argv[place])
    if not module:
        return argv
    argv[place] = import_environment(argv[place])
    if "--gym-packages" in argv:
        argv.insert(argv.index("--gym-packages") + 1, module)
        return argv
    return [*argv, "--gym-packages", module]


def main() -> None:
    """Run the module of rl_zoo3 that the first argument names, with the other arguments."""
    if Path.cwd() != Path(__file__).resolve().parent:
        working_directory_on_path()
    rl_zoo3_module("utils")
    module = f"rl_zoo3.{sys.argv.pop(1)}" if len(sys.argv) > 1 else ""
    if not module or importlib.util.find_spec(module) is None:
        sys.exit(USAGE)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
