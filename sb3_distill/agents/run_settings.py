"""Where a student of ``sb3-distill distill`` was trained, from what the run wrote beside it: ``results.json``, or ``settings.json``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym

from sb3_distill.agents.training import PART, Training, training, usual_training

#: what a run is called in its folder
STUDENT = "student.zip"
#: what says where it was trained; the first that there is
FILES = ("results.json", "settings.json")
#: bytes of the largest such file: a million returns fit
MAX_RUN = 1 << 25


def run_file(checkpoint: Path) -> Path | None:
    """
    :param checkpoint: the zip of an agent
    :return: the file beside it that says how the run was set; None if it is no run's
    """
    for name in FILES:
        path = checkpoint.parent / name
        if path.is_file() and _settings(path) is not None:
            return path
    return None


def environment_named(path: Path) -> str | None:
    """
    :param path: a :func:`run_file`
    :return: the environment as it was typed, ``MODULE:ID`` or ``ID``
    """
    settings = _settings(path) or {}
    return settings["env"] if isinstance(settings.get("env"), str) else None


def read_run(path: Path) -> Training:
    """
    :param path: a :func:`run_file`
    :return: where the student was trained. Its environment is only known if it is registered: no module is imported because a file
        names it
    :raises CheckpointError: for values of other kinds than a run's
    """
    settings = _settings(path) or {}
    named = environment_named(path)
    env_id = named.rpartition(":")[2] if named else None
    if named and ":" in named and env_id not in gym.registry:
        env_id = None
    config = settings.get("environment")
    if isinstance(config, Mapping):
        return training(env_id, config, settings.get("env_kwargs"), path)
    usual = usual_training(env_id) if env_id else Training(None)
    return usual._replace(env_kwargs=training(env_id, {}, settings.get("env_kwargs"), path).env_kwargs)


def environment_config(trained: Training) -> dict[str, Any]:
    """
    :param trained: where a student is trained
    :return: what :func:`read_run` reads as ``environment``, for JSON: in the words of the RL Zoo's config.yml
    """
    part = {} if trained.key is None else {"vec_env_wrapper": [{PART: {"key": trained.key}}]}
    return {
        "env_kwargs": dict(trained.env_kwargs),
        "env_wrapper": [{name: arguments} for name, arguments in trained.wrappers],
        "frame_stack": trained.frame_stack,
        **part,
    }


def _settings(path: Path) -> dict[str, Any] | None:
    """What a run was set to; None if the file is none of these."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_RUN + 1)
        data = json.loads(text) if len(text) <= MAX_RUN else None
    except OSError:
        return None
    except (ValueError, RecursionError):
        return None
    if isinstance(data, dict) and path.name == FILES[0] and isinstance(data.get("settings"), dict):
        data = {**data["settings"], "environment": data.get("environment")}
    return data if isinstance(data, dict) and isinstance(data.get("method"), str) else None
