"""From a study's cells to its runs: settings are completed, teachers and memories known by their fingerprints, and all that does not
go together is found before anything runs."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from sb3_distill.agents.load import load_teacher
from sb3_distill.experiment.defaults import settings_from
from sb3_distill.experiment.plan import prepare
from sb3_distill.experiment.settings import Settings
from sb3_distill.memory.fingerprint import memory_fingerprint
from sb3_distill.study.faults import Fault
from sb3_distill.study.names import Run, about_run, name_of
from sb3_distill.study.product import Cell
from sb3_distill.teachers.fingerprint import fingerprint_of

#: settings that have to go together, the first ones with all others
_TOGETHER = (("env", "env_kwargs", "teacher", "memory"), ("method", "engine"), ("net_arch", "size"))
#: what a run cannot be made from
REFUSED = (ValueError, OSError, ImportError)


def runs_of(cells: Iterable[Cell]) -> tuple[list[Run], list[Fault]]:
    """
    :param cells: of a study
    :return: its runs in order, without those that are faulty, and what is wrong
    """
    faults = _Faults()
    fingerprint = _Fingerprints()
    runs: dict[str, Run] = {}
    for cell in cells:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they come when the run does
                settings = settings_from(cell.settings)
                known = fingerprint(settings)
        except REFUSED as error:
            faults.add(cell, error)
            continue
        for seed in cell.seeds:
            one = replace(settings, seed=seed)
            about = about_run(one, known)
            labels = {**cell.labels, "seeds": str(seed)}
            run = Run(name_of(one, about), labels, {**cell.settings, "seed": seed}, about, cell.lines)
            if run.name in runs:
                first = _place(runs[run.name].labels)
                faults.add(cell, ValueError(f"seed {seed} is the same run as {first}: leave one of them out."))
            runs.setdefault(run.name, run)
    return list(runs.values()), faults.listed()


def faults_of(runs: Iterable[Run], progress: Callable[[int, int], None] = lambda done, total: None) -> list[Fault]:
    """
    Prepare one run of each cell, up to where its teacher would be asked, as ``distill`` does.

    :param runs: that are to be run
    :param progress: called with how many of how many have been prepared
    :return: what is wrong with them
    """
    faults = _Faults()
    first: dict[tuple[tuple[str, str], ...], Run] = {}
    for run in runs:
        key = tuple(sorted((name, repr(value)) for name, value in run.settings.items() if name != "seed"))
        first.setdefault(key, run)
    for done, run in enumerate(first.values()):
        progress(done, len(first))
        for names, error in _problems(run.settings):
            labels = {axis: label for axis, label in run.labels.items() if axis != "seeds"}
            faults.add(Cell(labels, run.settings, (), run.lines), error, names)
    return faults.listed()


def _problems(settings: Mapping[str, Any]) -> list[tuple[tuple[str, ...], Exception]]:
    """
    All that is wrong with a run, by the settings that it is about: the first fault hides others, so that they are tried one by one
    then.
    """
    whole = _problem(settings)
    if whole is None:
        return []
    base: dict[str, Any] = {}
    found: list[tuple[tuple[str, ...], Exception]] = []
    for names in _TOGETHER:
        more = {name: settings[name] for name in names if name in settings}
        problem = _problem(base | more)
        if problem is None:
            base |= more
        else:
            found.append((names, problem))
            if names is _TOGETHER[0]:
                return found
    for name, value in settings.items():
        if not any(name in names for names in _TOGETHER):
            problem = _problem(base | {name: value})
            if problem is not None:
                found.append(((name,), problem))
    return found or [(tuple(settings), whole)]


def _problem(settings: Mapping[str, Any]) -> Exception | None:
    """What :func:`~sb3_distill.distill` would raise before its teacher is asked."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prepare(settings_from(settings))
    except Exception as error:  # also what comes out of an environment's own code
        return error
    return None


class _Faults:
    """The same fault of many cells is told once."""

    def __init__(self) -> None:
        self._found: dict[str, list[tuple[Cell, list[int]]]] = {}

    def add(self, cell: Cell, error: Exception, names: Iterable[str] | None = None) -> None:
        """
        :param cell: that has it
        :param error: that says what is wrong
        :param names: of the settings that it is about; None for all
        """
        said = " ".join(str(error).split()) or type(error).__name__
        if not isinstance(error, REFUSED):
            said = f"{type(error).__name__}: {said}"
        lines = sorted({cell.lines[name] for name in names or cell.lines if cell.lines.get(name)})
        self._found.setdefault(said, []).append((cell, lines))

    def listed(self) -> list[Fault]:
        """:return: each once, with the lines that all cells that have it share"""
        return [self._fault(said, found) for said, found in self._found.items()]

    @staticmethod
    def _fault(said: str, found: list[tuple[Cell, list[int]]]) -> Fault:
        cell, first = found[0]
        lines = [line for line in first if all(line in others for _, others in found)] or first
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        others = f" (with line{'s' if len(lines) > 2 else ''} {', '.join(map(str, lines[1:]))})" if lines[1:] else ""
        return Fault(lines[0] if lines else 0, f"{_place(cell.labels)}{more}{others}: {said}")


def _place(labels: Mapping[str, str]) -> str:
    return ", ".join(label for label in labels.values() if label) or "the run"


class _Fingerprints:
    """Of teachers and memories, each read once."""

    def __init__(self) -> None:
        self._teachers: dict[tuple[str, str], str] = {}
        self._memories: dict[str, str] = {}

    def __call__(self, settings: Settings) -> dict[str, Any]:
        key = (settings.teacher, settings.env_id)
        if key not in self._teachers:
            teacher = load_teacher(settings.teacher, env_id=settings.env_id, tune=False, device="cpu")
            self._teachers[key] = fingerprint_of(teacher)
        found = {"teacher_fingerprint": self._teachers[key]}
        if settings.memory is not None:
            if settings.memory not in self._memories:
                from sb3_distill.algorithms.policy_distillation import open_memory

                self._memories[settings.memory] = memory_fingerprint(open_memory(settings.memory))
            found["memory_fingerprint"] = self._memories[settings.memory]
        return found
