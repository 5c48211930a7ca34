"""A teacher's distribution among the actions that are allowed: what is forbidden has no probability, all else its share of the rest."""

import numpy as np
import torch as th
from gymnasium import spaces

from sb3_distill.common.masks import factors

#: the logit that sb3-contrib gives to what is forbidden: its probability is 0, and 0 times it is 0, as 0 · (−inf) is not
FORBIDDEN = -1e8


def masked(space: spaces.Space, params: th.Tensor, masks: np.ndarray) -> th.Tensor:
    """
    π(a|s) / Σ_b π(b|s), the sum over the allowed actions; 0 for the others. Of ``MultiDiscrete`` and ``MultiBinary`` each factor by
    itself.

    :param space: of actions
    :param params: of π, shape (n, columns), see :mod:`sb3_distill.rules.distributions`
    :param masks: of the same states, of booleans, see :mod:`sb3_distill.common.masks`; each factor has one that is allowed
    :return: of the same shape, finite where ``params`` are finite for what is allowed
    """
    flags = th.as_tensor(masks, device=params.device)
    if isinstance(space, spaces.MultiBinary):
        zero, one = flags.reshape(len(params), -1, 2).unbind(-1)
        return th.where(one, th.where(zero, params, -FORBIDDEN), FORBIDDEN)
    sizes = factors(space)
    parts = zip(params.split(sizes, dim=-1), flags.split(sizes, dim=-1), strict=True)
    return th.cat([_renormalised(part, allowed) for part, allowed in parts], dim=-1)


def allowed_values(values: th.Tensor, masks: np.ndarray | th.Tensor) -> th.Tensor:
    """
    :param values: of discrete actions, shape (n, |A|)
    :param masks: of the same states
    :return: the same, with −inf for what is forbidden
    """
    return th.where(th.as_tensor(masks, device=values.device), values, -th.inf)


def _renormalised(logits: th.Tensor, allowed: th.Tensor) -> th.Tensor:
    log_probs = allowed_values(logits, allowed)
    # Differences first: a teacher that is sure of what is forbidden leaves all others the same large number.
    log_probs = (log_probs - log_probs.amax(-1, keepdim=True)).log_softmax(-1)
    return th.where(allowed, log_probs, FORBIDDEN)
