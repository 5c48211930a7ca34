"""Recordings that SIGKILL ends at random moments; ``python -m tests.tools.recording_kills`` has fifty of them."""

import pytest

from tools.recording_kills import Killer


def killed(folder, n, n_steps):
    killer = Killer(folder, n_steps, seed=0)
    results, runs = [], 0
    while len(results) < n:
        result = killer.run(f"memory_{runs}")
        runs += 1
        results += [result] if result.n_kills else []
    return results


def check(results):
    assert all(result.n_opened == result.n_kills for result in results)
    assert sum(result.n_lost for result in results) == 0
    assert all(result.equal for result in results)
    assert sum(result.n_kept for result in results) > 0


def test_a_killed_recording_loses_nothing_and_ends_as_a_whole_one(tmp_path):
    check(killed(tmp_path, 3, 2_000))


@pytest.mark.slow
def test_fifty_of_them(tmp_path):
    check(killed(tmp_path, 50, 20_000))
