"""How soft a Q-network's policy is: π = (1−ε) softmax(Q/τ) + ε/|A|, and the choice of τ.

Q-values have no fixed scale, so neither has τ. ``temperature="auto"`` takes the largest τ of a grid at which the policy
still does what the greedy one does: by its return where an environment is at hand, else by how sure it is.
"""

import math
from collections.abc import Callable
from numbers import Real
from typing import NamedTuple

import numpy as np
import torch as th
from torch.nn import functional

#: powers of √10 from 1e-3 to 1e2, in units of Q
GRID = tuple(10 ** (k / 2) for k in range(-6, 5))


class Choice(NamedTuple):
    """A temperature and why it was chosen."""

    temperature: float
    report: str


def soften(q_values: th.Tensor, temperature: float, epsilon: float = 0.0) -> th.Tensor:
    """
    log[(1−ε) softmax(Q/τ) + ε/|A|].

    :param q_values: Q(s, ·), shape (n, |A|)
    :param temperature: τ > 0, in units of Q
    :param epsilon: ε in [0, 1]
    :return: log-probabilities, shape (n, |A|)
    """
    log_probs = functional.log_softmax(q_values / temperature, dim=-1)
    if epsilon == 0.0:
        return log_probs
    uniform = math.log(epsilon / q_values.shape[-1])
    if epsilon == 1.0:
        return th.full_like(log_probs, uniform)
    return th.logaddexp(log_probs + math.log1p(-epsilon), th.full_like(log_probs, uniform))


def check_softness(temperature: float | None, epsilon: float) -> None:
    """
    :param temperature: τ, or None where it is still to be chosen
    :param epsilon: ε
    :raises ValueError: if τ ≤ 0 or ε is outside [0, 1]
    """
    if temperature is not None and not (isinstance(temperature, Real) and 0 < temperature < math.inf):
        raise ValueError(f"temperature must be greater than 0 (or 'auto'), not {temperature!r}.")
    if not (isinstance(epsilon, Real) and 0 <= epsilon <= 1):
        raise ValueError(f"epsilon must lie between 0 and 1, not {epsilon!r}.")


def softest_by_return(returns: Callable[[float | None], np.ndarray], tolerance: float = 0.02) -> Choice:
    """
    The largest τ of the grid whose mean return is that of greedy play, less ``tolerance`` of its magnitude.

    Where returns scatter (LunarLander's by 100 an episode), a shortfall counts once it is two standard errors large.

    :param returns: plays the same episodes at a temperature, greedily for None, and tells their returns
    :param tolerance: a share of the greedy return
    :return: τ (the grid's smallest if none will do), and a sentence with both returns
    """
    greedy = returns(None)
    for temperature in reversed(GRID):
        soft = returns(temperature)
        shortfall = greedy - soft
        standard_error = shortfall.std(ddof=1) / math.sqrt(len(shortfall))
        if shortfall.mean() <= max(tolerance * abs(greedy.mean()), 2 * standard_error):
            break
    return Choice(
        temperature,
        f"auto: actions drawn at temperature {temperature:.3g} return {soft.mean():.1f}, greedy ones {greedy.mean():.1f}",
    )


def softest_by_confidence(q_values: th.Tensor, confidence: float = 0.9) -> Choice:
    """
    The largest τ of the grid at which the greedy action has a mean probability of at least ``confidence``.

    :param q_values: Q(s, ·) of a batch of states, shape (n, |A|)
    :param confidence: in (0, 1)
    :return: τ (the grid's smallest if none will do), and a sentence with the probability
    """
    for temperature in reversed(GRID):
        mean = float(functional.softmax(q_values / temperature, dim=-1).amax(-1).mean())
        if mean >= confidence:
            break
    return Choice(
        temperature,
        f"auto: at temperature {temperature:.3g} the greedy action has a mean probability of {mean:.2f} "
        f"over {len(q_values)} observations",
    )
