"""Teachers made of teachers: their formulas in float64, whose answer is whose, and who remembers among them."""

import itertools
import re

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from envs_for_tests import ACTION_SPACES, DICT_SPACE, CountdownEnv, actor_critic_teacher
from sb3_distill import (
    BestTeacher,
    EnsembleTeacher,
    NDistill,
    OnPolicyDistill,
    PerEnvTeacher,
    TeacherVReward,
    distill,
    load_teacher,
)
from sb3_distill.algorithms.ppo import EntropyRegularised, ExpectedEntropyDistill, TeacherDistill
from sb3_distill.evaluation.episodes import episode_returns
from sb3_distill.memory.recorder import record
from sb3_distill.rules.distributions import parameter_size
from sb3_distill.teachers.fingerprint import fingerprint_of
from sb3_distill.teachers.teacher import Answer, Teacher
from sb3_distill.teachers.view import TeacherView

SMALL = dict(policy_kwargs=dict(net_arch=[8]), n_steps=8, batch_size=16, seed=0)
OBS = spaces.Box(-1.0, 1.0, (3,), np.float32)


class Table(Teacher):
    """Answers with given parameters and values, whatever it is asked about, in float64."""

    def __init__(self, space, params, values=None, name="table"):
        super().__init__(name=name, observation_space=OBS, action_space=space)
        self.params, self.values = params, values
        self.has_value = values is not None

    def _answer(self, obs, with_value):
        return Answer(self.params[: len(obs)], self.values[: len(obs)] if with_value else None)


def drawn(space, n, seed):
    generator = th.Generator().manual_seed(seed)
    return 3 * th.randn(n, parameter_size(space), generator=generator, dtype=th.float64)


WEIGHTS = [0.2, 1.3, 0.5]
SHARES = th.tensor(WEIGHTS, dtype=th.float64) / 2
OBSERVATIONS = np.zeros((50, 3), np.float32)


# --- the mean of several ----------------------------------------------------------------------------------------------


def test_mixtures_are_exact():
    """Of logits of any size, also such whose probabilities no float64 holds."""
    space = spaces.Discrete(4)
    logits = [drawn(space, 50, seed) * scale for seed, scale in enumerate((1, 100, 1000))]
    answer = EnsembleTeacher([Table(space, one) for one in logits], WEIGHTS).answer(OBSERVATIONS).parameters
    expected = th.logsumexp(th.stack([w.log() + x.log_softmax(-1) for w, x in zip(SHARES, logits, strict=True)]), 0)
    assert answer.dtype == th.float64
    th.testing.assert_close(answer, expected, rtol=0, atol=1e-12)
    th.testing.assert_close(answer.logsumexp(-1), th.zeros(50, dtype=th.float64), rtol=0, atol=1e-12)


def test_products_are_exact():
    space = spaces.Discrete(4)
    logits = [drawn(space, 50, seed) for seed in range(3)]
    answer = EnsembleTeacher([Table(space, one) for one in logits], WEIGHTS, "logits").answer(OBSERVATIONS).parameters
    unnormalised = th.ones(50, 4, dtype=th.float64)
    for w, one in zip(SHARES, logits, strict=True):
        unnormalised *= one.softmax(-1) ** w
    th.testing.assert_close(answer.exp(), unnormalised / unnormalised.sum(-1, keepdim=True), rtol=1e-12, atol=0)


def test_factors_have_the_marginals_of_the_mixture():
    """Against the sum over all joint actions."""
    space = spaces.MultiDiscrete([2, 3])
    params = [drawn(space, 5, seed) for seed in range(2)]
    answer = EnsembleTeacher([Table(space, one) for one in params], [1, 3]).answer(OBSERVATIONS[:5]).parameters
    joint = {
        (a, b): sum(
            w * p[:, :2].softmax(-1)[:, a] * p[:, 2:].softmax(-1)[:, b]
            for w, p in zip((0.25, 0.75), params, strict=True)
        )
        for a, b in itertools.product(range(2), range(3))
    }
    for a in range(2):
        th.testing.assert_close(answer[:, a].exp(), sum(joint[a, b] for b in range(3)))
    for b in range(3):
        th.testing.assert_close(answer[:, 2 + b].exp(), sum(joint[a, b] for a in range(2)))
    binary = spaces.MultiBinary(3)
    params = [drawn(binary, 5, seed) for seed in range(2)]
    answer = EnsembleTeacher([Table(binary, one) for one in params], [1, 3]).answer(OBSERVATIONS[:5]).parameters
    th.testing.assert_close(answer.sigmoid(), 0.25 * params[0].sigmoid() + 0.75 * params[1].sigmoid())
    answer = (
        EnsembleTeacher([Table(binary, one) for one in params], [1, 3], "logits").answer(OBSERVATIONS[:5]).parameters
    )
    odds = (params[0].exp() ** 0.25) * (params[1].exp() ** 0.75)
    th.testing.assert_close(answer.sigmoid(), odds / (1 + odds))


def test_gaussians_have_the_moments_of_the_mixture_or_their_product():
    """By integrals over a grid."""
    space = spaces.Box(-1, 1, (1,))
    means, stds = th.tensor([-0.5, 1.0], dtype=th.float64), th.tensor([0.3, 0.8], dtype=th.float64)
    teachers = [Table(space, th.stack([m, s.log()])[None].repeat(50, 1)) for m, s in zip(means, stds, strict=True)]
    x = th.linspace(-12, 12, 200_001, dtype=th.float64)
    densities = [th.distributions.Normal(m, s).log_prob(x) for m, s in zip(means, stds, strict=True)]

    def moments(density):
        density = density / density.sum()
        mean = (density * x).sum()
        return th.stack([mean, ((x - mean) ** 2 * density).sum().sqrt().log()])

    mixed = EnsembleTeacher(teachers, [1, 3]).answer(OBSERVATIONS).parameters[0]
    th.testing.assert_close(mixed, moments(0.25 * densities[0].exp() + 0.75 * densities[1].exp()), rtol=1e-9, atol=1e-9)
    product = EnsembleTeacher(teachers, [1, 3], "logits").answer(OBSERVATIONS).parameters[0]
    th.testing.assert_close(product, moments((0.25 * densities[0] + 0.75 * densities[1]).exp()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_narrow_gaussians_are_put_together_in_float32(average):
    """Where the square of a standard deviation is 0, and its inverse infinite; a teacher without weight has no part in it."""
    space = spaces.Box(-1, 1, (2,))
    params = th.tensor([[0.5, -0.25, -60.0, -70.0]]).repeat(2, 1)
    tables = [Table(space, params), Table(space, params), Table(space, params + 1)]
    answer = EnsembleTeacher(tables, [1, 3, 0], average).answer(OBSERVATIONS[:2])
    th.testing.assert_close(answer.parameters, params)


def test_one_teacher_and_one_that_is_named_twice():
    space = spaces.Discrete(4)
    one, two = (Table(space, drawn(space, 50, seed).log_softmax(-1), drawn(space, 50, seed)[:, 0]) for seed in range(2))
    for average in ("probabilities", "logits"):
        th.testing.assert_close(EnsembleTeacher([one], average=average).answer(OBSERVATIONS).parameters, one.params)
        twice = EnsembleTeacher([one, two, one], average=average).answer(OBSERVATIONS, with_value=True)
        weighed = EnsembleTeacher([one, two], [2, 1], average).answer(OBSERVATIONS, with_value=True)
        th.testing.assert_close(twice.parameters, weighed.parameters)
        th.testing.assert_close(twice.value, (2 * one.values + two.values) / 3)
    none = EnsembleTeacher([one, two], [1, 0]).answer(OBSERVATIONS).parameters
    th.testing.assert_close(none, one.params)


# --- one of several ---------------------------------------------------------------------------------------------------


def test_the_best_is_who_values_a_state_most():
    space = spaces.Discrete(4)
    teachers = [Table(space, drawn(space, 50, seed), drawn(space, 50, seed)[:, 1]) for seed in range(3)]
    answer = BestTeacher(teachers).answer(OBSERVATIONS, with_value=True)
    for i in range(50):
        best = max(teachers, key=lambda t: float(t.values[i]))
        assert th.equal(answer.parameters[i], best.params[i]) and answer.value[i] == best.values[i]
    assert BestTeacher(teachers).answer(OBSERVATIONS).value is None
    with pytest.raises(ValueError, match=r"BestTeacher compares values, and mute has no value function"):
        BestTeacher([*teachers, Table(space, teachers[0].params, name="mute")])


def test_each_environment_has_its_own_teacher():
    """Online, with time limits and the last states of episodes: each copy's answers are those of its own."""
    env = DummyVecEnv([CountdownEnv] * 3)
    a, b = (actor_critic_teacher(env, seed) for seed in range(2))
    teacher = PerEnvTeacher([a, b, a])
    view = TeacherView(env, teacher.view)

    def check(seen, obs):
        for i, own in enumerate([a, b, a]):
            row = {key: values[i : i + 1] for key, values in seen.items()}
            mine, theirs = teacher.answer(row, True), own.answer(obs[i : i + 1], True)
            th.testing.assert_close(mine.parameters, theirs.parameters)
            th.testing.assert_close(mine.value, theirs.value)

    obs = env.reset()
    check(view.reset(obs), obs)
    ends = 0
    for _ in range(12):
        obs, rewards, dones, infos = env.step(np.zeros(3, int))
        seen, told = view.step(obs, rewards, dones, infos)
        check(seen, obs)
        whole = teacher.answer(seen).parameters
        th.testing.assert_close(whole[1], b.answer(obs).parameters[1])
        for i in np.flatnonzero(dones):
            ends += 1
            last = {key: np.asarray(values)[None] for key, values in told[i]["terminal_observation"].items()}
            own = [a, b, a][i].answer(infos[i]["terminal_observation"][None]).parameters
            th.testing.assert_close(teacher.answer(last).parameters, own)
    assert ends >= 6


def test_the_buffer_holds_each_environments_own_answers():
    env = DummyVecEnv([CountdownEnv] * 2)
    teachers = [actor_critic_teacher(env, seed) for seed in range(2)]
    student = NDistill("MlpPolicy", env, teacher=PerEnvTeacher(teachers), **SMALL).learn(48)
    buffer = student.rollout_buffer
    for i, own in enumerate(teachers):
        # Flattened, as SB3 does before it samples: one environment after the other.
        rows = slice(8 * i, 8 * i + 8)
        params = own.answer(buffer.observations.reshape(16, -1)[rows]).parameters.numpy()
        np.testing.assert_allclose(buffer.teacher_parameters.reshape(16, -1)[rows], params, rtol=1e-5)


# --- who remembers ----------------------------------------------------------------------------------------------------


class Counter:
    """Answers how many steps the episode has."""

    def reset(self):
        self.n = -1

    def __call__(self, obs):
        self.n += 1
        return self.n % 3


@pytest.mark.parametrize("make", [EnsembleTeacher, PerEnvTeacher], ids=lambda make: make.__name__)
def test_members_remember_for_themselves(make):
    """An LSTM, a counter and one without a memory: each answers as it does alone."""
    env = DummyVecEnv([CountdownEnv] * 3)
    lstm = load_teacher(RecurrentPPO("MlpLstmPolicy", env, policy_kwargs=dict(lstm_hidden_size=4), device="cpu"))
    members = [lstm, load_teacher(Counter(), env=env), actor_critic_teacher(env)]
    teacher = make(members)
    views = [TeacherView(env, member.view) for member in (teacher, *members)]

    def check(seen):
        whole, *own = seen
        answers = th.stack([m.answer(o).parameters for m, o in zip(members, own, strict=True)])
        if make is EnsembleTeacher:
            expected = answers.log_softmax(-1).logsumexp(0) - np.log(3)
        else:
            expected = answers[th.arange(3), th.arange(3)]
        th.testing.assert_close(teacher.answer(whole).parameters, expected)

    obs = env.reset()
    check([view.reset(obs) for view in views])
    for _ in range(12):
        obs, rewards, dones, infos = env.step(np.zeros(3, int))
        steps = [view.step(obs, rewards, dones, infos) for view in views]
        check([seen for seen, _ in steps])
        for i in np.flatnonzero(dones):
            lasts = [told[i]["terminal_observation"] for _, told in steps]
            batch = [
                {k: np.asarray(v)[None] for k, v in last.items()} if isinstance(last, dict) else np.asarray(last)[None]
                for last in lasts
            ]
            answers = [m.answer(o).parameters for m, o in zip(members, batch[1:], strict=True)]
            expected = th.stack(answers).log_softmax(-1).logsumexp(0) - np.log(3)
            if make is PerEnvTeacher:
                expected = answers[i]
            th.testing.assert_close(teacher.answer(batch[0]).parameters, expected)


@pytest.mark.parametrize("actions", ACTION_SPACES)
def test_all_rows_that_make_sense_learn_from_several(actions):
    """Of every kind of action, in Dict observations too."""
    env = DummyVecEnv([lambda: CountdownEnv(DICT_SPACE, ACTION_SPACES[actions])] * 2)
    members = [actor_critic_teacher(env, seed) for seed in range(2)]
    rows = [OnPolicyDistill, TeacherDistill, NDistill, ExpectedEntropyDistill, EntropyRegularised, TeacherVReward]
    for row, make in zip(rows, 2 * [EnsembleTeacher, BestTeacher, PerEnvTeacher], strict=True):
        student = row("MultiInputPolicy", env, teacher=make(members), **SMALL).learn(16)
        assert np.isfinite(student.rollout_buffer.advantages).all()


def test_nested_and_recorded(tmp_path):
    env = DummyVecEnv([CountdownEnv] * 2)
    members = [actor_critic_teacher(env, seed) for seed in range(2)]
    nested = EnsembleTeacher([PerEnvTeacher(members), BestTeacher(members), load_teacher(Counter())])
    NDistill("MlpPolicy", env, teacher=nested, **SMALL).learn(16)
    assert len(record(nested, env, 20, tmp_path / "memory")) == 20
    obs = env.reset()
    assert len(nested.act(nested.at_start(obs))) == 2


def test_fingerprints_tell_mixtures_apart():
    env = DummyVecEnv([CountdownEnv])
    a, b = (actor_critic_teacher(env, seed) for seed in range(2))
    made = [EnsembleTeacher([a, b]), EnsembleTeacher([a, b], [1, 2]), EnsembleTeacher([a, b], average="logits")]
    made += [BestTeacher([a, b]), PerEnvTeacher([a, b]), PerEnvTeacher([a, b, b]), EnsembleTeacher([b, a], [1, 2])]
    assert len({fingerprint_of(teacher) for teacher in made}) == len(made)
    assert fingerprint_of(EnsembleTeacher([a, b], [2, 2])) == fingerprint_of(made[0])


def test_fingerprints_tell_mixtures_apart_by_what_their_members_do_with_answers_and_observations():
    def member(noise=None, mean=0.0):
        env = VecNormalize(DummyVecEnv([CountdownEnv] * 2))
        env.obs_rms.mean += mean
        model = PPO("MlpPolicy", env, n_steps=8, batch_size=16, seed=0, device="cpu")
        return load_teacher(model, **({"noise": noise} if noise else {}))

    mixtures = [[member(), member()], [member(0.3), member(0.3)], [member(mean=1.0), member(mean=1.0)]]
    assert len({fingerprint_of(EnsembleTeacher(members)) for members in mixtures}) == 3
    assert fingerprint_of(EnsembleTeacher([member(), member()])) == fingerprint_of(EnsembleTeacher(mixtures[0]))


def test_members_meet_the_environment_together():
    """One that has no spaces yet takes those of the others, or of the environment."""
    known = load_teacher(PPO("MlpPolicy", "CartPole-v1", device="cpu"))
    rule = load_teacher(lambda obs: 0)
    EnsembleTeacher([rule, known])
    assert rule.action_space == known.action_space
    rules = EnsembleTeacher([load_teacher(lambda obs: 0), load_teacher(lambda obs: 1)])
    OnPolicyDistill("MlpPolicy", "CartPole-v1", teacher=rules, **SMALL)
    np.testing.assert_allclose(rules.answer(np.zeros((1, 4), np.float32)).parameters.exp(), 0.5, rtol=1e-5)


def test_q_networks_mix_as_they_are_softened():
    env = gym.make("CartPole-v1")
    teachers = [load_teacher(DQN("MlpPolicy", env, seed=k, device="cpu"), temperature=0.01) for k in range(2)]
    obs = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    mixed = EnsembleTeacher(teachers)
    expected = sum(t.answer(obs).parameters.exp() for t in teachers) / 2
    th.testing.assert_close(mixed.answer(obs).parameters.exp(), expected)
    th.testing.assert_close(mixed.value(obs), sum(t.value(obs) for t in teachers) / 2)
    assert mixed.n_parameters == 2 * teachers[0].n_parameters


def test_what_cannot_be_put_together_says_why():
    env = DummyVecEnv([CountdownEnv] * 2)
    a = actor_critic_teacher(env)
    other = actor_critic_teacher(DummyVecEnv([lambda: CountdownEnv(action_space=ACTION_SPACES["box"])]))
    for make, message in [
        (lambda: EnsembleTeacher([]), "EnsembleTeacher needs teachers, and there are none"),
        (lambda: EnsembleTeacher([a, "zoo:dqn/CartPole-v1"]), "is made of teachers, not of str: give load_teacher"),
        (
            lambda: EnsembleTeacher([a, other]),
            "random and random cannot teach together: the action_space of the one is Discrete(3)",
        ),
        (lambda: EnsembleTeacher([a, a], [1]), "There are 1 weights for 2 teachers"),
        (lambda: EnsembleTeacher([a, a], [1, -1]), "weights must be numbers of at least 0"),
        (lambda: EnsembleTeacher([a, a], ["2", "1"]), "weights must be numbers of at least 0"),
        (lambda: EnsembleTeacher([a, a], [0, 0]), "weights must be numbers of at least 0, and not all 0"),
        (lambda: EnsembleTeacher([a, a], average="mean"), "choose one of 'probabilities', 'logits'"),
        (
            lambda: NDistill("MlpPolicy", env, teacher=PerEnvTeacher([a])),
            "PerEnvTeacher has 1 teachers, and there are 2 env",
        ),
        (lambda: PerEnvTeacher([a, a]).answer(env.reset()), "ask it about the observations of teacher.view(env)"),
    ]:
        with pytest.raises((ValueError, TypeError), match=re.escape(message)):
            make()


def test_the_means_of_boxes_are_acted_on():
    space = spaces.Box(-1, 1, (1,))
    teachers = [load_teacher(lambda obs, a=a: [a], observation_space=OBS, action_space=space) for a in (0.5, -0.1)]
    np.testing.assert_allclose(EnsembleTeacher(teachers).act(OBSERVATIONS[:2]), 0.2, rtol=1e-5)


def test_the_best_by_values_of_several_discounts_is_a_warning():
    teachers = [
        load_teacher(PPO("MlpPolicy", CountdownEnv(), gamma=gamma, n_steps=8, batch_size=8)) for gamma in (0.9, 0.99)
    ]
    with pytest.warns(UserWarning, match=r"several discounts \(0\.9 for .*, 0\.99 for"):
        BestTeacher(teachers)
    with pytest.raises(TypeError, match="give a list of them"):
        BestTeacher(teachers[0])


@pytest.mark.parametrize("several", [EnsembleTeacher, lambda teachers: PerEnvTeacher(teachers)])
def test_a_critic_that_learns_from_several_discounts_is_warned_of(several):
    env = DummyVecEnv([lambda: CountdownEnv(OBS, spaces.Discrete(2))] * 2)
    teachers = [actor_critic_teacher(env) for _ in range(2)]
    teachers[0].gamma, teachers[1].gamma = 0.9, 0.99
    settings = SMALL | dict(critic="teacher", env_reward_coef=1.0, vf_coef=0.5)
    with pytest.warns(
        UserWarning, match=r"critic='teacher' learns from V_π of .* several discounts \(0\.9 for .*0\.99 for"
    ):
        OnPolicyDistill("MlpPolicy", env, teacher=several(teachers), **settings)


def test_who_has_an_environment_each_is_played_in_as_many(tmp_path, monkeypatch):
    """By an id, by a function and where an experiment ends; whole numbers of rounds or not."""
    fixed = [load_teacher(lambda obs, k=k: k, env="CartPole-v1") for k in range(2)]
    alone = [episode_returns(one, "CartPole-v1", 5, seed=3) for one in fixed]
    teacher = PerEnvTeacher(fixed)
    together = episode_returns(teacher, "CartPole-v1", 5, seed=3)
    np.testing.assert_array_equal(together, [alone[k % 2][k] for k in range(5)])
    with pytest.raises(ValueError, match="PerEnvTeacher has 2 teachers, and there are 3 env"):
        episode_returns(teacher, make_vec_env("CartPole-v1", 3), 3)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "teachers_of_two.py").write_text(
        "from sb3_distill import PerEnvTeacher, load_teacher\n"
        "two = PerEnvTeacher([load_teacher(lambda obs, k=k: k, env='CartPole-v1') for k in range(2)])\n"
    )
    settings = dict(n_envs=2, steps=128, net_arch=[4], eval_episodes=3)
    done = distill("teachers_of_two:two", "CartPole-v1", out="run", quiet=True, **settings)
    assert done.returns("teacher").mean() < 12
