"""What the runs of a study scored, read from their folders: by task, and by what is compared on the tasks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from sb3_distill.study.axes import AXES
from sb3_distill.study.folders import has_failed, read_curve, read_results
from sb3_distill.study.names import Run


class Scored(NamedTuple):
    """
    What one run scored.

    :param name: of its folder
    :param seed: of it
    :param mean_return: the student's, of the comparison in the end
    :param teacher: mean return of the teacher in the same episodes
    :param random: likewise of random play
    :param parameters: of the student
    :param steps: of its learning curve, shape (n,)
    :param returns: at these steps, shape (n,)
    """

    name: str
    seed: int
    mean_return: float
    teacher: float
    random: float
    parameters: int
    steps: np.ndarray
    returns: np.ndarray

    @property
    def share(self) -> float:
        """Of the teacher's return over random play; NaN where the teacher has none."""
        gain = self.teacher - self.random
        return (self.mean_return - self.random) / gain if gain > 0 else np.nan

    @property
    def curve(self) -> np.ndarray:
        """The share at each point of the learning curve, shape (n,)."""
        gain = self.teacher - self.random
        return (self.returns - self.random) / gain if gain > 0 else np.full(len(self.returns), np.nan)


class Scores(NamedTuple):
    """
    What the runs of a study scored.

    :param tasks: names, in the order of the axes
    :param methods: names of what is compared, likewise: method, engine, student, as far as several are there
    :param runs: by task and method; of those that are whole
    :param planned: how many there shall be, by task and method
    :param failed: how many of those that are not whole have failed, likewise; nothing for none
    """

    tasks: list[str]
    methods: list[str]
    runs: dict[tuple[str, str], list[Scored]]
    planned: dict[tuple[str, str], int]
    failed: Mapping[tuple[str, str], int] = MappingProxyType({})

    def shares(self, task: str, method: str) -> np.ndarray:
        """
        :param task: of :attr:`tasks`
        :param method: of :attr:`methods`
        :return: of the runs that have one, in the order of the seeds, shape (n,)
        """
        found = np.array([run.share for run in self.runs.get((task, method), [])])
        return found[np.isfinite(found)] if len(found) else found

    def by_task(self, method: str) -> list[np.ndarray]:
        """
        :param method: of :attr:`methods`
        :return: shares by task, of those that have any
        """
        found = [self.shares(task, method) for task in self.tasks]
        return [shares for shares in found if len(shares)]


def places(runs: Sequence[Run]) -> dict[str, tuple[str, str]]:
    """
    :param runs: of a study
    :return: from names of runs to task and method, which have as many words as it takes to tell them apart
    """
    labels = {run.name: _labels(run) for run in runs}
    varied = {axis for axis in AXES if len({of[axis] for of in labels.values()}) > 1}
    compared = [axis for axis in ("methods", "engines", "students") if axis in varied] or ["methods"]
    teachers: dict[str, set[str]] = {}
    for of in labels.values():
        teachers.setdefault(of["environments"], set()).add(of["teachers"])
    found = {}
    for name, of in labels.items():
        several = len(teachers[of["environments"]]) > 1
        task = f"{of['environments']}, {of['teachers']}" if several else of["environments"]
        found[name] = task, ", ".join(of[axis] for axis in compared)
    return found


def _labels(run: Run) -> dict[str, str]:
    """What the study does not name is named by the run's settings."""
    of = run.about["settings"]
    usual = {
        "teachers": str(of["teacher"]),
        "environments": str(of["env"]),
        "methods": str(of["method"]).replace("_", "-"),
        "engines": str(of["engine"]),
        "students": "-".join(map(str, of["net_arch"])) or "linear",
    }
    return {axis: run.labels.get(axis) or usual.get(axis, "") for axis in AXES}


def scores_of(out: Path, runs: Sequence[Run], finished: frozenset[str]) -> Scores:
    """
    :param out: the study's folder
    :param runs: of the study
    :param finished: names of those that are whole
    :return: what they scored
    :raises ValueError: for a file that cannot be read
    """
    place = places(runs)
    tasks = list(dict.fromkeys(task for task, _ in place.values()))
    methods = list(dict.fromkeys(method for _, method in place.values()))
    scored: dict[tuple[str, str], list[Scored]] = {}
    planned: dict[tuple[str, str], int] = {}
    failed: Counter[tuple[str, str]] = Counter()
    for run in runs:
        here = place[run.name]
        planned[here] = planned.get(here, 0) + 1
        if run.name in finished:
            scored.setdefault(here, []).append(read_scored(out / run.name, run.about["settings"]["seed"]))
        elif has_failed(out, run.name):
            failed[here] += 1
    return Scores(tasks, methods, scored, planned, failed)


def read_scored(folder: Path, seed: int) -> Scored:
    """
    :param folder: of a run that is whole
    :param seed: of it
    :return: what it scored
    :raises ValueError: for a file that cannot be read
    """
    try:
        players: Mapping[str, Mapping[str, float]] = read_results(folder)["players"]
        points = np.array(read_curve(folder))
    except ValueError as error:
        raise ValueError(f"{folder} is no whole run: {error}. Move it away, and it is run again.") from error
    mean = {name: float(player["mean_return"]) for name, player in players.items()}
    parameters = int(players["student"].get("parameters") or 0)
    return Scored(
        folder.name, seed, mean["student"], mean["teacher"], mean["random play"], parameters, points[:, 0], points[:, 1]
    )
