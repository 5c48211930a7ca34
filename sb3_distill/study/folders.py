"""The folder of a study: a finished run has a folder in it, one that is begun has it under ``unfinished``, and nothing else is kept.

A run is written under ``unfinished`` and renamed when it is whole, so that who finds it beside the others finds all of it.
"""

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import is_zipfile

from sb3_distill.common.files import replacing, write_json
from sb3_distill.experiment.run_folder import CHECKPOINT, CURVES, RESULTS, STUDENT
from sb3_distill.study.names import Run, digest_of
from sb3_distill.study.source_code import code

#: within a study's folder
UNFINISHED, TABLES = "unfinished", "tables"
#: within a run's folder: what it is, what it printed, and why it failed
ABOUT, OUTPUT, TRACEBACK = "run.json", "output.txt", "traceback.txt"
#: what ``run.json`` says that it is
FORMAT = "sb3-distill run of a study"
#: settings that ``results.json`` has as ``run.json`` has them
_SAID_TWICE = ("env", "teacher", "method", "engine", "net_arch", "size", "steps", "seed", "eval_episodes")


class State(NamedTuple):
    """
    What there is of a study.

    :param finished: names of its runs that are whole
    :param begun: names of those that go on from a checkpoint
    :param broken: from names to what is wrong with what lies where a whole run should
    :param other_versions: from names of folders, of runs of the study made with other versions, to what differs
    :param others: how many folders are of runs that the study does not have
    :param others_begun: how many of those under ``unfinished`` are of such runs, or of other versions
    """

    finished: frozenset[str]
    begun: frozenset[str]
    broken: dict[str, str]
    other_versions: dict[str, str]
    others: int
    others_begun: int


def state_of(out: Path, runs: Sequence[Run]) -> State:
    """
    :param out: the study's folder, which may not exist
    :param runs: of the study
    :return: what there is of them
    :raises OSError: if it cannot be read
    """
    planned = {run.name: run for run in runs}
    finished, broken = set(), {}
    foreign: list[str] = []
    for entry in _folders(out):
        if entry.name not in planned:
            foreign.append(entry.name)
            continue
        problem = problem_of(out / entry.name)
        if problem is None:
            finished.add(entry.name)
        else:
            broken[entry.name] = problem
    unfinished = _folders(out / UNFINISHED)
    begun = {
        entry.name
        for entry in unfinished
        if entry.name in planned and os.path.exists(os.path.join(entry.path, CHECKPOINT))
    }
    others_begun = sum(entry.name not in planned for entry in unfinished)
    other_versions, others = _others(out, foreign, runs)
    return State(frozenset(finished), frozenset(begun), broken, other_versions, others, others_begun)


def _folders(path: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(path) as entries:
            found = [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        raise NotADirectoryError(
            f"{path} is not a folder: choose another for the study with out: …, or --out."
        ) from None
    return sorted((entry for entry in found if entry.name not in (UNFINISHED, TABLES)), key=lambda entry: entry.name)


def problem_of(folder: Path) -> str | None:
    """
    :param folder: where a whole run should be
    :return: what is wrong with it; None if it is whole
    """
    about = read_about(folder)
    if about is None:
        return f"its {ABOUT} is missing, or cannot be read"
    if digest_of(about) != folder.name.rpartition("-")[2]:
        return f"its {ABOUT} is of another run"
    try:
        others = _others_settings(read_results(folder), about)
        read_curve(folder)
    except ValueError as error:
        return str(error)
    if others:
        return f"its {RESULTS} is of another run ({others})"
    if not (folder / STUDENT).exists():
        return f"its {STUDENT} is missing"
    return None if is_zipfile(folder / STUDENT) else f"its {STUDENT} is not whole"


def _others_settings(results: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """In which of the settings that both say results are another run's."""
    found, asked = results.get("settings"), about.get("settings")
    if not isinstance(found, Mapping) or not isinstance(asked, Mapping):
        return ""
    names = [name for name in _SAID_TWICE if name in found and name in asked and found[name] != asked[name]]
    return ", ".join(f"{name} {found[name]}, not {asked[name]}" for name in names)


def read_about(folder: Path) -> dict[str, Any] | None:
    """
    :param folder: of a run
    :return: what it says that it is; None if that cannot be read, or is somebody else's
    """
    try:
        data = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) and data.get("format") == FORMAT else None


def read_results(folder: Path) -> dict[str, Any]:
    """
    :param folder: of a whole run
    :return: its ``results.json``
    :raises ValueError: if it cannot be read, or has no results
    """
    try:
        data = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        for player in ("teacher", "student", "random play"):
            _check_player(player, data["players"][player])
    except (OSError, LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"its {RESULTS} cannot be read ({_words(error)})") from error
    return data  # type: ignore[no-any-return]


def _check_player(name: str, player: Mapping[str, Any]) -> None:
    mean, returns = player["mean_return"], player.get("returns", [])
    for value in (mean, *returns):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"{value!r} is no return of {name}")
    # The mean of float32 returns may be one, too.
    if returns and not math.isclose(mean, math.fsum(returns) / len(returns), rel_tol=1e-4, abs_tol=1e-4):
        raise ValueError(f"the mean return of {name}, {mean!r}, is not that of its {len(returns)} returns")


def read_curve(folder: Path) -> list[tuple[float, float]]:
    """
    :param folder: of a whole run
    :return: steps and mean return of the points of its learning curve
    :raises ValueError: if it cannot be read, or is cut off
    """
    try:
        text = (folder / CURVES[0]).read_bytes().decode("utf-8")
        header, *rows = csv.reader(text.splitlines())
        if not text.endswith("\n") or any(len(row) != len(header) for row in rows):
            raise ValueError("it is cut off")
        points = [(float(row[0]), float(row[1])) for row in rows]
        if not points or not all(math.isfinite(value) for point in points for value in point):
            raise ValueError("a point is no number" if points else "it has no points")
    except (OSError, ValueError, LookupError, csv.Error) as error:
        raise ValueError(f"its {CURVES[0]} cannot be read ({_words(error)})") from error
    return points


def _words(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split())


def _others(out: Path, names: Sequence[str], runs: Sequence[Run]) -> tuple[dict[str, str], int]:
    """Folders of a study that are none of its runs: the same ones of other versions, and how many others."""
    by_readable: dict[str, list[Run]] = {}
    for run in runs:
        by_readable.setdefault(run.name.rpartition("-")[0], []).append(run)
    other_versions = {}
    for name in names:
        near = by_readable.get(name.rpartition("-")[0], [])
        about = read_about(out / name) if near else None
        same = [run for run in near if about and about.get("settings") == run.about["settings"]]
        if about is not None and same:
            other_versions[name] = _differing(about, same[0].about)
    return other_versions, len(names) - len(other_versions)


def _differing(found: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """
    >>> _differing({"versions": {"torch": "2.8.0"}}, {"versions": {"torch": "2.9.1"}})
    'torch 2.8.0, not 2.9.1'
    """
    parts = []
    old, new = (about.get("versions") for about in (found, asked))
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        parts = [f"{k} {old.get(k, 'unknown')}, not {v}" for k, v in new.items() if old.get(k) != v]
    if found.get("fingerprints") != asked.get("fingerprints"):
        parts.append("another teacher or memory under the same name")
    return "; ".join(parts) or "other versions"


def begin(out: Path, run_name: str, about: Mapping[str, Any]) -> Path:
    """
    :param out: the study's folder
    :param run_name: of a run that nobody else is at
    :param about: what it is
    :return: the folder that it is written in
    :raises OSError: if the disk is full
    """
    folder = out / UNFINISHED / run_name
    folder.mkdir(parents=True, exist_ok=True)
    data = {"format": FORMAT, **about, "code": code()}
    if read_about(folder) != data:
        write_json(folder / ABOUT, data)
    return folder


def write_traceback(out: Path, run_name: str, text: str) -> None:
    """
    Say beside a run why it failed, if it has a folder and the disk has room for that.

    :param out: the study's folder
    :param run_name: of the run
    :param text: of the traceback, or how its process ended
    """
    with suppress(OSError):
        folder = out / UNFINISHED / run_name
        if folder.is_dir():
            with replacing(folder / TRACEBACK) as temporary:
                temporary.write_text(text, encoding="utf-8")


def has_failed(out: Path, run_name: str) -> bool:
    """
    :param out: the study's folder
    :param run_name: of a run that is not finished
    :return: whether it has failed, the last time
    """
    return (out / UNFINISHED / run_name / TRACEBACK).exists()


def finish(out: Path, run_name: str) -> None:
    """
    A run that is whole goes to where the others are.

    :param out: the study's folder
    :param run_name: of the run
    :raises OSError: if it cannot
    """
    folder = out / UNFINISHED / run_name
    for name in (TRACEBACK, OUTPUT):
        path = folder / name
        if name == TRACEBACK or (path.exists() and not path.stat().st_size):
            path.unlink(missing_ok=True)
    os.replace(folder, out / run_name)
    for path in (out, out / UNFINISHED):
        with suppress(OSError):  # where a folder cannot be synchronised
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
