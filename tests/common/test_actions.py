"""Actions: one count of discrete ones, one unit of continuous ones, and the type that an environment asks for."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_distill import NDistill, OnPolicyDistill, PolicyDistillation, TeacherDistillA2C, load_teacher
from sb3_distill.common.spaces import any_action, check_spaces, env_actions, same_actions
from sb3_distill.envs import TeacherReward, VecTeacherReward
from sb3_distill.evaluation.episodes import random_play
from sb3_distill.memory import record

OBS = spaces.Box(-1, 1, (3,), np.float32)
SETTINGS = {"n_steps": 32, "batch_size": 32, "seed": 0, "device": "cpu"}


class Strict(gym.Env):
    """Takes 0 … n−1 as SB3 sends them, and of other spaces only what they contain."""

    observation_space = OBS

    def __init__(self, action_space, seen=None):
        self.action_space = action_space
        self.seen = [] if seen is None else seen

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action):
        self.seen.append(action)
        if isinstance(self.action_space, (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
            assert np.asarray(action).dtype.kind in "iu" or isinstance(self.action_space, spaces.MultiBinary)
        if not np.any(getattr(self.action_space, "start", 0)):
            assert self.action_space.contains(action), repr(action)
        self.t += 1
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), 1.0, False, self.t >= 7, {}


def envs(space, n=2, seen=None):
    return make_vec_env(lambda: Strict(space, seen), n, seed=0)


def box(low, high, dtype=np.float32, shape=(1,)):
    return spaces.Box(np.full(shape, low, dtype), np.full(shape, high, dtype), dtype=dtype)


# --- discrete actions -------------------------------------------------------------------------------------------------

STARTS = [spaces.Discrete(3, start=-1), spaces.Discrete(3, start=5), spaces.MultiDiscrete([2, 3], start=[4, -2])]


@pytest.mark.parametrize("space", STARTS, ids=str)
def test_random_actions_count_from_zero(space):
    """As SB3 has them, whatever the space's start is, and every one of them comes."""
    space.seed(0)
    drawn = np.stack([any_action(space) for _ in range(100)]).reshape(100, -1)
    n = np.atleast_1d(space.n if isinstance(space, spaces.Discrete) else space.nvec)
    assert drawn.dtype.kind == "i"
    assert [set(column) for column in drawn.T.tolist()] == [set(range(k)) for k in n]
    assert all(space.contains(action) for action in (space.sample() for _ in range(9)))  # its own are left as they were


@pytest.mark.parametrize("space", STARTS, ids=str)
def test_everyone_who_plays_counts_from_zero(space, tmp_path):
    """Student, teacher and dice send one convention in one run."""
    n = np.atleast_1d(space.n if isinstance(space, spaces.Discrete) else space.nvec)
    teacher = load_teacher(PPO("MlpPolicy", envs(space), **SETTINGS))
    players = {
        "student": lambda env: NDistill("MlpPolicy", env, teacher=teacher, **SETTINGS).learn(64),
        "teacher": lambda env: OnPolicyDistill("MlpPolicy", env, teacher=teacher, control="teacher", **SETTINGS).learn(
            64
        ),
        "uniform": lambda env: OnPolicyDistill("MlpPolicy", env, teacher=teacher, control="uniform", **SETTINGS).learn(
            64
        ),
        "A2C": lambda env: TeacherDistillA2C("MlpPolicy", env, teacher=teacher, device="cpu").learn(64),
        "memory": lambda env: PolicyDistillation(
            "MlpPolicy", env, teacher=teacher, student="ppo", epsilon=0.6, dagger=0.5, train_freq=16, device="cpu"
        ).learn(64),
        "record": lambda env: record(teacher, env, 64, tmp_path / "m", epsilon=0.6),
        "random": lambda env: [env.step(random_play(space, 2)(None)) for _ in range(20) if env.reset() is not None],
    }
    for name, play in players.items():
        seen = []
        play(envs(space, seen=seen))
        actions = np.stack(seen).reshape(len(seen), -1)
        assert len(actions) >= 40, name
        assert (actions >= 0).all() and (actions < n).all(), name


def test_a_recording_with_a_start_goes_on(tmp_path):
    """What is on disk is played again as it was."""
    space = spaces.Discrete(3, start=-1)
    teacher = load_teacher(PPO("MlpPolicy", envs(space), **SETTINGS))
    for n_steps in (30, 60):
        memory = record(teacher, envs(space), n_steps, tmp_path / "two", epsilon=0.5)
    whole = record(teacher, envs(space), 60, tmp_path / "one", epsilon=0.5)
    assert len(memory) == len(whole) == 60


# --- units of continuous actions --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "theirs", "same"),
    [
        (box(-2, 2), box(-2, 2), True),
        (box(-2, 2), box(-10, 10), False),
        (box(-2, 2), box(-2, 2.1), False),
        (box(-0.1, 0.1), box(-0.1, 0.1, np.float64), True),
        (box(-1e-7, 1e-7), box(-1e-6, 1e-6), False),
        (box(-np.inf, np.inf), box(-np.inf, np.inf, np.float64), True),
        (box(-100, 100), box(-np.inf, np.inf), False),
        (box(-1, np.inf), box(-1, np.inf), True),
        (box(-1, np.inf), box(-2, np.inf), False),
        (box(0, 1), box(-1e-9, 1), True),
        (box(-1, 1), box(-1, 1, shape=(2,)), False),
        (spaces.Discrete(3), spaces.Discrete(3, start=-1), False),
        (spaces.Discrete(3, start=2), spaces.Discrete(3, start=2), True),
        (spaces.MultiDiscrete([2, 2]), spaces.MultiDiscrete([2, 2], start=[0, 1]), False),
        (spaces.MultiBinary(3), spaces.MultiBinary(3), True),
    ],
)
def test_bounds_are_units(mine, theirs, same):
    """Equal but for rounding, as SB3 asks for it when a model gets an environment; and the message has both and a way out."""
    assert same_actions(mine, theirs) is same_actions(theirs, mine) is same
    if same:
        check_spaces("t", OBS, mine, OBS, theirs)
    else:
        with pytest.raises(
            ValueError, match=r"^The teacher t does not fit the environment: its action space is "
        ) as error:
            check_spaces("t", OBS, mine, OBS, theirs)
        assert str(mine) in str(error.value) and str(theirs) in str(error.value)


def test_the_message_says_what_to_do():
    """For one bound or for many; and no promise where a bound is infinite."""
    for mine, theirs, hint in (
        (box(-2, 2), box(-10, 10), r"RescaleAction\(env, -2.0, 2.0\)"),
        (
            spaces.Box(np.float32([-1, 0]), np.float32([1, 5])),
            box(-1, 1, shape=(2,)),
            r"np.array\(\[-1.0, 0.0\], np.float32\)",
        ),
        (box(-100, 100), box(-np.inf, np.inf), r"around its own\.$"),
    ):
        with pytest.raises(ValueError, match=hint):
            check_spaces("t", OBS, mine, OBS, theirs)


def test_bounds_of_observations_are_left_alone():
    """They have changed from one version of an environment to the next (CartPole, LunarLander), and mean nothing to a network."""
    check_spaces("t", spaces.Box(-np.inf, np.inf, (3,)), box(-1, 1), spaces.Box(-4.8, 4.8, (3,)), box(-1, 1))


def test_other_units_are_refused_before_any_work(tmp_path):
    """Everywhere where a teacher meets an environment, or a memory a student."""
    teacher = load_teacher(PPO("MlpPolicy", envs(box(-2, 2)), **SETTINGS))
    record(teacher, envs(box(-2, 2)), 32, tmp_path / "m")
    seen, space = [], box(-10, 10)
    env = envs(space, seen=seen)
    for work in (
        lambda: NDistill("MlpPolicy", env, teacher=teacher, device="cpu"),
        lambda: TeacherDistillA2C("MlpPolicy", env, teacher=teacher, device="cpu"),
        lambda: PolicyDistillation("MlpPolicy", env, teacher=teacher, student="ppo", device="cpu"),
        lambda: PolicyDistillation("MlpPolicy", env, memory=tmp_path / "m", student="ppo", device="cpu"),
        lambda: record(teacher, env, 32, tmp_path / "other"),
        lambda: TeacherReward(Strict(space), teacher),
        lambda: VecTeacherReward(env, teacher),
    ):
        with pytest.raises(
            ValueError, match=r"does not fit the (environment|student): its action space is Box\(-2.0, 2.0"
        ):
            work()
    assert not seen and not (tmp_path / "other").exists()


# --- shapes and types -------------------------------------------------------------------------------------------------

SHAPES = [
    spaces.Discrete(3),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiBinary(3),
    spaces.Box(-2, 3, (2, 2), np.float32),
    spaces.Box(-2, 3, (1, 2, 2), np.float32),
    spaces.Box(np.array([-1.0, 0.0]), np.array([1.0, 0.1]), dtype=np.float64),
]


@pytest.mark.parametrize("space", SHAPES, ids=str)
@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_the_critic_is_asked_whatever_the_actions_are(space, algorithm):
    """V_π is SB3's own ``predict_values``."""
    model = algorithm("MlpPolicy", envs(space), n_steps=32, seed=0, device="cpu")
    teacher = load_teacher(model)
    obs = np.random.default_rng(0).uniform(-1, 1, (5, 3)).astype(np.float32)
    with th.no_grad():
        expected = model.policy.predict_values(th.from_numpy(obs)).flatten()
    assert th.equal(teacher.value(obs), expected)


@pytest.mark.parametrize("space", SHAPES, ids=str)
def test_environments_take_what_is_drawn(space):
    """Of the space's shape, in its bounds, and whole where numbers are whole."""
    model = PPO("MlpPolicy", envs(space), seed=0, device="cpu")
    distribution = load_teacher(model).distribution(np.zeros((6, 3), np.float32))
    for actions in (env_actions(space, distribution.sample()), env_actions(space, distribution.mode())):
        assert actions.shape == (6, *space.shape)
        assert all(space.contains(action) for action in actions)
        assert actions.dtype.kind == np.dtype(space.dtype).kind
