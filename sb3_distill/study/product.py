"""From the axes of a study to its runs: the product, what is changed for some of them, and what is left out."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from itertools import product
from typing import Any, NamedTuple

from sb3_distill.experiment import offline
from sb3_distill.experiment.settings import ROW_OPTIONS, Settings
from sb3_distill.study.axes import AXES, MOST_RUNS, Description, Entry, Rule
from sb3_distill.study.faults import Fault

#: of settings that nobody gives
DEFAULTS = {f.name: f.default for f in fields(Settings) if f.default is not MISSING} | {"net_arch": [32, 32]}


class Cell(NamedTuple):
    """
    Runs that differ in nothing but their seed.

    :param labels: from axes, without that of the seeds, to what tables call the run's place on them
    :param settings: of a run, without the seed
    :param seeds: of the runs
    :param lines: from settings to the lines of the file that give them
    """

    labels: dict[str, str]
    settings: dict[str, Any]
    seeds: tuple[int, ...]
    lines: dict[str, int]


def cells_of(description: Description) -> tuple[list[Cell], list[Fault]]:
    """
    :param description: of a study
    :return: the cells in the order of the axes, and what is wrong with the product
    """
    axes = description.axes
    faults = list(_fixed_twice(description))
    size = 1
    for entries in axes.values():
        size *= len(entries)
    if size > MOST_RUNS:
        return [], [*faults, Fault(0, f"it has {size:,} runs, and may have {MOST_RUNS:,}: split it.")]
    labels = {axis: labels_of(axis, entries) for axis, entries in axes.items() if axis != "seeds"}
    for axis, names in labels.items():
        faults += _called_the_same(axes[axis], names)
    seeds = [entry.settings.get("seed", description.fixed.get("seed", 0)) for entry in axes["seeds"]]
    used: Counter[int] = Counter()
    clashes: set[Fault] = set()
    cells: list[Cell] = []
    for places in product(*(range(len(axes[axis])) for axis in labels)):
        entries = [axes[axis][k] for axis, k in zip(labels, places, strict=True)]
        named = {axis: labels[axis][k] for axis, k in zip(labels, places, strict=True)}
        settings = {name: value for name, value in description.fixed.items() if name != "seed"}
        lines = dict(description.fixed_lines)
        for entry in entries:
            settings |= entry.settings
            lines |= dict.fromkeys(entry.settings, entry.line)
        cell = Cell(named, settings, tuple(seeds), lines)
        rules = [rule for rule in description.rules if _applies(rule, settings, None)]
        clashes.update(_clashes(entries, rules))
        clashes.update(_mislabelled(axes, entries, named, rules))
        cells += _ruled(cell, description.rules, used)
    for k, rule in enumerate(description.rules):
        if size and not used[k]:
            what = "changes" if rule.settings is not None else "leave_out"
            faults.append(Fault(rule.line, f"{what}: no run has {_said(rule.where)}, so that this does nothing."))
    if size and not cells and not clashes:
        faults.append(Fault(0, "leave_out leaves out all runs: the product is empty."))
    return cells, [*faults, *sorted(clashes)]


def _fixed_twice(description: Description) -> Iterator[Fault]:
    """What is fixed, and varied by every entry of an axis, is not fixed."""
    for axis, entries in description.axes.items():
        name = AXES[axis]
        if name in description.fixed and any(name in entry.settings for entry in entries):
            yield Fault(entries[0].line, f"{name} is under fixed, too: leave it out there, or leave out {axis}.")


def _called_the_same(entries: list[Entry], names: list[str]) -> Iterator[Fault]:
    """A name that somebody gives may be what another entry is called by itself."""
    for k, (entry, name) in enumerate(zip(entries, names, strict=True)):
        others = [first for first, other in zip(entries[:k], names[:k], strict=True) if other == name]
        # Of two given names it is said where they are read.
        if any(not (first.label and entry.label) for first in others):
            yield Fault(entry.line, f"{entry.axis}: tables would call two entries {name!r}: give both a name.")


def _clashes(entries: list[Entry], rules: list[Rule]) -> Iterator[Fault]:
    """Two axes that say the same of a run, where no rule does."""
    settled = {name for rule in rules for name in rule.settings or ()}
    said: dict[str, Entry] = {}
    for entry in entries:
        for name, value in entry.settings.items():
            first = said.setdefault(name, entry)
            if first is not entry and first.settings[name] != value and name not in settled:
                how = f"Say under changes which it is: where … {name}: …."
                if name in AXES.values():  # whose labels would be false
                    how = "Leave it out of one of them."
                yield Fault(
                    entry.line,
                    f"{name} is said twice of a run: {first.settings[name]} by {first.axis} (line {first.line}), and {value} by "
                    f"{entry.axis}. {how}",
                )


def _mislabelled(
    axes: Mapping[str, list[Entry]], entries: list[Entry], labels: Mapping[str, str], rules: list[Rule]
) -> Iterator[Fault]:
    """Changes after which tables would call a run what it is not any more."""
    for rule, entry in product(rules, entries):
        for name, value in (rule.settings or {}).items():
            if entry.settings.get(name) != value and _says(axes, entry, labels[entry.axis], name):
                label = labels[entry.axis]
                if entry.axis == "students":
                    how = "Give the students names, or leave it out of changes."
                else:
                    how = f"Leave it out of changes, and make it an entry of {entry.axis}."
                yield Fault(
                    rule.line,
                    f"changes: {name} is an axis, {entry.axis}, and tables would go on to say {label!r}. {how}",
                )


def _says(axes: Mapping[str, list[Entry]], entry: Entry, label: str, name: str) -> bool:
    """Whether tables say a setting of a run by what its entry of an axis is called."""
    if entry.axis == "students" and name in ("net_arch", "size"):
        return bool(entry.settings) and not entry.label and len(axes["students"]) > 1  # one alone is not in tables
    return name in entry.settings and (
        name == AXES[entry.axis] or (not entry.label and label == _whole(entry.settings))
    )


def _ruled(cell: Cell, rules: list[Rule], used: "Counter[int]") -> Iterator[Cell]:
    """The cell as the rules leave it; in several parts where they speak of seeds."""
    parts: dict[tuple[Any, ...], list[int]] = {}
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    by_seed = any("seed" in rule.where for rule in rules)
    for group in [(seed,) for seed in cell.seeds] if by_seed else [cell.seeds]:
        settings: dict[str, Any] | None = dict(cell.settings)
        key = []
        for k, rule in enumerate(rules):
            if settings is None or not _applies(rule, settings, group[0]):
                continue
            used[k] += 1
            key.append(k)
            settings = None if rule.settings is None else settings | rule.settings
        if settings is not None:
            parts.setdefault(tuple(key), []).extend(group)
            found[tuple(key)] = settings
    for key_, seeds_ in parts.items():
        lines = dict(cell.lines)
        for k in key_:
            lines |= dict.fromkeys(rules[k].settings or (), rules[k].line)
        yield Cell(cell.labels, found[key_], tuple(seeds_), lines)


def _applies(rule: Rule, settings: Mapping[str, Any], seed: int | None) -> bool:
    """Whether a rule speaks of a run; with None for the seed, of a run of any."""
    values = {**DEFAULTS, **settings, "seed": seed}
    if values["method"] != offline.NAME:
        values |= {name: value for name, value in ROW_OPTIONS.items() if values.get(name) is None}
    return all(values.get(name) in among or (name == "seed" and seed is None) for name, among in rule.where.items())


def labels_of(axis: str, entries: list[Entry]) -> list[str]:
    """
    :param axis: a key of :data:`~sb3_distill.study.axes.AXES`
    :param entries: on it
    :return: what tables call them, as short as it tells them apart
    """
    short = [entry.label or _short(axis, entry.settings) for entry in entries]
    counts = Counter(short)
    return [
        name if counts[name] == 1 or entry.label else _whole(entry.settings)
        for name, entry in zip(short, entries, strict=True)
    ]


def _short(axis: str, settings: Mapping[str, Any]) -> str:
    if axis == "students" and "size" in settings:
        return str(settings["size"])
    name = AXES[axis]
    value = settings.get(name)
    return _whole(settings) if value is None else _value(name, value)


def _whole(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(name, value)}" for name, value in settings.items())


def _value(name: str, value: Any) -> str:
    """
    >>> _value("net_arch", [32, 32]), _value("net_arch", []), _value("method", "n_distill"), _value("teacher", "a_b")
    ('32-32', 'linear', 'n-distill', 'a_b')
    """
    if isinstance(value, list):
        return "-".join(map(str, value)) or "linear"
    return str(value).replace("_", "-") if name == "method" else str(value)


def _said(where: Mapping[str, list[Any]]) -> str:
    return " and ".join(
        f"{name}: {' or '.join(_value(name, value) for value in values)}" for name, values in where.items()
    )
