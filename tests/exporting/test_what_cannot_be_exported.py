"""What cannot be exported, and what does not go together: said before any work, with what to do."""

import numpy as np
import pytest
from agents import VECTOR, made, written
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from envs_for_tests import CountdownEnv
from sb3_distill import EnsembleTeacher, export, load_teacher
from sb3_distill.cli import main

ACTIONS = spaces.Discrete(3)
IMAGES = spaces.Box(0, 255, (36, 40, 3), np.uint8)


def controller(obs):
    return 0


@pytest.fixture(scope="module")
def model():
    return made(PPO, VECTOR, ACTIONS)


@pytest.mark.parametrize("kind", ["function", "teacher", "ensemble", "onnx", "number"])
def test_what_is_no_agent_says_what_is(kind, tmp_path, model):
    teacher = load_teacher(controller, observation_space=VECTOR, action_space=ACTIONS)
    source, said = {
        "function": lambda: (controller, "controller is a function of Python's"),
        "teacher": lambda: (teacher, "controller is a RuleTeacher, which asks a function"),
        "ensemble": lambda: (EnsembleTeacher([teacher, teacher]), "no policy of its own"),
        "onnx": lambda: (str(written(model, tmp_path / "a.onnx").path), r"a\.onnx is an ONNX file already"),
        "number": lambda: (3, "int 3 is none"),
    }[kind]()
    with pytest.raises(ValueError, match=rf"{said}.*what can be exported is an agent of SB3.*'zoo:dqn/CartPole-v1'"):
        export(source, tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


def test_an_agent_of_a_module_and_a_function_of_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made(PPO, VECTOR, ACTIONS).save("agent.zip")
    (tmp_path / "my_exported.py").write_text(
        "from stable_baselines3 import PPO\nagent = PPO.load('agent.zip', device='cpu')\ndef rule(obs): return 0\n"
    )
    assert main(["export", "my_exported:agent", "--to", "torchscript", "--observations", "20", "--quiet"]) == 0
    assert (tmp_path / "my_exported-agent.pt").exists()
    assert main(["export", "my_exported:rule", "--to", "torchscript", "--quiet"]) == 2
    assert "rule is a function of Python's" in capsys.readouterr().err


@pytest.mark.parametrize("tolerance", [-1, float("nan"), "a", True])
def test_a_tolerance_is_a_number(tolerance, model, tmp_path):
    with pytest.raises(ValueError, match=rf"tolerance must be a number of at least 0.*not {tolerance!r}"):
        written(model, tmp_path / "a.pt", tolerance=tolerance)


def test_a_layout_is_of_images(model, tmp_path):
    with pytest.raises(ValueError, match=r"layout='channels-last' is of images, and PPO model sees none.*leave it out"):
        written(model, tmp_path / "a.pt", layout="channels-last")


@pytest.mark.parametrize("layout", ["channels-first", "channels-last"])
def test_images_that_are_met_are_laid_out_as_was_asked(layout, tmp_path):
    env = DummyVecEnv([lambda: CountdownEnv(IMAGES, ACTIONS)])
    done = written(
        made(PPO, None, None, env, policy="CnnPolicy", randomise=False),
        *(tmp_path / "a.pt",),
        env=env,
        layout=layout,
        n_observations=20,
    )
    assert done.agreement.n_met == 10 and done.agreement.max_difference <= 1e-5


@pytest.mark.parametrize("layout", ["channels-first", "channels-last"])
def test_statistics_are_laid_out_as_the_images_are(layout, tmp_path):
    env = DummyVecEnv([lambda: CountdownEnv(IMAGES, ACTIONS)])
    policy = made(PPO, None, None, env, policy="CnnPolicy", randomise=False).policy
    statistics = VecNormalize(env)
    statistics.obs_rms.mean = np.random.default_rng(0).uniform(0, 255, IMAGES.shape)
    done = written(policy, tmp_path / "a.pt", vec_normalize=statistics, n_observations=20, layout=layout)
    assert done.agreement.max_difference <= 1e-5


def test_a_hint_about_what_a_teacher_sees_is_not_for_exports(model, tmp_path):
    with pytest.raises(ValueError, match=r"The agent PPO model does not fit the environment") as caught:
        written(model, tmp_path / "a.pt", env="CartPole-v1")
    assert "teacher_obs" not in str(caught.value)


def test_arguments_are_spelled_as_they_are_typed(model, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"give to='onnx', to='torchscript' or to='c'"):
        written(model, tmp_path / "a.tflite")
    assert main(["export", "zoo:dqn/CartPole-v1", "--out", str(tmp_path / "a.tflite"), "--quiet"]) == 2
    assert "give --to onnx, --to torchscript or --to c" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"env='my_module:CartPol-v1'") as caught:
        written(model, tmp_path / "a.pt", env="CartPol-v1")
    assert "--" not in str(caught.value)


def test_statistics_of_somebody_else_beside_an_agent(tmp_path, capsys):
    made(PPO, VECTOR, ACTIONS).save(tmp_path / "a.zip")
    VecNormalize(make_vec_env("CartPole-v1")).save(tmp_path / "vecnormalize.pkl")
    assert main(["export", str(tmp_path / "a.zip"), "--to", "c", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "statistics of other observations" in said and "move them elsewhere" in said
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "vecnormalize.pkl"}
