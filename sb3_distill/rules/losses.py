"""What a state costs: ℓ, as pure functions of the teacher's and the student's distribution there.

Every loss has the signature ``loss(teacher, student) -> tensor of shape (n,)`` in nats, for SB3 distributions over a
batch of n states, and is differentiable in both. π is the teacher, π_θ the student.

===========================  ==========  =====================================================================
name                         ℓ           its minimum over π_θ
===========================  ==========  =====================================================================
``cross_entropy``            H×(π‖π_θ)   the teacher (value H(π)): the student replicates it
``kl``                       KL(π‖π_θ)   the teacher (value 0): the same gradient as ``cross_entropy``
``reverse_cross_entropy``    H×(π_θ‖π)   the teacher's most probable action, always: the student turns deterministic
``reverse_kl``               KL(π_θ‖π)   the teacher (value 0); like ``reverse_cross_entropy``, mode-seeking before that
===========================  ==========  =====================================================================

Sources: Czarnecki et al. 2019, section 3, for both cross-entropies; the KL forms subtract H(π), which does not depend
on the student, and H(π_θ) respectively.
"""

import math
from typing import Any

import torch as th
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
    MultiCategoricalDistribution,
    sum_independent_dims,
)
from stable_baselines3.common.distributions import kl_divergence as sb3_kl_divergence
from torch.nn import functional

from sb3_distill.common.shapes import check_same_shape


def cross_entropy_of(p: Distribution, q: Distribution) -> th.Tensor:
    """
    H×(p‖q) = −E_{a∼p} log q(a), in closed form.

    :param p: the distribution that the expectation is under
    :param q: the distribution whose log-probability is averaged; of the same class
    :return: shape (n,), in nats; for Gaussians it is the differential one and may be negative
    :raises ValueError: if they are of different numbers of states or actions
    """
    _check_alike(p, q)
    dp: Any = p.distribution
    dq: Any = q.distribution
    if isinstance(p, MultiCategoricalDistribution):
        return th.stack([-(pi.probs * qi.logits).sum(-1) for pi, qi in zip(dp, dq, strict=True)]).sum(0)
    if isinstance(p, CategoricalDistribution):
        return -(dp.probs * dq.logits).sum(-1)
    if isinstance(p, BernoulliDistribution):
        return functional.binary_cross_entropy_with_logits(dq.logits, dp.probs, reduction="none").sum(-1)
    if isinstance(p, DiagGaussianDistribution):
        z2 = ((dp.mean - dq.mean) ** 2 + dp.stddev**2) / dq.stddev**2
        return (0.5 * z2 + dq.stddev.log() + 0.5 * math.log(2 * math.pi)).sum(-1)
    raise TypeError(f"No closed form of the cross-entropy for {type(p).__name__}.")


def _check_alike(p: Distribution, q: Distribution) -> None:
    dp: Any = p.distribution
    dq: Any = q.distribution
    for one, other in zip(dp, dq, strict=True) if isinstance(dp, list) else [(dp, dq)]:
        check_same_shape(p=_columns(one), q=_columns(other))


def _columns(distribution: Any) -> th.Tensor:
    """A number for each state and action, or part of one."""
    return distribution.logits if hasattr(distribution, "logits") else distribution.mean


def kl_of(p: Distribution, q: Distribution) -> th.Tensor:
    """
    KL(p‖q) = E_{a∼p} [log p(a) − log q(a)], in closed form.

    :param p: the distribution that the expectation is under
    :param q: the other one; of the same class
    :return: shape (n,), in nats, at least 0 up to rounding
    :raises ValueError: if they are of different numbers of states or actions
    """
    _check_alike(p, q)
    dp: Any = p.distribution
    dq: Any = q.distribution
    # Not SB3's: that is infinite as soon as a probability of q rounds to 0 or 1, at logits of 17 in float32, and its care
    # for probabilities of exactly 0 triples the time. Logits are finite here.
    if isinstance(p, MultiCategoricalDistribution):
        return th.stack([(pi.probs * (pi.logits - qi.logits)).sum(-1) for pi, qi in zip(dp, dq, strict=True)]).sum(0)
    if isinstance(p, CategoricalDistribution):
        return functional.kl_div(dq.logits, dp.logits, reduction="none", log_target=True).sum(-1)
    if isinstance(p, BernoulliDistribution):
        one = functional.logsigmoid(dp.logits) - functional.logsigmoid(dq.logits)
        zero = functional.logsigmoid(-dp.logits) - functional.logsigmoid(-dq.logits)
        return (dp.probs * one + (1 - dp.probs) * zero).sum(-1)
    # SB3 leaves the independent dimensions of Gaussians unsummed.
    return sum_independent_dims(sb3_kl_divergence(p, q))


def entropy(p: Distribution) -> th.Tensor:
    """
    H(p), in closed form.

    :param p: the distribution
    :return: shape (n,), in nats; of Gaussians the differential entropy
    """
    return cross_entropy_of(p, p)


def cross_entropy(teacher: Distribution, student: Distribution) -> th.Tensor:
    """H×(π‖π_θ), shape (n,). Czarnecki et al. 2019, table 1; minimising it replicates the teacher."""
    return cross_entropy_of(teacher, student)


def kl(teacher: Distribution, student: Distribution) -> th.Tensor:
    """KL(π‖π_θ) = H×(π‖π_θ) − H(π), shape (n,): the same gradient in θ, and 0 for a perfect copy."""
    return kl_of(teacher, student)


def reverse_cross_entropy(teacher: Distribution, student: Distribution) -> th.Tensor:
    """H×(π_θ‖π), shape (n,). Czarnecki et al. 2019, table 1; its minimum is the teacher's most probable action."""
    return cross_entropy_of(student, teacher)


def reverse_kl(teacher: Distribution, student: Distribution) -> th.Tensor:
    """KL(π_θ‖π) = H×(π_θ‖π) − H(π_θ), shape (n,): 0 for a perfect copy."""
    return kl_of(student, teacher)
