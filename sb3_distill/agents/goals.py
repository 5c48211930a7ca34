"""HER as SB3 had it up to 1.0: the policy saw observation and desired goal in one vector, and ``VecNormalize`` each by its key.

Today's environments and statistics have them by key, so the network is rewritten for a ``Dict``: the columns of its first layers
are put in the order of the keys, and those of the achieved goal, which it never saw, are zeros. It answers as it did.
"""

import re
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import CombinedExtractor

from sb3_distill.agents.checkpoint import Checkpoint

GOALS = ("achieved_goal", "desired_goal", "observation")
#: layers that take what the policy sees: of actors, critics and Q-networks
_FIRST = re.compile(r"(actor(_target)?\.(latent_pi|mu)|critic(_target)?\.qf\d+|q_net(_target)?\.q_net)\.0\.weight")


def is_joined(checkpoint: Checkpoint, means: Any) -> bool:
    """
    :param checkpoint: of an agent
    :param means: of its statistics
    :return: whether the agent saw in one vector what its statistics have by key
    """
    space = checkpoint.observation_space
    if not isinstance(means, dict) or set(means) != set(GOALS) or not isinstance(space, spaces.Box):
        return False
    return all(mean.ndim == 1 for mean in means.values()) and space.shape == (
        means["observation"].size + means["desired_goal"].size,
    )


def by_key(checkpoint: Checkpoint, means: dict[str, np.ndarray]) -> Checkpoint:
    """
    :param checkpoint: an agent that :func:`is_joined`
    :param means: of its statistics, by key
    :return: the same agent for observations by key
    """
    joined = checkpoint.observation_space
    assert isinstance(joined, spaces.Box)
    n, goals, size = means["observation"].size, means["achieved_goal"].size, joined.shape[0]
    found: dict[str, spaces.Space] = {
        "achieved_goal": spaces.Box(-np.inf, np.inf, (goals,), joined.dtype.type),
        "desired_goal": spaces.Box(joined.low[n:], joined.high[n:], dtype=joined.dtype.type),
        "observation": spaces.Box(joined.low[:n], joined.high[:n], dtype=joined.dtype.type),
    }

    def rewritten(weight: th.Tensor) -> th.Tensor:
        never_seen = weight.new_zeros((len(weight), goals))
        return th.cat([never_seen, weight[:, n:size], weight[:, :n], weight[:, size:]], dim=1)

    weights = {
        name: rewritten(weight) if _FIRST.fullmatch(name) and weight.ndim == 2 and weight.shape[1] >= size else weight
        for name, weight in checkpoint.weights.items()
    }
    return checkpoint._replace(
        observation_space=spaces.Dict(found),
        policy_kwargs=checkpoint.policy_kwargs | {"features_extractor_class": CombinedExtractor},
        weights=weights,
    )
