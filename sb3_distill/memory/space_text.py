"""Spaces as plain data in the form of Minari's ``metadata.json``, and back without trusting it."""

from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_distill.agents.saved_spaces import MAX_PARTS, read_space


def space_to_data(space: spaces.Space) -> dict[str, Any]:
    """
    :param space: one of those that SB3 supports
    :return: what Minari's ``serialize_space`` makes of it, of dicts, lists, numbers and strings
    :raises TypeError: for another kind of space
    """
    if isinstance(space, spaces.Dict):
        return {"type": "Dict", "subspaces": {key: space_to_data(part) for key, part in space.spaces.items()}}
    if isinstance(space, spaces.Box):
        bounds = {"low": space.low.tolist(), "high": space.high.tolist()}
        return {"type": "Box", "dtype": str(space.dtype), "shape": list(space.shape), **bounds}
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "dtype": "int64", "start": int(space.start), "n": int(space.n)}
    if isinstance(space, spaces.MultiDiscrete):
        lists = {"nvec": space.nvec.tolist(), "start": space.start.tolist()}
        return {"type": "MultiDiscrete", "dtype": str(space.dtype), **lists}
    if isinstance(space, spaces.MultiBinary):
        return {"type": "MultiBinary", "n": space.n if isinstance(space.n, int) else [int(n) for n in space.n]}
    raise TypeError(f"No memory of {space}: use Box, Dict, Discrete, MultiDiscrete or MultiBinary spaces.")


def space_from_data(data: Any) -> spaces.Space:
    """
    The inverse of :func:`space_to_data`.

    :param data: parsed JSON of any content
    :return: the space
    :raises ValueError: for what is no space, or one of an absurd size
    """
    if not isinstance(data, dict) or not isinstance(data.get("type"), str):
        raise ValueError("it has no description of a space where one belongs.")
    try:
        if data["type"] != "Dict":
            # As SB3 writes a space beside its pickle: one reader of hostile text is enough.
            bounds = {key: _shortened(data[key]) for key in ("low", "high") if key in data}
            return read_space(data | bounds | {":type:": data["type"], "_shape": data.get("shape")})
        if len(data["subspaces"]) > MAX_PARTS or any(part.get("type") == "Dict" for part in data["subspaces"].values()):
            raise ValueError("it has a Dict space of too many parts, or one within another.")
        return spaces.Dict([(key, space_from_data(part)) for key, part in data["subspaces"].items()])
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError(f"its description of a space is damaged: {error!r}.") from error


def _shortened(bound: Any) -> Any:
    """A bound that is the same everywhere as one number: those of an image are long."""
    values = np.unique(np.asarray(bound, dtype=np.float64))
    return values.tolist() if len(values) == 1 else bound
