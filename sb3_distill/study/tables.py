"""Tables of a study: CSV for programs, Markdown for people. The same runs make the same bytes, whoever has done them."""

import math
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sb3_distill.common.files import replacing, write_csv
from sb3_distill.study.estimates import (
    Estimate,
    estimate,
    half_way,
    improvement,
    iqm,
    mean_of_tasks,
    profile_band,
    share_above,
    steps_to,
)
from sb3_distill.study.scores import Scored, Scores

#: of a performance profile: shares of the teacher's return
THRESHOLDS = np.linspace(0.0, 1.2, 61)
#: most pairs that Markdown has; CSV has all
MOST_PAIRS = 30


class Table(NamedTuple):
    """
    A table.

    :param name: of its file
    :param title: in Markdown
    :param header: of the columns in CSV
    :param rows: values; None is nothing
    :param told: header and rows in Markdown; None if it is for programs
    """

    name: str
    title: str
    header: list[str]
    rows: list[list[Any]]
    told: tuple[list[str], list[list[str]]] | None


def tables_of(scores: Scores, reach: float) -> list[Table]:
    """
    :param scores: of a study
    :param reach: the share of the teacher's return that is to be reached
    :return: all tables
    """
    return [
        overall_table(scores),
        task_table(scores),
        steps_table(scores, reach),
        improvement_table(scores),
        profile_table(scores),
        runs_table(scores),
    ]


def write_tables(folder: Path, title: str, tables: Sequence[Table]) -> str:
    """
    :param folder: where the files go
    :param title: of the study
    :param tables: of it
    :return: the Markdown
    :raises OSError: if the disk is full; each file is whole or as it was
    """
    folder.mkdir(parents=True, exist_ok=True)
    for table in tables:
        write_csv(folder / f"{table.name}.csv", table.header, ([_exact(value) for value in row] for row in table.rows))
    text = markdown(title, tables)
    with replacing(folder / "tables.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


def markdown(title: str, tables: Sequence[Table]) -> str:
    """
    :param title: of the study
    :param tables: of it
    :return: those that are for people
    """
    parts = [f"# {' '.join(title.split())}", NOTE]
    for table in tables:
        if table.told is not None and table.told[1]:
            header, rows = table.told
            lines = [header, ["---"] * len(header), *rows]
            cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in lines]
            parts += [f"## {table.title}", "\n".join(f"| {' | '.join(line)} |" for line in cells)]
    return "\n\n".join(parts) + "\n"


NOTE = (
    "Scores are shares of the teacher's return over random play: 1 is the teacher, 0 is random play. In brackets are 95% intervals of a "
    "stratified bootstrap over seeds; IQM is the interquartile mean of all runs."
)


# --- the tables -------------------------------------------------------------------------------------------------------


def overall_table(scores: Scores) -> Table:
    """
    :param scores: of a study
    :return: a row for each method, over all tasks
    """
    rows: list[list[Any]] = []
    told: list[list[str]] = []
    for method in scores.methods:
        by_task = scores.by_task(method)
        n, planned = _count(scores, scores.tasks, method)
        failed = _failed(scores, [(task, method) for task in scores.tasks])
        if not by_task:
            rows.append([method, len(scores.tasks), 0, n, planned, *[None] * 6])
            told.append([method, f"0/{len(scores.tasks)}", f"{n}/{planned}{failed}", "—", "—"])
            continue
        mean = estimate(by_task, mean_of_tasks([len(task) for task in by_task]))
        middle = estimate(by_task, iqm)
        rows.append([method, len(scores.tasks), len(by_task), n, planned, *mean, *middle])
        told.append(
            [method, f"{len(by_task)}/{len(scores.tasks)}", f"{n}/{planned}{failed}", shown(mean), shown(middle)]
        )
    columns = [*_columns("mean"), *_columns("iqm")]
    header = ["method", "tasks", "tasks_scored", "runs", "runs_planned", *columns]
    return Table("overall", "All tasks", header, rows, (["method", "tasks", "runs", "mean", "IQM"], told))


def task_table(scores: Scores) -> Table:
    """
    :param scores: of a study
    :return: a row for each task and method
    """
    rows: list[list[Any]] = []
    told: list[list[str]] = []
    for task, method, runs in _cells(scores):
        planned = scores.planned[task, method]
        failed = _failed(scores, [(task, method)])
        if not runs:
            rows.append([task, method, 0, planned, *[None] * 12])
            told.append([task, method, f"0/{planned}", failed.removeprefix(", ") or "not run", "—", "—", "—", "—"])
            continue
        returns = estimate([np.array([run.mean_return for run in runs])], _mean)
        shares = scores.shares(task, method)
        nothing = Estimate(np.nan, np.nan, np.nan)
        mean = estimate([shares], _mean) if len(shares) else nothing
        middle = estimate([shares], iqm) if len(shares) else nothing
        teacher, random = (float(np.mean([getattr(run, name) for run in runs])) for name in ("teacher", "random"))
        rows.append([task, method, len(runs), planned, *returns, teacher, random, *mean, *middle, runs[0].parameters])
        told.append(
            [
                *(
                    task,
                    method,
                    f"{len(runs)}/{planned}{failed}",
                    shown(returns, ",.1f"),
                    f"{teacher:,.1f}",
                    f"{random:,.1f}",
                ),
                *(shown(mean), shown(middle)),
            ]
        )
    columns = [*_columns("return"), "teacher", "random_play", *_columns("mean"), *_columns("iqm"), "parameters"]
    names = ["task", "method", "runs", "return", "teacher", "random play", "mean", "IQM"]
    return Table("tasks", "Task by task", ["task", "method", "runs", "runs_planned", *columns], rows, (names, told))


def steps_table(scores: Scores, reach: float) -> Table:
    """
    :param scores: of a study
    :param reach: the share of the teacher's return that is to be reached
    :return: a row for each task and method: how many runs come there, and after how many steps half of them have. Those that never
        do count as infinitely many
    """
    rows: list[list[Any]] = []
    told: list[list[str]] = []
    for task, method, runs in _cells(scores):
        arrived = [steps_to(run.steps, run.curve, reach) for run in runs if np.isfinite(run.share)]
        if not arrived:
            rows.append([task, method, 0, 0, *[None] * 4])
            continue
        last = max(float(run.steps[-1]) if len(run.steps) else 0.0 for run in runs)
        found = estimate([np.array(arrived)], half_way)
        n = sum(map(math.isfinite, arrived))
        rows.append([task, method, n, len(arrived), *found, last])
        told.append([task, method, f"{n}/{len(arrived)}", _steps(found, last)])
    header = ["task", "method", "reached", "runs", "steps", "steps_low", "steps_high", "steps_trained"]
    title = f"Steps to {reach:.0%} of the teacher"
    names = ["task", "method", "reached", "steps of half of the runs"]
    return Table("steps", title, header, rows, (names, told))


def improvement_table(scores: Scores) -> Table:
    """
    :param scores: of a study
    :return: a row for each pair of methods, over the tasks that both have
    """
    rows: list[list[Any]] = []
    told: list[list[str]] = []
    for first, second in permutations(scores.methods, 2):
        both = [task for task in scores.tasks if len(scores.shares(task, first)) and len(scores.shares(task, second))]
        if not both:
            continue
        found = improvement(*([scores.shares(task, method) for task in both] for method in (first, second)))
        rows.append([first, second, len(both), *found])
        if scores.methods.index(first) < scores.methods.index(second):
            told.append([first, second, str(len(both)), shown(found)])
    header = ["method", "other", "tasks", *_columns("probability")]
    title = "How likely a run of the first is better than one of the second, on one task"
    return Table("improvement", title, header, rows, (["first", "second", "tasks", "probability"], told[:MOST_PAIRS]))


def profile_table(scores: Scores) -> Table:
    """
    :param scores: of a study
    :return: performance profiles: the share of runs above each threshold
    """
    rows: list[list[Any]] = []
    for method in scores.methods:
        by_task = scores.by_task(method)
        if by_task:
            above = share_above(by_task, THRESHOLDS)
            low, high = profile_band(by_task, THRESHOLDS)
            rows += [[method, *map(float, row)] for row in zip(THRESHOLDS, above, low, high, strict=True)]
    return Table("profiles", "Performance profiles", ["method", "threshold", *_columns("share")], rows, None)


def runs_table(scores: Scores) -> Table:
    """
    :param scores: of a study
    :return: a row for each run that is whole
    """
    rows: list[list[Any]] = [
        [task, method, run.seed, run.mean_return, run.teacher, run.random, run.share, run.parameters, run.name]
        for task, method, runs in _cells(scores)
        for run in runs
    ]
    header = ["task", "method", "seed", "return", "teacher", "random_play", "share", "parameters", "folder"]
    return Table("runs", "Runs", header, rows, None)


# --- cells ------------------------------------------------------------------------------------------------------------


def shown(found: Estimate, spec: str = ".2f") -> str:
    """
    >>> shown(Estimate(0.9, 0.85, 1.0)), shown(Estimate(0.9, float("nan"), float("nan")))
    ('0.90 [0.85, 1.00]', '0.90')

    :param found: a statistic
    :param spec: of its numbers
    :return: for people
    """
    if math.isnan(found.value):
        return "—"
    if math.isnan(found.low):
        return f"{found.value:{spec}}"
    return f"{found.value:{spec}} [{found.low:{spec}}, {found.high:{spec}}]"


def _steps(found: Estimate, last: float) -> str:
    def one(value: float) -> str:
        return f"> {last:,.0f}" if math.isinf(value) else f"{value:,.0f}"

    return one(found.value) if math.isnan(found.low) else f"{one(found.value)} [{one(found.low)}, {one(found.high)}]"


def _exact(value: Any) -> Any:
    """As CSV has it: all digits, and nothing for what is not known."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.12g}" if isinstance(value, float) else value


def _columns(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]


def _mean(rows: np.ndarray) -> np.ndarray:
    return rows.mean(axis=-1)  # type: ignore[no-any-return]


def _cells(scores: Scores) -> Iterator[tuple[str, str, list[Scored]]]:
    for task in scores.tasks:
        for method in scores.methods:
            if (task, method) in scores.planned:
                yield task, method, scores.runs.get((task, method), [])


def _failed(scores: Scores, cells: Sequence[tuple[str, str]]) -> str:
    number = sum(scores.failed.get(cell, 0) for cell in cells)
    return f", {number} failed" if number else ""


def _count(scores: Scores, tasks: Sequence[str], method: str) -> tuple[int, int]:
    pairs = [(task, method) for task in tasks]
    return sum(len(scores.runs.get(pair, [])) for pair in pairs), sum(scores.planned.get(pair, 0) for pair in pairs)
