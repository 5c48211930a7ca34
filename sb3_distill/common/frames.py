"""Stacks of frames, each frame kept once: a stack of four shares three with the one before it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer


class FrameStore:
    """
    The last stacks of n environments, in the order of time. A ring.

    :param n_steps: how many stacks of each environment can be read
    :param n_envs: n
    :param n_stack: frames in a stack, along the first axis
    :param shape: of a stack, (n_stack · channels, height, width)
    :param dtype: of frames
    """

    def __init__(self, n_steps: int, n_envs: int, n_stack: int, shape: tuple[int, ...], dtype: Any = np.uint8) -> None:
        self.n_envs, self.n_stack, self.shape = n_envs, n_stack, shape
        self.n_slots = n_steps + n_stack
        frame = (shape[0] // n_stack, *shape[1:])
        self.frames = np.zeros((self.n_slots, n_envs, *frame), dtype=dtype)
        #: whether the frame k+1 steps before is part of the stack at a slot; else that part is zero
        self.linked = np.zeros((self.n_slots, n_envs, n_stack - 1), dtype=bool)
        #: the times after a cut, and the stacks of these that do not go on where the ones before were, whole: by slot and environment
        self.whole: dict[tuple[int, int], np.ndarray] = {}
        self._cut = range(0)
        self.end = 0

    def clear(self) -> None:
        """Forget all stacks."""
        self.whole.clear()
        self._cut = range(0)
        self.end = 0

    def cut(self, time: int) -> None:
        """
        Somebody else has played in the environments: stacks may have frames that nothing here has seen.

        :param time: of the first such stack, or the one before
        """
        # Cuts that follow each other closely are one, for a buffer is filled some steps after it is told of them.
        again = self._cut.stop > 0 and self._cut.start <= time <= self._cut.stop + self.n_stack
        self._cut = range(self._cut.start if again else time, time + self.n_stack + 1)

    def put(self, time: int, stacks: np.ndarray) -> None:
        """
        :param time: at most one more than the last; the stack there is replaced, and later ones are forgotten
        :param stacks: one of each environment, shape (n_envs, …)
        :raises ValueError: if the older frames of a stack are neither those of the stacks before it, nor zero
        """
        parts = stacks.reshape(self.n_envs, self.n_stack, *self.frames.shape[2:])
        slot = time % self.n_slots
        for key in [key for key in self.whole if key[0] == slot]:
            del self.whole[key]
        if time == 0:
            for back in range(1, self.n_stack):
                self.frames[-back] = parts[:, -1 - back]
            self.linked[slot] = True
        else:
            may_differ = time in self._cut
            for back in range(1, self.n_stack):
                self._link(slot, back, parts[:, -1 - back], stacks if may_differ else None)
        self.frames[slot] = parts[:, -1]
        self.end = time + 1

    def _link(self, slot: int, back: int, older: np.ndarray, whole: np.ndarray | None) -> None:
        before = self.frames[slot - back]
        if np.array_equal(older, before):
            self.linked[slot, :, back - 1] = True
            return
        for i in range(self.n_envs):
            same = np.array_equal(older[i], before[i])
            self.linked[slot, i, back - 1] = same
            if not same and older[i].any() and whole is not None:
                self.whole[slot, i] = np.array(whole[i])
            elif not same and older[i].any():
                raise ValueError(
                    f"The observation of environment {i} is no stack of {self.n_stack} frames: the one {back} steps old is "
                    "neither the one that was the newest then, nor zero. Do not change single frames above VecFrameStack."
                )

    def contents(self) -> dict[str, np.ndarray]:
        """:return: arrays from which :meth:`restore` fills a store of the same sizes"""
        used = min(self.end, self.n_slots)
        before = self.frames[self.n_slots - self.n_stack :]  # the first stack's older frames
        places = np.array(list(self.whole), dtype=np.int64).reshape(-1, 2)
        whole = np.array(list(self.whole.values()), self.frames.dtype).reshape(-1, *self.shape)
        named = {"frames": self.frames[:used], "linked": self.linked[:used], "before": before}
        return named | {"places": places, "whole": whole}

    def restore(self, end: int, arrays: dict[str, np.ndarray]) -> None:
        """
        :param end: how many stacks of each environment there have been
        :param arrays: of :meth:`contents`
        :raises ValueError: if they are of another size
        """
        used = min(end, self.n_slots)
        targets = {
            "frames": self.frames[:used],
            "linked": self.linked[:used],
            "before": self.frames[self.n_slots - self.n_stack :],
        }
        for name, target in targets.items():
            if arrays[name].shape != target.shape or arrays[name].dtype != target.dtype:
                raise ValueError(f"its {name} have the shape {arrays[name].shape}, and should have {target.shape}")
            target[:] = arrays[name]
        self.end = end
        self.whole = {
            (int(slot), int(env)): stack for (slot, env), stack in zip(arrays["places"], arrays["whole"], strict=True)
        }

    def gather(self, times: np.ndarray, envs: np.ndarray) -> np.ndarray:
        """
        :param times: of n stacks
        :param envs: their environments
        :return: a new array, shape (n, …)
        """
        slots = times % self.n_slots
        sources = (slots[:, None] - np.arange(self.n_stack - 1, -1, -1)) % self.n_slots * self.n_envs + envs[:, None]
        out = np.empty((len(times) * self.n_stack, *self.frames.shape[2:]), dtype=self.frames.dtype)
        np.take(self.frames.reshape(-1, *self.frames.shape[2:]), sources.ravel(), axis=0, out=out, mode="clip")
        parts = out.reshape(len(times), self.n_stack, *self.frames.shape[2:])
        linked = self.linked[slots, envs][:, ::-1]
        if not linked.all():
            parts[:, :-1][~linked] = 0
        stacks = out.reshape(len(times), *self.shape)
        for (slot, env), whole in self.whole.items():
            stacks[(slots == slot) & (envs == env)] = whole
        return stacks


class FrameLog:
    """
    Observations of n environments, step by step, each frame kept once.

    :param n_steps: how many
    :param n_envs: n
    :param n_stack: frames in an observation
    :param shape: of an observation
    """

    def __init__(self, n_steps: int, n_envs: int, n_stack: int, shape: tuple[int, ...]) -> None:
        self.store = FrameStore(n_steps, n_envs, n_stack, shape)

    def append(self, obs: Any) -> None:
        """:param obs: of one step, shape (n, …)"""
        self.store.put(len(self), obs)

    def cut(self) -> None:
        """The next observation need not go on where the last one was."""
        self.store.cut(len(self))

    def __len__(self) -> int:
        return self.store.end

    def __getitem__(self, step: int) -> np.ndarray:
        n_envs = self.store.n_envs
        return self.store.gather(np.full(n_envs, range(len(self))[step]), np.arange(n_envs))

    def batch(self, first: int, more: Sequence[np.ndarray] = ()) -> "FrameBatch":
        """:return: the observations from step ``first`` on, and ``more`` single ones, as a batch that is made as it is sliced"""
        return FrameBatch(self.store, range(first * self.store.n_envs, len(self) * self.store.n_envs), more)


class FrameBatch:
    """
    Stacks that are made when they are asked for.

    :param store: of the frames
    :param states: their numbers, step by step, environment by environment
    :param more: stacks that follow them
    """

    def __init__(self, store: FrameStore, states: range, more: Sequence[np.ndarray] = ()) -> None:
        self.store, self.states, self.more = store, states, more

    def __len__(self) -> int:
        return len(self.states) + len(self.more)

    def __getitem__(self, part: slice) -> np.ndarray:
        times, envs = np.divmod(np.asarray(self.states[part], dtype=np.int64), self.store.n_envs)
        stacks = self.store.gather(times, envs)
        first, end, _ = (index - len(self.states) for index in part.indices(len(self)))
        more = self.more[max(first, 0) : max(end, 0)]
        return np.concatenate([stacks, more]) if len(more) else stacks


class RolloutFrames:
    """
    What SB3's rollout buffer writes and reads as ``observations``: by step, then by the numbers of environment-major states.

    :param store: of a rollout
    :param n_steps: of a rollout
    """

    def __init__(self, store: FrameStore, n_steps: int) -> None:
        self.store, self.n_steps = store, n_steps

    def __setitem__(self, step: int, stacks: np.ndarray) -> None:
        self.store.put(step, stacks)

    def __getitem__(self, states: np.ndarray) -> np.ndarray:
        return self.store.gather(states % self.n_steps, states // self.n_steps)


class FrameReplayBuffer(NStepReplayBuffer):
    """
    SB3's replay buffer with n-step returns, for observations that are stacks of frames: each frame is kept once, where
    SB3 keeps it eight times.

    :param buffer_size: transitions
    :param observation_space: of stacks, channels first
    :param action_space: of the actions
    :param n_stack: frames in a stack
    :param kwargs: of SB3's ``NStepReplayBuffer``
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        *args: Any,
        n_stack: int = 4,
        **kwargs: Any,
    ) -> None:
        # SB3 allocates arrays of observations: of these, they are empty.
        super().__init__(buffer_size, spaces.Box(0, 1, (0,), np.uint8), action_space, *args, **kwargs)
        self.observation_space = observation_space
        shape = observation_space.shape
        assert shape is not None
        self.obs_shape = shape
        # Two more than SB3's: the state after the newest one, and one that is being replaced.
        self.store = FrameStore(self.buffer_size + 2, self.n_envs, n_stack, shape, observation_space.dtype)
        #: transitions ever added, of each environment
        self.added = 0
        #: the last states of episodes, which are followed by another episode's first in the store
        self.last_states: dict[tuple[int, int], np.ndarray] = {}
        self.observations = _States(self, 0)  # type: ignore[assignment]
        self.next_observations = _States(self, 1)  # type: ignore[assignment]

    def add(
        self,
        obs: np.ndarray,
        next_obs: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: Any,
    ) -> None:
        last = self.added - 1
        if self.added:  # what was declared an end after it was added: a training that goes on in other environments
            for i in np.flatnonzero(self.dones[last % self.buffer_size]).tolist():
                if (last, i) not in self.last_states:
                    self.last_states[last, i] = self.store.gather(np.array([self.added]), np.array([i]))[0]
        for i in np.flatnonzero(done).tolist():
            self.last_states[self.added, i] = np.array(next_obs[i])
        while self.last_states and next(iter(self.last_states))[0] <= self.added - self.buffer_size:
            del self.last_states[next(iter(self.last_states))]
        super().add(obs, next_obs, action, reward, done, infos)
        self.added += 1

    def reset(self) -> None:
        super().reset()
        self.store.clear()
        self.last_states.clear()
        self.added = 0


class _States:
    """What SB3's buffer reads and writes as ``observations`` (ahead = 0) and ``next_observations`` (ahead = 1)."""

    nbytes = 0

    def __init__(self, buffer: FrameReplayBuffer, ahead: int) -> None:
        self.buffer, self.ahead = buffer, ahead

    def __setitem__(self, position: int, stacks: np.ndarray) -> None:
        self.buffer.store.put(self.buffer.added + self.ahead, stacks)

    def __getitem__(self, index: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        positions, envs = index[:2]
        buffer = self.buffer
        times = buffer.added - 1 - (buffer.added - 1 - positions) % buffer.buffer_size
        stacks = buffer.store.gather(times + self.ahead, envs)
        if self.ahead:
            for k in np.flatnonzero(buffer.dones[positions, envs]).tolist():
                stacks[k] = buffer.last_states.get((int(times[k]), int(envs[k])), stacks[k])
        return stacks
