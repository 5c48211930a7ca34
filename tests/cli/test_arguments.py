"""What is typed after a flag means what it looks like, and nothing typed is evaluated."""

import argparse
import os
import sys

import gymnasium as gym
import pytest

from sb3_distill.cli.arguments import Joined, Pairs, number_or_auto, pair, whole, wholes
from sb3_distill.common.env_ids import check_env_id
from sb3_distill.common.nearest import nearest
from sb3_distill.common.own_env import import_environment, import_module


@pytest.mark.parametrize(
    "text", ["100000", "100_000", "100,000", "1e5", "1E+5", "100k", "100K", "0.1M", "1.0e5", " 1e5 "]
)
def test_whole_numbers_as_one_types_them(text):
    assert whole(1)(text) == 100_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "k",
        "1.5",
        "1e-3",
        "-1",
        "0",
        "1__0",
        "1_",
        "1,00",
        "0x10",
        "1e99",
        "nan",
        "inf",
        "True",
        "1e5k",
        "٣",
        "9" * 30,
    ],
)
def test_what_is_no_whole_number_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="whole number of at least 1"):
        whole(1)(text)


def test_large_numbers_are_exact():
    assert whole(0)("9007199254740993") == 2**53 + 1
    assert whole(0)("1.234567891k") if False else whole(0)("4.2k") == 4200


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--net-arch", nargs="*", type=wholes(1), action=Joined, default=[32, 32])
    parser.add_argument("--env-kwargs", nargs="+", type=pair, action=Pairs, default={})
    return parser.parse_args(arguments)


@pytest.mark.parametrize("typed", [["64,64"], ["64", "64"], ["[64, 64]"], ["64,", "64"], ["(64,64)"], ["64 64"]])
def test_lists_as_one_types_them(typed):
    assert parsed("--net-arch", *typed).net_arch == [64, 64]


def test_a_list_may_be_empty_and_left_out():
    assert parsed("--net-arch").net_arch == [] and parsed().net_arch == [32, 32]
    with pytest.raises(SystemExit):
        parsed("--net-arch", "64,zero")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=1", 1),
        ("a:1", 1),  # rl_zoo3's
        ("a=-1e-3", -0.001),
        ("a=true", True),
        ("a=False", False),
        ("a=none", None),
        ("a=[1, 'x']", [1, "x"]),
        ("a={'b': (1, 2)}", {"b": (1, 2)}),
        ("a='1'", "1"),
        ("a=4x4", "4x4"),
        ("a=rgb_array", "rgb_array"),
        ("a=x=y", "x=y"),
        ("a=https://host:80", "https://host:80"),
        ("a=", ""),
        ("a=__import__('os').abort()", "__import__('os').abort()"),
    ],
)
def test_pairs_are_literals(text, value):
    name, parsed_value = pair(text)
    assert name == "a" and parsed_value == value and type(parsed_value) is type(value)


@pytest.mark.parametrize(
    "text", ["a", "1=2", "=1", "a b=1", "a=[1,", "a={'b': open('x')}", "a={1, 2}", "a=[b'x']", "a=" + "(" * 9_000]
)
def test_what_is_no_pair_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        pair(text)


def test_pairs_are_collected():
    given = parsed("--env-kwargs", "a=1", "b:2", "--env-kwargs", "a=3")
    assert given.env_kwargs == {"a": 3, "b": 2} and parsed().env_kwargs == {}


def test_numbers_or_auto():
    assert number_or_auto("auto") == "auto" and number_or_auto("0.1") == 0.1
    with pytest.raises(argparse.ArgumentTypeError, match="'auto'"):
        number_or_auto("nan")


# --- environments -----------------------------------------------------------------------------------------------------

MODULE = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv
gym.register("{space}OfMine-v0", entry_point=CartPoleEnv)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory that is not on the path, as that of an installed program is not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != ""])
    before = set(sys.modules)
    yield tmp_path
    for env_id in [known for known in gym.registry if "OfMine" in known]:
        del gym.registry[env_id]
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("space", ["", "Mine/"])
def test_a_module_in_the_working_directory_registers_its_environments(here, space):
    (here / "mine_a.py").write_text(MODULE.format(space=space))
    assert import_environment(f"mine_a:{space}OfMine-v0") == f"{space}OfMine-v0"


def test_a_module_in_a_package_is_found(here):
    (here / "mine_b").mkdir()
    (here / "mine_b" / "envs.py").write_text("import gymnasium, mine_b.more\n")
    (here / "mine_b" / "more.py").write_text("")
    assert import_environment("mine_b.envs:CartPole-v1") == "CartPole-v1"  # Gymnasium's own, as gymnasium.make has it


@pytest.mark.parametrize(
    ("text", "module", "parts"),
    [
        ("", "no_such_module", ["No module 'no_such_module'", "working directory"]),
        ("import no_such_thing", "mine_c", ["mine_c.py, line 1", "No module named 'no_such_thing'"]),
        ("\nraise RuntimeError('two\\nlines')", "mine_d", ["mine_d.py, line 2: RuntimeError: two lines"]),
        ("raise SystemExit(3)", "mine_e", ["mine_e.py, line 1: SystemExit: 3"]),
        ("def", "mine_f", ["SyntaxError"]),
        ("", "mine_g.py", ["no name of a module", "'mine_g'"]),
        ("", "mine/h", ["no name of a module"]),
        ("", "..mine", ["no name of a module"]),
    ],
)
def test_what_is_wrong_with_a_module_is_said_in_a_line(here, text, module, parts):
    if text:
        (here / f"{module}.py").write_text(text)
    with pytest.raises(ValueError) as error:
        import_environment(f"{module}:OfMine-v0")
    assert all(part in str(error.value) for part in parts) and "\n" not in str(error.value)


def test_a_module_that_does_not_register_the_id_says_what_it_registers(here):
    (here / "mine_i.py").write_text(MODULE.format(space=""))
    (here / "mine_j.py").write_text("")
    with pytest.raises(ValueError, match=r"'mine_i' has no environment 'OfMine-v1': it registers 'OfMine-v0'"):
        import_environment("mine_i:OfMine-v1")
    with pytest.raises(ValueError, match="'mine_j' has no environment 'Another-v0': it registers nothing"):
        import_environment("mine_j:Another-v0")


def test_the_working_directory_is_not_on_the_path_without_a_module(here):
    """A downloaded folder may hold an ``h5py.py``: it is imported only if the user names it."""
    import_environment("CartPole-v1")
    assert os.getcwd() not in sys.path
    (here / "mine_k.py").write_text("")
    import_module("mine_k")
    assert os.getcwd() in sys.path


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env_id", "meant"),
    [
        ("PongNoFrameskip-v5", "'PongNoFrameskip-v4'"),
        ("pongnoframeskip-v4", "'PongNoFrameskip-v4'"),
        ("ALE/Pong-v4", "'ALE/Pong-v5'"),
        ("Pong-v5", "'ALE/Pong-v5'"),
        ("cartpole-v1", "'CartPole-v1'"),
        ("MinAtar/breakout-v1", "'MinAtar/Breakout-v1'"),
    ],
)
def test_an_unknown_environment_names_the_nearest(env_id, meant):
    if "Pong" in meant:
        pytest.importorskip("ale_py")
    with pytest.raises(ValueError, match="Unknown environment") as error:
        import_environment(env_id)
    assert meant in str(error.value)
    assert "CartPole" not in str(error.value) or "CartPole" in meant


def test_an_unknown_environment_may_be_of_a_module_that_was_not_named():
    with pytest.raises(ValueError, match=r"^Unknown environment 'MyWalk-v0': .*: --env my_module:MyWalk-v0\.$"):
        import_environment("MyWalk-v0")
    with pytest.raises(ValueError, match=r"^Unknown environment 'MyWalk-v0': .*: env='my_module:MyWalk-v0'\.$"):
        check_env_id("MyWalk-v0")  # in Python's words


def test_a_namespaced_atari_game_is_known():
    pytest.importorskip("ale_py")
    assert import_environment("ALE/Pong-v5") == "ALE/Pong-v5"


def test_letters_may_be_small():
    assert nearest("CARTPOLE", ["CartPole-v1", "Acrobot-v1"]) == "did you mean 'CartPole-v1'?"
