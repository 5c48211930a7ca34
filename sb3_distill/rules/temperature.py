"""How soft a Q-network's policy is: π = (1−ε) softmax(Q/τ) + ε/|A|, and the choice of τ.

Q-values have no fixed scale, so neither has τ. ``temperature="auto"`` takes the largest τ of a grid at which the policy
still does what the greedy one does: by its return where an environment is at hand, else by how sure it is. The grid is in units
of the Q-values' own spread, and only differences of Q count: Q → cQ + b leaves the policy that is chosen as it is.
"""

import math
from collections.abc import Callable
from numbers import Real
from typing import NamedTuple

import numpy as np
import torch as th
from torch.nn import functional

#: powers of √10 from 1e-6 to 1e2, in units of :func:`spread`: agents of ten tasks have their τ from 1e-3 to 0.3. It is wide, as few
#: states may make most of the spread
GRID = tuple(10 ** (k / 2) for k in range(-12, 5))

#: states that a choice by them needs: fewer say little about a policy
ENOUGH_STATES = 256


class Choice(NamedTuple):
    """
    A temperature and why it was chosen.

    :param temperature: τ, in units of Q
    :param report: a sentence for tables and logs
    :param doubt: what a user should be warned of, if anything
    """

    temperature: float
    report: str
    doubt: str | None = None


def soften(q_values: th.Tensor, temperature: float, epsilon: float = 0.0) -> th.Tensor:
    """
    log[(1−ε) softmax(Q/τ) + ε/|A|].

    :param q_values: Q(s, ·), shape (n, |A|)
    :param temperature: τ > 0, in units of Q
    :param epsilon: ε in [0, 1]
    :return: log-probabilities, shape (n, |A|)
    """
    # Differences first: a large offset that all actions share would take the digits that tell them apart.
    log_probs = functional.log_softmax((q_values - q_values.amax(-1, keepdim=True)) / temperature, dim=-1)
    if epsilon == 0.0:
        return log_probs
    uniform = math.log(epsilon / q_values.shape[-1])
    if epsilon == 1.0:
        return th.full_like(log_probs, uniform)
    return th.logaddexp(log_probs + math.log1p(-epsilon), th.full_like(log_probs, uniform))


def spread(q_values: th.Tensor) -> float:
    """
    The unit in which temperatures are looked for.

    :param q_values: Q(s, ·) of a batch of states, shape (n, |A|); −inf for an action that is forbidden, and is none
    :return: √ of the mean over states and actions of (Q(s,a) − mean_a Q(s,a))²; 0 where no state tells actions apart
    """
    q = q_values.detach().cpu().double()
    if (q == -math.inf).any():
        q = th.where(q == -math.inf, math.nan, q)
        return float((q - q.nanmean(-1, keepdim=True)).square().nanmean().sqrt())
    return float((q - q.mean(-1, keepdim=True)).square().mean().sqrt())


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


def check_q_values(q_values: th.Tensor, name: str) -> None:
    """
    :param q_values: Q(s, ·) of a batch of states
    :param name: whose, for the message
    :raises ValueError: if they are not finite
    """
    if not th.isfinite(q_values).all():
        raise ValueError(f"The teacher {name} answered with NaN or infinity: are its weights damaged?")


def softest_by_return(
    greedy: np.ndarray,
    play: Callable[[float], np.ndarray | None],
    unit: float,
    start: float,
    tolerance: float = 0.02,
) -> Choice:
    """
    The largest τ near ``start`` whose mean return is that of greedy play, less ``tolerance`` of its magnitude.

    Where returns scatter (LunarLander's by 100 an episode), few episodes prove little, and what they do not prove leaves the search
    where it began: a shortfall counts against ``start`` and what is colder once it is two standard errors large, too. What is
    softer has to play as well in fact.

    :param greedy: returns of the episodes, played greedily
    :param play: the returns of the same episodes at a temperature; None if there is no time for more
    :param unit: of the grid, see :func:`spread`
    :param start: the temperature to begin with; it is one of the grid
    :param tolerance: a share of the greedy return
    :return: τ, a sentence with both returns (and whether only their scatter excuses the difference), and a doubt if no τ that was
        played will do: then τ is the coldest of those
    :raises TimeoutError: if there is no time for a single play
    """
    played: dict[int, np.ndarray] = {}

    def plays(k: int) -> bool:
        soft = play(GRID[k] * unit)
        if soft is not None:
            played[k] = soft
        return soft is not None

    def fits(k: int, errors: int = 2) -> bool:
        lost = greedy - played[k]
        error = lost.std(ddof=1) / math.sqrt(len(lost))
        return bool(lost.mean() <= max(tolerance * abs(greedy.mean()), errors * error))

    at = int(np.argmin([abs(math.log(value * unit / start)) for value in GRID]))
    if not plays(at):
        raise TimeoutError("no play with drawn actions was finished")
    if fits(at):
        while at + 1 < len(GRID) and plays(at + 1) and fits(at + 1, errors=0):
            at += 1
    else:
        stride = 1
        while at > 0 and not fits(at) and plays(max(0, at - stride)):
            at, stride = max(0, at - stride), 2 * stride
    temperature = GRID[at] * unit
    soft = played[at].mean()
    returns = (
        f"actions drawn at temperature {temperature:.3g} return {_number(soft)}, greedy ones {_number(greedy.mean())}"
    )
    doubt = None if fits(at) else f"{returns}. Give a smaller temperature"
    if doubt is None and not fits(at, errors=0):
        returns += f", a difference that {len(greedy)} episodes do not tell from none"
    return Choice(temperature, f"auto: {returns}", doubt)


def softest_by_loss(q_values: th.Tensor, share: float = 1 / 80) -> float:
    """
    Where to begin a search by return: the largest τ of the grid at which drawn actions give little away by the Q-values' own account.

    What they give away in a state is max_a Q − Σ_a π Q. States in which it makes no difference what is done do not count, as they do
    by confidence. Of the agents of ten tasks, the τ at which they play as greedily is this one or its neighbour.

    :param q_values: Q(s, ·) of a batch of states, shape (n, |A|), which differ in some; −inf for an action that is forbidden
    :param share: of what uniformly drawn actions give away on average
    :return: τ (the grid's smallest if none will do)
    """
    q = q_values.detach().cpu().double()
    unit = spread(q)
    below, is_action = q.amax(-1, keepdim=True) - q, q != -math.inf
    for value in reversed(GRID):
        given_away = float((soften(q, value * unit).exp() * th.where(is_action, below, 0.0)).sum(-1).mean())
        if given_away <= share * float(below[is_action].mean()):
            break
    return value * unit


def softest_by_confidence(q_values: th.Tensor, confidence: float = 0.9) -> Choice:
    """
    The largest τ of the grid at which the greedy action has a mean probability of at least ``confidence``.

    :param q_values: Q(s, ·) of a batch of states, shape (n, |A|), finite; −inf for an action that is forbidden. States that leave one
        action do not count
    :param confidence: in (0, 1)
    :return: τ (the grid's smallest if none will do, 1 where Q tells no actions apart), a sentence with the probability, and a
        doubt in these two cases
    """
    n_actions = (q_values != -math.inf).sum(-1)
    if n_actions.max() > 1:
        q_values = q_values[n_actions > 1]
    n = len(q_values)
    unit = spread(q_values)
    if unit == 0.0:
        if n_actions.max() == 1:
            return Choice(1.0, "auto: there is one action, whatever the temperature")
        report = f"all actions have the same Q-values, whatever the temperature, in each of {n} observations"
        return Choice(1.0, f"auto: {report}", f"{report}: is it trained? Its policy is uniform there")
    for value in reversed(GRID):
        temperature = value * unit
        mean = float(soften(q_values.cpu().double(), temperature).amax(-1).exp().mean())
        if mean >= confidence:
            break
    report = (
        f"at temperature {temperature:.3g} the greedy action has a mean probability of {mean:.2f} over {n} observations"
    )
    doubt = None if mean >= confidence else f"even {report}: in some of them actions have the same Q-values"
    return Choice(temperature, f"auto: {report}", doubt)


def _number(mean: float) -> str:
    """A mean return for people: with a decimal, or, where that hides what there is, with three digits."""
    return f"{mean:.1f}" if mean == 0 or abs(mean) >= 10 else f"{mean:.3g}"
