"""Functions, modules and objects with a memory as teachers: their policy, their memory, and what is said when they cannot teach."""

import copy
import re
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper, VecNormalize
from torch import nn

from sb3_distill import NDistill, OnPolicyDistill, PolicyDistillation, TeacherVReward, load_teacher
from sb3_distill.evaluation.episodes import episode_returns
from sb3_distill.memory.recorder import record
from sb3_distill.rules.distributions import from_parameters
from sb3_distill.teachers.fingerprint import fingerprint_of
from sb3_distill.teachers.own import sampled
from sb3_distill.teachers.teacher import Answer, Teacher
from sb3_distill.teachers.view import TeacherView

OBS = spaces.Box(-1.0, 1.0, (3,), np.float32)
BOX = spaces.Box(np.array([-2.0, 1.0], np.float32), np.array([3.0, 1.5], np.float32))
MULTI = spaces.MultiDiscrete([2, 3])
SMALL = dict(policy_kwargs=dict(net_arch=[8]), n_steps=8, batch_size=16, seed=0)


def made(function, action_space, **kwargs):
    return load_teacher(function, observation_space=OBS, action_space=action_space, **kwargs)


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def first_sign(obs):
    return int(obs[0] > 0)


# --- what the policy is ----------------------------------------------------------------------------------------------


def test_a_discrete_action_has_all_mass_but_epsilon():
    teacher = made(first_sign, spaces.Discrete(2), epsilon=0.1)
    obs = sampled(OBS, 50)
    chosen = (obs[:, 0] > 0).astype(int)
    expected = np.full((50, 2), 0.05)
    expected[np.arange(50), chosen] += 0.9
    np.testing.assert_allclose(teacher.distribution(obs).distribution.probs.numpy(), expected, rtol=1e-5)
    np.testing.assert_array_equal(teacher.act(obs), chosen)


def test_actions_of_multidiscrete_and_multibinary_have_epsilon_in_each_factor():
    obs = sampled(OBS, 20)
    multi = made(lambda o: [int(o[0] > 0), 2 * int(o[1] > 0)], MULTI, epsilon=0.3)
    params = multi.answer(obs).parameters.exp().numpy()
    first = np.where(obs[:, :1] > 0, [[0.15, 0.85]], [[0.85, 0.15]])
    second = np.where(obs[:, 1:2] > 0, [[0.1, 0.1, 0.8]], [[0.8, 0.1, 0.1]])
    np.testing.assert_allclose(params, np.concatenate([first, second], 1), rtol=1e-5)
    binary = made(lambda o: o > 0, spaces.MultiBinary(3), epsilon=0.3)
    np.testing.assert_allclose(binary.answer(obs).parameters.sigmoid(), np.where(obs > 0, 0.85, 0.15), rtol=1e-5)


def test_an_action_of_a_box_is_a_gaussian_in_the_environments_units():
    """Its standard deviation is action_std times half the range, or itself where there is no range."""
    obs = sampled(OBS, 20)
    teacher = made(lambda o: [o[0], 1.25], BOX, action_std=0.2)
    normal = from_parameters(BOX, teacher.answer(obs).parameters).distribution
    np.testing.assert_allclose(normal.mean, np.stack([obs[:, 0], np.full(20, 1.25)], 1), rtol=1e-6)
    np.testing.assert_allclose(normal.stddev, np.tile([0.2 * 2.5, 0.2 * 0.25], (20, 1)), rtol=1e-5)
    endless = made(lambda o: o[:2], spaces.Box(-np.inf, np.inf, (2,)), action_std=0.2)
    np.testing.assert_allclose(endless.answer(obs).parameters[:, 2:].exp(), 0.2, rtol=1e-5)


def test_logits_and_probabilities_and_moments_are_taken_as_they_are():
    obs, w = sampled(OBS, 20), np.arange(6).reshape(3, 2) / 5
    p = softmax(obs @ w)
    logits = made(lambda o: o @ w, spaces.Discrete(2), answers="logits", batched=True)
    np.testing.assert_allclose(logits.answer(obs).parameters.exp(), p, rtol=1e-5)
    mixed = made(lambda o: o @ w, spaces.Discrete(2), answers="logits", batched=True, epsilon=0.2)
    np.testing.assert_allclose(mixed.answer(obs).parameters.exp(), 0.8 * p + 0.1, rtol=1e-5)
    drawn = made(lambda o: softmax(o @ w), spaces.Discrete(2), answers="probabilities")
    np.testing.assert_allclose(drawn.answer(obs).parameters.exp(), 0.99 * p + 0.005, rtol=1e-5)
    for std in (0.5, np.array([0.5, 0.5]), np.full((1, 2), 0.5)):
        gauss = made(lambda o, s=std: (o @ w, s), BOX, answers="mean_and_std", batched=True)
        np.testing.assert_allclose(gauss.answer(obs).parameters[:, :2], obs @ w, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(gauss.answer(obs).parameters[:, 2:].exp(), 0.5, rtol=1e-5)
    one = made(lambda o: (o @ w, 0.5), BOX, answers="mean_and_std")
    np.testing.assert_allclose(one.answer(obs).parameters, gauss.answer(obs).parameters, rtol=1e-5)


def test_q_values_are_softened_and_have_a_value():
    obs, w = sampled(OBS, 20), np.arange(6).reshape(3, 2) / 5
    teacher = made(lambda o: o @ w, spaces.Discrete(2), answers="q_values", temperature=0.5, epsilon=0.1)
    answer, p = teacher.answer(obs, with_value=True), 0.9 * softmax(obs @ w / 0.5) + 0.05
    np.testing.assert_allclose(answer.parameters.exp(), p, rtol=1e-4)
    np.testing.assert_allclose(answer.value, (p * (obs @ w)).sum(1), rtol=1e-4, atol=1e-6)
    assert made(lambda o: o @ w, spaces.Discrete(2), answers="q_values").temperature is None  # to be found


def test_one_observation_at_a_time_and_a_batch_are_the_same():
    obs = sampled(OBS, 7)
    one = made(first_sign, spaces.Discrete(2))
    whole = made(lambda o: (o[:, 0] > 0)[:, None], spaces.Discrete(2), batched=True)
    assert th.equal(one.answer(obs).parameters, whole.answer(obs).parameters)


def test_a_module_gets_tensors_of_its_own_precision_and_is_not_trained():
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.9), nn.Linear(4, 2)).double()
    teacher = made(net, spaces.Discrete(2), answers="logits")
    obs = sampled(OBS, 9)
    with th.no_grad():
        expected = net.eval()(th.from_numpy(obs).double()).log_softmax(-1).float()
    th.testing.assert_close(teacher.answer(obs).parameters, expected)
    assert teacher.n_parameters == 3 * 4 + 4 + 4 * 2 + 2
    assert not teacher.answer(obs).parameters.requires_grad


def test_dicts_come_as_dicts():
    space = spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "n": spaces.Discrete(4)})
    obs = sampled(space, 6)
    rule = load_teacher(lambda o: int(o["n"] > 1), observation_space=space, action_space=spaces.Discrete(2))
    np.testing.assert_array_equal(rule.act(obs), obs["n"] > 1)

    class Net(nn.Module):
        def forward(self, o):
            return th.stack([o["a"][:, 0], o["n"].float()], 1)

    net = load_teacher(Net(), observation_space=space, action_space=spaces.Discrete(2), answers="logits")
    np.testing.assert_array_equal(net.act(obs), obs["n"] > obs["a"][:, 0])


# --- where its spaces are from ----------------------------------------------------------------------------------------


def test_it_takes_the_spaces_of_the_environment_in_which_it_is_asked_first():
    """A student binds it, given as it is or loaded; and before that it has none, which is said."""
    env = make_vec_env("CartPole-v1", 2, seed=0)
    student = OnPolicyDistill("MlpPolicy", env, teacher=lambda obs: int(obs[2] > 0), **SMALL).learn(16)
    assert student.teacher.action_space == env.action_space
    teacher = load_teacher(first_sign)
    with pytest.raises(ValueError, match=r"first_sign has met no environment yet.* env=…"):
        teacher.act(np.zeros((1, 4)))
    OnPolicyDistill("MlpPolicy", env, teacher=teacher, **SMALL)
    with pytest.raises(ValueError, match=r"does not fit the environment"):
        OnPolicyDistill("MlpPolicy", "Acrobot-v1", teacher=teacher, **SMALL)


def test_spaces_come_from_an_id_an_environment_or_beneath_vecnormalize():
    venv = VecNormalize(make_vec_env("CartPole-v1", 1))
    for env in ("CartPole-v1", gym.make("CartPole-v1"), venv):
        teacher = load_teacher(first_sign, env=env)
        assert teacher.observation_space == venv.venv.observation_space
    named = load_teacher(first_sign, env_id="CartPole-v1")  # whose arguments may be others
    assert named.env_id == "CartPole-v1" and not named.knows_spaces
    with pytest.raises(ValueError, match="CartPole-v1"):
        load_teacher(first_sign, env="CartPoll-v1")


def test_an_environment_that_is_given_is_not_stepped():
    class Untouched(gym.Env):
        observation_space, action_space = OBS, spaces.Discrete(2)

    load_teacher(first_sign, env=Untouched())  # reset() and step() are not implemented


def test_states_that_there_are_not_do_not_count_where_the_environment_is_known():
    """A rule of FrozenLake's that knows no hole is asked about states in which the environment is."""
    seen = []
    load_teacher(lambda obs: seen.append(int(obs)) or 0, env="FrozenLake-v1")
    assert seen[0] == 0 and len(set(seen)) <= 4


def test_bounds_of_floats_are_not_sampled():
    huge = spaces.Box(-np.finfo(np.float32).max, np.finfo(np.float32).max, (3,))
    assert np.abs(sampled(huge, 100)).max() < 10


# --- who remembers ----------------------------------------------------------------------------------------------------


class Counting(gym.Env):
    """Episodes of 2, 3, 4 … steps; the observation is how many steps were made."""

    observation_space = spaces.Box(0, 100, (1,), np.float32)
    action_space = spaces.Discrete(20)

    def __init__(self, truncates=False):
        self.length, self.truncates = 1, truncates

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.length, self.t = self.length + 1, 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        over = self.t == self.length
        return np.array([self.t], np.float32), 1.0, over and not self.truncates, over and self.truncates, {}


class Counter:
    """Answers how often it was called since the episode began, which is what the environment shows."""

    def __init__(self):
        self.n = 7  # not what reset() makes it

    def reset(self):
        self.n = 0

    def __call__(self, obs):
        self.n += 1
        return self.n - 1

    def control(self, obs):
        return self(obs)


@pytest.mark.parametrize("truncates", [False, True])
@pytest.mark.parametrize("form", ["object", "method"])
def test_who_remembers_hears_where_episodes_begin(form, truncates):
    """In every environment for itself, up to the last state of an episode; the object that was given is left alone."""
    counter = Counter()
    venv = DummyVecEnv([lambda: Counting(truncates) for _ in range(3)])
    for i, env in enumerate(venv.envs):
        env.length += i
    teacher = load_teacher(counter if form == "object" else counter.control, env=venv)
    view = TeacherView(venv, teacher.view)

    def says(row):
        return int(teacher.act(np.atleast_2d(row))[0])

    seen = view.reset(venv.reset())
    ends = 0
    for _ in range(20):
        obs, rewards, dones, infos = venv.step(np.zeros(3, int))
        seen, told = view.step(obs, rewards, dones, infos)
        assert [says(row) for row in seen] == obs[:, 0].astype(int).tolist()
        for i in np.flatnonzero(dones):
            ends += 1
            assert says(told[i]["terminal_observation"]) == int(infos[i]["terminal_observation"][0])
    assert ends > 6 and counter.n == 7


def test_a_student_of_one_who_remembers_is_told_the_right_actions(tmp_path):
    """Online, offline and recorded: what the buffer holds is the count that the environment shows."""
    env = DummyVecEnv([Counting] * 2)
    student = NDistill("MlpPolicy", env, teacher=Counter(), **SMALL)
    student.learn(48)
    held = student.rollout_buffer
    said = held.teacher_parameters.reshape(-1, 20).argmax(1)
    np.testing.assert_array_equal(said, held.observations.reshape(-1).astype(int))
    memory = record(Counter(), DummyVecEnv([Counting] * 2), 40, tmp_path / "memory")
    assert len(memory) == 40
    off = PolicyDistillation(
        "MlpPolicy", DummyVecEnv([Counting]), teacher=Counter(), policy_kwargs=dict(net_arch=[8]), loss="kl"
    )
    off.learn(64)


def test_answers_about_the_episode_are_not_asked_of_single_observations():
    teacher = load_teacher(Counter(), env=Counting())
    with pytest.raises(
        ValueError, match=r"Counter remembers the episode: ask it about the observations of teacher\.view"
    ):
        teacher.answer(np.zeros((2, 5)))
    np.testing.assert_array_equal(teacher.act(teacher.at_start(np.zeros((4, 1)))), 0)


def test_who_cannot_be_copied_says_so():
    counter = Counter()
    counter.socket = (x for x in [])
    with pytest.raises(
        ValueError, match=r"Counter has a reset\(\), so each environment gets a copy of it, and it cannot be copied"
    ):
        load_teacher(counter, env=Counting())

    def function(obs):
        return 0

    function.reset = lambda: None
    with pytest.raises(ValueError, match=r"copy\.deepcopy gives the same one back"):
        load_teacher(function, env=Counting())


def test_a_memory_without_reset_is_a_warning():
    class Forgetful:
        n = 0

        def __call__(self, obs):
            self.n += 1
            return self.n % 20

    with pytest.warns(
        UserWarning, match=r"Forgetful answers otherwise when it is asked again: for 8 of 8 observations.*reset\(\)"
    ):
        load_teacher(Forgetful(), env=Counting())


# --- values -----------------------------------------------------------------------------------------------------------


def test_a_row_that_needs_values_says_what_is_missing_or_takes_them():
    env = make_vec_env("CartPole-v1", 2, seed=0)
    with pytest.raises(
        ValueError, match=r"'teacher_v_reward' needs the teacher's value function, and first_sign has none"
    ):
        TeacherVReward("MlpPolicy", env, teacher=first_sign, **SMALL)
    teacher = load_teacher(first_sign, value=lambda obs: 3 * obs[0])
    TeacherVReward("MlpPolicy", env, teacher=teacher, **SMALL).learn(16)
    obs = sampled(env.observation_space, 5)
    np.testing.assert_allclose(teacher.value(obs), 3 * obs[:, 0], rtol=1e-6)
    counter = load_teacher(Counter(), env=Counting(), value=lambda obs: obs + 0.5)
    np.testing.assert_allclose(counter.value(counter.at_start(np.ones((2, 1)))), 1.5)


def test_observations_may_be_normalised_first():
    venv = VecNormalize(make_vec_env("CartPole-v1", 1))
    venv.obs_rms.mean[:], venv.obs_rms.var[:] = 2.0, 4.0
    teacher = load_teacher(lambda obs: int(obs[0] > 0), env=venv, vec_normalize=venv)
    np.testing.assert_array_equal(teacher.act(np.array([[1.9] * 4, [2.1] * 4])), [0, 1])
    with pytest.raises(ValueError, match="give env=…, too"):
        load_teacher(first_sign, vec_normalize=venv)


# --- what tells one from another --------------------------------------------------------------------------------------


def test_fingerprints_tell_functions_and_modules_apart():
    net = nn.Linear(3, 2)
    other = copy.deepcopy(net)
    with th.no_grad():
        other.weight[0, 0] += 1
    functions = [first_sign, lambda obs: int(obs[1] > 0), net, other]
    kinds = [{}, {}, {"answers": "logits"}, {"answers": "logits"}]
    marks = [fingerprint_of(made(f, spaces.Discrete(2), **kind)) for f, kind in zip(functions, kinds, strict=True)]
    assert len(set(marks)) == 4
    assert marks[0] == fingerprint_of(made(lambda obs: obs[0] > 0, spaces.Discrete(2)))  # whatever its name
    assert marks[2] == fingerprint_of(made(copy.deepcopy(net), spaces.Discrete(2), answers="logits"))


@pytest.mark.parametrize(
    "space, option, values", [(spaces.Discrete(2), "epsilon", (0.01, 0.5)), (BOX, "action_std", (0.1, 0.3))]
)
def test_what_widens_an_action_is_a_part_of_the_teacher(tmp_path, space, option, values):
    """Else one folder would hold two teachers' answers."""
    rule = first_sign if option == "epsilon" else lambda obs: obs[:2] * 0 + 1.2
    one, other = (made(rule, space, **{option: value}) for value in values)
    assert fingerprint_of(one) != fingerprint_of(other)
    assert fingerprint_of(one) == fingerprint_of(made(rule, space))
    if option == "epsilon":
        env = DummyVecEnv([lambda: Counting()] * 2)
        rules = [load_teacher(lambda obs: int(obs[0] > 1), epsilon=value) for value in values]
        record(rules[0], env, 20, tmp_path / "memory")
        with pytest.raises(ValueError, match="holds a recording with another teacher"):
            record(rules[1], env, 40, tmp_path / "memory")


def test_q_values_are_the_same_teacher_however_they_are_softened():
    """They are recorded as they are, and a temperature is found later."""
    teachers = [
        made(lambda o: o[:2], spaces.Discrete(2), answers="q_values", epsilon=epsilon, temperature=temperature)
        for epsilon, temperature in ((0.01, 1.0), (0.5, 2.0))
    ]
    assert fingerprint_of(teachers[0]) == fingerprint_of(teachers[1])


class Integral:
    """The PI controller of a number: at the first state of an episode it does the same whatever ki is."""

    def __init__(self, ki):
        self.ki = ki

    def reset(self):
        self.sum = 0.0

    def __call__(self, obs):
        action = int(obs[0] + self.ki * self.sum > 0)
        self.sum += obs[0]
        return action


def test_controllers_that_remember_are_told_apart_by_what_they_remember():
    teachers = [made(Integral(ki), spaces.Discrete(2)) for ki in (0, 50, 0)]
    marks = [fingerprint_of(teacher) for teacher in teachers]
    assert marks[0] == marks[2] != marks[1]


class FromTen(Counter):
    def __call__(self, obs):
        return super().__call__(obs) + 10


class Keeping(VecEnvWrapper):
    """Keeps the infos that it has told."""

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        step = self.venv.step_wait()
        self.told = step[3]
        return step


def test_what_an_environment_says_stays_as_it_said_it():
    """What the teacher sees in its infos is in a copy of them."""
    env = Keeping(DummyVecEnv([Counting]))
    view = load_teacher(FromTen(), env=env).view(env)
    view.reset()
    for _ in range(2):
        view.step_async(np.zeros(1, int))
        told = view.step_wait()[3]
    assert told[0]["terminal_observation"] == [12]
    assert env.told[0]["terminal_observation"] == [2]


# --- what cannot teach ------------------------------------------------------------------------------------------------

BAD = [
    (
        lambda o: o,
        spaces.Discrete(2),
        {},
        r"answers ndarray of shape \(3,\) for observation 1 of 8.*a Discrete action is one number",
    ),
    (lambda o: o[:2], spaces.Discrete(2), {}, r"give answers='logits' or answers='q_values'"),
    (lambda o: None, spaces.Discrete(2), {}, r"answers the NoneType None"),
    (lambda o: "left", spaces.Discrete(2), {}, r"answers the str 'left'"),
    (
        lambda o: 2,
        spaces.Discrete(2),
        {},
        r"answers 2 for observation 1 of 8, which is outside Discrete\(2\): its actions are 0 … 1",
    ),
    (lambda o: -1, spaces.Discrete(2), {}, r"answers -1 for"),
    (lambda o: 0.5, spaces.Discrete(2), {}, r"answers 0\.5 for"),
    (
        lambda o: np.nan if o[0] > 0 else 1,
        spaces.Discrete(2),
        {},
        r"answers nan for observation \d of 8, which is not finite",
    ),
    (lambda o: [1, 3], MULTI, {}, r"outside MultiDiscrete\(\[2 3\]\): its actions are 0 … \[1, 2\]"),
    (lambda o: 2, spaces.Discrete(2, start=1), {}, r"SB3 counts them from 0, whatever start says"),
    (
        lambda o: o[:, 0] > 0,
        spaces.Discrete(2),
        {},
        r"raises IndexError.*one observation of shape \(3,\), for 8 of 8.*batched=True",
    ),
    (
        lambda o: int(o[0] > 0),
        spaces.Discrete(2),
        {"batched": True},
        r"raises .*a batch of observations of shape \(8, 3\).*batched=False",
    ),
    (
        lambda o: o[2] > 0,
        spaces.Discrete(2),
        {"batched": True},
        r"for 8 observations of shape \(8, 3\).*give batched=False",
    ),
    (lambda o: o, BOX, {"answers": "mean_and_std"}, r"answers ndarray of shape \(3,\), and .* tuple of two"),
    (lambda o: (o[:2], -1), BOX, {"answers": "mean_and_std"}, r"a standard deviation is greater than 0"),
    (
        lambda o: o[:2],
        spaces.Discrete(2),
        {"answers": "probabilities"},
        r"probabilities lie between 0 and 1 and sum to 1",
    ),
    (
        lambda o: 0,
        spaces.Discrete(2),
        {"answers": "mean_and_std"},
        r"give answers='action' or 'logits' or 'probabilities' or 'q_values'",
    ),
    (lambda o: 0, BOX, {"answers": "logits"}, r"give answers='action' or 'mean_and_std'"),
    (lambda o: 0, spaces.Discrete(2), {"answers": "logit"}, r"Unknown answers='logit'.*logits"),
    (lambda o: 0, spaces.Discrete(2), {"epsilon": 0.0}, r"epsilon must be greater than 0"),
    (
        lambda o: 0,
        spaces.Discrete(2),
        {"action_std": 0.1},
        r"action_std is no option of lambda.*\(there is epsilon\)",
    ),
    (lambda o: 0, spaces.Discrete(2), {"temperature": 0.1}, r"temperature is no option"),
    (
        lambda o: 0,
        spaces.Discrete(2),
        {"value": lambda o: o},
        r"The value function of lambda answers ndarray of shape \(3,\)",
    ),
    (lambda o: 0, spaces.Discrete(2), {"value": 3}, r"value=… is a function from states to V_π"),
    (Counter, spaces.Discrete(2), {}, r"The class Counter is no teacher: give one of its objects, Counter\(…\)"),
    (3, spaces.Discrete(2), {}, r"Cannot learn from int 3"),
    (
        nn.Linear(4, 2),
        spaces.Discrete(2),
        {"answers": "logits"},
        r"Linear raises RuntimeError.*a batch of observations of shape \(8, 3\)",
    ),
]


@pytest.mark.parametrize("function, action_space, kwargs, message", BAD, ids=[str(i) for i in range(len(BAD))])
def test_what_cannot_teach_says_why_at_once(function, action_space, kwargs, message):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*counted from 0.*")
        with pytest.raises(ValueError, match=message) as caught:
            made(function, action_space, **kwargs)
    assert not re.search(r"\n.*\n", str(caught.value))


def test_an_observation_is_named_in_play_too():
    """The function is sound where it is tried, and not where the student comes to."""
    env = make_vec_env("CartPole-v1", 2, seed=0)
    calls = []

    def late(obs):
        calls.append(obs)
        return 0 if len(calls) < 40 else np.nan

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        student = OnPolicyDistill("MlpPolicy", env, teacher=late, **SMALL)
        with pytest.raises(
            ValueError, match=r"late answers nan for observation \d+ of \d+, .* The observation is \[.*\]"
        ):
            student.learn(200)


def test_actions_beyond_a_box_are_clipped_and_that_is_said_once():
    teacher = made(lambda o: [10 * o[0], 1.2], BOX)
    obs = sampled(OBS, 30)
    with pytest.warns(UserWarning, match=r"answers with actions outside Box.* in \d+ of 30 states, by up to .*clipped"):
        acted = teacher.act(obs)
    np.testing.assert_allclose(acted[:, 0], np.clip(10 * obs[:, 0], -2, 3), rtol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        teacher.act(obs)


def test_options_of_functions_are_not_for_agents():
    with pytest.raises(ValueError, match=r"answers=… and batched=… belong to teachers that are functions"):
        load_teacher("zoo:dqn/CartPole-v1", answers="logits", batched=True)
    with pytest.raises(ValueError, match=r"observation_space must be a space"):
        load_teacher(first_sign, observation_space=4)
    with pytest.raises(ValueError, match=r"env says which action_space there is"):
        load_teacher(first_sign, env="CartPole-v1", action_space=MULTI)
    with pytest.raises(ValueError, match=r"env must be a Gymnasium id"):
        load_teacher(first_sign, env=3)


# --- a Teacher of one's own -------------------------------------------------------------------------------------------


class Upright(Teacher):
    """All that one has to write."""

    has_value = False

    def _answer(self, obs, with_value):
        push_right = th.as_tensor(obs[:, 2] + obs[:, 3])
        return Answer(th.stack([-push_right, push_right], dim=1).log_softmax(1), None)


def test_a_subclass_of_teacher_needs_one_method():
    env = make_vec_env("CartPole-v1", 2, seed=0)
    teacher = Upright(name="mine")
    NDistill("MlpPolicy", env, teacher=teacher, **SMALL).learn(16)
    assert (teacher.name, teacher.n_parameters, repr(teacher)) == ("mine", 0, "Upright(mine, 0 parameters)")
    assert teacher.action_space == env.action_space and str(teacher.device) == "cpu"
    assert Upright(observation_space=OBS).observation_space is OBS


class Overwriting(nn.Module):
    def forward(self, obs):
        obs.mul_(0)
        return th.zeros(len(obs), 2) if obs.dim() == 2 else th.zeros(2)


def overwriting(obs):
    obs *= 0
    return np.zeros((len(obs), 2)) if obs.ndim == 2 else np.zeros(2)


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("function", [Overwriting(), overwriting], ids=["module", "function"])
def test_what_a_teacher_does_with_observations_stays_with_it(function, batched):
    """Whoever asks has them as they were, and so has a memory."""
    teacher = made(function, spaces.Discrete(2), answers="logits", batched=batched)
    obs = sampled(OBS, 5)
    before = obs.copy()
    teacher.answer(obs)
    np.testing.assert_array_equal(obs, before)


@pytest.mark.parametrize(
    "option",
    [
        dict(epsilon=1.0),
        dict(answers="lgits"),
        dict(batched=True),
        dict(env="CartPole-v1"),
        dict(vec_normalize="no.pkl"),
        dict(env_id="X"),
    ],
)
def test_options_of_a_teacher_that_is_one_already_are_refused(option):
    """Where they would do nothing."""
    teacher = made(first_sign, spaces.Discrete(2))
    with pytest.raises(ValueError, match=rf"is a teacher already: give {next(iter(option))} where it is made"):
        load_teacher(teacher, **option)
    assert load_teacher(teacher) is teacher


def test_a_standard_deviation_is_a_number():
    with pytest.raises(ValueError, match=r"action_std of .* must be a number, not \[0\.1, 0\.1\]"):
        made(lambda obs: BOX.low, BOX, action_std=[0.1, 0.1])


# --- a function that raises ----------------------------------------------------------------------------------------------


def fails_late(n):
    calls = []

    def late(obs):
        calls.append(obs)
        return {}["key"] if len(calls) > n else 0

    return late


def test_a_function_that_raises_in_play_is_named_with_the_observation_and_its_own_traceback():
    student = OnPolicyDistill("MlpPolicy", make_vec_env("CartPole-v1", 2, seed=0), teacher=fails_late(30), **SMALL)
    said = r"late raises KeyError: 'key' in test_own_teachers\.py:\d+ when .* observation \d+ of \d+\. It is \[.*\]"
    with pytest.raises(ValueError, match=said) as caught:
        student.learn(200)
    assert type(caught.value.__cause__) is KeyError


def test_one_that_remembers_is_named_with_the_step_of_the_episode():
    class Short(Counter):
        def __call__(self, obs):
            return super().__call__(obs) % 2 if self.n < 5 else [][0]

    env = make_vec_env("CartPole-v1", 2, seed=0)
    student = OnPolicyDistill("MlpPolicy", env, teacher=load_teacher(Short(), env=env), **SMALL)
    with pytest.raises(ValueError, match=r"Short raises IndexError.*in environment 0, step 5 of its episode") as caught:
        student.learn(200)
    assert type(caught.value.__cause__) is IndexError


def test_batches_tell_who_remembers_nothing():
    with pytest.raises(ValueError, match=r"Counter has a reset\(\).*without batched=True"):
        made(Counter(), spaces.Discrete(2), batched=True)

    class Net(nn.Linear):
        def reset(self):
            pass

    with pytest.warns(UserWarning, match=r"Net has a reset\(\).*If it remembers"):
        made(Net(3, 2), spaces.Discrete(2), answers="logits")


def test_infinite_logits_have_a_remedy():
    with pytest.raises(ValueError, match=r"not finite: of an action that it never takes.*probabilities"):
        made(lambda o: np.array([0, -np.inf]), spaces.Discrete(2), answers="logits")
    with pytest.raises(ValueError, match=r"not finite\. The observation"):
        made(lambda o: np.array([0, np.nan]), spaces.Discrete(2), answers="logits")


# --- what float32 does not hold ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function, action_space, kwargs",
    [
        (lambda o: [1e39, 0], spaces.Discrete(2), {"answers": "logits"}),
        (lambda o: [1e39, 0], spaces.Discrete(2), {"answers": "q_values"}),
        (lambda o: 0, spaces.Discrete(2), {"value": lambda o: 1e39}),
    ],
)
def test_numbers_that_float32_does_not_hold_are_named_at_once(function, action_space, kwargs):
    with pytest.raises(ValueError, match=r"answers .*1\.?e\+39.* for observation 1 of 8, which float32.* 3\.4e\+38"):
        made(function, action_space, **kwargs)


@pytest.mark.parametrize(
    "function, kwargs",
    [(lambda o: (o[:2], 1e-60), {"answers": "mean_and_std"}), (lambda o: o[:2] * 0 + 1.2, {"action_std": 1e-60})],
)
def test_a_gaussian_is_no_narrower_than_that_of_any_teacher(function, kwargs):
    teacher = made(function, BOX, **kwargs)
    with pytest.warns(
        UserWarning, match=r"The standard deviation of .* of half an action's range, and is taken as 0\.001"
    ):
        log_std = teacher.answer(sampled(OBS, 3)).parameters[:, 2:]
    np.testing.assert_allclose(log_std.exp(), [[2.5e-3, 0.25e-3]] * 3, rtol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        teacher.answer(sampled(OBS, 3))  # said once
        made(lambda o: (o[:2], [2.5e-3, 0.25e-3]), BOX, answers="mean_and_std").answer(sampled(OBS, 3))


def test_an_action_that_can_be_but_one_has_a_width():
    space = spaces.Box(np.array([-2, 1], np.float32), np.array([2, 1], np.float32))
    teacher = made(lambda o: [0.5, 1.0], space)
    expected = [[0.5, 1.0, np.log(0.2), np.log(0.1)]]
    np.testing.assert_allclose(teacher.answer(sampled(OBS, 1)).parameters, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "space, action", [(spaces.Discrete(2), 1), (spaces.MultiDiscrete([2, 3]), [1, 2]), (spaces.MultiBinary(2), [0, 1])]
)
def test_a_small_epsilon_is_not_0(space, action):
    params = made(lambda o: action, space, epsilon=1e-60).answer(sampled(OBS, 1)).parameters[0]
    assert th.isfinite(params).all()
    least = params[0] if not isinstance(space, spaces.MultiBinary) else -params[1]
    np.testing.assert_allclose(least, np.log(0.5e-60), rtol=1e-5)


# --- what is asked is left as it is -----------------------------------------------------------------------------------


def test_a_module_is_in_the_mode_that_it_was_in():
    """Each part of it: one that is frozen stays so."""
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.9), nn.BatchNorm1d(4).eval(), nn.Linear(4, 2)).train()
    net[2].eval()
    before = [part.training for part in net.modules()]
    teacher = made(net, spaces.Discrete(2), answers="logits")
    first, second = (teacher.answer(sampled(OBS, 9)).parameters for _ in range(2))
    assert th.equal(first, second)  # without dropout
    assert [part.training for part in net.modules()] == before == [True, True, True, False, True]


@pytest.mark.parametrize("batched", [False, True])
def test_no_states_have_no_answers(batched):
    teacher = made(lambda o: o[..., :2] * 1.0, spaces.Discrete(2), answers="logits", batched=batched)
    assert teacher.answer(np.zeros((0, 3), np.float32)).parameters.shape == (0, 2)


class Colours(gym.Env):
    """Red or blue pictures, channels last; 1 is right for red ones. Beside them, in a Dict, a number."""

    action_space = spaces.Discrete(2)

    def __init__(self, in_dict=False):
        self.in_dict = in_dict
        picture = spaces.Box(0, 255, (36, 40, 3), np.uint8)
        self.observation_space = spaces.Dict({"camera": picture, "x": spaces.Box(-1, 1, (1,))}) if in_dict else picture

    def _obs(self):
        self.is_red = bool(self.np_random.integers(2))
        picture = np.zeros((36, 40, 3), np.uint8)
        picture[..., 0 if self.is_red else 2] = 200
        return {"camera": picture, "x": np.zeros(1, np.float32)} if self.in_dict else picture

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._obs(), {}

    def step(self, action):
        reward = float(int(action) == self.is_red)
        self.steps += 1
        return self._obs(), reward, self.steps == 10, False, {}


@pytest.mark.parametrize("in_dict", [False, True])
@pytest.mark.parametrize("remembers", [False, True])
def test_a_rule_reads_pictures_as_the_environment_gives_them(in_dict, remembers):
    """Where a student's network has channels first, too, and nobody has told the teacher's spaces; a network reads them as SB3's do."""
    shapes = set()

    class Rule:
        def __call__(self, obs):
            picture = obs["camera"] if in_dict else obs
            shapes.add(picture.shape)
            return int(picture[:, :, 0].mean() > picture[:, :, 2].mean())

    if remembers:
        Rule.reset = lambda self: None
    envs = DummyVecEnv([lambda: Colours(in_dict)] * 2)
    policy = "MultiInputPolicy" if in_dict else "CnnPolicy"
    student = OnPolicyDistill(policy, envs, teacher=Rule(), n_steps=8, batch_size=16, n_epochs=1, seed=0, device="cpu")
    student.learn(32)
    assert shapes == {(36, 40, 3)}
    answers = student.rollout_buffer.teacher_parameters.reshape(-1, 2)
    pictures = student.rollout_buffer.observations
    pictures = (pictures["camera"] if in_dict else pictures).reshape(-1, 3, 36, 40)
    np.testing.assert_array_equal(answers.argmax(1), pictures[:, 0].mean((1, 2)) > pictures[:, 2].mean((1, 2)))


@pytest.mark.parametrize("kwargs", [{}, {"env": Colours()}, {"observation_space": Colours().observation_space}])
def test_a_network_reads_pictures_as_those_of_sb3_do(kwargs):
    """Channels first: beside a student, in play, and where it is tried, whoever has told its spaces."""
    shapes = set()

    class Network(nn.Module):
        def forward(self, pictures):
            shapes.add(tuple(pictures.shape[1:]))
            red, _, blue = pictures.float().mean((2, 3)).T
            return th.stack([blue, red], dim=1)

    if "observation_space" in kwargs:
        kwargs = kwargs | {"action_space": Colours.action_space}
    teacher = load_teacher(Network(), answers="logits", **kwargs)
    envs = DummyVecEnv([Colours] * 2)
    assert episode_returns(teacher, envs, 4).mean() == 10
    OnPolicyDistill("CnnPolicy", envs, teacher=teacher, n_steps=8, batch_size=16, n_epochs=1, device="cpu").learn(16)
    assert shapes == {(3, 36, 40)}
