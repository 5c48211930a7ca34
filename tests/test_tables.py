"""The tables of README and docs are those of the runs that the repository knows, and it is seen when the code has gone on."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from study_works import FAKE

from sb3_distill.algorithms.ppo import DistillPPO
from sb3_distill.study.folders import ABOUT
from sb3_distill.study.study import Study
from sb3_distill.study.work import DONE, Task, do
from tools import tables
from tools.tables import Line


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_a_page_has_its_tables_as_the_csv_files_have_them(page):
    text = page.read_text(encoding="utf-8")
    assert text == tables.filled(text), "python -m tests.tools.tables pages writes it"


def test_every_csv_is_shown_and_is_of_a_study():
    shown = {found[1] for page in tables.PAGES for found in tables.TABLE.findall(page.read_text(encoding="utf-8"))}
    assert {path.stem for path in tables.STUDIES.glob("*.csv")} <= shown
    assert shown <= {path.stem for path in tables.STUDIES.glob("*.yml")}


def line(method, seed, score="", task="A", steps=1000, code="now", probe="1.5", arrived="500"):
    if score == "":
        return Line(task, method, seed, steps)
    return Line(task, method, seed, steps, str(score), "100", "0", arrived, "9", f"{task}-{method}-{seed}", code, probe)


def test_a_table_says_what_was_run():
    lines = [line("x", 0, 96), line("x", 1, 94), line("y", 0, 50, arrived="inf"), line("y", 1)]
    told = tables.table(lines, "shares").splitlines()
    assert told[0] == "|  | steps | A (100) | all: IQM of shares |"
    assert told[2] == "| x | 1k | 1/2 · 0.95 | 0.95 [0.94, 0.96] |"
    assert told[3] == "| y | 1k | 0/1 · 0.50 (1 of 2 run) | — |"
    assert "2/2 · 500" in tables.table(lines, "steps") and "0/1 · not reached" in tables.table(lines, "steps")
    assert "1/2 · 95 [94, 96]" in tables.table(lines, "returns")
    assert tables.table([line("x", 0)], "shares") == "None of its runs is done yet.\n"
    many = tables.table([line("x", 0, 96, task) for task in "ABCDE"], "intervals").splitlines()
    assert many[2] == "| A (100) | 1k | 0.96 |" and many[-1] == "| all: IQM of shares |  | 0.96 |"


def test_a_cell_is_older_where_code_does_something_else(monkeypatch):
    monkeypatch.setattr(tables, "code", lambda: "now")
    lines = [line("x", 0, 96), line("x", 1, 94, code="before")]
    names = [one.folder for one in lines]
    same, other = (lambda run: 1.50001), (lambda run: 1.6)
    assert tables.state(lines[:1], None, names, other) == "of this code"
    assert tables.state(lines, None, names, same) == "of other code, which computes the same"
    assert tables.state(lines, None, names, other).startswith(
        "OLDER than the code: 2,048 steps end with weights of length 1.6, not 1.5"
    )
    assert tables.state(lines, None, names[1:], same).startswith("OLDER than its settings, its teacher or the versions")
    assert tables.state([line("x", 0, 96, code="before", probe="")], None, names, same).endswith("nothing is known")
    assert tables.state([*lines[:1], line("x", 1)], None, names, same) == "of this code, 1 of 2 run"
    assert tables.state([line("x", 0)], None, names, same) == "not run"


def test_a_number_that_does_not_come_out_again():
    seeds, episodes = np.array([90.0, 94.0, 92.0, 91.0, 93.0]), np.full(10, 1.0)
    assert tables.contradiction(90.0, seeds, 90.0 * episodes) == "as before"
    spread = seeds.std(ddof=1) * 2.776 * np.sqrt(1 + 1 / 5)
    assert "one seed" in tables.contradiction(90.0, seeds[:1], 50 * episodes)
    for score, said in ((92 + 0.99 * spread, "one more"), (92 + 1.01 * spread, "CONTRADICTED")):
        assert said in tables.contradiction(90.0, seeds, score * episodes)


def test_runs_become_lines_and_what_their_code_does_is_kept(tmp_path, monkeypatch, capsys):
    """And code that learns otherwise ends the first steps with other weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tables, "PROBED", 512)
    fixed = {"steps": 1024, "temperature": 0.01}
    study = Study(
        {"methods": ["teacher-distill", "n-distill"], "students": [[4]], "seeds": 2, "fixed": fixed}, tmp_path
    )
    first = study.runs[0]
    assert do(Task(first.name, first.settings, first.about, str(tmp_path), str(tmp_path), FAKE)).state == DONE
    about = json.loads((tmp_path / first.name / ABOUT).read_text())
    known = tables.probed(study)
    assert list(known[about["code"]]) == [first.name]
    monkeypatch.setattr(tables, "probe", lambda run: 1 / 0)
    assert tables.probed(study) == known  # what is known is not tried again
    monkeypatch.undo()
    lines = list(tables.lines_of(study, known))
    assert [bool(one.folder) for one in lines] == [True, False, False, False]
    assert lines[0].probe == str(known[about["code"]][first.name]) and lines[0].code == about["code"]
    for returns, expected in (([float(lines[0].score)] * 2, 0), ([-200.0, -200.0], 1)):
        monkeypatch.setattr(
            tables, "distill", lambda returns=returns, **_: SimpleNamespace(returns=lambda: np.array(returns))
        )
        assert tables.rerun(study, [lines[0], lines[0]._replace(seed=1)], 3) == expected
    assert "CONTRADICTED" in capsys.readouterr().out.splitlines()[-1]
    monkeypatch.setattr(tables, "PROBED", 512)
    assert tables.probe(first) == known[about["code"]][first.name]
    monkeypatch.setattr(DistillPPO, "defaults", {**DistillPPO.defaults, "learning_rate": 1e-5})
    assert abs(tables.probe(first) - float(lines[0].probe)) > 0.01
