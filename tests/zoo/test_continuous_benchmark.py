"""The table of continuous students: what is kept of runs, and what is counted."""

import numpy as np
import pytest

from sb3_distill.zoo.benchmarks.continuous import RANDOM, TEACHER, Run, interval, main, read, share, summary, write


def test_runs_are_kept_and_only_what_is_missing_is_run(tmp_path, capsys):
    path = tmp_path / "runs.csv"
    assert read(path) == []
    runs = [
        Run("sac/Pendulum-v1", TEACHER, 0, 0, -100.0, -200.0, 0.0),
        Run("sac/Pendulum-v1", RANDOM, 0, 0, -1100.0, -1100.0, 0.0),
        *(Run("sac/Pendulum-v1", "n_distill", seed, 1_024, -130.0, -290.0 - seed, 1.5) for seed in range(2)),
    ]
    write(path, runs)
    assert read(path) == runs
    main(["--teachers", "sac/Pendulum-v1", "--methods", "n_distill", "--seeds", "0", "1", "--out", str(path)])
    assert read(path) == runs
    assert "97.0% ± 0.0%" in capsys.readouterr().out


def test_a_mean_counts_if_it_reaches_the_goal():
    name = "ppo/Hopper-v3"
    runs = [Run(name, TEACHER, 0, 0, 100.0, 100.0, 0.0), Run(name, RANDOM, 0, 0, 0.0, 0.0, 0.0)]
    runs += [Run(name, "on_policy_distill", 0, 8, 95.0, 89.0, 0.0), Run(name, "teacher_distill", 0, 8, 94.0, 90.0, 0.0)]
    last = [list(column.cells)[-1] for column in summary(runs).columns[-2:]]
    assert last == ["1 of 1 at 95%; 0 of 1 at 90%", "0 of 1 at 95%; 1 of 1 at 90%"]
    assert share(-130.0, -100.0, -1100.0) == 0.97


def test_intervals_are_students():
    stats = pytest.importorskip("scipy.stats")
    for n in range(2, 11):
        values = list(np.random.default_rng(n).normal(size=n))
        expected = stats.t.interval(0.95, n - 1, np.mean(values), stats.sem(values))
        mean, half = interval(values)
        assert (mean - half, mean + half) == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert np.isnan(interval([1.0])[1])
