"""A row of one's own: what its parts return is checked where it would be broadcast, learnt from in vain, or fail within SB3."""

import numpy as np
import pytest
import torch as th

from envs_for_tests import actor_critic_teacher
from sb3_classes import ROLLOUT, countdown_envs, small
from sb3_distill import DistillPPO
from sb3_distill.rules import losses, methods, rewards
from sb3_distill.rules.methods import METHODS, Loss, Method, Reward, Weight


def learn(row, **kwargs):
    env = countdown_envs()
    settings = small(DistillPPO) | kwargs
    return DistillPPO("MlpPolicy", env, teacher=actor_critic_teacher(env), method=row, **settings).learn(64)


def kl(change):
    return Loss(lambda teacher, student: change(losses.kl(teacher, student)), "mine")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda step, loss: step.reward_t[:4], "a tensor of shape (4,)"),
        (lambda step, loss: step.reward_t[:, None], "a tensor of shape ({n}, 1)"),
        (lambda step, loss: step.reward_t.mean(), "a tensor of shape ()"),
        (lambda step, loss: step.reward_t.numpy(), "ndarray of shape ({n},)"),
        (lambda step, loss: 1.0, "float 1.0"),
        (lambda step, loss: None, "NoneType None"),
    ],
)
def test_a_reward_of_another_shape(function, said):
    with pytest.raises(ValueError) as error:
        learn(Method("mine", "student", None, Reward(function, "mine")))
    expected = (
        f"The reward r̂ of row 'mine' must return a tensor of shape (n,) for n transitions, here ({ROLLOUT},), not "
    )
    assert str(error.value) == expected + said.format(n=ROLLOUT) + "."


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda loss: loss[:3],
            r"must return a tensor of shape \(n,\) for n states, here .* not a tensor of shape \(3,\)",
        ),
        (lambda loss: loss.mean(), r"not a tensor of shape \(\)"),
        (lambda loss: loss[:, None], r"not a tensor of shape \(\d+, 1\)"),
        (lambda loss: loss.detach().numpy(), r"not ndarray of shape"),
        (lambda loss: 0.5, r"not float 0\.5"),
        (lambda loss: loss.detach(), "has no gradient: do not detach it"),
    ],
)
@pytest.mark.parametrize("reward", [None, methods.NEXT_LOSS])
def test_a_loss_of_another_shape_or_without_gradient(change, said, reward):
    """Beside −γ ℓ(s_{t+1}) it is computed in the rollout first."""
    with pytest.raises(ValueError, match=f"^The loss ℓ of row 'mine' .*{said}"):
        learn(Method("mine", "student", kl(change), reward))


def test_a_weight_of_another_shape():
    weight = Weight(lambda states: th.ones(3), "1")
    with pytest.raises(ValueError, match=r"^The weight w of row 'mine' must .* not a tensor of shape \(3,\)"):
        learn(Method("mine", "student", methods.KL, None, weight=weight))


def test_a_reward_that_is_not_finite():
    """Nothing is learnt from it; with a weight of 0 it goes nowhere, unless 0 · NaN would."""
    row = Method("mine", "student", methods.KL, Reward(lambda step, loss: step.reward_t * float("nan"), "NaN"))
    for coefs in ({}, dict(reward_coef=0.0, env_reward_coef=1.0)):
        with pytest.raises(ValueError, match=r"^The reward r̂ of row 'mine' is NaN or infinite in .* after "):
            learn(row, **coefs)
    learn(row, reward_coef=0.0)


@pytest.mark.parametrize(
    "parts", [dict(loss=losses.kl), dict(reward=rewards.log_prob), dict(loss=methods.KL, weight=lambda states: 1)]
)
def test_a_bare_function_is_no_part(parts):
    name = list(parts)[-1]
    with pytest.raises(TypeError, match=rf"^The {name} of a must be a {name.capitalize()} or None, .*: write "):
        Method("a", "student", **parts)


def test_what_is_no_function_is_named_and_needs_may_be_one_name():
    with pytest.raises(TypeError, match=r"^The loss of a is made of str 'kl': give Loss a function\.$"):
        Method("a", "student", Loss("kl", "KL"))
    for needs in ("teacher_value", ["teacher_value"], ("teacher_value",)):
        reward = Reward(lambda step, loss: step.teacher_value_t, "V", needs)
        assert reward.needs == {"teacher_value"}
        learn(Method("a", "student", None, reward))
    with pytest.raises(ValueError, match=r"^a has a reward that needs 'teacher_v': did you mean 'teacher_value'"):
        Method("a", "student", None, Reward(rewards.log_prob, "1", "teacher_v"))


@pytest.mark.parametrize(
    ("needs", "given"),
    [
        ([], set()),
        (["teacher_value"], {"teacher_value_t"}),
        (["next_state"], {"teacher_tp1"}),
        (["next_state", "student"], {"teacher_tp1", "student_tp1"}),
        (["next_state", "teacher_value"], {"teacher_tp1", "teacher_value_t", "teacher_value_tp1"}),
    ],
    ids=["nothing", "teacher_value", "next_state", "next_state-student", "next_state-teacher_value"],
)
def test_a_reward_is_told_what_it_needs(needs, given):
    """And nothing else; in episodes that time limits cut, too."""
    names = {"teacher_value_t", "teacher_tp1", "student_tp1", "teacher_value_tp1"}
    seen = []

    def function(step, loss):
        seen.append({name for name in names if getattr(step, name) is not None})
        return step.reward_t

    learn(Method("mine", "student", None, Reward(function, "r", frozenset(needs))))
    assert seen == [given] * len(seen) and seen


def test_a_row_of_ones_own_like_a_row_of_the_table_learns_the_same():
    """And a reward on the graph is taken off it."""
    table = METHODS["unbiased"]["n_distill"]
    own = Method("n_distill", "student", kl(lambda loss: loss), methods.NEXT_LOSS)
    for a, b in zip(learn(own).policy.parameters(), learn(table).policy.parameters(), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
    on_graph = Reward(lambda step, loss: step.reward_t.clone().requires_grad_() * 1, "r")
    learn(Method("mine", "student", None, on_graph))
