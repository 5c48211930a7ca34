"""``sb3-distill export``: what it writes and says, and what is wrong."""

import json

import numpy as np
import pytest
import torch as th
from agents import SMALL, VECTOR, made, written
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecTransposeImage

from envs_for_tests import CountdownEnv
from sb3_distill import load_teacher
from sb3_distill.cli import main
from sb3_distill.exporting.c_file import compiler


def test_a_bundled_agent_is_met_in_play(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "dqn/CartPole-v1", "--to", "torchscript", "--observations", "200", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "dqn-CartPole-v1.pt" in said and "200 observations (100 met in play" in said and "200 greedy" in said
    obs = np.random.default_rng(0).uniform(-0.2, 0.2, (50, 4)).astype(np.float32)
    action, _ = th.jit.load("dqn-CartPole-v1.pt")(th.as_tensor(obs))
    assert (action.numpy() == load_teacher("zoo:dqn/CartPole-v1", tune=False).act(obs)).all()


@pytest.mark.skipif(compiler() is None, reason="no C compiler")
def test_a_students_zip_as_c(tmp_path, capsys):
    made(PPO, spaces.Box(-1, 1, (4,), np.float32), spaces.Discrete(2)).save(tmp_path / "student.zip")
    words = ["--env", "CartPole-v1", "--to", "c", "--int8", "--observations", "100", "--json", "--quiet"]
    assert main(["export", str(tmp_path / "student.zip"), *words]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["path"] == str(tmp_path / "student.h") and data["int8"] and data["agreement"]["n_met"] == 50
    assert {path.name for path in tmp_path.iterdir()} == {"student.zip", "student.h"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["zoo:dqn/CartPole-v1", "--out", "a.tflite"], "does not say which format"),
        (["zoo:dqn/CartPole-v1", "--out", "none/a.pt"], "There is no folder none"),
        (["zoo:dqn/CartPole-v1", "--out", "a.pt", "--env", "Acrobot-v1"], "does not fit"),
        (["zoo:dqn/CartPole-v1", "--out", "a.pt", "--int8"], "int8 is for"),
        (["nothing.zip"], "No teacher at 'nothing.zip'"),
    ],
)
def test_what_is_wrong_ends_in_a_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", *words, "--quiet"]) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_given_environment_may_have_transposed_its_images(tmp_path):
    """The file transposes them itself, so they are met as the innermost environment has them."""
    space = spaces.Box(0, 255, (36, 40, 3), np.uint8)
    env = VecTransposeImage(DummyVecEnv([lambda: CountdownEnv(space, spaces.Discrete(3))]))
    model = made(PPO, None, None, env, policy="CnnPolicy", randomise=False)
    done = written(model, tmp_path / "agent.pt", env=env, n_observations=20)
    assert done.agreement.n_met == 10
    (given,) = json.loads(_metadata(done.path)["inputs"])
    assert given["shape"] == ["batch", 36, 40, 3]
    channels_first = written(model, tmp_path / "first.pt", layout="channels-first", n_observations=20)
    assert json.loads(_metadata(channels_first.path)["inputs"])[0]["shape"] == ["batch", 3, 36, 40]


def _metadata(path):
    from sb3_distill.exporting.torchscript_file import METADATA

    files = {METADATA: ""}
    th.jit.load(str(path), _extra_files=files)
    return json.loads(files[METADATA])


def test_a_loaded_model_can_be_copied_afterwards(tmp_path):
    """What was traced leaves nothing in SB3's distributions."""
    import copy

    model = made(PPO, VECTOR, spaces.Discrete(3), policy_kwargs=SMALL)
    model.policy.predict(np.zeros((1, 3), np.float32))
    written(model, tmp_path / "agent.pt")
    copy.deepcopy(model.policy)
