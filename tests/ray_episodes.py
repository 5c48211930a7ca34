"""What the tests of ``RayVecEnv`` play, with and without a cluster."""

import os

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor

SPACES = {
    "Box": spaces.Box(0, 99, (2,)),
    "Discrete": spaces.Discrete(100),
    "Dict": spaces.Dict({"b": spaces.Box(0, 99, (2,)), "a": spaces.Discrete(100)}),
    "Tuple": spaces.Tuple((spaces.Box(0, 99, (2,)), spaces.Discrete(100))),
}


class Mishap(Exception):
    def __init__(self, a, b):  # pickles, and does not unpickle
        super().__init__(f"{a} and {b}")


class Episodes(gym.Env):
    """Episodes of 1 to 5 steps that end or are cut; all that can be seen comes from the seed, the options and the actions."""

    action_space = spaces.Box(-1, 1, (2,))
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - as Gymnasium has it

    def __init__(self, kind="Box", cut=False, trouble=None, render_mode="rgb_array"):
        self.observation_space, self.kind, self.cut, self.trouble = SPACES[kind], kind, cut, trouble
        self.render_mode, self.level, self.pid = render_mode, 1, os.getpid()

    def _obs(self):
        box = np.array([self.steps, self.start], dtype=np.float32)
        return {"Box": box, "Discrete": self.steps, "Dict": {"a": self.steps, "b": box}, "Tuple": (box, self.steps)}[
            self.kind
        ]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.start = int(self.np_random.integers(50))
        self.length = (options or {}).get("length", int(self.np_random.integers(1, 6)))
        self.steps = 0
        return self._obs(), {"seed": seed, "options": options}

    def step(self, action):
        if self.trouble is not None and self.trouble():
            raise AssertionError("unreachable")
        self.steps += 1
        over = self.steps >= self.length
        reward = float(action.sum())
        action *= 0  # may be written to
        return (
            self._obs(),
            reward * self.level,
            over and not self.cut,
            over and self.cut,
            {"array": np.arange(self.steps)},
        )

    def render(self):
        return np.full((4, 6, 3), self.level, dtype=np.uint8)

    def plus(self, x, y=0):
        return self.level + x + y


def functions(kind):
    return [
        lambda: Episodes(kind),
        lambda: Monitor(Episodes(kind, cut=True)),
        lambda: gym.wrappers.TimeLimit(Episodes(kind), 3),
    ]


def plain(value):
    """All of a value, with its types, for comparison; seconds of Monitor's are left out."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key != "t"}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes(), value.flags.writeable
    return type(value).__name__, value


def play(env):
    """What is to be seen of 30 steps, seeded and with options once, and reset again in between."""
    rng = np.random.default_rng(3)
    env.seed(7)
    env.set_options([{"length": 4}, {}, {"length": 2}])
    seen = [plain(env.reset()), plain(env.reset_infos)]
    for step in range(30):
        if step == 20:
            seen.append(plain(env.reset()))
        actions = rng.uniform(-1, 1, (env.num_envs, 2)).astype(np.float32)
        obs, rewards, dones, infos = env.step(actions)
        seen.append([plain(x) for x in (obs, rewards, dones, list(infos), env.reset_infos)])
    return seen
