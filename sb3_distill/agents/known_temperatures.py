"""Temperatures that were looked for before: of the bundled agents and of the RL Zoo's published ones, each for its very weights."""

import json
from functools import cache
from typing import Any

import gymnasium as gym

from sb3_distill.agents.find import BUNDLED
from sb3_distill.rules.temperature import Choice
from sb3_distill.teachers.fingerprint import fingerprint_of
from sb3_distill.teachers.q_network import QTeacher

#: ``python -m sb3_distill.zoo.benchmarks.loading temperatures`` writes it
FILE = BUNDLED / "temperatures.json"


def known_choice(teacher: QTeacher) -> Choice | None:
    """
    What the search would find, without playing.

    :param teacher: that may have been searched for before
    :return: the temperature that was found for the same weights in the same environment; None if there is none
    """
    found = key_of(teacher)
    known = None if found is None else _known().get(found[0])
    if known is None or known["environment"] != found[1]:  # type: ignore[index]
        return None
    return Choice(known["temperature"], known["report"])


def key_of(teacher: QTeacher) -> tuple[str, dict[str, Any]] | None:
    """
    :param teacher: of a checkpoint
    :return: what its temperature depends on: a digest of its weights, and its environment as it is registered now, as JSON has it; None
        where that is no plain one
    """
    spec = gym.registry.get(teacher.env_id or "")
    if spec is None or teacher.make_env is not None:
        return None
    environment = {
        "id": spec.id,
        "entry_point": str(spec.entry_point),
        "kwargs": {name: repr(value) for name, value in spec.kwargs.items()},
        "max_episode_steps": spec.max_episode_steps,
        "wrappers": [repr(wrapper) for wrapper in spec.additional_wrappers],
    }
    return fingerprint_of(teacher), environment


@cache
def _known() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
