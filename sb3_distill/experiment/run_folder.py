"""The folder of a run: what it is called, whose it is, and what it holds when the same command is given again.

``settings.json`` comes first and says what the run is. ``checkpoint.npz`` is what has been learnt so far. When ``results.json`` is
there, which comes last, both go.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sb3_distill.common.files import remove_leftovers, write_json
from sb3_distill.common.folders import check_folder

SETTINGS, CHECKPOINT, RESULTS, STUDENT = "settings.json", "checkpoint.npz", "results.json", "student.zip"
CURVES = ("learning_curve.csv", "learning_curve.png")
#: what ``settings.json`` says that it is
FORMAT = "sb3-distill run"
#: what tells files under one name apart, in words; a run that was begun without them goes on
FINGERPRINTS = {"teacher_fingerprint": "another teacher", "memory_fingerprint": "another memory"}
#: settings that change nothing about the student
NEUTRAL = ("out", "overwrite", "device", "threads", "tensorboard_log")
#: settings that matter to what is told in the end alone
TOLD = ("eval_episodes",)
#: characters of the longest default name
MAX_NAME = 120


def default_folder(start: str, named: Mapping[str, Any], also: Mapping[str, Any], settings: Mapping[str, Any]) -> Path:
    """
    A name that tells runs apart, and is no longer than that takes.

    >>> str(default_folder("n-distill-ppo-CartPole-v1-0", {"form": "paper"}, {"net_arch": [64, 64]}, {}))
    'runs/n-distill-ppo-CartPole-v1-0_form-paper'

    :param start: how the name begins
    :param named: settings that are always in it, without those that are as usual
    :param also: settings that are in it, where the shorter name is of a run with others
    :param settings: all of them, as :class:`RunFolder` has them
    :return: the folder in ``runs``
    """
    short = _named(start, named)
    long = _named(start, {**named, **also})
    free = not short.exists() or _is_of(short, settings)
    return short if free and not long.exists() else long


def _is_of(folder: Path, settings: Mapping[str, Any]) -> bool:
    known = _begun_in(folder) or _results_in(folder)
    return known is not None and differences(known, as_json(settings), (*NEUTRAL, *TOLD, *FINGERPRINTS)) == ""


def _named(start: str, settings: Mapping[str, Any]) -> Path:
    name = "_".join([start, *(f"{name.replace('_', '-')}-{_in_name(value)}" for name, value in settings.items())])
    if len(name) > MAX_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = f"{name[: MAX_NAME - 9]}-{digest}"
    return Path("runs") / name


def _in_name(value: Any) -> str:
    if isinstance(value, Mapping):
        value = [part for item in value.items() for part in item]
    if isinstance(value, (list, tuple)):
        return "-".join(map(_in_name, value)) or "none"
    text = f"{value:g}" if isinstance(value, float) else str(value).removesuffix(".zip")
    return re.sub(r"[^\w.]+", "-", text).strip("-.")


class FinishedError(ValueError):
    """Another process has finished the same run since the folder was looked at."""


class RunFolder:
    """
    The files of one run.

    :param path: of the folder; it may not exist yet
    :param settings: of the run, as :func:`as_json` leaves them
    :param overwrite: whether a run with other settings, or a finished one, may be replaced
    :raises ValueError: if there is something else: a student, an unfinished run with other settings, files that are no run's and
        would be replaced, or no folder at all
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], overwrite: bool = False) -> None:
        self.path = path
        self.settings = as_json(settings)
        self.overwrite = overwrite
        check_folder(path)
        self._held = False
        self._look()

    def _look(self) -> None:
        #: whether this very run has ended
        self.finished = False
        #: whether a part of this very run is there
        self.begun = False
        results, begun = _results_in(self.path), _begun_in(self.path)
        self._look_for_foreign(results, begun)
        if (self.path / STUDENT).exists() and (results is not None or begun is None):
            self._look_at_finished(results)
        elif begun is not None:
            self._look_at_begun(begun)

    def _look_for_foreign(self, results: Any, begun: Any) -> None:
        names = [] if begun is not None else [SETTINGS, CHECKPOINT]
        if results is None:
            names.append(RESULTS)
            if begun is None and not (self.path / STUDENT).exists():
                names += CURVES
        found = [str(self.path / name) for name in names if (self.path / name).exists()]
        if found:
            raise ValueError(
                f"{', '.join(found)}: not of a run of sb3-distill, which would replace what has that name: choose another folder with "
                "out=…, or move it away."
            )

    def _look_at_finished(self, results: Any) -> None:
        others = None if results is None else differences(results, self.settings, NEUTRAL)
        if others == "" and not self.overwrite:
            self.finished = True
        elif not self.overwrite:
            said = f" with {others}" if others else ""
            raise ValueError(
                f"{self.path} holds a student already{said}: choose another folder with out=…, or add overwrite=True."
            )

    def _look_at_begun(self, begun: Any) -> None:
        others = differences(begun, self.settings, NEUTRAL + TOLD)
        if others == "":
            self.begun = self.checkpoint.exists()
        elif self.checkpoint.exists() and not self.overwrite:
            raise ValueError(
                f"{self.path} holds an unfinished run with {others}: give its own command to go on with it, choose another folder "
                "with out=…, or add overwrite=True to begin anew."
            )

    @property
    def checkpoint(self) -> Path:
        """What has been learnt so far."""
        return self.path / CHECKPOINT

    def version(self) -> tuple[int, ...] | None:
        """
        :return: what tells one checkpoint from the next; None if no part of this run is there
        """
        if not self.begun:
            return None
        about = self.checkpoint.stat()
        return about.st_ino, about.st_mtime_ns, about.st_size

    def read_results(self) -> dict[str, Any]:
        """
        :return: of a finished run
        """
        data: dict[str, Any] = json.loads((self.path / RESULTS).read_text(encoding="utf-8"))
        return data

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """
        A context in which no other process works in the folder; it is made first, and says whose it is.

        :raises BlockingIOError: if another process is at work in it
        :raises FinishedError: if another one has finished the run since the folder was looked at; nothing is changed then
        :raises ValueError: as the constructor, of what has come since
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise type(error)(
                f"The folder {self.path} cannot be made ({error.strerror or error}): choose another with out=…."
            ) from error
        with _locked(self.path):
            self._look()  # others may have worked here since: loading a teacher takes its time
            if self.finished:
                raise FinishedError(
                    f"{self.path} holds a student already, of this very command: another process has just finished it."
                )
            remove_leftovers(self.path, (SETTINGS, CHECKPOINT, RESULTS, STUDENT, *CURVES))
            if not self.begun:
                # In this order: what was learnt with other settings is gone before these are there.
                for name in (CHECKPOINT, RESULTS):
                    (self.path / name).unlink(missing_ok=True)
            write_json(self.path / SETTINGS, {"format": FORMAT, **self.settings})
            self._held = True
            try:
                yield
            finally:
                self._held = False

    def clean(self) -> None:
        """
        Remove what a finished run does without.

        :raises BlockingIOError: if another process is at work in it
        """
        with nullcontext() if self._held else _locked(self.path):
            if (self.path / RESULTS).exists():  # and nobody has begun to replace it
                for name in (CHECKPOINT, SETTINGS):
                    (self.path / name).unlink(missing_ok=True)


def as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """
    :param settings: of plain values
    :return: as they will be read
    """
    data: dict[str, Any] = json.loads(json.dumps(settings))
    return data


def differences(found: Any, asked: Mapping[str, Any], but: tuple[str, ...]) -> str:
    """
    :param found: settings in a file, which may be anything
    :param asked: settings of the present run
    :param but: names that may differ
    :return: what differs, in words; empty if nothing does
    """
    if not isinstance(found, Mapping):
        return "other settings"
    names = [name for name in {**asked, **found} if name not in but and found.get(name) != asked.get(name)]
    # Of another name is another file anyway.
    same = [name for name in FINGERPRINTS if None in (found.get(name), asked.get(name)) or name.split("_")[0] in names]
    return ", ".join(_difference(name, found.get(name), asked.get(name)) for name in names if name not in same)


def _difference(name: str, found: Any, asked: Any) -> str:
    if name in FINGERPRINTS:
        return f"{FINGERPRINTS[name]} under that name (fingerprint {str(found)[:8]}…, not {str(asked)[:8]}…)"
    return f"{_typed(name, found)} (not {_value(asked)})"


def _typed(name: str, value: Any) -> str:
    text = _value(value)
    return f"{name}={text}" if re.fullmatch(r"\w[\w.,]*", text) else f"{name}={text!r}"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, Mapping):
        return " ".join(f"{name}={item}" for name, item in value.items()) or "none"
    return "left out" if value is None else str(value)


def _begun_in(folder: Path) -> dict[str, Any] | None:
    """Settings of a run that was begun; None if there is no ``settings.json``, or it is somebody else's."""
    data = _json_in(folder / SETTINGS)
    ours = data.pop("format", None) == FORMAT or _are_ours(data)
    return data if ours else None


def _results_in(folder: Path) -> dict[str, Any] | None:
    """Settings of a run that has ended; None if there is no ``results.json``, or it is somebody else's."""
    data = _json_in(folder / RESULTS)
    settings = data.get("settings")
    if not isinstance(settings, dict) or not ("players" in data or _are_ours(settings)):
        return None
    fingerprints = data.get("fingerprints")
    return settings | (fingerprints if isinstance(fingerprints, dict) else {})


def _are_ours(settings: Mapping[str, Any]) -> bool:
    return all(isinstance(settings.get(name), str) for name in ("method", "env", "teacher"))


def _json_in(path: Path) -> dict[str, Any]:
    """What a file says; nothing if there is none, or nobody can read it."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, ValueError, RecursionError):
        data = None
    return data if isinstance(data, dict) else {}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The operating system takes the lock back from a process that was killed, and there is no file to be left behind."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"Another process is at work in {folder}: wait for it, or choose another folder with out=…."
            ) from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)


#: what a run of ``sb3-distill distill`` writes
RUN_FILES = ("student.zip", "results.json", "learning_curve.csv", "learning_curve.png")
