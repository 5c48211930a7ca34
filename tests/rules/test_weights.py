"""Weights of ℓ: what they are, which rows admit them, and what of a run they leave alone."""

import math
import warnings

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from envs_for_tests import actor_critic_teacher
from sb3_classes import countdown_envs, small
from sb3_distill import (
    DistillA2C,
    DistillPPO,
    ExpectedEntropyDistill,
    Kickstarting,
    KickstartingA2C,
    Method,
    NDistill,
    NDistillA2C,
    OnPolicyDistill,
    ProximalDistill,
    load_teacher,
)
from sb3_distill.rules.bounds import bound_of, bounded
from sb3_distill.rules.controls import Turns, log_density
from sb3_distill.rules.methods import (
    CROSS_ENTROPY,
    LOG_PROB,
    METHODS,
    PROXIMAL,
    RETURN_RATIO,
    V_CONDITION,
    Reward,
    Weight,
    get_method,
)
from sb3_distill.rules.weights import Returns, States, check_returns, proximal, return_ratio, v_condition
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


# --- proximal, and the return ratio -----------------------------------------------------------------------------------


def test_the_proximal_weight_is_the_ratio_above_its_floor_and_the_floor_beneath():
    """ρ = 0.5, 1, 2 and ε = 0.2, and dw/dlog ρ = ρ where it is the ratio."""
    log_ratio = th.tensor([0.5, 1.0, 2.0]).log().requires_grad_()
    weight = proximal(States(None, None, log_ratio=log_ratio, clip_range=0.2))
    th.testing.assert_close(weight, th.tensor([0.8, 1.0, 2.0]))
    weight.sum().backward()
    th.testing.assert_close(log_ratio.grad, th.tensor([0.0, 1.0, 2.0]))


@pytest.mark.parametrize(
    ("returns", "ratio"),
    [
        (Returns(500.0, 20.0, 20.0), 1.0),
        (Returns(500.0, 260.0, 20.0), 0.5),
        (Returns(500.0, 500.0, 20.0), 0.0),
        (Returns(500.0, 900.0, 20.0), 0.0),
        (Returns(500.0, 0.0, 20.0), 1.0),
        (Returns(-100.0, -200.0, -500.0), 0.25),
        (Returns(10.0, 4.0, 0.0), 0.6),  # QDagger's 1 − G_πθ / G_π
        (Returns(10.0, None, 0.0), 1.0),
    ],
)
def test_the_return_ratio_is_what_the_student_lacks_of_its_teacher(returns, ratio):
    assert return_ratio(returns) == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        (Returns(1.0, None, 1.0), "teacher_return=1 is not above random_return=1"),
        (Returns(float("nan"), None, 1.0), "teacher_return must be a mean return"),
        (Returns(1.0, None, float("-inf")), "random_return must be a mean return"),
    ],
)
def test_returns_that_cannot_be_compared_are_refused(returns, message):
    with pytest.raises(ValueError, match=message):
        check_returns(returns)


def test_rows_say_which_weights_they_admit():
    """Where a row has r̂, only a weight that r̂ can carry, the same in all states; a ratio takes the student's own play."""
    for name in ("n_distill", "expected_entropy"):
        assert get_method(name, weight="return_ratio").coefficient is RETURN_RATIO
        with pytest.raises(ValueError, match="does not carry it"):
            get_method(name, weight="proximal")
    for name in ("entropy_regularised", "teacher_v_reward"):
        for weight in ("proximal", "return_ratio"):
            with pytest.raises(ValueError, match="no loss ℓ that it could weigh"):
                get_method(name, weight=weight)
    for control in ("teacher", "uniform", "mixed"):
        with pytest.raises(ValueError, match=f"by the return of the student, and control='{control}'"):
            get_method("on_policy_distill", control=control, weight="return_ratio")
    with pytest.raises(ValueError, match="of the student's own actions, and control='mixed'"):
        get_method("on_policy_distill", control="mixed", weight="proximal")
    with pytest.raises(ValueError, match="proximal_distill has a weight of its own"):
        get_method("proximal-distill", weight="v_conditioned")
    assert get_method("teacher_distill", weight="proximal").state_weight is PROXIMAL
    assert get_method("kickstarting", weight="v_conditioned").loss is get_method("on_policy_distill").loss


# --- who acts in a mixture, and bounds of r̂ --------------------------------------------------------------------------


def test_a_mixture_draws_with_the_mixed_density():
    """β π + (1−β) π_θ by hand; at β = 0 it is π_θ to the bit, at 1 π, also where the other is 0."""
    teacher, student = th.tensor([0.5, 0.1, 0.9]).log(), th.tensor([0.25, 0.7, 1e-30]).log()
    beta = th.tensor([0.5, 0.2, 1.0])
    th.testing.assert_close(log_density(teacher, student, beta).exp(), th.tensor([0.375, 0.58, 0.9]))
    assert th.equal(log_density(teacher, student, th.zeros(3)), student)
    assert th.equal(log_density(teacher, student, th.ones(3)), teacher)


def test_whoever_is_drawn_for_an_episode_keeps_the_turn_until_the_next_begins():
    turns = Turns("episode", np.random.default_rng(0))
    starts = np.random.default_rng(1).random((400, 8)) < 0.2
    starts[0] = True
    held = np.stack([turns.teachers(0.3, start) for start in starts])
    changed = held[1:] != held[:-1]
    assert not (changed & ~starts[1:]).any() and changed.any()
    assert held[starts].mean() == pytest.approx(0.3, abs=3 * np.sqrt(0.21 / starts.sum()))
    each = Turns("step", np.random.default_rng(0))
    free = np.stack([each.teachers(0.3, start) for start in starts])
    assert ((free[1:] != free[:-1]) & ~starts[1:]).any()
    with pytest.raises(ValueError, match="Unknown beta_per 'epsiode'"):
        Turns("epsiode", np.random.default_rng(0))


def test_rewards_in_nats_are_bounded_where_actions_are_continuous_and_nowhere_else():
    box, discrete = spaces.Box(-1, 1, (3,)), spaces.Discrete(3)
    assert bound_of(None, True, box) == 15.0
    for given, in_nats, space in ((None, False, box), (None, True, discrete), (math.inf, True, box)):
        assert bound_of(given, in_nats, space) is None
    assert bound_of(2, False, discrete) == 2.0
    for wrong in (0, -1.0, float("nan"), "5", True):
        with pytest.raises(ValueError, match="reward_bound, the largest"):
            bound_of(wrong, True, box)
    reward = th.tensor([-9208.0, -3.0, 40.0])
    assert bounded(reward, 5.0).tolist() == [-5.0, -3.0, 5.0] and bounded(reward, None) is reward
    nats = {row.reward for rows in METHODS.values() for row in rows.values() if row.reward is not None}
    assert {r.in_nats for r in nats if "V_π" in r.formula} == {False}
    assert {r.in_nats for r in nats if "V_π" not in r.formula} == {True}


# --- what an algorithm makes of them ----------------------------------------------------------------------------------


def test_a_ratio_needs_more_than_one_update_of_a_rollout():
    """With A2C it is 1 always: an error that says so, and TRPO takes no step along ℓ."""
    given = dict(teacher=actor_critic_teacher(countdown_envs()), method="on_policy_distill", weight="proximal")
    with pytest.raises(ValueError, match=r"the ratio ρ of max\(ρ_t, 1−ε\) is always 1"):
        DistillA2C("MlpPolicy", countdown_envs(), **given, **small(DistillA2C))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(teacher_return=1.0), "teacher_return=1.0 belongs to weight='return_ratio'"),
        (dict(weight="v_conditioned", random_return=1.0), "random_return=1.0 belongs to weight='return_ratio'"),
        (dict(weight="return_ratio", teacher_return=1.0, random_return=2.0), "is not above random_return=2"),
        (dict(weight="return_ratio", random_return=0.0), "mean return of the teacher.*give teacher_return=…"),
        (
            dict(weight="return_ratio", teacher_return=5.0),
            r"of uniformly random play.*random_return=… \(0 is QDagger's",
        ),
        (dict(reward_bound=1.0), "has no reward r̂, so reward_bound=1.0 would do nothing"),
        (dict(method="n_distill", reward_bound=-1.0), "reward_bound, the largest"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_work(settings, message):
    given = dict(teacher=actor_critic_teacher(countdown_envs()), method="on_policy_distill", **small(DistillPPO))
    with pytest.raises(ValueError, match=message):
        DistillPPO("MlpPolicy", countdown_envs(), **given | settings)


def test_returns_are_those_of_the_teachers_own_play_and_of_random_play_where_nobody_gives_them():
    env = make_vec_env("CartPole-v1", 2, seed=0)
    teacher = load_teacher("zoo:dqn/CartPole-v1", temperature=0.1, device="cpu")
    given = dict(teacher=teacher, method="n_distill", weight="return_ratio", **small(DistillPPO))
    model = DistillPPO("MlpPolicy", env, **given)
    assert model._returns[1].teacher == 500 and 10 < model._returns[1].random < 40
    model.learn(256)
    student = np.mean([episode["r"] for episode in model.ep_info_buffer])
    model._coefficient_now()
    assert model.logger.name_to_value["distill/weight"] == pytest.approx(
        min(1.0, (500 - student) / (500 - model._returns[1].random))
    )


def test_an_environment_that_tells_no_return_is_told_of_once():
    given = dict(weight="return_ratio", teacher_return=5.0, random_return=0.0, **small(DistillPPO))
    env = countdown_envs()
    with pytest.warns(UserWarning, match="stays 1: .* episodes have ended") as caught:
        DistillPPO("MlpPolicy", env, teacher=actor_critic_teacher(env), method="on_policy_distill", **given).learn(64)
    assert sum("stays 1" in str(one.message) for one in caught) == 1


def test_kickstarting_and_proximal_distill_are_on_policy_distill_with_the_environments_reward():
    """A pull that lets go, a critic that learns, the discount of the environment's return."""
    for cls in (Kickstarting, ProximalDistill, KickstartingA2C):
        settings = cls.settings("CartPole-v1")
        assert (settings["env_reward_coef"], settings["gamma"], settings["vf_coef"]) == (1.0, 0.99, 0.5)
        assert settings["loss_coef"](1.0) == 1 and settings["loss_coef"](0.0) == 0
    assert Kickstarting.settings("CartPole-v1", loss_coef=0.5, gamma=0.9, env_reward_coef=0)["loss_coef"] == 0.5
    env = countdown_envs()
    given = dict(teacher=actor_critic_teacher(env), **small(ProximalDistill))
    one = ProximalDistill("MlpPolicy", env, **given).learn(64)
    more = dict(method="on_policy_distill", weight="proximal", env_reward_coef=1)
    two = DistillPPO("MlpPolicy", countdown_envs(), **given, **more).learn(64)
    three = Kickstarting("MlpPolicy", countdown_envs(), **given).learn(64)
    assert all(th.equal(a, b) for a, b in zip(one.policy.parameters(), two.policy.parameters(), strict=True))
    assert not all(th.equal(a, b) for a, b in zip(one.policy.parameters(), three.policy.parameters(), strict=True))


def test_a_weight_on_the_environments_reward_has_settings_that_make_sense():
    """What a user gives stays; pure distillation and the printed form stay as they were."""
    pure = {name: OnPolicyDistill.settings("CartPole-v1")[name] for name in ("gamma", "vf_coef", "loss_coef")}
    assert pure == {"gamma": 0.99, "vf_coef": 0.0, "loss_coef": 1.0}
    for cls, reward in (
        (NDistill, True),
        (ExpectedEntropyDistill, True),
        (OnPolicyDistill, False),
        (NDistillA2C, True),
    ):
        paid = cls.settings("CartPole-v1", env_reward_coef=1)
        assert (paid["gamma"], paid["vf_coef"], paid["max_grad_norm"], paid["averaging"]) == (0.99, 0.5, 0.5, 0.0)
        falling = ["loss_coef", *(["reward_coef"] if reward else [])]
        assert all(paid[name](0.0) == 0 < paid[name](1.0) for name in falling)
        assert cls.settings("CartPole-v1", env_reward_coef=0) == cls.settings("CartPole-v1")
    given = dict(gamma=0.8, vf_coef=0.1, loss_coef=2.0, reward_coef=3.0, max_grad_norm=7.0, env_reward_coef=1)
    assert given.items() <= NDistill.settings("CartPole-v1", **given).items()
    printed = NDistill.settings("CartPole-v1", form="paper", env_reward_coef=1)
    assert (printed["loss_coef"], printed["reward_coef"], printed["vf_coef"]) == (1.0, 1.0, 0.5)
    value = DistillPPO.settings("CartPole-v1", method="teacher_v_reward", env_reward_coef=1)
    assert (value["reward_coef"], value["gae_lambda"]) == (1.0, 0.8)  # no pull towards what the teacher does


@pytest.mark.parametrize("cls", [DistillPPO, DistillA2C])
def test_rewards_of_continuous_actions_are_bounded_in_the_rollout(cls):
    """A teacher that is sure of what a student does not do: −10⁴ nats and more, unless they are bounded."""
    space = spaces.Box(-1, 1, (2,))
    env = countdown_envs(action_space=space)
    teacher = actor_critic_teacher(env)
    with th.no_grad():
        teacher.policy.log_std.fill_(-5.0)
    means = {}
    for bound in (None, 3.0, math.inf):
        given = dict(method="entropy_regularised", reward_bound=bound, **small(cls))
        model = cls("MlpPolicy", countdown_envs(action_space=space), teacher=teacher, **given)
        rewards = []
        compute = model._finish_rollout
        model._finish_rollout = lambda *args, m=model, c=compute, r=rewards: (
            c(*args),
            r.append(m.rollout_buffer.rewards),
        )[0]
        model.learn(16)
        means[bound] = np.concatenate(rewards)
    assert means[None].min() == -10 and means[3.0].min() == -3 and means[math.inf].min() < -1_000


def test_values_of_two_discounts_are_told_with_both():
    env = make_vec_env("CartPole-v1", 2, seed=0)
    teacher = load_teacher("zoo:dqn/CartPole-v1", temperature=0.1, device="cpu")
    assert teacher.gamma == 0.99
    given = dict(teacher=teacher, method="on_policy_distill", weight="v_conditioned", **small(DistillPPO))
    with pytest.warns(
        UserWarning, match=r"not of one discount: .* gamma=0\.99, .* student's gamma=0\.9\. Give gamma=0\.99"
    ):
        DistillPPO("MlpPolicy", env, gamma=0.9, **given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DistillPPO("MlpPolicy", env, **given)
