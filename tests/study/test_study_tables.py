"""Tables of a study: what they say, and that the same runs make the same bytes."""

import csv
import json
import shutil

import numpy as np
import pytest
from study_works import write_finished

from sb3_distill import Study
from sb3_distill.cli import main
from sb3_distill.evaluation.learning_curves import LEVEL_COLORS
from sb3_distill.study.figures import curve_figure, profile_figure, score_figure
from sb3_distill.study.scores import scores_of
from sb3_distill.study.tables import Table, markdown

pytestmark = pytest.mark.zoo  # Acrobot's teacher

FILE = """
title: a | b
environments: [CartPole-v1, Acrobot-v1]
methods: [n-distill, teacher-distill]
engines: [ppo, a2c]
students: [[8]]
seeds: 5
"""


def rows_of(study, name):
    with (study.out / "tables" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def bytes_of(study):
    return {path.name: path.read_bytes() for path in (study.out / "tables").iterdir()}


@pytest.fixture
def study(zoo, tmp_path):
    (tmp_path / "study.yml").write_text(FILE)
    study = Study(tmp_path / "study.yml", tmp_path / "out")
    write_finished(study)
    return study


def test_the_same_runs_make_the_same_bytes(study, tmp_path):
    text = study.tables(figures=True)
    first = bytes_of(study)
    assert {"tables.md", "overall.csv", "scores.png", "profiles.png", "curves.png"} <= set(first)
    assert first["tables.md"].decode() == text and text.startswith("# a | b\n")
    other = Study(tmp_path / "study.yml", tmp_path / "other")
    for run in reversed(study.runs):
        shutil.copytree(study.out / run.name, other.out / run.name)
    assert other.tables(figures=True) == text and bytes_of(other) == first
    assert study.tables(0.5) != text  # of another share that is to be reached


@pytest.mark.parametrize("draw", [score_figure, profile_figure, curve_figure])
def test_dashed_lines_have_names_in_figures(study, draw):
    scores = scores_of(study.out, study.runs, frozenset(run.name for run in study.runs))
    figure = draw(scores, "title")
    dashed = [
        line
        for axes in figure.axes
        for line in axes.lines
        if line.get_linestyle() == "--" and line.get_color() == LEVEL_COLORS[0]
    ]
    assert dashed and "the teacher" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_what_the_tables_say_is_what_the_runs_did(study):
    study.tables(0.6)
    runs = rows_of(study, "runs")
    assert len(runs) == 40 and {row["method"] for row in runs} == {
        f"{method}, {engine}" for method in ("n-distill", "teacher-distill") for engine in ("ppo", "a2c")
    }
    for row in runs:
        data = json.loads((study.out / row["folder"] / "results.json").read_text())
        assert float(row["share"]) == pytest.approx(data["comparison"]["share_of_teacher"])
    shares = {}
    for row in runs:
        shares.setdefault((row["task"], row["method"]), []).append(float(row["share"]))
    for row in rows_of(study, "tasks"):
        mine = shares[row["task"], row["method"]]
        assert float(row["mean"]) == pytest.approx(np.mean(mine))
        assert float(row["iqm"]) == pytest.approx(np.mean(sorted(mine)[1:4]))
        assert float(row["mean_low"]) < float(row["mean"]) < float(row["mean_high"])
        assert float(row["return"]) == pytest.approx(20 + 80 * np.mean(mine))
    for row in rows_of(study, "overall"):
        both = [shares[task, row["method"]] for task in ("CartPole-v1", "Acrobot-v1")]
        assert float(row["mean"]) == pytest.approx(np.mean([np.mean(one) for one in both]))
        assert float(row["iqm"]) == pytest.approx(np.mean(sorted(sum(both, []))[2:8]))  # noqa: RUF017
    for row in rows_of(study, "steps"):
        # The curves are straight lines from 0 to the share in the end, with a point each 256 steps.
        arrived = sorted(min([s for s in range(0, 1025, 256) if share * s / 1024 >= 0.6], default=np.inf)
                         for share in shares[row["task"], row["method"]])  # fmt: skip
        assert int(row["reached"]) == np.isfinite(arrived).sum() and float(row["steps"]) == arrived[2]
    pairs = {(row["method"], row["other"]): float(row["probability"]) for row in rows_of(study, "improvement")}
    assert len(pairs) == 12
    assert all(value + pairs[second, first] == pytest.approx(1) for (first, second), value in pairs.items())


def test_what_is_not_finished_stands_as_such(study, tmp_path, capsys):
    for run in study.runs:
        if run.labels["methods"] == "n-distill" and run.labels["engines"] == "a2c":
            shutil.rmtree(study.out / run.name)
    shutil.rmtree(study.out / study.runs[0].name)
    assert main(["study", str(tmp_path / "study.yml"), "--out", str(study.out), "--table"]) == 0
    text = capsys.readouterr().out
    assert "| n-distill, ppo | 2/2 | 9/10 |" in text and "| n-distill, a2c | 0/2 | 0/10 | — | — |" in text
    assert "| CartPole-v1 | n-distill, a2c | 0/5 | not run |" in text
    shutil.rmtree(study.out)
    assert main(["study", str(tmp_path / "study.yml"), "--out", str(study.out), "--table"]) == 2
    assert "has no run of" in capsys.readouterr().err


def test_a_teacher_that_is_no_better_than_random_play_has_no_share(study):
    for run in study.runs:
        path = study.out / run.name / "results.json"
        data = json.loads(path.read_text())
        data["players"]["teacher"] |= {"mean_return": 20.0, "returns": [19.0, 21.0]}
        path.write_text(json.dumps(data))
    assert "—" in study.tables(figures=True)
    assert not (study.out / "tables" / "scores.png").exists()
    assert all(row["share"] == "" for row in rows_of(study, "runs"))


def test_a_curve_that_cannot_be_read_is_named(study):
    path = study.out / study.runs[3].name / "learning_curve.csv"
    path.write_text("environment_steps,mean_return\n0,x\n")
    with pytest.raises(ValueError, match=f"{study.runs[3].name} is no whole run"):
        study.tables()


def test_what_has_failed_is_told_apart_from_what_is_not_run(study):
    for run in study.runs:
        if run.labels["methods"] == "n-distill" and (run.labels["engines"] == "a2c" or run.labels["seeds"] == "0"):
            (study.out / "unfinished" / run.name).mkdir(parents=True)
            (study.out / run.name).rename(study.out / "unfinished" / run.name)
            if run.labels["environments"] == "CartPole-v1":
                (study.out / "unfinished" / run.name / "traceback.txt").write_text("its process was ended\n")
    text = study.tables()
    assert "| CartPole-v1 | n-distill, a2c | 0/5 | 5 failed |" in text
    assert "| Acrobot-v1 | n-distill, a2c | 0/5 | not run |" in text
    assert "| CartPole-v1 | n-distill, ppo | 4/5, 1 failed |" in text
    assert "| n-distill, a2c | 0/2 | 0/10, 5 failed |" in text and "| n-distill, ppo | 2/2 | 8/10, 1 failed |" in text


def test_a_file_in_the_place_of_the_tables_is_named(study):
    (study.out / "tables").write_text("")
    with pytest.raises(ValueError, match="tables is not a folder: move it away"):
        study.tables()


def test_names_do_not_break_the_tables():
    table = Table("a", "b", [], [], (["task"], [["one\n| two"]]))
    assert markdown("a\nb", [table]).endswith("| task |\n| --- |\n| one \\| two |\n")
    assert markdown("a\nb", [table]).startswith("# a b\n")
