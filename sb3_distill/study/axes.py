"""The axes of a study and what else its file may say: from plain values to settings, with all faults."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from typing import Any, NamedTuple, get_args, get_origin

from sb3_distill.common.nearest import nearest
from sb3_distill.common.typed_numbers import exactly
from sb3_distill.experiment.checks import CHECKS, check_settings
from sb3_distill.experiment.settings import Settings
from sb3_distill.study.faults import Fault
from sb3_distill.study.lookups import NAMING, problem
from sb3_distill.study.yaml_file import Lines

#: from the keys of a file to the setting that a plain entry is; in the order in which tables have them
AXES = {
    "teachers": "teacher",
    "environments": "env",
    "methods": "method",
    "engines": "engine",
    "students": "net_arch",
    "seeds": "seed",
}
#: keys of a file that are no axes
OTHERS = ("title", "out", "fixed", "changes", "leave_out", "resources")
SETTINGS = tuple(f.name for f in fields(Settings))
#: more runs than anybody means
MOST_RUNS = 1_000_000
#: settings whose values may be typed as on the command line: 100k, 1e5
_WHOLES, _NUMBERS = (
    tuple(
        f.name for f in fields(Settings) if kind in (f.type, *(() if get_origin(f.type) is tuple else get_args(f.type)))
    )
    for kind in (int, float)
)


class Entry(NamedTuple):
    """
    One place on an axis.

    :param axis: a key of :data:`AXES`
    :param label: in tables; empty if the settings say it
    :param settings: that it gives
    :param line: in the file
    """

    axis: str
    label: str
    settings: dict[str, Any]
    line: int


class Rule(NamedTuple):
    """
    What is otherwise for some of the runs.

    :param where: settings and the values of which one must be a run's
    :param settings: that the runs have then; None if they are left out
    :param line: in the file
    """

    where: dict[str, list[Any]]
    settings: dict[str, Any] | None
    line: int


class Description(NamedTuple):
    """
    What a file says, checked value by value.

    :param title: of tables and figures
    :param out: the folder, if the file names one
    :param axes: from keys to entries, with one that gives nothing where the file does not have the axis
    :param fixed: settings of all runs
    :param fixed_lines: where these stand
    :param rules: in their order
    :param resources: of a run on a cluster: ``cpus``, ``gpus``, ``memory`` in GiB
    """

    title: str | None
    out: str | None
    axes: dict[str, list[Entry]]
    fixed: dict[str, Any]
    fixed_lines: dict[str, int]
    rules: list[Rule]
    resources: dict[str, float]


class Reader:
    """
    Reads a study, and goes on after a fault.

    :param lines: where the values stand
    """

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.faults: list[Fault] = []
        self._problem = cache(problem)

    def fault(self, path: tuple[str | int, ...], text: str) -> None:
        """
        :param path: of the value that is wrong
        :param text: what is
        """
        while path and path not in self.lines:
            path = path[:-1]
        self.faults.append(Fault(self.lines.get(path, 0), text))

    def read(self, data: Any) -> Description:
        """
        :param data: of a file
        :return: what is right about it
        """
        if not isinstance(data, Mapping):
            self.fault((), f"a study has keys, {', '.join(AXES)} and the like, and this is {_kind(data)}.")
            data = {}
        for key in data:
            if key not in (*AXES, *OTHERS):
                self.fault((key,), self._unknown(key))
        if not set(data) & set(AXES):
            self.fault((), f"nothing is varied: give one of {', '.join(AXES)} at least.")
        fixed = self._settings(data.get("fixed"), ("fixed",))
        return Description(
            self._text(data, "title"),
            self._text(data, "out"),
            {axis: self._axis(axis, data.get(axis), axis in data) for axis in AXES},
            fixed,
            {name: self.lines.get(("fixed", name), 0) for name in fixed},
            [*self._rules(data, "changes"), *self._rules(data, "leave_out")],
            self._resources(data.get("resources")),
        )

    @staticmethod
    def _unknown(key: Any) -> str:
        if key in SETTINGS:
            axis = next((axis for axis, name in AXES.items() if name == key), None)
            hint = f"several go under {axis}, and one for all runs under fixed" if axis else "it goes under fixed"
            return f"{key!r} is a setting of runs: {hint}."
        return f"Unknown key {key!r}: {nearest(str(key), (*AXES, *OTHERS))}"

    def _text(self, data: Mapping[str, Any], key: str) -> str | None:
        value = data.get(key)
        if value is None or (isinstance(value, str) and value.strip()):
            return value
        self.fault((key,), f"{key} must be text, not {_kind(value)}.")
        return None

    # --- axes ---------------------------------------------------------------------------------------------------------

    def _axis(self, axis: str, value: Any, given: bool) -> list[Entry]:
        if not given:
            return [Entry(axis, "", {}, 0)]
        if axis == "seeds" and (number := _whole(value)) is not None and not isinstance(value, list):
            if number < 1:
                self.fault((axis,), f"seeds must be how many, at least 1, or a list of them, not {value!r}.")
            elif number > MOST_RUNS:
                self.fault((axis,), f"seeds: {number:,} are more than the {MOST_RUNS:,} runs that a study may have.")
                number = 0
            return [Entry(axis, "", {"seed": seed}, self.lines.get((axis,), 0)) for seed in range(number)]
        if not isinstance(value, list):
            how = "how many, or a list of them" if axis == "seeds" else "a list"
            self.fault((axis,), f"{axis} must be {how}, not {_kind(value)}.")
            return []
        if not value:
            self.fault((axis,), f"{axis} is empty, and so is the product: name one at least, or leave the key out.")
        entries = [entry for k, item in enumerate(value) if (entry := self._entry(axis, item, k)) is not None]
        once: list[Entry] = []
        for entry in entries:
            if any(entry.settings == other.settings for other in once):
                self.faults.append(Fault(entry.line, f"{axis}: {_said(entry.settings)} is there twice."))
            else:
                once.append(entry)
        labels = [entry.label for entry in once if entry.label]
        for entry in once:
            if entry.label and labels.count(entry.label) > 1:
                self.faults.append(Fault(entry.line, f"{axis}: two entries have the name {entry.label!r}."))
        return once

    def _entry(self, axis: str, item: Any, k: int) -> Entry | None:
        path = (axis, k)
        label = ""
        if isinstance(item, Mapping):
            given, item = item, dict(item)
            label = item.pop("name", "")
            before = len(self.faults)
            if not isinstance(label, str) or (not label.strip() and "name" in given):
                self.fault((*path, "name"), f"name must be text, not {_kind(label)}.")
                label = ""
            settings = self._settings(item, path)
            if not item and len(self.faults) == before:
                self.fault(path, f"{axis}: an entry without a setting.")
                return None
            if axis == "seeds" and (label or set(item) != {"seed"}):
                self.fault(path, "seeds: each is a number: what else a run has goes under fixed, or under changes.")
            elif axis != "seeds" and "seed" in settings:
                self.fault((*path, "seed"), f"{axis}: seed is not of an entry: it goes under seeds, or under fixed.")
        else:
            before = len(self.faults)
            name = "size" if axis == "students" and isinstance(item, str) else AXES[axis]
            settings = self._settings({name: item}, path, many=False)
        return Entry(axis, label, settings, self.lines.get(path, 0)) if len(self.faults) == before else None

    # --- settings -----------------------------------------------------------------------------------------------------

    def _settings(self, data: Any, path: tuple[str | int, ...], many: bool = True) -> dict[str, Any]:
        """Those that are right; the others are faults."""
        if data is None:
            return {}
        if not isinstance(data, Mapping):
            self.fault(path, f"{path[0]} must have settings, NAME: VALUE, not {_kind(data)}.")
            return {}
        found = {}
        for name, value in data.items():
            here = (*path, name) if many else path
            if name not in CHECKS:
                self.fault(here, f"Unknown setting {name!r}: {nearest(str(name), SETTINGS)}")
                continue
            try:
                found[name] = checked(name, value)
                error = self._problem(name, found[name]) if name in NAMING else None
                if error is not None:
                    raise error
            except (ValueError, OSError, ImportError) as wrong:
                self.fault(here, " ".join(str(wrong).split()))
        return found

    def _rules(self, data: Mapping[str, Any], key: str) -> Iterator[Rule]:
        value = data.get(key)
        if value is None:
            return
        if not isinstance(value, list):
            self.fault((key,), f"{key} must be a list, not {_kind(value)}.")
            return
        for k, item in enumerate(value):
            path = (key, k)
            if not isinstance(item, Mapping):
                self.fault(path, f"{key}: each must be NAME: VALUE, not {_kind(item)}.")
                continue
            item = dict(item)
            before = len(self.faults)
            if key == "leave_out":
                where, settings = self._where(item, path), None
            else:
                where = self._where(item.pop("where", None), (*path, "where"))
                settings = self._settings(item, path)
                if "seed" in settings:
                    self.fault((*path, "seed"), "changes: a seed is not changed: name those to be run under seeds.")
                if not settings and len(self.faults) == before:
                    self.fault(path, "changes: nothing is changed here.")
            if len(self.faults) == before:
                yield Rule(where, settings, self.lines.get(path, 0))

    def _where(self, data: Any, path: tuple[str | int, ...]) -> dict[str, list[Any]]:
        if not isinstance(data, Mapping) or not data:
            what = "where: settings of the runs that it is about" if "where" in path else "settings of runs"
            self.fault(path, f"{path[0]}: say {what}, such as method: n-distill.")
            return {}
        where: dict[str, list[Any]] = {}
        for name, value in data.items():
            is_list = isinstance(value, list) and not (
                name == "net_arch" and not any(isinstance(v, list) for v in value)
            )
            for item in value if is_list else [value]:
                found = self._settings({name: item}, path)
                where.setdefault(name, []).extend(found.values())
        return where

    def _resources(self, data: Any) -> dict[str, float]:
        if data is None:
            return {}
        known = ("cpus", "gpus", "memory")
        if not isinstance(data, Mapping):
            self.fault(("resources",), f"resources must be of {', '.join(known)}, not {_kind(data)}.")
            return {}
        found = {}
        for name, value in data.items():
            if name not in known:
                self.fault(("resources", name), f"Unknown resource {name!r}: {nearest(str(name), known)}")
            elif isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e6:
                self.fault(("resources", name), f"{name} must be a number of at least 0, not {value!r}.")
            else:
                found[name] = float(value)
        return found


def checked(name: str, value: Any) -> Any:
    """
    >>> checked("steps", "16k"), checked("method", "n-distill"), checked("net_arch", 32)
    (16000, 'n_distill', [32])

    :param name: of a setting
    :param value: as it was typed: numbers also as on the command line
    :return: as a run keeps it
    :raises ValueError: if it cannot be
    """
    if isinstance(value, str):
        if name in _WHOLES:
            whole = _whole(value)
            value = value if whole is None else whole
        elif name in _NUMBERS and value != "auto":
            value = _number(value)
    if name == "net_arch" and isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    if value is None:
        raise ValueError(f"{name} has no value: give one, or leave it out.")
    value = check_settings({name: value})[name]
    return value.replace("-", "_") if name == "method" else value


def _whole(value: Any) -> int | None:
    """The number of ``100k``, ``1e5``; None if it is no whole one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = exactly(value) if isinstance(value, str) else None
    return int(number) if number is not None and number == int(number) else None


def _number(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    names = {dict: "a mapping", list: "a list", bool: "true or false"}
    return names.get(type(value), repr(value)[:80])


def _said(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in settings.items())
