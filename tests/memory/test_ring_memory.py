"""A teacher's memory in RAM: which states are in it, and how they are read."""

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecTransposeImage

from envs_for_tests import CountdownEnv
from sb3_distill.memory.memory import About
from sb3_distill.memory.ring import RingMemory

ABOUT = About("Env-v0", "teacher", spaces.Box(0.0, 1.0, (2,)), spaces.Discrete(2), "q_values")


def states(numbers):
    """States that tell their number, with answers that do too."""
    numbers = np.asarray(numbers, dtype=np.float32)
    return np.stack([numbers, -numbers], axis=1), np.stack([10 * numbers, 20 * numbers], axis=1)


def read(memory, batch_size=3, seed=0):
    """The numbers of all states of a pass, after a look at each one's answer."""
    numbers = []
    for batch in memory.batches(batch_size, seed):
        assert np.array_equal(batch.answers, batch.observations[:, :1] * [10, 20])
        assert len(batch.observations) <= batch_size
        numbers += batch.observations[:, 0].astype(int).tolist()
    return numbers


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("n_added", [2, 8, 10, 26])
def test_a_pass_has_each_of_the_last_states_once(n_added, n_envs):
    """Before it is full, just full, and several times round; with a capacity that is no multiple of the environments, too."""
    memory = RingMemory(9 if n_envs == 2 else 8, ABOUT)
    for start in range(0, n_added, n_envs):
        memory.add(*states(range(start, start + n_envs)))
    assert len(memory) == min(n_added, 8)
    assert sorted(read(memory)) == list(range(max(0, n_added - 8), n_added))


def test_the_order_is_of_the_seed():
    memory = RingMemory(50, ABOUT)
    for k in range(50):
        memory.add(*states([k]))
    assert read(memory, seed=1) == read(memory, seed=1) != read(memory, seed=2)
    assert read(memory, seed=1) != sorted(read(memory, seed=1))


def test_it_keeps_copies_and_gives_copies():
    """Environments overwrite their arrays; so may a reader."""
    memory = RingMemory(4, ABOUT)
    obs, answers = states([1, 2])
    memory.add(obs, answers)
    obs[:] = answers[:] = 7
    (batch,) = memory.batches(10, 0)
    batch.observations[:] = batch.answers[:] = 8
    assert sorted(read(memory)) == [1, 2]


def test_dicts_and_dtypes_come_back_as_they_went_in():
    memory = RingMemory(4, ABOUT)
    obs = {"image": np.arange(8, dtype=np.uint8).reshape(2, 2, 2), "flag": np.array([[True], [False]])}
    memory.add(obs, np.ones((2, 3), np.float64))
    (batch,) = memory.batches(2, 0)
    assert batch.observations["image"].dtype == np.uint8
    assert batch.observations["flag"].dtype == bool
    assert batch.answers.dtype == np.float32
    order = 0 if batch.observations["flag"][0] else 1
    assert np.array_equal(batch.observations["image"][order], obs["image"][0])


def test_no_room():
    with pytest.raises(ValueError, match="room for at least one state, not buffer_size=0"):
        RingMemory(0, ABOUT)


@pytest.mark.parametrize("n_steps", [3, 11, 40])
def test_stacks_of_frames_are_those_that_the_environment_gave(n_steps):
    """Kept once and put together again, across ends of episodes and after the ring has gone round."""
    image = spaces.Box(0, 255, (40, 40, 1), np.uint8)
    env = VecTransposeImage(VecFrameStack(DummyVecEnv([lambda: CountdownEnv(image)] * 2), 4))
    env.seed(0)
    obs = env.reset()
    framed, whole = RingMemory(2 * 11, ABOUT, n_stack=4), RingMemory(2 * 11, ABOUT)
    for step in range(n_steps):
        for memory in (framed, whole):
            memory.add(obs, np.full((2, 1), step, np.float32))
        obs = env.step(np.zeros(2, int))[0]
    for a, b in zip(framed.batches(5, 3), whole.batches(5, 3), strict=True):
        assert np.array_equal(a.observations, b.observations)
        assert np.array_equal(a.answers, b.answers)
    assert len(framed) == min(n_steps, 11) * 2
