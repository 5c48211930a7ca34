"""``sb3-distill record``."""

import pytest

from sb3_distill.cli.memory import add_commands
from sb3_distill.cli.parser import Parser
from sb3_distill.memory import DiskMemory


def prepare(*argv):
    parser = Parser()
    add_commands(parser.add_subparsers())
    args = parser.parse_args(["record", *map(str, argv)])
    return args.prepare(args)


def test_records_and_goes_on(tmp_path, capsys):
    out = tmp_path / "memory"
    prepare("zoo:dqn/CartPole-v1", "--steps", 400, "--n-envs", 4, "--out", out)()
    assert capsys.readouterr().out.startswith(
        f"400 states of {DiskMemory(out).n_episodes} episodes of dqn/CartPole-v1 in {out}: "
    )
    prepare("zoo:dqn/CartPole-v1", "--steps", 600, "--n-envs", 4, "--out", out)()
    memory = DiskMemory(out)
    assert (len(memory), memory.about.env_id) == (600, "CartPole-v1")


def test_the_folder_has_a_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    prepare("zoo:dqn/CartPole-v1", "--steps", 50, "--seed", 3, "--n-envs", 1)()
    assert len(DiskMemory("runs/memory-CartPole-v1-3")) == 50


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["zoo:dqn/CartPole-v1", "--steps", 0], "--steps: must be a whole number of at least 1, not '0'"),
        (["zoo:dqn/CartPole-v1", "--epsilon", 2], "epsilon must lie between 0 and 1, not 2.0"),
        (["zoo:dqn/CartPole-v1", "--n-envs", 0], "--n-envs: must be a whole number of at least 1, not '0'"),
        (["zoo:dqn/CartPole-v1", "--seed", -1], "--seed: must be a whole number of at least 0, not '-1'"),
        (["zoo:dqn/CartPole-v1", "--env", "CartPol-v1"], "CartPol"),
        (["zoo:dqn/CartPole-v1", "--env", "MountainCar-v0"], "does not fit the environment"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(argv, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        prepare(*argv, "--out", tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_an_unknown_teacher():
    with pytest.raises(FileNotFoundError):
        prepare("zoo:dqn/Cartpole-v1")
