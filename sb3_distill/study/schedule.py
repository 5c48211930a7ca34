"""Hands out the runs of a study, whoever does them, until each has ended: what fails stops nothing, what dies is given again."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from sb3_distill.study.folders import write_traceback
from sb3_distill.study.processes import Death
from sb3_distill.study.work import DONE, FAILED, HELD, STOPPED, Report, Task

#: how often a run may end its process before it counts as failed
DEATHS = 3
#: seconds after which a run that another process has is looked at again
AGAIN = 2.0


class Pool(Protocol):
    """Whoever does runs."""

    @property
    def free(self) -> int:
        """How many tasks it would begin at once."""

    @property
    def slots(self) -> int:
        """How many runs can be at work at once."""

    @property
    def running(self) -> list[str]:
        """Names of runs at work."""

    def submit(self, task: Task) -> None:
        """Begin a task."""

    def wait(self, seconds: float) -> list[tuple[Task, Report | Death]]:
        """Tasks that have ended."""


class Progress(NamedTuple):
    """
    How far a study has come.

    :param total: of its runs
    :param reports: from names to what came of runs in this process
    :param finished_before: names of runs that were whole already
    :param running: names of runs at work
    :param elsewhere: from names of runs to the processes that are at them
    :param seconds: since the beginning
    :param slots: how many runs can be at work at once
    """

    total: int
    reports: dict[str, Report]
    finished_before: frozenset[str]
    running: tuple[str, ...]
    elsewhere: dict[str, str]
    seconds: float
    slots: int

    @property
    def done(self) -> int:
        """How many runs are whole."""
        return len(self.finished_before) + sum(report.state == DONE for report in self.reports.values())

    @property
    def failed(self) -> list[Report]:
        """Of the runs that failed, in this process."""
        return [report for report in self.reports.values() if report.state == FAILED]

    @property
    def disk_full(self) -> bool:
        """Whether it ends because the disk is full."""
        return any(report.disk_full for report in self.failed)

    @property
    def seconds_left(self) -> float | None:
        """Until it is finished, by what runs have taken so far; None before there is one."""
        took = [report.seconds for report in self.reports.values() if report.state == DONE and report.seconds]
        left = self.total - self.done - len(self.failed)
        return None if not took else left * sum(took) / len(took) / max(1, min(self.slots, left))


def carry_out(
    tasks: Iterable[Task],
    pool: Pool,
    finished_before: frozenset[str],
    show: Callable[[Progress], None] = lambda progress: None,
    beat: float = 0.5,
) -> Progress:
    """
    :param tasks: runs that are not whole
    :param pool: who does them
    :param finished_before: names of those that are
    :param show: called after whatever happens, and twice a second
    :param beat: seconds that nothing may happen before it is called
    :return: what came of them. A full disk ends it: what is at work goes on, nothing else is begun
    """
    waiting = deque(tasks)
    total = len(waiting) + len(finished_before)
    reports: dict[str, Report] = {}
    deaths: dict[str, int] = {}
    held: dict[str, tuple[Task, str, float]] = {}
    start = time.monotonic()

    def now() -> Progress:
        elsewhere = {name: who for name, (_, who, _) in held.items()}
        seconds = time.monotonic() - start
        return Progress(total, reports, finished_before, tuple(pool.running), elsewhere, seconds, pool.slots)

    while True:
        full = any(report.disk_full for report in reports.values())
        while pool.free > 0 and not full:
            task = waiting.popleft() if waiting else _due(held)
            if task is None:
                break
            pool.submit(task)
        show(now())
        if not pool.running and (full or not (waiting or held)):
            return now()
        for task, end in pool.wait(beat):
            held.pop(task.name, None)
            if not isinstance(end, Death) and end.state == STOPPED:
                end = Death("it was interrupted")  # somebody has sent it a signal
            if isinstance(end, Death):
                deaths[task.name] = deaths.get(task.name, 0) + end.of_the_run
                if deaths[task.name] < DEATHS:
                    waiting.append(task)
                else:
                    text = f"{end}, {DEATHS} times"
                    reports[task.name] = Report(task.name, FAILED, text=text)
                    write_traceback(Path(task.out), task.name, f"{text}\n")
            elif end.state == HELD:
                held[task.name] = (task, end.text, time.monotonic() + AGAIN)
            else:
                reports[task.name] = end._replace(name=task.name)


def _due(held: dict[str, tuple[Task, str, float]]) -> Task | None:
    """The first run whose holder may be done by now."""
    for name, (task, who, when) in held.items():
        if when <= time.monotonic():
            held[name] = (task, who, float("inf"))  # until it is back
            return task
    return None
