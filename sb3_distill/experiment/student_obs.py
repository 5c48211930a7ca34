"""What a student is to see, where its teacher sees something else: ``pixels``, or a part of Dict observations."""

from dataclasses import dataclass
from typing import NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_distill.agents.training import Training
from sb3_distill.common.spaces import same_kind
from sb3_distill.envs.parts import VecParts
from sb3_distill.envs.pixels import (
    FRAMES,
    LARGEST,
    PIXELS,
    SIZE,
    SMALLEST,
    STATE,
    PixelObservation,
    check_draws,
    render_modes,
)
from sb3_distill.teachers.teacher import Teacher

#: frames of the deepest stack
MOST_FRAMES = 64


class Seen(NamedTuple):
    """
    What was asked for.

    :param key: of Dict observations, or ``pixels``
    :param size: of pictures that are drawn, if it was given
    :param rgb: whether they have three colours
    :param frames: how many observations are seen at once, if it was given
    :param inverted: whether white is black in them
    """

    key: str
    size: int | None = None
    rgb: bool = False
    frames: int | None = None
    inverted: bool = False


def parsed(text: str) -> Seen:
    """
    >>> parsed("pixels:42:frames=2")
    Seen(key='pixels', size=42, rgb=False, frames=2, inverted=False)

    :param text: a key and what else is wanted, with colons between them: a size, ``rgb``, ``inverted``, ``frames=N``
    :return: the same
    :raises ValueError: for what is none of these
    """
    key, *options = text.split(":")
    seen = Seen(key)
    for option in options:
        name, _, number = option.rpartition("=")
        if option == "rgb":
            seen = seen._replace(rgb=True)
        elif option == "inverted":
            seen = seen._replace(inverted=True)
        elif number.isdecimal() and number.isascii() and name in ("", "frames") and len(number) < 9:
            seen = seen._replace(frames=int(number)) if name else seen._replace(size=int(number))
        else:
            raise ValueError(
                f"student_obs={text!r} has {option!r}, which is none of a size in pixels, rgb, inverted and frames=N: write 'pixels', "
                "'pixels:42', 'pixels:84:rgb', 'pixels:42:inverted', 'pixels:42:frames=2', or a key of the environment's Dict."
            )
    if not key:
        raise ValueError(
            f"student_obs={text!r} names nothing to see: write 'pixels', or a key of the environment's Dict."
        )
    if seen.size is not None and not SMALLEST <= seen.size <= LARGEST:
        raise ValueError(f"student_obs={text!r}: pictures have {SMALLEST} to {LARGEST} pixels of a side.")
    if seen.frames is not None and not 1 <= seen.frames <= MOST_FRAMES:
        raise ValueError(f"student_obs={text!r}: 1 to {MOST_FRAMES} frames can be seen at once.")
    return seen


class Sight(NamedTuple):
    """
    Who sees what.

    :param student: where the student is trained and plays, as it sees it
    :param teacher: where the teacher plays alone: as it reads it, and without pictures that it does not look at
    :param teacher_obs: puts the teacher's wrappers around what is beneath the student's
    """

    student: Training
    teacher: Training
    teacher_obs: "TeacherObs"


@dataclass(frozen=True)
class TeacherObs:
    """
    Puts a teacher's wrappers around an environment of Dict observations, as ``teacher_obs``.

    :param trained: where the teacher was trained
    :param keys: what it reads of the Dict
    """

    trained: Training
    keys: str | tuple[str, ...]

    def __call__(self, venv: VecEnv) -> VecEnv:
        return self.trained._replace(key=None).stack(VecParts(venv, self.keys))


def sight(trained: Training, text: str, teacher: Teacher, remembers: bool) -> Sight:
    """
    :param trained: where the teacher was trained, or plays now
    :param text: of ``student_obs``
    :param teacher: who
    :param remembers: whether the student does, which needs no stack of frames
    :return: who sees what
    :raises ValueError: for an environment that draws no pictures, a key that there is not, and a teacher that can read nothing of it
    """
    if trained.atari is not None:
        raise ValueError(f"student_obs={text!r}: {trained.env_id} shows pictures already: leave it out.")
    env = trained.make_env()
    try:
        shown = env.observation_space
        parts = shown.spaces if isinstance(shown, spaces.Dict) else {}
        seen = Seen(text) if text in parts else parsed(text)
        student = trained._replace(key=seen.key)
        picture: spaces.Space = spaces.Box(0, 255, (SIZE, SIZE, 1), np.uint8)
        if seen.key in parts:
            picture = parts[seen.key]
            if seen.size is not None or seen.rgb or seen.inverted:
                raise ValueError(
                    f"student_obs={text!r}: the environment shows {seen.key!r} already, {picture}, and a size, rgb and inverted are of "
                    "pictures that are drawn: leave them out."
                )
        elif seen.key == PIXELS:
            arguments = {**trained.env_kwargs, **drawing_arguments(env)}
            wrapper = (
                PixelObservation.__qualname__,
                {"size": seen.size or SIZE, "rgb": seen.rgb, "inverted": seen.inverted},
            )
            student = student._replace(env_kwargs=arguments, wrappers=(*trained.wrappers, wrapper))
        else:
            also = f" It shows no Dict, but {shown}." if not parts else f" Its Dict has {', '.join(map(repr, parts))}."
            raise ValueError(
                f"student_obs={text!r}: {trained.env_id} has no observation {seen.key!r}.{also} Pictures of it are 'pixels'."
            )
        keys = read_by(teacher, DummyVecEnv([lambda: env]), trained, seen.key) if parts else STATE
    finally:
        env.close()
    frames = seen.frames or (FRAMES if is_image_space(picture) and not remembers else 1)
    alone = trained._replace(key=keys) if parts and isinstance(keys, str) else trained
    return Sight(student._replace(frame_stack=frames), alone, TeacherObs(trained, keys))


def drawing_arguments(env: gym.Env) -> dict[str, str]:
    """
    :param env: as it is made without pictures
    :return: arguments with which it draws them
    :raises ValueError: if there are none
    """
    modes = render_modes(env)
    if env.render_mode == "rgb_array":
        return {}
    if env.render_mode is None and "rgb_array" in modes:
        return {"render_mode": "rgb_array"}
    check_draws(env)
    return {}


def read_by(teacher: Teacher, env: VecEnv, trained: Training, shown: str) -> str | tuple[str, ...]:
    """
    :param teacher: who
    :param env: of Dict observations
    :param trained: where the teacher was trained
    :param shown: the student's key
    :return: what the teacher reads of it: the whole Dict, or a key
    :raises ValueError: if it can read nothing of it, or several parts
    """
    assert isinstance(env.observation_space, spaces.Dict)
    every = tuple(env.observation_space.spaces)
    if trained.key is not None:
        return trained.key
    if not teacher.knows_spaces:  # a function of the user's, for this environment
        return every
    mine = teacher.observation_space
    choices: list[str | tuple[str, ...]] = [every, *sorted(every, key=lambda key: key == shown)]
    seen = [(keys, _space(TeacherObs(trained, keys), env)) for keys in choices]
    fits = [keys for keys, space in seen if space is not None and same_kind(space, mine)]
    if not fits:
        raise ValueError(
            f"The teacher {teacher.name} can read nothing of what the environment shows: its observation space is {mine}, the "
            f"environment's is {env.observation_space}."
        )
    several = [keys for keys in fits if keys != shown]
    if len(several) > 1 and every not in several:
        raise ValueError(
            f"The teacher {teacher.name} could read {' or '.join(map(repr, several))} of what the environment shows: in Python, say which: "
            f"NDistill(…, teacher_obs={several[0]!r})."
        )
    return fits[0]


def _space(teacher_obs: TeacherObs, env: VecEnv) -> spaces.Space | None:
    """What a teacher would see; None where its frames cannot be stacked."""
    try:
        return teacher_obs(env).observation_space
    except (AssertionError, NotImplementedError, TypeError):
        return None
