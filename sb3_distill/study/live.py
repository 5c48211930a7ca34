"""How far a study has come: a table that is alive in a terminal, and lines where there is none."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sb3_distill.study.names import Run
from sb3_distill.study.schedule import Progress
from sb3_distill.study.work import DONE, FAILED

#: rows of the table, at most
MOST_ROWS = 20
#: seconds from one line to the next, where there is no terminal; a failure is told at once
LINE_SECONDS = 5.0


class Show:
    """
    Tells on stderr how far a study has come; to be called with it.

    :param runs: of the study, or of a part of it
    :param title: of the study
    :param quiet: whether nothing is told but failures
    """

    def __init__(self, runs: Sequence[Run], title: str, quiet: bool = False) -> None:
        self.title = title
        self.quiet = quiet
        self._row = {run.name: run.labels["environments"] or run.about["settings"]["env"] for run in runs}
        self._totals = Counter(self._row.values())
        self._console = Console(stderr=True)
        self._live: Live | None = None
        self._told: set[str] = set()
        self._last = float("-inf")

    def __enter__(self) -> "Show":
        if self._console.is_terminal and not self.quiet:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, progress: Progress) -> None:
        new = [report for name, report in progress.reports.items() if name not in self._told]
        self._told.update(report.name for report in new)
        for report in new:
            if report.state == FAILED:
                self._say(f"failed: {report.name}: {report.text}")
        if self._live is not None:
            self._live.update(self._table(progress), refresh=True)
        elif not self.quiet and new and (time.monotonic() - self._last > LINE_SECONDS or len(new) == len(self._told)):
            self._last = time.monotonic()
            self._say(f"{summary(progress)} ({new[-1].name}: {new[-1].state} in {new[-1].seconds:.0f} s)")

    def _say(self, line: str) -> None:
        if self._live is not None:
            self._live.console.print(Text(line), highlight=False)
            return
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def _table(self, progress: Progress) -> Group:
        table = Table(title=self.title, title_justify="left")
        table.add_column("environment", no_wrap=True)
        for name in ("done", "running", "failed", "left"):
            table.add_column(name, justify="right")
        states = {name: report.state for name, report in progress.reports.items()}
        states |= dict.fromkeys(progress.finished_before, DONE) | dict.fromkeys(progress.running, "running")
        counts: dict[str, Counter[str]] = {row: Counter() for row in self._totals}
        for name, state in states.items():
            if name in self._row:
                counts[self._row[name]][state] += 1
        unfinished = sorted(counts, key=lambda row: counts[row][DONE] >= self._totals[row])
        for row in [row for row in counts if row in unfinished[:MOST_ROWS]]:
            of = counts[row]
            left = self._totals[row] - of[DONE] - of[FAILED] - of["running"]
            table.add_row(row, *(f"{n:,}" for n in (of[DONE], of["running"], of[FAILED], left)))
        if len(counts) > MOST_ROWS:
            table.add_row(f"and {len(counts) - MOST_ROWS} more", "", "", "", "")
        table.add_section()
        left = progress.total - progress.done - len(progress.failed) - len(progress.running)
        table.add_row("all", *(f"{n:,}" for n in (progress.done, len(progress.running), len(progress.failed), left)))
        return Group(table, Text(_when(progress)))


def summary(progress: Progress) -> str:
    """
    :param progress: of a study
    :return: a line
    """
    parts = [f"{progress.done:,} of {progress.total:,} runs are done", f"{len(progress.running)} running"]
    if progress.failed:
        parts.append(f"{len(progress.failed):,} failed")
    if progress.elsewhere:
        parts.append(f"{len(progress.elsewhere)} in other processes")
    return f"{', '.join(parts)}{_ends(progress)}"


def _ends(progress: Progress) -> str:
    seconds = progress.seconds_left
    return "" if not seconds else f", {duration(seconds)} left"


def _when(progress: Progress) -> str:
    seconds = progress.seconds_left
    parts = [f"{duration(progress.seconds)} so far"]
    if seconds:
        end = datetime.now() + timedelta(seconds=seconds)
        day = "" if end.date() == datetime.now().date() else f" on {end:%d %B}"
        parts.append(f"{duration(seconds)} left, until {end:%H:%M}{day}")
    for name, who in list(progress.elsewhere.items())[:3]:
        parts.append(f"{name} is done by {who}")
    return "; ".join(parts)


def duration(seconds: float) -> str:
    """
    >>> duration(59), duration(3599), duration(90_000)
    ('59 s', '1 h 0 min', '25 h 0 min')

    :param seconds: of a while
    :return: in words
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
