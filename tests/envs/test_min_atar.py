"""MinAtar's games are the package's own, in a form that SB3 reads without a surprise, and reproduced by their seeds."""

import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium.utils.env_checker import check_env as check_gymnasium_env
from minatar.gym import BaseEnv
from stable_baselines3 import DQN
from stable_baselines3.common.env_checker import check_env as check_sb3_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.preprocessing import is_image_space, preprocess_obs
from stable_baselines3.common.vec_env import is_vecenv_wrapped
from stable_baselines3.common.vec_env.vec_transpose import VecTransposeImage

import sb3_distill.envs  # noqa: F401 - registers the environments
from sb3_distill import load_teacher
from sb3_distill.agents.find import BUNDLED
from sb3_distill.envs.min_atar import CELL, channels_first
from sb3_distill.evaluation.episodes import EVALUATION_SEED, episode_returns

#: game: its name in the package, channels, actions that matter
GAMES = {
    "Asterix": ("asterix", 4, 5),
    "Breakout": ("breakout", 4, 3),
    "Freeway": ("freeway", 7, 3),
    "Seaquest": ("seaquest", 10, 6),
    "SpaceInvaders": ("space_invaders", 6, 4),
}
every_game = pytest.mark.parametrize("game", GAMES)
NOOP, LEFT, RIGHT = 0, 1, 2


# of v0, which is not older than v1 but has more actions
pytestmark = pytest.mark.filterwarnings("ignore:.*is out of date:DeprecationWarning")


def make(game, version=1, **kwargs):
    return gym.make(f"MinAtar/{game}-v{version}", **kwargs)


def test_registering_imports_nothing():
    """The package brings seaborn and pyplot, which take a second to import."""
    code = "import sys, sb3_distill.envs; print([m for m in ('minatar', 'seaborn', 'matplotlib.pyplot') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "minatar.gym", None)
    monkeypatch.delitem(sys.modules, "sb3_distill.envs.min_atar")
    with pytest.raises(ImportError, match=r"^MinAtar is not installed .*pip install 'sb3-distill\[minatar\]'"):
        make("Breakout")


@every_game
@pytest.mark.parametrize("version", [0, 1])
def test_spaces(game, version):
    """v0 has all six actions, v1 those that matter."""
    _, channels, n_actions = GAMES[game]
    env = make(game, version)
    assert env.observation_space == gym.spaces.Box(0, 1, (channels, 10, 10), np.uint8)
    assert env.action_space == gym.spaces.Discrete(n_actions if version else 6)


@every_game
@pytest.mark.parametrize("version", [0, 1])
def test_the_game_is_the_packages_own(game, version):
    """Three episodes, state by state, beside the package's environment with the same seed."""
    env, own = make(game, version), BaseEnv(GAMES[game][0], use_minimal_action_set=version == 1)
    rng = np.random.default_rng(0)
    for seed in range(3):
        obs, _ = env.reset(seed=seed)
        own.game.last_action = 0
        state, _ = own.reset(seed=seed)
        for _ in range(400):
            np.testing.assert_array_equal(obs, np.moveaxis(state, 2, 0))
            action = rng.integers(env.action_space.n)
            obs, reward, terminated, truncated, _ = env.step(action)
            state, own_reward, own_terminated, _, _ = own.step(action)
            assert (reward, terminated, truncated) == (own_reward, own_terminated, False)
            assert type(reward) is float
            if terminated:
                break


@every_game
def test_every_observation_is_an_array_of_its_own(game):
    """Zeros and ones, one byte each, in the order of memory; a later step does not write into it."""
    env = make(game)
    obs, _ = env.reset(seed=0)
    kept = []
    for _ in range(20):
        assert env.observation_space.contains(obs)
        assert set(np.unique(obs)) == {0, 1}
        assert obs.flags["C_CONTIGUOUS"] and obs.flags["OWNDATA"]
        kept.append((obs, obs.copy()))
        obs, *_ = env.step(env.action_space.n - 1)
    assert any((copy != kept[0][1]).any() for _, copy in kept)
    for array, copy in kept:
        np.testing.assert_array_equal(array, copy)


def test_channels_first():
    state = np.zeros((2, 3, 4), bool)
    state[1, 2, 3] = True
    assert np.argwhere(channels_first(state)).tolist() == [[3, 1, 2]]


# --- seeds ------------------------------------------------------------------------------------------------------------


def episode(env, seed, n_steps=200):
    """Observations, rewards and ends under actions that the seed does not choose."""
    rng = np.random.default_rng(5)
    steps = [(env.reset(seed=seed)[0], 0.0, False)]
    while len(steps) < n_steps and not steps[-1][2]:
        obs, reward, terminated, _, _ = env.step(rng.integers(env.action_space.n))
        steps.append((obs, reward, terminated))
    return steps


def same(first, second):
    return len(first) == len(second) and all(
        (a[0] == b[0]).all() and a[1:] == b[1:] for a, b in zip(first, second, strict=True)
    )


@every_game
def test_an_episode_is_reproduced_by_its_seed_alone(game):
    """Whatever was played before it."""
    env = make(game)
    first = episode(env, 0)
    assert not same(first, episode(env, 1)), "control: the seed matters"
    for action in range(env.action_space.n):
        env.reset(seed=3)
        env.step(action)
        assert same(first, episode(env, 0))
    assert same(first, episode(make(game), 0))


@pytest.mark.parametrize("seed", [None, 0])
def test_sticky_actions_begin_anew(seed):
    """With certainty the previous action is repeated: at an episode's start that is none, and the paddle stays where it is."""

    def paddle_moves(env):
        """What the last step of an episode repeats in the first of the next."""
        env.reset(seed=1)
        env.unwrapped.game.sticky_action_prob = 0.0
        env.step(RIGHT)
        env.unwrapped.game.sticky_action_prob = 1.0
        before, _ = env.reset(seed=seed)
        after = env.step(LEFT)[0]
        axis = 0 if env.observation_space.shape[0] == 4 else 2
        return not np.array_equal(before.take(0, axis), after.take(0, axis))

    assert not paddle_moves(make("Breakout"))
    assert paddle_moves(BaseEnv("breakout", use_minimal_action_set=True)), "control: in the package's own it moves"


def test_copies_side_by_side_differ():
    """SB3 seeds each copy with a number of its own."""
    env = make_vec_env("MinAtar/Breakout-v1", 16, seed=0)
    starts = env.reset()
    assert len({start.tobytes() for start in starts}) == 2, "the ball starts left or right"
    env.seed(0)
    np.testing.assert_array_equal(env.reset(), starts)


# --- ends -------------------------------------------------------------------------------------------------------------


def test_an_episode_that_would_not_end_is_cut():
    """A submarine at the surface lives for ever."""
    env = make("Seaquest", sticky_action_prob=0.0)
    env.reset(seed=0)
    for step in range(1, 10_001):
        _, _, terminated, truncated, _ = env.step(NOOP)
        assert (terminated, truncated) == (False, step == 10_000)


def test_the_last_observation_of_an_episode_reaches_the_learner():
    """Breakout without moving: the ball falls past the paddle, and the terminal state has it in the last row."""
    env = make_vec_env("MinAtar/Breakout-v1", 1, seed=0)
    env.reset()
    for _ in range(100):
        obs, _, dones, infos = env.step(np.array([NOOP]))
        if dones[0]:
            break
    ball = 1
    assert infos[0]["terminal_observation"][ball, 9].sum() == 1
    assert obs[0, ball, 3].sum() == 1, "and the next episode has begun"
    assert not infos[0]["TimeLimit.truncated"]


# --- SB3 and Gymnasium ------------------------------------------------------------------------------------------------


@every_game
def test_gymnasium_finds_nothing_wrong(game):
    """Only that the package's environment, which ours is one of, has a method ``seed`` of former times."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*Official support for the `seed` function is dropped")
        check_gymnasium_env(make(game, render_mode="rgb_array").unwrapped, skip_render_check=True)


@every_game
def test_sb3_finds_nothing_wrong(game):
    """It says that this is no image of 0 to 255 and at least 36 × 36, which is true, and meant."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_sb3_env(make(game).unwrapped)
    about = [str(warning.message) for warning in caught]
    assert [
        text for text in about if "bounds are not in [0, 255]" not in text and "minimal resolution" not in text
    ] == []


@every_game
def test_networks_see_zeros_and_ones(game):
    """SB3 neither divides by 255 nor moves the channels."""
    env = make_vec_env(f"MinAtar/{game}-v1", 2, seed=0)
    assert not is_image_space(env.observation_space)
    obs = env.reset()
    seen = preprocess_obs(th.as_tensor(obs), env.observation_space)
    assert seen.dtype == th.float32
    assert seen.unique().tolist() == [0.0, 1.0]
    np.testing.assert_array_equal(seen.numpy(), obs)
    model = DQN("MlpPolicy", env, buffer_size=64, learning_starts=8, device="cpu", seed=0)
    assert not is_vecenv_wrapped(model.get_env(), VecTransposeImage)
    model.learn(32)
    assert model.replay_buffer.observations.dtype == np.uint8


# --- pictures ---------------------------------------------------------------------------------------------------------


@every_game
def test_pictures(game):
    """Cells of one colour each, and empty ones black."""
    env = make(game, render_mode="rgb_array")
    obs, _ = env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (10 * CELL, 10 * CELL, 3)
    assert picture.dtype == np.uint8
    cells = picture[::CELL, ::CELL]
    np.testing.assert_array_equal(picture, np.kron(cells, np.ones((CELL, CELL, 1), np.uint8)))
    np.testing.assert_array_equal(cells.any(-1), obs.any(0))
    assert np.abs(cells / 255 - BaseEnv.render(env.unwrapped)).max() < 0.5 / 255 + 1e-9, "the package's colours"


def test_no_pictures_unasked():
    env = make("Breakout", disable_env_checker=True).unwrapped
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="without specifying any render mode"):
        env.spec = gym.spec("MinAtar/Breakout-v1")
        assert env.render() is None


@pytest.mark.filterwarnings("ignore:.*non-interactive.*")
def test_a_window(monkeypatch):
    """The package's own, at every step."""
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    shown = []
    monkeypatch.setattr(plt, "pause", shown.append)
    env = make("Breakout", render_mode="human")
    env.reset(seed=0)
    env.step(NOOP)
    env.close()
    assert shown == [0.05, 0.05]
    assert plt.get_fignums() == []


@every_game
def test_the_bundled_agents_play_as_was_filed(game):
    """Episodes of the evaluation that is filed with each: the mean of some is that of all, within three standard errors."""
    teacher = load_teacher(f"zoo:dqn/MinAtar/{game}-v1", temperature=1.0)
    folder = BUNDLED / "dqn" / f"MinAtar-{game}-v1_1"
    assert sum(path.stat().st_size for path in folder.rglob("*")) <= 600_000
    with np.load(folder / "evaluations.npz") as filed:
        (results,) = filed["results"]
    n = 8
    found = episode_returns(teacher.act, f"MinAtar/{game}-v1", n, EVALUATION_SEED)
    assert abs(found.mean() - results.mean()) <= 3 * results.std() / n**0.5
