"""Students learn on whitened observations, and the teacher's means and theirs count within the action space."""

import copy

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy

from envs_for_tests import CountdownEnv
from sb3_distill import DistillPPO, EntropyRegularisedA2C, NDistill, OnPolicyDistill, OnPolicyDistillA2C
from sb3_distill.algorithms.whitening import Statistics, first_layers, joined, whitened
from sb3_distill.experiment.checkpoints import read_checkpoint, restore_student, student_state, write_checkpoint
from sb3_distill.rules.distributions import executed, from_parameters, within_bounds
from sb3_distill.rules.losses import kl

OBSERVATIONS = spaces.Box(-np.inf, np.inf, (2, 2), np.float32)
ACTIONS = spaces.Box(np.array([-1, -2], np.float32), np.array([1, np.inf], np.float32))
STATISTICS = Statistics(9, [3.0, -200.0, 0.0, 1e6], [0.25, 1e4, 1e-8, 0.0])
SMALL = {"n_steps": 8, "batch_size": 8, "n_epochs": 2, "seed": 0, "device": "cpu"}


def policy_of(**kwargs):
    th.manual_seed(0)
    return ActorCriticPolicy(OBSERVATIONS, ACTIONS, lambda _: 1e-2, **kwargs)


def seen(n=32):
    noise = np.random.default_rng(0).standard_normal((n, 4))
    columns = np.array(STATISTICS.mean) + np.sqrt(STATISTICS.variance) * noise
    return th.as_tensor(columns.reshape(n, 2, 2), dtype=th.float32)


@pytest.mark.parametrize(
    "kwargs", [{}, {"share_features_extractor": False}, {"net_arch": []}, {"net_arch": {"pi": [], "vf": [3]}}], ids=str
)
def test_the_network_is_the_same_before_within_and_after(kwargs):
    policy, obs = policy_of(**kwargs), seen()
    before = [x.detach() for x in policy.evaluate_actions(obs, th.zeros(32, 2))[:2]]
    weights = copy.deepcopy(policy.state_dict())
    with pytest.raises(RuntimeError, match="on purpose"), whitened(policy, STATISTICS):
        for x, y in zip(before, policy.evaluate_actions(obs, th.zeros(32, 2)), strict=False):
            th.testing.assert_close(x, y.detach(), rtol=1e-4, atol=1e-4)
        raise RuntimeError("on purpose")
    for name, value in policy.state_dict().items():
        th.testing.assert_close(value, weights[name], rtol=1e-5, atol=1e-5 if "bias" not in name else 0.5)
    th.testing.assert_close(policy.evaluate_actions(obs, th.zeros(32, 2))[1].detach(), before[1], rtol=1e-4, atol=1e-3)


def test_it_learns_as_a_network_of_whitened_observations_does():
    """A step within the context, against one of a network that is given whitened observations and was rewritten by hand."""
    statistics = Statistics(9, [3.0, -2.0, 0.0, 1.0], [0.25, 9.0, 1e-4, 0.0])
    mean, std = np.array(statistics.mean), np.array([0.5, 3.0, 0.01, 1.0])  # what never changes keeps its unit
    obs = th.as_tensor(
        (mean + std * np.random.default_rng(0).standard_normal((32, 4))).reshape(32, 2, 2), dtype=th.float32
    )
    policy, by_hand = policy_of(), policy_of()
    with th.no_grad():
        for layer in first_layers(by_hand):
            layer.bias += layer.weight @ th.as_tensor(mean, dtype=th.float32)
            layer.weight *= th.as_tensor(std, dtype=th.float32)

    def step(network, observations):
        network.optimizer.zero_grad()
        values, log_prob, _ = network.evaluate_actions(observations, th.ones(32, 2))
        (values.mean() - log_prob.mean()).backward()
        network.optimizer.step()

    with whitened(policy, statistics):
        step(policy, obs)
    white = ((obs.reshape(32, 4) - th.as_tensor(mean)) / th.as_tensor(std)).float().reshape(32, 2, 2)
    step(by_hand, white)
    for x, y in zip(
        policy.evaluate_actions(obs, th.ones(32, 2)), by_hand.evaluate_actions(white, th.ones(32, 2)), strict=True
    ):
        th.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


def test_statistics_are_those_of_all_that_was_seen():
    parts = [np.random.default_rng(i).normal(i, 1 + i, (5 + i, 3)).astype(np.float32) for i in range(4)]
    known = None
    for part in parts:
        known = joined(list(known) if known else None, part)  # a list, as JSON has it
    whole = np.concatenate(parts).astype(np.float64)
    assert known.n == len(whole)
    np.testing.assert_allclose(known.mean, whole.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(known.variance, whole.var(axis=0), rtol=1e-12)


def test_other_networks_learn_as_they_are():
    class Own(ActorCriticPolicy):
        def _build_mlp_extractor(self):
            super()._build_mlp_extractor()
            self.mlp_extractor.policy_net[0] = th.nn.utils.parametrizations.weight_norm(
                self.mlp_extractor.policy_net[0]
            )

    assert len(first_layers(policy_of())) == 2
    assert first_layers(Own(OBSERVATIONS, ACTIONS, lambda _: 1e-3)) == []
    frozen = policy_of()
    frozen.mlp_extractor.value_net[0].weight.requires_grad_(False)
    assert first_layers(frozen) == []
    image = spaces.Box(0, 255, (36, 36, 3), np.uint8)
    assert first_layers(ActorCriticPolicy(image, ACTIONS, lambda _: 1e-3, normalize_images=False)) == []


def environment():
    return CountdownEnv(copy.deepcopy(OBSERVATIONS), spaces.Box(-1, 1, (2,), np.float32))


@pytest.fixture(scope="module")
def teacher():
    return PPO("MlpPolicy", environment(), seed=1, device="cpu", policy_kwargs={"net_arch": [4]})


@pytest.mark.parametrize("algorithm", [OnPolicyDistill, NDistill, OnPolicyDistillA2C])
def test_a_students_zip_is_sb3s_and_goes_on(algorithm, teacher, tmp_path):
    """Its network takes observations as they are, and its statistics are there when it learns on."""
    small = SMALL if algorithm is not OnPolicyDistillA2C else {"seed": 0, "device": "cpu"}
    student = algorithm("MlpPolicy", environment(), teacher=teacher, **small)
    assert student.whitening is True
    student.learn(32)
    assert student.observation_statistics.n == 32
    student.save(tmp_path / "student")
    obs = np.random.default_rng(0).standard_normal((5, 2, 2)).astype(np.float32)
    action = student.predict(obs, deterministic=True)[0]
    if algorithm is not OnPolicyDistillA2C:
        np.testing.assert_array_equal(PPO.load(tmp_path / "student").predict(obs, deterministic=True)[0], action)
    loaded = algorithm.load(tmp_path / "student", env=environment(), teacher=teacher)
    loaded.learn(32, reset_num_timesteps=False)
    assert loaded.observation_statistics.n == 64


def test_a_run_that_is_killed_goes_on_with_its_statistics(teacher, tmp_path):
    student = OnPolicyDistill("MlpPolicy", environment(), teacher=teacher, **SMALL).learn(32)
    write_checkpoint(tmp_path / "state.npz", student_state(student))
    other = OnPolicyDistill("MlpPolicy", environment(), teacher=teacher, **SMALL)
    restore_student(other, read_checkpoint(tmp_path / "state.npz"), tmp_path)
    assert other.observation_statistics == student.observation_statistics


@pytest.mark.parametrize(
    ("env_id", "given", "expected"),
    [
        ("Pendulum-v1", {}, True),
        ("Pendulum-v1", {"form": "paper"}, False),
        ("Pendulum-v1", {"whitening": False}, False),
        ("CartPole-v1", {}, False),
        ("CartPole-v1", {"whitening": True}, True),
    ],
)
def test_who_learns_so(env_id, given, expected):
    assert OnPolicyDistill.settings(env_id, **given)["whitening"] is expected
    assert EntropyRegularisedA2C.settings(env_id, **given)["whitening"] is expected


def test_without_distillation_nothing_is_whitened(teacher):
    """Where nothing is learnt from the teacher, it learns as it does without, to the bit; and so SB3's PPO does."""
    given = {**SMALL, "teacher": teacher, "loss_coef": 0, "reward_coef": 0, "env_reward_coef": 1}
    one, other = (DistillPPO("MlpPolicy", environment(), whitening=w, **given).learn(16) for w in (True, False))
    assert one.observation_statistics is None
    for x, y in zip(one.policy.parameters(), other.policy.parameters(), strict=True):
        th.testing.assert_close(x, y, rtol=0, atol=0)


def test_means_are_clipped_to_the_action_space():
    params = th.tensor([[3.0, -7.0, -1.0, 0.5], [-0.5, 99.0, 0.0, 0.0]])
    expected = th.tensor([[1.0, -2.0, -1.0, 0.5], [-0.5, 99.0, 0.0, 0.0]])
    assert th.equal(within_bounds(ACTIONS, params), expected)
    logits = th.randn(3, 4)
    assert within_bounds(spaces.Discrete(4), logits) is logits


@pytest.mark.parametrize(
    ("mean", "target", "cost", "slope"),
    [
        (0.25, 0.5, 0.03125, -0.25),  # within: (0.25 − 0.5)²/2
        (5.0, 1.0, 0.0, 0.0),  # beyond, where the teacher is at the bound: the same action
        (5.0, 0.5, 0.125, 0.5),  # beyond, where the teacher is within: it comes back
        (-5.0, 1.0, 2.0, -2.0),
    ],
)
def test_what_a_mean_beyond_the_action_space_costs(mean, target, cost, slope):
    space = spaces.Box(-1, 1, (1,), np.float32)
    params = th.tensor([[mean, 0.0]], requires_grad=True)
    student = executed(space, DiagGaussianDistribution(1).proba_distribution(*params.chunk(2, dim=-1)))
    loss = kl(from_parameters(space, th.tensor([[target, 0.0]])), student)
    loss.sum().backward()
    assert loss.item() == pytest.approx(cost)
    assert params.grad[0, 0].item() == pytest.approx(slope)


def test_a_teachers_mean_beyond_the_action_space_is_not_run_after(teacher):
    """What the buffer keeps of the teacher, for ℓ and r̂, is within."""
    far = copy.deepcopy(teacher)
    with th.no_grad():
        far.policy.action_net.bias.copy_(th.tensor([50.0, -50.0]))
    student = NDistill("MlpPolicy", environment(), teacher=far, **SMALL).learn(8)
    means = student.rollout_buffer.teacher_parameters[..., :2]
    assert np.all(means == np.array([1.0, -1.0], np.float32))
