"""What ``distill`` has written is an agent like any other: a teacher, something to inspect, to play, to push."""

import json
import shutil

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_distill import load_teacher
from sb3_distill.agents.find import find_agent, read_training_of
from sb3_distill.agents.run_settings import read_run, run_file
from sb3_distill.cli import main

SMALL = ["--steps", "512", "--n-envs", "2", "--eval-episodes", "2", "--net-arch", "16"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a small run."""
    out = tmp_path_factory.mktemp("run") / "student of CartPole"
    assert main(["distill", *SMALL, "--temperature", "0.01", "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("what", ["", "student.zip", "student"])
def test_a_run_is_a_teacher_that_knows_its_environment(run, what):
    teacher = load_teacher(run / what)
    assert teacher.env_id == "CartPole-v1" and teacher.name == str(run)
    obs = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    student = PPO.load(run / "student.zip")
    assert (teacher.act(obs) == student.predict(obs, deterministic=True)[0]).all()


def test_a_run_teaches_the_next_student(run, tmp_path):
    assert main(["distill", *SMALL, "--teacher", str(run), "--out", str(tmp_path / "next")]) == 0
    results = json.loads((tmp_path / "next" / "results.json").read_text(encoding="utf-8"))
    assert results["settings"]["env"] == "CartPole-v1"
    assert results["teacher"]["parameters"] == 4 * 16 + 16 + 16 * 2 + 2


def test_a_run_that_was_moved_is_the_same(run, tmp_path):
    shutil.copytree(run, tmp_path / "other")
    assert load_teacher(tmp_path / "other").env_id == "CartPole-v1"


def test_a_run_can_be_inspected(run, capsys):
    assert main(["inspect", str(run)]) == 0
    assert "yes, as an ActorCriticTeacher" in capsys.readouterr().out


def test_what_else_lies_in_the_folder_is_another_agents(run, tmp_path):
    """Statistics that a student was not trained with are not its own, and its settings are of no other zip."""
    shutil.copytree(run, tmp_path / "other")
    env = VecNormalize(make_vec_env("CartPole-v1"))
    env.obs_rms.mean += 3.0
    env.save(tmp_path / "other" / "vecnormalize.pkl")
    assert load_teacher(tmp_path / "other").normalize_obs is None
    PPO("MlpPolicy", "Acrobot-v1", device="cpu").save(tmp_path / "other" / "mine")
    mine = find_agent(tmp_path / "other" / "mine.zip")
    assert mine.run is None and mine.env_id is None
    (tmp_path / "other" / "student.zip").rename(tmp_path / "other" / "best.zip")
    (tmp_path / "other" / "mine.zip").unlink()
    assert find_agent(tmp_path / "other" / "best.zip").run is not None  # the student under another name


def written(folder, **settings):
    folder.mkdir(exist_ok=True)
    shutil.copy(find_agent("zoo:dqn/CartPole-v1").checkpoint, folder / "student.zip")
    environment = settings.pop("environment", None)
    text = json.dumps({"settings": {"method": "n_distill", **settings}, "environment": environment})
    (folder / "results.json").write_text(text, encoding="utf-8")
    return folder


def test_arguments_wrappers_and_stacks_are_read(tmp_path):
    folder = written(
        tmp_path / "run",
        env="Acrobot-v1",
        env_kwargs={"render_mode": "rgb_array"},
        environment={"env_wrapper": [{"TimeFeatureWrapper": {"max_steps": 10}}], "frame_stack": 3},
    )
    trained = read_training_of(find_agent(folder))
    assert trained == read_run(run_file(folder / "student.zip"))
    assert (trained.env_id, trained.env_kwargs) == ("Acrobot-v1", {"render_mode": "rgb_array"})
    assert trained.wrappers == (("TimeFeatureWrapper", {"max_steps": 10}),) and trained.frame_stack == 3


def test_atari_has_its_usual_wrapper_where_nothing_else_is_said(tmp_path):
    trained = read_training_of(find_agent(written(tmp_path / "run", env="PongNoFrameskip-v4")))
    assert trained.frame_stack == 4 and trained.wrappers[0][0].endswith("AtariWrapper")


def test_no_module_is_imported_because_a_file_names_it(tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text(f"open({str(tmp_path / 'flag')!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = written(tmp_path / "run", env="evil_module:Evil-v0")
    assert load_teacher(folder, tune=False).env_id is None
    assert main(["record", str(folder), "--out", str(tmp_path / "memory")]) == 2
    assert not (tmp_path / "flag").exists()


def test_a_module_that_was_imported_is_enough(tmp_path):
    gym.register("RunAgain-v0", entry_point="gymnasium.envs.classic_control:CartPoleEnv")
    try:
        assert load_teacher(written(tmp_path / "run", env="mine:RunAgain-v0"), tune=False).env_id == "RunAgain-v0"
    finally:
        del gym.registry["RunAgain-v0"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"settings": 1}', "[" * 100_000, '{"settings": {"method": 1}}', "\xff"]
)
def test_another_results_json_is_no_run(text, tmp_path):
    folder = written(tmp_path / "run", env="CartPole-v1")
    (folder / "results.json").write_bytes(text.encode("latin-1"))
    agent = find_agent(folder)
    assert agent.run is None and read_training_of(agent) is None


@pytest.mark.parametrize(
    "settings", [{"env": 1}, {"env": "CartPole-v1", "env_kwargs": [1]}, {"environment": {"frame_stack": "x"}}]
)
def test_settings_of_other_kinds_end_in_an_error_or_in_nothing(settings, tmp_path):
    try:
        trained = read_training_of(find_agent(written(tmp_path / "run", **settings)))
    except ValueError as error:
        assert "results.json" in str(error)
    else:
        assert trained.env_id is None


def test_a_student_of_wrapped_environments_has_them_again(tmp_path):
    """Its teacher's time feature and its stack of frames."""
    teacher = written(
        tmp_path / "teacher",
        env="CartPole-v1",
        env_kwargs={"sutton_barto_reward": True},
        environment={"env_wrapper": ["TimeFeatureWrapper"], "frame_stack": 2},
    )
    env = read_training_of(find_agent(teacher)).make_vec_env(1)
    PPO("MlpPolicy", env, n_steps=8, batch_size=8, device="cpu").save(teacher / "student.zip")
    assert main(["distill", *SMALL, "--teacher", str(teacher), "--out", str(tmp_path / "out")]) == 0
    assert load_teacher(tmp_path / "out").observation_space.shape == (10,)
    assert main(["play", str(tmp_path / "out"), "--episodes", "1"]) == 0
    trained = read_training_of(find_agent(tmp_path / "out"))
    assert trained.frame_stack == 2 and trained.wrappers == (("TimeFeatureWrapper", {}),)
    assert trained.env_kwargs == {"sutton_barto_reward": True}
