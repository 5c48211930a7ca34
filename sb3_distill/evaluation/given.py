"""What play is given: who acts, and what that one answers, before an environment gets it."""

from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_distill.common.spaces import first_action


def check_acts(act: Any) -> None:
    """
    :param act: as it was given
    :raises ValueError: for what is no function
    """
    if not callable(act) or isinstance(act, type):
        given = " ".join(repr(act).split())[:80]
        raise ValueError(
            f"act must be a function from n observations to n actions, a teacher, load_teacher(…), or a model with a predict, not "
            f"{type(act).__name__} {given}."
        )


def checked(said: Any, space: spaces.Space, n: int) -> Any:
    """
    :param said: an answer to n observations; of a ``predict``, the actions and the state
    :param space: of one environment's actions
    :param n: how many
    :return: n actions of the space's kind and shape, where it is one that SB3 knows
    :raises ValueError: if it is something else: what, and what it has to be
    """
    if isinstance(said, tuple) and len(said) == 2 and (said[1] is None or isinstance(said[1], tuple)):
        said = said[0]
    if not isinstance(space, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
        return said
    if hasattr(said, "detach"):
        said = said.detach().cpu().numpy()
    try:
        actions = np.asarray(said)
    except ValueError:  # of different lengths
        actions = np.asarray(None)
    shape = (n, *(space.shape or ()))
    if actions.dtype.kind not in "biuf" or actions.size != np.prod(shape) or actions.shape[:1] != (n,):
        what = f"of shape {actions.shape}" if actions.dtype.kind in "biuf" else f"which are no numbers: {said!r:.80}"
        raise ValueError(
            f"act answers {n} observations with actions {what}: it is asked for n at once, and {n} of {space} have the shape {shape}."
        )
    actions = actions.reshape(shape)
    if isinstance(space, spaces.Box):
        bad = np.isnan(actions)
        why = "which is no number"
    else:
        bad = _not_among(actions, space)
        why = f"and the actions of {space} are whole numbers from 0 on"
    if bad.any():
        i = int(bad.reshape(n, -1).any(axis=1).argmax())
        raise ValueError(f"act answers observation {i + 1} of {n} with {actions[i].tolist()}, {why}.")
    return actions if isinstance(space, spaces.Box) or actions.dtype.kind != "f" else actions.astype(np.int64)


def _not_among(actions: np.ndarray, space: Any) -> np.ndarray:
    """Which are none of the space's, counted from 0 as SB3 does, or as Gymnasium does."""
    n = 2 if isinstance(space, spaces.MultiBinary) else getattr(space, "nvec", getattr(space, "n", 0))
    values, start = actions.astype(np.float64), np.asarray(first_action(space))
    outside = [(values < low) | (values >= low + n) for low in (0, start)]
    return outside[0] & outside[1] | (values != np.floor(values))
