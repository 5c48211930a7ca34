"""What is done for one run, wherever: its folder is claimed, written, and put where the finished ones are."""

import errno
import importlib
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from sb3_distill.common.files import remove_leftovers
from sb3_distill.common.own_env import working_directory_on_path
from sb3_distill.study import folders
from sb3_distill.study.claims import HeldError, claimed

#: what a run is, as ``MODULE:FUNCTION`` of its settings and its folder
DISTIL = "sb3_distill.study.work:distil"
#: what came of it
DONE, FAILED, HELD, STOPPED = "done", "failed", "held", "stopped"


class Task(NamedTuple):
    """
    A run as it is sent to a process.

    :param name: of its folder
    :param settings: of :func:`~sb3_distill.distill`
    :param about: for ``run.json``
    :param out: the study's folder
    :param here: the working directory of the study
    :param work: ``MODULE:FUNCTION``
    """

    name: str
    settings: dict[str, Any]
    about: dict[str, Any]
    out: str
    here: str
    work: str = DISTIL


class Report(NamedTuple):
    """
    What came of a run.

    :param name: of its folder
    :param state: :data:`DONE`, :data:`FAILED`, :data:`HELD` by another process, or :data:`STOPPED` after its last checkpoint
    :param seconds: that it took
    :param text: what went wrong, or who holds it
    :param disk_full: whether that is why it failed
    """

    name: str
    state: str
    seconds: float = 0.0
    text: str = ""
    disk_full: bool = False


def distil(settings: Mapping[str, Any], folder: Path) -> None:
    """
    :param settings: of a run
    :param folder: that it is written in
    """
    from sb3_distill.experiment.distill import distill

    distill(out=folder, quiet=True, **settings)


def do(task: Task) -> Report:
    """
    Do a run, if nobody else does or has.

    :param task: which
    :return: what came of it; nothing is raised but a KeyboardInterrupt's like
    """
    start = time.monotonic()
    out = Path(task.out)
    try:
        _go_to(task.here)
        if (out / task.name).is_dir():
            return Report(task.name, DONE)
        (out / folders.UNFINISHED).mkdir(parents=True, exist_ok=True)
        lock = out / folders.UNFINISHED / f"{task.name}.lock"
        with claimed(lock):
            if not (out / task.name).is_dir():
                _work(task, out)
            with suppress(OSError):
                lock.unlink()
    except HeldError as error:
        return Report(task.name, HELD, text=str(error))
    except KeyboardInterrupt:
        return Report(task.name, STOPPED, time.monotonic() - start)
    except BaseException as error:  # SystemExit, too: it is the environment's code that raises
        return _failed(task, out, error, time.monotonic() - start)
    return Report(task.name, DONE, time.monotonic() - start)


def _work(task: Task, out: Path) -> None:
    module, _, function = task.work.partition(":")
    work: Callable[[Mapping[str, Any], Path], None] = getattr(importlib.import_module(module), function)
    folder = folders.begin(out, task.name, task.about)
    remove_leftovers(folder, (folders.ABOUT, folders.TRACEBACK))
    with _output_to(folder / folders.OUTPUT), warnings.catch_warnings():
        warnings.simplefilter("default")
        work(task.settings, folder)
    problem = folders.problem_of(folder)
    if problem is not None:  # it would be in the way of the study as soon as it lay with the others
        raise ValueError(f"It has ended and is not whole: {problem}")
    folders.finish(out, task.name)


def _go_to(here: str) -> None:
    """Relative paths and modules of the user's are found as they were where the study was begun."""
    with suppress(OSError):  # on another machine there may be no such folder
        if os.getcwd() != here:
            os.chdir(here)
    working_directory_on_path()


def _failed(task: Task, out: Path, error: BaseException, seconds: float) -> Report:
    """Its traceback lies beside it, if the disk has room for that."""
    folders.write_traceback(out, task.name, "".join(traceback.format_exception(error)))
    said = " ".join(str(error).split())
    text = (
        said if type(error) in (ValueError, OSError) and said else f"{type(error).__name__}{': ' if said else ''}{said}"
    )
    return Report(task.name, FAILED, seconds, text, is_disk_full(error))


def is_disk_full(error: BaseException | None) -> bool:
    """
    :param error: that ended a run
    :return: whether a full disk, or a quota, is behind it
    """
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """What is printed in here goes to a file: also what a library in C prints."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError:
        file = os.open(os.devnull, os.O_WRONLY)
    kept = [os.dup(number) for number in (1, 2)]
    try:
        for number in (1, 2):
            os.dup2(file, number)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        for number, old in zip((1, 2), kept, strict=True):
            os.dup2(old, number)
            os.close(old)
        os.close(file)
