"""Mixed control: at each step the teacher acts with probability β, and else the student; the teacher is asked once a state."""

import numpy as np
import pytest
from stable_baselines3.common.utils import LinearSchedule

from envs_for_tests import actor_critic_teacher
from sb3_classes import ENGINES, countdown_envs, small
from sb3_distill import DistillPPO


def mixed(cls, beta, env, teacher, **kwargs):
    return cls(
        "MlpPolicy",
        env,
        teacher=teacher,
        method="on_policy_distill",
        control="mixed",
        beta=beta,
        **small(cls),
        **kwargs,
    )


@pytest.mark.parametrize("cls", ENGINES)
@pytest.mark.parametrize(("beta", "control"), [(1.0, "teacher"), (0.0, "student")])
def test_at_its_ends_it_is_one_of_the_two(cls, beta, control):
    env, other = countdown_envs(), countdown_envs()
    teacher = actor_critic_teacher(env)
    one = mixed(cls, beta, env, teacher).learn(64)
    two = cls("MlpPolicy", other, teacher=teacher, method="on_policy_distill", control=control, **small(cls)).learn(64)
    for a, b in zip(one.policy.parameters(), two.policy.parameters(), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("cls", ENGINES)
def test_each_state_is_asked_about_once_and_the_answers_are_those_of_the_states(cls):
    env = countdown_envs()
    teacher = actor_critic_teacher(env)
    answer, asked = teacher.answer, []
    teacher.answer = lambda obs, with_value=False: (asked.append(len(obs)), answer(obs, with_value))[1]
    model = mixed(cls, 0.5, env, teacher)
    model.learn(16)
    assert sum(asked) == 16 + env.num_envs
    seen = model.rollout_buffer.observations.reshape(-1, *env.observation_space.shape)
    kept = model.rollout_buffer.teacher_parameters.reshape(len(seen), -1)
    np.testing.assert_allclose(kept, answer(seen).parameters.numpy(), atol=1e-6)


def test_the_teacher_acts_as_often_as_beta_says():
    """The teacher's actions are told from the student's by a mean that is far away."""
    env = countdown_envs(action_space=None)
    teacher = actor_critic_teacher(env)
    model = mixed(DistillPPO, LinearSchedule(1.0, 0.0, 1.0), env, teacher)
    shares = []
    rng = model._rng

    class Counting:
        def random(self, n):
            drawn = rng.random(n)
            shares.append((model._current_progress_remaining, model._beta_at(model._current_progress_remaining)))
            return drawn

    model._rng = Counting()
    model.learn(64)
    assert [progress for progress, _ in shares] == [beta for _, beta in shares]
    assert shares[0][1] == 1.0 and shares[-1][1] == 0.25


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(control="mixed"), "control='mixed' needs beta"),
        (dict(beta=0.5), "no other has it"),
        (dict(control="mixed", beta=1.5), "must lie between 0 and 1, not 1.5"),
        (dict(control="mixed", beta=lambda p: p - 0.5), "must lie between 0 and 1, not -0.5"),
        (dict(control="mixed", beta=0.5, env_reward_coef=1.0), "control='mixed' cannot go with"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_work(settings, message):
    env = countdown_envs()
    given = dict(teacher=actor_critic_teacher(env), method="on_policy_distill", **small(DistillPPO))
    with pytest.raises(ValueError, match=message):
        DistillPPO("MlpPolicy", env, **given, **settings)
