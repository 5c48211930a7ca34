"""The arithmetic behind the tables of policy distillation, and that every command runs end to end at a small scale."""

import csv
import math

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import DQN

from sb3_distill.evaluation.line_labels import apart
from sb3_distill.students.features import min_atar_student
from sb3_distill.teachers import teacher as teachers
from sb3_distill.zoo.benchmarks import nine_tasks
from sb3_distill.zoo.benchmarks import offline as offline_benchmark
from sb3_distill.zoo.benchmarks.nine_tasks import TASKS, hidden_units, student_arch
from sb3_distill.zoo.benchmarks.offline import main
from sb3_distill.zoo.benchmarks.relative_scores import Reference, Relative, geometric_mean, mean_of, relative


@pytest.fixture
def small(monkeypatch):
    """Few episodes, cut early, few updates, and the processes' work in this one."""
    for name, value in (("TEACHER_EPISODES", 4), ("EPISODES", 3), ("MAX_STEPS", 150), ("PLAY_ENVS", 4)):
        monkeypatch.setattr(nine_tasks, name, value)
    monkeypatch.setattr(offline_benchmark, "EPISODES", 3)
    monkeypatch.setattr(offline_benchmark, "MAX_STEPS", 150)
    monkeypatch.setattr(offline_benchmark, "POINT_EPISODES", 2)
    monkeypatch.setattr(offline_benchmark, "PLAY_ENVS", 4)
    monkeypatch.setitem(offline_benchmark.PLAY, "gradient_steps", 2)
    monkeypatch.setattr(offline_benchmark, "N_EPOCHS", 1)
    monkeypatch.setattr(offline_benchmark, "ProcessPoolExecutor", Here)


class Here:
    """A pool of processes that is this process."""

    def __init__(self, *args, **kwargs):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *args):
        pass

    def submit(self, function, *args):
        from concurrent.futures import Future

        future = Future()
        future.set_result(function(*args))
        return future


def test_scores_are_relative_to_random_play():
    found = Reference(teacher=-80.0, error=2.0, random=-480.0, parameters=1)
    assert found.relative(-80) == 1 and found.relative(-480) == 0 and found.relative(-280) == 0.5
    runs = [[-80.0, -100.0], [-60.0, -80.0]]  # means −90 and −70: 0.975 and 1.025
    score = relative(found, runs)
    assert score.mean == pytest.approx(1.0)
    assert score.error == pytest.approx(math.hypot(np.std([0.975, 1.025], ddof=1) / math.sqrt(2), 2 / 400))
    (one,) = [relative(found, [[-80.0, -100.0]])]
    assert one.error == pytest.approx(math.hypot(10 / 400, 0.975 * 2 / 400))


def test_the_error_of_a_geometric_mean_is_that_of_samples():
    """Against the scatter of geometric means of samples."""
    scores = [Relative(1.0, 0.02), Relative(0.8, 0.04), Relative(1.2, 0.01)]
    rng = np.random.default_rng(0)
    sampled = [geometric_mean([rng.normal(*score) for score in scores]) for _ in range(4_000)]
    assert mean_of(scores).mean == pytest.approx((1.0 * 0.8 * 1.2) ** (1 / 3))
    assert mean_of(scores).error == pytest.approx(np.std(sampled), rel=0.05)
    assert geometric_mean([1.0, -3.0]) == pytest.approx(0.1)  # no better than random play counts as 0.01


def test_small_students_of_min_atar_learn_longer():
    assert [TASKS["Asterix"].steps_for(share) for share in ("25%", "7%", "4%")] == [320_000, 640_000, 640_000]
    assert TASKS["CartPole"].steps_for("4%") == 40_000


@pytest.mark.parametrize("share", nine_tasks.SHARES)
def test_students_have_at_most_their_share(share):
    """Of every MinAtar game and of two hidden layers of 256 units; and one unit more would be too many."""
    percent = int(share.rstrip("%"))
    for name, task in TASKS.items():
        if name == "LunarLander":  # needs Box2D, and is a network like the others
            continue
        env = gym.make(task.env_id)
        kwargs = {"policy": "MlpPolicy", "env": env, "buffer_size": 1, "device": "cpu"}
        teacher = DQN(
            policy_kwargs=min_atar_student("100%") if task.is_min_atar else {"net_arch": [256, 256]}, **kwargs
        )
        n_teacher = teachers.actor_size(teacher.policy)
        student = DQN(policy_kwargs=student_arch(task, share, n_teacher), **kwargs)
        assert 0.8 * percent / 100 < teachers.actor_size(student.policy) / n_teacher <= percent / 100
    for n in (700, 17_000):
        h = hidden_units(n, 4, 2)
        sizes = [k * k + (4 + 2 + 2) * k + 2 for k in (h, h + 1)]
        assert sizes[0] <= n < sizes[1]


@pytest.mark.zoo
def test_the_tables_of_the_zoos_agents(small, tmp_path, capsys):
    """Losses, sizes and control on a tiny scale: tables, files, and that nothing is run twice."""
    arguments = [
        "--tasks",
        "CartPole",
        "Acrobot",
        "--seeds",
        "2",
        "--scale",
        "0.004",
        "--jobs",
        "1",
        "--out",
        str(tmp_path),
    ]
    for what, columns in (("losses", "KL NLL MSE"), ("sizes", "25% 7% 4%"), ("control", "offline KL")):
        main([what, *arguments])
        printed = capsys.readouterr().out
        assert all(word in printed for word in (*columns.split(), "CartPole", "Acrobot"))
        with (tmp_path / f"{what}.csv").open() as file:
            assert [row["task"] for row in csv.DictReader(file)] == ["CartPole", "Acrobot"]
        assert (tmp_path / f"{what}.png").stat().st_size > 10_000
    assert (tmp_path / "score_against_size.png").is_file()
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    assert len(times) == 2 + 12 + 8 + 8  # teachers; losses; sizes, of which 25% is done; control
    main(["sizes", *arguments])
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}


def test_labels_do_not_cover_each_other():
    """Nor do they move where there is room."""
    assert apart([0.1, 0.5, 0.9], 0.1).tolist() == pytest.approx([0.1, 0.5, 0.9])
    placed = apart([1.0, 1.0, 1.01, 1.5], 0.1)
    assert np.diff(placed).min() >= 0.1 - 1e-9 and placed.mean() == pytest.approx(np.mean([1.0, 1.0, 1.01, 1.5]))


def test_a_teacher_that_is_not_here_is_said_before_any_work(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("RL_TRAINED_AGENTS", "")
    with pytest.raises(SystemExit):
        main(["losses", "--tasks", "Breakout", "Acrobot", "--out", str(tmp_path / "out")])
    assert "has the RL Zoo's), or take 'hub:sb3/dqn-Acrobot-v1'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_bad_numbers(capsys):
    for arguments in (["--seeds", "0"], ["--jobs", "0"], ["--scale", "0"], ["--scale", "2"]):
        with pytest.raises(SystemExit):
            main(["losses", *arguments])
        assert "must be at least 1" in capsys.readouterr().err
