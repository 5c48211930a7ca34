"""Folders that cannot be written to are said before the work, by whoever writes."""

import os

import pytest

from sb3_distill import distill
from sb3_distill.cli import main
from sb3_distill.common.folders import check_folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("file", "^.*file is not a folder"),
        ("file/x/y", "file/x/y cannot be made, as .*file is"),
        ("link/x", "as .*link is"),
    ],
)
def test_what_cannot_be_a_folder_is_said(here, path, problem):
    with pytest.raises(ValueError, match=rf"{problem}.*: choose another with out=…\.$"):
        check_folder(here / path)
    assert sorted(os.listdir(here)) == ["file", "link"]


def test_what_can_be_one_is_not_made(here):
    check_folder(here)
    check_folder(here / "a" / "b")
    assert sorted(os.listdir(here)) == ["file", "link"]


def test_what_may_not_be_written_to_is_said(here, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *args: False)  # nothing stops root
    check_folder(here)  # a run that has ended may be read
    with pytest.raises(ValueError, match="may not be written to: choose another"):
        check_folder(here / "a" / "b")


@pytest.mark.parametrize(
    "words",
    [
        ["distill", "--out", "file/x"],
        ["distill", "--tensorboard-log", "file/x"],
        ["record", "zoo:dqn/CartPole-v1", "--steps", "64", "--out", "file/x"],
        ["train-teacher", "--env", "CartPole-v1", "--out", "file/x"],
        ["paper", "fig2", "--quick", "--out", "file/x"],
    ],
)
def test_every_command_that_writes_says_so(here, words, capsys):
    assert main(words) == 2
    err = capsys.readouterr().err
    line = err.splitlines()[-1]
    assert "file/x cannot be made, as file is not a folder: choose another" in line and "=…" not in line


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"out": 5}, "^out must be the path of a folder, not 5"),
        ({"out": ""}, "^out must be the path of a folder, not ''"),
        ({"out": b"x"}, "^out must be the path of a folder, not bytes"),
        ({"out": "file/x"}, "^file/x cannot be made, as file is not a folder: choose another with out=…"),
        ({"overwrite": "no"}, "^overwrite must be True or False, not 'no'"),
        ({"quiet": 1}, "^quiet must be True or False, not 1"),
        ({"tensorboard_log": "file/x"}, "choose another with tensorboard_log=…"),
        ({"teacher": 5}, "^teacher must be a path or a name"),
        ({"env": 5}, "^env must be a Gymnasium id"),
    ],
)
def test_arguments_of_distill_are_looked_at_first(here, given, problem):
    with pytest.raises(ValueError, match=problem):
        distill(**given)
    assert sorted(os.listdir(here)) == ["file", "link"]
