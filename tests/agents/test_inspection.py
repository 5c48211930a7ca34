"""``sb3-distill inspect`` and ``teachers`` tell what files are, and run nothing of them."""

import base64
import json
import pickle
import re
import shutil
import zipfile

import pytest

from sb3_distill.agents.find import BUNDLED
from sb3_distill.agents.inspection import inspect
from sb3_distill.cli import main

AGENT = BUNDLED / "dqn" / "CartPole-v1_1" / "CartPole-v1.zip"


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_the_bundled_agent():
    """What a user asks of a file, from the file alone."""
    about = inspect(AGENT)
    assert (about.teacher, about.problem, about.n_parameters) == ("QTeacher", None, 67_586)
    assert about.reported is not None and about.reported.mean == pytest.approx(499.9, abs=0.1)
    assert about.executed["data: policy_class"] == ["stable_baselines3.dqn.policies.DQNPolicy"]


def test_a_hostile_entry_is_named_and_not_run(tmp_path, capsys):
    """It is what SB3's load would have run."""
    flag = tmp_path / "flag"
    path = tmp_path / "agent.zip"
    with zipfile.ZipFile(AGENT) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "data":
                serialized = base64.b64encode(pickle.dumps(Canary(flag))).decode()
                content = json.dumps(json.loads(content) | {"x": {":type:": "x", ":serialized:": serialized}}).encode()
            new.writestr(name, content)
    assert inspect(path).executed["data: x"] in (["io.open"], ["_io.open"])  # as Python 3.13 writes it
    assert main(["inspect", str(path)]) == 0
    assert re.search("unusual: _?io.open", "".join(capsys.readouterr().out.split("\n")))
    assert not flag.exists()


def test_a_damaged_file_is_no_teacher(tmp_path, capsys):
    """One bad file does not hide the others of a folder."""
    shutil.copy(AGENT, tmp_path / "good.zip")
    (tmp_path / "bad.zip").write_bytes(AGENT.read_bytes()[:1000])
    assert main(["inspect", str(tmp_path)]) == 0
    assert "1 of 2 can teach" in capsys.readouterr().out


def test_nothing_to_inspect(tmp_path, capsys):
    """An error of one line."""
    assert main(["inspect", str(tmp_path)]) == 2
    assert "there is no zip beneath it" in capsys.readouterr().err


def test_teachers_at_hand(monkeypatch, capsys):
    """The bundled one is always there."""
    monkeypatch.delenv("RL_TRAINED_AGENTS", raising=False)
    assert main(["teachers"]) == 0
    out = capsys.readouterr().out
    assert "dqn/CartPole-v1" in out and "bundled" in out and "Set RL_TRAINED_AGENTS" in out
