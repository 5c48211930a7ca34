"""The tables of README and docs that are studies of ``zoo/studies``: ``python -m tests.tools.tables write STUDY``.

.. code-block:: console

    $ sb3-distill study zoo/studies/four_tasks.yml                            # as often as it takes
    $ python -m tests.tools.tables write zoo/studies/four_tasks.yml           # what is done, to the CSV beside it and to the pages
    $ python -m tests.tools.tables check                                      # which cells are older than the code
    $ python -m tests.tools.tables rerun zoo/studies/four_tasks.yml --cells 3 # whether the quickest ones come out again

A line of the CSV is a run, and knows its folder's name, which has a digest of settings, teacher and versions in it, the code that made it,
and what that code does in the first 2,048 steps: code that changes daily may still compute the same. Where runs were made by another
clone, its Python says that: ``OTHER/bin/python tests/tools/tables.py probe STUDY --out FOLDER``, before ``write``.
"""

import argparse
import csv
import json
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th

from sb3_distill.common.files import write_csv, write_json
from sb3_distill.experiment.defaults import settings_from
from sb3_distill.experiment.distill import distill
from sb3_distill.experiment.plan import prepare
from sb3_distill.experiment.run import Experiment
from sb3_distill.experiment.run_folder import RunFolder
from sb3_distill.study.estimates import estimate, half_way, iqm, steps_to
from sb3_distill.study.folders import read_about
from sb3_distill.study.names import Run
from sb3_distill.study.scores import Scored, Scores, places, read_scored
from sb3_distill.study.source_code import code
from sb3_distill.study.study import Study
from sb3_distill.study.tables import shown

ROOT = Path(__file__).parents[2]
STUDIES = ROOT / "zoo" / "studies"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
#: around a table on a page: the study, and what is shown of it
TABLE = re.compile(r"(<!-- tests\.tools\.tables: (\w+) (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
#: "as well as the teacher", of its return over random play
REACHED = 0.95
#: tasks that stand beside each other
MOST_COLUMNS = 4
#: steps of a probe, and how far the weights may differ that come of them, on another processor say
PROBED, SAME = 2_048, 1e-4
#: one more run is within so many standard deviations of five, in 95 of 100 cases: Student's t, 2.776 · √(1 + 1/5)
ONE_MORE = 3.04


class Line(NamedTuple):
    """
    A run as the CSV has it; what is not known is empty.

    :param task: as tables call it
    :param method: likewise
    :param seed: of the run
    :param steps: that are asked for
    :param score: mean return
    :param teacher: the teacher's in the same episodes
    :param random: random play's
    :param arrived: steps after which its learning curve is at ``REACHED``; infinite where it never is
    :param parameters: of the student
    :param folder: of the run, if it is whole
    :param code: that made it
    :param probe: the length of all weights that this code ends with after ``PROBED`` steps of the cell's first seed
    """

    task: str
    method: str
    seed: int
    steps: int
    score: str = ""
    teacher: str = ""
    random: str = ""
    arrived: str = ""
    parameters: str = ""
    folder: str = ""
    code: str = ""
    probe: str = ""

    @property
    def cell(self) -> tuple[str, str]:
        """Of a table."""
        return self.task, self.method


def read(name: str) -> list[Line]:
    """
    :param name: of a study
    :return: what its CSV says; nothing where none of its runs is done yet
    """
    if not (STUDIES / f"{name}.csv").exists():
        return []
    with (STUDIES / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return [
            Line(**{**row, "seed": int(row["seed"]), "steps": int(row["steps"])})  # type: ignore[arg-type]
            for row in csv.DictReader(file)
        ]


def lines_of(study: Study, probes: dict[str, dict[str, float]]) -> Iterator[Line]:
    """
    :param study: with its folder
    :param probes: by code and by the name of a cell's first run
    :return: a line for each run that is planned
    """
    place, finished = places(study.runs), study.state().finished
    first: dict[tuple[str, str], str] = {}
    for run in study.runs:
        first.setdefault(place[run.name], run.name)
        settings = run.about["settings"]
        line = Line(*place[run.name], settings["seed"], settings["steps"])
        if run.name in finished:
            one = read_scored(study.out / run.name, line.seed)
            made = str((read_about(study.out / run.name) or {}).get("code", ""))
            arrived = steps_to(one.steps, one.curve, REACHED)
            numbers = [f"{value:.6g}" for value in (one.mean_return, one.teacher, one.random, arrived)]
            probed = probes.get(made, {}).get(first[line.cell], "")
            found: dict[str, Any] = dict(zip(("score", "teacher", "random", "arrived"), numbers, strict=True))
            line = line._replace(**found, parameters=str(one.parameters), folder=run.name, code=made, probe=str(probed))
        yield line


def scores_of(lines: Sequence[Line]) -> Scores:
    """
    :param lines: of a CSV
    :return: the same as a study has it; of learning curves there are the steps at which they arrive
    """
    runs: dict[tuple[str, str], list[Scored]] = {}
    planned: dict[tuple[str, str], int] = {}
    none = np.empty(0)
    for line in lines:
        planned[line.cell] = planned.get(line.cell, 0) + 1
        if line.folder:
            numbers = (float(line.score), float(line.teacher), float(line.random), int(line.parameters))
            arrived = np.array([float(line.arrived)])
            runs.setdefault(line.cell, []).append(Scored(line.folder, line.seed, *numbers, arrived, none))
    tasks, methods = dict.fromkeys(line.task for line in lines), dict.fromkeys(line.method for line in lines)
    return Scores(list(tasks), list(methods), runs, planned)


# --- pages ------------------------------------------------------------------------------------------------------------


def share_cell(scores: Scores, task: str, method: str) -> str:
    """:return: how many of the seeds have ``REACHED``, and the mean share"""
    shares = scores.shares(task, method)
    return f"{reached(shares)} · {shares.mean():.2f}"


def return_cell(scores: Scores, task: str, method: str) -> str:
    """:return: how many of the seeds have ``REACHED``, and the mean return with its interval"""
    returns = np.array([run.mean_return for run in scores.runs[task, method]])
    mean = estimate([returns], lambda rows: rows.mean(axis=-1))
    return f"{reached(scores.shares(task, method))} · {shown(mean, ',.0f').replace('-', '−')}"


def interval_cell(scores: Scores, task: str, method: str) -> str:
    """:return: the mean share with its interval"""
    return shown(estimate([scores.shares(task, method)], lambda rows: rows.mean(axis=-1)))


def steps_cell(scores: Scores, task: str, method: str) -> str:
    """:return: how many of the seeds' learning curves come to ``REACHED``, and after how many steps half of them have"""
    arrived = np.array([run.steps[0] for run in scores.runs[task, method]])
    half = estimate([arrived], half_way).value
    return f"{np.isfinite(arrived).sum()}/{len(arrived)} · {f'{half:,.0f}' if np.isfinite(half) else 'not reached'}"


def reached(shares: np.ndarray) -> str:
    """:return: how many of how many"""
    return f"{(shares >= REACHED).sum()}/{len(shares)}"


VIEWS: dict[str, Callable[[Scores, str, str], str]] = {
    "shares": share_cell,
    "returns": return_cell,
    "intervals": interval_cell,
    "steps": steps_cell,
}


def table(lines: Sequence[Line], view: str) -> str:
    """
    :param lines: of a study's CSV
    :param view: of ``VIEWS``: what a cell says
    :return: Markdown: a row for each method and a column for each task, or the other way round where there are many tasks; in the end
        the interquartile mean of all shares
    """
    if not any(line.folder for line in lines):
        return "None of its runs is done yet.\n"
    scores = scores_of(lines)
    cells = {(task, method): _cell(scores, task, method, view) for task in scores.tasks for method in scores.methods}
    middle = {method: _middle(scores, method) for method in scores.methods}
    if len(scores.tasks) <= MOST_COLUMNS:
        rows = [["", "steps", *(_headed(scores, task) for task in scores.tasks), "all: IQM of shares"]]
        for method in scores.methods:
            steps = _steps(line for line in lines if line.method == method)
            told = [cells[task, method] for task in scores.tasks]
            rows.append([method, steps, *told, middle[method]])
    else:
        rows = [["", "steps", *scores.methods]]
        for task in scores.tasks:
            steps = _steps(line for line in lines if line.task == task)
            rows.append([_headed(scores, task), steps, *(cells[task, method] for method in scores.methods)])
        rows.append(["all: IQM of shares", "", *middle.values()])
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _steps(lines: Iterable[Line]) -> str:
    return ", ".join(f"{n / 1000:.0f}k" for n in dict.fromkeys(line.steps for line in lines))


def _middle(scores: Scores, method: str) -> str:
    """Of all tasks, if all are run: of some it would not be comparable."""
    planned = [task for task in scores.tasks if (task, method) in scores.planned]
    if any(len(scores.runs.get((task, method), [])) < scores.planned[task, method] for task in planned):
        return "—"
    return shown(estimate(scores.by_task(method), iqm))


def _headed(scores: Scores, task: str) -> str:
    teachers = [run.teacher for method in scores.methods for run in scores.runs.get((task, method), [])]
    return f"{task} ({np.mean(teachers):,.0f})".replace("-", "−") if teachers else task


def _cell(scores: Scores, task: str, method: str, view: str) -> str:
    n, planned = len(scores.runs.get((task, method), [])), scores.planned.get((task, method), 0)
    if not n:
        return "not run" if planned else ""
    if not len(scores.shares(task, method)):
        return "—"
    return VIEWS[view](scores, task, method) + (f" ({n} of {planned} run)" if n < planned else "")


def filled(text: str) -> str:
    """
    :param text: of a page
    :return: the same with the tables as the CSV files have them now
    """
    return TABLE.sub(lambda found: found[1] + table(read(found[2]), found[3]) + found[5], text)


def write_pages() -> None:
    """Write the tables to README and docs."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if filled(text) != text:
            page.write_text(filled(text), encoding="utf-8")
            print(f"{page.relative_to(ROOT)} is written.")


# --- code -------------------------------------------------------------------------------------------------------------


def probe(run: Run) -> float:
    """
    :param run: of a study
    :return: the length of all weights after ``PROBED`` steps of it, by the code that is here
    """
    settings = {**run.settings, "steps": min(PROBED, run.about["settings"]["steps"])}
    with tempfile.TemporaryDirectory() as folder:
        plan = prepare(settings_from(settings))
        student = Experiment(plan, RunFolder(Path(folder) / "run", plan.described), quiet=True).student
        student.learn(settings["steps"])
    return float(f"{th.cat([weights.detach().flatten() for weights in student.policy.parameters()]).norm():.6g}")


def first_runs(study: Study) -> dict[tuple[str, str], Run]:
    """
    :param study: of any
    :return: the first of each cell's
    """
    place = places(study.runs)
    found: dict[tuple[str, str], Run] = {}
    for run in study.runs:
        found.setdefault(place[run.name], run)
    return found


def probed(study: Study) -> dict[str, dict[str, float]]:
    """
    Probe the cells of which this code has made a run, and keep that beside the runs.

    :param study: with its folder
    :return: all that is known there, by code and first run
    """
    path = study.out / "probes.json"
    known: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    place = places(study.runs)
    made = {
        place[name] for name in study.state().finished if (read_about(study.out / name) or {}).get("code") == code()
    }
    for cell, run in first_runs(study).items():
        if cell in made and run.name not in known.get(code(), {}):
            known.setdefault(code(), {})[run.name] = probe(run)
            write_json(path, known)
    return known


def state(lines: Sequence[Line], run: Run, names: Iterable[str], now: Callable[[Run], float] = probe) -> str:
    """
    :param lines: of one cell
    :param run: its first
    :param names: of the folders of its runs, as the study has them now
    :param now: see :func:`probe`
    :return: whether the cell is what its study and the code say today
    """
    done = [line for line in lines if line.folder]
    if not done:
        return "not run"
    missing = "" if len(done) == len(lines) else f", {len(done)} of {len(lines)} run"
    if not {line.folder for line in done} <= set(names):
        return "OLDER than its settings, its teacher or the versions installed here" + missing
    if all(line.code == code() for line in done):
        return "of this code" + missing
    before = {line.probe for line in done if line.code != code()}
    if "" in before:
        return "of other code, of which nothing is known" + missing
    value = now(run)
    if all(abs(float(one) - value) <= SAME * value for one in before):
        return "of other code, which computes the same" + missing
    return (
        f"OLDER than the code: {PROBED:,} steps end with weights of length {value:g}, not {', '.join(sorted(before))}"
        + missing
    )


# --- commands ---------------------------------------------------------------------------------------------------------


def check(files: Sequence[Path]) -> int:
    """
    :param files: of studies
    :return: exit code: 1 if a cell is older
    """
    older = 0
    for file in files:
        study = Study(file)
        place = places(study.runs)
        lines = read(file.stem)
        for cell, run in first_runs(study).items():
            mine = [line for line in lines if line.cell == cell]
            said = state(mine, run, [name for name, where in place.items() if where == cell])
            older += said.startswith("OLDER")
            print(f"{file.stem}: {', '.join(cell)}: {said}", flush=True)
    print(f"{older} cells are older than what they depend on.")
    return int(older > 0)


def rerun(study: Study, lines: Sequence[Line], n_cells: int) -> int:
    """
    :param study: whose runs they are
    :param lines: of its CSV
    :param n_cells: how many of the quickest
    :return: exit code: 1 if a number does not come out again
    """
    whole = {line.cell: line for line in reversed(lines) if line.folder}
    quickest = sorted(whole.values(), key=lambda line: line.steps)[:n_cells]
    place = places(study.runs)
    wrong = 0
    for line in quickest:
        settings = next(
            run.settings
            for run in study.runs
            if place[run.name] == line.cell and run.about["settings"]["seed"] == line.seed
        )
        with tempfile.TemporaryDirectory() as folder:
            returns = distill(out=Path(folder) / "run", quiet=True, **settings).returns()
        seeds = np.array([float(one.score) for one in lines if one.cell == line.cell and one.folder])
        said = contradiction(float(line.score), seeds, returns)
        wrong += "CONTRADICTED" in said
        print(f"{', '.join(line.cell)}, seed {line.seed}: {returns.mean():.6g}, {said}", flush=True)
    return int(wrong > 0)


def contradiction(score: float, seeds: np.ndarray, returns: np.ndarray) -> str:
    """
    :param score: of the run before
    :param seeds: mean returns of all seeds of its cell
    :param returns: of the episodes of the run that was made again
    :return: what that says of the table
    """
    if abs(returns.mean() - score) <= 1e-5 * abs(score):
        return "as before"
    if len(seeds) < 2:
        return f"{score:.6g} before: of one seed nobody knows the scatter"
    margin = ONE_MORE * seeds.std(ddof=1) + 1.96 * returns.std(ddof=1) / np.sqrt(len(returns))
    low, high = seeds.mean() - margin, seeds.mean() + margin
    inside = low <= returns.mean() <= high
    return f"{score:.6g} before, {'which one more of these seeds may be' if inside else 'CONTRADICTED'}: {low:.6g} to {high:.6g}"


def main(argv: list[str]) -> int:
    """
    :param argv: arguments
    :return: exit code
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["write", "pages", "probe", "check", "rerun"])
    parser.add_argument("studies", nargs="*", type=Path, help="by default all that have a CSV")
    parser.add_argument("--out", type=Path, help="the folder of the runs, if it is not the study's own")
    parser.add_argument("--cells", type=int, default=3, help="of rerun")
    args = parser.parse_args(argv)
    files = args.studies or [path.with_suffix(".yml") for path in sorted(STUDIES.glob("*.csv"))]
    th.set_num_threads(1)
    warnings.simplefilter("ignore")  # they came when the runs did
    if args.what == "check":
        return check(files)
    if args.what == "rerun":
        return max(rerun(Study(file), read(file.stem), args.cells) for file in files)
    for file in files if args.what != "pages" else []:
        study = Study(file, args.out)
        known = probed(study)
        if args.what == "write":
            lines = list(lines_of(study, known))
            write_csv(STUDIES / f"{file.stem}.csv", Line._fields, lines)
            print(f"{file.stem}.csv: {sum(bool(line.folder) for line in lines)} of {len(lines)} runs.")
    if args.what != "probe":
        write_pages()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
