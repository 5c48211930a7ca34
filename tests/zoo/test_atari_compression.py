"""The table of compression: what it says about runs, and that a run of each method leaves all that it needs."""

import csv
import json

import numpy as np
import pytest
import torch as th
from stable_baselines3 import DQN, PPO

pytest.importorskip("ale_py")

from sb3_distill.envs.atari import make_atari_vec_env
from sb3_distill.evaluation import learning_curves
from sb3_distill.evaluation.episodes import Episodes
from sb3_distill.evaluation.scores import score
from sb3_distill.zoo.benchmarks import atari_compression
from sb3_distill.zoo.benchmarks.atari_compression import BestOfCurve, Kind, cells, distil, first_at, main
from sb3_distill.zoo.benchmarks.relative_scores import Reference, measured

GAME = "PongNoFrameskip-v4"
UNIT = Reference(teacher=20.0, error=0.1, random=-20.0, parameters=1_000)


def run(*means, **changes):
    return {
        "means": list(means),
        "steps": [100 * k for k in range(len(means))],
        "times": [1.0 * k for k in range(len(means))],
        "returns": [19.0, 17.0],
        "sticky": [10.0, 6.0],
        "parameters": 250,
        "actions_per_second": 7.0,
    } | changes


def test_a_line_of_the_table():
    """Scores of every seed, relative to the teacher's, without and with sticky actions; where the curve first has 99%."""
    sticky = Reference(teacher=12.0, error=0.2, random=-20.0, parameters=1_000)
    reaching, failing = run(-20.0, 19.6, 0.0), run(-20.0, 19.5, 0.0, returns=[20.0, 20.0])
    assert [first_at(0.99, UNIT, each) for each in (reaching, failing)] == [1, None]
    scores = ["18.0 20.0", "0.950 1.000", "8.0 8.0", "0.875 0.875"]
    assert cells(UNIT, sticky, [reaching, failing]) == ["250", "25.0%", *scores, "7", "100 —", "1 —"]


def test_a_teacher_that_is_no_better_than_random_play_is_refused():
    with pytest.raises(ValueError, match=r"The teacher's mean return is -21, and random play's -20.5: no score"):
        measured(np.array([-21.0, -21.0]), np.array([-20.0, -21.0]), 5)


@pytest.fixture
def short(monkeypatch):
    for name in ("EPISODES", "POINT_EPISODES", "POINTS", "N_ENVS"):
        monkeypatch.setattr(atari_compression, name, 2)
    for name, value in (("MAX_STEPS", 5), ("MAX_EVALUATED_STEPS", 5), ("TIMED_ACTIONS", 3)):
        monkeypatch.setattr(atari_compression, name, value)
    monkeypatch.setattr(atari_compression, "measured", lambda *_: UNIT)  # as if the teacher had learnt anything


def test_students_of_a_game(tmp_path, short, capsys):
    """Every method on a fresh teacher and short games; nothing is run twice."""
    env = make_atari_vec_env(GAME, 1)
    DQN("CnnPolicy", env, buffer_size=1).save(tmp_path / "teacher.zip")
    arguments = ["--teacher", str(tmp_path / "teacher.zip"), "--sizes", "4%", "--steps", "8", "--out", str(tmp_path)]
    main(arguments)
    printed = capsys.readouterr().out
    assert all(
        word in printed for word in ("expected_entropy, 4%", "n_distill, 4%", "on_policy_distill, 4%", "random play")
    )
    with (tmp_path / f"{GAME}.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    assert all(len(row) == 10 for row in rows)  # no two columns of one name
    assert (tmp_path / f"{GAME}.png").stat().st_size > 10_000
    paths = sorted((tmp_path / "runs").glob("*.json"))
    assert len(paths) == 4
    assert len(list((tmp_path / "runs").iterdir())) == 4 + 3
    assert paths[0].name == f"{GAME}-expected_entropy-4-8-0-0.01.json"
    student = json.loads(paths[0].read_text())
    assert len(student["steps"]) == len(student["times"]) == len(student["means"]) and student["times"][-1] > 0
    assert len(student["returns"]) == len(student["sticky"]) == 2
    saved = PPO.load(paths[0].with_suffix(".zip"))
    assert sum(p.numel() for p in saved.policy.action_net.parameters()) == 64 * 6 + 6
    times = [path.stat().st_mtime_ns for path in paths]
    main(arguments)
    assert times == [path.stat().st_mtime_ns for path in paths]


def test_the_network_of_the_best_point_is_kept(monkeypatch):
    """Of two that are as good the later one, as it was then: SB3 goes on training in the same tensors."""
    means, networks = iter([1.0, 5.0, 5.0, 2.0]), []
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, n_epochs=1, seed=0, device="cpu")

    def play(*_):
        networks.append(model.policy.action_net.weight.detach().clone())
        return Episodes(np.full(2, next(means)), 0, 2)

    monkeypatch.setattr(learning_curves, "play_episodes", play)
    curve = BestOfCurve("CartPole-v1", 8, 1)
    model.learn(24, callback=curve)
    assert [score.mean for _, score in curve.points] == [1.0, 5.0, 5.0, 2.0]
    same = [bool((curve.best["action_net.weight"] == network).all()) for network in networks]
    assert same == [False, False, True, False]


def test_a_student_is_the_network_of_its_best_point(tmp_path, short, monkeypatch):
    """What is saved and scored is not the last network."""

    def first(self):
        self.points.append((self.model.num_timesteps, score(np.zeros(2))))
        self.times.append(0.0)
        if not self.best:
            self.best = {name: th.zeros_like(tensor) for name, tensor in self.model.policy.state_dict().items()}

    monkeypatch.setattr(BestOfCurve, "_evaluate", first)
    DQN("CnnPolicy", make_atari_vec_env(GAME, 1), buffer_size=1).save(tmp_path / "teacher.zip")
    kind = Kind(GAME, str(tmp_path / "teacher.zip"), "on_policy_distill", "4%", 8, 0, 0.01)
    distil(kind, tmp_path)
    saved = PPO.load(tmp_path / f"{kind.name}.zip")
    assert not any(tensor.any() for tensor in saved.policy.state_dict().values())


def test_a_teacher_without_a_q_network_has_no_temperature(tmp_path, short, capsys):
    PPO("CnnPolicy", make_atari_vec_env(GAME, 1)).save(tmp_path / "teacher.zip")
    arguments = ["--methods", "on_policy_distill", "--sizes", "4%", "--steps", "8", "--out", str(tmp_path)]
    main(["--teacher", str(tmp_path / "teacher.zip"), *arguments])
    assert "on_policy_distill, 4%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "Pog"], "Unknown Atari game 'Pog': did you mean 'Pong'"),
        (["--teacher", "no/such.zip"], "No teacher at 'no/such.zip'"),
        (
            ["--teacher", "zoo:dqn/CartPole-v1"],
            "The teacher dqn/CartPole-v1 does not fit the environment: its observation space is",
        ),
        (["--temperature", "0"], "--temperature must be greater than 0, not 0.0"),
        (["--threads", "0"], "--seeds, --steps and --threads must be at least 1, not 1, 480000, 0"),
    ],
)
def test_what_does_not_exist_is_said_before_any_work(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([*arguments, "--out", str(tmp_path / "out")])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_bad_numbers(capsys):
    for arguments in (["--seeds", "0"], ["--steps", "0"], ["--threads", "-1"]):
        with pytest.raises(SystemExit):
            main(arguments)
        assert "must be at least 1" in capsys.readouterr().err
