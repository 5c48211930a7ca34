"""``sb3-distill paper`` and ``recommend``."""

import csv
import io
import itertools
import re
from pathlib import Path

import pytest

pytest.importorskip("numba")

from sb3_distill.cli import tabular as commands
from sb3_distill.cli.parser import Parser
from sb3_distill.experiment.settings import Settings
from sb3_distill.rules.methods import METHODS
from sb3_distill.tabular import experiments
from sb3_distill.tabular.experiments import Size
from sb3_distill.tabular.figures import FIGURES
from sb3_distill.tabular.recommend import missing, recommendation
from sb3_distill.tabular.simulation import distil, judge, random_states, softened
from sb3_distill.zoo.benchmarks import tabular as benchmark

TINY = Size(4, 300)


def run(*argv):
    parser = Parser()
    commands.add_commands(parser.add_subparsers(required=True))
    args = parser.parse_args(argv)
    args.prepare(args)()


def test_all_figures_are_named():
    assert tuple(FIGURES) == commands.FIGURES


def test_paper_all_writes_a_figure_its_numbers_and_a_finding(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(experiments, "QUICK", TINY)
    monkeypatch.setattr(experiments, "ACTIONS", (4, 64))  # of five numbers
    run("paper", "all", "--quick", "--out", str(tmp_path))
    said = capsys.readouterr().out
    numbers = {}
    for name in FIGURES:
        assert f"{name}: " in said
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        with (tmp_path / f"{name}.csv").open(encoding="utf-8") as file:
            numbers[name] = list(csv.reader(file))
        header, *rows = numbers[name]
        assert rows and all(len(row) == len(header) for row in rows)
    assert len(list(tmp_path.rglob("*"))) == 2 * len(FIGURES)  # and no temporary file, no chunk
    assert {row[1] for row in numbers["fig4"][1:]} == {str(n) for n in experiments.ACTIONS}


def test_chunks_last_until_all_that_was_asked_for_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "QUICK", TINY)
    written = []

    def interrupted(path, figure):
        written.append(path.name)
        if path.name == "fig6.png":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sb3_distill.common.files.write_figure", interrupted)
        with pytest.raises(KeyboardInterrupt):
            commands.draw_figures(("fig5", "fig6"), TINY, tmp_path)
    assert written == ["fig5.png", "fig6.png"]
    other = tmp_path / "chunks" / "fig5-4-300-1"
    other.mkdir()

    # What was simulated is not simulated again; then its chunks go, and another seed's stay.
    with monkeypatch.context() as patch:
        patch.setattr(experiments, "distil", None)
        commands.draw_figures(("fig5", "fig6"), TINY, tmp_path)
    assert list((tmp_path / "chunks").iterdir()) == [other]
    other.rmdir()
    commands.draw_figures(("fig5",), TINY, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fig5.csv", "fig5.png", "fig6.csv", "fig6.png"]


@pytest.mark.parametrize("argv, says", [(["fig33"], "did you mean 'fig3'"), (["fig3", "--seed", "-1"], "at least 0")])
def test_what_cannot_be_drawn_is_said(argv, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        run("paper", *argv, "--out", str(tmp_path))


def test_the_benchmark_prints_both_rates(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmark", "--worlds", "4"])
    benchmark.main()
    said = capsys.readouterr().out
    for row in ("numba, one core", "numpy, one core", "memory", "seconds of CPU time"):
        assert float(re.search(rf"{row} *│ *([\d.,]+)", said)[1].replace(",", "")) > 0


def test_plain_numpy_does_the_same_work():
    mdp, teachers = experiments.Setting().build(0, 0, 20)
    curves = distil(mdp, teachers, experiments.CLONING, [2_000], random_states(0, 20))
    logits = benchmark.learn_in_numpy(mdp, teachers, experiments.CLONING, 2_000)
    value, _ = judge(mdp, softened(logits, 1.0, 0.0))
    assert (mdp.start * value).sum(-1).mean() == pytest.approx(curves.value[-1].mean(), rel=0.05)


ANSWERS = [
    dict(zip(commands.QUESTIONS, answers, strict=True)) for answers in itertools.product([True, False], repeat=4)
]


@pytest.mark.parametrize("answers", ANSWERS, ids=str)
def test_every_answer_leads_to_a_row_that_keeps_what_was_asked(answers):
    advice = recommendation(answers)
    row = METHODS["unbiased"][advice.method]
    if answers["guarantee"]:
        assert row.is_gradient
    if not answers["strong"] or answers["improve"]:
        assert advice.env_reward_coef or advice.method == "teacher_v_reward"
    if not answers["value"]:
        assert row.reward is None or "teacher_value" not in row.needs
    compile(advice.code, "advice", "exec")


@pytest.mark.parametrize("answers", ANSWERS, ids=str)
def test_the_steps_are_those_of_the_documentation(answers):
    """Its table rounds to thousands; the command line's own are left out of the command."""
    advice = recommendation(answers)
    page = (Path(__file__).parents[2] / "docs" / "choosing.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| {advice.method.replace('_', '-')} | "))
    assert f"{round(advice.steps / 1000)}k" in row.split(" | ")[1].split(", ")  # by task
    assert f"student.learn({advice.steps:_})" in advice.code
    assert (f"--steps {advice.steps}" in advice.code) == (advice.steps != Settings("", "").steps)


@pytest.mark.parametrize("answers", ANSWERS, ids=str)
def test_no_question_is_asked_whose_answer_does_not_matter(answers):
    asked = {}
    while unanswered := missing(asked):
        asked[unanswered[0]] = answers[unanswered[0]]
    assert recommendation(asked) == recommendation(answers)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_recommend_asks_what_was_not_said(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", Terminal("perhaps\nn\nyes\n"))
    run("recommend", "--strong")
    said = capsys.readouterr().out
    assert said.count("[y/n]") == 3 and "expected_entropy" in said


def test_recommend_without_a_terminal_wants_flags(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(ValueError, match="--strong or --no-strong"):
        run("recommend")
    run("recommend", "--no-strong", "--guarantee", "--value")
    assert 'method="teacher_v_reward"' in capsys.readouterr().out
