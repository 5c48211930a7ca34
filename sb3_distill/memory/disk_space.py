"""Whether the disk has room for a recording, before it starts."""

import math
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from sb3_distill.memory.episode import n_columns, part_of, parts
from sb3_distill.memory.memory import About
from sb3_distill.memory.planes import is_image

#: A first image is simpler than those to come, so it is counted so many times over. Alone it also compresses less well than
#: in a row: a frame of Pong to 250 bytes instead of 107.
ROOM_FACTOR = 4


def check_room(path: Path, obs: Any, about: About, n_envs: int, n_steps: int) -> None:
    """
    :param path: of the memory's folder, which need not exist
    :param obs: the first observations of all environments
    :param about: what the memory is of
    :param n_envs: how many environments those are
    :param n_steps: that are to be recorded
    :raises OSError: if the disk has not as much room as they will need
    """
    folder = next(parent for parent in (path.resolve(), *path.resolve().parents) if parent.is_dir())
    needed, free = n_steps * bytes_of_a_step(obs, about, n_envs), shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"{n_steps:,} steps will need about {needed / 1e6:,.1f} MB, and {folder} has room for {free / 1e6:,.1f} MB: make "
            "room, choose another path, or record fewer steps."
        )


def bytes_of_a_step(obs: Any, about: About, n_envs: int) -> int:
    """
    What a step takes on disk, about: images as the first ones compress, all else as it is.

    :param obs: the first observations of all environments
    :param about: what the memory is of
    :param n_envs: how many environments those are
    :return: bytes
    """
    action = about.action_space.dtype.itemsize * math.prod(about.action_space.shape or ())  # type: ignore[union-attr]
    total = action + 4 * n_columns(about) + 4 + 2  # answers, reward, two flags
    for name, space in parts(about.observation_space).items():
        array = np.asarray(part_of(obs, name), dtype=space.dtype)
        size = array.nbytes
        if is_image(space):
            size = min(size, ROOM_FACTOR * len(zlib.compress(array.tobytes(), 1)))
        total += math.ceil(size / n_envs)
    return total
