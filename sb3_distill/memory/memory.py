"""What a student reads of a teacher's memory: batches of states with the teacher's answers, on disk or in RAM alike."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from gymnasium import spaces

Kind = Literal["q_values", "parameters"]


class Batch(NamedTuple):
    """States and what the teacher said about them.

    :param observations: n states as the environment gave them (images stay uint8), shape (n, …), or a dict of such
    :param answers: what the teacher said, see :class:`About`; shape (n, columns), float32
    """

    observations: np.ndarray | dict[str, np.ndarray]
    answers: np.ndarray


class About(NamedTuple):
    """What a memory is of.

    :param env_id: where the teacher played, if that is known
    :param teacher: its name
    :param observation_space: of the states, as the teacher reads them
    :param action_space: of the teacher
    :param kind: of the answers: ``"q_values"``, Q(s, ·) in units of the environment's own reward, or ``"parameters"``, of
        π(·|s), the columns of :mod:`sb3_distill.rules.distributions`
    :param fingerprint: of the teacher, see :func:`~sb3_distill.memory.fingerprint.fingerprint_of`; None if it was recorded before
        there were any
    :param env_kwargs: what the environment was made with, as JSON; None if that is not known
    :param module: which the user named to register the environment; None if none was named. It is told and never imported
    """

    env_id: str | None
    teacher: str
    observation_space: spaces.Space
    action_space: spaces.Space
    kind: Kind
    fingerprint: str | None = None
    env_kwargs: Mapping[str, Any] | None = None
    module: str | None = None


class Memory(ABC):
    """States with a teacher's answers, which a student learns from."""

    about: About

    @abstractmethod
    def __len__(self) -> int:
        """:return: number of states"""

    @abstractmethod
    def batches(self, batch_size: int, seed: int) -> Iterator[Batch]:
        """
        One pass over all states, each once, in random order.

        :param batch_size: how many states a batch has; the last one has what remains
        :param seed: of the order
        :return: ⌈len / batch_size⌉ batches
        """
