"""A run that goes on by reinforcement learning: both phases in its files, and on after a kill in either."""

import csv
import json
import subprocess
import sys

import pytest
from stable_baselines3 import PPO

from sb3_distill import distill
from sb3_distill.cli import main
from sb3_distill.experiment import run as experiment
from sb3_distill.experiment.keeper import Keeper

SMALL = dict(
    steps=256, n_envs=2, net_arch=[8], temperature=0.01, eval_episodes=2, quiet=True, method="on-policy-distill"
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(experiment, "CURVE_POINTS", 2)


class KilledError(BaseException):
    """In the place of SIGKILL."""


def steps_in(folder):
    with (folder / "learning_curve.csv").open() as file:
        return [int(row["environment_steps"]) for row in csv.DictReader(file)]


def test_both_phases_are_in_the_files(tmp_path, monkeypatch):
    """One curve over both, each point played once; the distilled student is beside the final one, which opens without this package."""
    evaluate, played = Keeper._evaluate, []
    monkeypatch.setattr(Keeper, "_evaluate", lambda self: (played.append(self.model.num_timesteps), evaluate(self)))
    result = distill(**SMALL, then_rl=2_048, out=tmp_path / "run")
    about = result.data["reinforcement"]
    assert type(result.student) is PPO
    assert (about["algorithm"], about["begins_after"], about["steps"]) == ("PPO", 256, 2_048)
    assert about["lowest_return"] <= about["distilled_return"]
    steps = steps_in(tmp_path / "run")
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (0, 256 + 2_048)
    assert len(played) == len(steps)
    assert 256 in steps
    assert result.data["players"]["student"]["training_steps"] == 256 + 2_048
    assert (tmp_path / "run" / "distilled.zip").exists()
    path = str(tmp_path / "run" / "student.zip")
    code = f"import sys\nsys.modules['sb3_distill'] = None\nfrom stable_baselines3 import PPO\nPPO.load({path!r})"
    subprocess.run([sys.executable, "-c", code], check=True)
    again = distill(**SMALL, then_rl=2_048, out=tmp_path / "run")  # read, and not run
    assert type(again.student) is PPO
    assert again.data == json.loads((tmp_path / "run" / "results.json").read_text())
    with pytest.raises(ValueError, match="holds a student already with then_rl=2048"):
        distill(**SMALL, out=tmp_path / "run")


def test_on_after_a_kill_in_the_second_phase(tmp_path, monkeypatch):
    """What the distillation has learnt is not learnt again, and the second phase goes on from its checkpoint."""
    save, starts = Keeper.save, []
    kill_at = [2_048]

    def save_and_die(self):
        save(self)
        if type(self.model) is PPO and kill_at and self.model.num_timesteps >= kill_at[0]:
            kill_at.clear()
            raise KilledError

    started = Keeper._on_training_start

    def noted(self):
        starts.append((type(self.model).__name__, self.model.num_timesteps))
        started(self)

    monkeypatch.setattr(Keeper, "save", save_and_die)
    monkeypatch.setattr(Keeper, "_on_training_start", noted)
    with pytest.raises(KilledError):
        distill(**SMALL, then_rl=4_096, out=tmp_path / "run")
    result = distill(**SMALL, then_rl=4_096, out=tmp_path / "run")
    assert starts == [("DistillPPO", 0), ("PPO", 0), ("DistillPPO", 256), ("PPO", 2_048)]
    assert result.data["reinforcement"]["steps"] == 4_096
    steps = steps_in(tmp_path / "run")
    assert steps == sorted(set(steps))
    assert steps[-1] == 256 + 4_096
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "distilled.zip",
        "learning_curve.csv",
        "learning_curve.png",
        "results.json",
        "student.zip",
    ]


def test_bad_input(tmp_path, capsys):
    with pytest.raises(ValueError, match="then_rl must be a whole number"):
        distill(**SMALL, then_rl=0, out=tmp_path / "run")
    with pytest.raises(ValueError, match="policy distillation's has neither"):
        distill(**SMALL | {"method": "policy-distillation"}, then_rl=64, out=tmp_path / "run")
    assert main(["distill", "--method", "policy-distillation", "--then-rl", "64"]) != 0
    assert "--then-rl 64 goes on" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
