"""Images as planes: every observation comes back to the bit, and what observations share is kept once."""

import tracemalloc

import numpy as np
import pytest
from gymnasium import spaces

from sb3_distill.memory.planes import PlaneLog, divisors, from_planes, plane_shape, to_planes


def stacks(rng, n, n_stack, channels, size=5, still=0):
    """n observations of n_stack frames of noise, zeros before the first; the first ``still`` frames are all the same."""
    frames = rng.integers(256, size=(n, channels, size, size), dtype=np.uint8)
    frames[:still] = frames[0]
    padded = np.concatenate([np.zeros_like(frames[: n_stack - 1]), frames])
    return [np.concatenate(padded[t : t + n_stack]) for t in range(n)]


def log_of(images):
    log = PlaneLog(images[0])
    for image in images[1:]:
        log.append(image)
    return log


def rebuilt(log, n, channels):
    planes, c = log.array(), log.n_new
    return [planes[t * c : t * c + channels] for t in range(n)]


@pytest.mark.parametrize(
    ("n_stack", "channels", "still", "n_new"),
    [(4, 1, 0, 1), (4, 3, 0, 3), (4, 1, 6, 1), (1, 3, 0, 3), (2, 2, 5, 2), (6, 1, 0, 1)],
)
def test_frames_that_are_shared_are_kept_once(n_stack, channels, still, n_new):
    images = stacks(np.random.default_rng(0), 12, n_stack, channels, still=still)
    log = log_of(images)
    assert log.n_new == n_new
    assert len(log.array()) == n_stack * channels + 11 * n_new
    assert all(map(np.array_equal, rebuilt(log, 12, n_stack * channels), images))


@pytest.mark.parametrize("where", [1, 2, 5, 11])
def test_a_stack_that_breaks_is_kept_whole_from_the_start(where):
    images = stacks(np.random.default_rng(1), 12, 4, 1)
    images[where] = images[where].copy()
    images[where][0] ^= 1  # an older frame is no longer what it was
    log = log_of(images)
    assert log.n_new > 1
    assert all(map(np.array_equal, rebuilt(log, 12, 4), images))


def test_coarser_sharing_must_hold_for_all_that_came_before():
    """Steps of one frame and then steps of two: two new planes a step fit the latter only."""
    rng = np.random.default_rng(2)
    frames = rng.integers(256, size=(30, 3, 3), dtype=np.uint8)
    begins = [0, 1, 2, 3, 5, 7, 9]
    log = log_of([frames[t : t + 4] for t in begins])
    assert log.n_new == 4
    assert all(np.array_equal(a, frames[t : t + 4]) for a, t in zip(rebuilt(log, 7, 4), begins, strict=True))


def test_one_image_alone():
    image = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    assert np.array_equal(PlaneLog(image).array(), image)


def test_an_environment_may_write_into_its_array_again():
    images = stacks(np.random.default_rng(3), 5, 4, 1)
    array = images[0].copy()
    log = PlaneLog(array)
    for image in images[1:]:
        array[:] = image
        log.append(array)
    array[:] = 0
    assert log.n_new == 1
    assert all(map(np.array_equal, rebuilt(log, 5, 4), images))


def test_an_episode_takes_the_ram_of_its_frames():
    images = stacks(np.random.default_rng(4), 400, 4, 1, size=50)
    tracemalloc.start()
    log = log_of(images)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert log.n_new == 1
    assert taken < 1.5 * 400 * 50 * 50


@pytest.mark.parametrize("shape", [(4, 84, 84), (84, 84, 4), (10, 10, 6), (10, 10, 10), (3, 210, 160), (7, 2, 7)])
def test_planes_of_an_image_and_back(shape):
    space = spaces.Box(0, 255, shape, np.uint8)
    images = np.random.default_rng(0).integers(256, size=(2, *shape), dtype=np.uint8)
    planes = to_planes(space, images)
    assert planes.shape == (2, *plane_shape(space))
    assert np.array_equal(from_planes(space, planes), images)
    assert np.array_equal(to_planes(space, images[0]), planes[0])


def test_divisors():
    assert divisors(12) == (1, 2, 3, 4, 6, 12)
    assert divisors(1) == (1,)
