"""Runs as tasks of a Ray cluster, whose nodes may come and go: what they have done is in the study's folder, which all of them share."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sb3_distill.common.ray_connection import check_ray, connected
from sb3_distill.common.user_code import first_line
from sb3_distill.study.processes import Death, cores
from sb3_distill.study.work import FAILED, Report, Task, do
from sb3_distill.study.worker import GRACE

#: seconds from one look at what the cluster has to the next
LOOK = 2.0
GIB = 1 << 30


class RayPool:
    """
    The tasks of a study on a Ray cluster.

    :param address: of the cluster; None for the one at hand, or a new one on this machine
    :param resources: of a run: ``cpus``, ``gpus``, ``memory`` in GiB
    :raises ImportError: if Ray is not installed
    :raises ConnectionError: if there is no cluster at that address
    """

    def __init__(self, address: str | None, resources: dict[str, float]) -> None:
        ray = self._ray = check_ray(address)
        self._mine = not ray.is_initialized()
        connected(address, cores())
        self._cpus, self._gpus = resources.get("cpus", 1.0), resources.get("gpus", 0.0)
        self._memory = resources.get("memory", 0.0) * GIB
        # What dies is given again by us, who know whether it has finished meanwhile.
        options: dict[str, Any] = {"num_cpus": self._cpus, "num_gpus": self._gpus, "max_retries": 0}
        if self._memory:
            options["memory"] = int(self._memory)
        self._do = ray.remote(**options)(remote_do)
        self._tasks: dict[Any, Task] = {}
        self._looked = float("-inf")
        self._slots = 1

    @property
    def slots(self) -> int:
        """How many runs can be at work at once, by what the cluster has now."""
        now = time.monotonic()
        if now - self._looked > LOOK:
            self._looked = now
            with self._told():
                self._slots = self._count(self._ray.cluster_resources())
        return self._slots

    def _count(self, has: dict[str, float]) -> int:
        parts = [
            has.get(name, 0.0) / needed
            for name, needed in (("CPU", self._cpus), ("GPU", self._gpus), ("memory", self._memory))
            if needed
        ]
        return max(1, int(min(parts, default=1)))

    @property
    def free(self) -> int:
        """How many tasks it would take: some more than are at work, which tells a cluster that grows by itself how many wait."""
        return 2 * self.slots - len(self._tasks)

    @property
    def running(self) -> list[str]:
        """Names of runs at work, and a few that are next."""
        return [task.name for task in self._tasks.values()][: self._slots]

    def submit(self, task: Task) -> None:
        """
        :param task: to be done by whoever is free
        """
        with self._told():
            self._tasks[self._do.remote(task._asdict())] = task

    def wait(self, seconds: float) -> list[tuple[Task, Report | Death]]:
        """
        :param seconds: at most
        :return: tasks that have ended, and how
        :raises ConnectionError: if the cluster is gone
        """
        if not self._tasks:
            time.sleep(seconds)
            return []
        with self._told():
            ready, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=seconds)
            if ready:
                ready, _ = self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=0)
            return [(self._tasks.pop(reference), self._end_of(reference)) for reference in ready]

    def _end_of(self, reference: Any) -> Report | Death:
        exceptions = self._ray.exceptions
        try:
            return Report(**self._ray.get(reference))
        except exceptions.RayTaskError as error:  # before our own code ran: it is not installed there
            last = next(iter(str(error).strip().splitlines()[::-1]), type(error).__name__)
            return Report("", FAILED, text=f"Ray could not begin it: {last}")
        except exceptions.RayError as error:
            of_the_run = isinstance(error, (exceptions.WorkerCrashedError, exceptions.OutOfMemoryError))
            return Death(f"Ray lost its process ({type(error).__name__}: {first_line(error)})", of_the_run)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """A context in which the loss of the cluster is told in our words."""
        exceptions = self._ray.exceptions
        try:
            yield
        except (exceptions.RaySystemError, exceptions.RpcError, ConnectionError) as error:
            raise ConnectionError(
                f"The Ray cluster is gone ({first_line(error)}): what is finished is kept, and the same command goes on from there."
            ) from error

    def stop(self) -> None:
        """Let runs write their checkpoints, for some seconds, and end them."""
        with suppress(Exception):  # the cluster may be gone
            for force in (False, True):
                for reference in self._tasks:
                    self._ray.cancel(reference, force=force)
                left = list(self._tasks)
                if left and not force:
                    self._ray.wait(left, num_returns=len(left), timeout=GRACE)
        self._tasks.clear()
        if self._mine:
            self._ray.shutdown()

    def __enter__(self) -> "RayPool":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def remote_do(data: dict[str, Any]) -> dict[str, Any]:
    """
    What a node does.

    :param data: a :class:`~sb3_distill.study.work.Task`
    :return: a :class:`~sb3_distill.study.work.Report`
    """
    with suppress(ValueError):  # outside the main thread
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Ray cancels as Ctrl-C does
    task = Task(**data)
    if not os.path.isdir(task.out):
        text = f"{socket.gethostname()} does not have the folder {task.out}: all nodes of the cluster must share it"
        return Report(task.name, FAILED, text=text)._asdict()
    return do(task)._asdict()
