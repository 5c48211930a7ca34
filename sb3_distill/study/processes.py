"""Runs in processes of this machine: each is a worker with one task at a time, and one that dies is replaced."""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import IO, Any

from sb3_distill.study.work import Report, Task
from sb3_distill.study.worker import GRACE


class Death(Exception):
    """
    A worker that died, at a run or between two.

    :param text: how
    :param of_the_run: whether the run is the likeliest reason
    """

    def __init__(self, text: str, of_the_run: bool = True) -> None:
        super().__init__(text)
        self.of_the_run = of_the_run


def cores() -> int:
    """
    :return: that this process may use
    """
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


class Processes:
    """
    A pool of workers. What it is asked goes to whoever is free.

    :param count: of processes
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()

    @property
    def free(self) -> int:
        """How many tasks it would begin at once."""
        return self.count - sum(worker.task is not None for worker in self._workers)

    @property
    def slots(self) -> int:
        """How many runs can be at work at once."""
        return self.count

    @property
    def running(self) -> list[str]:
        """Names of runs at work."""
        return [worker.task.name for worker in self._workers if worker.task is not None]

    def submit(self, task: Task) -> None:
        """
        :param task: for a worker that is free
        """
        worker = next((worker for worker in self._workers if worker.task is None), None)
        if worker is None:
            worker = _Worker()
            self._workers.append(worker)
            self._selector.register(worker.stdout, selectors.EVENT_READ, worker)
        worker.send(task)

    def wait(self, seconds: float) -> list[tuple[Task, Report | Death]]:
        """
        :param seconds: at most
        :return: tasks that have ended, and how
        """
        ended: list[tuple[Task, Report | Death]] = []
        if not self._workers:
            time.sleep(seconds)
        for key, _ in self._selector.select(seconds) if self._workers else []:
            worker: _Worker = key.data
            try:
                reports = worker.receive()
            except Death as death:
                self._selector.unregister(worker.stdout)
                self._workers.remove(worker)
                if worker.task is not None:  # an idle one has done what it had, and another one takes its place
                    ended.append((worker.task, death))
                continue
            for report in reports:
                if worker.task is not None:
                    ended.append((worker.task, report))
                    worker.task = None
        return ended

    def stop(self) -> None:
        """Let runs write their checkpoints, for some seconds, and end all processes."""
        for worker in self._workers:
            worker.interrupt()
        deadline = time.monotonic() + GRACE
        for worker in self._workers:
            worker.end(deadline)
        self._workers.clear()

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


class _Worker:
    """A process, and the task that it has."""

    def __init__(self) -> None:
        self.task: Task | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sb3_distill.study.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(),
            start_new_session=True,  # Ctrl-C comes to us, and we tell it
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self.stdin, self.stdout = self._process.stdin, self._process.stdout
        os.set_blocking(self.stdout.fileno(), False)
        self._buffer = b""

    def send(self, task: Task) -> None:
        self.task = task
        with suppress(BrokenPipeError):  # it is dead, which is seen when it is waited for
            self.stdin.write(json.dumps(task._asdict()).encode() + b"\n")
            self.stdin.flush()

    def receive(self) -> list[Report]:
        """
        :return: what it has said; nothing of what it says when it begins
        :raises Death: if it is dead
        """
        while True:
            part = self.stdout.read(65536)
            if part is None:
                break
            if not part:
                raise Death(self._last_words())
            self._buffer += part
        *lines, self._buffer = self._buffer.split(b"\n")
        said: list[Any] = [json.loads(line) for line in lines]
        return [Report(**data) for data in said if data is not None]

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        said = f": {lines[-1]}" if lines else ""
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            full = ", as it is where memory is short" if name == "SIGKILL" else ""
            return f"its process was ended by {name}{full}{said}"
        return f"its process ended with exit code {code}{said}"

    def interrupt(self) -> None:
        if self.task is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGINT)
        with suppress(OSError):
            self.stdin.close()

    def end(self, deadline: float) -> None:
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # also what its environments have begun
        self._process.wait()
        self.stdout.close()
        self._errors.close()


def _environment() -> dict[str, str]:
    """Modules are found where this process finds them."""
    path = [os.path.abspath(place) for place in sys.path if place]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1"}
