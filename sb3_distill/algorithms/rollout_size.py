"""Rollouts and minibatches that fit: no minibatch is cut short where one of the two sizes is ours to choose.

A minibatch that is left over has few states, as much weight as a whole one, and noise for statistics; SB3 warns of it.
"""

import math
import warnings


def steps_that_fill(n_steps: int, batch_size: int, n_envs: int) -> int:
    """
    >>> from sb3_distill.algorithms.rollout_size import steps_that_fill
    >>> [steps_that_fill(32, 64, n_envs) for n_envs in (1, 2, 3, 8)]
    [64, 32, 64, 32]

    :param n_steps: steps of each environment that are wanted
    :param batch_size: states in a minibatch
    :param n_envs: number of environments
    :return: the least number that is not below it and with which the rollout can be cut into whole minibatches
    """
    step = batch_size // math.gcd(batch_size, n_envs)
    return step * math.ceil(n_steps / step)


def batch_that_fits(batch_size: int, n_states: int) -> int:
    """
    >>> from sb3_distill.algorithms.rollout_size import batch_that_fits
    >>> [batch_that_fits(64, n_states) for n_states in (128, 80, 40, 8, 101, 1000)]
    [64, 80, 40, 8, 101, 50]

    :param batch_size: states in a minibatch that are wanted
    :param n_states: in a rollout
    :return: what divides the rollout and is nearest to it by ratio, if that is not off by more than a factor of 2; else it itself,
        or a smaller rollout as a whole
    """
    if n_states <= batch_size:
        return n_states
    divisors = [d for d in range(math.ceil(batch_size / 2), 2 * batch_size + 1) if n_states % d == 0]
    return min(divisors, key=lambda d: abs(math.log(d / batch_size)), default=batch_size)


def warn_of_cut_minibatch(batch_size: int, n_steps: int, n_envs: int) -> None:
    """
    :param batch_size: states in a minibatch
    :param n_steps: steps of each environment in a rollout
    :param n_envs: number of environments
    """
    n_states = n_steps * n_envs
    if n_states % batch_size:
        warnings.warn(
            f"A rollout of n_steps={n_steps} in {n_envs} environments has {n_states} states, and batch_size={batch_size} leaves a "
            f"minibatch of {n_states % batch_size}: give n_steps={steps_that_fill(n_steps, batch_size, n_envs)}, or "
            f"batch_size={batch_that_fits(batch_size, n_states)}."
        )
