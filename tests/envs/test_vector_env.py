"""Gymnasium's vectorised environments behave as SB3's own ``DummyVecEnv`` of the same environments."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from sb3_distill.envs import GymnasiumVecEnv

N = 3


class Counter(gym.Env):
    """Episodes of the options' or 3 steps by the seed, ending or cut; observations, rewards and infos tell what happened."""

    action_space = spaces.Discrete(5)
    observation_space = spaces.Dict({"count": spaces.Box(0, 99, (2,)), "last": spaces.Discrete(5)})
    threshold = 4

    def __init__(self, cut=False):
        self.cut = cut

    def _obs(self, action=0):
        return {"count": np.array([self.steps, self.episode], dtype=np.float32), "last": action}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode = int(self.np_random.integers(50))
        self.length = (options or {}).get("length", int(self.np_random.integers(1, 5)))
        self.steps = 0
        return self._obs(), {"length": self.length}

    def step(self, action):
        self.steps += 1
        over = self.steps >= self.length
        info = {"steps": self.steps} | ({"rare": {"episode": self.episode}} if over else {})
        return self._obs(int(action)), 0.5 * self.steps + action, over and not self.cut, over and self.cut, info

    def above(self, x):
        return x > self.threshold


def make_fns(wrap=lambda env: env):
    return [lambda: wrap(Counter()), lambda: wrap(Counter(cut=True)), lambda: wrap(Counter())]


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return np.array_equal(a, b)


VARIANTS = [(cls, mode) for cls in (SyncVectorEnv, AsyncVectorEnv) for mode in AutoresetMode]


@pytest.mark.parametrize(("cls", "mode"), VARIANTS, ids=[f"{c.__name__}-{m.name}" for c, m in VARIANTS])
def test_it_is_a_dummy_vec_env(cls, mode):
    """Observations, rewards, ends, terminal observations, infos and the infos of resets, step for step; no action is lost."""
    ours, theirs = GymnasiumVecEnv(cls(make_fns(), autoreset_mode=mode)), DummyVecEnv(make_fns())
    rng = np.random.default_rng(0)
    for env in (ours, theirs):
        env.seed(7)
    assert same(ours.reset(), theirs.reset())
    assert ours.reset_infos == theirs.reset_infos
    ends = 0
    for _ in range(30):
        actions = rng.integers(0, 5, N)
        (obs, rewards, dones, infos), (obs_, rewards_, dones_, infos_) = ours.step(actions), theirs.step(actions)
        assert same(obs, obs_) and same(rewards, rewards_) and same(dones, dones_)
        assert rewards.dtype == rewards_.dtype == np.float32
        for i in range(N):
            assert same({"TimeLimit.truncated": False} | infos[i], infos_[i])
        assert ours.reset_infos == theirs.reset_infos
        ends += dones.sum()
    assert ends > 10
    ours.close()


def test_what_was_given_out_is_not_written_to():
    """A masked reset must not reach the terminal observations of the step before it."""
    env = GymnasiumVecEnv(SyncVectorEnv(make_fns(), autoreset_mode=AutoresetMode.DISABLED, copy=False))
    env.seed(7)
    env.reset()
    kept = []
    for _ in range(10):
        _, _, dones, infos = env.step(np.zeros(N, dtype=int))
        kept += [(infos[i]["terminal_observation"]["count"], infos[i]["steps"]) for i in np.flatnonzero(dones)]
    assert len(kept) > 3
    assert all(count[0] == steps for count, steps in kept)


def test_options_attributes_and_methods():
    env = GymnasiumVecEnv(SyncVectorEnv(make_fns(), autoreset_mode=AutoresetMode.SAME_STEP))
    env.set_options({"length": 2})
    env.reset()
    assert [info["length"] for info in env.reset_infos] == [2, 2, 2]
    env.reset()
    assert [info["length"] for info in env.reset_infos] != [2, 2, 2]  # as in SB3, options are for one reset
    env.set_attr("threshold", 9, indices=[1])
    assert env.get_attr("threshold") == [4, 9, 4]
    assert env.get_attr("cut", indices=1) == [True]
    assert env.env_method("above", 5) == [True, False, True]
    assert env.env_method("above", x=10) == [True] * 3
    with pytest.raises(ValueError, match=r"'above' for all its 3 copies at once: leave indices=\[1\] out"):
        env.env_method("above", 5, indices=1)
    env.set_options([{"length": 2}, {}, {}])
    with pytest.raises(ValueError, match="takes the same options for all its copies"):
        env.reset()


def test_wrappers_are_seen():
    env = GymnasiumVecEnv(SyncVectorEnv(make_fns(Monitor)))
    assert env.env_is_wrapped(Monitor) == [True] * 3
    assert GymnasiumVecEnv(SyncVectorEnv(make_fns())).env_is_wrapped(Monitor, indices=0) == [False]


def test_sb3_learns_and_evaluates():
    env = VecMonitor(GymnasiumVecEnv(gym.make_vec("CartPole-v1", num_envs=4, vectorization_mode="sync")))
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=64, n_epochs=2, seed=0, device="cpu").learn(512)
    assert len(model.ep_info_buffer) > 5
    mean, _ = evaluate_policy(model, env, n_eval_episodes=4)
    assert mean > 5


def test_next_step_resets_are_refused():
    """Gymnasium's own compiled CartPole swallows an action after each end: SB3 would store a transition that never was."""
    with pytest.raises(
        ValueError, match=r"CartPoleVectorEnv starts an ended episode anew .*make it with autoreset_mode="
    ):
        GymnasiumVecEnv(gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="vector_entry_point"))


def test_rendering():
    env = GymnasiumVecEnv(gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync", render_mode="rgb_array"))
    env.reset()
    assert env.render_mode == "rgb_array"
    assert [image.shape for image in env.get_images()] == [(400, 600, 3)] * 2


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (
            lambda: gym.make("CartPole-v1"),
            r"^CartPoleEnv is one environment: .* make_vec_env\('CartPole-v1', n_envs=8\)",
        ),
        (lambda: make_fns()[0](), r"is one environment: .* DummyVecEnv\("),
        (lambda: DummyVecEnv(make_fns()), r"^DummyVecEnv is a VecEnv of SB3 already: give it to SB3 as it is\."),
        (lambda: "CartPole-v1", r"not 'CartPole-v1': make one with gymnasium\.make_vec\."),
        (lambda: SyncVectorEnv, r"vectorised environment of Gymnasium, not <class"),
        (lambda: None, "not None: make one with"),
    ],
)
def test_what_is_not_vectorised_by_gymnasium_is_named(env, message):
    with pytest.raises(TypeError, match=message):
        GymnasiumVecEnv(env())


def test_what_is_advised_for_a_single_environment_works():
    env = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")
    assert GymnasiumVecEnv(env).reset().shape == (2, 4)
