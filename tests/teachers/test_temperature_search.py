"""Where a temperature is looked for: in no environment that may exist once, and in none for longer than it may take."""

import re
import time
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from envs_for_tests import DICT_SPACE, CountdownEnv
from sb3_distill import NDistill, TeacherDistill, load_teacher
from sb3_distill.rules.temperature import ENOUGH_STATES, softest_by_confidence
from sb3_distill.teachers.q_network import QTeacher
from sb3_distill.teachers.recent_states import recent_states
from sb3_distill.teachers.tuning import tune_temperature

SMALL = dict(policy_kwargs=dict(net_arch=[8]), device="cpu", seed=0)


class Once(gym.Env):
    """Of which there is one: another constructor is counted, and stops the first."""

    made = 0

    def __init__(self, prices=None):
        assert prices is not None
        type(self).made += 1
        self.number = type(self).made
        self.observation_space = spaces.Box(-1, 1, (3,), np.float32)
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action):
        assert self.number == type(self).made, "another one has taken the simulator"
        self.t += 1
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), float(action == 1), False, self.t >= 20, {}


gym.register("Once-v0", entry_point=Once)


@pytest.mark.parametrize("steps", [0, 400])
def test_a_loaded_models_environment_is_not_made_again(steps):
    """Neither where its replay buffer has states nor where it has none, and not in the student's run; nor by hand."""
    Once.made = 0
    model = DQN("MlpPolicy", gym.make("Once-v0", prices=[1.0]), buffer_size=500, learning_starts=50, **SMALL).learn(
        steps
    )
    teacher = load_teacher(model)
    assert (teacher.temperature is None) == (steps == 0)
    NDistill("MlpPolicy", model.get_env(), teacher=teacher, **SMALL).learn(64)
    assert Once.made == 1 and teacher.temperature is not None
    with pytest.raises(ValueError, match="its own, and no second one is made of its id 'Once-v0'"):
        teacher.training_env(1)
    assert Once.made == 1


def test_what_a_file_is_called_lets_no_environment_be_made(tmp_path, monkeypatch):
    """``dqn-FrozenLake-v1.zip`` may have learnt without slipping: only who says so plays there."""
    env = gym.make("FrozenLake-v1", is_slippery=False)
    DQN("MlpPolicy", env, buffer_size=1, device="cpu").save(tmp_path / "dqn-FrozenLake-v1.zip")
    monkeypatch.setattr(gym, "make", lambda *args, **kwargs: pytest.fail("an environment was made"))
    with pytest.warns(
        UserWarning, match=r"^Not choosing the temperature .* only what its name sounds like, and no environment"
    ):
        teacher = load_teacher(tmp_path / "dqn-FrozenLake-v1.zip")
    assert teacher.temperature is None and teacher.env_id == "FrozenLake-v1"


def test_a_replay_buffer_that_cannot_be_read_is_said(monkeypatch):
    model = filled(DummyVecEnv([CountdownEnv]))
    model.replay_buffer.observations = None
    with pytest.warns(
        UserWarning, match=r"^Not choosing the temperature of DQN model by the states in its replay buffer \("
    ):
        assert load_teacher(model).temperature is None


def filled(env, policy="MlpPolicy", steps=600, **kwargs):
    return DQN(policy, env, **({"buffer_size": 400, "learning_starts": 50} | SMALL | kwargs)).learn(steps)


BUFFERS = {
    "plain": lambda: filled(DummyVecEnv([CountdownEnv])),
    "several environments": lambda: filled(DummyVecEnv([CountdownEnv] * 3), buffer_size=900),
    "one array": lambda: filled(
        DummyVecEnv([CountdownEnv]),
        optimize_memory_usage=True,
        replay_buffer_kwargs={"handle_timeout_termination": False},
    ),
    "n steps": lambda: filled(DummyVecEnv([CountdownEnv]), n_steps=3),
    "dict": lambda: filled(DummyVecEnv([lambda: CountdownEnv(DICT_SPACE)]), "MultiInputPolicy"),
    "normalised": lambda: filled(VecNormalize(DummyVecEnv([CountdownEnv]))),
    "stacked": lambda: filled(VecFrameStack(DummyVecEnv([CountdownEnv]), 2)),
    "numbered states": lambda: filled(make_vec_env("FrozenLake-v1", 2)),
}


@pytest.mark.parametrize("kind", BUFFERS)
def test_the_states_are_the_last_ones_of_the_buffer(kind, monkeypatch):
    """Each once, from before the place of the next one; as the environment gave them, so that the teacher normalises once."""
    monkeypatch.setattr("sb3_distill.teachers.recent_states.LAST", 300)
    model = BUFFERS[kind]()
    env, buffer = model.get_env(), model.replay_buffer
    before = env.get_attr("np_random")[0].bit_generator.state, np.random.get_state()[1].copy(), buffer.pos
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        teacher = load_teacher(model)
    assert env.get_attr("np_random")[0].bit_generator.state == before[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    assert buffer.pos == before[2]

    steps = -(-300 // env.num_envs)
    rows = [(buffer.pos - 1 - k) % buffer.buffer_size for k in range(steps)]
    kept = buffer.observations
    obs = {key: value[rows] for key, value in kept.items()} if isinstance(kept, dict) else kept[rows]

    def flat(values, space):
        return values.reshape(-1, *(space.shape or ()))

    space = model.observation_space
    obs = {k: flat(obs[k], space[k]) for k in obs} if isinstance(obs, dict) else flat(obs, space)
    q_values = teacher.q_values(obs)
    assert len(q_values) == steps * env.num_envs >= ENOUGH_STATES
    read = th.cat([teacher.q_values(part) for part in recent_states(model)])
    np.testing.assert_allclose(np.sort(read.numpy(), axis=0), np.sort(q_values.numpy(), axis=0), atol=1e-5)
    assert (teacher.temperature, teacher.temperature_report) == softest_by_confidence(read)[:2]


def test_too_few_states_are_none():
    model = filled(DummyVecEnv([CountdownEnv]), steps=ENOUGH_STATES - 8)
    assert recent_states(model) is None
    assert recent_states(PPO("MlpPolicy", "CartPole-v1", device="cpu")) is None
    assert load_teacher(model).temperature is None


def test_a_buffer_of_another_kind_is_no_end():
    model = filled(DummyVecEnv([CountdownEnv]))
    model.replay_buffer.observations = "somewhere else"
    assert load_teacher(model).temperature_report == "not chosen yet"


def test_teacher_control_with_one_environment_settles_on_enough_states():
    """A state at a time: the first few do not decide for good."""
    model = DQN("MlpPolicy", "CartPole-v1", buffer_size=2, **SMALL)
    teacher = load_teacher(model)
    TeacherDistill("MlpPolicy", "CartPole-v1", teacher=teacher, **SMALL).learn(300)
    assert int(re.search(r"over (\d+) observations", teacher.temperature_report).group(1)) >= ENOUGH_STATES


# --- bounds ------------------------------------------------------------------------------------------------------------


class Strange(CountdownEnv):
    """Does one thing that nobody expects."""

    def __init__(self, what):
        super().__init__()
        self.what = what
        if what == "exits":
            raise SystemExit("no licence")
        if what == "does not start":
            time.sleep(3)
        if what == "has no message":
            raise KeyError()
        if what == "has another shape":
            self.observation_space = spaces.Box(-1, 1, (7,), np.float32)

    def step(self, action):
        if self.what == "breaks":
            raise ConnectionResetError("the simulator is gone\nand left a long story")
        if self.what == "hangs":
            time.sleep(3)
        if self.what == "takes its time":
            time.sleep(0.02)
        return super().step(action)


def strange_teacher(what):
    model = DQN("MlpPolicy", CountdownEnv(), buffer_size=2, **SMALL)
    make_env = lambda n: DummyVecEnv([lambda: Strange(what)] * n)  # noqa: E731
    return QTeacher(model.policy, env_id="Strange-v0", name="robot", make_env=make_env)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("exits", "RuntimeError: SystemExit: no licence"),
        ("does not start", "TooSlow: it does not answer within"),
        ("has no message", "KeyError: KeyError"),
        ("has another shape", "ValueError: The teacher robot does not fit the environment"),
        ("breaks", r"ConnectionResetError: the simulator is gone\)"),
        ("hangs", "TooSlow: it does not answer within 0.3 seconds"),
        ("takes its time", r"TooSlow: \d+ steps took"),
    ],
)
def test_whatever_an_environment_does_is_a_warning_in_time(what, says, monkeypatch):
    """And the choice is left to the first observations, as where there is no environment."""
    monkeypatch.setattr("sb3_distill.teachers.tuning._TO_MAKE", 0.3)
    teacher = strange_teacher(what)
    start = time.monotonic()
    with pytest.warns(UserWarning, match=f"Not choosing the temperature of robot by playing Strange-v0 .{says}"):
        tune_temperature(teacher, n_episodes=2, seconds=0.3)
    assert time.monotonic() - start < 2.5
    assert teacher.temperature is None
    teacher.answer(np.zeros((300, *teacher.observation_space.shape), np.float32))
    assert teacher.temperature is not None


def test_the_states_of_an_unfinished_play_decide(monkeypatch):
    """Where greedy play has met enough of them before the time is up."""
    monkeypatch.setattr("sb3_distill.teachers.tuning._LOOK", 9.0)
    teacher = strange_teacher("is slow enough")
    monkeypatch.setattr("sb3_distill.teachers.tuning.episode_returns", many_steps)
    with pytest.warns(UserWarning, match=r"TooSlow: .* states that it met there decide"):
        tune_temperature(teacher, n_episodes=2, seconds=0.2)
    assert "the greedy action has a mean probability" in teacher.temperature_report


def many_steps(act, make_env, n_episodes, seed, max_steps):
    """Episodes without an end."""
    env = make_env(n_episodes)
    obs = np.random.default_rng(0).uniform(-1, 1, (500, *env.observation_space.shape)).astype(np.float32)
    while True:
        act(obs)
        time.sleep(0.01)


def test_it_says_what_it_does_while_it_does_it(monkeypatch, capsys):
    monkeypatch.setattr("sb3_distill.teachers.limited_play.QUIET", 0.05)
    monkeypatch.setattr("sb3_distill.teachers.tuning._LOOK", 9.0)
    with pytest.warns(UserWarning, match="TooSlow"):
        tune_temperature(strange_teacher("takes its time"), n_episodes=2, seconds=0.3)
    assert capsys.readouterr().err.startswith("Choosing the temperature of robot by playing Strange-v0")


def test_a_run_folder_of_an_unknown_environment_loads(tmp_path):
    """A warning and not a traceback."""
    DQN("MlpPolicy", "CartPole-v1", buffer_size=2, **SMALL).save(tmp_path / "agent")
    with pytest.warns(UserWarning, match="Not choosing the temperature of .* by playing Nowhere-v1"):
        teacher = load_teacher(tmp_path / "agent.zip", env_id="Nowhere-v1")
    assert teacher.temperature is None
