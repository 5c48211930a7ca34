"""States that a loaded model has met: read from its replay buffer, which is left as it is."""

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_distill.rules.temperature import ENOUGH_STATES

#: Of the states that an off-policy algorithm keeps, the last ones are those of its present policy.
LAST = 10_000
#: how many of these are read, evenly spread, and how many at once: of images, a kilobyte to some hundred each
N_STATES, AT_ONCE = 1_024, 256


def recent_states(model: BaseAlgorithm) -> list[Any] | None:
    """
    States that a model has lately been in.

    :param model: of any algorithm
    :return: batches of observations as the environment gave them, before any ``VecNormalize``: SB3 keeps those; None if the model
        has no replay buffer, or fewer than 256 states in it
    """
    buffer = getattr(model, "replay_buffer", None)
    if buffer is None:
        return None
    n_envs = buffer.n_envs
    n = min(buffer.size(), -(-LAST // n_envs)) * n_envs
    if n < ENOUGH_STATES:
        return None
    steps, envs = np.divmod(np.linspace(0, n - 1, min(n, N_STATES)).astype(np.int64), n_envs)
    # The last step stands before ``pos``. (With optimize_memory_usage, ``pos`` itself holds the state that came of it.)
    rows = (buffer.pos - 1 - steps) % buffer.buffer_size
    space = model.observation_space
    batches: list[Any] = []
    for first in range(0, len(rows), AT_ONCE):
        part = rows[first : first + AT_ONCE], envs[first : first + AT_ONCE]
        if isinstance(space, spaces.Dict):
            batches.append({key: _states(buffer.observations[key], sub, part) for key, sub in space.spaces.items()})
        else:
            batches.append(_states(buffer.observations, space, part))
    return batches


def _states(kept: np.ndarray, space: spaces.Space, rows: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """SB3 keeps ``Discrete`` observations with an axis of their own."""
    return kept[rows].reshape(-1, *(space.shape or ()))
