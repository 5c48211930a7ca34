"""Runs of ``distill`` that signals end at random moments; ``python -m tests.tools.run_kills`` has fifty of them."""

import pytest

from tools.run_kills import Killer, Part, parts_of, trained_again


def check(folder, n_runs, n_steps):
    killer = Killer(folder, n_steps, seed=0)
    results, n = [], 0
    while len(results) < n_runs:
        result = killer.run(f"run_{n}")
        n += 1
        results += [result] if result.signals else []
    codes = {"SIGINT": 130, "SIGTERM": 143, "SIGKILL": -9}
    for result in results:
        assert result.whole and result.n_broken == 0 and result.n_lost == 0
        # A signal before the command has begun, or after it has ended, finds no handler of ours.
        assert all(code in (codes[name], 1, -15) for name, code in zip(result.signals, result.exits, strict=True))


def test_killed_runs_lose_nothing_and_end(tmp_path):
    check(tmp_path, 2, 512)


@pytest.mark.slow
def test_fifty_of_them(tmp_path):
    check(tmp_path, 50, 4_096)


def test_what_is_trained_again_is_counted(tmp_path):
    (tmp_path / "trace").write_text(
        "part 0\nreached 0\nsaved 0\nreached 64\nreached 128\npart 0\nreached 0\nreached 64\nsaved 128\npart 128\n"
    )
    parts = parts_of(tmp_path / "trace")
    assert parts == [Part(0, 128, 0), Part(0, 128, 128), Part(128, 128, 128)]
    assert trained_again(parts, {0: "SIGKILL", 1: "SIGKILL"}) == ((128, 0), 0)
    assert trained_again(parts, {0: "SIGINT", 1: "SIGKILL"}) == ((128, 0), 128)
