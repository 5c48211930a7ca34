"""Frames of a stack are kept once, and read back as SB3's buffers keep them."""

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer

from sb3_distill.common.frames import FrameReplayBuffer, FrameStore

SPACE = spaces.Box(0, 255, (4, 3, 2), np.uint8)
ACTIONS = spaces.Discrete(3)


def play(n_steps, n_envs, seed=0, end=0.2):
    """Transitions of games whose frames are noise, stacked as by VecFrameStack: (stacks, next stacks, actions, rewards, dones, infos)."""
    rng = np.random.default_rng(seed)
    stacks = np.zeros((n_envs, *SPACE.shape), np.uint8)
    stacks[:, -1] = rng.integers(0, 256, (n_envs, *SPACE.shape[1:]))
    for _ in range(n_steps):
        new = np.concatenate([stacks[:, 1:], rng.integers(0, 256, (n_envs, 1, *SPACE.shape[1:]), np.uint8)], axis=1)
        following, dones = new.copy(), rng.random(n_envs) < end
        following[dones, :-1] = 0
        following[dones, -1] = rng.integers(0, 256, (dones.sum(), *SPACE.shape[1:]))
        infos = [{"TimeLimit.truncated": bool(d and rng.random() < 0.5)} for d in dones]
        yield stacks, new, rng.integers(0, 3, n_envs), rng.random(n_envs), dones, infos
        stacks = following


@pytest.mark.parametrize("n_steps", [1, 2, 5, 40])
def test_replay_is_sb3s(n_steps):
    """Every transition of a ring that has gone round (or not) is the one that SB3's n-step buffer gives."""
    buffers = [
        cls(30, SPACE, ACTIONS, n_envs=3, device="cpu", n_steps=3, gamma=0.9)
        for cls in (FrameReplayBuffer, NStepReplayBuffer)
    ]
    for step in play(n_steps, 3):
        for buffer in buffers:
            buffer.add(*step)
        drawn = []
        for buffer in buffers:
            np.random.seed(step[2][0])
            drawn.append(buffer.sample(64))
        for ours, theirs in zip(*drawn, strict=True):
            assert ours is theirs or np.array_equal(ours, theirs)
    assert len(buffers[0].last_states) <= buffers[0].dones.sum()


def test_replay_goes_on_in_other_environments():
    """The last transitions before a break, declared ends afterwards, keep the states that they led to."""
    buffers = [
        cls(60, SPACE, ACTIONS, n_envs=3, device="cpu", n_steps=3, gamma=0.9)
        for cls in (FrameReplayBuffer, NStepReplayBuffer)
    ]
    for seed in (0, 1):
        for step in play(6, 3, seed, end=0.0):
            for buffer in buffers:
                buffer.add(*step)
        for buffer in buffers:
            buffer.dones[buffer.pos - 1] = buffer.timeouts[buffer.pos - 1] = 1
        drawn = []
        for buffer in buffers:
            np.random.seed(seed)
            drawn.append(buffer.sample(200))
        for ours, theirs in zip(*drawn, strict=True):
            assert np.array_equal(ours, theirs)


def test_store_begins_within_an_episode():
    """The first stack of a rollout has frames of the rollout before it."""
    steps = list(play(9, 2, end=0.3))[4:]
    store = FrameStore(5, 2, 4, SPACE.shape)
    for time, step in enumerate(steps):
        store.put(time, step[0])
    for time, step in enumerate(steps):
        assert np.array_equal(store.gather(np.full(2, time), np.arange(2)), step[0])


def test_what_is_no_stack_is_named():
    store = FrameStore(5, 2, 4, SPACE.shape)
    first = next(play(1, 2))[0]
    store.put(0, first)
    with pytest.raises(ValueError, match=r"environment 0 is no stack of 4 frames: the one 1 steps old"):
        store.put(1, np.full_like(first, 7))


def test_each_frame_is_kept_once():
    """Per transition: one frame, and a stack for each episode's end."""
    buffer = FrameReplayBuffer(1_000, spaces.Box(0, 255, (4, 84, 84), np.uint8), ACTIONS, n_envs=2, device="cpu")
    assert buffer.store.frames.nbytes == (500 + 2 + 4) * 2 * 84 * 84
    assert buffer.observations.nbytes == buffer.next_observations.nbytes == 0
