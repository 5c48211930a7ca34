"""Action distributions as flat arrays of parameters, and back.

SB3's policies return one distribution object that their next call overwrites, and a rollout buffer stores arrays.
So whatever outlives a call is kept as parameters, one row per state:

==================  ===========================================  ==========
action space        parameters of one state                      columns
==================  ===========================================  ==========
``Discrete``        log-probabilities                            n
``MultiDiscrete``   log-probabilities of each factor, joined     sum(nvec)
``MultiBinary``     logits                                       n
``Box``             means, then log standard deviations          2 n
==================  ===========================================  ==========
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.distributions import (
    MaskableBernoulliDistribution,
    MaskableCategoricalDistribution,
    MaskableDistribution,
    MaskableMultiCategoricalDistribution,
)
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
    MultiCategoricalDistribution,
    SquashedDiagGaussianDistribution,
    StateDependentNoiseDistribution,
    make_proba_distribution,
)


def parameters(distribution: Distribution | MaskableDistribution) -> th.Tensor:
    """
    The parameters of a batch of distributions.

    :param distribution: any of SB3's distributions over unsquashed actions, or sb3-contrib's maskable ones, for n states
    :return: shape (n, columns), on the graph that the distribution is on
    :raises TypeError: for a distribution whose actions are squashed (their KL has no closed form against unsquashed ones)
    """
    if isinstance(distribution, MultiCategoricalDistribution):
        return th.cat([factor.logits for factor in distribution.distribution], dim=-1)
    if isinstance(distribution, (CategoricalDistribution, BernoulliDistribution, MaskableCategoricalDistribution)):
        return distribution.distribution.logits
    if isinstance(distribution, MaskableBernoulliDistribution):
        return th.stack([pair.logits[:, 1] - pair.logits[:, 0] for pair in distribution.distributions], dim=-1)
    if isinstance(distribution, MaskableMultiCategoricalDistribution):
        return th.cat([factor.logits for factor in distribution.distributions], dim=-1)
    if type(distribution) is DiagGaussianDistribution or (
        isinstance(distribution, StateDependentNoiseDistribution) and distribution.bijector is None
    ):
        normal = distribution.distribution
        return th.cat([normal.mean, normal.stddev.log()], dim=-1)
    raise unreadable(distribution)


def check_readable(distribution: Any) -> None:
    """
    :param distribution: of a student's policy, before it was used: what :func:`parameters` will be asked about
    :raises TypeError: if that would fail
    """
    known = (MultiCategoricalDistribution, CategoricalDistribution, BernoulliDistribution, MaskableDistribution)
    gaussian = type(distribution) is DiagGaussianDistribution
    sde = isinstance(distribution, StateDependentNoiseDistribution) and distribution.bijector is None
    if not (isinstance(distribution, known) or gaussian or sde):
        raise unreadable(distribution)


def unreadable(distribution: Any) -> TypeError:
    """
    :param distribution: of another kind than those above
    :return: what is wrong with it
    """
    name = type(distribution).__name__
    if isinstance(distribution, (SquashedDiagGaussianDistribution, StateDependentNoiseDistribution)):
        return TypeError(
            f"Cannot distil the distribution {name} of squashed actions: use a policy with squash_output=False."
        )
    return TypeError(
        f"Cannot distil the distribution {name}: use a policy whose action_dist is one of SB3's for Discrete, MultiDiscrete, "
        "MultiBinary or Box actions."
    )


def from_parameters(action_space: spaces.Space, params: th.Tensor) -> Distribution:
    """
    The inverse of :func:`parameters`.

    :param action_space: the space that the actions are in
    :param params: shape (n, columns), see the table above
    :return: a new distribution over a batch of n states; a ``Box`` gives a diagonal Gaussian
    """
    distribution = make_proba_distribution(action_space)
    if isinstance(distribution, DiagGaussianDistribution):
        mean, log_std = params.chunk(2, dim=-1)
        return distribution.proba_distribution(mean, log_std)
    return distribution.proba_distribution(action_logits=params)


def within_bounds(action_space: spaces.Space, params: th.Tensor) -> th.Tensor:
    """
    The means that count: beyond the action space, the environment is given its bounds.

    :param action_space: the space that the actions are in
    :param params: shape (n, columns), see the table above
    :return: the same, with the means of a ``Box`` clipped to it
    """
    if not isinstance(action_space, spaces.Box):
        return params
    mean, log_std = params.chunk(2, dim=-1)
    low, high = (
        th.as_tensor(bound.flatten(), dtype=params.dtype, device=params.device)
        for bound in (action_space.low, action_space.high)
    )
    return th.cat([mean.clamp(low, high), log_std], dim=-1)


def executed(action_space: spaces.Space, distribution: Distribution) -> Distribution:
    """
    The student as the environment meets it: its mean is clipped, and is moved as if it were not.

    A squared distance to it costs the same as before within the action space. Beyond, it goes on as a straight line, whose slope is what
    the executed action is off; so a mean that is beyond where the teacher is at the bound costs nothing, and one that is beyond where
    the teacher is within comes back.

    :param action_space: the space that the actions are in
    :param distribution: of a class that :mod:`sb3_distill.rules.losses` knows
    :return: the same if no mean is beyond
    """
    if not isinstance(distribution, DiagGaussianDistribution):
        return distribution
    params = parameters(distribution)
    clipped = within_bounds(action_space, params.detach())
    if th.equal(clipped, params):
        return distribution
    return from_parameters(action_space, params + (clipped - params.detach()))


def parameter_size(action_space: spaces.Space) -> int:
    """
    How many numbers describe the action distribution of one state.

    :param action_space: one of the four kinds of space in the table above
    :return: the number of columns
    :raises TypeError: for another kind of space
    """
    if isinstance(action_space, spaces.Discrete):
        return int(action_space.n)
    if isinstance(action_space, spaces.MultiDiscrete):
        return int(np.sum(action_space.nvec))
    if isinstance(action_space, spaces.MultiBinary):
        return int(np.prod(action_space.shape))
    if isinstance(action_space, spaces.Box):
        return 2 * int(np.prod(action_space.shape))
    raise TypeError(
        f"No action distribution for {action_space}: use a Discrete, MultiDiscrete, MultiBinary or Box action space."
    )


def plain(action_space: spaces.Space, distribution: Distribution) -> Distribution:
    """
    The distribution of the actions themselves: gSDE's is replaced by the diagonal Gaussian that it is in every state, and one that is
    masked by what is left of it.

    :param action_space: the space that the actions are in
    :param distribution: any of SB3's distributions, on any graph
    :return: the same distribution, of a class that :mod:`sb3_distill.rules.losses` knows
    """
    if isinstance(distribution, (StateDependentNoiseDistribution, MaskableDistribution)):
        return from_parameters(action_space, parameters(distribution))
    return distribution


@contextmanager
def unvalidated() -> Iterator[None]:
    """A context without torch's checks of distributions, which take a tenth of the time and find what is checked anyway."""
    default = th.distributions.Distribution._validate_args  # type: ignore[attr-defined]
    th.distributions.Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        th.distributions.Distribution.set_default_validate_args(default)
