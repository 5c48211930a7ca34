"""What users give in the wrong place: the first line says what is wrong and what to give, before any step is made."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import CallbackList, EvalCallback, EveryNTimesteps
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv

from envs_for_tests import Chain, CountdownEnv, actor_critic_teacher
from sb3_distill import DistillA2C, DistillPPO, NDistill, NDistillA2C, load_teacher
from sb3_distill.algorithms import ppo
from sb3_distill.algorithms.multi_task import MultiTaskDistillation
from sb3_distill.algorithms.online import OnlineDistillation
from sb3_distill.algorithms.policy_distillation import PolicyDistillation
from sb3_distill.envs import TeacherReward, VecTeacherReward
from sb3_distill.evaluation.learning_curves import LearningCurve

PPO_SIZES = dict(n_steps=16, batch_size=16, n_epochs=1, device="cpu", seed=0)
OFFLINE = dict(train_freq=20, batch_size=16, device="cpu", seed=0)


def small(**kwargs):
    return dict(policy_kwargs=dict(net_arch=[16]), device="cpu", seed=0) | kwargs


def chains(n):
    return DummyVecEnv([Chain] * n)


def line_of(error):
    return str(error.value).splitlines()[0]


@pytest.fixture
def dqn():
    return DQN("MlpPolicy", Chain(), learning_starts=10, buffer_size=1_000, **small())


# --- environments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [NDistill, PolicyDistillation])
@pytest.mark.parametrize(
    ("env", "message"),
    [
        (Chain, "env must be an environment, a VecEnv or a Gymnasium id, not type <class"),
        (lambda: Chain(), "not function <function"),
        ([Chain], "put functions that make them in DummyVecEnv([…])"),
        (None, "give env=…"),
    ],
)
def test_what_is_no_environment(algorithm, env, message, dqn):
    """SB3 would ask for OpenAI's Gym."""
    with pytest.raises(ValueError) as error:
        algorithm("MlpPolicy", env, teacher=dqn)
    assert message in line_of(error)


@pytest.mark.parametrize("algorithm", [NDistill, PolicyDistillation])
def test_gymnasiums_vectorised_environments_have_a_wrapper(algorithm):
    """It is named."""
    with pytest.raises(ValueError, match=r"put it in sb3_distill.envs.GymnasiumVecEnv"):
        algorithm("MlpPolicy", gym.make_vec("CartPole-v1", 2), teacher="zoo:dqn/CartPole-v1")


# --- settings with which nothing is learnt ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "name", "value"),
    [
        (NDistill, "n_epochs", 0),
        (NDistill, "n_steps", 0),
        (NDistill, "batch_size", 0),
        (NDistillA2C, "n_steps", 0),
        (NDistillA2C, "n_steps", -1),
        (NDistill, "max_grad_norm", 0.0),
        (NDistillA2C, "max_grad_norm", -1.0),
        (NDistill, "max_grad_norm", float("nan")),
        (PolicyDistillation, "max_grad_norm", 0.0),
        (PolicyDistillation, "max_grad_norm", -1.0),
        (MultiTaskDistillation, "max_grad_norm", 0.0),
    ],
)
def test_sizes_that_leave_nothing_to_learn(algorithm, name, value):
    """Also those that would turn gradients around, and loops that would not end."""
    env = ["CartPole-v1"] if algorithm is MultiTaskDistillation else "CartPole-v1"
    with pytest.raises(ValueError) as error:
        algorithm("MlpPolicy", env, **{name: value})
    assert line_of(error).startswith(name) and repr(value) in line_of(error)


def said(work):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        work()
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("algorithm", [NDistill, NDistillA2C])
def test_weights_of_zero_are_a_warning(algorithm, dqn):
    """A run that would go by in silence; and none where something has a weight at some time."""
    settings = dict(n_steps=16, device="cpu", teacher=load_teacher(dqn, temperature=0.1))
    settings |= dict(batch_size=16, n_epochs=1) if algorithm is NDistill else {}

    def run(**kwargs):
        model = algorithm("MlpPolicy", chains(1), **settings, **kwargs)
        return [text for text in said(lambda: model.learn(16)) if "Nothing teaches" in text]

    assert len(run(loss_coef=0, reward_coef=0)) == 1
    assert len(run(loss_coef=lambda p: 0.0, reward_coef=0)) == 1
    assert run() == run(loss_coef=0) == run(reward_coef=0) == []
    assert run(loss_coef=0, reward_coef=0, env_reward_coef=1.0) == []
    assert run(loss_coef=0, reward_coef=0, ent_coef=0.01) == []
    assert run(loss_coef=lambda p: float(0.2 < p < 0.3), reward_coef=0) == []


def test_no_gradient_steps_are_a_warning(dqn):
    """The memory is filled; the student stays."""
    model = PolicyDistillation("MlpPolicy", chains(1), teacher=dqn, gradient_steps=0, **OFFLINE)
    (message,) = [text for text in said(lambda: model.learn(40)) if "gradient_steps" in text]
    assert message == "gradient_steps=0: the memory is filled, and nothing is learnt of it."
    assert len(model.replay_buffer) == 40


@pytest.mark.parametrize("value", ["warm", None, [1.0]])
def test_a_temperature_that_is_no_number(value):
    """As load_teacher says it."""
    with pytest.raises(ValueError) as error:
        PolicyDistillation("MlpPolicy", "CartPole-v1", temperature=value)
    assert line_of(error) == f"temperature must be a number greater than 0 or 'auto', not {value!r}."


@pytest.mark.parametrize("env_id", [Chain, 3, b"CartPole-v1"])
def test_an_id_that_is_no_text(env_id, dqn):
    """A class, for one."""
    with pytest.raises(
        ValueError, match=r"^env_id must be the id of a Gymnasium environment, such as 'CartPole-v1', not "
    ):
        load_teacher(dqn, env_id=env_id)


#: every row of the table
ROWS = [row for row in vars(ppo).values() if isinstance(row, type) and getattr(row, "fixed_method", None) is not None]


class Silent(ActorCriticPolicy):
    def get_distribution(self, obs):
        raise NotImplementedError("mine")


@pytest.mark.parametrize("algorithm", [*ROWS, NDistillA2C, PolicyDistillation])
def test_a_policy_without_a_distribution_is_refused_before_the_first_step(algorithm, dqn):
    """By name; and asking one that has it draws no random number."""
    settings = OFFLINE | dict(student="ppo") if algorithm is PolicyDistillation else dict(n_steps=16, device="cpu")
    model = algorithm(Silent, chains(1), teacher=dqn, **settings)
    with pytest.raises(ValueError) as error:
        model.learn(64)
    assert "The student's policy Silent does not tell its action distribution" in line_of(error)
    assert "NotImplementedError: mine" in line_of(error)
    assert model.num_timesteps == 0
    model = algorithm("MlpPolicy", chains(1), teacher=dqn, **settings)
    before = th.random.get_rng_state()
    model.learn(0)
    assert th.equal(th.random.get_rng_state(), before)


# --- rewards of an environment ----------------------------------------------------------------------------------------


class Unpaid(CountdownEnv):
    """Its reward is not a number in the seventh step."""

    bad = float("nan")
    steps = 0

    def step(self, action):
        self.steps += 1
        obs, reward, *rest = super().step(action)
        return obs, self.bad if self.steps == 7 else reward, *rest


class Infinite(Unpaid):
    bad = -float("inf")


@pytest.mark.parametrize("algorithm", [DistillPPO, DistillA2C])
@pytest.mark.parametrize("broken", [Unpaid, Infinite])
@pytest.mark.parametrize(
    "settings",
    [
        dict(env_reward_coef=0.5),
        dict(method="teacher_v_reward"),
        dict(method="teacher_v_reward", baseline="student"),
        dict(method="on_policy_distill", vf_coef=0.5),
        dict(reward_coef=0.0, vf_coef=0.5),
    ],
    ids=str,
)
def test_a_reward_that_is_no_number_is_named(algorithm, broken, settings):
    """Which environment, which step; nothing was learnt of it."""
    sizes = dict(n_steps=16, device="cpu", teacher=actor_critic_teacher(CountdownEnv()))
    model = algorithm("MlpPolicy", DummyVecEnv([CountdownEnv, broken]), **sizes, **settings)
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    with pytest.raises(ValueError) as error:
        model.learn(64)
    assert "The reward of environment 1 in step 7 of this rollout is not finite: " in line_of(error)
    assert all(th.equal(before[key], value) for key, value in model.policy.state_dict().items())


class Worthless(CountdownEnv):
    """The same without rewards."""

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, 0.0, *rest


@pytest.mark.parametrize("algorithm", [DistillPPO, DistillA2C])
@pytest.mark.parametrize(
    "settings", [dict(), dict(method="entropy_regularised"), dict(method="on_policy_distill", vf_coef=0.0)], ids=str
)
def test_where_rewards_have_no_weight_they_do_not_matter(algorithm, settings):
    """To the bit."""

    def learnt(env):
        sizes = dict(n_steps=16, device="cpu", seed=0, teacher=actor_critic_teacher(CountdownEnv()))
        return algorithm("MlpPolicy", DummyVecEnv([CountdownEnv, env]), **sizes, **settings).learn(64).policy

    broken, whole = learnt(Unpaid).state_dict(), learnt(Worthless).state_dict()
    assert all(th.equal(broken[key], value) and th.isfinite(value).all() for key, value in whole.items())


@pytest.mark.parametrize("vectorised", [False, True])
def test_rewards_in_the_wrappers_that_pay(vectorised):
    """They matter where they have a weight alone."""
    teacher = actor_critic_teacher(CountdownEnv())

    def play(**kwargs):
        env = VecTeacherReward(DummyVecEnv([Unpaid]), teacher, **kwargs) if vectorised else None
        one = None if vectorised else TeacherReward(Unpaid(), teacher, **kwargs)
        (env or one).reset()
        paid = []
        for _ in range(8):
            step = env.step(np.array([0])) if vectorised else one.step(0)
            paid.append(float(np.squeeze(step[1])))
            if not vectorised and (step[2] or step[3]):
                one.reset()
        return paid

    assert np.isfinite(play()).all()
    assert np.isfinite(play(reward="teacher_value", reward_coef=0.0)).all()
    for kwargs in (dict(env_reward_coef=1.0), dict(reward="teacher_value")):
        with pytest.raises(
            ValueError, match=r"The reward of environment 0 in step 7 since it was wrapped is not finite"
        ):
            play(**kwargs)


# --- wrappers that pay ------------------------------------------------------------------------------------------------


def test_wrappers_take_whatever_load_teacher_takes(dqn, tmp_path):
    """A model, its policy, a path, a name."""
    dqn.save(tmp_path / "dqn")
    for source in (dqn, dqn.policy, tmp_path / "dqn.zip", load_teacher(dqn)):
        venv, env = VecTeacherReward(chains(2), source), TeacherReward(Chain(), source)
        venv.reset(), env.reset()
        assert np.isfinite(venv.step(np.zeros(2, int))[1]).all() and np.isfinite(env.step(0)[1])
    cart_pole = make_vec_env(
        "CartPole-v1", wrapper_class=TeacherReward, wrapper_kwargs={"teacher": "zoo:dqn/CartPole-v1"}
    )
    assert cart_pole.reset().shape == (1, 4)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda t: VecTeacherReward(Chain(), t), TypeError, "VecTeacherReward is around a VecEnv, not Chain"),
        (lambda t: VecTeacherReward("CartPole-v1", t), TypeError, "make one with make_vec_env"),
        (lambda t: VecTeacherReward(gym.make_vec("CartPole-v1", 2), t), TypeError, "put it in sb3_distill.envs.Gym"),
        (
            lambda t: TeacherReward(chains(2), t),
            TypeError,
            "TeacherReward is around one Gymnasium environment, not Dummy",
        ),
        (lambda t: TeacherReward(Chain, t), TypeError, "make it with gymnasium.make"),
        (lambda t: VecTeacherReward(chains(2), 3), ValueError, "Cannot learn from int 3: give a Teacher, a model or"),
        (lambda t: TeacherReward(Chain(), DQN), ValueError, "The class DQN is no teacher: give one of its objects"),
        (lambda t: VecTeacherReward(chains(2), 3, reward="logprob"), ValueError, "Unknown reward 'logprob'"),
        (lambda t: TeacherReward(Chain, 3, shift="entropy"), ValueError, "Unknown shift 'entropy'"),
    ],
)
def test_what_the_wrappers_do_not_take(make, kind, message, dqn):
    """Names of rewards first, then environments, then teachers."""
    with pytest.raises(kind) as error:
        make(dqn)
    assert message in line_of(error)


# --- a teacher that is followed ---------------------------------------------------------------------------------------


def pupil(**kwargs):
    return PolicyDistillation("MlpPolicy", chains(1), **(OFFLINE | kwargs))


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (Chain, "env=the class Chain cannot be made for n episodes: give a Gymnasium id, or a function"),
        (Chain(), "cannot be made for n episodes"),
        (chains(2), "cannot be made for n episodes"),
        (3, "cannot be made for n episodes"),
        (lambda: chains(1), "does not take the number of environments: give a Gymnasium id, or a function"),
        ("CartPol-v1", "Unknown environment 'CartPol-v1': did you mean 'CartPole-v1'"),
    ],
)
def test_an_evaluation_needs_a_function(env, message):
    """At construction, of both callbacks."""
    for make in (lambda: OnlineDistillation(pupil(), env, every=100), lambda: LearningCurve(env, every=100)):
        with pytest.raises(ValueError) as error:
            make()
        assert message in line_of(error)


@pytest.mark.parametrize(("name", "value"), [("every", 0), ("every", -5), ("n_episodes", 0)])
def test_an_evaluation_needs_numbers(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be at least 1, not {value}"):
        OnlineDistillation(pupil(), chains, **(dict(every=100) | {name: value}))


def test_the_student_that_follows_is_of_one_kind(dqn):
    student = NDistill("MlpPolicy", chains(1), teacher=dqn, **PPO_SIZES)
    with pytest.raises(TypeError, match=r"^The student has to be a PolicyDistillation, with env=…, not NDistill"):
        OnlineDistillation(student, chains, every=100)


class Wider(Chain):
    def __init__(self):
        super().__init__()
        self.action_space = spaces.Discrete(3)


class Longer(Chain):
    n_cells = 6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda n: chains(1), "as many environments as it is asked for: 3 were, and there are 1."),
        (lambda n: Chain(), "must return a VecEnv, such as make_vec_env(make_one, n), and returns Chain"),
        (lambda n: gym.make_vec("CartPole-v1", n), "put it in sb3_distill.envs.GymnasiumVecEnv"),
        (
            lambda n: DummyVecEnv([Wider] * n),
            "does not fit the DQN that is to play in it: its action space is Discrete(3)",
        ),
        (
            lambda n: DummyVecEnv([Longer] * n),
            "does not fit the DQN that is to play in it: its observation space is Box",
        ),
    ],
)
def test_what_the_function_makes_has_to_fit(make, message, dqn):
    """Before the teacher's first step."""
    with pytest.raises(ValueError) as error:
        dqn.learn(200, callback=OnlineDistillation(pupil(), make, every=100, n_episodes=3))
    assert message in line_of(error)
    assert dqn.num_timesteps == 0


@pytest.mark.parametrize("wrap", [lambda c: EveryNTimesteps(50, c), lambda c: EveryNTimesteps(50, CallbackList([c]))])
@pytest.mark.parametrize("make", [lambda: OnlineDistillation(pupil(), chains, 50), lambda: LearningCurve(chains, 50)])
def test_event_callbacks_tell_of_no_rollouts(make, wrap, dqn):
    """So it would never be called."""
    with pytest.raises(ValueError, match=r"would never be called within EveryNTimesteps.*It evaluates every 50 steps"):
        dqn.learn(200, callback=wrap(make()))
    assert dqn.num_timesteps == 0


@pytest.mark.parametrize("make", [lambda: OnlineDistillation(pupil(), chains, 50), lambda: LearningCurve(chains, 50)])
def test_a_new_best_tells_of_no_rollouts_either(make, dqn):
    """Which SB3 keeps elsewhere, and does not even tell that the training has begun."""
    for wrap in (lambda c: c, lambda c: CallbackList([c])):
        outer = EvalCallback(chains(1), callback_on_new_best=wrap(make()), eval_freq=50, n_eval_episodes=1, verbose=0)
        with pytest.raises(ValueError, match=r"would never be called within EvalCallback.*callback=\["):
            dqn.learn(200, callback=outer)


def test_one_episode_has_no_standard_error(dqn):
    """And NumPy says nothing of it."""
    follow = OnlineDistillation(pupil(), chains, every=50, n_steps=20, n_episodes=1)

    def work():
        dqn.learn(100, callback=[follow, LearningCurve(chains, 50, n_episodes=1)])
        follow.figure()

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        work()
    assert all(np.isnan(curve.standard_error).all() and np.isfinite(curve.mean).all() for curve in follow.curves())


# --- several tasks ----------------------------------------------------------------------------------------------------


@pytest.fixture
def two_tasks(dqn):
    other = DQN("MlpPolicy", Longer(), **small())
    envs = {"a": Chain(), "b": Longer()}
    return MultiTaskDistillation("MlpPolicy", envs, teacher={"a": dqn, "b": other}, **OFFLINE)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (None, "There is no environment to play the task 'a' in, whose id is none of Gymnasium's: give a function"),
        ({"a": chains}, "There is no environment to play the task 'b' in"),
        ({"a": Chain(), "b": Longer()}, "cannot be made for n episodes"),
        ({"a": chains, "b": chains}, "does not fit the PolicyDistillation that is to play in it"),
        (chains, "env must be a dict from the tasks' ids"),
    ],
)
def test_tasks_of_own_environments_are_evaluated_in_those_that_are_given(env, message, two_tasks):
    with pytest.raises(ValueError) as error:
        two_tasks.evaluate(env, n_episodes=2)
    assert message in line_of(error)
    returns = two_tasks.evaluate({"a": chains, "b": lambda n: DummyVecEnv([Longer] * n)}, n_episodes=2)
    assert {name: len(values) for name, values in returns.items()} == {"a": 2, "b": 2}


@pytest.mark.parametrize("name", ["env", "teacher", "memory"])
def test_tasks_have_names(name, dqn):
    """One thing where there is one for each task."""
    for given in (dqn, [Chain()], "CartPole-v1"):
        with pytest.raises(ValueError) as error:
            MultiTaskDistillation("MlpPolicy", **({"env": {"a": Chain()}} | {name: given}))
        assert line_of(error).startswith(f"{name} must be a dict from the tasks' ids, such as {name}=")


def test_one_task_and_several_are_loaded_by_their_own_class(two_tasks, dqn, tmp_path):
    """Each says which."""
    two_tasks.save(tmp_path / "several")
    pupil(teacher=dqn).save(tmp_path / "one")
    with pytest.raises(
        ValueError, match=r"^This is the student of several tasks, \['a', 'b'\]: load it with MultiTask"
    ):
        PolicyDistillation.load(tmp_path / "several")
    with pytest.raises(
        ValueError, match=r"^There are no tasks in it: a student of one teacher is loaded with PolicyDist"
    ):
        MultiTaskDistillation.load(tmp_path / "one")
    assert MultiTaskDistillation.load(tmp_path / "several").task_ids == ["a", "b"]
