"""Shell completion by argcomplete: commands, flags, and names of methods and of teachers, without PyTorch, which takes seconds."""

import argparse
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sb3_distill.cli.parser import commands_of

SHELLS = ("bash", "zsh", "fish")
#: what ``--method`` takes
METHODS = (
    "teacher-distill",
    "on-policy-distill",
    "entropy-regularised",
    "n-distill",
    "expected-entropy",
    "teacher-v-reward",
    "kickstarting",
    "proximal-distill",
    "policy-distillation",
)


class PrintCompletion(argparse.Action):
    """Prints what a shell has to be told, and ends."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        try:
            import argcomplete
        except ImportError as error:
            raise ImportError("Completion needs argcomplete: pip install 'sb3-distill[completion]'.") from error
        print(argcomplete.shellcode([parser.prog], shell=values))  # type: ignore[no-untyped-call]
        parser.exit()


def complete(parser: argparse.ArgumentParser) -> None:
    """
    Answer the shell and end, if it is the shell that asks; else do nothing.

    :param parser: with subcommands
    """
    if "_ARGCOMPLETE" not in os.environ:
        return
    try:
        import argcomplete
    except ImportError:
        return
    for command in commands_of(parser).values():
        for action in command._actions:
            names = _completer(action)
            if names is not None:
                action.completer = names  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, always_complete_options="long")


def _completer(action: argparse.Action) -> Callable[..., Iterable[str]] | None:
    if action.dest == "method":
        return lambda **about: METHODS
    if action.dest in ("teacher", "agent"):
        return _agents
    return None


def _agents(prefix: str = "", **about: Any) -> list[str]:
    """``zoo:`` names, or paths."""
    if prefix and "zoo:".startswith(prefix[:4]):
        return zoo_names()
    from argcomplete.completers import FilesCompleter

    return [*zoo_names(), *FilesCompleter()(prefix)]  # type: ignore[no-untyped-call]


def zoo_names() -> list[str]:
    """
    :return: ``zoo:ALGO/ENV`` of all agents at hand
    """
    from sb3_distill import zoo

    roots = [Path(str(zoo.__file__)).parent / "agents"]
    roots += [Path(root).expanduser() for root in os.environ.get("RL_TRAINED_AGENTS", "").split(os.pathsep) if root]
    return sorted(
        {
            f"zoo:{folder.parent.name}/{folder.name.rpartition('_')[0]}"
            for root in roots
            for folder in root.glob("*/*_*")
            if folder.name.rpartition("_")[2].isdigit()
        }
    )
