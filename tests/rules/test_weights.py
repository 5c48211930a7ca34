"""Weights of ℓ: what they are, which rows admit them, and what of a run they leave alone."""

import pytest
import torch as th

from envs_for_tests import actor_critic_teacher
from sb3_classes import countdown_envs, small
from sb3_distill import DistillA2C, DistillPPO, Method, OnPolicyDistill
from sb3_distill.rules.methods import CROSS_ENTROPY, LOG_PROB, METHODS, V_CONDITION, Weight, get_method
from sb3_distill.rules.weights import States, v_condition


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
