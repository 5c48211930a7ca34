"""Teachers that see something else than their students: what they are asked, and what of it the student notices."""

import sys
import time
from copy import deepcopy

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.wrappers import TimeFeatureWrapper
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecExtractDictObs,
    VecFrameStack,
    VecNormalize,
)

from sb3_distill import DistillA2C, DistillPPO
from sb3_distill.agents.errors import CheckpointError
from sb3_distill.agents.load import load_teacher
from sb3_distill.agents.time_feature import VecTimeFeature
from sb3_distill.agents.training import MAX_SETTINGS, Training, find_wrapper, read_config, training
from sb3_distill.common.observations import copy_obs
from sb3_distill.common.questions import is_truncated
from sb3_distill.envs import TeacherReward, VecTeacherReward
from sb3_distill.teachers.actor_critic import ActorCriticTeacher
from sb3_distill.teachers.recurrent import RecurrentTeacher

N_ENVS, N_STEPS = 2, 16

FRAME = spaces.Box(0, 255, (6, 6, 1), np.uint8)
FLAT = spaces.Box(0.0, 255.0, (4,), np.float32)
SPACES = {
    "image": FRAME,
    "flat": FLAT,
    "dict": spaces.Dict({"student": FLAT, "teacher": FLAT}),
    "mixed": spaces.Dict({"table": spaces.Box(0.0, 255.0, (2, 2), np.float32), "flat": FLAT}),
}


class Counting(gym.Env):
    """
    Frames that say when they were made: the step, the episode, the environment's number, and the action before.

    Episodes have three to six steps, other ones in each environment; every other one is cut by a time limit.
    """

    def __init__(self, kind="image"):
        self.kind = kind
        self.observation_space = deepcopy(SPACES[kind])
        self.action_space = spaces.Discrete(3)
        self.history = []

    def _frame(self, action=None):
        said = np.array([self.time, self.episode, self.number, 0 if action is None else int(action) + 1], np.float32)
        image = np.zeros(FRAME.shape, np.uint8)
        image.flat[:4] = said
        return {
            "image": image,
            "flat": said,
            "dict": {"student": 100 + said, "teacher": said},
            "mixed": {"table": said.reshape(2, 2), "flat": said},
        }[self.kind]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.number, self.episode = 1 + seed, seed
        self.time, self.episode = 0, self.episode + 1
        return self._frame(), {}

    def step(self, action):
        self.history.append(int(action))
        self.time += 1
        over, limit = self.time == 3 + self.episode % 4, self.episode % 2 == 0
        return self._frame(action), float(self.time), over and not limit, over and limit, {}


def counting(kind="image", n_envs=N_ENVS, seed=0):
    """Seeded: two of them say the same after the same actions."""
    env = DummyVecEnv([lambda: Counting(kind)] * n_envs)
    env.seed(seed)
    return env


def histories(env):
    """The actions that were executed, (steps, environments)."""
    return np.array(env.get_attr("history")).T


def shown(env, actions):
    """What an environment shows on the given actions: observations, infos, and (t, i, s_{t+1}) of time limits."""
    observations, all_infos, cut = [copy_obs(env.reset())], [], []
    for t, action in enumerate(actions):
        obs, _, _, infos = env.step(action)
        observations.append(copy_obs(obs))
        all_infos.append(infos)
        cut += [(t, i, info["terminal_observation"]) for i, info in enumerate(infos) if is_truncated(info)]
    return observations, all_infos, cut


class Asked:
    """What a teacher was asked, in order; a part of one."""

    def answer(self, obs, with_value=False):
        self.asked = [*getattr(self, "asked", []), copy_obs(obs)]
        answer = super().answer(obs, with_value)
        self.answered = [*getattr(self, "answered", []), answer]
        return answer


class AskedTeacher(Asked, ActorCriticTeacher):
    pass


class AskedRecurrentTeacher(Asked, RecurrentTeacher):
    pass


def feedforward(space, seed=0, gain=1.0, **kwargs):
    """A random teacher that sees such a space, images channels first as SB3 saves them."""
    if space.shape == (6, 6, 4):
        space = spaces.Box(0, 255, (4, 6, 6), np.uint8)
    th.manual_seed(seed)
    policy = ActorCriticPolicy(space, spaces.Discrete(3), lambda _: 0.0, net_arch=[8], ortho_init=False)
    with th.no_grad():
        policy.action_net.weight *= gain
    return AskedTeacher(policy, name="onlooker", **kwargs)


def recurrent(space=FLAT, seed=0, **kwargs):
    """A random teacher that remembers."""
    th.manual_seed(seed)
    policy = RecurrentActorCriticPolicy(
        space, spaces.Discrete(3), lambda _: 0.0, net_arch=[5], lstm_hidden_size=6, ortho_init=False, **kwargs
    )
    with th.no_grad():  # frames say numbers of up to ten
        for name, weight in policy.named_parameters():
            if "weight_ih" in name:
                weight *= 0.3
    policy.set_training_mode(False)
    return AskedRecurrentTeacher(policy, name="elephant")


def distil(env, teacher, algorithm=DistillPPO, **kwargs):
    """A tiny student; its environments are seeded as counting() seeds them."""
    settings = {"n_steps": N_STEPS, "device": "cpu", "seed": 0, "policy_kwargs": {"net_arch": [4]}}
    if algorithm is DistillPPO:
        settings |= {"batch_size": kwargs.get("n_steps", N_STEPS) * env.num_envs, "n_epochs": 1}
    policy = "MultiInputPolicy" if isinstance(env.observation_space, spaces.Dict) else "MlpPolicy"
    return algorithm(policy, env, teacher=teacher, **(settings | kwargs))


def rows(asked):
    """All states that a teacher was asked about, one by one."""
    return np.concatenate(asked)


def expected_questions(env, actions, n_steps=N_STEPS):
    """
    Each rollout's new states in order, then those at which time limits cut it, of an environment that really shows them.
    """
    observations, _, cut = shown(env, actions)
    questions = [observations[0]]
    for start in range(0, len(actions), n_steps):
        questions += observations[start + 1 : start + n_steps + 1]
        ends = [obs for t, _, obs in cut if start <= t < start + n_steps]
        questions += [np.stack(ends)] if ends else []
    assert len(cut) > 2
    return np.concatenate(questions)


def stack4(env):
    return VecFrameStack(env, 4)


# --- stacks of frames -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told_by", ["teacher_obs", "vec_wrapper"])
@pytest.mark.parametrize("students", [None, 2])
@pytest.mark.parametrize("kind", ["image", "flat"])
def test_a_stack_that_the_student_does_not_see(kind, students, told_by):
    """Across ends of episodes and of rollouts, the teacher is asked what a stacked environment would have shown it."""
    env = counting(kind)
    base = env
    if students:
        env = VecFrameStack(env, students)
    teacher = feedforward(stack4(counting(kind)).observation_space)
    kwargs = {"teacher_obs": stack4} if told_by == "teacher_obs" else {}
    if not kwargs:
        teacher.vec_wrapper = stack4
    model = distil(env, teacher, method="n_distill", **kwargs)
    model.learn(3 * N_STEPS * N_ENVS)
    model.learn(2 * N_STEPS * N_ENVS, reset_num_timesteps=False)
    actions = histories(base)
    assert actions.shape == (5 * N_STEPS, N_ENVS)
    expected = expected_questions(stack4(counting(kind)), actions)
    asked = rows(teacher.asked)
    np.testing.assert_array_equal(asked, expected)
    # Each state once: what a frame says is said nowhere else.
    assert len(np.unique(asked.reshape(len(asked), -1), axis=0)) == len(asked)


def test_a_new_learn_begins_with_new_episodes():
    """Without a trace of the frames before."""
    env = counting()
    teacher = feedforward(stack4(counting()).observation_space)
    model = distil(env, teacher, method="on_policy_distill", teacher_obs=stack4)
    model.learn(N_STEPS * N_ENVS)
    teacher.asked.clear()
    model.learn(N_STEPS * N_ENVS)
    first = teacher.asked[0][:N_ENVS]
    assert not first[..., :3].any()
    assert (first[:, 0, 1, 3] > 1).all(), "a later episode"


def test_the_same_stack_needs_no_view():
    """A student that sees what the teacher was trained on shares it."""
    env = stack4(counting())
    teacher = feedforward(env.observation_space, vec_wrapper=stack4)
    model = distil(env, teacher, method="n_distill")
    model.learn(2 * N_STEPS * N_ENVS)
    expected = expected_questions(stack4(counting()), histories(env))
    np.testing.assert_array_equal(
        np.concatenate([obs.transpose(0, 2, 3, 1) if obs.shape[1] == 4 else obs for obs in teacher.asked]), expected
    )
    assert model._binding.view is None


@pytest.mark.parametrize("teacher_obs", ["teacher", lambda venv: VecExtractDictObs(venv, "teacher")])
def test_a_privileged_teacher(teacher_obs):
    """What is kept from the student is not kept from its teacher, and each sees its own part only."""
    env = VecExtractDictObs(counting("dict"), "student")
    teacher = feedforward(FLAT)
    model = distil(env, teacher, method="n_distill", teacher_obs=teacher_obs)
    seen = []
    model.learn(2 * N_STEPS * N_ENVS, callback=lambda now, _: not seen.append(copy_obs(now["new_obs"])))
    actions = histories(env)
    expected = expected_questions(VecExtractDictObs(counting("dict"), "teacher"), actions)
    np.testing.assert_array_equal(rows(teacher.asked), expected)
    students, _, _ = shown(VecExtractDictObs(counting("dict"), "student"), actions)
    np.testing.assert_array_equal(seen, students[1:])
    assert not np.isin(expected[:, 1], np.unique(seen)).any()


def test_what_a_teacher_cannot_see_is_said():
    """Both spaces where it sees what its student does, and the key that it could read; keys where there is none such; no assertions."""
    env, teacher = VecFrameStack(VecExtractDictObs(counting("dict"), "student"), 2), feedforward(FLAT)
    with pytest.raises(
        ValueError, match=r"space is Box.*\(4,\).*is Box.*\(8,\).* It can read this: teacher_obs='student'\."
    ):
        distil(env, teacher)
    with pytest.raises(ValueError, match="have no key 'teachr': did you mean 'teacher'"):
        distil(env, teacher, teacher_obs="teachr")
    with pytest.raises(
        ValueError, match=r"do not go around this environment.*keys are 'student', 'teacher' \(KeyError"
    ):
        distil(env, teacher, teacher_obs=lambda venv: VecExtractDictObs(venv, "teachr"))
    with pytest.raises(ValueError, match=r"do not go around this environment, which shows Box.*AssertionError"):
        VecTeacherReward(counting("flat"), teacher, teacher_obs=lambda venv: VecExtractDictObs(venv, "teacher"))
    with pytest.raises(ValueError, match=r"teacher_obs must be a function .* not int"):
        distil(env, teacher, teacher_obs=3)


class Infos(BaseCallback):
    """What callbacks see of each step."""

    def __init__(self):
        super().__init__()
        self.seen, self.obs = [], []

    def _on_step(self):
        self.seen.append(deepcopy(self.locals["infos"]))
        self.obs.append(copy_obs(self.locals["new_obs"]))
        return True


@pytest.mark.parametrize(
    "kind, students, teachers",
    [
        ("flat", lambda env: VecNormalize(VecFrameStack(env, 2)), stack4),
        ("image", lambda env: VecNormalize(VecFrameStack(env, 2), norm_obs=False), stack4),
        (
            "dict",
            lambda env: VecNormalize(VecExtractDictObs(env, "student")),
            lambda v: VecExtractDictObs(v, "teacher"),
        ),
        # A stack of Dict frames is written into the terminal observation itself.
        ("mixed", lambda env: env, lambda v: VecExtractDictObs(VecFrameStack(v, 3), "flat")),
        (
            "mixed",
            lambda env: VecNormalize(env, norm_obs_keys=["flat"]),
            lambda v: VecExtractDictObs(stack4(v), "flat"),
        ),
        ("flat", VecNormalize, VecTimeFeature),
        ("flat", VecNormalize, None),
    ],
)
def test_the_student_notices_nothing(kind, students, teachers):
    """Observations, infos and running statistics are those of an environment that nobody listens to."""
    env = students(counting(kind))
    if teachers is None:
        teacher = recurrent()
    else:
        teacher = feedforward(teachers(counting(kind)).observation_space)
    model = distil(env, teacher, teacher_obs=teachers, method="n_distill")
    infos = Infos()
    model.learn(2 * N_STEPS * N_ENVS, callback=infos)
    alone = students(counting(kind))
    expected_obs, expected_infos, cut = shown(alone, histories(env))
    assert len(cut) > 2
    for mine, theirs in zip(infos.obs, expected_obs[1:], strict=True):
        assert_same(mine, theirs)
    for mine, theirs in zip(infos.seen, expected_infos, strict=True):
        for info, own in zip(mine, theirs, strict=True):
            assert info.keys() - {"episode"} == own.keys() - {"episode"}
            if "terminal_observation" in own:
                assert_same(info["terminal_observation"], own["terminal_observation"])


def assert_same(mine, theirs):
    """Equal to the bit, channels first or last."""
    if isinstance(theirs, dict):
        for key in theirs:
            assert_same(mine[key], theirs[key])
        return
    if mine.shape != theirs.shape:
        theirs = np.moveaxis(theirs, -1, mine.ndim - 3)
    np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("max_steps", [None, 7])
@pytest.mark.parametrize(
    "env_id, kwargs", [("Pendulum-v1", {}), ("CartPole-v1", {}), ("CartPole-v1", {"test_mode": True})]
)
def test_the_time_feature_is_sb3_contribs(env_id, kwargs, max_steps):
    """Step by step, and in the last states of episodes that ended in either way."""

    def make():
        return gym.make(env_id, max_episode_steps=max_steps)

    theirs = DummyVecEnv([lambda: TimeFeatureWrapper(make(), **kwargs)] * 2)
    mine = VecTimeFeature(DummyVecEnv([make] * 2), **kwargs)
    assert mine.observation_space == theirs.observation_space
    theirs.seed(3)
    mine.seed(3)
    np.testing.assert_array_equal(mine.reset(), theirs.reset())
    rng, ends = np.random.default_rng(0), set()
    for _ in range(220):
        actions = rng.integers(0, 2, 2) if env_id == "CartPole-v1" else rng.uniform(-2, 2, (2, 1)).astype(np.float32)
        (obs, _, dones, infos), (own_obs, _, own_dones, own_infos) = mine.step(actions), theirs.step(actions)
        np.testing.assert_array_equal(obs, own_obs)
        np.testing.assert_array_equal(dones, own_dones)
        for i in np.flatnonzero(dones):
            np.testing.assert_array_equal(infos[i]["terminal_observation"], own_infos[i]["terminal_observation"])
            ends.add(bool(infos[i]["TimeLimit.truncated"]))
    assert ends == ({True} if env_id == "Pendulum-v1" else {False} if max_steps is None else {True})


def test_the_time_feature_of_an_environment_without_a_limit():
    """``max_steps`` counts only where the environment says nothing, as in sb3-contrib's."""
    for spec in (None, EnvSpec("Nowhere-v0", "nowhere")):
        theirs = DummyVecEnv([lambda: TimeFeatureWrapper(with_spec(Counting("flat"), spec), max_steps=9)])  # noqa: B023
        mine = VecTimeFeature(DummyVecEnv([lambda: with_spec(Counting("flat"), spec)]), max_steps=9)  # noqa: B023
        theirs.seed(0)
        mine.seed(0)
        np.testing.assert_array_equal(mine.reset(), theirs.reset())
        for _ in range(12):
            np.testing.assert_array_equal(mine.step([0])[0], theirs.step([0])[0])
    limited = VecTimeFeature(DummyVecEnv([lambda: gym.make("CartPole-v1", max_episode_steps=4)]), max_steps=100)
    limited.reset()
    assert limited.step([0])[0][0, -1] == 0.75


def with_spec(env, spec):
    env.spec = spec
    return env


def test_a_time_feature_needs_flat_observations():
    """What cannot be appended to is named."""
    with pytest.raises(ValueError, match=r"appended to flat observations, and these are Box\(0, 255, \(6, 6, 1\)"):
        VecTimeFeature(counting("image"))


# --- memories ---------------------------------------------------------------------------------------------------------


class Kept(gym.Wrapper):
    """Writes down its episodes: lists of the observations in each, the last one's end included."""

    def __init__(self, env):
        super().__init__(env)
        self.episodes = []

    def reset(self, **kwargs):
        obs, info = self.env.reset(**kwargs)
        self.episodes.append([obs])
        return obs, info

    def step(self, action):
        obs, *rest = self.env.step(action)
        self.episodes[-1].append(obs)
        return obs, *rest


def kept(kind="flat", n_envs=N_ENVS):
    env = DummyVecEnv([lambda: Kept(Counting(kind))] * n_envs)
    env.seed(0)
    return env


def replay(policy, episode):
    """Log-probabilities and values in all states of an episode: one pass of torch's LSTMs over the sequence."""
    with th.no_grad():
        features = policy.extract_features(th.as_tensor(np.stack(episode)))
        pi, _ = policy.lstm_actor(features[:, None])
        vf, _ = policy.lstm_critic(features[:, None])
        logits = policy.action_net(policy.mlp_extractor.policy_net(pi[:, 0]))
        values = policy.value_net(policy.mlp_extractor.value_net(vf[:, 0]))
    return th.log_softmax(logits, dim=1).numpy(), values[:, 0].numpy()


def judged(policy, env, n_steps):
    """
    From an offline replay of what environments kept: log π of the states in which each step was taken, (steps,
    environments, actions), and {(t, i): (log π, V)} of the last states of the episodes that a time limit cut.
    """
    params, cut = np.zeros((n_steps, env.num_envs, 3)), {}
    for i, episodes in enumerate(env.get_attr("episodes")):
        t = 0
        for episode in episodes:
            log_probs, values = replay(policy, episode)
            for k in range(len(episode)):
                if k < len(episode) - 1:
                    if t < n_steps:
                        params[t, i] = log_probs[k]
                    t += 1
                elif episode[0][1] % 2 == 0 and len(episode) == 4 + episode[0][1] % 4:
                    cut[t - 1, i] = log_probs[k], values[k]
    return params, cut


class Parameters(BaseCallback):
    """The teacher's answers in the buffer at the end of each rollout."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        self.kept.append(self.model.rollout_buffer.teacher_parameters.copy())


CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # a sequence in one pass of the LSTM and step by step: float32 in another order


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("algorithm", [DistillPPO, DistillA2C])
def test_a_teacher_that_remembers(algorithm, normalized):
    """
    Its answers in the buffer are those of a replay of its LSTM over whole episodes, which rollouts do not interrupt. A new
    learn() begins with new episodes, and without a memory.
    """
    env = kept()
    teacher = recurrent()
    model = distil(VecNormalize(env) if normalized else env, teacher, algorithm, method="n_distill", n_steps=7)
    buffers = Parameters()
    model.learn(3 * 7 * N_ENVS, callback=buffers)
    model.learn(2 * 7 * N_ENVS, callback=buffers, reset_num_timesteps=False)
    model.learn(7 * N_ENVS, callback=buffers)
    assert len(buffers.kept) == 6
    expected, cut = judged(teacher.policy, env, 42)
    np.testing.assert_allclose(np.concatenate(buffers.kept), expected, **CLOSE)
    assert len(cut) > 3
    # Control: the answers do depend on what was before.
    fresh = np.stack([replay(teacher.policy, [episode[2]])[0][0] for episode in env.get_attr("episodes")[0][:-1]])
    remembered = np.stack([replay(teacher.policy, episode)[0][2] for episode in env.get_attr("episodes")[0][:-1]])
    assert np.abs(fresh - remembered).max() > 1e-2


def test_the_memory_judges_where_a_time_limit_cuts():
    """The value of the last state is the one with the memory of its own episode, not that of the next, nor none."""
    env = kept()
    teacher = recurrent()
    model = distil(env, teacher, method="teacher_v_reward", n_steps=N_STEPS)
    model.learn(2 * N_STEPS * N_ENVS)
    _, cut = judged(teacher.policy, env, 2 * N_STEPS)
    for rollout, (asked, answered) in enumerate(zip(teacher.asked, teacher.answered, strict=True)):
        ends = sorted((t, i) for t, i in cut if rollout * N_STEPS <= t < (rollout + 1) * N_STEPS)
        states = (N_STEPS + (rollout == 0)) * N_ENVS
        assert len(asked) == states + len(ends) > states
        mine = answered.value[states:].numpy()
        np.testing.assert_allclose(mine, [cut[end][1] for end in ends], **CLOSE)
        np.testing.assert_allclose(answered.parameters[states:].numpy(), [cut[end][0] for end in ends], **CLOSE)


def test_a_memory_in_another_environment():
    """``set_env`` and another teacher begin with new episodes and an empty memory."""
    first, second = kept(), kept()
    elephant, other = recurrent(), recurrent(seed=1)
    model = distil(first, elephant, method="on_policy_distill", n_steps=7)
    buffers = Parameters()
    model.learn(7 * N_ENVS, callback=buffers)
    model.set_env(second)
    model.learn(7 * N_ENVS, callback=buffers, reset_num_timesteps=False)
    np.testing.assert_allclose(buffers.kept[0], judged(elephant.policy, first, 7)[0], **CLOSE)
    np.testing.assert_allclose(buffers.kept[1], judged(elephant.policy, second, 7)[0], **CLOSE)

    started = [len(episodes) for episodes in second.get_attr("episodes")]
    model.teacher = other
    model.learn(7 * N_ENVS, callback=buffers, reset_num_timesteps=False)
    for env in second.envs:
        env.episodes = env.episodes[started[0] :] if env is second.envs[0] else env.episodes[started[1] :]
    np.testing.assert_allclose(buffers.kept[2], judged(other.policy, second, 7)[0], **CLOSE)

    model.teacher = plain = feedforward(FLAT)
    model.learn(7 * N_ENVS, callback=buffers, reset_num_timesteps=False)
    assert model._binding.view is None
    assert plain.asked[0].shape[1:] == FLAT.shape


@pytest.mark.parametrize("kind", ["recurrent", "stack"])
def test_what_is_saved_knows_of_no_view(kind, tmp_path):
    """A student is saved without its teacher and what that sees, and goes on with both when they are given again."""
    env = kept()
    teacher, teacher_obs = (
        (recurrent(), None) if kind == "recurrent" else (feedforward(stack4(kept()).observation_space), stack4)
    )
    model = distil(env, teacher, teacher_obs=teacher_obs, method="on_policy_distill")
    model.learn(N_STEPS * N_ENVS)
    model.save(tmp_path / "student")
    alone = DistillPPO.load(tmp_path / "student", device="cpu")
    assert (alone.teacher, alone.teacher_obs, alone._binding.view) == (None, None, None)
    PPO.load(tmp_path / "student", device="cpu").predict(env.reset())

    env = kept()
    again = DistillPPO.load(tmp_path / "student", env=env, teacher=teacher, teacher_obs=teacher_obs, device="cpu")
    buffers = Parameters()
    again.learn(N_STEPS * N_ENVS, callback=buffers, reset_num_timesteps=False)
    if kind == "recurrent":
        np.testing.assert_allclose(buffers.kept[0], judged(teacher.policy, env, N_STEPS)[0], **CLOSE)
    else:
        assert again._binding.view.observation_space.shape == (16,)


# --- rewards from an environment --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reward", ["log_prob", "teacher_value"])
@pytest.mark.parametrize("kind, order", [("image", "within"), ("dict", "within"), ("dict", "around"), ("dict", "key")])
def test_rewards_of_a_teacher_that_sees_otherwise(kind, order, reward):
    """What is paid is what the teacher says about the environment as it sees it, whichever wrapper is around the other."""
    teachers = stack4 if kind == "image" else (lambda v: VecExtractDictObs(v, "teacher"))
    students = (lambda env: env) if kind == "image" else (lambda env: VecExtractDictObs(env, "student"))
    teacher = feedforward(teachers(counting(kind)).observation_space, gain=3.0)
    actions = np.random.default_rng(0).integers(0, 3, (30, N_ENVS))
    inner, seen = counting(kind), "teacher" if order == "key" else teachers
    how = {"reward": reward, "shift": None, "gamma": 0.9, "teacher_obs": seen}
    if order == "within":  # the student's wrapper is around the one that pays: beneath it both parts are there
        env = students(VecTeacherReward(inner, teacher, **how))
    else:
        env = VecTeacherReward(students(inner), teacher, **how)
    env.reset()
    paid, mine = [], []
    for action in actions:
        obs, rewards, _, infos = env.step(action)
        paid.append(rewards)
        mine.append((copy_obs(obs), deepcopy(infos)))
        np.testing.assert_allclose([info["teacher_reward"] for info in infos], rewards, rtol=1e-6)

    observations, all_infos, cut = shown(teachers(counting(kind)), actions)
    ends = {(t, i): obs for t, i, obs in cut}
    own = np.zeros((30, N_ENVS))
    alone = counting(kind)
    alone.reset()
    for t, action in enumerate(actions):
        own[t] = alone.step(action)[1]
    expected = np.zeros((30, N_ENVS))
    for t in range(30):
        present = ActorCriticTeacher.answer(teacher, observations[t], True)
        following = ActorCriticTeacher.answer(teacher, observations[t + 1], True)
        for i in range(N_ENVS):
            if reward == "log_prob":
                expected[t, i] = present.parameters[i, actions[t, i]]
                continue
            future = float(following.value[i])
            if (t, i) in ends:
                future = float(ActorCriticTeacher.answer(teacher, ends[t, i][None], True).value[0])
            elif "terminal_observation" in all_infos[t][i]:
                future = 0.0
            expected[t, i] = own[t, i] + 0.9 * future - float(present.value[i])
    np.testing.assert_allclose(paid, expected, rtol=1e-5, atol=1e-5)
    # The student sees what it would have seen.
    plain, plain_infos, _ = shown(students(counting(kind)), actions)
    for (obs, infos), theirs, their_infos in zip(mine, plain[1:], plain_infos, strict=True):
        np.testing.assert_array_equal(obs, theirs)
        for info, their_info in zip(infos, their_infos, strict=True):
            if "terminal_observation" in their_info:
                np.testing.assert_array_equal(info["terminal_observation"], their_info["terminal_observation"])


def test_rewards_of_a_teacher_that_remembers():
    """log π(a|s) with the memory of the episode; one Gymnasium environment has no place for such a memory."""
    env = kept()
    teacher = recurrent()
    paying = VecTeacherReward(env, teacher, shift=None)
    actions = np.random.default_rng(0).integers(0, 3, (20, N_ENVS))
    paying.reset()
    paid = np.stack([paying.step(action)[1] for action in actions])
    params, _ = judged(teacher.policy, env, 20)
    np.testing.assert_allclose(paid, np.take_along_axis(params, actions[..., None], axis=2)[..., 0], **CLOSE)
    with pytest.raises(
        ValueError, match=r"^elephant remembers the episode, which takes a VecEnv: use VecTeacherReward\.$"
    ):
        TeacherReward(Counting("flat"), teacher)


# --- views that do not fit, and who plays -----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda env, **kw: distil(env, **kw), lambda env, **kw: VecTeacherReward(env, **kw)])
@pytest.mark.parametrize("teacher_obs", [None, lambda v: VecFrameStack(v, 3)])
def test_a_view_that_does_not_fit_names_both_spaces(make, teacher_obs):
    """Before anything is played."""
    env = counting()
    teacher = feedforward(stack4(counting()).observation_space)
    with pytest.raises(ValueError) as error:
        make(env, teacher=teacher, teacher_obs=teacher_obs)
    # SB3 turns images before anybody looks, and VecTeacherReward is beneath that.
    seen = ("(6, 6, 1)", "(1, 6, 6)") if teacher_obs is None else ("(6, 6, 3)",)
    assert "The teacher onlooker does not fit the environment: its observation space is " in str(error.value)
    assert "(4, 6, 6)" in str(error.value)
    assert any(space in str(error.value) for space in seen)


def test_other_actions_do_not_fit_either():
    """However well the teacher sees."""
    env = DummyVecEnv([lambda: gym.make("CartPole-v1")])
    teacher = feedforward(VecFrameStack(env, 1).observation_space)
    with pytest.raises(ValueError, match=r"its action space is Discrete\(3\), the environment's is Discrete\(2\)"):
        distil(env, teacher, teacher_obs=lambda v: v)


@pytest.mark.parametrize("kind", ["stack", "recurrent"])
def test_a_viewing_teacher_plays(kind):
    """As ``control="teacher"``, by what it sees: its actions are executed, and it is asked once about each state."""
    env = kept()
    if kind == "stack":
        teacher, teacher_obs = feedforward(stack4(kept()).observation_space, gain=1e4), stack4
    else:
        teacher, teacher_obs = recurrent(), None
        some = [np.array([t, 1, 1, t % 3 + 1], np.float32) for t in range(6)]
        with th.no_grad():  # no action is the best in all states, and one is by far the best in each
            teacher.policy.action_net.bias -= th.as_tensor(replay(teacher.policy, some)[0].mean(axis=0))
            teacher.policy.action_net.weight *= 1e5
            teacher.policy.action_net.bias *= 1e5
    model = distil(env, teacher, method="teacher_distill", teacher_obs=teacher_obs)
    assert model.control == "teacher"
    model.learn(2 * N_STEPS * N_ENVS)
    actions = np.array(env.get_attr("history")).T
    assert len(np.unique(actions)) > 1
    if kind == "stack":
        observations, _, _ = shown(stack4(counting("flat")), actions)
        np.testing.assert_array_equal(rows(teacher.asked), np.concatenate(observations))
        greedy = np.stack([ActorCriticTeacher.answer(teacher, obs).parameters.argmax(1) for obs in observations[:-1]])
    else:
        greedy = judged(teacher.policy, env, 2 * N_STEPS)[0].argmax(-1)
        assert len(rows(teacher.asked)) == (2 * N_STEPS + 1) * N_ENVS
    np.testing.assert_array_equal(actions, greedy)


# --- how an agent was trained -----------------------------------------------------------------------------------------


def upright(length=0.5):
    """Stands in for an environment that takes arguments."""
    env = gym.make("CartPole-v1")
    env.unwrapped.length = length
    return env


gym.register("SB3DistillUpright-v0", entry_point="test_teacher_view:upright", max_episode_steps=20)


def settings(config=None, env_kwargs=None, env_id="CartPole-v1"):
    return training(env_id, config or {}, env_kwargs, "config.yml")


def test_settings_as_the_zoo_writes_them():
    """Frames, wrappers with and without arguments, and arguments as a dictionary or as its text."""
    assert settings() == Training("CartPole-v1")
    assert settings().plain
    assert settings({"frame_stack": None, "env_wrapper": None, "normalize": False}) == Training("CartPole-v1")
    given = settings(
        {
            "frame_stack": 4,
            "normalize": "{'norm_obs': True, 'norm_reward': False}",
            "env_wrapper": [
                "sb3_contrib.common.wrappers.TimeFeatureWrapper",
                {"gymnasium.wrappers.RescaleAction": {"min_action": -1, "max_action": 1}},
                {"rl_zoo3.wrappers.HistoryWrapper": "dict(horizon=2)"},
            ],
        },
        "dict(length=0.7, names=['a', -1, None, True])",
    )
    assert given == Training(
        "CartPole-v1",
        {"length": 0.7, "names": ["a", -1, None, True]},
        (
            ("sb3_contrib.common.wrappers.TimeFeatureWrapper", {}),
            ("gymnasium.wrappers.RescaleAction", {"min_action": -1, "max_action": 1}),
            ("rl_zoo3.wrappers.HistoryWrapper", {"horizon": 2}),
        ),
        4,
        True,
    )
    assert not given.plain
    assert settings({"normalize": True}).plain, "a VecNormalize is no part of an environment here"
    assert settings(None, {"a": 1}).env_kwargs == settings(None, "{'a': 1}").env_kwargs == {"a": 1}
    assert settings({"env_kwargs": {"a": 2}}, {"a": 1, "b": 1}).env_kwargs == {"a": 2, "b": 1}
    one = settings({"env_wrapper": "stable_baselines3.common.atari_wrappers.AtariWrapper"})
    assert one.wrappers == (("stable_baselines3.common.atari_wrappers.AtariWrapper", {}),)


DEEP = []
for _ in range(30):
    DEEP = [DEEP, DEEP]


@pytest.mark.parametrize(
    "config",
    [
        *({"frame_stack": value} for value in ("4; import os", "4", 10**9, 65, -1, 2.0, True, [4], {"a": 4})),
        *({"env_wrapper": value} for value in (5, True, {1: {}}, {"A": {}, "B": {}}, [None], [["A"]], [{}], {"A": 5})),
        {"env_wrapper": {"TimeFeatureWrapper": {1: 2}}},
        {"env_wrapper": {"TimeFeatureWrapper": "__import__('os').abort()"}},
        {"env_wrapper": {"HistoryWrapper": {"horizon": 10**9}}},
        {"env_wrapper": {"AtariWrapper": {"noop_max": 2**40}}},
        {"env_wrapper": {"ResizeObservation": {"shape": [84, 10**6]}}},
        {"env_kwargs": 5},
        {"env_kwargs": [1]},
        {"env_kwargs": {1: 2}},
    ],
)
def test_settings_of_other_kinds_are_refused(config):
    """Nothing is evaluated, and nothing of an absurd size is made."""
    with pytest.raises(CheckpointError, match=r"^config\.yml is not a hyperparameter file of the RL Zoo: .") as error:
        settings(config)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').abort()",
        "dict(a=__import__('os').abort())",
        "dict(**{'a': 1})",
        "{**{'a': 1}}",
        "{[]: 1}",
        "{1: 2}",
        "[1]",
        "dict([('a', 1)])",
        "dict(a=-True)",
        "(lambda: {})()",
        "{x: 1 for x in 'a'}",
        "f'{1}'",
        "not python",
        "",
        "a" * 10_001,
        "(" * 9_000,
        "-" * 9_000 + "1",
        "dict(a=" * 1_000 + ")" * 1_000,
        "[" * 4_000 + "]" * 4_000,
        "\0",
    ],
)
def test_arguments_are_no_code(text):
    """The text of a dictionary is read, and any other text is refused."""
    start = time.perf_counter()
    with pytest.raises(CheckpointError, match="not a hyperparameter file") as error:
        settings(None, text)
    assert time.perf_counter() - start < 1.0
    assert len(str(error.value)) < 300


BOMBS = {
    "merge keys": "a: &a {x: 1}\n" + "".join(f"b{k}: &a {{<<: [*a, *a, *a, *a], y{k}: 1}}\n" for k in range(40)),
    "one merge key": "a: &a {x: 1}\nb: {<<: *a}\n",
    "laughs": "a0: &a0 [x, x]\n"
    + "".join(f"a{k}: &a{k} [*a{k - 1}, *a{k - 1}]\n" for k in range(1, 26))
    + "KEY: *a25\n",
    "long laughs": f"a: &a {'x' * 9_000}\nKEY: [{', '.join(['*a'] * 4_000)}]\n",
    "laughing keys": "a0: &a0 {x: 1}\n"
    + "".join(f"a{k}: &a{k} {{x: *a{k - 1}, y: *a{k - 1}}}\n" for k in range(1, 26))
    + "KEY: *a25\n",
    "a snake": "KEY: &a [*a]\n",
    "sixties": "KEY: " + ":".join(["59"] * 9_000) + "\n",
    "depth": "KEY: " + "[" * 1_000 + "\n",
    "length": "KEY: 1\n# " + "x" * MAX_SETTINGS,
    "a call": "KEY: !!python/object/apply:os.abort []\n",
}


@pytest.mark.parametrize("key", ["frame_stack", "env_wrapper", "env_kwargs"])
@pytest.mark.parametrize("name", BOMBS)
def test_small_files_that_mean_huge_things(name, key, tmp_path):
    """They end fast, with the file's name and a short message."""
    path = tmp_path / "config.yml"
    path.write_text(BOMBS[name].replace("KEY", key))
    assert (path.stat().st_size > MAX_SETTINGS) == (name == "length")
    start = time.perf_counter()
    with pytest.raises(CheckpointError, match=r"^\S*config\.yml is not a hyperparameter file of the RL Zoo: ") as error:
        training("CartPole-v1", read_config(path), None, path)
    assert time.perf_counter() - start < 2.0
    assert len(str(error.value)) < 1_000


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sb3_contrib.common.wrappers.TimeFeatureWrapper", TimeFeatureWrapper),
        ("sb3_contrib.common.wrappers.time_feature.TimeFeatureWrapper", TimeFeatureWrapper),
        ("TimeFeatureWrapper", TimeFeatureWrapper),
        ("utils.wrappers.TimeFeatureWrapper", TimeFeatureWrapper),
        ("stable_baselines3.common.atari_wrappers.AtariWrapper", AtariWrapper),
        ("gym.wrappers.resize_observation.ResizeObservation", gym.wrappers.ResizeObservation),
        ("gym.wrappers.gray_scale_observation.GrayScaleObservation", gym.wrappers.GrayscaleObservation),
        ("gymnasium.wrappers.FlattenObservation", gym.wrappers.FlattenObservation),
    ],
)
def test_wrappers_are_found_by_name(name, expected):
    """Under whatever module they were once; that module is not imported."""
    before = set(sys.modules)
    assert find_wrapper(name) is expected
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "name", ["TimeFeaturWrapper", "os.system", "gymnasium.wrappers.RecordVideo", "", ".", "antigravity.Fly"]
)
def test_unknown_wrappers_are_refused(name):
    """With the list of those that are known, and without a look at the module."""
    before = set(sys.modules)
    with pytest.raises(
        ValueError, match=r"^Unknown wrapper '.*': AtariWrapper, .*TimeFeatureWrapper.* are known\.$"
    ) as error:
        find_wrapper(name)
    assert repr(name) in str(error.value)
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "name",
    ["HistoryWrapper", "HistoryWrapperObsDict", "MaskVelocityWrapper", "FrameSkip", "YAMLCompatResizeObservation"],
)
def test_the_zoos_own_wrappers(name, monkeypatch):
    """They are rl_zoo3's, and where that is missing the message says so."""
    monkeypatch.setitem(sys.modules, "rl_zoo3", None)
    monkeypatch.setitem(sys.modules, "rl_zoo3.wrappers", None)
    with pytest.raises(ValueError, match=rf"^The wrapper 'utils\.wrappers\.{name}' is rl_zoo3's: pip install"):
        find_wrapper(f"utils.wrappers.{name}")


def test_an_environment_is_made_as_it_was():
    """Arguments, wrappers in their order, and frames around all of it."""
    trained = settings(
        {"env_wrapper": ["TimeFeatureWrapper", {"TimeFeatureWrapper": {"test_mode": True}}], "frame_stack": 2},
        "dict(length=0.7)",
        "SB3DistillUpright-v0",
    )
    env = trained.make_env()
    assert env.unwrapped.length == 0.7
    assert [type(env), type(env.env)] == [TimeFeatureWrapper] * 2
    assert (env._test_mode, env.env._test_mode) == (True, False)
    assert env.env._max_steps == 20
    venv = trained.make_vec_env(3)
    assert (type(venv), venv.num_envs) == (VecFrameStack, 3)
    assert venv.observation_space.shape == (12,)
    venv.seed(0)
    first = venv.reset()
    assert not first[:, :6].any()
    np.testing.assert_array_equal(first[:, 10:], 1.0)
    np.testing.assert_allclose(venv.step(np.zeros(3, int))[0][:, 10], 0.95)

    plain = DummyVecEnv([lambda: gym.make("SB3DistillUpright-v0", length=0.7)] * 3)
    observed = trained.observe(plain)
    assert observed.observation_space.shape == (12,)
    venv.seed(0)
    observed.seed(0)
    np.testing.assert_array_equal(observed.reset(), venv.reset())
    for _ in range(40):
        (mine, _, _, infos), (theirs, _, dones, own) = observed.step([0, 1, 0]), venv.step([0, 1, 0])
        np.testing.assert_array_equal(mine, theirs)
        for i in np.flatnonzero(dones):
            np.testing.assert_array_equal(infos[i]["terminal_observation"], own[i]["terminal_observation"])
    assert settings().observe(plain) is plain


@pytest.mark.parametrize(
    ("trained", "problem"),
    [
        (Training("Nowhere-v0"), "'Nowhere-v0' cannot be made here"),
        (Training("CartPole-v1", {"lenght": 1}), "'CartPole-v1' cannot be made here: TypeError: .*lenght"),
        (Training("CartPole-v1", {"id": "Acrobot-v1"}), "'CartPole-v1' cannot be made here: TypeError"),
        (Training("CartPole-v1", {}, (("AtariWrapper", {}),)), "'CartPole-v1' cannot be made here: "),
        (Training("CartPole-v1", {}, (("GrayscaleObservation", {}),)), "'CartPole-v1' cannot be made here: "),
        (Training("CartPole-v1", {}, (("TimeFeatureWrapper", {"wide": 1}),)), "cannot be made here: TypeError"),
        (Training("CartPole-v1", {}, (("Unknown", {}),)), "Unknown wrapper 'Unknown'"),
        (Training(None), "Nothing says which environment this was"),
    ],
)
def test_an_environment_that_cannot_be_made(trained, problem):
    """Whatever an environment or a wrapper trips over, it is one ValueError, and says which environment."""
    with pytest.raises(ValueError, match=problem):
        trained.make_env()


def agent(folder, model, config="{}", args="{}", vec_normalize=None):
    """A folder in the layout of the zoo: the model, its settings and its statistics."""
    folder.mkdir(parents=True)
    env_id = folder.name.rpartition("_")[0]
    model.save(folder / f"{env_id}.zip")
    settings_folder = folder / env_id
    settings_folder.mkdir()
    (settings_folder / "config.yml").write_text(config)
    (settings_folder / "args.yml").write_text(args)
    if vec_normalize is not None:
        vec_normalize.save(str(settings_folder / "vecnormalize.pkl"))
    return folder


CONFIG = """!!python/object/apply:collections.OrderedDict
- - - env_wrapper
    - sb3_contrib.common.wrappers.TimeFeatureWrapper
  - - frame_stack
    - 3
  - - normalize
    - true
  - - policy
    - MlpPolicy
"""


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """An agent trained as rl_zoo3 trains: time feature, then normalisation, then frames; and the folder it is saved in."""
    env = DummyVecEnv([lambda: TimeFeatureWrapper(gym.make("Pendulum-v1", g=5.0, max_episode_steps=30))] * 2)
    env.seed(1)
    normalized = VecNormalize(env, gamma=0.9)
    model = PPO(
        "MlpPolicy",
        VecFrameStack(normalized, 3),
        n_steps=50,
        batch_size=50,
        seed=1,
        device="cpu",
        policy_kwargs={"net_arch": [8], "ortho_init": False},
    )
    model.learn(200)
    args = "env_kwargs:\n  g: 5.0\n  max_episode_steps: 30\n"
    folder = agent(tmp_path_factory.mktemp("zoo") / "ppo" / "Pendulum-v1_1", model, CONFIG, args, normalized)
    return model, normalized, folder


def answers_of(model, obs):
    """Parameters and values of what the policy says of observations as its training showed them."""
    with th.no_grad():
        tensors, _ = model.policy.obs_to_tensor(obs)
        normal = model.policy.get_distribution(tensors).distribution
        values = model.policy.predict_values(tensors).flatten()
    return th.cat([normal.loc, normal.scale.log()], dim=1).numpy(), values.numpy()


def test_an_agent_of_the_zoo_is_a_complete_teacher(complete):
    """Its environments show what it was trained on, and its answers there are those of the training's own chain."""
    model, normalized, folder = complete
    teacher = load_teacher(folder, device="cpu")
    assert (teacher.name, teacher.env_id) == ("ppo/Pendulum-v1", "Pendulum-v1")
    mine = teacher.training_env(2)
    assert mine.num_envs == 2
    assert mine.observation_space.shape == teacher.observation_space.shape == (12,)
    base = DummyVecEnv([lambda: TimeFeatureWrapper(gym.make("Pendulum-v1", g=5.0, max_episode_steps=30))] * 2)
    theirs = VecNormalize(base, training=False, norm_reward=False)
    theirs.obs_rms = deepcopy(normalized.obs_rms)
    theirs = VecFrameStack(theirs, 3)
    raw = VecFrameStack(
        DummyVecEnv([lambda: TimeFeatureWrapper(gym.make("Pendulum-v1", g=5.0, max_episode_steps=30))] * 2), 3
    )
    for env in (mine, theirs, raw):
        env.seed(4)
    obs, own, unnormalized = mine.reset(), theirs.reset(), raw.reset()
    scale = np.sqrt(normalized.ret_rms.var + normalized.epsilon)
    assert abs(scale - 1) > 0.1
    rng, ends = np.random.default_rng(0), 0
    live = load_teacher(model)
    for _ in range(70):
        np.testing.assert_array_equal(obs, unnormalized)
        params, values = answers_of(model, own)
        for mind in (teacher, live):
            answer = mind.answer(obs, with_value=True)
            np.testing.assert_allclose(answer.parameters.numpy(), params, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(answer.value.numpy(), values * scale, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(teacher.act(obs), model.predict(own, deterministic=True)[0], rtol=1e-5, atol=1e-6)
        actions = rng.uniform(-2, 2, (2, 1)).astype(np.float32)
        obs, _, dones, infos = mine.step(actions)
        own, _, _, own_infos = theirs.step(actions)
        unnormalized = raw.step(actions)[0]
        for i in np.flatnonzero(dones):
            ends += 1
            last = teacher.answer(infos[i]["terminal_observation"][None]).parameters.numpy()
            expected, _ = answers_of(model, own_infos[i]["terminal_observation"][None])
            np.testing.assert_allclose(last, expected, rtol=1e-5, atol=1e-6)
    assert ends == 4


def test_an_agent_of_the_zoo_teaches_a_student_that_sees_less(complete):
    """On the bare environment: time and frames are added beneath, and the answers are those of the training's chain."""
    model, normalized, folder = complete
    teacher = load_teacher(folder, device="cpu")
    asked, answered, answer = [], [], teacher.answer

    def listening(obs, with_value=False):
        asked.append(copy_obs(obs))
        answered.append(answer(obs, with_value))
        return answered[-1]

    teacher.answer = listening

    def make():
        return gym.make("Pendulum-v1", g=5.0, max_episode_steps=30)

    executed = []

    class Heard(gym.Wrapper):
        def step(self, action):
            executed.append(np.array(action))
            return self.env.step(action)

    student = distil(VecNormalize(DummyVecEnv([lambda: Heard(make())])), teacher, method="n_distill", n_steps=40)
    student.learn(80)
    base = VecNormalize(DummyVecEnv([lambda: TimeFeatureWrapper(make())]), training=False, norm_reward=False)
    base.obs_rms = deepcopy(normalized.obs_rms)
    chain = VecFrameStack(base, 3)
    chain.seed(0)
    params = [answers_of(model, chain.reset())[0]]
    ends = []
    for action in executed:
        obs, _, _, infos = chain.step(action[None])
        params.append(answers_of(model, obs)[0])
        if "terminal_observation" in infos[0]:
            ends.append(answers_of(model, infos[0]["terminal_observation"][None])[0])
    expected = np.concatenate([*params[:41], ends[0], *params[41:], ends[1]])
    mine = np.concatenate([answer.parameters.numpy() for answer in answered])
    assert len(ends) == 2
    assert np.concatenate(asked).shape == (83, 12)
    np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-5)


def test_no_file_says_what_is_imported(tmp_path, monkeypatch):
    """Gymnasium imports what comes before a colon in an id. The folder's name and ``args.yml`` are not obeyed there."""
    (tmp_path / "canary_of_views.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    model = DQN("MlpPolicy", "CartPole-v1", buffer_size=2, policy_kwargs={"net_arch": [4]}, device="cpu")
    folder = agent(tmp_path / "dqn" / "canary_of_views:CartPole-v1_1", model)
    teacher = load_teacher(folder, device="cpu")
    assert teacher.env_id is None
    with pytest.raises(ValueError, match="Nothing says where"):
        teacher.training_env(1)
    assert "canary_of_views" not in sys.modules


def test_a_wrapper_that_fits_no_environment_is_no_end(tmp_path):
    """A Q-network whose environment cannot be made takes its temperature from the first observations."""
    model = DQN("MlpPolicy", "CartPole-v1", buffer_size=2, policy_kwargs={"net_arch": [4]}, device="cpu")
    folder = agent(tmp_path / "dqn" / "CartPole-v1_1", model, "env_wrapper: AtariWrapper\n")
    teacher = load_teacher(folder, device="cpu")
    assert teacher.temperature_report == "not chosen yet"
    with pytest.raises(ValueError, match="'CartPole-v1' cannot be made here"):
        teacher.training_env(1)
