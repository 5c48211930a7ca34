"""Reading a memory from disk: shuffled, in batches, with no more of it in RAM than is allowed.

If all states fit into the buffer they are read once, and every pass draws them in uniformly random order. If they do not, a
pass fills the buffer with blocks of 256 states in a row, taken in random order from all over the memory, draws from the
buffer in random order, and fills it again. Frames that several states share are in RAM once, as they are on disk.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sb3_distill.common.observations import concatenate_obs
from sb3_distill.common.whole_numbers import check_whole
from sb3_distill.memory.episode import (
    Entry,
    Episode,
    answer_column,
    n_columns,
    observation_columns,
    parts,
    read_episode,
)
from sb3_distill.memory.folder import opened, read_folder
from sb3_distill.memory.memory import About, Batch, Memory
from sb3_distill.memory.planes import from_planes, is_image, plane_shape

#: states in a row that are read at once
BLOCK = 256


class DiskMemory(Memory):
    """
    The states that :func:`~sb3_distill.memory.record` has written.

    Opening it reads every file once and compares checksums. Nothing in the files is executed or unpickled.

    >>> import tempfile
    >>> from stable_baselines3.common.env_util import make_vec_env
    >>> from sb3_distill import load_teacher
    >>> from sb3_distill.memory import DiskMemory, record
    >>> teacher = load_teacher("zoo:dqn/CartPole-v1", temperature=1.0)
    >>> with tempfile.TemporaryDirectory() as path:
    ...     _ = record(teacher, make_vec_env("CartPole-v1", 4), 1_000, path)
    ...     memory = DiskMemory(path)
    ...     [batch.observations.shape for batch in memory.batches(400, seed=0)]
    [(400, 4), (400, 4), (200, 4)]

    :param path: of the folder
    :param buffer_bytes: how much of it may be in RAM at a time
    :raises FileNotFoundError: if there is no memory
    :raises DamagedMemoryError: if a file is truncated, altered, missing, of another memory or of another format
    :raises ValueError: if the buffer is too small for a block of states
    """

    def __init__(self, path: str | Path, buffer_bytes: int = 1 << 30) -> None:
        self.path = Path(path).expanduser()
        self._recorded = read_folder(self.path)
        self.about = self._recorded.settings.about
        self.buffer_bytes = buffer_bytes
        self._blocks = [block for entry in self._recorded.entries for block in blocks_of(entry)]
        self._sizes = [bytes_of(block, self.about) for block in self._blocks]
        if max(self._sizes, default=0) > buffer_bytes:
            raise ValueError(
                f"buffer_bytes must be at least {max(self._sizes):,}, what the largest block of {self.path} takes, not "
                f"{buffer_bytes!r}."
            )
        self._all: Pool | None = None

    def __len__(self) -> int:
        return self._recorded.n_steps

    @property
    def memory_id(self) -> str:
        """Of what it was recorded with: the seed, the teacher's randomness and the like."""
        return self._recorded.settings.memory_id()

    @property
    def seed(self) -> int:
        """Of everything random in its recording."""
        return self._recorded.settings.seed

    @property
    def n_episodes(self) -> int:
        """Of all environments."""
        return len(self._recorded.entries)

    @property
    def n_bytes(self) -> int:
        """What all states take in RAM."""
        return sum(self._sizes)

    def episodes(self) -> Iterator[Episode]:
        """:return: the episodes as they are stored, in the order of their ends"""
        for number, entries in groupby(self._recorded.entries, key=lambda entry: entry.file):
            with opened(self._recorded.files[number]) as file:
                for entry in entries:
                    yield read_episode(file, entry, self.about)

    def batches(self, batch_size: int, seed: int) -> Iterator[Batch]:
        check_whole("batch_size", batch_size, 1)
        return self._batches(int(batch_size), np.random.default_rng(seed))

    def _batches(self, batch_size: int, dice: np.random.Generator) -> Iterator[Batch]:
        drawn: list[Batch] = []
        missing = batch_size
        for blocks in self._buffers(dice):
            pool = self._pool(blocks)
            order = dice.permutation(len(pool.answers))
            while len(order):
                drawn.append(pool.batch(order[:missing]))
                order = order[missing:]
                missing -= len(drawn[-1].answers)
                if missing == 0:
                    yield joined(drawn)
                    drawn, missing = [], batch_size
            del pool  # before the next one is read
        if drawn:
            yield joined(drawn)

    def _buffers(self, dice: np.random.Generator) -> Iterator[list["Block"]]:
        """Blocks that are in RAM at the same time."""
        if self.n_bytes <= self.buffer_bytes:
            yield self._blocks
            return
        chosen: list[Block] = []
        size = 0
        for k in dice.permutation(len(self._blocks)):
            if size + self._sizes[k] > self.buffer_bytes:
                yield chosen
                chosen, size = [], 0
            chosen.append(self._blocks[k])
            size += self._sizes[k]
        yield chosen

    def _pool(self, blocks: list["Block"]) -> "Pool":
        if blocks is not self._blocks:
            return read_pool(self._recorded.files, blocks, self.about)
        if self._all is None:
            self._all = read_pool(self._recorded.files, blocks, self.about)
        return self._all


class Block(NamedTuple):
    """States in a row: ``start`` to ``stop`` of an episode."""

    entry: Entry
    start: int
    stop: int

    @property
    def n_states(self) -> int:
        """How many."""
        return self.stop - self.start

    def planes(self, channels: int, n_new: int) -> slice:
        """:return: which planes of the episode they are made of"""
        return slice(self.start * n_new, (self.stop - 1) * n_new + channels)


class Images(NamedTuple):
    """Images in RAM.

    :param planes: shape (n_planes, height, width)
    :param first: number of each image's first plane, shape (n,)
    """

    planes: np.ndarray
    first: np.ndarray


class Pool(NamedTuple):
    """States in RAM.

    :param about: what the memory is of
    :param columns: by the names of :func:`~sb3_distill.memory.episode.parts`, images or arrays of shape (n, …)
    :param answers: shape (n, columns)
    """

    about: About
    columns: dict[str, Any]
    answers: np.ndarray

    def batch(self, index: np.ndarray) -> Batch:
        """
        :param index: of states
        :return: they, in arrays of their own
        """
        found = {}
        for name, space in parts(self.about.observation_space).items():
            column = self.columns[name]
            if isinstance(column, Images):
                planes = column.first[index, None] + np.arange(plane_shape(space)[0])
                found[name.partition("/")[2]] = from_planes(space, column.planes[planes])
            else:
                found[name.partition("/")[2]] = column[index]
        return Batch(found.get("", found), self.answers[index])


def blocks_of(entry: Entry) -> list[Block]:
    """
    :param entry: of an episode
    :return: its states, in blocks
    """
    return [Block(entry, start, min(start + BLOCK, entry.n_steps)) for start in range(0, entry.n_steps, BLOCK)]


def bytes_of(block: Block, about: About) -> int:
    """
    :param block: of states
    :param about: what the memory is of
    :return: what it takes in RAM
    """
    total, n_new = 4 * n_columns(about) * block.n_states, iter(block.entry.n_new)
    for space in parts(about.observation_space).values():
        item = np.dtype(space.dtype).itemsize
        if is_image(space):
            channels, height, width = plane_shape(space)
            total += ((block.n_states - 1) * next(n_new) + channels) * height * width * item + 8 * block.n_states
        else:
            total += block.n_states * int(np.prod(space.shape or ())) * item
    return total


def read_pool(files: Sequence[Path], blocks: Sequence[Block], about: About) -> Pool:
    """
    :param files: with episodes
    :param blocks: what to read
    :param about: what the memory is of
    :return: it
    :raises DamagedMemoryError: if a file does not hold it
    """
    pool = _empty_pool(blocks, about)
    filled = dict.fromkeys(pool.columns, 0)  # planes
    state = 0
    # In the order in which they are on disk: the pool is drawn from in another.
    for number, of_file in groupby(sorted(blocks), key=lambda block: block.entry.file):
        with opened(files[number]) as file:
            for block in of_file:
                states = slice(state, state := state + block.n_states)
                pool.answers[states] = answer_column(file, block.entry, about)[block.start : block.stop]
                n_new = iter(block.entry.n_new)
                for name, dataset in observation_columns(file, block.entry, about).items():
                    column = pool.columns[name]
                    if not isinstance(column, Images):
                        column[states] = dataset[block.start : block.stop]
                        continue
                    c = next(n_new)
                    planes = dataset[block.planes(plane_shape(parts(about.observation_space)[name])[0], c)]
                    begin = filled[name]
                    filled[name] += len(planes)
                    column.planes[begin : filled[name]] = planes
                    column.first[states] = begin + c * np.arange(block.n_states)
    return pool


def _empty_pool(blocks: Sequence[Block], about: About) -> Pool:
    n = sum(block.n_states for block in blocks)
    columns: dict[str, Any] = {}
    image = 0
    for name, space in parts(about.observation_space).items():
        if not is_image(space):
            columns[name] = np.empty((n, *(space.shape or ())), dtype=space.dtype)
            continue
        channels, *size = plane_shape(space)
        n_planes = sum((b.n_states - 1) * b.entry.n_new[image] + channels for b in blocks)
        columns[name] = Images(np.empty((n_planes, *size), dtype=space.dtype), np.empty(n, dtype=np.int64))
        image += 1
    return Pool(about, columns, np.empty((n, n_columns(about)), dtype=np.float32))


def joined(drawn: list[Batch]) -> Batch:
    """
    :param drawn: parts of a batch
    :return: the batch
    """
    if len(drawn) == 1:
        return drawn[0]
    observations: Any = concatenate_obs([part.observations for part in drawn])
    return Batch(observations, np.concatenate([part.answers for part in drawn]))
