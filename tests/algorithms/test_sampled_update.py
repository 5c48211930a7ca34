"""Ties the SB3 algorithms to the theory: their sampled update, averaged, is the exact one of a linear solve.

λ = 1, no normalisation, no clipping, one SGD step on the whole rollout, an exact critic, and time limits that cut episodes
at random. SB3 weights states by how often a rollout visits them, so the exact update does too.
"""

from itertools import cycle

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.logger import Logger

from mdp import MDP, MDPVecEnv, TableTeacher, rollout_visits
from sb3_distill import DistillA2C, DistillPPO
from sb3_distill.rules.methods import METHODS, Method, Reward

GAMMA, N_STEPS, N_ENVS, TRUNCATION, ROLLOUTS = 0.6, 12, 512, 0.05, 25


def sampled_and_exact(engine, method, seed=0, exact_method=None, rollouts=ROLLOUTS, **kwargs):
    """
    The update of the student's logits in repeated rollouts, and what it should be on average.

    :return: samples of shape (rollouts, S, A), exact update of shape (S, A)
    """
    mdp = MDP.random(seed)
    logits = th.randn(mdp.n_states, mdp.n_actions, generator=th.Generator().manual_seed(7), dtype=th.float64)
    exact_method = exact_method or method
    settings = dict(
        n_steps=N_STEPS,
        gamma=GAMMA,
        gae_lambda=1.0,
        normalize_advantage=False,
        learning_rate=1.0,
        vf_coef=0.0,
        ent_coef=0.0,
        max_grad_norm=1e9,
        policy_kwargs=dict(net_arch=[], optimizer_class=th.optim.SGD),
        seed=seed,
        reward_coef=0.0 if exact_method.reward is None else 1.0,
    )
    if engine is DistillPPO:
        settings |= dict(n_epochs=1, batch_size=N_STEPS * N_ENVS)
    model = engine(
        "MlpPolicy",
        MDPVecEnv(mdp, N_ENVS, seed, TRUNCATION),
        teacher=TableTeacher(mdp, GAMMA),
        method=method,
        **(settings | kwargs),
    )
    # One-hot observations and no hidden layer: the weights are the table of logits, and of values.
    weight = model.policy.action_net.weight
    model.policy.action_net.bias.data.zero_()
    model.policy.value_net.bias.data.zero_()
    if exact_method.reward is not None:
        probs = logits.softmax(-1)
        reward = mdp.reward_sa(exact_method, logits, GAMMA)
        model.policy.value_net.weight.data[0] = mdp.policy_value(probs, reward, GAMMA).float()
    model.set_logger(Logger(None, []))  # SB3 would make a folder for each call of learn
    samples = []
    for _ in range(rollouts):
        weight.data = logits.T.float().clone()
        model.policy.action_net.bias.data.zero_()
        model.learn(N_STEPS * N_ENVS)
        samples.append((logits.T.float() - weight.data).T.double())
    return th.stack(samples), exact_update(mdp, exact_method, logits)


def exact_update(mdp, method, logits):
    """Its g with states weighted as a rollout visits them."""
    return mdp.expected_update(method, logits, GAMMA, lambda control: rollout_visits(mdp, control, N_STEPS, TRUNCATION))


def distance(samples, exact):
    """‖mean − exact‖ in units of the standard error of the mean."""
    error = samples.mean(0) - exact
    return float(error.norm() / (samples.var(0) / len(samples)).sum().sqrt())


@pytest.mark.parametrize(
    "engine, method",
    [
        pytest.param(engine, row, id=f"{engine.__name__}-{form}-{row.name}")
        for f, (form, rows) in enumerate(METHODS.items())
        for row, engine in zip(rows.values(), cycle([DistillPPO, DistillA2C][:: 1 - 2 * f]), strict=False)
    ],
)
def test_the_average_update_is_the_exact_one(engine, method):
    """Every row in both forms, and each row and each form on both engines, within three standard errors."""
    samples, exact = sampled_and_exact(engine, method)
    assert distance(samples, exact) < 3
    # The error bar is tight enough to tell.
    assert (samples.var(0) / len(samples)).sum().sqrt() < 0.1 * exact.norm()


def _without_gamma(step, loss):
    return METHODS["unbiased"]["n_distill"].reward(step, loss) / GAMMA


def _one_step_off(step, loss):
    return -GAMMA * loss(step.teacher_t, step.student_t)


def _wrong_sign(step, loss):
    return -METHODS["unbiased"]["n_distill"].reward(step, loss)


@pytest.mark.parametrize("mutant", [_without_gamma, _one_step_off, _wrong_sign])
def test_mutants_are_found_out(mutant):
    """No γ, the reward of the wrong step, the wrong sign: each is more than three standard errors away."""
    row = METHODS["unbiased"]["n_distill"]
    wrong = Method("mutant", "student", row.loss, Reward(mutant, "?", frozenset({"student", "next_state"})))
    samples, exact = sampled_and_exact(DistillPPO, wrong, exact_method=row)
    assert distance(samples, exact) > 3


def test_coefficients_weigh_the_two_terms():
    """loss_coef · ∇ℓ and reward_coef · (the policy gradient of r̂) + env_reward_coef · (that of r), each by its own factor."""
    row = METHODS["unbiased"]["n_distill"]
    only_env = Method("env", "student", None, Reward(lambda step, loss: step.reward_t, "r"))
    only_loss = Method("loss", "student", row.loss, None)
    only_reward = Method(
        "reward",
        "student",
        None,
        Reward(lambda step, _: row.reward(step, row.loss), "r̂", frozenset({"student", "next_state"})),
    )

    def mix(step, loss):
        return 8.0 * row.reward(step, row.loss) + 2.0 * step.reward_t

    # The critic is exact for the mix over its sum of weights, which is what the buffer holds.
    mixed = Method(
        "mix", "student", None, Reward(lambda s, _: mix(s, None) / 10.0, "mix", frozenset({"student", "next_state"}))
    )
    samples, _ = sampled_and_exact(
        DistillPPO, row, exact_method=mixed, loss_coef=3.0, reward_coef=8.0, env_reward_coef=2.0
    )
    mdp = MDP.random(0)
    logits = th.randn(mdp.n_states, mdp.n_actions, generator=th.Generator().manual_seed(7), dtype=th.float64)
    parts = [exact_update(mdp, method, logits) for method in (only_loss, only_reward, only_env)]
    assert distance(samples, 3.0 * parts[0] + 8.0 * parts[1] + 2.0 * parts[2]) < 3
    assert distance(samples, 3.0 * parts[0] + parts[1] + 2.0 * parts[2]) > 3


def test_updates_are_repeatable():
    """Two runs from one seed are equal to the bit."""
    runs = [sampled_and_exact(DistillPPO, METHODS["unbiased"]["n_distill"], rollouts=3)[0] for _ in range(2)]
    assert np.array_equal(*(r.numpy() for r in runs))
