"""A memory knows the arguments and the module of its environment, and its teacher, and a student is told where they differ."""

import json
import shutil
import sys

import pytest
from test_commands_own_env import ENV, forget, move_to

from sb3_distill.cli import main
from sb3_distill.memory.disk import DiskMemory

OFFLINE = ["distill", "--method", "policy-distillation", "--steps", "16", "--n-envs", "1", "--eval-episodes", "2"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """With a memory of 7 steps an episode."""
    move_to(tmp_path, monkeypatch)
    options = ["--steps", "60", "--n-envs", "1", "--out", "m", "--quiet"]
    assert main(["record", "agent.zip", "--env", ENV, "--env-kwargs", "limit=7", *options]) == 0
    yield tmp_path
    forget()


def test_it_knows_its_arguments_and_its_module(here, capsys):
    about = DiskMemory("m").about
    assert (about.env_kwargs, about.module) == ({"limit": 7}, "own_faults")
    words = ["record", "agent.zip", "--env", ENV, "--steps", "80", "--n-envs", "1", "--out", "m", "--quiet"]
    assert main([*words, "--env-kwargs", "limit=8"]) == 2
    assert "another set of arguments of the environment: there it is {'limit': 7}, and now" in capsys.readouterr().err
    assert main([*words, "--env-kwargs", "limit=7"]) == 0


def test_other_arguments_are_a_warning_with_both(here, capsys):
    words = [*OFFLINE, "--memory", "m", "--env", ENV]
    assert main([*words, "--env-kwargs", "limit=30", "--out", "other"]) == 0
    assert "with the arguments limit=7, and the student's environment has limit=30" in capsys.readouterr().err
    assert main([*words, "--env-kwargs", "limit=7", "--out", "same"]) == 0
    assert "arguments" not in capsys.readouterr().err
    teacher = json.loads((here / "same" / "results.json").read_text())["settings"]["teacher"]
    assert teacher == str(here / "agent.zip"), "its own teacher, which is not asked for"


def test_its_arguments_are_the_students_too(here, capsys):
    """Without a word where none are asked for; of several, those that are asked for win. And the folder's name can be read."""
    words = [*OFFLINE, "--memory", str(here / "m"), "--env", ENV, "--quiet"]
    assert main(words) == 0
    assert "arguments" not in capsys.readouterr().err
    run = here / "runs" / "policy-distillation-dqn-Mine-Own-v0-0_memory-m"
    about = json.loads((run / "results.json").read_text())
    assert about["settings"]["env_kwargs"] == about["environment"]["env_kwargs"] == {"limit": 7}
    assert max(about["players"]["teacher"]["returns"]) == 7, "it played there"
    assert main([*words, "--env-kwargs", "pay=2"]) == 0
    assert "limit=7, and the student's environment has limit=7 pay=2" in capsys.readouterr().err
    about = json.loads((here / "runs" / f"{run.name.replace('_', '_env-kwargs-pay-2_')}" / "results.json").read_text())
    assert max(about["players"]["teacher"]["returns"]) == 14


def test_two_memories_of_one_name_have_runs_of_their_own(here, capsys):
    (here / "elsewhere").mkdir()
    shutil.copytree(here / "m", here / "elsewhere" / "m")
    for memory in ("m", "elsewhere/m", "elsewhere/m"):
        assert main([*OFFLINE, "--memory", memory, "--env", ENV]) == 0
    assert "holds a student already, of this very command" in capsys.readouterr().out
    names = sorted(path.name for path in (here / "runs").iterdir())
    start = "policy-distillation-dqn-Mine-Own-v0-0_"
    assert names == [f"{start}memory-elsewhere-m_steps-16_n-envs-1", f"{start}memory-m"]


def test_what_was_recorded_is_told_whole(here, capsys):
    options = ["--steps", "60", "--n-envs", "1", "--out", "m", "--quiet", "--json"]
    assert main(["record", "agent.zip", "--env", ENV, "--env-kwargs", "limit=7", *options]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["env"], told["env_kwargs"], told["seed"]) == ("Mine/Own-v0", {"limit": 7}, 0)


def test_what_is_missing_is_named(here, capsys):
    forget()
    assert main([*OFFLINE, "--memory", "m"]) == 2
    assert f"The memory m was recorded in {ENV}" in (err := capsys.readouterr().err) and f"give --env {ENV}" in err
    assert "own_faults" not in sys.modules
    assert main([*OFFLINE, "--memory", "m", "--env", "Acrobot-v1"]) == 2
    assert "The memory m is of another environment: it was recorded in 'Mine/Own-v0'" in capsys.readouterr().err
    (here / "agent.zip").unlink()
    assert main([*OFFLINE, "--memory", "m", "--env", ENV]) == 2
    assert "agent.zip', which is not here: give --teacher" in capsys.readouterr().err


def test_one_from_before_is_read(here, capsys):
    """It has neither key."""
    assert main(["record", "zoo:dqn/CartPole-v1", "--steps", "40", "--n-envs", "1", "--out", "old", "--quiet"]) == 0
    settings = DiskMemory("old")._recorded.settings
    old = settings._replace(about=settings.about._replace(env_kwargs=None, module=None))
    assert "env_kwargs" not in json.dumps(old.data()) and "module" not in json.dumps(old.data())
    assert old.memory_id() != settings.memory_id()
