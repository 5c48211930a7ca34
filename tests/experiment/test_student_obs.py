"""Runs whose students see pictures, or a part of a Dict, of teachers that read the state: from the command line to the files and back."""

import json
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from stable_baselines3 import PPO

import sb3_distill
from sb3_distill import load_teacher
from sb3_distill.agents.find import find_agent, read_training_of
from sb3_distill.agents.training import Training
from sb3_distill.cli import main
from sb3_distill.common.layers import innermost
from sb3_distill.experiment import run as experiment
from sb3_distill.experiment.plan import prepare
from sb3_distill.experiment.settings import Settings
from sb3_distill.experiment.student_obs import Seen, parsed, sight

TEACHER = "zoo:dqn/CartPole-v1"
GIVEN = dict(steps=64, n_envs=2, eval_episodes=2, temperature=0.01, size="4%", method="on-policy-distill")


class Camera(gym.Wrapper):
    """CartPole as somebody's environment shows it: a Dict of a picture and the state, without render()."""

    def __init__(self, env, shape=(36, 36, 1)):
        super().__init__(env)
        camera = spaces.Box(0, 255, shape, np.uint8)
        self.observation_space = spaces.Dict({"camera": camera, "state": env.observation_space})

    def _obs(self, state):
        space = self.observation_space["camera"]
        return {"camera": np.full(space.shape, 128 + 20 * state[0], np.uint8), "state": state}

    def reset(self, **kwargs):
        state, info = self.env.reset(**kwargs)
        return self._obs(state), info

    def step(self, action):
        state, *rest = self.env.step(action)
        return (self._obs(state), *rest)


class Blind(CartPoleEnv):
    metadata: ClassVar = {"render_modes": ["human", "ansi"]}


def seen_at(shape):
    return lambda **kwargs: Camera(gym.make("CartPole-v1", max_episode_steps=20).unwrapped, shape)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(experiment, "CURVE_EPISODES", 2)
    monkeypatch.setattr(experiment, "CURVE_POINTS", 1)
    made = {
        "Small-v0": ("sb3_distill.envs.small_cart_pole:SmallCartPole", {"size": 36}),
        "Camera-v0": (seen_at((36, 36, 1)), {}),
        "Blind-v0": (Blind, {}),
        "Mute-v0": (seen_at((2,)), {}),
    }
    for env_id, (entry, kwargs) in made.items():
        gym.register(env_id, entry_point=entry, kwargs=kwargs, max_episode_steps=20, disable_env_checker=True)
    yield
    for env_id in made:
        del gym.registry[env_id]


@pytest.mark.parametrize(
    "text, seen",
    [
        ("pixels", Seen("pixels")),
        ("pixels:42", Seen("pixels", 42)),
        ("pixels:42:rgb", Seen("pixels", 42, True)),
        ("pixels:inverted", Seen("pixels", inverted=True)),
        ("pixels:rgb:frames=2:50", Seen("pixels", 50, True, 2)),
        ("camera:frames=1", Seen("camera", None, False, 1)),
    ],
)
def test_what_can_be_typed(text, seen):
    assert parsed(text) == seen


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "names nothing"),
        (":42", "names nothing"),
        ("pixels:grey", "has 'grey', which is none of"),
        ("pixels:", "has '', which is none of"),
        ("pixels:-42", "has '-42'"),
        ("pixels:4²", "has '4²'"),
        ("pixels:frames=", "has 'frames='"),
        ("pixels:size=42", "has 'size=42'"),
        ("pixels:35", "36 to 4096 pixels"),
        ("pixels:99999", "36 to 4096 pixels"),
        ("pixels:frames=0", "1 to 64 frames"),
    ],
)
def test_what_cannot(text, said):
    with pytest.raises(ValueError, match=f"^student_obs='{text}'.*{said}"):
        parsed(text)


def seen_in(env_id, text, remembers=False):
    teacher = load_teacher(TEACHER, tune=False)
    return sight(Training(env_id), text, teacher, remembers)


def test_who_sees_what():
    """The teacher's environment draws nothing; a student that remembers needs no stack, nor does one that sees no picture."""
    both = seen_in("Small-v0", "pixels:36:rgb")
    assert both.teacher == Training("Small-v0")
    env = both.student.make_vec_env(2)
    assert env.observation_space.shape == (36, 36, 12)
    state = both.teacher_obs(innermost(env))
    assert state.observation_space == both.teacher.make_vec_env(1).observation_space
    assert seen_in("Small-v0", "pixels", True).student.make_vec_env(1).observation_space.shape == (84, 84, 1)
    assert seen_in("Small-v0", "pixels:frames=2", True).student.frame_stack == 2
    camera = seen_in("Camera-v0", "camera")
    assert camera.student.make_vec_env(1).observation_space.shape == (36, 36, 4)
    assert (
        camera.teacher.make_vec_env(1).observation_space.shape
        == (4,)
        == camera.teacher_obs(innermost(camera.student.make_vec_env(1))).observation_space.shape
    )
    assert seen_in("Mute-v0", "camera").student.frame_stack == 1


@pytest.mark.parametrize(
    "env_id, text, said",
    [
        ("Camera-v0", "camra", r"no observation 'camra'. Its Dict has 'camera', 'state'. Pictures of it are 'pixels'"),
        ("CartPole-v1", "camera", r"no observation 'camera'. It shows no Dict, but Box"),
        ("Camera-v0", "camera:42", r"shows 'camera' already, Box\(0, 255, \(36, 36, 1\), uint8\)"),
        (
            "Blind-v0",
            "pixels",
            r"Blind-v0 draws no pictures: its render_modes are 'human', 'ansi', and 'rgb_array' is needed",
        ),
    ],
)
def test_what_cannot_be_seen_is_said_before_any_work(env_id, text, said):
    with pytest.raises(ValueError, match=said):
        seen_in(env_id, text)


def test_a_teacher_that_can_read_nothing_of_it():
    """Both spaces are shown; and where it could read two parts, both keys."""
    teacher = load_teacher("zoo:dqn/MinAtar-Breakout-v1", tune=False)
    with pytest.raises(
        ValueError, match=r"can read nothing .* is Box\(0, 1, \(4, 10, 10\), uint8\), the environment's is Dict"
    ):
        sight(Training("Camera-v0"), "camera", teacher, False)
    with pytest.raises(ValueError, match=r"does not fit the environment: .*\(4, 10, 10\).*\(4,\)"):
        prepare(Settings("Small-v0", "zoo:dqn/MinAtar-Breakout-v1", student_obs="pixels"))


def test_a_run_from_pictures_is_played_exported_and_gone_on_with(tmp_path, capsys):
    """What is written says what the student sees; all commands that read it build the same environment."""
    out = tmp_path / "run"
    command = ["distill", "--env", "Small-v0", "--teacher", TEACHER, "--student-obs", "pixels:36", "--size", "4%"]
    command += ["--method", "on-policy-distill", "--steps", "64", "--n-envs", "2", "--eval-episodes", "2"]
    command += ["--temperature", "0.01", "--out", str(out), "--quiet"]
    assert main(command) == 0
    data = json.loads((out / "results.json").read_text())
    assert data["settings"]["student_obs"] == "pixels:36"
    assert data["environment"]["vec_env_wrapper"][0].popitem()[1] == {"key": "pixels"}
    student = PPO.load(out / "student.zip", device="cpu")
    assert student.observation_space.shape == (4, 36, 36)
    trained = read_training_of(find_agent(out))
    assert trained.make_vec_env(1).observation_space.shape == (36, 36, 4)
    played = main(["play", str(out), "--episodes", "2", "--seed", "2000000", "--json", "--quiet"])
    assert played == 0
    said = json.loads(capsys.readouterr().out)
    assert said["returns"] == data["players"]["student"]["returns"]
    assert main(["export", str(out), "--observations", "20", "--quiet", "--to", "torchscript"]) == 0
    assert "met in play" in capsys.readouterr().out
    # The same command again has nothing to do, and one with other pictures is another run.
    assert main(command[:-1]) == 0
    assert "holds a student already" in capsys.readouterr().out
    assert main([*command[:-1], "--student-obs", "pixels:42"]) == 2
    # A teacher that sees pictures has a student that reads the state: the other way round.
    again = load_teacher(out, tune=False)
    assert again.training_env(1).observation_space.shape == (36, 36, 4)


def test_a_run_from_a_part_of_a_dict(tmp_path):
    result = sb3_distill.distill(TEACHER, "Camera-v0", student_obs="camera", out=tmp_path / "a", quiet=True, **GIVEN)
    assert result.student.observation_space.shape == (4, 36, 36)
    teacher = sb3_distill.distill(TEACHER, "CartPole-v1", out=tmp_path / "b", quiet=True, **GIVEN | {"size": None})
    assert len(result.returns("teacher")) == 2 and result.returns("teacher").max() <= 20
    assert result.data["comparison"]["agreement"] is not None
    assert "student_obs" not in teacher.data["settings"]  # as older runs have it


def test_what_does_not_go_together(tmp_path):
    with pytest.raises(ValueError, match="student_obs='pixels' is seen while the teacher plays"):
        prepare(Settings("Small-v0", TEACHER, "policy_distillation", "dqn", student_obs="pixels", memory="m"))
    with pytest.raises(ValueError, match="student_obs must be 'pixels', 'pixels:42' or a key"):
        sb3_distill.distill(TEACHER, student_obs=42, out=tmp_path)
