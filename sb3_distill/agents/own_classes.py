"""Classes of somebody's own in a checkpoint: they are not imported because a file names them, and what to do is said."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: arguments of a network that are classes
CLASSES = ("features_extractor_class", "activation_fn")
#: whose ``load`` reads a zip: by a part of its policy's module, and else by a setting that it has. The first line that fits
_BY_MODULE = {
    "maskable": "MaskablePPO",
    "recurrent": "RecurrentPPO",
    "qrdqn": "QRDQN",
    "dqn": "DQN",
    "sac": "SAC",
    "td3": "TD3",
    "tqc": "TQC",
    "crossq": "CrossQ",
    "ars": "ARS",
}
_BY_SETTING = {
    "clip_range": "PPO",
    "cg_max_steps": "TRPO",
    "gae_lambda": "A2C",
    "n_quantiles": "QRDQN",
    "exploration_fraction": "DQN",
    "target_entropy": "SAC",
    "policy_delay": "TD3",
}


class OwnClassError(ValueError):
    """An argument of a network is a class that is not known here. The message names it, for the middle of a sentence."""


def named_class(name: str, value: Any) -> str | None:
    """
    :param name: of an argument of a network
    :param value: that is not known here
    :return: the argument and the class that it is; None if it is no name of a class
    """
    match = re.fullmatch(r"<class '([\w.<>]{1,200})'>", value) if name in CLASSES and isinstance(value, str) else None
    return f"{name}={match[1]}" if match else None


def algorithm_of(policy_class: str, data: Mapping[str, Any]) -> str:
    """
    :param policy_class: the qualified name of a policy's class
    :param data: settings of the algorithm
    :return: whose ``load`` reads it, as far as these tell
    """
    parts = policy_class.split(".")
    known = next((name for part, name in _BY_MODULE.items() if part in parts[:-1]), None)
    return known or next((name for setting, name in _BY_SETTING.items() if setting in data), "PPO")


def remedy(path: Path, loader: str) -> str:
    """
    :param path: of the file
    :param loader: the class whose ``load`` reads it
    :return: what to do, for the end of a message
    """
    return (
        "which is not imported from here: in Python, where that class can be imported, "
        f'load_teacher({loader}.load("{path}")) takes it.'
    )
