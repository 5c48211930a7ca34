"""Whether a memory is of the environment, the actions and the teacher that a student is for."""

import json
import re
import warnings
from collections.abc import Mapping
from typing import Any

from gymnasium import spaces

from sb3_distill.common.spaces import same_actions, same_kind
from sb3_distill.memory.memory import About


def check_memory(
    about: About,
    observation_space: spaces.Space | None = None,
    action_space: spaces.Space | None = None,
    env_id: str | None = None,
    teacher: str | None = None,
    fingerprint: str | None = None,
    name: str = "The memory",
) -> None:
    """
    :param about: what the memory is of
    :param observation_space: of the student
    :param action_space: of the student
    :param env_id: where the student acts. An id that the memory does not know is not compared
    :param teacher: name of the teacher that it should be of
    :param fingerprint: of that teacher, see :func:`~sb3_distill.memory.fingerprint.fingerprint_of`. Where the memory has one, too,
        these are compared, and names are not; else names that are paths with the same last part are a warning
    :param name: of the memory, for the message
    :raises ValueError: for the first of these that is given and differs; both are shown
    """
    _check_places(about, observation_space, action_space, env_id, name)
    _check_teacher(about, teacher, fingerprint, name)


def _check_places(
    about: About,
    observation_space: spaces.Space | None,
    action_space: spaces.Space | None,
    env_id: str | None,
    name: str,
) -> None:
    if env_id is not None and about.env_id is not None and env_id != about.env_id:
        raise ValueError(
            f"{name} is of another environment: it was recorded in {about.env_id!r}, and the student is for {env_id!r}."
        )
    for kind, mine, theirs, fits in (
        ("observation", about.observation_space, observation_space, same_kind),
        ("action", about.action_space, action_space, same_actions),
    ):
        if theirs is not None and not fits(mine, theirs):
            raise ValueError(
                f"{name} does not fit the student: its {kind} space is {mine}, the student's is {theirs}. Record one in the "
                "student's environment."
            )


def check_arguments(about: About, env_kwargs: Mapping[str, Any], name: str = "The memory") -> None:
    """
    Warn where a student plays in an environment with other arguments than that of its memory.

    :param about: what the memory is of; one that does not know its arguments is not compared
    :param env_kwargs: of the student's environment
    :param name: of the memory, for the message
    """
    theirs = about.env_kwargs
    if theirs is None or json.loads(json.dumps(dict(env_kwargs), default=str)) == dict(theirs):
        return
    shown = [" ".join(f"{key}={value}" for key, value in kwargs.items()) or "none" for kwargs in (theirs, env_kwargs)]
    warnings.warn(
        f"{name} was recorded in {about.env_id!r} with the arguments {shown[0]}, and the student's environment has {shown[1]}: it "
        "learns of one and is compared in the other.",
        stacklevel=2,
    )


def _check_teacher(about: About, teacher: str | None, fingerprint: str | None, name: str) -> None:
    if fingerprint is not None and about.fingerprint is not None:
        if fingerprint != about.fingerprint:
            raise ValueError(
                f"{name} is of another teacher: of {about.teacher!r} with the weights {about.fingerprint[:8]}…, not of "
                f"{teacher!r} with the weights {fingerprint[:8]}…. Give that teacher, or leave teacher out."
            )
        return
    if teacher is None or teacher == about.teacher:
        return
    if _without_place(teacher) != _without_place(about.teacher):
        raise ValueError(f"{name} is of another teacher: of {about.teacher!r}, not of {teacher!r}.")
    warnings.warn(
        f"{name} knows its teacher by its name alone, {about.teacher!r}, and the one given is {teacher!r}: it is taken for the "
        "same in another folder. A memory that is recorded now knows its teacher's weights.",
        stacklevel=3,
    )


def _without_place(name: str) -> str:
    """A path's last part, which stays when its folder is moved or copied; of a name as the zoo's, "ALGO/ENV", all."""
    parts = re.split(r"[/\\]", name)
    return name if len(parts) <= 2 and not name.endswith(".zip") else parts[-1]
