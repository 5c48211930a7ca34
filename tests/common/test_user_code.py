"""What comes out of a user's environment has its class, its place and its traceback, whatever it is."""

import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_distill.cli import main
from sb3_distill.common.user_code import told, traceback_text, users_frame

CODE = """
import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv

class Faulty(CartPoleEnv):
    def __init__(self, fault="KeyError('speed')", **kwargs):
        super().__init__(**kwargs)
        self.fault, self.n = fault, 0
        if fault == "made":
            raise RuntimeError("no port")

    def step(self, action):
        self.n += 1
        obs, reward, *rest = super().step(action)
        if self.fault in ("obs", "reward"):
            return obs * (np.nan if self.fault == "obs" and self.n == 3 else 1), reward * (np.nan if self.fault == "reward" else 1), *rest
        if self.n == 3:
            if self.fault == "numpy":
                np.zeros(3).reshape(2, 2)
            raise eval(self.fault)
        return obs, reward, *rest

gym.register("Faulty-v0", entry_point=Faulty)
"""
LINE = 1 + CODE.splitlines().index("            raise eval(self.fault)")


@pytest.fixture
def here(tmp_path, monkeypatch):
    import sys

    import gymnasium as gym

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != ""])
    (tmp_path / "faulty.py").write_text(CODE)
    yield tmp_path
    gym.registry.pop("Faulty-v0", None)
    sys.modules.pop("faulty", None)


COMMANDS = {
    "play": ["play"],
    "record": ["record", "--steps", "64", "--n-envs", "2", "--out", "m"],
    "distill": ["distill", "--steps", "64", "--n-envs", "2", "--temperature", "1", "--out", "d"],
}


def fails(command, fault, capsys):
    first, *options = COMMANDS[command]
    teacher = ["--teacher", "zoo:dqn/CartPole-v1"] if command == "distill" else ["zoo:dqn/CartPole-v1"]
    code = main([first, *teacher, *options, "--env", "faulty:Faulty-v0", "--env-kwargs", f"fault={fault}"])
    err = capsys.readouterr().err
    assert code == 2, err
    return [line for line in err.splitlines() if not line.endswith("…") and "warning:" not in line]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("ValueError('x must be positive')", f"ValueError in Faulty.step (faulty.py:{LINE}): x must be positive"),
        ("ConnectionError('robot lost')", f"ConnectionError in Faulty.step (faulty.py:{LINE}): robot lost"),
        ("TimeoutError()", f"TimeoutError in Faulty.step (faulty.py:{LINE})"),
        ("KeyError('speed')", f"KeyError in Faulty.step (faulty.py:{LINE}): 'speed'"),
        ("TypeError('unsupported')", f"TypeError in Faulty.step (faulty.py:{LINE}): unsupported"),
        ("numpy", f"ValueError in Faulty.step (faulty.py:{LINE - 1}): cannot reshape"),
    ],
)
def test_a_fault_of_an_environment_has_its_place(command, fault, said, here, capsys):
    first, second, *rest = fails(command, fault, capsys)
    assert first.startswith(f"sb3-distill: error: {said}")
    assert second == "Traceback (most recent call last):" and 'faulty.py", line' in rest[0]
    assert not any("cli.py" in line for line in rest)


def test_so_has_one_that_cannot_be_made(here, capsys):
    (line,) = fails("play", "made", capsys)
    assert "cannot be made here: RuntimeError in Faulty.__init__ (faulty.py:11): no port" in line


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("fault", ["obs", "reward"])
def test_what_is_not_finite_is_said_so(command, fault, here, capsys):
    if (command, fault) == ("record", "reward"):
        pytest.skip("a reward is recorded as it is")
    lines = fails(command, fault, capsys)
    assert len(lines) == 1 and "is not finite" in lines[0] and "Mend the environment" in lines[0]


def raised(function, *arguments):
    with pytest.raises(Exception) as info:
        function(*arguments)
    return info.value


def test_what_is_no_environments_is_left_alone():
    """Of SB3 and NumPy, of this package, and of somebody's callback outside an environment."""

    def callback():
        raise ValueError("mine")

    assert users_frame(raised(DummyVecEnv, [])) is None
    assert users_frame(raised(np.zeros(3).reshape, 2, 2)) is None
    assert users_frame(raised(callback)) is None
    assert users_frame(KeyError("never raised")) is None


def test_the_place_is_the_innermost_in_an_environment():
    class Deep:
        def outer(self):
            return helper()

    def helper():
        raise OSError

    def in_sb3():
        return Deep().outer()

    call = eval("lambda function: function()", {"__name__": "stable_baselines3.common.vec_env.dummy_vec_env"})
    error = raised(call, in_sb3)
    place = users_frame(error)
    assert told(error, place) == f"OSError in helper (test_user_code.py:{place.tb_lineno})"
    assert traceback_text(error).count("test_user_code.py") >= 3
