"""Weights of ℓ: what they are, which rows admit them, and what of a run they leave alone."""

import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecNormalize

from envs_for_tests import actor_critic_teacher
from sb3_classes import countdown_envs, small
from sb3_distill import DistillA2C, DistillPPO, Method, OnPolicyDistill
from sb3_distill.rules.methods import CROSS_ENTROPY, LOG_PROB, METHODS, V_CONDITION, Reward, Weight, get_method
from sb3_distill.rules.weights import States, v_condition
from sb3_distill.teachers.teacher import Answer


def test_the_v_condition_counts_states_in_which_the_teachers_future_is_better():
    ours, theirs = th.tensor([1.0, 2.0, 3.0]), th.tensor([1.5, 2.0, -1.0])
    states = States(None, None, teacher_value=ours, student_value=theirs.requires_grad_())
    weight = v_condition(states)
    assert weight.tolist() == [0.0, 0.0, 1.0] and not weight.requires_grad
    with pytest.raises(ValueError, match="Shapes have to be equal"):
        v_condition(states._replace(teacher_value=ours.unsqueeze(1)))


def test_rows_that_do_not_admit_a_weight_say_so():
    for name, message in (("n_distill", "does not carry it"), ("entropy_regularised", "no loss ℓ")):
        with pytest.raises(ValueError, match=message):
            get_method(name, weight="v_conditioned")
    with pytest.raises(ValueError, match="Unknown weight 'v_condition': choose one of 'v_conditioned'"):
        get_method("on_policy_distill", weight="v_condition")
    with pytest.raises(ValueError, match="weight='v_conditioned' says something else"):
        get_method(METHODS["unbiased"]["on_policy_distill"], weight="v_conditioned")
    with pytest.raises(ValueError, match="no loss ℓ"):
        Method("mine", "student", None, LOG_PROB, weight=V_CONDITION)
    assert get_method("on_policy_distill", weight="v_conditioned").needs >= {"teacher_value", "student_value"}


def student(cls, offset, **kwargs):
    """After a short run beside a teacher whose values are far above or below all that a student's critic says."""
    env = countdown_envs()
    teacher = actor_critic_teacher(env)
    answer = teacher.answer

    def shifted(obs, with_value=False):
        said = answer(obs, with_value)
        return said if said.value is None else said._replace(value=said.value + offset)

    teacher.answer = shifted
    model = cls(
        "MlpPolicy",
        env,
        teacher=teacher,
        method="on_policy_distill",
        vf_coef=0.5,
        averaging=0.0,
        **small(cls),
        **kwargs,
    )
    before = model.policy.action_net.weight.detach().clone()
    model.learn(64)
    return model, before


@pytest.mark.parametrize("cls", [DistillPPO, DistillA2C])
def test_with_the_v_condition_a_student_learns_where_it_is_worse_and_nowhere_else(cls):
    always, _ = student(cls, 1e6, weight="v_conditioned")
    unweighted, _ = student(cls, 1e6)
    never, before = student(cls, -1e6, weight="v_conditioned")
    assert all(th.equal(a, b) for a, b in zip(always.policy.parameters(), unweighted.policy.parameters(), strict=True))
    assert th.equal(never.policy.action_net.weight, before)
    assert not th.equal(always.policy.action_net.weight, before)


def test_its_critic_learns_the_environments_return():
    """Which on-policy distill alone has no use for."""
    given = dict(teacher=actor_critic_teacher(countdown_envs()), **small(OnPolicyDistill))
    assert OnPolicyDistill("MlpPolicy", countdown_envs(), **given).vf_coef == 0
    assert OnPolicyDistill("MlpPolicy", countdown_envs(), weight="v_conditioned", **given).vf_coef == 0.5


def test_a_weight_of_ones_own_is_a_row_of_ones_own():
    double = Method("double", "student", CROSS_ENTROPY, weight=Weight(lambda states: th.full((8,), 2.0), "2"))
    env = countdown_envs()
    given = dict(
        teacher=actor_critic_teacher(env), averaging=0.0, vf_coef=0.0, normalize_advantage=False, **small(DistillPPO)
    )
    one = DistillPPO("MlpPolicy", env, method=double, **given).learn(32)
    row = Method("single", "student", CROSS_ENTROPY)
    two = DistillPPO("MlpPolicy", countdown_envs(), method=row, loss_coef=2.0, **given).learn(32)
    assert all(
        th.allclose(a, b, atol=1e-6) for a, b in zip(one.policy.parameters(), two.policy.parameters(), strict=True)
    )


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("cls", [DistillPPO, DistillA2C])
def test_a_weight_sees_both_values_of_the_same_states_in_one_unit(cls, normalised):
    """V_π is a function of π here, so values of other states would be found out; V_πθ is the critic's times its rewards' unit."""
    env = countdown_envs(action_space=spaces.Discrete(3))
    env = VecNormalize(env, norm_obs=False) if normalised else env
    teacher = actor_critic_teacher(env)
    with th.no_grad():
        teacher.policy.action_net.weight.mul_(10)
    answer = teacher.answer
    teacher.answer = lambda obs, with_value=False: Answer(
        (said := answer(obs)).parameters, 3 * said.parameters[:, 0] + 1 if with_value else None
    )
    seen = []

    def spy(states):
        seen.append((states, model._reward_unit()))
        return th.ones_like(states.teacher_value)

    row = Method("spy", "student", CROSS_ENTROPY, weight=Weight(spy, "1", V_CONDITION.needs | {"log_ratio"}))
    model = cls("MlpPolicy", env, teacher=teacher, method=row, vf_coef=0.5, averaging=0.0, **small(cls))
    evaluate, critic = model.policy.evaluate_actions, []

    def evaluated(obs, actions):
        values, log_prob, entropy = evaluate(obs, actions)
        critic.append((values.detach().flatten(), log_prob.detach()))
        return values, log_prob, entropy

    model.policy.evaluate_actions = evaluated
    model.learn(64)
    assert len(seen) == len(critic) >= 4
    for (states, unit), (values, _) in zip(seen, critic, strict=True):
        log_probs = states.teacher.distribution.logits[:, 0]
        assert log_probs.std() > 1e-3
        th.testing.assert_close(states.teacher_value, 3 * log_probs + 1)
        th.testing.assert_close(states.student_value, values * unit)
        assert (unit != 1) == normalised
    first = seen[0][0].log_ratio  # nothing has changed since the actions were drawn
    th.testing.assert_close(first, th.zeros_like(first), atol=1e-5, rtol=0)


def test_a_weight_that_is_0_everywhere_is_said_once():
    with pytest.warns(
        UserWarning, match=r"Nothing is learnt from the teacher .* is 0 in all states, where V_π is -1e\+06"
    ) as caught:
        student(DistillPPO, -1e6, weight="v_conditioned")
    assert sum("Nothing is learnt" in str(one.message) for one in caught) == 1


@pytest.mark.parametrize("control", ["teacher", "uniform", "mixed"])
def test_the_students_value_is_of_its_own_play(control):
    with pytest.raises(ValueError, match=f"needs the student's value, and control='{control}'"):
        get_method("on_policy_distill", control=control, weight="v_conditioned")


def test_a_critic_that_does_not_learn_is_refused():
    given = dict(teacher=actor_critic_teacher(countdown_envs()), weight="v_conditioned", **small(OnPolicyDistill))
    with pytest.raises(ValueError, match="with vf_coef=0 its critic learns nothing"):
        OnPolicyDistill("MlpPolicy", countdown_envs(), vf_coef=0.0, **given)


@pytest.mark.parametrize(
    "row",
    [
        dict(reward=Reward(lambda step, _: step.reward_t, "r", frozenset({"log_ratio"}))),
        dict(loss=CROSS_ENTROPY, weight=Weight(lambda states: states.log_ratio, "w", frozenset({"next_state"}))),
    ],
)
def test_a_part_that_needs_what_there_is_not_is_refused(row):
    with pytest.raises(ValueError, match=r"that needs '(log_ratio|next_state)'"):
        Method("mine", "student", **row)


def test_a_reward_gets_what_it_needs_and_no_more():
    """The teacher in the next state alone, or its value alone, where time limits cut episodes."""
    env = countdown_envs()
    given = dict(teacher=actor_critic_teacher(env), **small(DistillPPO))
    for needs, name in (({"next_state"}, "teacher_tp1"), ({"teacher_value"}, "teacher_value_t")):
        row = Method(
            "mine", "student", None, Reward(lambda step, _, name=name: _known(step, name), "r̂", frozenset(needs))
        )
        DistillPPO("MlpPolicy", env, method=row, **given).learn(32)


def _known(step, name):
    assert getattr(step, name) is not None and step.student_tp1 is None
    return step.reward_t
