"""Pictures beside the state: each drawn once, small, and of the very state that the teacher reads."""

from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_distill.envs import PixelObservation, SmallCartPole, make_pixel_vec_env
from sb3_distill.envs.parts import VecParts
from sb3_distill.envs.pixels import shrunk


class Clock(gym.Env):
    """Its state is the time, and so is the grey of its picture; it counts how often it was drawn."""

    metadata: ClassVar = {"render_modes": ["rgb_array"]}
    observation_space: spaces.Space = spaces.Box(0, 255, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, render_mode=None, shape=(40, 60, 3)):
        self.render_mode, self.shape, self.n_drawn = render_mode, shape, 0

    def _obs(self):
        return np.array([self.time], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self._obs(), {}

    def step(self, action):
        self.time += 1
        return self._obs(), 1.0, self.time == 4, False, {}

    def render(self):
        self.n_drawn += 1
        return np.full(self.shape, self.time, np.uint8)


class DictClock(Clock):
    observation_space = spaces.Dict({"a": Clock.observation_space, "b": Clock.observation_space})

    def _obs(self):
        return {"a": super()._obs(), "b": -super()._obs()}


def test_a_picture_is_of_the_state_beside_it_and_drawn_once():
    env = PixelObservation(Clock("rgb_array"), size=36)
    env.env.n_drawn = 0
    obs, _ = env.reset()
    for t in range(1, 5):
        assert obs["state"] == t - 1 and (obs["pixels"] == t - 1).all() and obs["pixels"].shape == (36, 36, 1)
        obs, _, over, _, _ = env.step(0)
    assert over and (obs["pixels"] == 4).all() and env.env.n_drawn == 5


def test_white_is_black_in_an_inverted_picture():
    class White(Clock):
        def render(self):
            return 255 - super().render()

    env, plain = PixelObservation(White("rgb_array"), 36, inverted=True), PixelObservation(Clock("rgb_array"), 36)
    for obs, expected in zip((env.reset()[0], env.step(0)[0]), (plain.reset()[0], plain.step(0)[0]), strict=True):
        assert np.array_equal(obs["pixels"], expected["pixels"]) and np.array_equal(obs["state"], expected["state"])
    with pytest.raises(ValueError, match="inverted must be True or False"):
        PixelObservation(Clock("rgb_array"), inverted="yes")


def test_the_keys_of_a_dict_stay():
    env = PixelObservation(DictClock("rgb_array"), size=36, rgb=True)
    obs, _ = env.reset()
    assert list(obs) == ["a", "b", "pixels"] and obs["pixels"].shape == (36, 36, 3)
    assert env.observation_space.contains(obs)
    with pytest.raises(ValueError, match=r"shows 'pixels' already, Box\(0, 255, \(36, 36, 3\)"):
        PixelObservation(env)


def test_a_pixel_is_the_mean_of_what_it_covers():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (72, 108, 3), np.uint8)
    expected = picture.reshape(36, 2, 36, 3, 3).mean((1, 3))
    assert np.abs(shrunk(picture, 36, True) - expected).max() <= 1  # it is rounded along one side and then the other
    grey = shrunk(picture, 36, False)[..., 0]
    assert np.abs(grey - expected @ [0.299, 0.587, 0.114]).max() <= 2
    # Where a new pixel covers parts of old ones, a line is as dark wherever it stands, and moves with each of its pixels.
    totals, places = [], []
    for column in range(20, 70):
        line = np.zeros((40, 100), np.uint8)
        line[:, column] = 240
        row = shrunk(line, 36, False)[10, :, 0].astype(float)
        totals.append(row.sum())
        places.append((row * np.arange(36)).sum() / row.sum())
    assert np.ptp(totals) < 0.04 * np.mean(totals) and np.mean(totals) == pytest.approx(240 * 0.36, rel=0.03)
    assert (np.diff(places) > 0.3).all()


@pytest.mark.parametrize("shape", [(36, 36), (36, 36, 1), (36, 36, 4), (7, 9), (36, 36, 3)])
def test_all_kinds_of_pictures(shape):
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    before = picture.copy()
    for rgb in (False, True):
        small = shrunk(picture, 36, rgb)
        assert small.shape == (36, 36, 3 if rgb else 1) and small.dtype == np.uint8
        small[:] = 0
    np.testing.assert_array_equal(picture, before)
    if shape == (36, 36):
        np.testing.assert_array_equal(shrunk(picture, 36, False)[..., 0], picture)


@pytest.mark.parametrize(
    "drawn, said",
    [
        (None, "draws NoneType"),
        ([np.zeros((4, 4, 3), np.uint8)], "draws list"),
        (np.zeros((4, 4, 3)), r"draws float64 of shape \(4, 4, 3\)"),
        (np.zeros((3, 4, 4, 3), np.uint8), "draws uint8"),
        (np.zeros((0, 4), np.uint8), "draws uint8"),
    ],
)
def test_what_is_no_picture_is_said(drawn, said):
    with pytest.raises(ValueError, match=said):
        shrunk(drawn, 36, False)


def test_an_environment_that_draws_none_says_what_it_draws():
    class Human(Clock):
        metadata: ClassVar = {"render_modes": ["human", "ansi"]}

    with pytest.raises(ValueError, match="Human draws no pictures: its render_modes are 'human', 'ansi'"):
        PixelObservation(Human("human"))
    with pytest.raises(ValueError, match="Clock was made with render_mode=None"):
        PixelObservation(Clock())
    for size in (35, 4.5, True):
        with pytest.raises(ValueError, match=r"^size must be a whole number of at least 36"):
            PixelObservation(Clock("rgb_array"), size=size)
    with pytest.raises(ValueError, match="rgb must be True or False"):
        PixelObservation(Clock("rgb_array"), rgb=1)


def test_what_students_see_is_a_stack_of_pictures_above_a_dict_of_both():
    env = make_pixel_vec_env(Clock, 2, size=36, frames=3)
    assert env.observation_space.shape == (36, 36, 3)
    obs = env.reset()
    for t in range(1, 5):
        obs, _, dones, infos = env.step([0, 0])
        last = infos[0]["terminal_observation"] if dones[0] else obs[0]
        assert last[0, 0].tolist() == [max(0, t - 2), t - 1, t]
    assert dones.all() and obs[0, 0, 0].tolist() == [0, 0, 0]
    env.close()


def test_parts_of_a_dict():
    """Alone or several; an episode's last observation too, and the infos beneath are left as they are."""
    base = DummyVecEnv([lambda: PixelObservation(DictClock("rgb_array"), size=36)])
    one, two = VecParts(base, "b"), VecParts(base, ("a", "b"))
    assert one.reset().tolist() == [[0]]
    for _ in range(4):
        base.step_async([0])
        said = base.step_wait()
        base.step_wait = lambda said=said: said
        (_, _, dones, infos), (both, _, _, many) = one.step_wait(), two.step_wait()
        del base.step_wait
    assert dones[0] and infos[0]["terminal_observation"].tolist() == [-4]
    assert set(both) == {"a", "b"} == set(many[0]["terminal_observation"])
    assert set(said[3][0]["terminal_observation"]) == {"a", "b", "pixels"}
    with pytest.raises(ValueError, match="have no key 'pixel': did you mean 'pixels'"):
        VecParts(base, "pixel")
    with pytest.raises(ValueError, match=r"'state' names a key of a Dict, and the environment shows Box"):
        VecParts(one, "state")


def test_the_small_cart_pole_is_cart_pole():
    small, own = gym.make("sb3_distill/SmallCartPole-v1", size=40, render_mode="rgb_array"), gym.make("CartPole-v1")
    assert small.spec.max_episode_steps == own.spec.max_episode_steps
    for seed in range(3):
        np.testing.assert_array_equal(small.reset(seed=seed)[0], own.reset(seed=seed)[0])
        over = False
        while not over:
            action = own.action_space.sample()
            mine, theirs = small.step(action), own.step(action)
            np.testing.assert_array_equal(mine[0], theirs[0])
            assert mine[1:4] == theirs[1:4]
            over = mine[2]
    assert small.render().shape == (40, 40, 3)
    assert SmallCartPole(render_mode="rgb_array").render() is None  # before there is a state
    with pytest.raises(ValueError, match="size must be"):
        SmallCartPole(size=0)


def test_where_the_cart_and_the_pole_are_is_seen():
    """The picture's centre of mass follows the cart, to parts of a pixel, and the pole's the angle."""
    env = SmallCartPole(size=84, render_mode="rgb_array")
    env.reset(seed=0)

    def centre(x, angle, rows):
        env.state = (x, 0.0, angle, 0.0)
        bright = env.render()[rows, :, 0].astype(float)
        return (bright.sum(0) * np.arange(84)).sum() / bright.sum()

    cart, pole = slice(62, 84), slice(0, 50)
    per_pixel = 4.8 / 84
    start = centre(0.0, 0.0, cart)
    assert start == pytest.approx(41.5, abs=0.05)
    for x in (-1.5, 0.02, 0.5):
        assert centre(x, 0.0, cart) - start == pytest.approx(x / per_pixel, abs=0.2)
    assert centre(0.0, -0.2, pole) < centre(0.0, -0.02, pole) < 41.5 < centre(0.0, 0.02, pole) < centre(0.0, 0.2, pole)
    assert CartPoleEnv().length == 0.5  # of half the pole, which is drawn whole
