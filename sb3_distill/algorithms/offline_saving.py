"""A student of a memory leaves as a zip of DQN or PPO, and the memory that was played as a file beside it."""

import io
import warnings
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.dqn.policies import DQNPolicy

from sb3_distill.algorithms.offline_memory import ONLY, check_copies, only_memory
from sb3_distill.common.questions import env_id_of
from sb3_distill.memory.check import check_memory
from sb3_distill.memory.ring import RingMemory
from sb3_distill.memory.ring_file import read_memories, write_memories
from sb3_distill.teachers.binding import Binding
from sb3_distill.teachers.fingerprint import fingerprint_of
from sb3_distill.teachers.teacher import Teacher

#: what a saved student is rid of: the teacher's side, and settings of SB3's that have no meaning here but one in DQN or PPO
_NOT_SAVED = (
    *("teacher", "teacher_obs", "memory", "_binding", "_shown", "_asked", "_rng", "_reading", "_state_loss"),
    *("_turns", "_starts"),
    *("_units", "_n_judged", "_loaded"),
    *("n_steps", "tau", "gamma", "learning_starts", "use_sde_at_warmup"),
    *("replay_buffer_class", "replay_buffer_kwargs", "optimize_memory_usage"),
)


class SavesOffline(OffPolicyAlgorithm):
    """What :class:`~sb3_distill.PolicyDistillation` saves and loads. Put it before the SB3 algorithm in a class's bases."""

    policy: DQNPolicy | ActorCriticPolicy
    teacher: Any
    memory: Any
    #: what is learned from: ``memory``, or a :class:`~sb3_distill.memory.ring.RingMemory` that the teacher's play fills
    replay_buffer: Any
    #: by how many states the teacher's Q-values have been judged
    _n_judged: int = 0
    #: the teacher in the environment
    _binding: Binding
    #: whether the memory was loaded, and no teacher has been compared with it yet
    _loaded = False

    def save_replay_buffer(self, path: str | Path | io.BufferedIOBase) -> None:
        """
        Save the memory that the teacher's play has filled: arrays of NumPy, and JSON for what it is of. A memory that was given
        is not saved again, with a warning.

        :param path: of the file, or a file. As with SB3, a name without a suffix gets ".pkl", and folders are made
        :raises OSError: if the disk is full; what was there under that name stays
        """
        memories = self._ring_memories()
        if memories:
            write_memories(path, memories)
        else:
            warnings.warn(
                f"{path} is not written: this student's memory was given, and nothing is added.", stacklevel=2
            )

    def _ring_memories(self) -> dict[str, RingMemory]:
        """What is to be saved, by the ids of tasks."""
        return {ONLY: self.replay_buffer} if self.memory is None else {}

    def load_replay_buffer(self, path: str | Path | io.BufferedIOBase, truncate_last_traj: bool = True) -> None:
        """
        Go on with a memory that :meth:`save_replay_buffer` has written. Nothing in the file is unpickled.

        :param path: of the file, or a file; ".pkl" may be left out
        :param truncate_last_traj: SB3's, for another kind of buffer: it has no effect
        :raises FileNotFoundError: if there is none
        :raises ValueError: if it is damaged, or of other spaces, another environment or another teacher, or if this student
            learns from a memory that was given; what was in the memory stays
        """
        self._take_memories(read_memories(path), path)

    def _take_memories(self, memories: dict[str, RingMemory], path: Any) -> None:
        """Go on with what was read; an empty memory, which is of no teacher yet, changes nothing."""
        if self.memory is not None:
            raise ValueError("This student learns from the memory that it was given, and not from play: load none.")
        self._take(only_memory(memories, path))

    def _take(self, memory: RingMemory) -> None:
        if len(memory):
            self._check_loaded(memory)
            self.replay_buffer = memory
            self._loaded = self._binding.teacher is None
            self._n_judged = 0

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), *_NOT_SAVED]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []

    def save(
        self,
        path: str | Path | io.BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """
        SB3's ``save``: the student as a zip of DQN or PPO.

        :param path: of the file, or a file
        :param exclude: attributes that are to be left out besides the usual ones
        :param include: attributes that are to be saved though usually they are not
        """
        if isinstance(self.policy, DQNPolicy):  # a DQN that learns on begins with the student as its own target
            self.policy.q_net_target.load_state_dict(self.policy.q_net.state_dict())
        super().save(path, exclude, include)

    def _check_loaded(self, memory: RingMemory) -> None:
        """
        :param memory: that was loaded
        :raises ValueError: if it is of another environment or teacher than are here, as far as any are here
        """
        fits = partial(check_memory, memory.about, self.observation_space, self.action_space, env_id_of(self.env))
        if isinstance(self.teacher, Teacher):
            fits(self.teacher.name, fingerprint_of(self.teacher))
        else:
            fits()
        if self.env is not None:
            check_copies(memory, self.env)
