"""What all commands have in common: output that can be copied at any width, JSON, errors of one line, closed pipes, Ctrl-C."""

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sb3_distill import METHODS
from sb3_distill.agents.find import BUNDLED
from sb3_distill.agents.inspection import teachers_at_hand
from sb3_distill.cli import main
from sb3_distill.cli.columns import table
from sb3_distill.experiment.run_folder import RUN_FILES

COMMAND = [sys.executable, "-m", "sb3_distill.cli"]


@pytest.fixture
def narrow(monkeypatch):
    """A terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def piped(monkeypatch):
    """Output that another program reads."""
    monkeypatch.delenv("COLUMNS", raising=False)


# --- tables -----------------------------------------------------------------------------------------------------------


def first_words(text):
    return [line.split()[0] for line in text.splitlines() if line and not line.startswith(" ")]


def test_names_of_teachers_can_be_copied_at_80_columns(narrow, capsys, monkeypatch):
    monkeypatch.delenv("RL_TRAINED_AGENTS", raising=False)
    assert main(["teachers"]) == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines()) and "…" not in out
    names = [word for word in first_words(out) if word.startswith("zoo:")]
    assert names == [f"zoo:{teacher.name}" for teacher in teachers_at_hand()] and "zoo:dqn/CartPole-v1" in names


def test_names_of_teachers_come_first_one_a_line_when_piped(piped, capsys, monkeypatch):
    monkeypatch.delenv("RL_TRAINED_AGENTS", raising=False)
    assert main(["teachers"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("zoo:")]
    assert len(lines) == len(teachers_at_hand())
    assert all("QTeacher" in line and "bundled" in line and line.endswith("MIT License") for line in lines)


@pytest.mark.parametrize("columns", ["20", "80", "200"])
def test_names_of_methods_can_be_copied_at_any_width(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["methods"]) == 0
    words = first_words(capsys.readouterr().out)
    named = [word for word in words if word in METHODS["paper"]]  # and once more in the note beneath
    assert named[:12] == [*METHODS["unbiased"], *METHODS["paper"]]
    assert "policy_distillation" in words


def test_a_table_loses_nothing_in_a_narrow_terminal(monkeypatch):
    header, rows = ("name", "number", "text"), [("n" * 30, "1", "some words that are folded"), ("m", "22", "")]
    monkeypatch.delenv("COLUMNS", raising=False)
    assert table(header, rows, right=("number",)) == (
        f"name{' ' * 28}number  text\n{'n' * 30}       1  some words that are folded\nm{' ' * 35}22\n"
    )
    monkeypatch.setenv("COLUMNS", "30")
    assert table(header, rows).splitlines() == [
        "name",
        "n" * 30,
        "    number 1; text some words",
        "    that are folded",
        "m",
        "    number 22",
    ]


def test_a_folder_of_checkpoints_names_files_that_can_be_inspected(narrow, tmp_path, capsys):
    folder = tmp_path / ("a long name of a folder " * 4).strip()
    for name in ("one.zip", "two.zip"):
        folder.mkdir(exist_ok=True)
        shutil.copy(BUNDLED / "dqn" / "CartPole-v1_1" / "CartPole-v1.zip", folder / name)
    assert main(["inspect", str(folder)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert str(folder / "one.zip") in out and str(folder / "two.zip") in out


# --- JSON -------------------------------------------------------------------------------------------------------------


def as_json(capsys, *arguments):
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_json_of_what_is_listed(capsys):
    teachers = {teacher["name"]: teacher for teacher in as_json(capsys, "teachers")}
    about = teachers["zoo:dqn/CartPole-v1"]
    assert about["teaches_as"] == "QTeacher" and about["source"] == "bundled" and about["problem"] is None
    assert about["reported_return"]["mean"] == pytest.approx(499.9, abs=0.1)
    (inspected,) = as_json(capsys, "inspect", "zoo:dqn/CartPole-v1")
    assert {**about, **inspected, "seconds": 0} == {**about, "seconds": 0}
    methods = as_json(capsys, "methods")
    assert [row["name"] for row in methods["paper"]] == list(METHODS["paper"])
    assert methods["unbiased"][3] == {
        "name": "n_distill",
        "control": "student",
        "loss": "KL(π‖π_θ)",
        "reward": "−γ ℓ(s_{i+1})",
        "gradient": "yes",
        "descends": "E_πθ Σ KL(π‖π_θ)",
        "classes": ["NDistill", "NDistillA2C", "NDistillRecurrentPPO", "NDistillMaskablePPO"],
    }


# --- what is mistyped -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["distil"], ["Unknown command 'distil'", "did you mean 'distill'?"]),
        (["Teacher"], ["Unknown command 'Teacher'", "'teachers'"]),
        (["xyz"], ["Unknown command 'xyz'", "choose one of methods, distill"]),
        (["record", "zoo:dqn/CartPole-v1", "--step", "x"], ["--steps", "whole number"]),
        (["record", "zoo:dqn/CartPole-v1", "--evn", "x"], ["record has no --evn", "did you mean --env"]),
        (["methods", "--xyz=1"], ["methods has no --xyz: it has --help, --json."]),
        (["methods", "n_distill"], ["methods does not take 'n_distill'"]),
        ([], ["COMMAND", "--help"]),
        (["distill", "--env", "PongNoFrameskip-v5"], ["'PongNoFrameskip-v4'"]),
        (["record", "zoo:dqn/CartPol-v1"], ["did you mean 'dqn/CartPole-v1'"]),
        (["inspect", "no/such"], ["No such file or folder: no/such"]),
        (["inspect", "zoo:dqn/CartPol-v1"], ["did you mean 'dqn/CartPole-v1'"]),
        (["paper", "all1"], ["Unknown figure 'all1'", "'all'"]),
        (["paper", "fig2", "--seed", "-1"], ["--seed", "at least 0"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_is_mistyped_names_the_nearest_in_one_line(arguments, parts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("sb3-distill: error: ") and len(err.splitlines()) == 1
    assert all(part in err for part in parts), err
    assert list(tmp_path.iterdir()) == []


# --- how a command ends -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("a\nb"), OSError("a\nb"), ImportError("a\nb")])
@pytest.mark.parametrize("half", ["first", "second"])
def test_an_error_is_one_line_in_either_half_of_a_command(error, half, monkeypatch, capsys):
    def fail(*args):
        raise error

    monkeypatch.setattr("sb3_distill.cli.program.prepare_methods", fail if half == "first" else lambda args: fail)
    assert main(["methods"]) == 2
    assert capsys.readouterr().err == "sb3-distill: error: a b\n"


@pytest.mark.parametrize("half", ["first", "second"])
def test_an_interrupt_is_one_line_in_either_half_of_a_command(half, monkeypatch, capsys):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("sb3_distill.cli.program.prepare_methods", stop if half == "first" else lambda args: stop)
    assert main(["methods"]) == 130
    assert capsys.readouterr().err == "sb3-distill: interrupted\n"


@pytest.mark.parametrize("command", [["teachers", "--json"], ["--help"]])
def test_a_closed_pipe_is_silent(command):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, *command], stdout=write, stderr=subprocess.PIPE, timeout=60)
    os.close(write)
    said = [
        line for line in done.stderr.splitlines() if not line.endswith("…".encode())
    ]  # what a slow machine is doing
    assert said == [] and done.returncode in (0, 141)


@pytest.mark.parametrize("talk", ["--verbose", "--json"])
def test_what_was_begun_is_finished_though_nobody_reads_of_it(talk, tmp_path):
    """As with ``| head -1``, of both streams; all files are there."""
    words = ["distill", "--steps", "64", "--n-envs", "2", "--net-arch", "8", "--eval-episodes", "2", "--out", "run"]
    words += ["--temperature", "0.01"]  # it takes long to look for one
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, *words, talk], stdout=write, stderr=write, timeout=120, cwd=tmp_path)
    os.close(write)
    assert done.returncode == 141
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(RUN_FILES)


def test_ctrl_c_is_one_line_while_a_command_still_looks_around(tmp_path):
    """In a folder of so many checkpoints that reading them takes minutes."""
    agent = next((Path(__file__).parents[2] / "zoo" / "agents").rglob("CartPole-v1.zip"))
    for number in range(5_000):
        (tmp_path / f"agent{number}.zip").symlink_to(agent)
    process = subprocess.Popen([*COMMAND, "inspect", str(tmp_path)], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, b"")
    assert err.decode().splitlines()[-1] == "sb3-distill: interrupted" and b"Traceback" not in err


def test_a_terminal_sees_lines_of_its_width():
    master, slave = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    process = subprocess.Popen([*COMMAND, "methods"], stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    seen = b""
    while select.select([master], [], [], 60)[0]:
        try:
            part = os.read(master, 4096)
        except OSError:  # its end
            break
        if not part:
            break
        seen += part
    assert process.wait(60) == 0
    assert b"\nteacher_v_reward " in seen
    os.close(master)
