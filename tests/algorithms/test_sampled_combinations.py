"""What rows combine with, as the algorithms sample it: the average update is the exact one of the tables. See test_sampled_update."""

import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from mdp import MDP, MDPVecEnv, TableTeacher, rollout_visits
from sb3_distill import DistillA2C, DistillPPO
from sb3_distill.algorithms import mixture
from sb3_distill.rules.methods import METHODS, PROXIMAL, V_CONDITION, Method, Reward, Weight, get_method
from sb3_distill.rules.weights import Returns

GAMMA, N_STEPS, N_ENVS, TRUNCATION, ROLLOUTS = 0.6, 12, 128, 0.15, 20
BETA, CLIP = 0.4, 0.2
SEED = 4
UNCLIPPED = 1e9
ENV_REWARD = Reward(lambda step, loss: step.reward_t, "r")


def logits_of(seed, mdp):
    return th.randn(mdp.n_states, mdp.n_actions, generator=th.Generator().manual_seed(seed), dtype=th.float64)


MDP_ = MDP.random(SEED)
OLD, NOW = logits_of(7, MDP_), logits_of(8, MDP_)


class Put(BaseCallback):
    """Puts returns among those of the last episodes before the rollout, and other weights into the student after it."""

    def __init__(self, now, returned):
        super().__init__()
        self.now, self.returned = now, returned

    def _on_training_start(self):
        if self.returned is not None:
            self.model.ep_info_buffer.append({"r": self.returned, "l": 1, "t": 0.0})

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        if self.now is not None:
            put(self.model, self.now)


def put(model, logits):
    """One-hot observations and no hidden layer: the weights are the table of logits."""
    model.policy.action_net.weight.data = logits.T.float().clone()
    model.policy.action_net.bias.data.zero_()


def sampled(engine, critic=None, now=None, returned=None, **kwargs):
    """The update of the student's logits in repeated rollouts of OLD, at ``now``: shape (rollouts, S, A)."""
    settings = dict(n_steps=N_STEPS, gamma=GAMMA, gae_lambda=1.0, normalize_advantage=False, learning_rate=1.0)
    settings |= dict(ent_coef=0.0, max_grad_norm=1e9, averaging=0.0, seed=SEED, device="cpu", vf_coef=0.5)
    settings |= dict(policy_kwargs=dict(net_arch=[], optimizer_class=th.optim.SGD), loss_coef=1.0)
    if engine is DistillPPO:
        settings |= dict(n_epochs=1, batch_size=N_STEPS * N_ENVS)
    env = MDPVecEnv(MDP_, N_ENVS, SEED, TRUNCATION)
    model = engine("MlpPolicy", env, teacher=TableTeacher(MDP_, GAMMA), **(settings | kwargs))
    samples = []
    for _ in range(ROLLOUTS):
        put(model, OLD)
        model.policy.value_net.bias.data.zero_()
        model.policy.value_net.weight.data[0] = 0.0 if critic is None else critic.float()
        model.learn(N_STEPS * N_ENVS, Put(now, returned))
        at = OLD if now is None else now
        samples.append((at.T.float() - model.policy.action_net.weight.data).T.double())
    return th.stack(samples)


def exact(row, logits=None, **kwargs):
    """The row's g with states weighted as a rollout visits them."""

    def weigh(control):
        return rollout_visits(MDP_, control, N_STEPS, TRUNCATION)

    old = None if logits is None else OLD
    return MDP_.expected_update(row, OLD if logits is None else logits, GAMMA, weigh, old=old, **kwargs)


def value(row, beta=1.0):
    """The critic that is exact for the row's reward, or for the environment's."""
    control = MDP_.control(row, OLD.softmax(-1), beta)
    reward = MDP_.reward if row.reward is None else MDP_.reward_sa(row, OLD, GAMMA)
    return MDP_.policy_value(control, reward, GAMMA)


def plus_r(row, **kwargs):
    """Of the row with the environment's reward."""
    return exact(row, **kwargs) + exact(Method("env", row.control, None, ENV_REWARD), **kwargs)


def distance(samples, expected):
    """‖mean − expected‖ in units of the standard error of the mean."""
    error = samples.mean(0) - expected
    return float(error.norm() / (samples.var(0) / len(samples)).sum().sqrt())


def agrees(samples, expected):
    """Within three standard errors, which are small enough to tell."""
    assert (samples.var(0) / len(samples)).sum().sqrt() < 0.25 * expected.norm()
    return distance(samples, expected) < 3


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("engine", "env_reward_coef"), [(DistillPPO, 0.0), (DistillPPO, 1.0), (DistillA2C, 1.0)])
def test_v_conditioned(engine, env_reward_coef):
    row = get_method("on_policy_distill", weight="v_conditioned")
    found = MDP_.weight_sa(row, OLD, OLD, GAMMA, CLIP)[:, 0]
    assert 0 < found.sum() < len(found)  # it counts in some states and not in all
    given = dict(method="on_policy_distill", env_reward_coef=env_reward_coef, critic=value(row))
    samples = sampled(engine, weight="v_conditioned", **given)
    assert agrees(samples, plus_r(row) if env_reward_coef else exact(row))


def test_proximal_away_from_where_the_rollout_was_made():
    row = get_method("on_policy_distill", weight="proximal")
    ratio = (NOW.log_softmax(-1) - OLD.log_softmax(-1)).exp()
    assert (ratio < 1 - CLIP).any() and (ratio > 1).any()
    given = dict(method="on_policy_distill", clip_range=CLIP, now=NOW)
    samples = sampled(DistillPPO, weight="proximal", **given)
    assert agrees(samples, exact(row, NOW, clip_range=CLIP))


def test_proximal_with_the_environments_reward():
    row = get_method("proximal_distill")
    samples = sampled(DistillPPO, method="proximal_distill", clip_range=CLIP, critic=value(row))
    assert agrees(samples, plus_r(row, clip_range=CLIP))


@pytest.mark.parametrize(("engine", "name"), [(DistillA2C, "on_policy_distill"), (DistillPPO, "n_distill")])
def test_return_ratio(engine, name):
    """A quarter of ℓ and of the reward that carries it."""
    row = get_method(name)
    given = dict(teacher_return=3.0, random_return=-1.0, returned=2.0, critic=value(row))
    if row.reward is not None:
        given["reward_coef"] = 1.0
    samples = sampled(engine, method=name, weight="return_ratio", **given)
    assert get_method(name, weight="return_ratio").coefficient(Returns(3.0, 2.0, -1.0)) == 0.25
    assert agrees(samples, 0.25 * exact(row))


def test_return_ratio_leaves_the_environments_reward_whole():
    row = get_method("on_policy_distill")
    given = dict(teacher_return=3.0, random_return=-1.0, returned=2.0, critic=value(row), env_reward_coef=1.0)
    samples = sampled(DistillPPO, method="on_policy_distill", weight="return_ratio", **given)
    assert agrees(samples, plus_r(row) - 0.75 * exact(row))


# --- mixtures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", [DistillPPO, DistillA2C])
def test_mixed_control_without_a_policy_gradient(engine):
    row = get_method("on_policy_distill", control="mixed")
    samples = sampled(engine, method="on_policy_distill", control="mixed", beta=BETA)
    assert agrees(samples, exact(row, beta=BETA))


MIXED = [
    ("on_policy_distill", dict(env_reward_coef=1.0)),
    ("n_distill", dict(reward_coef=1.0)),
    ("entropy_regularised", dict(reward_coef=1.0, loss_coef=0.0)),
]


def mixed(name, given):
    """Samples and the exact update of a row under mixed control, with a policy gradient."""
    row = get_method(name, control="mixed")
    given = dict(method=name, control="mixed", beta=BETA, clip_range=UNCLIPPED, critic=value(row, BETA)) | given
    expected = exact(row, beta=BETA) if row.reward is not None else plus_r(row, beta=BETA)
    return sampled(DistillPPO, **given), expected


@pytest.mark.parametrize(("name", "given"), MIXED)
def test_mixed_control_with_a_policy_gradient(name, given):
    """The actions are weighed by π_θ(a|s) / q(a|s), and r̂ is that of the action that was executed."""
    assert agrees(*mixed(name, given))


def test_mixed_control_by_episodes():
    """λ = 0, so that any critic will do: each state is visited by whom it was drawn for, whose density its action has."""
    critic = MDP_.policy_value(OLD.softmax(-1), MDP_.reward, GAMMA)
    given = dict(
        control="mixed", beta=BETA, beta_per="episode", clip_range=UNCLIPPED, gae_lambda=0.0, env_reward_coef=1.0
    )
    samples = sampled(DistillPPO, method="on_policy_distill", critic=critic, **given)
    teacher, student = MDP_.teacher_logits.softmax(-1), OLD.softmax(-1)
    start = th.cat([BETA * MDP_.start, (1 - BETA) * MDP_.start])
    going_on = th.block_diag(*[(1 - TRUNCATION) * MDP_.chain(p) for p in (teacher, student)])
    step = going_on + (1 - going_on.sum(1, keepdim=True)) * start
    share, now = th.zeros_like(start), start
    for _ in range(N_STEPS):
        share, now = share + now / N_STEPS, now @ step
    visits = share.reshape(2, -1).sum(0)
    q = MDP_.reward + GAMMA * th.einsum("sat,t->sa", MDP_.transition, critic)
    gradient = student * (q - (student * q).sum(-1, keepdim=True))
    expected = visits[:, None] * (student - teacher - gradient)
    assert agrees(samples, expected)


# --- mutants: each is found out ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mutant", "right"),
    [
        (lambda s: 1 - V_CONDITION(s), V_CONDITION),
        (lambda s: th.ones_like(s.teacher_value), V_CONDITION),
        (lambda s: PROXIMAL(s).detach(), PROXIMAL),
        (lambda s: PROXIMAL(s._replace(log_ratio=-s.log_ratio)), PROXIMAL),
        (lambda s: s.log_ratio.exp(), PROXIMAL),
    ],
)
def test_wrong_weights_are_found_out(mutant, right):
    row = Method("right", "student", METHODS["unbiased"]["on_policy_distill"].loss, weight=right)
    wrong = Method("wrong", "student", row.loss, weight=Weight(mutant, "?", right.needs))
    samples = sampled(DistillPPO, method=wrong, clip_range=CLIP, now=NOW, critic=value(row))
    assert distance(samples, exact(row, NOW, clip_range=CLIP)) > 3


@pytest.mark.parametrize("wrong", [lambda teacher, student, beta: student, lambda teacher, student, beta: teacher])
def test_a_ratio_against_another_density_is_found_out(monkeypatch, wrong):
    monkeypatch.setattr(mixture, "log_density", wrong)
    assert distance(*mixed(*MIXED[0])) > 3


def test_a_return_ratio_of_the_loss_alone_is_found_out():
    row = get_method("n_distill")
    samples = sampled(DistillPPO, method="n_distill", loss_coef=0.25, reward_coef=1.0, critic=value(row))
    assert distance(samples, 0.25 * exact(row)) > 3
