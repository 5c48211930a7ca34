"""A teacher's memory in RAM, in which new states replace the oldest."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_distill.common.frames import FrameStore
from sb3_distill.memory.memory import About, Batch, Memory


class RingMemory(Memory):
    """
    The last states that a teacher was asked about. Frames that the states of an environment share are kept once.

    Arrays are made when the first states come, in their dtype; the operating system gives their RAM as they fill.

    :param capacity: how many states there is room for, at least 1
    :param about: what it is of
    :param n_stack: how many frames a state is a stack of, see :func:`~sb3_distill.common.frames.frame_stack_of`; None keeps states whole
    :raises ValueError: if there is room for none
    """

    def __init__(self, capacity: int, about: About, n_stack: int | None = None) -> None:
        if capacity < 1:
            raise ValueError(f"A memory needs room for at least one state, not buffer_size={capacity}.")
        self.capacity = capacity
        self.about = about
        self.n_stack = n_stack
        self._n_added = 0
        self._n_envs = 0
        self._answers = np.zeros((0, 0), np.float32)
        self._observations: dict[str, np.ndarray] = {}
        self._frames: FrameStore | None = None

    def __len__(self) -> int:
        return min(self._n_added, self.capacity)

    def add(self, observations: Any, answers: np.ndarray) -> None:
        """
        Keep copies of the next states with what the teacher said; the oldest make room.

        :param observations: of n environments as they gave them, shape (n, …), or a dict of such; always as many, in order
        :param answers: shape (n, columns)
        :raises ValueError: if the states are no stacks of ``n_stack`` frames
        """
        columns = observations if isinstance(observations, dict) else {_ONLY: observations}
        if self._n_added == 0:
            self._make_room(columns, answers)
        if self._frames is not None:
            self._frames.put(self._n_added // self._n_envs, observations)
        rows = slice(self._n_added % self.capacity, self._n_added % self.capacity + self._n_envs)
        self._answers[rows] = answers
        for key, values in self._observations.items():
            values[rows] = columns[key]
        self._n_added += self._n_envs

    def cut(self) -> None:
        """The next states need not go on where the last ones were: frames that nothing here has seen may be in them."""
        if self._frames is not None:
            self._frames.cut(self._n_added // self._n_envs)

    def _make_room(self, columns: dict[str, np.ndarray], answers: np.ndarray) -> None:
        """:param columns: the first states, as the answers"""
        self._n_envs = len(answers)
        n_steps = max(1, self.capacity // self._n_envs)
        self.capacity = n_steps * self._n_envs
        self._answers = np.zeros((self.capacity, answers.shape[1]), np.float32)
        if self.n_stack is not None:
            shape, dtype = columns[_ONLY].shape[1:], columns[_ONLY].dtype
            self._frames = FrameStore(n_steps, self._n_envs, self.n_stack, shape, dtype)
        else:
            self._observations = {k: np.zeros((self.capacity, *v.shape[1:]), v.dtype) for k, v in columns.items()}

    @property
    def n_envs(self) -> int:
        """Whose states it has; 0 if there are none."""
        return self._n_envs

    def contents(self) -> tuple[dict[str, int | None], dict[str, np.ndarray]]:
        """:return: numbers and arrays from which :meth:`of` makes this memory again"""
        numbers = {"capacity": self.capacity, "n_stack": self.n_stack, "n_added": self._n_added, "n_envs": self._n_envs}
        arrays = {f"obs/{key}": values[: len(self)] for key, values in self._observations.items()}
        if self._frames is not None:
            arrays |= {f"frames/{name}": array for name, array in self._frames.contents().items()}
        return numbers, arrays | {"answers": self._answers[: len(self)]}

    @classmethod
    def of(cls, about: About, numbers: dict[str, int | None], arrays: dict[str, np.ndarray]) -> "RingMemory":
        """
        :param about: what it is of
        :param numbers: of :meth:`contents`
        :param arrays: of :meth:`contents`
        :return: the memory
        :raises ValueError: if they do not fit each other
        """
        capacity, n_added, n_envs = (int(numbers[name] or 0) for name in ("capacity", "n_added", "n_envs"))
        memory = cls(capacity, about, numbers["n_stack"])
        if n_added == 0:
            return memory
        n = min(n_added, capacity)
        if not 1 <= n_envs <= n or capacity % n_envs or n_added % n_envs:
            raise ValueError(f"{n_added} states of {n_envs} environments do not fill {capacity} places")
        whole = about.observation_space
        of = {f"obs/{key}": space for key, space in whole.spaces.items()} if isinstance(whole, spaces.Dict) else {}
        of = {} if memory.n_stack is not None else of or {f"obs/{_ONLY}": whole}
        frames = {name.partition("/")[2]: array for name, array in arrays.items() if name.startswith("frames/")}
        columns = {name: array for name, array in arrays.items() if name.startswith("obs/")}
        answers = arrays["answers"]
        if columns.keys() != of.keys() or answers.dtype != np.float32 or answers.ndim != 2 or len(answers) != n:
            raise ValueError("its answers or observations are not those of its spaces")
        if any(array.shape != (n, *(of[name].shape or ())) for name, array in columns.items()):
            raise ValueError("its observations have other shapes than their space")
        first = {name.partition("/")[2]: array[:1].repeat(n_envs, 0) for name, array in columns.items()}
        if memory.n_stack is not None:
            first = {_ONLY: np.zeros((n_envs, *(whole.shape or ())), frames["frames"].dtype)}
        memory._make_room(first, np.zeros((n_envs, answers.shape[1]), np.float32))
        memory._n_added = n_added
        memory._answers[:n] = answers
        for name, array in columns.items():
            memory._observations[name.partition("/")[2]][:n] = array
        if memory._frames is not None:
            memory._frames.restore(n_added // n_envs, frames)
        memory.cut()  # others play before it goes on
        return memory

    def batches(self, batch_size: int, seed: int) -> Iterator[Batch]:
        order = np.random.default_rng(seed).permutation(len(self)) + self._n_added - len(self)
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            rows = part % self.capacity
            if self._frames is not None:
                observations: Any = self._frames.gather(*np.divmod(part, self._n_envs))
            else:
                columns = {key: values[rows] for key, values in self._observations.items()}
                observations = columns.get(_ONLY, columns)
            yield Batch(observations, self._answers[rows])


#: the key of observations that are not dicts; no space has it
_ONLY = ""
