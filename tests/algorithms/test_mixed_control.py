"""Mixed control: at each step the teacher acts with probability β, and else the student; the teacher is asked once a state."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnvWrapper

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
    model.learn(48)  # three rollouts: what is known at the end of one is not asked again in the next
    assert sum(asked) == 48 + env.num_envs
    seen = model.rollout_buffer.observations.reshape(-1, *env.observation_space.shape)
    kept = model.rollout_buffer.teacher_parameters.reshape(len(seen), -1)
    np.testing.assert_allclose(kept, answer(seen).parameters.numpy(), atol=1e-6)


class Executed(VecEnvWrapper):
    """Remembers what is executed."""

    def __init__(self, venv):
        super().__init__(venv)
        self.actions = []

    def reset(self):
        return self.venv.reset()

    def step_async(self, actions):
        self.actions.append(np.array(actions))
        self.venv.step_async(actions)

    def step_wait(self):
        return self.venv.step_wait()


@pytest.mark.parametrize("cls", ENGINES)
def test_the_teacher_acts_as_often_as_beta_says(cls):
    """The teacher is sure of action 0, the student of action 2: what is executed says who acted."""
    n_envs, n_steps, n_rollouts = 64, 8, 4
    env = Executed(countdown_envs(action_space=spaces.Discrete(3), n_envs=n_envs))
    teacher = actor_critic_teacher(env)
    given = small(cls, learning_rate=1e-12, averaging=0.0)
    model = cls(
        "MlpPolicy",
        env,
        teacher=teacher,
        method="on_policy_distill",
        control="mixed",
        beta=LinearSchedule(1.0, 0.0, 1.0),
        **given,
    )
    with th.no_grad():
        for policy, sure in ((teacher.policy, 0), (model.policy, 2)):
            policy.action_net.weight.zero_()
            policy.action_net.bias.copy_(th.tensor([30.0 if action == sure else 0.0 for action in range(3)]))
    model.learn(n_envs * n_steps * n_rollouts)
    executed = np.stack(env.actions).reshape(n_rollouts, -1)
    assert set(np.unique(executed)) == {0, 2}
    n = executed.shape[1]
    for rollout, actions in enumerate(executed):
        beta = 1 - rollout / n_rollouts
        assert abs((actions == 0).mean() - beta) <= 3 * np.sqrt(beta * (1 - beta) / n)


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
