"""Settings that would do nothing, and students that cannot be taught, are refused when the constructor is called."""

import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv

from envs_for_tests import ACTION_SPACES, CountdownEnv, actor_critic_teacher
from sb3_distill import DistillA2C, DistillPPO, PolicyDistillation, TeacherDistill
from sb3_distill.rules.methods import METHODS

ROWS = METHODS["unbiased"]
BOX = ACTION_SPACES["box"]


def make(engine=DistillPPO, policy="MlpPolicy", action_space=None, **kwargs):
    settings = dict(n_steps=16, batch_size=16) if issubclass(engine, DistillPPO) else dict(n_steps=8)
    teacher = actor_critic_teacher(CountdownEnv(action_space=action_space))
    env = DummyVecEnv([lambda: CountdownEnv(action_space=action_space)])
    return engine(policy, env, teacher=teacher, device="cpu", **(settings | kwargs))


@pytest.mark.parametrize("weight", [1, 0.5, LinearSchedule(1.0, 0.0, 1.0), lambda p: 1 - p])
@pytest.mark.parametrize(("name", "term"), [("loss_coef", "loss"), ("reward_coef", "reward")])
@pytest.mark.parametrize("method", list(ROWS))
@pytest.mark.parametrize("engine", [DistillPPO, DistillA2C])
def test_a_weight_of_a_term_that_the_row_lacks(engine, method, name, term, weight):
    if getattr(ROWS[method], term) is not None:
        assert getattr(make(engine, method=method, **{name: weight}), name)(0.5) >= 0.5
        return
    with pytest.raises(ValueError, match=f"^The method '{method}' has no {term} .*, so {name}="):
        make(engine, method=method, **{name: weight})
    for nothing in (0, 0.0, lambda p: 0.0, None):
        assert getattr(make(engine, method=method, **{name: nothing}), name)(0.5) == 0.0


def test_students_saved_before_that_was_an_error_still_load(tmp_path):
    model = make(TeacherDistill)
    model.reward_coef = FloatSchedule(1.0)  # what every one of them had
    model.save(tmp_path / "student")
    env = DummyVecEnv([CountdownEnv])
    loaded = TeacherDistill.load(tmp_path / "student", env=env, teacher=actor_critic_teacher(CountdownEnv()))
    assert loaded.learn(32).reward_coef(1.0) == 0.0
    with pytest.raises(ValueError, match=r"reward_coef=1\.0 would do nothing"):
        TeacherDistill.load(tmp_path / "student", reward_coef=1.0)


def test_squashed_actions():
    with pytest.raises(ValueError, match=r"^A student with squashed actions .*leave squash_output=True out"):
        make(action_space=BOX, use_sde=True, policy_kwargs=dict(squash_output=True))
    make(action_space=BOX, use_sde=True).learn(32)


class Mine(DiagGaussianDistribution):
    """Nobody knows what it does."""


class WithMine(ActorCriticPolicy):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.action_dist = Mine(2)


def test_a_distribution_that_cannot_be_read():
    with pytest.raises(TypeError, match=r"^Cannot distil the distribution Mine: use a policy"):
        make(policy=WithMine, action_space=BOX)


def test_a_policy_with_a_memory():
    with pytest.raises(ValueError, match=r"^RecurrentActorCriticPolicy has a memory"):
        make(policy=RecurrentActorCriticPolicy)


@pytest.mark.parametrize("space", [spaces.Discrete(3), *ACTION_SPACES.values()])
def test_every_distribution_of_sb3_can(space):
    assert make(action_space=space).policy.action_dist is not None
    assert th.is_tensor(next(make(action_space=space).policy.parameters()))


@pytest.mark.parametrize("engine", [DistillPPO, DistillA2C])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(gamma=1.5), r"^gamma must lie between 0 and 1, not 1\.5"),
        (dict(gamma=-1), "^gamma must lie between 0 and 1, not -1"),
        (dict(gamma=float("nan")), "^gamma must lie between 0 and 1, not nan"),
        (dict(gamma="0.9"), "^gamma must lie between 0 and 1, not '0.9'"),
        (dict(gae_lambda=1.01), r"^gae_lambda must lie between 0 and 1, not 1\.01"),
        (dict(learning_rate=-1e-3), r"^learning_rate must be at least 0, not -0\.001"),
        (dict(learning_rate=float("nan")), "^learning_rate must be at least 0, not nan"),
        (dict(learning_rate=lambda progress: progress - 0.5), r"^learning_rate must be at least 0, not -0\.5"),
    ],
)
def test_numbers_outside_their_range(engine, settings, message):
    with pytest.raises(ValueError, match=message):
        make(engine, **settings)


def test_the_ends_of_the_ranges_are_in_them():
    for value in (0, 1, 0.0, 1.0):
        make(gamma=value, gae_lambda=value)
    make(learning_rate=0)
    with pytest.raises(ValueError, match=r"^learning_rate must be at least 0, not -1\.0"):
        PolicyDistillation("MlpPolicy", CountdownEnv(), learning_rate=-1.0)
