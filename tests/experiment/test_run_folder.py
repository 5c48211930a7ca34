"""The folder of a run: the run's own teacher and memory, other processes, other people's files, damaged files."""

import json
import random
import signal
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env

from sb3_distill.cli import main
from sb3_distill.common.files import remove_leftovers
from sb3_distill.experiment import outcome
from sb3_distill.experiment import run as experiment
from sb3_distill.experiment.checkpoints import check_state, read_checkpoint, write_checkpoint
from sb3_distill.experiment.keeper import Keeper
from sb3_distill.experiment.plan import prepare
from sb3_distill.experiment.run import Experiment
from sb3_distill.experiment.run_folder import FinishedError, RunFolder
from sb3_distill.experiment.settings import Settings
from sb3_distill.memory.errors import DamagedMemoryError
from sb3_distill.memory.recorder import record
from sb3_distill.memory.ring_file import read_memories

SMALL = [
    "distill",
    "--n-envs",
    "2",
    "--eval-episodes",
    "2",
    "--temperature",
    "0.1",
    "--net-arch",
    "8",
    "--steps",
    "256",
]


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(experiment, "CURVE_EPISODES", 2)
    monkeypatch.setattr(experiment, "CURVE_POINTS", 2)
    monkeypatch.setattr(outcome, "COMPARED_STATES", 20)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def stop_at(monkeypatch):
    """Has a signal come at that step; ``late``: and wait for too long."""
    wanted = {}
    step = Keeper._on_step

    def on_step(self):
        if self.num_timesteps >= wanted.get("step", np.inf):
            late = wanted.pop("late", False)
            del wanted["step"]
            self.postponed._asked = signal.SIGINT
            self.postponed._since = time.monotonic() - (1e9 if late else 0.0)
        return step(self)

    monkeypatch.setattr(Keeper, "_on_step", on_step)
    return wanted.update


def save_teacher(seed):
    DQN("MlpPolicy", "CartPole-v1", buffer_size=1, seed=seed, device="cpu").save("t.zip")


TEACHER = ["--teacher", "t.zip", "--env", "CartPole-v1", "--out", "out"]


# --- what lies under a name now ---------------------------------------------------------------------------------------


def test_a_run_does_not_go_on_with_another_teacher(stop_at, capsys):
    save_teacher(1)
    stop_at(step=100)
    assert main([*SMALL, *TEACHER]) == 130
    capsys.readouterr()
    save_teacher(2)
    assert main([*SMALL, *TEACHER]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "unfinished run with another teacher under that name (fingerprint " in line and "--out" in line
    save_teacher(1)
    assert main([*SMALL, *TEACHER]) == 0
    save_teacher(2)
    capsys.readouterr()
    assert main([*SMALL, *TEACHER]) == 2
    assert "holds a student already with another teacher under that name" in capsys.readouterr().err
    assert main([*SMALL, *TEACHER, "--overwrite"]) == 0


def test_a_run_of_an_older_version_goes_on(stop_at, tmp_path, capsys):
    """Which says nothing of fingerprints, of weights and mixtures, nor what its file is."""
    stop_at(step=100)
    assert main([*SMALL, "--out", "out"]) == 130
    path = tmp_path / "out" / "settings.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    for key in ("format", "teacher_fingerprint", "weight", "beta"):
        del data[key]
    path.write_text(json.dumps(data), encoding="utf-8")
    checkpoint = tmp_path / "out" / "checkpoint.npz"
    state = read_checkpoint(checkpoint)
    del state["teacher"]
    write_checkpoint(checkpoint, state)
    capsys.readouterr()
    assert main([*SMALL, "--out", "out"]) == 0
    assert "Going on in out" in capsys.readouterr().out


def test_a_checkpoint_of_another_teacher_is_refused(stop_at, tmp_path, capsys):
    """Though the settings know of none."""
    stop_at(step=100)
    assert main([*SMALL, "--out", "out"]) == 130
    path = tmp_path / "out" / "checkpoint.npz"
    write_checkpoint(path, read_checkpoint(path) | {"teacher": "f" * 64})
    capsys.readouterr()
    assert main([*SMALL, "--out", "out"]) == 2
    assert "was begun with another teacher under the name" in capsys.readouterr().err


def test_a_memory_that_has_changed_is_named(tmp_path, capsys):
    for n_steps, code in ((100, 0), (200, 2)):
        record("zoo:dqn/CartPole-v1", make_vec_env("CartPole-v1", 1), n_steps, "memory", seed=0)
        arguments = ["--method", "policy-distillation", "--memory", "memory", "--out", "out"]
        assert main([*SMALL, *arguments]) == code
    assert "with another memory under that name (fingerprint " in capsys.readouterr().err


# --- two processes ----------------------------------------------------------------------------------------------------


def made(**changes):
    plan = prepare(
        Settings(
            "CartPole-v1", "zoo:dqn/CartPole-v1", **{"steps": 128, "eval_episodes": 2, "temperature": 0.1, **changes}
        )
    )
    folder = RunFolder(Path("out"), plan.described)
    return folder, Experiment(plan, folder, quiet=True)


def test_the_later_of_two_starts_keeps_what_the_earlier_has_finished(capsys):
    """Both have looked at the folder before either has the lock."""
    (first, one), (second, _) = made(), made()
    with first.at_work():
        one.run()
    before = {path.name: path.read_bytes() for path in first.path.iterdir()}
    with pytest.raises(FinishedError, match="holds a student already"), second.at_work():
        pass
    assert {path.name: path.read_bytes() for path in first.path.iterdir()} == before


def test_the_later_command_says_that_it_is_finished(monkeypatch, capsys):
    take_up = Experiment._take_up

    def slow(self):
        monkeypatch.setattr(Experiment, "_take_up", take_up)
        take_up(self)
        assert main([*SMALL, "--quiet", "--out", "out"]) == 0  # the other process

    monkeypatch.setattr(Experiment, "_take_up", slow)
    assert main([*SMALL, "--out", "out"]) == 0
    assert "holds a student already, of this very command" in capsys.readouterr().out


def test_the_later_of_two_starts_goes_on_from_the_newer_checkpoint(stop_at):
    (first, one), (second, two) = made(steps=4_096), made(steps=4_096)
    stop_at(step=1_000)
    with pytest.raises(KeyboardInterrupt), first.at_work():
        one.run()
    learnt = one.student.num_timesteps
    assert two.steps_before == 0
    stop_at(step=learnt + 8)
    with pytest.raises(KeyboardInterrupt), second.at_work():
        two.run()
    assert two.steps_before > learnt


# --- files of others --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize(
    "names",
    [
        ["results.json"],
        ["settings.json"],
        ["checkpoint.npz"],
        ["learning_curve.csv"],
        ["settings.json", "checkpoint.npz", "results.json"],
    ],
)
def test_files_of_others_are_named_and_stay(names, overwrite, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    for name in names:
        (out / name).write_text('{"my": "thesis"}', encoding="utf-8")
    assert main([*SMALL, *overwrite, "--out", "out"]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert "not of a run of sb3-distill" in line and "unfinished" not in line
    assert all(f"out/{name}" in line for name in names)
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    assert all((out / name).read_text(encoding="utf-8") == '{"my": "thesis"}' for name in names)


def test_only_temporary_files_of_our_own_are_removed(tmp_path):
    theirs = [".draft.tmp", ".results.mine.tmp.json", ".notes.12.tmp.json", ".results.12.tmp.json.bak"]
    for name in [*theirs, ".results.12.tmp.json", ".checkpoint.7.tmp.npz"]:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path, ("results.json", "checkpoint.npz"))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(theirs)


# --- damaged files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "value"), [(6, 99), (8, 1), (10, 97), (10, 12), (10, 14), (10, 8), (42, 255)], ids=str
)
@pytest.mark.parametrize("reads", [read_checkpoint, read_memories])
def test_whatever_a_damaged_zip_says_is_one_error(reads, offset, value, tmp_path):
    """A version, a password, or a compression that there is not, in a zip's list of members."""
    path = tmp_path / "c.npz"
    write_checkpoint(path, {"a": th.zeros(10), "b": [1, (2, 3)]})
    data = bytearray(path.read_bytes())
    for k in range(len(data) - 4):
        if data[k : k + 4] == b"PK\1\2":
            data[k + offset] = value
    path.write_bytes(data)
    with pytest.raises((DamagedMemoryError, ValueError)):
        reads(path)


@pytest.mark.parametrize("reads", [read_checkpoint, read_memories])
def test_bytes_that_have_turned_are_one_error(reads, tmp_path):
    path, dice = tmp_path / "c.npz", random.Random(0)
    write_checkpoint(path, {"a": th.zeros(10), "b": [1, (2, 3)], "c": {1: np.arange(4)}})
    whole = path.read_bytes()
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(dice.choice([1, 1, 2, 8])):
            data[dice.randrange(len(data))] = dice.randrange(256)
        path.write_bytes(data)
        try:
            reads(path)
        except (ValueError, OSError):
            pass


def test_a_compressed_checkpoint_is_not_unpacked(tmp_path):
    """To what size, nobody knows."""
    np.savez_compressed(tmp_path / "c.npz", tree=np.frombuffer(b"[]", np.uint8), a=np.zeros(1 << 20))
    with pytest.raises(ValueError, match="its parts are compressed"):
        read_checkpoint(tmp_path / "c.npz")


@pytest.mark.parametrize("state", [None, [], {}, 5, "text", {"student": {}}])
def test_a_checkpoint_of_something_else_is_damaged(state, tmp_path):
    with pytest.raises(ValueError, match="is damaged"):
        check_state(state, tmp_path / "c.npz")


def test_a_checkpoint_of_another_version_of_zip_ends_in_one_line(stop_at, tmp_path, capsys):
    stop_at(step=100)
    assert main([*SMALL, "--out", "out"]) == 130
    path = tmp_path / "out" / "checkpoint.npz"
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, start + 6, 99)
    path.write_bytes(data)
    capsys.readouterr()
    assert main([*SMALL, "--out", "out"]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert "checkpoint.npz is damaged (zip file version 9.9" in line and "remove it" in line


# --- a late stop ------------------------------------------------------------------------------------------------------


def test_a_late_stop_keeps_every_minibatch_of_a_memory(stop_at, tmp_path, capsys):
    """Each was learnt when it was read: none is read twice."""
    record("zoo:dqn/CartPole-v1", make_vec_env("CartPole-v1", 1), 100, "memory", seed=0)
    arguments = ["--method", "policy-distillation", "--memory", "memory", "--out", "out"]
    stop_at(step=70, late=True)
    assert main([*SMALL, *arguments]) == 130
    assert "70 minibatches are saved" in capsys.readouterr().err
    counters = read_checkpoint(tmp_path / "out" / "checkpoint.npz")["student"]["counters"]
    assert (counters["num_timesteps"], counters["_n_updates"]) == (70, 70)


def test_a_late_stop_of_a_rollout_plays_it_once_more(stop_at, tmp_path, capsys):
    stop_at(step=70, late=True)
    assert main([*SMALL, "--out", "out"]) == 130
    assert "64 steps are saved" in capsys.readouterr().err
    assert read_checkpoint(tmp_path / "out" / "checkpoint.npz")["student"]["counters"]["num_timesteps"] == 64
