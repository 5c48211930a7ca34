"""A distillation that was stopped, killed, or out of disk space goes on when the same command is given again."""

import errno
import json
import os
import signal

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env

from sb3_distill import NDistill, load_teacher
from sb3_distill.algorithms.policy_distillation import PolicyDistillation
from sb3_distill.cli import main
from sb3_distill.experiment import keeper
from sb3_distill.experiment import run as experiment
from sb3_distill.experiment.checkpoints import (
    read_checkpoint,
    restore_mean,
    restore_student,
    student_state,
    write_checkpoint,
)
from sb3_distill.experiment.keeper import Keeper
from sb3_distill.experiment.run_folder import RUN_FILES, RunFolder

SMALL = [
    "distill",
    "--n-envs",
    "2",
    "--eval-episodes",
    "3",
    "--temperature",
    "0.01",
    "--net-arch",
    "8",
    "--steps",
    "640",
]
ROLLOUT = 64
MEMORY = ["--method", "policy-distillation"]


class KilledError(BaseException):
    """In the place of SIGKILL, which no handler sees."""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Curves of one short episode."""
    monkeypatch.setattr(experiment, "CURVE_EPISODES", 2)


@pytest.fixture
def trace(monkeypatch):
    """Steps at which rollouts begin, in a list for each part; ``at`` stops a part at that step, once."""

    class Trace(list):
        at = None
        stop = KilledError

    parts = Trace()
    begin, step = Keeper._on_training_start, Keeper._on_step
    rollout = Keeper._on_rollout_start

    def on_training_start(self):
        parts.append([])
        begin(self)

    def on_rollout_start(self):
        parts[-1].append(self.model.num_timesteps)
        rollout(self)

    def on_step(self):
        if parts.at is not None and self.num_timesteps >= parts.at:
            parts.at = None
            parts.stop()
        return step(self)

    monkeypatch.setattr(Keeper, "_on_training_start", on_training_start)
    monkeypatch.setattr(Keeper, "_on_rollout_start", on_rollout_start)
    monkeypatch.setattr(Keeper, "_on_step", on_step)
    return parts


def raise_killed():
    raise KilledError


def give(*arguments, out):
    return main([*SMALL, *arguments, "--out", str(out)])


def results_in(out):
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("method", [[], MEMORY], ids=["row", "policy-distillation"])
def test_a_killed_run_goes_on_from_its_last_checkpoint(method, trace, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(keeper, "CHECKPOINT_SECONDS", 0.0)
    out = tmp_path / "out"
    trace.at, trace.stop = 350, raise_killed
    with pytest.raises(KilledError):
        give(*method, out=out)
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint.npz", "settings.json"]
    last = trace[0][-1]
    assert last > 200
    assert give(*method, out=out) == 0
    assert f"after {last} of 640 steps" in capsys.readouterr().out
    assert trace[1][0] == last
    assert sorted(path.name for path in out.iterdir()) == sorted(RUN_FILES)
    steps = np.loadtxt(out / "learning_curve.csv", delimiter=",", skiprows=1)[:, 0]
    assert (
        steps[0] == 0
        and (np.diff(steps) > 0).all()
        and steps[-1] == results_in(out)["players"]["student"]["training_steps"]
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_loses_nothing(number, code, trace, tmp_path, capsys):
    """Though no checkpoint was due: the rollout is played and learnt from, and then saved."""
    out = tmp_path / "out"
    trace.at, trace.stop = 6 * ROLLOUT + 10, lambda: os.kill(os.getpid(), number)
    assert give(out=out) == code
    *_, line = capsys.readouterr().err.splitlines()  # beneath the phases, if they took long
    assert f"{7 * ROLLOUT} steps are saved" in line
    assert give(out=out) == 0
    assert trace[0][-1] == trace[1][0] == 7 * ROLLOUT


def test_what_goes_on_is_what_would_have_gone_on(tmp_path):
    """Weights, optimiser, mean of the weights and all random numbers are the same to the bit; so is the next update."""

    teacher = load_teacher("zoo:dqn/CartPole-v1", temperature=0.1)

    def made():
        return NDistill("MlpPolicy", make_vec_env("CartPole-v1", 2), teacher=teacher, seed=1, device="cpu")

    student = made()
    student.learn(1_000)
    write_checkpoint(tmp_path / "c.npz", student_state(student))
    drawn = (np.random.random(), th.rand(1), student.action_space.sample())
    state = read_checkpoint(tmp_path / "c.npz")
    other = made()
    restore_student(other, state, tmp_path / "c.npz")
    restore_mean(other, state)
    assert drawn == (np.random.random(), th.rand(1), other.action_space.sample())
    assert other.num_timesteps == student.num_timesteps and other._n_updates == student._n_updates
    assert_same(student.policy.state_dict(), other.policy.state_dict())
    assert_same(student.policy.optimizer.state_dict(), other.policy.optimizer.state_dict())
    assert_same(student_state(student)["mean"], student_state(other)["mean"])
    assert student_state(student)["mean"] is not None
    obs = other.env.reset()
    assert not np.array_equal(obs, made().env.reset())  # other episodes than the first ones


def assert_same(one, other):
    if isinstance(one, dict):
        assert list(one) == list(other)
        one, other = list(one.values()), list(other.values())
    if isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            assert_same(mine, theirs)
    elif isinstance(one, th.Tensor):
        assert one.dtype == other.dtype and th.equal(one, other)
    else:
        assert one == other


def test_schedules_go_on_where_they_were(trace, tmp_path, monkeypatch):
    monkeypatch.setattr(keeper, "CHECKPOINT_SECONDS", 0.0)
    rates = []
    train = NDistill.train

    def spy(self):
        train(self)
        rates.append((self.num_timesteps, self.policy.optimizer.param_groups[0]["lr"]))

    monkeypatch.setattr("sb3_distill.algorithms.ppo.DistillPPO.train", spy)
    assert give(out=tmp_path / "whole") == 0
    whole, rates[:] = dict(rates), []
    trace.at, trace.stop = 350, raise_killed
    with pytest.raises(KilledError):
        give(out=tmp_path / "parts")
    assert give(out=tmp_path / "parts") == 0
    assert whole and dict(rates) == pytest.approx(whole)


def test_a_run_that_had_only_to_be_compared_is_not_trained_again(trace, tmp_path, monkeypatch):
    compare = experiment.Experiment._compare
    monkeypatch.setattr(experiment.Experiment, "_compare", lambda *_: raise_killed())
    with pytest.raises(KilledError):
        give(out=tmp_path / "out")
    before = (tmp_path / "out" / "student.zip").read_bytes()
    monkeypatch.setattr(experiment.Experiment, "_compare", compare)
    assert give(out=tmp_path / "out") == 0
    assert trace[1] == []
    steps = np.loadtxt(tmp_path / "out" / "learning_curve.csv", delimiter=",", skiprows=1)[:, 0]
    assert len(set(steps)) == len(steps) and steps[-1] == 640 and before


def test_a_finished_run_says_so(tmp_path, capsys):
    out = tmp_path / "out"
    assert give(out=out) == 0
    capsys.readouterr()
    assert give(out=out) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "holds a student already" in line and "--overwrite" in line
    assert give("--json", out=out) == 0
    assert json.loads(capsys.readouterr().out) == results_in(out)
    assert give("--seed", "4", out=out) == 2
    assert "holds a student already with --seed 0 (not 4)" in capsys.readouterr().err
    assert give("--seed", "4", "--overwrite", out=out) == 0
    assert results_in(out)["settings"]["seed"] == 4


def test_an_unfinished_run_of_other_settings_is_named(trace, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    trace.at, trace.stop = 350, raise_killed
    with pytest.raises(KilledError):
        give(out=out)
    before = (out / "checkpoint.npz").read_bytes()
    capsys.readouterr()
    assert give("--form", "paper", "--net-arch", "16,16", out=out) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "unfinished run with " in line and "--form unbiased (not paper)" in line and "--net-arch 8 (not 16,16)" in line
    )
    assert (out / "checkpoint.npz").read_bytes() == before
    assert give("--eval-episodes", "4", out=out) == 0  # changes nothing about the student
    assert trace[1][0] > 0
    trace.at = 350
    with pytest.raises(KilledError):
        give("--form", "paper", "--overwrite", out=out)
    assert trace[2][0] == 0
    assert give("--form", "paper", "--overwrite", out=out) == 0  # the same command
    assert trace[3][0] > 0


@pytest.mark.parametrize("content", [b"", b"PK\3\4 half a file", None])
def test_a_damaged_checkpoint_is_one_line(content, tmp_path, trace, capsys):
    out = tmp_path / "out"
    trace.at, trace.stop = 350, raise_killed
    with pytest.raises(KilledError):
        give(out=out)
    path = out / "checkpoint.npz"
    path.write_bytes(path.read_bytes()[:-2000] if content is None else content)
    capsys.readouterr()
    assert give(out=out) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "checkpoint.npz is damaged" in line and "remove it" in line


def test_no_pickle_of_a_checkpoint_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    np.savez(tmp_path / "c.npz", tree=np.array([Evil()], dtype=object))
    with pytest.raises(ValueError, match="is damaged"):
        read_checkpoint(tmp_path / "c.npz")
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_keeps_the_last_checkpoint_and_the_run_goes_on(trace, tmp_path, monkeypatch, capsys):
    """Training goes on without it; the end is one line, and with room the same command comes to an end."""
    monkeypatch.setattr(keeper, "CHECKPOINT_SECONDS", 0.0)
    out, fsync = tmp_path / "out", os.fsync
    full = []

    def fill():
        full.append(True)

    def no_room(descriptor):
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", no_room)
    trace.at, trace.stop = 350, fill
    assert give(out=out) == 2
    err = capsys.readouterr().err.splitlines()
    assert trace[0][-1] + ROLLOUT == 640
    (warning,) = [line for line in err if line.startswith("sb3-distill: warning: No checkpoint after")]
    assert "No space left on device" in warning
    assert (
        err[-1].startswith("sb3-distill: error: ") and "No space left" in err[-1] and "320 steps are saved" in err[-1]
    )
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint.npz", "settings.json"]
    full.clear()
    assert give(out=out) == 0
    assert trace[1][0] == 320
    assert sorted(path.name for path in out.iterdir()) == sorted(RUN_FILES)


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".checkpoint.999.tmp.npz").write_bytes(b"half")
    assert give(out=out) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(RUN_FILES)


def test_two_processes_do_not_work_in_one_folder(tmp_path, capsys):
    out = tmp_path / "out"
    with RunFolder(out, {"seed": 1}).at_work():
        assert give(out=out) == 2
    assert "Another process is at work" in capsys.readouterr().err


def test_policy_distillation_draws_the_same_minibatches(tmp_path):
    """Its own dice are in the checkpoint; its memory of an environment fills again."""
    env = make_vec_env("CartPole-v1", 2)
    student = PolicyDistillation("MlpPolicy", env, teacher="zoo:dqn/CartPole-v1", seed=1, device="cpu")
    student.learn(300)
    write_checkpoint(tmp_path / "c.npz", student_state(student))
    drawn = student._rng.random()
    other = PolicyDistillation("MlpPolicy", env, teacher="zoo:dqn/CartPole-v1", seed=1, device="cpu")
    restore_student(other, read_checkpoint(tmp_path / "c.npz"), tmp_path / "c.npz")
    assert other._rng.random() == drawn
