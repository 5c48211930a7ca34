"""What the tools that kill processes share: processes that have imported all they need, and kills until there are enough."""

import argparse
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

Result = TypeVar("Result")


class Killer:
    """
    Starts processes whose files lie in one folder, to be killed.

    :param folder: where they go
    :param n_steps: of each
    :param seed: of the moments
    :param modules: that are imported before a process starts, so that the moments fall into the work. They start no threads that a
        fork would tear; torch imports a part of itself with its first network
    """

    def __init__(self, folder: Path, n_steps: int, seed: int, *modules: str) -> None:
        self.folder = folder
        self.n_steps = n_steps
        self.dice = np.random.default_rng(seed)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([*modules, "torch._dynamo"])

    def begin(self, target: Callable[..., None], *arguments: Any) -> Any:
        """
        :param target: what the process does
        :param arguments: of it
        :return: the process
        """
        process: Any = self.context.Process(target=target, args=arguments, daemon=True)
        process.start()
        return process


def parser_of(description: str, what: str, n_steps: int) -> argparse.ArgumentParser:
    """
    :param description: of the command
    :param what: is killed, the flag of how many
    :param n_steps: of each, by default
    :return: ``--WHAT``, ``--steps`` and ``--seed``
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(f"--{what}", type=int, default=50, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=n_steps, metavar="N", help="of each (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments (default: %(default)s)")
    return parser


def until(count: int, run: Callable[[int], Result], was_killed: Callable[[Result], Any]) -> list[Result]:
    """
    :param count: results that are wanted
    :param run: from a number that there was not yet to a result
    :param was_killed: whether a result counts: else it had ended before the moment came
    :return: those that count
    """
    results: list[Result] = []
    number = 0
    while len(results) < count:
        result = run(number)
        number += 1
        results += [result] if was_killed(result) else []
    return results
