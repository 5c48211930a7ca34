"""What ``distill`` tells in the end, and where its files go."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from sb3_distill.cli import main
from sb3_distill.cli.teacher_names import typed_teacher
from sb3_distill.common.flags import as_flags
from sb3_distill.experiment import outcome, run_folder
from sb3_distill.experiment import run as experiment
from sb3_distill.experiment.advice import advice, still_rising
from sb3_distill.experiment.comparison import Likeness, Share

SMALL = [
    "distill",
    "--n-envs",
    "2",
    "--eval-episodes",
    "4",
    "--temperature",
    "0.01",
    "--net-arch",
    "8",
    "--steps",
    "128",
]


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(experiment, "CURVE_EPISODES", 2)
    monkeypatch.setattr(outcome, "COMPARED_STATES", 100)
    monkeypatch.chdir(tmp_path)


# --- the end of a run -------------------------------------------------------------------------------------------------


def test_the_end_says_how_far_the_student_came(tmp_path, capsys):
    assert main([*SMALL, "--out", "out"]) == 0
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    compared, players = results["comparison"], results["players"]
    teacher, student, random = (np.mean(players[name]["returns"]) for name in ("teacher", "student", "random play"))
    assert compared["share_of_teacher"] == pytest.approx((student - random) / (teacher - random))
    assert compared["n_states"] == 100 and 0 <= compared["agreement"] <= 1 and compared["kl"] > 0
    assert compared["share_of_teacher"] < 0.95 and compared["advice"].startswith("try --")
    assert f"{compared['agreement']:.1%}" in printed and f"Below 95%: {compared['advice']}" in printed


def test_a_comparison_that_fails_does_not_cost_the_run(tmp_path, monkeypatch, capsys):
    def broken(*_):
        raise AttributeError("no such thing")

    monkeypatch.setattr(outcome, "likeness", broken)
    assert main([*SMALL, "--out", "out"]) == 0
    printed = capsys.readouterr()
    assert "could not be measured: AttributeError: no such thing" in printed.err
    assert "states of the student's play" not in printed.out
    compared = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))["comparison"]
    assert compared["agreement"] is None and compared["share_of_teacher"] is not None


def test_json_is_all_on_stdout(tmp_path, capsys):
    assert main([*SMALL, "--json", "--verbose", "--out", "out"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert "distill/" in printed.err  # SB3's log


def test_quiet_says_nothing(capsys):
    assert main([*SMALL, "--quiet", "--out", "out"]) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")


BEHIND = Share(0.5, 0.01)
ALIKE = Likeness(100, 0.99, None, 0.01)
UNLIKE = Likeness(100, 0.6, None, 0.5)
RUN = {"method": "n_distill", "steps": 1_000, "net_arch": [32, 32], "size": None}
RISING, FLAT = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [0.0, 7.0, 7.0, 7.0, 7.0, 7.0, 7.0, 7.0]


@pytest.mark.parametrize(
    ("share", "alike", "changes", "temperature", "curve", "flags"),
    [
        (Share(0.96, 0.1), UNLIKE, {}, 1.0, FLAT, None),
        (None, UNLIKE, {}, 1.0, FLAT, None),
        (BEHIND, UNLIKE, {}, 1.0, RISING, ["--steps 4000"]),
        (BEHIND, UNLIKE, {}, 1.0, FLAT, ["--net-arch 64,64", "--steps 4000"]),
        (BEHIND, UNLIKE, {"net_arch": []}, 1.0, FLAT, ["--net-arch 64"]),
        (BEHIND, UNLIKE, {"size": "4%"}, None, FLAT, ["--size 7%"]),
        (BEHIND, ALIKE, {}, 1.0, RISING, ["--temperature 0.32"]),
        (BEHIND, ALIKE, {}, None, RISING, ["--steps 4000"]),
        (BEHIND, UNLIKE, {"method": "teacher_distill"}, 1.0, FLAT, ["--method on-policy-distill"]),
        (BEHIND, UNLIKE, {"method": "policy_distillation"}, None, FLAT, ["--method on-policy-distill"]),
        (BEHIND, UNLIKE, {"method": "teacher_v_reward"}, 1.0, FLAT, ["--steps 10000"]),
        (BEHIND, Likeness(100, None, 0.3, 2.0), {}, None, RISING, ["--steps 4000"]),
    ],
)
def test_advice_goes_by_what_was_measured(share, alike, changes, temperature, curve, flags):
    said = advice(share, alike, RUN | changes, temperature, curve)
    if flags is None:
        assert said is None
    else:
        assert all(flag in said for flag in flags)


def test_a_curve_that_is_flat_does_not_rise():
    assert still_rising(RISING) and still_rising([1.0]) and not still_rising(FLAT)


def test_an_environment_without_a_time_limit_takes_no_time(tmp_path, monkeypatch, capsys):
    """CliffWalking ends at the goal alone, which a student that has learnt nothing does not find."""
    import gymnasium as gym
    from stable_baselines3 import DQN

    env_id = max(name for name in gym.registry if name.startswith("CliffWalking-"))
    DQN("MlpPolicy", env_id, buffer_size=1, device="cpu").save("agent.zip")
    monkeypatch.setattr(experiment, "CURVE_STEPS", 2_000)
    monkeypatch.setattr(outcome, "MAX_EPISODE_STEPS", 50)
    assert main([*SMALL, "--teacher", "agent.zip", "--env", env_id, "--out", "out"]) == 0
    assert "Cut are episodes that had not ended after 50 steps" in capsys.readouterr().out
    players = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))["players"]
    assert players["teacher"]["episodes_cut"] == 4
    assert outcome.episode_limit("CartPole-v1") == 500


# --- what is typed ----------------------------------------------------------------------------------------------------


def test_settings_reach_the_student(tmp_path):
    flags = ["--learning-rate", "1e-3", "--gamma", "0.5", "--env-kwargs", "sutton_barto_reward=True", "--device", "cpu"]
    assert (
        main([*SMALL, *flags, "--tensorboard-log", "tb", "--net-arch", "4,4", "--steps", "0.1k", "--out", "out"]) == 0
    )
    settings = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))["settings"]
    expected = {"learning_rate": 1e-3, "gamma": 0.5, "env_kwargs": {"sutton_barto_reward": True}, "net_arch": [4, 4]}
    assert settings | expected | {"steps": 100, "device": "cpu"} == settings
    assert list((tmp_path / "tb").glob("out_1/events*"))
    players = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))["players"]
    assert players["random play"]["mean_return"] == -1.0  # in the reward of that argument


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--device", "nonsense"], "The device 'nonsense' cannot be used here"),
        (["--method", "policy-distillation", "--gamma", "0.9", "--temperature", "0.1"], "has no --gamma"),
        (["--quiet", "--verbose"], "not allowed with"),
        (["--teacher", "dqn/CartPol-v1"], "did you mean 'dqn/CartPole-v1'"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, part, capsys):
    assert main([*SMALL, *arguments]) == 2
    assert part in capsys.readouterr().err.splitlines()[-1]


def test_a_teacher_of_the_zoo_needs_no_prefix(tmp_path):
    with pytest.warns(UserWarning, match="The teacher is zoo:dqn/CartPole-v1: there is no path"):
        assert typed_teacher("dqn/CartPole-v1") == "zoo:dqn/CartPole-v1"
    assert typed_teacher("logs/agent.zip") == "logs/agent.zip"
    (tmp_path / "dqn").mkdir()
    (tmp_path / "dqn" / "CartPole-v1.zip").touch()
    with pytest.warns(UserWarning, match="The teacher is the path dqn/CartPole-v1"):
        assert typed_teacher("dqn/CartPole-v1") == "dqn/CartPole-v1"


@pytest.mark.parametrize(
    ("message", "flags"),
    [
        (
            "give teacher_obs=… to it",
            "give teacher_obs=… (of the constructor in Python; there is no flag for it) to it",
        ),
        (
            "env_reward_coef=0.5 and reward_coef=0, baseline='student'",
            "--env-reward-coef 0.5 and --reward-coef 0, --baseline student",
        ),
        ("student='dqn' needs loss='kl' or 'nll'.", "--engine dqn needs --loss kl or nll."),
        ("lower learning_rate or loss_coef.", "lower --learning-rate or --loss-coef."),
        ("epsilon must lie between 0 and 1", "--epsilon must lie between 0 and 1"),
        ("--loss-coef is no word of loss_coefficients", "--loss-coef is no word of loss_coefficients"),
    ],
)
def test_messages_speak_of_flags(message, flags):
    assert as_flags(message) == flags


# --- where files go ---------------------------------------------------------------------------------------------------


def test_the_default_folder_tells_runs_apart_by_what_changes_the_student(tmp_path):
    for arguments in (
        [],
        ["--form", "paper"],
        ["--net-arch", "4"],
        ["--steps", "64"],
        ["--eval-episodes", "5", "--overwrite"],
    ):
        assert main([*SMALL, *arguments]) == 0
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    start = "n-distill-ppo-CartPole-v1-0"
    also = "n-envs-2_temperature-0.01"
    assert names == sorted(
        [start, f"{start}_form-paper", f"{start}_net-arch-4_steps-128_{also}", f"{start}_net-arch-8_steps-64_{also}"]
    )


def test_long_names_are_cut_and_stay_apart():
    names = {str(run_folder.default_folder("x", {"teacher": f"{'a' * 300}{k}"}, {}, {})) for k in range(2)}
    assert len(names) == 2 and all(len(name) < 130 for name in names)


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
@pytest.mark.parametrize("seconds", [0.3, 1.5])
def test_a_signal_while_modules_are_imported_ends_in_one_line(number, code, word, seconds, tmp_path):
    command = [sys.executable, "-m", "sb3_distill.cli", *SMALL, "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=60)
    if process.returncode == -number or "<frozen runpy>" in err:
        pytest.skip("Python itself had not begun with the program")
    assert (process.returncode, out) == (code, "")
    assert err.splitlines()[-1].startswith(f"sb3-distill: {word}") and "Traceback" not in err
