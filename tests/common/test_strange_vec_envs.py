"""VecEnvs of others: few attributes, infos and types of their own, arrays that are written over, callbacks that play in them."""

import warnings
from functools import partial
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnv,
    VecExtractDictObs,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

from envs_for_tests import actor_critic_teacher
from sb3_distill import DistillA2C, DistillPPO, PolicyDistillation, load_teacher
from sb3_distill.algorithms.multi_task import MultiTaskDistillation
from sb3_distill.common.frames import FrameStore
from sb3_distill.common.questions import env_id_of, is_monitored, time_limit_of
from sb3_distill.envs import GymnasiumVecEnv, VecTeacherReward
from sb3_distill.evaluation.episodes import episode_returns
from sb3_distill.memory import record

N = 3
SPACE = spaces.Box(-np.inf, np.inf, (3,), np.float32)


class Bare(VecEnv):
    """
    A VecEnv with what SB3's PPO needs and nothing else. An observation is (environment, episode, step): it says where it was made.

    :param kwargs: the ways in which it is strange
    """

    def __init__(
        self, n=N, answers=NotImplementedError, infos=list, dones=np.array, rewards=np.array, reuse=False, told="always"
    ):
        self.num_envs, self.observation_space, self.action_space = n, SPACE, spaces.Discrete(2)  # no super().__init__()
        self.answers, self.as_infos, self.as_dones, self.as_rewards = answers, infos, dones, rewards
        self.reuse, self.told = reuse, told
        self.array = np.zeros((n, 3), np.float32)
        self.episode = np.zeros(n)
        self.log = []

    def _obs(self):
        obs = np.stack([np.arange(self.num_envs), self.episode, self.t], axis=1)
        if not self.reuse:
            return obs.astype(self.dtype)
        self.array[:] = obs
        return self.array

    dtype = np.float32

    def reset(self):
        self.episode += 1
        self.t = np.zeros(self.num_envs)
        return self._obs()

    def step_async(self, actions):
        assert np.shape(actions) == (self.num_envs,)

    def step_wait(self):
        self.t += 1
        dones = self.t >= 4 + np.arange(self.num_envs)
        last = self._obs().copy()
        infos = [{"terminal_observation": None, "TimeLimit.truncated": np.False_} for _ in dones]
        for i in np.flatnonzero(dones):
            cut = self.episode[i] % 2 == 0
            infos[i] = {"terminal_observation": last[i], "TimeLimit.truncated": np.bool_(cut)}
            if self.told == "never" or (self.told == "sometimes" and i == 0):
                del infos[i]["terminal_observation"]
            if self.told == "nothing":
                infos[i] = {}
        self.episode[dones] += 1
        self.t[dones] = 0
        obs = self._obs()
        rewards = 1.0 + np.arange(self.num_envs)
        return obs, self.as_rewards(rewards), self.as_dones(dones), self.as_infos(infos)

    def close(self):
        pass

    def _refuse(self, *args, **kwargs):
        if isinstance(self.answers, type) and issubclass(self.answers, Exception):
            raise self.answers("this VecEnv does not answer")
        return self.answers

    get_attr = set_attr = env_method = env_is_wrapped = has_attr = _refuse


class Double(Bare):
    dtype = np.float64


STRANGE = {
    "not implemented": {},
    "no attributes": {"answers": AttributeError},
    "type error": {"answers": TypeError},
    "broken pipe": {"answers": EOFError},
    "one bool": {"answers": False},
    "wrong length": {"answers": [None]},
    "nothing": {"answers": []},
    "tuple of infos": {"infos": tuple},
    "shared info": {"infos": lambda infos: [{}] * len(infos)},
    "whole numbers": {"dones": lambda dones: np.array(dones, np.int64)},
    "column of rewards": {"rewards": lambda rewards: rewards.reshape(-1, 1)},
    "list of rewards": {"rewards": lambda rewards: rewards.tolist()},
    "tensor of rewards": {"rewards": lambda rewards: th.from_numpy(rewards)},
    "list of dones": {"dones": lambda dones: dones.tolist()},
    "one environment": {"n": 1},
    "no terminal observations": {"told": "never"},
    "some terminal observations": {"told": "sometimes"},
    "no infos at ends": {"told": "nothing"},
    "reused": {"reuse": True},
}


@pytest.fixture(scope="module")
def teacher():
    return actor_critic_teacher(Bare())


def taught(engine, env, teacher, **kwargs):
    kwargs = {"n_epochs": 1} | kwargs if engine is DistillPPO else kwargs
    return engine("MlpPolicy", env, teacher=teacher, n_steps=16, seed=None, device="cpu", **kwargs)


@pytest.mark.parametrize(
    ("vec_class", "strange"),
    [(Bare, strange) for strange in STRANGE]
    + [(Double, strange) for strange in ("not implemented", "no terminal observations", "reused")],
)
def test_every_class_runs_in_it(strange, vec_class, teacher, tmp_path):
    """Both engines, the memory, a recording, a teacher's reward and an evaluation; whether the teacher has wrappers or not.

    What observations are made of meets only the strangeness that is about observations.
    """

    def env():
        return vec_class(**STRANGE[strange])

    n = env().num_envs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for engine in (DistillPPO, DistillA2C):
            model = taught(engine, env(), teacher, method="teacher_v_reward").learn(32 * n)
            assert np.isfinite(model.rollout_buffer.advantages).all()
        settings = {"student": "ppo", "train_freq": 8, "gradient_steps": 2, "device": "cpu", "dagger": 0.5}
        PolicyDistillation("MlpPolicy", env(), teacher=teacher, **settings).learn(32 * n)
        assert len(record(teacher, env(), 30, tmp_path / "memory")) == 30
        PPO(
            "MlpPolicy",
            VecTeacherReward(env(), teacher, reward="teacher_value"),
            n_steps=16,
            batch_size=16,
            n_epochs=1,
            device="cpu",
        ).learn(32 * n)
        returns = episode_returns(teacher.act, lambda n: vec_class(**STRANGE[strange] | {"n": n}), 3)
        assert returns.tolist() == [4.0, 10.0, 18.0]
        stacked = actor_critic_teacher(VecFrameStack(DummyVecEnv([Signs] * 2), 2))
        taught(DistillPPO, env(), stacked, teacher_obs=lambda venv: VecFrameStack(venv, 2)).learn(32 * n)


class Signs(gym.Env):
    observation_space = SPACE
    action_space = spaces.Discrete(2)


def recorded(model):
    """Observations of the buffer, rows by time, and the teacher's answers there."""
    buffer = model.rollout_buffer
    shape = (model.n_envs, model.n_steps)
    if buffer.generator_ready:
        return buffer.observations.reshape(*shape, -1).swapaxes(0, 1), buffer.teacher_parameters.reshape(
            *shape, -1
        ).swapaxes(0, 1)
    return buffer.observations, buffer.teacher_parameters


def assert_answers_belong(model, teacher, see=lambda obs: obs):
    obs, answers = recorded(model)
    seen = see(obs.reshape(-1, *obs.shape[2:]))
    expected = teacher.answer(seen).parameters.numpy().reshape(answers.shape)
    np.testing.assert_allclose(answers, expected, atol=1e-6)


@pytest.mark.parametrize("engine", [DistillPPO, DistillA2C])
@pytest.mark.parametrize("method", ["n_distill", "teacher_distill", "teacher_v_reward"])
def test_a_reused_array_is_copied(engine, method, teacher):
    """Each row has the state in which its action was chosen, and the teacher's answer there: as without the reuse, to the bit."""
    rows = []
    for reuse in (False, True):
        th.manual_seed(0)
        model = taught(engine, Bare(reuse=reuse), teacher, method=method)
        model.learn(16 * N)
        assert_answers_belong(model, teacher)
        rows.append(recorded(model)[0].copy())
    np.testing.assert_array_equal(*rows)
    assert (np.diff(rows[1][:4, 0, 2]) == 1).all() and rows[1][0, 0, 2] == 0


def test_others_algorithms_and_memories_get_copies_too(teacher, tmp_path):
    """SB3's PPO in VecTeacherReward; what is recorded; Gymnasium's SyncVectorEnv(copy=False)."""
    starts = []
    for reuse in (False, True):
        env = VecTeacherReward(Bare(reuse=reuse), teacher)
        model = PPO("MlpPolicy", env, n_steps=16, batch_size=16, seed=None, device="cpu").learn(16 * N)
        starts.append(model.rollout_buffer.observations.reshape(N, 16, 3)[:, :4, 2])
        memory = record(teacher, Bare(reuse=reuse), 60, tmp_path / str(reuse), epsilon=0.0)
        for batch in memory.batches(60, 0):
            expected = teacher.answer(batch.observations).parameters.numpy()
            np.testing.assert_allclose(batch.answers, expected, atol=1e-6)
    assert (starts[0] == np.arange(4)).all() and (starts[1] == np.arange(4)).all()
    for copy in (True, False):
        env = GymnasiumVecEnv(SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 2, copy=copy))
        env.seed(0)
        first = env.reset()
        kept = first.copy()
        second = env.step(np.zeros(2, int))[0]
        np.testing.assert_array_equal(first, kept)
        assert not np.array_equal(first, second)


def test_missing_terminal_observations_are_said_once(teacher, tmp_path):
    """With their number; where all are told, or their value is not asked for, nothing is said."""
    message = r"^\d+ of \d+ episodes that ended .* have no terminal_observation"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        taught(DistillPPO, Bare(told="sometimes"), teacher, method="n_distill").learn(16 * N * 5)
    assert sum("terminal_observation" in str(w.message) for w in caught) == 1
    with pytest.warns(UserWarning, match=message):
        taught(DistillA2C, Bare(told="never"), teacher, method="teacher_v_reward").learn(32 * N)
    env = VecTeacherReward(Bare(told="never"), teacher, reward="teacher_value")
    with pytest.warns(UserWarning, match=message):
        PPO("MlpPolicy", env, n_steps=32, batch_size=16, seed=None, device="cpu").learn(32 * N)
    with pytest.warns(UserWarning, match=r"^\d+ of \d+ episodes ended without a terminal_observation"):
        record(teacher, Bare(told="sometimes"), 60, tmp_path / "m", epsilon=0.0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*terminal_observation")
        taught(DistillPPO, Bare(), teacher, method="n_distill").learn(32 * N)
        taught(DistillPPO, Bare(told="never"), teacher, method="on_policy_distill").learn(32 * N)


# --- what is asked ----------------------------------------------------------------------------------------------------


def cartpole(**kwargs):
    return gym.make("CartPole-v1", **kwargs)


def lambda_env():
    env = gym.make("CartPole-v1", max_episode_steps=30)
    env.unwrapped.spec.kwargs["reward"] = lambda x: x
    return env


def secret_env():
    env = cartpole()
    env.unwrapped.spec.kwargs["reward"] = lambda x: x
    return env


@pytest.mark.parametrize("strange", STRANGE)
def test_questions_have_an_answer(strange):
    """Whatever the environment makes of them."""
    env = Bare(**STRANGE[strange])
    assert env_id_of(env) is None and time_limit_of(env) is None
    assert is_monitored(env) is False


def test_what_is_known_is_told():
    """The id and the time limit of Gymnasium's, in SB3's and in Gymnasium's vectorised environments."""
    for env in (
        DummyVecEnv([cartpole]),
        VecNormalize(VecMonitor(DummyVecEnv([cartpole]))),
        GymnasiumVecEnv(gym.make_vec("CartPole-v1", 2, vectorization_mode="sync")),
    ):
        assert env_id_of(env) == "CartPole-v1"
        assert time_limit_of(env) == 500
    assert env_id_of(None) is None
    assert is_monitored(VecMonitor(DummyVecEnv([cartpole]))) and not is_monitored(DummyVecEnv([cartpole]))


def test_workers_that_cannot_pickle_their_spec_live_on(tmp_path):
    """A worker that is asked for it is dead afterwards, and the run with it."""
    env = SubprocVecEnv([lambda_env], start_method="fork")
    try:
        model = PPO("MlpPolicy", env, n_steps=16, batch_size=16, device="cpu")
        teacher = load_teacher(model)
        assert time_limit_of(env) == 30 and env_id_of(env) is None
        taught(DistillPPO, env, teacher).learn(32)
        record(teacher, env, 20, tmp_path / "m")
        env.reset()
    finally:
        env.close()


def test_a_recording_whose_environment_has_no_name_goes_on(tmp_path):
    """An id that a worker cannot tell is that of no other environment."""
    teacher = load_teacher(PPO("MlpPolicy", DummyVecEnv([cartpole]), device="cpu"))
    record(teacher, DummyVecEnv([cartpole]), 20, tmp_path / "m")
    env = SubprocVecEnv([partial(cartpole, max_episode_steps=500)], start_method="fork")
    try:
        assert env_id_of(env) == "CartPole-v1"
    finally:
        env.close()
    env = SubprocVecEnv([secret_env], start_method="fork")
    try:
        assert env_id_of(env) is None
        assert len(record(teacher, env, 40, tmp_path / "m")) == 40
    finally:
        env.close()


def test_an_environment_without_seeds(teacher, tmp_path):
    """Is played as it comes, and said to be."""

    class Seedless(Bare):
        def seed(self, seed=None):
            raise NotImplementedError("no seeds here")

    with pytest.warns(UserWarning, match="Seedless takes no seed"):
        assert len(record(teacher, Seedless(), 20, tmp_path / "m")) == 20
    with pytest.warns(UserWarning, match="Seedless takes no seed"):
        episode_returns(teacher.act, Seedless, 3)


# --- callbacks that play in the environment ---------------------------------------------------------------------------


class Evaluate(BaseCallback):
    """Plays in the environment of the training, at every place where a callback may."""

    def __init__(self, every=5):
        super().__init__()
        self.every = every

    def _play(self):
        evaluate_policy(self.model, self.training_env, n_eval_episodes=2, warn=False)

    def _on_training_start(self):
        self._play()

    def _on_rollout_start(self):
        self._play()

    def _on_step(self):
        if self.n_calls % self.every == 0:
            self._play()
        return True

    def _on_rollout_end(self):
        self._play()

    _on_training_end = _on_training_start


class Watched(VecNormalize):
    """Knows of which raw observation each normalised one was made."""

    def normalize_obs(self, obs):
        normalised = super().normalize_obs(obs)
        for key, value in zip(np.atleast_2d(normalised), np.atleast_2d(obs), strict=True):
            RAW[key.tobytes()] = np.array(value)
        return normalised


RAW = {}


@pytest.mark.parametrize(
    ("normalised", "method", "engine", "reuse"),
    [
        (normalised, method, engine, (normalised + m + e) % 2 == 0)
        for normalised in (False, True)
        for m, method in enumerate(["n_distill", "teacher_distill", "teacher_v_reward", "on_policy_distill"])
        for e, engine in enumerate([DistillPPO, DistillA2C])
    ],
)
def test_answers_belong_to_what_is_in_the_buffer(engine, method, normalised, reuse, teacher):
    """In every row of every rollout, though a callback has reset and played the environment in between; learn() goes on, too.

    Any three of the four choices meet in every way.
    """
    RAW.clear()
    env = (
        Watched(Bare(answers=[False], reuse=reuse), clip_obs=1e6) if normalised else Bare(answers=[False], reuse=reuse)
    )
    model = taught(engine, env, teacher, method=method)

    def see(obs):
        return np.stack([RAW[row.tobytes()] for row in obs]) if normalised else obs

    class Check(Evaluate):
        def _on_rollout_end(self):
            assert_answers_belong(self.model, teacher, see)
            super()._on_rollout_end()

    model.learn(16 * N * 3, callback=Check())
    model.learn(16 * N * 3, callback=Check(), reset_num_timesteps=False)
    assert model.num_timesteps == 16 * N * 6


class Keep(Evaluate):
    """Keeps what is in the buffer."""

    def _on_training_start(self):
        self.found = []
        super()._on_training_start()

    def _on_rollout_end(self):
        buffer = self.model.rollout_buffer
        self.found.append([np.array(x) for x in (buffer.observations, buffer.rewards, buffer.episode_starts)])
        super()._on_rollout_end()

    _on_training_end = Evaluate._play


@pytest.mark.parametrize("engine", [DistillPPO, DistillA2C])
def test_sb3s_own_buffer_has_the_same_rows(engine, teacher):
    """Observations, actions, rewards and ends are those of SB3's algorithm with the same callback, to the bit."""
    rows = []
    for distilled in (False, True):
        th.manual_seed(3)
        np.random.seed(3)
        env = Bare(answers=[False])
        sb3 = {DistillPPO: PPO, DistillA2C: A2C}[engine]
        settings = {"n_steps": 16, "learning_rate": 1e-3, "seed": None, "device": "cpu"}
        th.manual_seed(5)
        model = (
            taught(engine, env, teacher, method="on_policy_distill", learning_rate=1e-3)
            if distilled
            else sb3("MlpPolicy", env, **settings)
        )
        th.manual_seed(7)

        keep = Keep()
        model.learn(16 * N, callback=keep)
        rows.append(keep.found)
    for mine, theirs in zip(*rows, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(a[..., :2] if a.ndim == 3 else a, b[..., :2] if b.ndim == 3 else b)


@pytest.mark.parametrize("control", ["student", "teacher"])
def test_a_teacher_with_wrappers_sees_the_evaluation_too(control):
    """Its stack follows the environment, and its newest frame is the one in the student's buffer; an evaluation clears the stack."""
    stacked = actor_critic_teacher(VecFrameStack(DummyVecEnv([Signs] * 2), 3))
    seen = []
    answer = stacked.answer
    stacked.answer = lambda obs, with_value=False: seen.append(np.array(obs)) or answer(obs, with_value)
    env = Bare(answers=[False])
    model = taught(
        DistillPPO,
        env,
        stacked,
        teacher_obs=lambda venv: VecFrameStack(venv, 3),
        method="on_policy_distill",
        control=control,
    )

    class Check(Evaluate):
        def _on_rollout_end(self):
            asked = np.concatenate(seen)
            states = self.model.rollout_buffer.observations.reshape(-1, 3)
            answers = self.model.rollout_buffer.teacher_parameters.reshape(len(states), -1)
            by_newest = {tuple(row[-3:]): row for row in asked}
            for state, parameters in zip(states, answers, strict=True):
                row = by_newest[tuple(state)]
                np.testing.assert_allclose(parameters, answer(row[None]).parameters.numpy()[0], atol=1e-6)
                frames = row.reshape(3, 3)
                for older, newer in pairwise(frames):
                    # Before an episode's first frame there are zeros; else frames follow each other in one episode.
                    assert not older.any() or newer[2] == 0 or (older[1] == newer[1] and older[2] == newer[2] - 1), (
                        frames
                    )
            super()._on_rollout_end()

    model.learn(16 * N * 4, callback=Check())


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("reuse", [False, True])
def test_memories_too(normalised, view, reuse, teacher):
    """Each state in the memory has the teacher's answer there, whoever has played in between."""
    env = Bare(answers=[False], reuse=reuse)
    wrap = {"teacher_obs": lambda venv: VecFrameStack(venv, 2)} if view else {}
    asked = actor_critic_teacher(VecFrameStack(DummyVecEnv([Signs] * 2), 2)) if view else teacher
    env = VecNormalize(env) if normalised else env
    settings = {"student": "ppo", "train_freq": 8, "gradient_steps": 4, "device": "cpu", "dagger": 0.5}
    model = PolicyDistillation("MlpPolicy", env, teacher=asked, **wrap, **settings)
    pairs, answer = {}, asked.answer

    def spy(obs, with_value=False):
        found = answer(obs, with_value)
        pairs.update({tuple(row): p.numpy() for row, p in zip(obs, found.parameters, strict=True)})
        return found

    asked.answer = spy
    model.learn(N * 60, callback=Evaluate(7))
    model.learn(N * 40, callback=Evaluate(7), reset_num_timesteps=False)
    by_newest = {}
    for row, parameters in pairs.items():
        by_newest.setdefault(row[-3:], []).append(parameters)
    for batch in model.replay_buffer.batches(1_000, 0):
        for state, parameters in zip(batch.observations, batch.answers, strict=True):
            assert any(np.allclose(parameters, found) for found in by_newest[tuple(state)])


def image_env():
    class Screen(gym.Env):
        observation_space = spaces.Box(0, 255, (36, 36, 1), np.uint8)
        action_space = spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.t = 0
            return self.np_random.integers(1, 256, (36, 36, 1), np.uint8), {}

        def step(self, action):
            self.t += 1
            return self.np_random.integers(1, 256, (36, 36, 1), np.uint8), 1.0, False, self.t >= 9, {}

    return VecTransposeImage(VecFrameStack(DummyVecEnv([Screen] * 2), 4))


def test_frames_are_kept_through_an_evaluation():
    """A stack after it has frames that no rollout has seen."""
    teacher = actor_critic_teacher(image_env())
    for every in (3, 5):
        model = DistillPPO(
            "CnnPolicy",
            image_env(),
            teacher=teacher,
            method="teacher_distill",
            n_steps=16,
            batch_size=16,
            n_epochs=1,
            device="cpu",
        )
        model.learn(64, callback=EvalCallback(model.env, eval_freq=every, n_eval_episodes=2, verbose=0, warn=False))
        evaluate_policy(model, model.env, 2, warn=False)
        model.learn(32, reset_num_timesteps=False)
        buffer = model.rollout_buffer
        order = np.arange(32)
        np.testing.assert_allclose(
            buffer.teacher_parameters, teacher.answer(buffer.observations[order]).parameters.numpy(), atol=1e-5
        )
        memory = PolicyDistillation(
            "CnnPolicy", image_env(), teacher=teacher, student="ppo", train_freq=8, buffer_size=64, device="cpu"
        )
        memory.learn(48, callback=EvalCallback(memory.env, eval_freq=every, n_eval_episodes=2, verbose=0, warn=False))
        evaluate_policy(memory, memory.env, 2, warn=False)
        memory.learn(48, reset_num_timesteps=False)
        for batch in memory.replay_buffer.batches(64, 0):
            expected = teacher.answer(batch.observations).parameters.numpy()
            np.testing.assert_allclose(batch.answers, expected, atol=1e-5)


def test_a_store_keeps_odd_stacks_after_a_cut_alone():
    """For as many steps as a stack has frames, and forgets them as the ring goes round."""
    rng = np.random.default_rng(0)
    store, stacks = FrameStore(8, 2, 4, (4, 2, 2)), []
    stack = rng.integers(1, 256, (2, 4, 2, 2), np.uint8)
    for time in range(30):
        if time == 5:
            stack = rng.integers(1, 256, stack.shape, np.uint8)
            store.cut(time)
        store.put(time, stack)
        stacks.append(stack)
        stack = np.concatenate([stack[:, 1:], rng.integers(1, 256, (2, 1, 2, 2), np.uint8)], axis=1)
        for known in range(max(0, time - 7), time + 1):
            np.testing.assert_array_equal(store.gather(np.full(2, known), np.arange(2)), stacks[known])
    assert not store.whole
    with pytest.raises(ValueError, match="no stack of 4 frames"):
        store.put(30, rng.integers(1, 256, stack.shape, np.uint8))


@pytest.mark.parametrize("wrap", [lambda env: env, VecNormalize])
def test_eval_callback_on_the_training_environment(wrap, tmp_path):
    """SB3 issue 1731: with SB3's own callback, for a Q-teacher and an environment of Gymnasium."""
    teacher = load_teacher(DQN("MlpPolicy", "CartPole-v1", device="cpu", seed=0), tune=False)
    env = wrap(DummyVecEnv([cartpole]))
    callback = EvalCallback(env, eval_freq=10, n_eval_episodes=1, verbose=0, warn=False)
    taught(DistillPPO, env, teacher).learn(64, callback=callback)
    PolicyDistillation("MlpPolicy", env, teacher=teacher, device="cpu").learn(64, callback=callback)


def test_a_dict_is_read_through_its_key(teacher):
    """SB3's VecExtractDictObs reads ``terminal_observation`` of every info, None where the episode goes on."""

    class Both(Bare):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.observation_space = spaces.Dict({"state": SPACE, "other": spaces.Box(-1, 1, (1,))})

        def _obs(self):
            return Parts(state=super()._obs(), other=np.zeros((self.num_envs, 1), np.float32))

    class Parts(dict):
        def copy(self):
            return Parts({key: value.copy() for key, value in self.items()})

        def __getitem__(self, key):
            return super().__getitem__(key) if isinstance(key, str) else {k: v[key] for k, v in self.items()}

    model = DistillPPO(
        "MultiInputPolicy",
        Both(),
        teacher=teacher,
        teacher_obs=lambda venv: VecExtractDictObs(venv, "state"),
        n_steps=16,
        seed=None,
        device="cpu",
    )
    model.learn(64 * N)


class OneArray(gym.Env):
    """Writes each observation over the one before, and so the next episode's first one over the last one."""

    observation_space = SPACE
    action_space = spaces.Discrete(2)
    starts_anywhere, copies = True, False

    def __init__(self):
        self.array = np.zeros(3, np.float32)

    def _obs(self):
        self.array[:] = self.t, self.np_random.random() if self.starts_anywhere else 0.0, 1.0
        return self.array.copy() if self.copies else self.array

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action):
        self.t += 1
        return self._obs(), 1.0, False, self.t >= 4, {}


class Copies(OneArray):
    copies = True


class OneStart(Copies):
    """A start that is always the same is no sign of anything, even if the episode ends there."""

    starts_anywhere = False

    def step(self, action):
        self.t += 1
        over, self.t = self.t >= 4, self.t
        obs = self._obs()
        obs[0] = 0.0
        return obs, 1.0, False, over, {}


def test_last_observations_that_are_the_next_first_ones_are_said(teacher):
    """SB3's DummyVecEnv hands on the array that the reset has written to: nothing else shows it."""
    with pytest.warns(UserWarning, match=r"^In all \d+ episodes that a time limit cut .* obs\.copy\(\)"):
        taught(DistillPPO, DummyVecEnv([OneArray] * N), teacher, method="n_distill").learn(16 * N)
    for other in (Copies, OneStart):
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="In all")
            taught(DistillPPO, DummyVecEnv([other] * N), teacher, method="n_distill").learn(16 * N)


def test_several_tasks(teacher):
    """An evaluation in one task's environment, in the course of another's episode and of its own."""
    envs = {"a": Bare(1, answers=[False]), "b": Bare(1, answers=[False], reuse=True)}
    model = MultiTaskDistillation(
        "MlpPolicy", envs, teacher=dict.fromkeys(envs, teacher), student="ppo", train_freq=16, device="cpu"
    )

    class Play(BaseCallback):
        def _on_step(self):
            task_id = "ab"[self.n_calls % 2]
            if self.n_calls % 3 == 0:
                evaluate_policy(self.model.task(task_id), envs[task_id], 1, warn=False)
            return True

    model.learn(100, callback=Play())
    for task in model.tasks.values():
        for batch in task.replay_buffer.batches(200, 0):
            expected = teacher.answer(batch.observations).parameters.numpy()
            np.testing.assert_allclose(batch.answers, expected, atol=1e-6)
