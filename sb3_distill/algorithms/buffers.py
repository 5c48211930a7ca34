"""Rollout buffers that carry the teacher's answers beside the observations."""

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer, MaskableRolloutBuffer
from sb3_contrib.common.recurrent.buffers import RecurrentDictRolloutBuffer, RecurrentRolloutBuffer
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.algorithms.frame_stack import frame_stack_of
from sb3_distill.common.frames import FrameStore, RolloutFrames
from sb3_distill.common.observations import observation_of
from sb3_distill.rules.distributions import parameter_size
from sb3_distill.teachers.teacher import Answer


class _TeacherAnswers(RolloutBuffer):
    """
    What both buffers add to SB3's.

    ``teacher_parameters`` has shape (n_steps, n_envs, columns) while a rollout is collected, and
    (n_steps · n_envs, columns) from the first ``get`` on, as SB3's own arrays do.
    """

    teacher_parameters: np.ndarray
    #: V_π of the rollout, of the same shape but for the columns; None where it is not needed
    teacher_values: np.ndarray | None = None
    #: called at a rollout's end, when rewards may still change, with SB3's own computation of returns and advantages
    finish_rollout: Callable[[Callable[[th.Tensor], None], th.Tensor], None] | None = None
    #: the teacher's answers for the minibatch that ``get`` gave out last, shape (batch, columns), on the buffer's device
    batch_teacher_parameters: th.Tensor
    #: and their V_π, shape (batch,)
    batch_teacher_values: th.Tensor | None = None
    #: and log π_old(a|s) of the actions that were executed there, shape (batch,)
    batch_old_log_prob: th.Tensor
    #: which rows of the network's pass are these states, shape (rows,); None for all
    batch_mask: th.Tensor | None = None
    #: Whether minibatches are cut from one shuffled copy of the rollout, which is faster than to gather them one by one. The copy
    #: of a rollout that holds each frame once would be four times as large as the rollout.
    _copies_epoch = True
    #: which states SB3 asked for last, in their order
    _order: np.ndarray
    #: whether the rollout's second observation need not go on where its first one was
    cut_at_start: bool = False

    def reset(self) -> None:
        super().reset()
        shape = (self.buffer_size, self.n_envs, parameter_size(self.action_space))
        self.teacher_parameters = np.zeros(shape, dtype=np.float32)
        self.teacher_values = None

    def keep(self, answer: Answer, with_values: bool) -> None:
        """
        :param answer: the teacher's, for the rollout's states first
        :param with_values: whether minibatches are to have V_π
        """
        n = self.buffer_size * self.n_envs
        self.teacher_parameters[:] = answer.parameters[:n].reshape(self.teacher_parameters.shape).numpy()
        if with_values:
            assert answer.value is not None
            self.teacher_values = answer.value[:n].reshape(self.buffer_size, self.n_envs).numpy()

    def cut(self, time: int) -> None:
        """:param time: of the first observation that need not go on where the one before was; of no matter where each is kept whole"""

    def compute_returns_and_advantage(self, last_values: th.Tensor, dones: np.ndarray) -> None:
        compute = partial(super().compute_returns_and_advantage, dones=dones)
        if self.finish_rollout is None:
            compute(last_values)
        else:
            self.finish_rollout(compute, last_values)

    def get(self, batch_size: int | None = None) -> Generator[Any, None, None]:  # type: ignore[override]
        """SB3's minibatches, in SB3's order."""
        self._flatten_answers()
        for gathered in super().get(None if self._copies_epoch else batch_size):
            teacher_parameters = self.to_torch(self.teacher_parameters[self._order])
            values = None if self.teacher_values is None else self.to_torch(self.teacher_values[self._order])
            n = len(self._order)
            size = batch_size or n
            for start in range(0, n, size):
                batch = slice(start, start + size)
                self.batch_teacher_parameters = teacher_parameters[batch]
                self.batch_teacher_values = None if values is None else values[batch]
                self.batch_old_log_prob = gathered.old_log_prob[batch]
                yield type(gathered)(*(observation_of(field, batch) for field in gathered))

    def _flatten_answers(self) -> None:
        """As SB3 does with its own arrays, before the first minibatch of a rollout."""
        if not self.generator_ready:
            self.teacher_parameters = self.swap_and_flatten(self.teacher_parameters)
            if self.teacher_values is not None:
                self.teacher_values = self.swap_and_flatten(self.teacher_values).flatten()

    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> Any:
        self._order = batch_inds
        return super()._get_samples(batch_inds, env)

    def to_torch(self, array: np.ndarray, copy: bool = False) -> th.Tensor:
        """SB3's without its copy: what is picked by an array of indices is one already."""
        return super().to_torch(array, copy)


class DistillRolloutBuffer(_TeacherAnswers, RolloutBuffer):
    """SB3's ``RolloutBuffer`` with the teacher's answers."""


class DistillFrameRolloutBuffer(DistillRolloutBuffer):
    """
    A rollout buffer for observations that are stacks of frames: each frame is kept once.

    :param n_stack: frames in a stack, along its first axis
    """

    _copies_epoch = False

    def __init__(self, *args: Any, n_stack: int, **kwargs: Any) -> None:
        self.n_stack = n_stack
        self._store: FrameStore | None = None
        super().__init__(*args, **kwargs)

    def cut(self, time: int) -> None:
        if self._store is not None:
            self._store.cut(time)

    def reset(self) -> None:
        # Neither SB3's array of observations, which would stay empty, nor a new store for each rollout: a long run's memory is to
        # stay as it is.
        shape, self.obs_shape = self.obs_shape, (0,)
        super().reset()
        self.obs_shape = shape
        if self._store is None:
            self._store = FrameStore(self.buffer_size, self.n_envs, self.n_stack, shape, self.observation_space.dtype)
        self._store.clear()
        if self.cut_at_start:
            self._store.cut(1)
        self.cut_at_start = False
        self.observations = RolloutFrames(self._store, self.buffer_size)  # type: ignore[assignment]

    @staticmethod
    def swap_and_flatten(arr: Any) -> Any:
        return arr if isinstance(arr, RolloutFrames) else RolloutBuffer.swap_and_flatten(arr)


class DistillDictRolloutBuffer(_TeacherAnswers, DictRolloutBuffer):
    """SB3's ``DictRolloutBuffer`` with the teacher's answers."""


class _PaddedAnswers(_TeacherAnswers):
    """What both recurrent buffers add to sb3-contrib's, whose minibatches are sequences that are filled up to one length."""

    def get(self, batch_size: int | None = None) -> Generator[Any, None, None]:  # type: ignore[override]
        """sb3-contrib's minibatches, in its order."""
        self._flatten_answers()
        yield from super(_TeacherAnswers, self).get(batch_size)

    def _get_samples(self, batch_inds: np.ndarray, env_change: np.ndarray, env: Any = None) -> Any:  # type: ignore[override]
        samples: Any = super(_TeacherAnswers, self)._get_samples(batch_inds, env_change)  # type: ignore[arg-type]
        # Sequences lie one after the other as their states do here, so what is left without the filling has this very order.
        self.batch_mask = samples.mask > 1e-8
        self.batch_old_log_prob = samples.old_log_prob[self.batch_mask]
        self.batch_teacher_parameters = self.to_torch(self.teacher_parameters[batch_inds])
        values = self.teacher_values
        self.batch_teacher_values = None if values is None else self.to_torch(values[batch_inds])
        if isinstance(
            self.action_space, spaces.MultiBinary
        ):  # as SB3's own buffers hand them out: a density takes no int8
            samples = samples._replace(actions=samples.actions.float())
        return samples


class DistillRecurrentRolloutBuffer(_PaddedAnswers, RecurrentRolloutBuffer):
    """sb3-contrib's ``RecurrentRolloutBuffer`` with the teacher's answers."""


class DistillRecurrentDictRolloutBuffer(_PaddedAnswers, RecurrentDictRolloutBuffer):  # type: ignore[misc]
    """sb3-contrib's ``RecurrentDictRolloutBuffer`` with the teacher's answers."""


class DistillMaskableRolloutBuffer(DistillRolloutBuffer, MaskableRolloutBuffer):
    """sb3-contrib's ``MaskableRolloutBuffer`` with the teacher's answers."""


class DistillMaskableFrameRolloutBuffer(DistillFrameRolloutBuffer, MaskableRolloutBuffer):
    """The same for observations that are stacks of frames."""


class DistillMaskableDictRolloutBuffer(DistillDictRolloutBuffer, MaskableDictRolloutBuffer):
    """sb3-contrib's ``MaskableDictRolloutBuffer`` with the teacher's answers."""


class Buffers(NamedTuple):
    """The rollout buffers of an engine, by observations.

    :param arrays: for arrays
    :param frames: for stacks of frames
    :param dicts: for ``Dict``
    :param theirs: SB3's or sb3-contrib's own, in whose place they are
    """

    arrays: type[DistillRolloutBuffer] = DistillRolloutBuffer
    frames: type[DistillFrameRolloutBuffer] = DistillFrameRolloutBuffer
    dicts: type[DistillDictRolloutBuffer] = DistillDictRolloutBuffer
    theirs: tuple[type[RolloutBuffer], ...] = (RolloutBuffer, DictRolloutBuffer)


MASKABLE = Buffers(
    DistillMaskableRolloutBuffer,
    DistillMaskableFrameRolloutBuffer,
    DistillMaskableDictRolloutBuffer,
    (MaskableRolloutBuffer, MaskableDictRolloutBuffer),
)


def check_rollout_buffer_class(buffer_class: type[RolloutBuffer] | None, buffers: Buffers) -> None:
    """
    :param buffer_class: given by a user, or None
    :param buffers: of the engine
    :raises ValueError: if it has no room for the teacher's answers
    """
    ours = (buffers.arrays, buffers.dicts)
    if buffer_class is not None and not issubclass(buffer_class, ours):
        raise ValueError(
            f"rollout_buffer_class must be a subclass of {' or '.join(c.__name__ for c in ours)}, which carry the teacher's "
            f"answers, not {buffer_class.__name__}."
        )


def rollout_buffer_for(
    space: spaces.Space, env: VecEnv | None, given: type[RolloutBuffer] | None, buffers: Buffers
) -> tuple[type[RolloutBuffer], dict[str, Any]]:
    """
    :param space: of observations
    :param env: the student's, in all its wrappers, or None
    :param given: by a user, or by what SB3's own algorithm has saved
    :param buffers: of the engine
    :return: the class of a buffer, and arguments for it
    :raises ValueError: if the one that is given is for other observations
    """
    ours = buffers.dicts if isinstance(space, spaces.Dict) else buffers.arrays
    if given in (None, *buffers.theirs):
        n_stack = None if env is None else frame_stack_of(env)
        return (ours, {}) if n_stack is None else (buffers.frames, {"n_stack": n_stack})
    assert given is not None
    if not issubclass(given, ours):
        raise ValueError(
            f"rollout_buffer_class must be a subclass of {ours.__name__}, which carries the teacher's answers, "
            f"not {given.__name__}."
        )
    return given, {}
