"""An environment of the user's own, in a module in the working directory, works in every command."""

import json
import sys

import gymnasium as gym
import pytest
from stable_baselines3 import A2C

from sb3_distill.cli import main
from sb3_distill.memory.disk import DiskMemory

MODULE = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

class Paid(CartPoleEnv):
    def __init__(self, pay=1.0, **kwargs):
        super().__init__(**kwargs)
        self.pay = pay

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, self.pay, *rest

gym.register("Own/Paid-v0", entry_point=Paid, max_episode_steps=20)
"""
ENV = "own_paid:Own/Paid-v0"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a module and an agent, which is not on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != ""])
    (tmp_path / "own_paid.py").write_text(MODULE)
    A2C("MlpPolicy", "CartPole-v1", seed=0, device="cpu").save("agent")
    yield tmp_path
    gym.registry.pop("Own/Paid-v0", None)
    sys.modules.pop("own_paid", None)


def test_it_is_played_with_its_arguments(here, capsys):
    assert main(["play", "agent.zip", "--env", ENV, "--env-kwargs", "pay=0.25", "--episodes", "2", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["returns"] == [0.25 * n for n in about["steps"]] and max(about["steps"]) <= 20


def test_it_is_recorded_with_its_arguments(here):
    arguments = ["--steps", "60", "--n-envs", "1", "--out", "m", "--env-kwargs", "pay:-2"]
    assert main(["record", "agent.zip", "--env", ENV, *arguments]) == 0
    memory = DiskMemory("m")
    assert len(memory) == 60 and memory.about.env_id == "Own/Paid-v0"


def test_rl_zoo_is_told_of_the_module(here):
    pytest.importorskip("rl_zoo3")
    from sb3_distill.zoo.rl_zoo import with_packages

    expected = ["--algo", "ppo", "--env", "Own/Paid-v0", "--gym-packages", "own_paid"]
    assert with_packages(["--algo", "ppo", "--env", ENV]) == expected
    assert with_packages(["--algo", "ppo", f"--env={ENV}"]) == expected
    assert with_packages(["--env", ENV, "--gym-packages", "x"]) == [
        "--env",
        "Own/Paid-v0",
        "--gym-packages",
        "own_paid",
        "x",
    ]
    assert with_packages(["--env", "CartPole-v1"]) == ["--env", "CartPole-v1"]
    with pytest.raises(ValueError, match="No module 'no_such'"):
        with_packages(["--env", "no_such:X-v0"])


@pytest.mark.parametrize("name", ["train", "enjoy"])
def test_rl_zoos_scripts_see_the_working_directory_and_end_in_a_line(here, name, monkeypatch, capsys):
    pytest.importorskip("rl_zoo3")
    from sb3_distill.zoo import rl_zoo

    def fail():
        import own_paid  # noqa: F401

        raise ends[0]

    monkeypatch.setattr(rl_zoo, "rl_zoo3_module", lambda name: type("module", (), {name: staticmethod(fail)}))
    monkeypatch.setattr(sys, "argv", ["program"])
    for ending, code, said in (
        (KeyboardInterrupt(), 130, "interrupted"),
        (ValueError("a\nb"), 2, "error: a b"),
        (FileNotFoundError("no such"), 2, "error: no such"),
        (ImportError("none"), 2, "error: none"),
    ):
        ends = [ending]
        assert rl_zoo.run("sb3-distill-train", name) == code
        assert capsys.readouterr().err == f"sb3-distill-train: {said}\n"


@pytest.mark.parametrize(
    "command", [["play", "agent.zip"], ["record", "agent.zip"], ["distill", "--teacher", "agent.zip"]]
)
@pytest.mark.parametrize(
    ("text", "env", "part"),
    [
        ("", "no_such:X-v0", "No module 'no_such'"),
        ("raise KeyError('why')", "own_paid:X-v0", "own_paid.py, line 1: KeyError: 'why'"),
        ("", "own_paid:X-v0", "registers nothing"),
        (MODULE, "own_paid:Own/Paid-v1", "registers 'Own/Paid-v0'"),
    ],
    ids=["missing", "raises", "empty", "other"],
)
def test_a_module_that_is_of_no_use_is_a_line(command, text, env, part, here, capsys):
    (here / "own_paid.py").write_text(text)
    before = sorted(path.name for path in here.iterdir() if path.name != "__pycache__")
    assert main([*command, "--env", env]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and part in err, err
    assert sorted(path.name for path in here.iterdir() if path.name != "__pycache__") == before
