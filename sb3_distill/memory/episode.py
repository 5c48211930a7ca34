"""An episode, in RAM and as a group of an HDF5 file in the layout of Minari.

=========================  ===================  ==============================================================================
``observations``           (T + 1, …)           of a Dict space, a group of such; of images, a virtual dataset over ``planes``
``planes``                 (C + T c, h, w)      of images alone, see :mod:`~sb3_distill.memory.planes`; chunked, gzip
``actions``                (T, …)               as they were executed
``rewards``                (T,)                 the environment's own
``terminations``           (T,)                 bool; True at most in the last step
``truncations``            (T,)                 bool; likewise: a time limit, or the end of the recording
``infos/q_values``         (T, A)               what the teacher said, or ``infos/parameters``
=========================  ===================  ==============================================================================

The attribute ``total_steps`` is Minari's. ``played`` has which environment it was, which of its episodes, how many steps it
had made by the end, and c of each part of the observation that is an image.
"""

from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from sb3_distill.memory.errors import DamagedMemoryError
from sb3_distill.memory.hdf5 import h5py
from sb3_distill.memory.memory import About
from sb3_distill.memory.planes import channel_axis, is_image, plane_shape, to_planes
from sb3_distill.rules.distributions import parameter_size

#: bytes of planes that are compressed together: more of them compress no better
CHUNK_BYTES = 1 << 18
#: bytes of the largest chunk that is read, which one plane may need
MAX_CHUNK = 1 << 26


class Episode(NamedTuple):
    """T steps in one environment.

    :param env: which of the environments, from 0
    :param number: which of its episodes, from 0
    :param end: steps that this environment had made when the episode ended
    :param observations: by the names of :func:`parts`: the T + 1 observations, or of images their planes
    :param actions: shape (T, …)
    :param rewards: shape (T,), float32
    :param terminated: whether its last state is terminal
    :param truncated: whether it was cut: by a time limit, or by the end of the recording
    :param answers: the teacher's, shape (T, columns), float32
    """

    env: int
    number: int
    end: int
    observations: dict[str, np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    truncated: bool
    answers: np.ndarray

    def __len__(self) -> int:  # type: ignore[override]
        return len(self.rewards)


class Played(NamedTuple):
    """What a recording that goes on must know of an episode.

    :param actions: shape (T, …)
    :param rewards: shape (T,)
    :param first: the first observation, by the names of :func:`parts`: of images, their planes
    :param terminated: whether the last state is terminal
    """

    actions: np.ndarray
    rewards: np.ndarray
    first: dict[str, np.ndarray]
    terminated: bool


class Entry(NamedTuple):
    """Where an episode is on disk.

    :param file: number of the file
    :param group: name of the group in it
    :param env: as in :class:`Episode`
    :param number: as in :class:`Episode`
    :param end: as in :class:`Episode`
    :param n_steps: T
    :param n_new: c of each image, in the order of :func:`parts`
    """

    file: int
    group: str
    env: int
    number: int
    end: int
    n_steps: int
    n_new: tuple[int, ...]


def parts(space: spaces.Space) -> dict[str, spaces.Space]:
    """
    :param space: of observations
    :return: the arrays that they are made of: from the name of the dataset to the space
    :raises ValueError: for a key of a Dict space that cannot be a name in HDF5
    """
    if not isinstance(space, spaces.Dict):
        return {"observations": space}
    for key in space.spaces:
        if not key or "/" in key or key == "." or "\0" in key:
            raise ValueError(f"An observation's key {key!r} cannot be stored: rename it, without '/'.")
    return {f"observations/{key}": part for key, part in space.spaces.items()}


def part_of(obs: Any, name: str) -> Any:
    """
    :param obs: an observation, or n of them
    :param name: one of :func:`parts`
    :return: the array of that name
    """
    return obs[name.partition("/")[2]] if isinstance(obs, dict) else obs


def stored(obs: Any, space: spaces.Space) -> dict[str, np.ndarray]:
    """
    An observation as it is stored, in memory of its own: environments write the next one over theirs.

    :param obs: of one environment
    :param space: of the observations
    :return: by the names of :func:`parts`: the array, or the planes of an image
    """
    found = {}
    for name, part in parts(space).items():
        value = np.array(part_of(obs, name), dtype=part.dtype)
        found[name] = to_planes(part, value) if is_image(part) else value
    return found


def n_columns(about: About) -> int:
    """
    :param about: what a memory is of
    :return: how many numbers the teacher says about a state
    """
    return parameter_size(about.action_space)


def group_name(env: int, number: int) -> str:
    """
    :param env: which environment
    :param number: which of its episodes
    :return: the name of its group
    """
    return f"env_{env}_episode_{number}"


# --- writing ----------------------------------------------------------------------------------------------------------


def write_episode(file: Any, episode: Episode, about: About) -> None:
    """
    :param file: an open HDF5 file
    :param episode: to be a new group in it
    :param about: what the memory is of
    """
    group = file.create_group(group_name(episode.env, episode.number))
    n_steps, n_new = len(episode), []
    for name, space in parts(about.observation_space).items():
        array = episode.observations[name]
        if is_image(space):
            n_new.append((len(array) - plane_shape(space)[0]) // n_steps)
            _write_image(group, name, space, array, n_new[-1])
        else:
            group.create_dataset(name, data=array)
    last = np.zeros(n_steps, dtype=bool)
    last[-1] = True
    group.create_dataset("actions", data=episode.actions)
    group.create_dataset("rewards", data=episode.rewards)
    group.create_dataset("terminations", data=last & episode.terminated)
    group.create_dataset("truncations", data=last & episode.truncated)
    group.create_dataset(f"infos/{about.kind}", data=episode.answers)
    group.attrs["total_steps"] = n_steps
    group.attrs["played"] = np.array([episode.env, episode.number, episode.end, *n_new], dtype=np.int64)


def _write_image(group: Any, name: str, space: spaces.Space, planes: np.ndarray, n_new: int) -> None:
    in_a_chunk = int(np.clip(CHUNK_BYTES // planes[0].nbytes, 1, len(planes)))
    stored = group.create_dataset(
        _planes(name),
        data=planes,
        chunks=(in_a_chunk, *planes.shape[1:]),
        compression="gzip",
        compression_opts=1,
        shuffle=planes.itemsize > 1,
    )
    channels = plane_shape(space)[0]
    n = (len(planes) - channels) // n_new + 1
    axis = channel_axis(space) + 1
    layout = h5py.VirtualLayout((n, *(space.shape or ())), planes.dtype)
    source = h5py.VirtualSource(".", stored.name, planes.shape)
    for channel in range(channels):
        where = (slice(None), channel) if axis == 1 else (slice(None), slice(None), slice(None), channel)
        layout[where] = source[channel : channel + (n - 1) * n_new + 1 : n_new]
    group.create_virtual_dataset(name, layout)


def _planes(name: str) -> str:
    return name.replace("observations", "planes", 1)


# --- reading ----------------------------------------------------------------------------------------------------------


def read_entry(file: Any, number: int, group: str, about: About) -> Entry:
    """
    :param file: an open HDF5 file
    :param number: of the file
    :param group: name of an episode
    :param about: what the memory is of
    :return: the episode's entry
    :raises DamagedMemoryError: if the group is no episode
    """
    images = [space for space in parts(about.observation_space).values() if is_image(space)]
    try:
        attributes = _child(file, group, h5py.Group, file.filename).attrs
        n_steps = int(attributes["total_steps"])
        env, which, end, *n_new = (int(n) for n in np.asarray(attributes["played"], dtype=np.int64).ravel())
        if min(env, which, n_steps - 1, end - n_steps, *n_new) < 0 or len(n_new) != len(images):
            raise ValueError(f"its numbers are {[env, which, end, n_steps, *n_new]}")
        if not all(c >= 1 and plane_shape(space)[0] % c == 0 for c, space in zip(n_new, images, strict=True)):
            raise ValueError(f"its images have {n_new} new planes")
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise DamagedMemoryError(f"{file.filename} is damaged: {group[:80]!r} is no episode: {error}.") from error
    return Entry(number, group, env, which, end, n_steps, tuple(n_new))


def read_episode(file: Any, entry: Entry, about: About) -> Episode:
    """
    :param file: the open HDF5 file
    :param entry: of the episode
    :param about: what the memory is of
    :return: the episode
    :raises DamagedMemoryError: if an array is not what it should be
    """
    n = entry.n_steps
    observations = {name: dataset[...] for name, dataset in observation_columns(file, entry, about).items()}
    return Episode(
        entry.env,
        entry.number,
        entry.end,
        observations,
        action_column(file, entry, about)[...],
        column(file, entry, "rewards", (n,), np.float32)[...],
        bool(column(file, entry, "terminations", (n,), np.bool_)[-1]),
        bool(column(file, entry, "truncations", (n,), np.bool_)[-1]),
        answer_column(file, entry, about)[...],
    )


def read_played(file: Any, entry: Entry, about: About) -> Played:
    """
    :param file: the open HDF5 file
    :param entry: of the episode
    :param about: what the memory is of
    :return: what is needed to play the episode again
    :raises DamagedMemoryError: if an array is not what it should be
    """
    columns, of = observation_columns(file, entry, about), parts(about.observation_space)
    return Played(
        action_column(file, entry, about)[...],
        column(file, entry, "rewards", (entry.n_steps,), np.float32)[...],
        {
            name: columns[name][: plane_shape(space)[0]] if is_image(space) else columns[name][0]
            for name, space in of.items()
        },
        bool(column(file, entry, "terminations", (entry.n_steps,), np.bool_)[-1]),
    )


def action_column(file: Any, entry: Entry, about: About) -> Any:
    """
    :param file: the open HDF5 file
    :param entry: of an episode
    :param about: what the memory is of
    :return: the dataset of the executed actions, shape (T, …)
    :raises DamagedMemoryError: if it is not what it should be
    """
    space = about.action_space
    return column(file, entry, "actions", (entry.n_steps, *(space.shape or ())), space.dtype)


def observation_columns(file: Any, entry: Entry, about: About) -> dict[str, Any]:
    """
    :param file: the open HDF5 file
    :param entry: of an episode
    :param about: what the memory is of
    :return: the dataset of each part of the observations: T + 1 rows, or of images C + T c planes
    :raises DamagedMemoryError: if one is not what it should be
    """
    n, n_new = entry.n_steps, iter(entry.n_new)
    columns = {}
    for name, space in parts(about.observation_space).items():
        if is_image(space):
            channels, *size = plane_shape(space)
            columns[name] = column(file, entry, _planes(name), (channels + n * next(n_new), *size), space.dtype)
        else:
            columns[name] = column(file, entry, name, (n + 1, *(space.shape or ())), space.dtype)
    return columns


def answer_column(file: Any, entry: Entry, about: About) -> Any:
    """
    :param file: the open HDF5 file
    :param entry: of an episode
    :param about: what the memory is of
    :return: the dataset of the teacher's answers, shape (T, columns)
    :raises DamagedMemoryError: if it is not what it should be
    """
    return column(file, entry, f"infos/{about.kind}", (entry.n_steps, n_columns(about)), np.float32)


def column(file: Any, entry: Entry, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
    """
    A dataset, after a look at whether it is one: HDF5 may say that its numbers are in any other file of the computer, or
    that a few bytes stand for more than memory holds.

    :param file: the open HDF5 file
    :param entry: of the episode
    :param name: of the dataset in its group
    :param shape: that it must have
    :param dtype: of its numbers
    :return: it
    :raises DamagedMemoryError: for anything else
    """
    where = f"{file.filename} is damaged: {entry.group}/{name}"
    node = file
    *groups, last = (entry.group, *name.split("/"))
    for group in groups:
        node = _child(node, group, h5py.Group, where)
    found = _child(node, last, h5py.Dataset, where)
    if found.shape != shape or found.dtype != dtype:
        raise DamagedMemoryError(
            f"{where} has the shape {found.shape} and the type {found.dtype}, not {shape} and {np.dtype(dtype)}."
        )
    chunk = found.dtype.itemsize * int(np.prod(found.chunks or (0,), dtype=np.float64))
    if found.is_virtual or found.external or chunk > MAX_CHUNK:
        raise DamagedMemoryError(f"{where} is not stored in the file as a memory's numbers are.")
    return found


def _child(group: Any, name: str, kind: type, where: str) -> Any:
    """What a group holds itself, under a hard link, which points at nothing outside of the file."""
    link = group.get(name, getlink=True)
    found = group.get(name) if isinstance(link, h5py.HardLink) else None
    if not isinstance(found, kind):
        raise DamagedMemoryError(f"{where} is missing, or is not in this file.")
    return found
