"""What few runs say, against brute force and closed forms."""

from itertools import product
from math import comb, inf

import numpy as np
import pytest

from sb3_distill.study.estimates import (
    SAMPLES,
    Estimate,
    better,
    estimate,
    half_way,
    improvement,
    interval,
    iqm,
    mean_of_tasks,
    profile_band,
    share_above,
    steps_to,
)

#: four standard errors of a share near 2.5% that is counted in SAMPLES samples
NOISE = 4 * (0.025 * 0.975 / SAMPLES) ** 0.5
DICE = np.random.default_rng(0)


def is_quantile(value, probability, outcomes, chances):
    """Whether a value is a quantile of an exact distribution, up to what sampling does."""
    outcomes, chances = np.asarray(outcomes), np.asarray(chances) / np.sum(chances)
    below = chances[outcomes < value - 1e-9].sum()
    up_to = chances[outcomes <= value + 1e-9].sum()
    return below <= probability + NOISE and up_to >= probability - NOISE


@pytest.mark.parametrize("n", range(1, 14))
def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end(n):
    values = DICE.normal(size=(3, n))
    for row, found in zip(values, iqm(values), strict=True):
        cut = int(0.25 * n)
        kept = sorted(row)[cut : n - cut]
        assert found == pytest.approx(sum(kept) / len(kept))


def test_an_interval_is_that_of_all_samples_that_there_are():
    """Two tasks of two and three runs have 2² · 3³ samples, which are all enumerated."""
    tasks = [np.array([0.1, 0.9]), np.array([0.2, 0.5, 1.3])]
    for statistic in (mean_of_tasks([2, 3]), iqm, half_way):
        outcomes = [
            float(statistic(np.array([*first, *second])[None])[0])
            for first in product(tasks[0], repeat=2)
            for second in product(tasks[1], repeat=3)
        ]
        found = estimate(tasks, statistic)
        assert found.value == float(statistic(np.concatenate(tasks)[None])[0])
        for end, probability in ((found.low, 0.025), (found.high, 0.975)):
            assert is_quantile(end, probability, outcomes, np.ones(len(outcomes)))


def test_a_mean_over_tasks_counts_each_task_alike():
    tasks = [np.array([0.0, 0.0, 0.0, 0.0]), np.array([1.0])]
    assert estimate(tasks, mean_of_tasks([4, 1])).value == 0.5


def test_many_runs_have_the_interval_of_a_normal_distribution():
    values = DICE.normal(size=400)
    found = estimate([values], mean_of_tasks([400]))
    error = values.std() / 20
    assert [found.low, found.high] == pytest.approx(values.mean() + 1.96 * error * np.array([-1, 1]), abs=0.25 * error)


def test_of_one_run_of_each_task_nobody_knows_how_sure_it_is():
    found = estimate([np.array([0.5]), np.array([0.7])], mean_of_tasks([1, 1]))
    assert found.value == pytest.approx(0.6) and np.isnan([found.low, found.high]).all()
    assert np.isnan(improvement([np.array([1.0])], [np.array([0.0])]).low)
    assert np.isnan(profile_band([np.array([1.0])], np.array([0.5]))[0]).all()


def test_intervals_are_the_same_however_much_is_held_at_once(monkeypatch):
    from sb3_distill.study import estimates

    tasks, others = [DICE.normal(size=7), DICE.normal(size=5)], [DICE.normal(size=4), DICE.normal(size=6)]
    before = estimate(tasks, iqm), improvement(tasks, others)
    assert before == (estimate(tasks, iqm), improvement(tasks, others))
    monkeypatch.setattr(estimates, "_CHUNK", 1_000)
    after = estimate(tasks, iqm), improvement(tasks, others)
    for one, other in zip(before, after, strict=True):
        assert one.value == other.value and np.allclose(one, other, atol=0.1)


def test_a_profile_is_the_share_of_runs_above_with_a_binomials_band():
    tasks = [np.array([0.1, 0.5, 0.5, 0.9]), np.array([0.4, 1.0])]
    thresholds = np.array([0.0, 0.5, 0.95])
    assert share_above(tasks, thresholds).tolist() == [1.0, (1 / 4 + 1 / 2) / 2, (0 + 1 / 2) / 2]
    one = [np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.8, 0.9, 1.0])]
    low, high = profile_band(one, np.array([0.5]))
    n, p = 8, 5 / 8
    chances = [comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    outcomes = np.arange(n + 1) / n
    assert is_quantile(low[0], 0.025, outcomes, chances) and is_quantile(high[0], 0.975, outcomes, chances)
    # Of two tasks, the mean of two such numbers.
    low, high = profile_band([one[0], one[0][:4]], np.array([0.5]))
    second = [comb(4, k) * 0.25**k * 0.75 ** (4 - k) for k in range(5)]
    outcomes = [(j / 8 + k / 4) / 2 for j in range(9) for k in range(5)]
    both = [chances[j] * second[k] for j in range(9) for k in range(5)]
    assert is_quantile(low[0], 0.025, outcomes, both) and is_quantile(high[0], 0.975, outcomes, both)


def test_the_probability_of_improvement_counts_pairs_and_ties_half():
    first, second = DICE.integers(4, size=9).astype(float), DICE.integers(4, size=6).astype(float)
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in first for b in second]
    assert float(better(first, second)) == pytest.approx(np.mean(pairs))
    assert float(better(first, second) + better(second, first)) == pytest.approx(1.0)
    tasks, others = [np.array([1.0, 3.0]), np.array([0.0, 1.0])], [np.array([2.0, 0.0]), np.array([1.0, 1.0])]
    found = improvement(tasks, others)
    assert found.value == pytest.approx((3 / 4 + 1 / 4) / 2)
    draws = [list(product(values, repeat=2)) for pair in zip(tasks, others, strict=True) for values in pair]
    outcomes = [
        float(np.mean([better(np.array(a), np.array(b)), better(np.array(c), np.array(d))]))
        for a, b, c, d in product(*draws)
    ]
    for end, probability in ((found.low, 0.025), (found.high, 0.975)):
        assert is_quantile(end, probability, outcomes, np.ones(len(outcomes)))


def test_who_never_arrives_counts_as_infinitely_late():
    assert half_way(np.array([[3.0, inf, 1.0], [inf, inf, 1.0], [5.0, 5.0, inf]])).tolist() == [3.0, inf, 5.0]
    assert half_way(np.array([4.0, inf])) == 4.0
    found = estimate([np.array([100.0, 200.0, inf, inf, inf])], half_way)
    assert found.value == inf and found.low <= 200.0 and found.high == inf
    assert interval(np.array([inf] * 10)) == (inf, inf)
    curve = np.array([0.0, 0.9, 0.96, 0.2])
    assert steps_to(np.arange(4) * 10, curve, 0.95) == 20.0 and steps_to(np.arange(4), curve, 0.97) == inf
    assert Estimate(1.0, 0.0, 2.0)
