"""What a file says about itself: names, shapes and dtypes, and in words what is in it."""

import json
from importlib.metadata import version
from pathlib import PurePath
from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_distill.agents.inspection import describe_space
from sb3_distill.exporting.agent import Exportable
from sb3_distill.exporting.recipe import Port, Recipe
from sb3_distill.teachers.onnx_function import MASKS

#: the name of this package's version in it
VERSION = "sb3_distill_version"


def metadata_of(agent: Exportable, recipe: Recipe) -> dict[str, str]:
    """
    :param agent: who is exported
    :param recipe: what it does
    :return: text by name; ``inputs``, ``outputs`` and ``recipe`` are JSON
    """
    space = agent.policy.action_space
    found = {
        VERSION: version("sb3-distill"),
        "agent": PurePath(agent.name).name if PurePath(agent.name).is_absolute() else agent.name,
        "policy": type(agent.policy).__name__,
        "environment": agent.env_id or "",
        "observation_space": describe_space(agent.observation_space),
        "action_space": describe_space(space),
        "inputs": json.dumps([_port(port) for port in recipe.inputs]),
        "outputs": json.dumps([_port(port) for port in recipe.outputs]),
        "recipe": json.dumps(steps(agent, recipe), ensure_ascii=False),
    }
    start = np.asarray(getattr(space, "start", 0))
    if start.any():
        found["action_start"] = json.dumps(start.tolist())
    return found


def steps(agent: Exportable, recipe: Recipe) -> list[str]:
    """
    :param agent: who is exported
    :param recipe: what it does
    :return: what becomes of an observation, in words
    """
    found = []
    for port in recipe.observations:
        normalizer = recipe.normalizer_of(port)
        if normalizer is not None:
            frames = f", each of {normalizer.n_frames} frames" if normalizer.n_frames > 1 else ""
            found.append(f"{port.name}: (x - mean) / sqrt(var + epsilon), clipped to ±{normalizer.clip:g}{frames}")
        if recipe.layouts[port.name]:
            found.append(f"{port.name}: channels first, where the input has them last")
        if recipe.is_scaled_image(port):
            found.append(f"{port.name}: divided by 255")
    if any(port.name == MASKS for port in recipe.extras):
        found.append(f"{MASKS}: true where an action is allowed; all true where nothing is known")
    found.append(f"the network of {type(agent.policy).__name__}")
    found.append(_action_in_words(agent.policy.action_space, recipe))
    return found


def _action_in_words(space: spaces.Space, recipe: Recipe) -> str:
    if isinstance(space, spaces.Box):
        if recipe.unsquashes:
            return "action: from [-1, 1] to the bounds of the action space"
        return "action: the mean, clipped to the bounds of the action space" if recipe.clips else "action: the mean"
    if isinstance(space, spaces.MultiBinary):
        return "action: 1 where its probability is over a half"
    counted = "" if not np.asarray(getattr(space, "start", 0)).any() else ", counted from 0 as SB3 counts them"
    return f"action: the argmax of its scores{counted}"


def _port(port: Port) -> dict[str, Any]:
    return {"name": port.name, "shape": list(port.full_shape), "dtype": port.dtype} | (
        {} if port.key is None else {"key": port.key}
    )
