"""Commands in an environment of the user's own: its arguments, its module, and a search for τ that fails there."""

import json
import shutil
import sys

import gymnasium as gym
import pytest

from sb3_distill.agents.find import BUNDLED
from sb3_distill.cli import main

AGENT = BUNDLED / "dqn" / "CartPole-v1_1" / "CartPole-v1.zip"
MODULE = """
import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv

class Own(CartPoleEnv):
    alive = 0

    def __init__(self, pay=1.0, fault="", limit=20, **kwargs):
        super().__init__(**kwargs)
        self.pay, self.fault, self.limit = pay, fault, limit
        Own.alive += 1
        if fault == "once" and Own.alive > 1:
            raise RuntimeError("port 5000 is taken")

    def reset(self, **kwargs):
        self.n = 0
        return super().reset(**kwargs)

    def step(self, action):
        self.n += 1
        obs, _, *rest = super().step(action)
        return obs, self.pay, rest[0], self.n >= self.limit, {}

gym.register("Mine/Own-v0", entry_point=Own)
gym.register("Mine/Other-v0", entry_point=Own)
"""
ENV = "own_faults:Mine/Own-v0"
SMALL = ["--steps", "64", "--n-envs", "2", "--eval-episodes", "2", "--net-arch", "8"]


def move_to(folder, monkeypatch):
    """A working directory with a module and a DQN."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != ""])
    (folder / "own_faults.py").write_text(MODULE)
    shutil.copy(AGENT, folder / "agent.zip")


def forget():
    for name in ("Mine/Own-v0", "Mine/Other-v0"):
        gym.registry.pop(name, None)
    sys.modules.pop("own_faults", None)


@pytest.fixture
def here(tmp_path, monkeypatch):
    move_to(tmp_path, monkeypatch)
    yield tmp_path
    forget()


def results(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("as_json", [False, True])
def test_a_temperature_that_no_play_finds_is_told_when_it_is_chosen(as_json, here, monkeypatch, capsys):
    def fail(*args):
        raise ConnectionError("robot lost")

    monkeypatch.setattr("sb3_distill.teachers.tuning._by_play", fail)
    options = ["--teacher", "agent.zip", "--env", ENV, "--out", "out", *(["--json"] if as_json else [])]
    assert main(["distill", *SMALL, *options]) == 0
    out, err = capsys.readouterr()
    said = err if as_json else out
    lines = [line for line in said.splitlines() if line.startswith("Teacher ")]
    about = results(here / "out")["teacher"]
    assert "temperature to be chosen from the observations of the first rollout" in lines[0]
    assert about["temperature"] > 0 and f"temperature {about['temperature']:.3g} (auto: " in lines[1]
    assert not as_json or json.loads(out)["teacher"] == about


def test_the_temperature_is_looked_for_in_the_environment_of_the_run(here, monkeypatch, capsys):
    """With its arguments, whether the teacher was trained there or not."""
    options = ["--env-kwargs", "pay=0.25", "--out", "out"]
    assert main(["distill", *SMALL, "--teacher", "agent.zip", "--env", ENV, *options]) == 0
    assert "greedy ones 5 " in results(here / "out")["teacher"]["temperature_report"]  # 20 steps of 0.25
    options = ["--env", "CartPole-v1", "--env-kwargs", "sutton_barto_reward=True", "--out", "other"]
    assert main(["distill", *SMALL, "--teacher", "zoo:dqn/CartPole-v1", *options]) == 0
    assert "greedy ones 0.0 " in results(here / "other")["teacher"]["temperature_report"]


def test_arguments_belong_to_the_environment_that_they_were_given_with(here, capsys):
    """A run's are used, and written down, where it was trained, and nowhere else; in every command alike."""
    own = ["--env-kwargs", "pay=0.25", "limit=7"]
    assert main(["distill", *SMALL, "--teacher", "agent.zip", "--env", ENV, *own, "--out", "first"]) == 0
    for env, kwargs in ((ENV, {"pay": 0.25, "limit": 7}), (ENV.replace("Own-v0", "Other-v0"), {})):
        gym.registry.pop("Mine/Own-v0"), gym.registry.pop("Mine/Other-v0"), sys.modules.pop("own_faults")
        capsys.readouterr()
        assert main(["play", "first", "--env", env, "--episodes", "1", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["env_kwargs"] == kwargs
        assert main(["distill", *SMALL, "--teacher", "first", "--env", env, "--out", "next", "--overwrite"]) == 0
        assert results(here / "next")["settings"]["env_kwargs"] == kwargs
        assert results(here / "next")["environment"]["env_kwargs"] == kwargs


@pytest.mark.parametrize("command", [["play", "own"], ["record", "own"], ["distill", "--teacher", "own"]])
def test_a_run_of_a_module_says_which_in_every_command(command, here, capsys):
    (here / "own").mkdir()
    shutil.copy(AGENT, here / "own" / "student.zip")
    (here / "own" / "results.json").write_text(json.dumps({"settings": {"method": "n_distill", "env": ENV}}))
    assert main(command) == 2
    assert f"own was trained in {ENV}: add --env {ENV} if you trust that module" in capsys.readouterr().err


def test_an_environment_that_exists_once_says_that_there_was_to_be_a_second(here, capsys):
    options = [
        "--teacher",
        "agent.zip",
        "--env",
        ENV,
        "--env-kwargs",
        "fault=once",
        "--n-envs",
        "1",
        "--temperature",
        "1",
    ]
    assert main(["distill", *SMALL, *options, "--out", "out"]) == 2
    err = capsys.readouterr().err
    assert "port 5000 is taken" in err and "to evaluate in" in err and "in Python" in err


def test_a_warning_is_said_once(here, monkeypatch, capsys):
    monkeypatch.setenv("RL_TRAINED_AGENTS", "/nope")
    assert main(["distill", *SMALL, "--teacher", "dqn/CartPole-v1", "--temperature", "0.01", "--out", "out"]) == 0
    assert capsys.readouterr().err.count("RL_TRAINED_AGENTS names '/nope'") <= 1
