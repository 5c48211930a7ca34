"""Mixed control: at each step the teacher acts with probability β, and else the student; the teacher is asked once a state."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnvWrapper

from envs_for_tests import actor_critic_teacher
from sb3_classes import ENGINES, countdown_envs, small
from sb3_distill import DistillA2C, DistillPPO


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
        (
            dict(control="mixed", beta=0.5, env_reward_coef=1.0, cls=DistillA2C),
            "control='mixed' cannot go with.*no ratio",
        ),
        (dict(control="mixed", beta=0.5, method="n_distill", cls=DistillA2C), "reward_coef=0, or take PPO's"),
        (dict(control="teacher", env_reward_coef=1.0), "control='teacher' cannot go with"),
        (dict(control="mixed", beta=0.5, env_reward_coef=1.0, target_kl=0.01), "target_kl=0.01 is measured"),
        (dict(control="mixed", beta=0.5, beta_per="rollout"), "Unknown beta_per 'rollout'"),
        (dict(beta_per="episode"), "beta_per='episode' belongs to control='mixed'"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_work(settings, message):
    env = countdown_envs()
    cls = settings.get("cls", DistillPPO)
    given = dict(teacher=actor_critic_teacher(env), method="on_policy_distill", **small(cls))
    with pytest.raises(ValueError, match=message):
        cls("MlpPolicy", env, **given | {name: value for name, value in settings.items() if name != "cls"})


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.Box(-1, 1, (2,)), spaces.MultiDiscrete([2, 3])])
@pytest.mark.parametrize("beta_per", ["step", "episode"])
def test_the_rollout_has_the_actions_that_were_executed_and_the_densities_that_drew_them(space, beta_per):
    """Of a teacher far from the student: what is executed is in the buffer unclipped, with log q of it by PyTorch's own."""
    env = Executed(countdown_envs(action_space=space, n_envs=4))
    teacher = actor_critic_teacher(env)
    with th.no_grad():
        teacher.policy.action_net.weight.mul_(30)
    given = small(DistillPPO, learning_rate=1e-12, averaging=0.0, n_steps=32, batch_size=32)
    given |= dict(method="on_policy_distill", control="mixed", beta=0.3, beta_per=beta_per, env_reward_coef=1.0)
    model = DistillPPO("MlpPolicy", env, teacher=teacher, **given)
    seen = {}

    def keep(states):
        buffer = model.rollout_buffer
        seen.update(actions=buffer.actions.copy(), log_probs=buffer.log_probs.copy(), obs=buffer.observations.copy())

    compute = model._finish_rollout
    model._finish_rollout = lambda *args: (compute(*args), keep(None))[0]
    turns, taken = [], model._turns.teachers
    model._turns.teachers = lambda *args: turns.append(taken(*args)) or turns[-1]
    model.learn(128)
    executed = np.stack(env.actions).reshape(32, 4, -1)
    kept = seen["actions"].reshape(executed.shape)
    low, high = (space.low, space.high) if isinstance(space, spaces.Box) else (-np.inf, np.inf)
    np.testing.assert_allclose(np.clip(kept, low, high), executed, rtol=1e-6)
    obs = th.as_tensor(seen["obs"].reshape(128, -1))
    actions = th.as_tensor(kept.reshape(128, -1))
    actions = actions.long().flatten() if isinstance(space, spaces.Discrete) else actions
    with th.no_grad():
        log_pi, log_student = (p.get_distribution(obs).log_prob(actions) for p in (teacher.policy, model.policy))
    shares = np.full(128, 0.3) if beta_per == "step" else np.stack(turns).flatten().astype(float)
    q = shares * log_pi.double().exp().numpy() + (1 - shares) * log_student.double().exp().numpy()
    np.testing.assert_allclose(seen["log_probs"].flatten(), np.log(q), rtol=1e-4, atol=1e-5)
    assert 0 < np.stack(turns).mean() < 1


def test_without_the_teachers_turns_a_mixture_is_sb3s_to_the_bit():
    """β = 0: the densities in the rollout are the student's own."""
    given = dict(method="on_policy_distill", env_reward_coef=1.0, **small(DistillPPO))
    students = []
    for more in (dict(control="mixed", beta=0.0), {}):
        env = countdown_envs()
        students.append(DistillPPO("MlpPolicy", env, teacher=actor_critic_teacher(env), **given, **more).learn(64))
    one, two = students
    assert all(th.equal(a, b) for a, b in zip(one.policy.parameters(), two.policy.parameters(), strict=True))
