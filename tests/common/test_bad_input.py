"""What users get wrong: the first line of the error says what is wrong and what to do, before any work is done."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv

from envs_for_tests import DICT_SPACE, CountdownEnv, actor_critic_teacher
from sb3_distill import DistillPPO, NDistill, TeacherVReward, load_teacher
from sb3_distill.teachers.q_network import QTeacher

SMALL = dict(n_steps=16, batch_size=16, n_epochs=1, device="cpu", seed=0)


@pytest.fixture(scope="module")
def teacher():
    return load_teacher("zoo:dqn/CartPole-v1", temperature=0.1)


def first_line(error):
    return str(error.value).splitlines()[0]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"method": "n_distil"}, "Unknown method 'n_distil': did you mean 'n_distill'"),
        ({"method": "xyz"}, "Unknown method 'xyz': choose one of teacher_distill, "),
        ({"form": "printed"}, "Unknown form 'printed': choose one of 'unbiased', 'paper'"),
        ({"baseline": "critic"}, "Unknown baseline 'critic': choose one of 'teacher', 'student'"),
        ({"baseline": "student"}, "baseline='student' belongs to teacher_v_reward, not to n_distill"),
        ({"control": "expert"}, "Unknown control policy 'expert': choose one of 'student', 'teacher', 'uniform'"),
        ({"control": "teacher"}, "control='teacher' cannot go with the reward r̂ of n_distill"),
        ({"control": "uniform"}, "set control='student' or reward_coef=0"),
        (
            {"method": "teacher_distill", "env_reward_coef": 1.0},
            "control='teacher' cannot go with a weight on the environment's reward",
        ),
        ({"loss_coef": -1.0}, "Coefficients must be at least 0: loss_coef=-1.0"),
        ({"reward_coef": float("nan")}, "Coefficients must be at least 0: loss_coef=1.0, reward_coef=nan"),
        ({"rollout_buffer_class": RolloutBuffer}, "rollout_buffer_class must be a subclass of DistillRolloutBuffer"),
    ],
)
def test_settings(kwargs, message, teacher):
    """Names come with the nearest matches, contradictions with the two ways out."""
    with pytest.raises(ValueError) as error:
        DistillPPO("MlpPolicy", "CartPole-v1", teacher=teacher, **SMALL, **kwargs)
    assert message in first_line(error)


def test_unknown_environment(teacher):
    """A typing error in an id is found before anything is made."""
    with pytest.raises(ValueError) as error:
        NDistill("MlpPolicy", "CartPol-v1", teacher=teacher)
    assert "Unknown environment 'CartPol-v1': did you mean 'CartPole-v1'" in first_line(error)


def test_unknown_teacher():
    """A name resolves in the constructor, with the nearest matches."""
    with pytest.raises(FileNotFoundError) as error:
        NDistill("MlpPolicy", "CartPole-v1", teacher="zoo:dqn/CartPole-v11", **SMALL)
    assert "dqn/CartPole-v1'" in first_line(error)


@pytest.mark.parametrize("env_id", ["Acrobot-v1", "Pendulum-v1"])
def test_a_teacher_that_does_not_fit(env_id, teacher):
    """Both spaces are shown."""
    with pytest.raises(ValueError) as error:
        NDistill("MlpPolicy", env_id, teacher=teacher, **SMALL)
    assert "does not fit the environment: its observation space is Box" in first_line(error)
    assert str(gym.make(env_id).observation_space) in str(error.value)
    assert f"The teacher was trained in CartPole-v1, and this is {env_id}." in first_line(error)


def test_other_actions(teacher):
    """The same observations are not enough."""
    env = make_vec_env(lambda: CountdownEnv(teacher.observation_space, gym.spaces.Discrete(5)), 1)
    with pytest.raises(ValueError, match=r"its action space is Discrete\(2\), the environment's is Discrete\(5\)"):
        NDistill("MlpPolicy", env, teacher=teacher, **SMALL)


def test_a_dict_environment_and_an_array_teacher(teacher):
    """Kinds of spaces differ, not only shapes."""
    with pytest.raises(ValueError, match="does not fit the environment"):
        NDistill("MultiInputPolicy", make_vec_env(lambda: CountdownEnv(DICT_SPACE), 1), teacher=teacher, **SMALL)


def test_no_value_function(teacher):
    """The message names the row that needs it."""

    class Valueless(QTeacher):
        has_value = False

    valueless = Valueless(teacher.policy, temperature=1.0)
    with pytest.raises(ValueError) as error:
        TeacherVReward("MlpPolicy", "CartPole-v1", teacher=valueless, **SMALL)
    assert "'teacher_v_reward' needs the teacher's value function" in first_line(error)
    NDistill("MlpPolicy", "CartPole-v1", teacher=valueless, **SMALL)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"temperature": 0.0}, "temperature must be greater than 0 (or 'auto'), not 0.0"),
        ({"temperature": -1}, "temperature must be greater than 0 (or 'auto'), not -1.0"),
        ({"temperature": "warm"}, "temperature must be a number greater than 0 or 'auto', not 'warm'"),
        ({"epsilon": 1.5}, "epsilon must lie between 0 and 1, not 1.5"),
        ({"epsilon": -0.1}, "epsilon must lie between 0 and 1, not -0.1"),
    ],
)
def test_softness(kwargs, message):
    """Before the file is even looked for."""
    with pytest.raises(ValueError) as error:
        load_teacher("/no/such/file.zip", **kwargs)
    assert message in first_line(error)


class BrokenEnv(CountdownEnv):
    """Its observation is NaN after the seventh step."""

    steps = 0

    def step(self, action):
        self.steps += 1
        obs, *rest = super().step(action)
        return (np.full_like(obs, np.nan) if self.steps == 7 else obs, *rest)


@pytest.mark.parametrize("method", ["n_distill", "teacher_v_reward"])
def test_nan_in_an_observation(method):
    """Which environment, which step; and the student is left as it was."""
    env = DummyVecEnv([CountdownEnv, BrokenEnv])
    model = DistillPPO("MlpPolicy", env, teacher=actor_critic_teacher(CountdownEnv()), method=method, **SMALL)
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    with pytest.raises(ValueError) as error:
        model.learn(64)
    assert "The observation of environment 1 after step 7 of this rollout is not finite" in first_line(error)
    assert all(th.equal(before[key], value) for key, value in model.policy.state_dict().items())
    assert "step_wait" not in vars(env)


def test_nan_in_the_teacher(teacher):
    """Damaged weights are found at the first rollout's end, before an update."""
    damaged = actor_critic_teacher(CountdownEnv())
    damaged.policy.action_net.weight.data[0, 0] = float("nan")
    model = NDistill("MlpPolicy", DummyVecEnv([CountdownEnv]), teacher=damaged, **SMALL)
    with pytest.raises(ValueError, match="The teacher random answered with NaN or infinity"):
        model.learn(64)


def test_nan_in_the_students_policy():
    """Which quantity and when, even for a row without a loss."""
    model = DistillPPO(
        "MlpPolicy",
        DummyVecEnv([lambda: CountdownEnv(action_space=gym.spaces.Box(-1.0, 1.0, (2,), np.float32))]),
        teacher=actor_critic_teacher(CountdownEnv(action_space=gym.spaces.Box(-1.0, 1.0, (2,), np.float32))),
        method="entropy_regularised",
        **SMALL,
    )
    model.policy.log_std.data[0] = float("nan")
    with pytest.raises(ValueError) as error:
        model.learn(64)
    assert "The student's action distribution is not finite after 0 steps" in first_line(error)


def test_nan_in_the_loss(teacher):
    """Before it reaches the optimiser: which update, after how many steps."""

    def nan_loss(teacher, student):
        return student.distribution.logits.sum(-1) * float("nan")

    from sb3_distill.rules.methods import Loss, Method

    model = DistillPPO(
        "MlpPolicy", "CartPole-v1", teacher=teacher, method=Method("mine", "student", Loss(nan_loss, "nan")), **SMALL
    )
    before = model.policy.action_net.weight.clone()
    with pytest.raises(ValueError) as error:
        model.learn(64)
    assert "The distillation loss is nan in update 1 after 16 steps" in first_line(error)
    assert th.equal(before, model.policy.action_net.weight)
