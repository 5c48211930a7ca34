"""Runs rl_zoo3's own scripts with the distillation algorithms registered in them.

``train`` and ``enjoy`` have scripts of their own here. ``python -m sb3_distill.zoo.rl_zoo record_video --algo n_distill …``
is ``python -m rl_zoo3.record_video``, and any other module of rl_zoo3 runs likewise.
"""

import importlib
import importlib.util
import runpy
import sys
from types import ModuleType

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


def main() -> None:
    """Run the module of rl_zoo3 that the first argument names, with the other arguments."""
    rl_zoo3_module("utils")
    module = f"rl_zoo3.{sys.argv.pop(1)}" if len(sys.argv) > 1 else ""
    if not module or importlib.util.find_spec(module) is None:
        sys.exit(USAGE)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
