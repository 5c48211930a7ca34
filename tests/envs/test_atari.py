"""ALE's games through ``make_atari_vec_env`` are those that SB3's ``AtariWrapper`` and ``VecFrameStack`` show."""

import numpy as np
import pytest

pytest.importorskip("ale_py")
import ale_py
import gymnasium as gym
from stable_baselines3.common.atari_wrappers import AtariWrapper, NoopResetEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from sb3_distill.common.env_ids import rom_of
from sb3_distill.envs import GymnasiumVecEnv
from sb3_distill.envs.atari import AtariGames, make_atari_vec_env

gym.register_envs(ale_py)


@pytest.fixture
def no_ops(monkeypatch):
    """SB3's games start with as many no-ops as ours have drawn: lists of the latter and of the former."""
    drawn, used = [], []
    new_game = AtariGames._new_game

    def noted(self, i, info):
        drawn.append(int(info["episode_frame_number"][0]))
        return new_game(self, i, info)

    def reset(self, **kwargs):
        obs, info = self.env.reset(**kwargs)
        for _ in range(drawn[len(used)]):
            obs, *_, info = self.env.step(0)
        used.append(drawn[len(used)])
        return obs, info

    monkeypatch.setattr(AtariGames, "_new_game", noted)
    monkeypatch.setattr(NoopResetEnv, "reset", reset)
    return drawn, used


def sb3(game, **kwargs):
    return VecFrameStack(DummyVecEnv([lambda: AtariWrapper(Monitor(gym.make(f"{game}NoFrameskip-v4")), **kwargs)]), 4)


@pytest.mark.parametrize(
    ("game", "steps", "kwargs", "pixels", "levels"),
    [
        ("Breakout", 400, {}, 0.0, 0),
        (
            "Breakout",
            400,
            {"terminal_on_life_loss": False, "clip_reward": False, "frame_skip": 3, "screen_size": 42},
            0.0,
            0,
        ),
        ("Pong", 1_100, {}, 0.002, 16),
        ("SpaceInvaders", 900, {}, 0.02, 40),
    ],
)
def test_the_games_are_sb3s(game, steps, kwargs, pixels, levels, no_ops):
    """
    On the same actions: rewards, ends, lives, statistics of whole games, and frames, through lost lives and new games. Where
    sprites flicker SB3 takes the maximum of two frames in colour and ours in grey: ``pixels`` is the share of those that
    differ, ``levels`` by how many of 255 grey levels at most.
    """
    ours = make_atari_vec_env(game, 1, seed=3, **kwargs)
    obs = ours.reset()
    theirs = sb3(game, **kwargs)
    differences = [np.abs(obs - theirs.reset().transpose(0, 3, 1, 2).astype(int))]
    rng = np.random.default_rng(0)
    ends = games = 0
    for _ in range(steps):
        actions = rng.integers(0, ours.action_space.n, 1)
        obs, rewards, dones, infos = ours.step(actions)
        obs_, rewards_, dones_, infos_ = theirs.step(actions)
        assert rewards == rewards_ and dones == dones_
        differences.append(np.abs(obs - obs_.transpose(0, 3, 1, 2).astype(int)))
        assert infos[0]["lives"] == infos_[0]["lives"] or dones[0]
        if dones[0]:
            ends += 1
            last, last_ = infos[0]["terminal_observation"], infos_[0]["terminal_observation"].transpose(2, 0, 1)
            # The frame on which a game ends in the middle of a skip is undefined in SB3's: "doesn't matter".
            older = slice(None, -1) if "episode" in infos[0] else slice(None)
            differences.append(np.abs(last[None, older] - last_[None, older].astype(int)))
            assert infos[0]["TimeLimit.truncated"] is infos_[0]["TimeLimit.truncated"] is False
            assert ("episode" in infos[0]) == ("episode" in infos_[0])
        if "episode" in infos[0]:
            games += 1
            assert infos[0]["episode"] == {key: infos_[0]["episode"][key] for key in ("r", "l")}
    assert games > 0 and len(no_ops[1]) == games + 1
    assert ends > games or not kwargs.get("terminal_on_life_loss", True) or game == "Pong"
    everything = np.concatenate([d.ravel() for d in differences])
    assert (everything > 0).mean() <= pixels
    assert everything.max() <= levels


def test_episodes_that_are_cut():
    """A time limit of the game ends an episode as a time limit; its last observation is the old game's."""
    env = make_atari_vec_env("Pong", 2, seed=0, max_frames=200)
    obs = env.reset()
    for _ in range(60):
        before = obs
        obs, _, dones, infos = env.step(np.zeros(2, dtype=int))
        for i in np.flatnonzero(dones):
            assert infos[i]["TimeLimit.truncated"]
            assert infos[i]["episode"]["l"] in range(200, 235)  # the limit does not count no-ops
            assert np.array_equal(infos[i]["terminal_observation"][:-1], before[i, 1:])
            assert not obs[i, :-1].any() and obs[i, -1].any()
            return
    raise AssertionError("no episode was cut")


def test_no_observation_is_written_to_later():
    env = make_atari_vec_env("Breakout", 2, seed=0)
    kept = [env.reset()]
    copies = [kept[0].copy()]
    rng = np.random.default_rng(1)
    for _ in range(150):
        obs, _, dones, infos = env.step(rng.integers(0, 4, 2))
        seen = [obs, *(infos[i]["terminal_observation"] for i in np.flatnonzero(dones))]
        kept += seen
        copies += [array.copy() for array in seen]
    assert len(kept) > 152
    assert all(np.array_equal(a, b) for a, b in zip(kept, copies, strict=True))


@pytest.mark.parametrize("n_threads", [1, 2, None])
def test_seeds_and_threads(n_threads):
    """The same games whatever the number of threads; other games with another seed."""

    def play(seed, n_threads):
        env = make_atari_vec_env("Breakout", 3, seed, n_threads=n_threads, action_repeat_probability=0.25)
        total = [env.reset().sum()]
        for step in range(40):
            obs, rewards, _, _ = env.step(np.full(3, step % 4))
            total += [obs.sum(), rewards.sum()]
        return total

    assert play(0, n_threads) == play(0, 3)
    assert play(0, n_threads) != play(10, 3)


def test_what_sb3_sees():
    env = make_atari_vec_env("PongNoFrameskip-v4", 2, seed=0)
    assert env.observation_space.shape == (4, 84, 84) and env.observation_space.dtype == np.uint8
    assert env.action_space.n == 6
    assert make_atari_vec_env("Pong", full_action_space=True).action_space.n == 18
    assert env.env_is_wrapped(Monitor) == [True, True]
    env.reset()
    assert env.render("rgb_array").shape[2] == 3
    assert env.get_attr("action_meanings")[1][:2] == ["NOOP", "FIRE"]
    assert isinstance(env, GymnasiumVecEnv)
    assert env.get_attr("spec")[0].id == "PongNoFrameskip-v4"


def test_evaluation_counts_whole_games():
    """SB3's ``evaluate_policy`` returns unclipped scores of games, not of lives."""

    class Idle:
        def predict(self, obs, state=None, episode_start=None, deterministic=True):
            return np.ones(len(obs), dtype=int), None

    returns, lengths = evaluate_policy(
        Idle(), make_atari_vec_env("Breakout", 2, seed=0), 2, return_episode_rewards=True
    )
    assert len(returns) == 2 and all(length > 5 * 50 for length in lengths)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"game": "Pnog"}, r"Unknown Atari game 'Pnog': did you mean 'Pong'"),
        ({"game": "MountainCar-v0"}, r"Unknown Atari game 'MountainCar-v0': "),
        ({"n_envs": 0}, "n_envs must be at least 1, not 0"),
        ({"n_threads": -1}, "n_threads must be at least 1, not -1"),
        ({"frame_stack": 0}, "frame_stack must be at least 1, not 0"),
        ({"screen_size": 0}, "screen_size must be at least 1, not 0"),
    ],
)
def test_bad_input(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_atari_vec_env(**({"game": "Pong"} | kwargs))


def test_names_of_games():
    assert [rom_of(name) for name in ("Pong", "MsPacman", "ms_pacman", "SpaceInvadersNoFrameskip-v4")] == [
        "pong",
        "ms_pacman",
        "ms_pacman",
        "space_invaders",
    ]


def test_without_ale_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ale_py", None)
    with pytest.raises(ImportError, match=r"Pong needs ale-py: pip install 'sb3-distill\[atari\]'"):
        make_atari_vec_env("Pong")
