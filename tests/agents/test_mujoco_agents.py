"""Agents of MuJoCo's former environments play, teach and are looked at in those of today."""

import json
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv

from envs_for_tests import CountdownEnv
from sb3_distill import OnPolicyDistill, load_teacher
from sb3_distill.cli import main
from sb3_distill.common.mujoco import FORMER
from sb3_distill.evaluation.episodes import episode_returns

EIGHT = [f"{algo}/{name}-v3" for algo in ("ppo", "sac") for name in ("HalfCheetah", "Hopper", "Swimmer", "Walker2d")]


@pytest.fixture
def former_agent(tmp_path, monkeypatch):
    """An agent in the RL Zoo's layout, whose network has the former spaces of an environment."""

    def make(name, size, settings="normalize: false\n"):
        actions = gym.make(f"{name}-v5").action_space
        env = CountdownEnv(spaces.Box(-np.inf, np.inf, (size,), np.float64), actions)
        folder = tmp_path / "agents" / "ppo" / f"{name}-v3_1"
        (folder / f"{name}-v3").mkdir(parents=True)
        model = PPO("MlpPolicy", env, policy_kwargs={"net_arch": [4]}, device="cpu", seed=0)
        model.save(folder / f"{name}-v3.zip")
        (folder / f"{name}-v3" / "config.yml").write_text(settings)
        monkeypatch.setenv("RL_TRAINED_AGENTS", str(tmp_path / "agents"))
        return folder, model

    return make


@pytest.mark.parametrize(("name", "size"), [("Ant", 111), ("Humanoid", 376)])
def test_a_teacher_of_a_former_environment_reads_the_present_one(name, size, former_agent):
    """Where its student sees what -v5 shows, and in what was around the former one."""
    folder, model = former_agent(name, size)
    with pytest.warns(UserWarning, match=f"{name}-v3 is now {name}-v5"):
        teacher = load_teacher(folder)
    env = teacher.training_env(2)
    obs = env.reset()
    np.testing.assert_allclose(teacher.act(obs), model.predict(obs, deterministic=True)[0], rtol=1e-5, atol=1e-6)
    student = OnPolicyDistill("MlpPolicy", f"{name}-v5", teacher=teacher, n_steps=8, batch_size=8, n_epochs=1)
    student.learn(8)
    assert student.observation_space.shape == (FORMER[name].size,)
    assert student._binding.view.observation_space.shape == (size,)


def test_what_training_had_around_it_comes_after(former_agent):
    """The zoo's agents of some tasks also see how much time is left."""
    settings = "env_wrapper: sb3_contrib.common.wrappers.TimeFeatureWrapper\n"
    with pytest.warns(UserWarning, match="Reacher-v3 is now"):
        teacher = load_teacher(former_agent("Reacher", 12, settings)[0])
    assert teacher.training_env(1).reset().shape == (1, 12)
    view = teacher.vec_wrapper(DummyVecEnv([lambda: gym.make("Reacher-v5")]))
    assert view.reset()[0, -2:].tolist() == [0.0, 1.0]


def test_a_model_without_files_is_told_its_environment():
    env = CountdownEnv(spaces.Box(-np.inf, np.inf, (376,), np.float64), gym.make("Humanoid-v5").action_space)
    model = PPO("MlpPolicy", env, policy_kwargs={"net_arch": [4]}, device="cpu")
    with pytest.warns(UserWarning, match="Humanoid-v3 is now Humanoid-v5"):
        teacher = load_teacher(model, env_id="Humanoid-v3")
    assert teacher.training_env(1).reset().shape == (1, 376)


@pytest.mark.filterwarnings("ignore:Environment .* is now")
def test_the_command_line_needs_no_env(former_agent, tmp_path, capsys):
    """distill, then play its student; play, inspect and teachers of the agent itself."""
    former_agent("Reacher", 11)
    name = "zoo:ppo/Reacher-v3"
    out = tmp_path / "run"
    short = ["--steps", "64", "--n-envs", "2", "--eval-episodes", "2", "--net-arch", "4", "--out", str(out), "--quiet"]
    assert main(["distill", "--teacher", name, *short]) == 0
    assert main(["play", str(out), "--episodes", "1"]) == 0
    capsys.readouterr()
    assert main(["play", name, "--episodes", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["env"] == "Reacher-v5"
    assert main(["inspect", name]) == 0
    assert main(["teachers"]) == 0
    assert "Reacher-v3" in capsys.readouterr().out


def test_an_id_that_cannot_be_made_is_an_error_of_one_line(capsys):
    assert main(["distill", "--env", "HalfCheetah-v3"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "cannot make HalfCheetah-v3 any more: take 'HalfCheetah-v5'" in line


@pytest.mark.mujoco_zoo
@pytest.mark.parametrize("name", EIGHT)
def test_the_zoos_agents_play(name, mujoco_zoo):
    """In their own -v5, with the network of SB3's own load: published as good, and so they are at the start of an episode."""
    with pytest.warns(UserWarning, match="-v3 is now .*-v5: .* It has the same observations"):
        teacher = load_teacher(f"zoo:{name}")
    env = teacher.training_env(1)
    env.seed(0)
    obs = env.reset()
    algo = SAC if name.startswith("sac") else PPO
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what else is in files that old
        objects = OLD | {
            "observation_space": env.observation_space,
            "action_space": env.action_space,
        }  # they are of gym
        path = mujoco_zoo / f"{name}_1" / f"{name.partition('/')[2]}.zip"
        theirs = algo.load(path, custom_objects=objects, device="cpu")
    seen = obs if teacher.normalize_obs is None else teacher.normalize_obs(obs)
    np.testing.assert_allclose(teacher.act(obs), theirs.predict(seen, deterministic=True)[0], rtol=1e-5, atol=1e-6)
    for _ in range(20):
        obs, _, done, _ = env.step(teacher.act(obs))
        assert not done.any()


OLD = {"learning_rate": 0.0, "lr_schedule": lambda _: 0.0, "clip_range": lambda _: 0.0}


@pytest.mark.mujoco_zoo
@pytest.mark.filterwarnings("ignore:Environment .* is now")
def test_a_half_cheetah_runs(mujoco_zoo):
    """Published at 9,535 an episode of 1,000 steps: on another body or with other observations it would have some hundreds."""
    teacher = load_teacher("zoo:sac/HalfCheetah-v5")  # filed as -v3
    (returned,) = episode_returns(teacher.act, teacher.training_env, 1, max_steps=250)
    assert returned > 2_000
