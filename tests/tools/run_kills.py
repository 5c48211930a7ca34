"""How often ``sb3-distill distill`` loses what it has learnt when it is killed: ``python -m tests.tools.run_kills``.

Begins runs of a small student and ends their processes at random moments, with SIGINT, SIGTERM or SIGKILL: while the teacher is
loaded, while the student learns, is evaluated, compared, or written. Every run is given again as the same command until it has ended.
After each kill every file has to be whole, and the next part has to go on from the last checkpoint; after SIGINT and SIGTERM, from
the very step that was reached.
"""

import csv
import json
import os
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from sb3_distill.common.damaged_zip import UNREADABLE_ZIP
from sb3_distill.evaluation.scores import show
from sb3_distill.experiment.checkpoints import read_checkpoint
from sb3_distill.experiment.run_folder import RUN_FILES

from . import killing

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
#: seconds that a process may take to end after SIGINT or SIGTERM
PATIENCE = 60.0
_PNG_END = b"IEND\xaeB`\x82"


class Part(NamedTuple):
    """One process of a run.

    :param begins: step that it began to train at
    :param reached: step up to which it had learnt
    :param saved: step of its last checkpoint, or of the one that it began with
    """

    begins: int
    reached: int
    saved: int


class Result(NamedTuple):
    """Of one run.

    :param signals: names of those that ended a process of it
    :param exits: exit codes of these processes
    :param n_broken: files that were not whole after a kill
    :param again: steps that were trained twice, at each kill
    :param n_lost: steps that were in a checkpoint, and were trained again all the same; or after SIGINT and SIGTERM, that were reached
    :param whole: whether the last process ended well, and left the files of a finished run, each step of the curve once
    """

    signals: tuple[str, ...]
    exits: tuple[int, ...]
    n_broken: int
    again: tuple[int, ...]
    n_lost: int
    whole: bool


def distil(folder: Path, trace: Path, n_steps: int) -> None:
    """
    A process of a run. It ends with the exit code of the command.

    :param folder: of the run
    :param trace: a file that tells what was learnt and saved, line by line
    :param n_steps: of the run
    """
    from sb3_distill import cli
    from sb3_distill.experiment import run as experiment

    file = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    class Watched(experiment.Keeper):
        """Tells of it in the trace."""

        def _on_training_start(self) -> None:
            os.write(file, f"part {self.model.num_timesteps}\n".encode())
            super()._on_training_start()

        def _on_rollout_start(self) -> None:
            os.write(file, f"reached {self.model.num_timesteps}\n".encode())
            super()._on_rollout_start()

        def save(self) -> None:
            super().save()
            if self.kept is not None:
                os.write(file, f"saved {self.kept[0]}\n".encode())

    experiment.Keeper = Watched  # type: ignore[misc]
    experiment.CURVE_EPISODES = 3
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    words = ["distill", "--temperature", "0.01", "--net-arch", "8", "--n-envs", "2", "--eval-episodes", "5"]
    sys.exit(cli.main([*words, "--steps", str(n_steps), "--out", str(folder)]))


class Killer(killing.Killer):
    """
    Starts runs and kills them.

    :param folder: where they go
    :param n_steps: of each
    :param seed: of the moments
    """

    def __init__(self, folder: Path, n_steps: int, seed: int) -> None:
        super().__init__(
            folder, n_steps, seed, "sb3_distill.experiment.run", "sb3_distill.algorithms.policy_distillation"
        )
        self._start("first").join()
        start = time.monotonic()
        self._start("whole").join()
        #: that a whole run takes
        self.seconds = time.monotonic() - start

    def _start(self, name: str) -> Any:
        return self.begin(distil, self.folder / name, self._trace(name), self.n_steps)

    def _trace(self, name: str) -> Path:
        return self.folder / f"{name}.trace"

    def run(self, name: str) -> Result:
        """
        :param name: of a run that is not there yet
        :return: what up to three kills did to it
        """
        signals: list[str] = []
        exits: list[int] = []
        n_broken = 0
        ends: dict[int, str] = {}  # from a part that came to train to the signal that ended it
        for _ in range(3):
            number = SIGNALS[self.dice.integers(len(SIGNALS))]
            process = self._start(name)
            process.join(self.dice.uniform(0, self.seconds))
            if not process.is_alive():
                break
            os.kill(process.pid, number)
            process.join(PATIENCE)
            process.kill()
            process.join()
            if process.exitcode == 0:
                break
            signals.append(signal.Signals(number).name)
            exits.append(process.exitcode)
            n_broken += broken_files(self.folder / name)
            ends.setdefault(len(parts_of(self._trace(name))) - 1, signals[-1])
        process = self._start(name)
        process.join()
        again, n_lost = trained_again(parts_of(self._trace(name)), ends)
        whole = process.exitcode == 0 and is_finished(self.folder / name, self.n_steps)
        return Result(tuple(signals), tuple(exits), n_broken, again, n_lost, whole)


def parts_of(trace: Path) -> list[Part]:
    """
    :param trace: that :func:`distil` wrote
    :return: the processes that came to train
    """
    parts: list[Part] = []
    for line in trace.read_text().splitlines() if trace.exists() else []:
        word, _, step = line.partition(" ")
        if word == "part":
            parts.append(Part(int(step), int(step), int(step)))
        else:
            parts[-1] = parts[-1]._replace(**{word: int(step)})
            # The last rollout is learnt from without another one that begins.
            parts[-1] = parts[-1]._replace(reached=max(parts[-1].reached, parts[-1].saved))
    return parts


def trained_again(parts: list[Part], ends: Mapping[int, str]) -> tuple[tuple[int, ...], int]:
    """
    :param parts: of a run
    :param ends: from the index of a part to the signal that ended it. One that a process can wait for loses nothing
    :return: steps that were trained twice between each two parts, and how many of them should not have been
    """
    again, n_lost = [], 0
    for k, (before, after) in enumerate(pairwise(parts)):
        again.append(before.reached - after.begins)
        kept = before.saved if ends.get(k) == "SIGKILL" else before.reached
        n_lost += max(0, kept - after.begins)
    return tuple(again), n_lost


def broken_files(folder: Path) -> int:
    """
    :param folder: of a run
    :return: how many of its files are not whole; a temporary one has no name yet
    """
    n = 0
    for path in folder.glob("[!.]*"):
        try:
            n += not is_whole(path)
        except UNREADABLE_ZIP:
            n += 1
    return n


def is_whole(path: Path) -> bool:
    """
    :param path: of a run's file
    :return: whether it is; may raise what a reader of half a file raises
    """
    if path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
    elif path.suffix == ".npz":
        read_checkpoint(path)
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    elif path.suffix == ".csv":
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
        return len(rows) > 1 and {len(row) for row in rows} == {5}
    elif path.suffix == ".png":
        return path.read_bytes().endswith(_PNG_END)
    return True


def is_finished(folder: Path, n_steps: int) -> bool:
    """
    :param folder: of a run
    :param n_steps: that it was to have
    :return: whether it has ended as one that was not killed
    """
    if sorted(path.name for path in folder.iterdir()) != sorted(RUN_FILES) or broken_files(folder):
        return False
    curve = np.loadtxt(folder / "learning_curve.csv", delimiter=",", skiprows=1)[:, 0]
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    last = results["players"]["student"]["training_steps"]
    return bool(curve[0] == 0 and (np.diff(curve) > 0).all() and curve[-1] == last >= n_steps)


def main(argv: list[str] | None = None) -> int:
    """
    Print what the kills did.

    :param argv: arguments, by default those of the process
    :return: 0 if nothing was lost, else 1
    """
    args = killing.parser_of("Kill distillations and see what is left of them.", "runs", 4_096).parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        killer = Killer(Path(folder), args.steps, args.seed)
        results = killing.until(args.runs, lambda n: killer.run(f"run_{n}"), lambda result: result.signals)
    show(results_table(results, args.steps))
    good = all(result.whole for result in results) and not sum(r.n_lost + r.n_broken for r in results)
    return 0 if good else 1


def results_table(results: list[Result], n_steps: int) -> Table:
    """
    :param results: of runs that were killed
    :param n_steps: of each
    :return: for :func:`~sb3_distill.evaluation.scores.show`
    """
    table = Table(title=f"{len(results)} runs of {n_steps:,} steps", title_justify="left", show_header=False)
    names = [name for result in results for name in result.signals]
    exits = [code for result in results for code in result.exits]
    again = [steps for result in results for steps in result.again]
    table.add_row("kills", ", ".join(f"{names.count(s.name)} × {s.name}" for s in SIGNALS))
    table.add_row("their exit codes", ", ".join(f"{exits.count(code)} × {code}" for code in sorted(set(exits))))
    table.add_row("files that were not whole afterwards", f"{sum(r.n_broken for r in results)}")
    table.add_row("times that a training went on", f"{len(again)}")
    table.add_row("steps trained twice then, mean and most", f"{np.mean(again or [0]):,.0f}, {max(again, default=0):,}")
    table.add_row("steps that were saved and trained again", f"{sum(r.n_lost for r in results)}")
    table.add_row("runs that ended as one that was not killed", f"{sum(r.whole for r in results)}")
    return table


if __name__ == "__main__":
    sys.exit(main())
