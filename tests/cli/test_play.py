"""``sb3-distill play``: returns of whole episodes and a film, and nothing in an agent's files is run."""

import base64
import json
import pickle
import shutil
import zipfile
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

from sb3_distill.agents.find import BUNDLED
from sb3_distill.cli import main

AGENT = BUNDLED / "dqn" / "CartPole-v1_1" / "CartPole-v1.zip"
ZOO = "zoo:dqn/CartPole-v1"


def played(capsys, *arguments):
    assert main(["play", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_return_is_the_one_of_sb3(tmp_path, capsys):
    model = A2C("MlpPolicy", "CartPole-v1", seed=0)
    model.save(tmp_path / "agent.zip")
    about = played(capsys, tmp_path / "agent.zip", "--env", "CartPole-v1", "--episodes", 4, "--seed", 7)
    expected = []
    for k in range(4):
        env = make_vec_env("CartPole-v1", 1)
        env.seed(7 + k)
        expected.append(evaluate_policy(model, env, 1)[0])
    assert about["returns"] == about["steps"] == expected  # CartPole pays 1 a step
    assert about["mean_return"] == np.mean(expected)
    assert about["standard_error"] == pytest.approx(np.std(expected, ddof=1) / 2)


def test_what_is_printed(capsys):
    assert main(["play", ZOO, "--episodes", "2"]) == 0
    out = capsys.readouterr().out
    assert "dqn/CartPole-v1 in CartPole-v1, its most probable actions" in out
    assert "return 500.0 ± 0.0, mean ± standard error of 2 episodes, 500 steps each" in out
    assert main(["play", ZOO, "--episodes", "1", "--max-steps", "5"]) == 0
    captured = capsys.readouterr()
    assert "return 5.0 in one episode" in captured.out and "1 of 1 episodes took all of --max-steps 5" in captured.err


def test_actions_are_drawn_if_that_is_wanted(tmp_path, capsys):
    PPO("MlpPolicy", "CartPole-v1", seed=0).save(tmp_path / "agent.zip")
    what = (tmp_path / "agent.zip", "--env", "CartPole-v1", "--episodes", 5)
    drawn = played(capsys, *what, "--stochastic")
    assert drawn["returns"] != played(capsys, *what)["returns"]
    assert drawn["returns"] == played(capsys, *what, "--stochastic")["returns"]


def test_statistics_of_a_zoo_folder_are_used(tmp_path, capsys):
    """An agent that was trained on normalised observations plays on normalised ones."""
    folder = tmp_path / "ppo" / "CartPole-v1_1"
    (folder / "CartPole-v1").mkdir(parents=True)
    env = VecNormalize(make_vec_env("CartPole-v1", 1, seed=0))
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0).learn(64)
    model.save(folder / "CartPole-v1.zip")
    env.save(folder / "CartPole-v1" / "vecnormalize.pkl")
    (folder / "CartPole-v1" / "config.yml").write_text("normalize: true\n")
    env.training, env.norm_reward = False, False
    env.seed(3)
    expected = evaluate_policy(model, env, 1)[0]
    assert played(capsys, folder, "--episodes", 1, "--seed", 3)["returns"] == [expected]


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_the_first_episode_is_filmed(suffix, tmp_path, capsys):
    imageio = pytest.importorskip("imageio.v2")
    pytest.importorskip("imageio_ffmpeg")
    pytest.importorskip("pygame")
    film = tmp_path / f"film{suffix}"
    assert played(capsys, ZOO, "--episodes", 2, "--max-steps", 6, "--video", film)["video"] == str(film)
    frames = imageio.mimread(film)
    assert len(frames) in (5, 6) and frames[0].shape[:2] == (400, 600)  # a GIF has no two alike
    assert (np.asarray(frames[0]) != np.asarray(frames[-1])).any()
    assert [path.name for path in tmp_path.iterdir()] == [film.name]


class Unseen(gym.Env):
    """Draws nothing."""

    metadata: ClassVar[dict] = {}

    observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, seed=None, options=None):
        return np.zeros(4, np.float32), {}

    def step(self, action):
        return np.zeros(4, np.float32), 0.5, True, False, {}

    def render(self):
        return None


@pytest.fixture
def unseen(monkeypatch):
    spec = gym.envs.registration.EnvSpec("Unseen-v0", entry_point=Unseen)
    monkeypatch.setitem(gym.registry, "Unseen-v0", spec)
    return ["--env", "Unseen-v0", "--episodes", "2"]


@pytest.mark.filterwarnings("ignore")
def test_what_draws_nothing_is_played_and_cannot_be_filmed(unseen, tmp_path, monkeypatch, capsys):
    assert played(capsys, AGENT, *unseen)["returns"] == [0.5, 0.5]
    pytest.importorskip("imageio_ffmpeg")
    for modes in ([], ["rgb_array"]):  # the truth, and a lie
        monkeypatch.setitem(Unseen.metadata, "render_modes", modes)
        assert main(["play", str(AGENT), *unseen, "--video", str(tmp_path / "film.mp4")]) == 2
        err = capsys.readouterr().err
        assert "cannot be filmed" in err and "draws" in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([ZOO, "--render", "human"], ["--render human needs a screen", "--video FILE"]),
        ([ZOO, "--render", "humane"], ["Unknown human 'humane'", "'human'"]),
        ([ZOO, "--video", "film.txt"], ["no known suffix", ".mp4"]),
        ([ZOO, "--video", "no/such/film.mp4"], ["there is no folder no/such"]),
        ([ZOO, "--video", "x.mp4", "--render", "human"], ["leave one of them out"]),
        ([ZOO, "--episodes", "0"], ["--episodes", "at least 1"]),
        ([ZOO, "--device", "abacus"], ["no device 'abacus'"]),
        ([ZOO, "--env-kwargs", "nonsense=1"], ["cannot be made here", "nonsense"]),
        ([ZOO, "--env", "Acrobot-v1"], ["does not fit the environment"]),
        ([str(AGENT)[:-4] + "x.zip"], ["No teacher at"]),
        (["zoo:dqn/PongNoFrameskip-v4"], ["RL_TRAINED_AGENTS", "git clone", "'hub:sb3/dqn-PongNoFrameskip-v4'"]),
    ],
    ids=lambda value: " ".join(value[1:]),
)
def test_what_cannot_be_played_is_said_in_a_line(arguments, parts, tmp_path, monkeypatch, capsys):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "RL_TRAINED_AGENTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["play", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and all(part in err for part in parts), err
    assert list(tmp_path.iterdir()) == []


# --- downloads of others ----------------------------------------------------------------------------------------------


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def hostile_zip(path, flag):
    """Every field of an honest agent's data that SB3 would unpickle touches a file, and one more."""
    serialized = base64.b64encode(pickle.dumps(Canary(flag))).decode()
    with zipfile.ZipFile(AGENT) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "data":
                data = json.loads(content)
                kept = ("policy_class", "observation_space", "action_space")
                for field, value in data.items():
                    if isinstance(value, dict) and ":serialized:" in value and field not in kept:
                        value[":serialized:"] = serialized
                content = json.dumps({**data, "x": {":type:": "x", ":serialized:": serialized}}).encode()
            new.writestr(name, content)


@pytest.mark.parametrize(
    "config",
    [
        'policy_kwargs: "{touch}"\n',
        'env_wrapper: "{touch}"\n',
        'env_kwargs: "dict(a={touch})"\n',
        'normalize: "{touch}"\n',
        'frame_stack: "{touch}"\n',
        'normalize: "dict(norm_obs={touch})"\n',
        "x: !!python/object/apply:builtins.open ['{flag}', 'w']\n",
        "env_wrapper: [flag_module.Wrapper]\n",
        "x: !!python/name:flag_module.y\n",
    ],
)
def test_nothing_in_a_downloaded_folder_is_run(config, tmp_path, monkeypatch, capsys):
    """It plays, or is refused in a line."""
    flag = tmp_path / "flag"
    folder = tmp_path / "dqn" / "CartPole-v1_1"
    (folder / "CartPole-v1").mkdir(parents=True)
    hostile_zip(folder / "CartPole-v1.zip", flag)
    text = config.replace("{touch}", f"open('{flag}', 'w')").replace("{flag}", str(flag))
    (folder / "CartPole-v1" / "config.yml").write_text(text)
    (folder / "CartPole-v1" / "args.yml").write_text("env: flag_module:CartPole-v1\n")
    for place in (folder, tmp_path):
        (place / "flag_module.py").write_text(f"open({str(flag)!r}, 'w')")
    monkeypatch.chdir(folder)
    assert main(["play", str(folder), "--episodes", "1", "--env", "CartPole-v1"]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err
    assert not flag.exists()


def test_a_hostile_zip_plays_as_what_it_is(tmp_path, capsys):
    hostile_zip(tmp_path / "agent.zip", tmp_path / "flag")
    about = played(capsys, tmp_path / "agent.zip", "--env", "CartPole-v1", "--episodes", 1)
    assert about["returns"] == [500.0] and not (tmp_path / "flag").exists()


def test_a_run_that_names_a_module_says_how_to_play_it(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flag_module.py").write_text("open('flag', 'w')")
    shutil.copy(AGENT, tmp_path / "student.zip")
    settings = {"settings": {"method": "n_distill", "env": "flag_module:Mine-v0"}}
    (tmp_path / "results.json").write_text(json.dumps(settings))
    assert main(["play", str(tmp_path)]) == 2
    assert "add --env flag_module:Mine-v0 if you trust that module" in capsys.readouterr().err
    assert not (tmp_path / "flag").exists()


# --- films that cannot be written, and names that there are not -------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webm"])
def test_a_full_disk_is_found_out(suffix, tmp_path, monkeypatch, capsys):
    """Whatever the encoder says: ffmpeg ends as if all were well."""
    pytest.importorskip("imageio_ffmpeg")
    pytest.importorskip("pygame")
    from imageio.plugins.ffmpeg import FfmpegFormat

    film = tmp_path / f"film{suffix}"
    film.write_text("the one before")
    if suffix == ".gif":

        def full(path, data):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("pathlib.Path.write_bytes", full)
    else:
        close = FfmpegFormat.Writer._close

        def cut(writer):
            close(writer)
            with open(writer._filename, "rb+") as file:
                file.truncate(500)

        monkeypatch.setattr(FfmpegFormat.Writer, "_close", cut)
    assert main(["play", ZOO, "--episodes", "1", "--max-steps", "6", "--video", str(film), "--quiet"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" not in line]
    assert len(lines) == 1 and f"--video {film} cannot be written" in lines[0] and "Is the disk full?" in lines[0]
    assert film.read_text() == "the one before" and [path.name for path in tmp_path.iterdir()] == [film.name]


def test_a_film_that_cannot_be_written_is_said_before_anything_is_played(tmp_path, monkeypatch, capsys):
    pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setattr("sb3_distill.cli.play.play", None)
    assert main(["play", ZOO, "--video", "/proc/film.gif"]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "--video /proc/film.gif cannot be written" in err
    (tmp_path / "folder.gif").mkdir()
    assert main(["play", ZOO, "--video", str(tmp_path / "folder.gif")]) == 2
    assert "is a folder" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["play"], ["record", "--out", "m"], ["distill", "--teacher"]])
@pytest.mark.parametrize("name", ["dqn/cartpole-v1", "DQN/CartPole-v1", "ppo/CartPole-v1"])
def test_a_name_of_the_zoo_that_there_is_not_names_the_nearest_and_the_missing_folder(
    command, name, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RL_TRAINED_AGENTS", "/nope")
    assert main([command[0], *command[1:][-1:], name] if command[0] == "distill" else [*command[:1], name]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "did you mean 'dqn/CartPole-v1'" in err and "The folder /nope" in err


def test_a_tilde_is_the_home(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(AGENT, tmp_path / "mine.zip")
    about = played(capsys, "~/mine.zip", "--env", "CartPole-v1", "--episodes", 1, "--max-steps", 3)
    assert about["returns"] == [3.0]
