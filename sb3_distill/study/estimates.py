"""What few runs say, and how surely: interquartile means, stratified bootstrap intervals, performance profiles, probability of improvement.

As Agarwal et al. (2021) have them. Their package, rliable, computes the same; it brings statsmodels, arch, pandas and seaborn with it for
what is here a page of NumPy.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

#: samples of a bootstrap, and what is left out at each end of a 95% interval
SAMPLES, TAIL = 2_000, 0.025
#: numbers that are held at once
_CHUNK = 4_000_000

#: statistics of rows: from (samples, runs) to (samples,)
Statistic = Callable[[np.ndarray], np.ndarray]


class Estimate(NamedTuple):
    """
    A statistic and its 95% interval.

    :param value: of the runs
    :param low: end of the interval; NaN where there is one run of each task, of which nothing can be known
    :param high: likewise
    """

    value: float
    low: float
    high: float


def iqm(values: np.ndarray) -> np.ndarray:
    """
    The mean without the lowest and the highest quarter, rounded down to whole numbers of runs each, as SciPy's ``trim_mean`` has it.

    >>> float(iqm(np.array([0.0, 1.0, 2.0, 3.0, 100.0])))
    2.0

    :param values: shape (…, n)
    :return: shape (…)
    """
    n = values.shape[-1]
    cut = n // 4
    return np.sort(values, axis=-1)[..., cut : n - cut].mean(axis=-1)  # type: ignore[no-any-return]


def mean_of_tasks(counts: Sequence[int]) -> Statistic:
    """
    :param counts: runs of each task, in the order in which they stand in a row
    :return: the mean of the tasks' means: each task counts alike, however many runs it has
    """
    weights = np.concatenate([np.full(n, 1.0 / (n * len(counts))) for n in counts])
    return lambda rows: (rows * weights).sum(axis=-1)


def half_way(values: np.ndarray) -> np.ndarray:
    """
    The least number that half of the values or more do not exceed: a median that is one of them, also where some are infinite.

    :param values: shape (…, n)
    :return: shape (…)
    """
    n = values.shape[-1]
    return np.sort(values, axis=-1)[..., -(-n // 2) - 1]  # type: ignore[no-any-return]


def estimate(tasks: Sequence[np.ndarray], statistic: Statistic) -> Estimate:
    """
    The percentile interval of a stratified bootstrap: each sample draws, for each task, as many of its runs as there are, with
    replacement.

    :param tasks: the runs' values by task, shape (n_t,) each, n_t ≥ 1
    :param statistic: of rows that have all tasks' values one after another
    :return: of the values, with the interval
    """
    value = float(statistic(np.concatenate(tasks)[None])[0])
    if all(len(task) == 1 for task in tasks):
        return Estimate(value, np.nan, np.nan)
    dice = np.random.default_rng(0)
    step = max(1, _CHUNK // sum(map(len, tasks)))
    parts = []
    for start in range(0, SAMPLES, step):
        rows = min(step, SAMPLES - start)
        drawn = [task[dice.integers(len(task), size=(rows, len(task)))] for task in tasks]
        parts.append(statistic(np.concatenate(drawn, axis=1)))
    return Estimate(value, *interval(np.concatenate(parts)))


def interval(sampled: np.ndarray) -> tuple[float, float]:
    """
    :param sampled: values of a statistic, which may be infinite
    :return: ends of the 95% interval, which are values of it
    """
    low, high = np.quantile(sampled, [TAIL, 1 - TAIL], method="inverted_cdf")
    return float(low), float(high)


def share_above(tasks: Sequence[np.ndarray], thresholds: np.ndarray) -> np.ndarray:
    """
    A performance profile.

    :param tasks: the runs' scores by task, shape (n_t,) each
    :param thresholds: τ, shape (m,)
    :return: the share of runs with a score above τ, mean over the tasks, shape (m,)
    """
    return np.mean([(task[:, None] > thresholds).mean(axis=0) for task in tasks], axis=0)  # type: ignore[no-any-return]


def profile_band(tasks: Sequence[np.ndarray], thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    :param tasks: as for :func:`share_above`
    :param thresholds: likewise
    :return: ends of the pointwise 95% intervals, shape (m,) each; NaN where there is one run of each task
    """
    if all(len(task) == 1 for task in tasks):
        nothing = np.full(len(thresholds), np.nan)
        return nothing, nothing
    dice = np.random.default_rng(0)
    total = np.zeros((SAMPLES, len(thresholds)))
    for task in tasks:
        # How many of a sample are above τ depends on nothing but how many there are: a binomial number.
        n = len(task)
        ranks = np.sort(dice.integers(n, size=(SAMPLES, n)), axis=1)
        n_below = np.searchsorted(np.sort(task), thresholds, side="right")
        above = n - np.stack([np.searchsorted(row, n_below, side="left") for row in ranks])
        total += above / n
    low, high = np.quantile(total / len(tasks), [TAIL, 1 - TAIL], axis=0, method="inverted_cdf")
    return low, high


def better(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """
    :param first: scores, shape (…, n)
    :param second: scores, shape (…, m)
    :return: how likely one of the first is above one of the second, ties counted half (Mann and Whitney's U over n m), shape (…)
    """
    difference = first[..., :, None] - second[..., None, :]
    return ((difference > 0) + 0.5 * (difference == 0)).mean(axis=(-2, -1))  # type: ignore[no-any-return]


def improvement(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> Estimate:
    """
    The probability of improvement, mean over tasks.

    :param first: scores by task, shape (n_t,) each
    :param second: of the same tasks
    :return: how likely a run of the first is above one of the second, with the interval
    """
    value = float(np.mean([better(a, b) for a, b in zip(first, second, strict=True)]))
    if all(len(a) == len(b) == 1 for a, b in zip(first, second, strict=True)):
        return Estimate(value, np.nan, np.nan)
    dice = np.random.default_rng(0)
    total = np.zeros(SAMPLES)
    for a, b in zip(first, second, strict=True):
        step = max(1, _CHUNK // (len(a) * len(b)))
        for start in range(0, SAMPLES, step):
            rows = min(step, SAMPLES - start)
            drawn = [x[dice.integers(len(x), size=(rows, len(x)))] for x in (a, b)]
            total[start : start + rows] += better(*drawn)
    return Estimate(value, *interval(total / len(first)))


def steps_to(steps: np.ndarray, scores: np.ndarray, level: float) -> float:
    """
    >>> steps_to(np.array([0, 100, 200]), np.array([0.0, 0.96, 0.5]), 0.95)
    100.0

    :param steps: of a learning curve, ascending, shape (n,)
    :param scores: at these steps, shape (n,)
    :param level: to be reached
    :return: the first steps at which it is; infinite if it never is
    """
    reached = np.flatnonzero(scores >= level)
    return float(steps[reached[0]]) if len(reached) else np.inf
