"""The mean of the student's weights over the end of a run: which rollouts are in it, and when it takes their place."""

import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from sb3_distill import DistillA2C, DistillPPO, load_teacher
from sb3_distill.algorithms.averaging import N_STATES, WeightMean
from sb3_distill.rules.methods import METHODS

SMALL = dict(n_steps=16, batch_size=16, n_epochs=1, seed=0, device="cpu")
ROLLOUT = 4 * 16


@pytest.fixture(scope="module")
def teacher():
    return load_teacher("zoo:dqn/CartPole-v1", temperature=0.1)


@pytest.fixture
def samples(monkeypatch):
    """The weights after each of SB3's own updates."""
    kept = []
    train = PPO.train

    def and_keep(self):
        train(self)
        kept.append(th.nn.utils.parameters_to_vector(self.policy.parameters()).detach().clone())

    monkeypatch.setattr(PPO, "train", and_keep)
    return kept


def student(teacher, **kwargs):
    return DistillPPO("MlpPolicy", make_vec_env("CartPole-v1", 4, seed=0), teacher=teacher, **(SMALL | kwargs))


def weights(model):
    return th.nn.utils.parameters_to_vector(model.policy.parameters()).detach()


@pytest.mark.parametrize(("averaging", "first"), [(0.5, 5), (0.25, 7), (1.0, 0), (0.05, 9)])
def test_the_last_share_of_the_rollouts_is_averaged(averaging, first, samples, teacher):
    """Ten rollouts: the samples are those after which less than the share of the run was left, the last one among them."""
    model = student(teacher, method="n_distill", averaging=averaging).learn(10 * ROLLOUT)
    assert len(samples) == 10
    th.testing.assert_close(weights(model), th.stack(samples[first:]).mean(0), rtol=1e-5, atol=1e-7)
    assert averaging == 0.05 or not th.allclose(weights(model), samples[-1], rtol=1e-4)


def test_without_it_the_last_weights_stay(samples, teacher):
    model = student(teacher, averaging=0.0).learn(4 * ROLLOUT)
    assert th.equal(weights(model), samples[-1])


class Watch(BaseCallback):
    """Keeps the weights at the end of the training, and ends it after so many steps."""

    def __init__(self, stop_at=None):
        super().__init__()
        self.stop_at = stop_at

    def _on_step(self):
        return self.stop_at is None or self.num_timesteps < self.stop_at

    def _on_training_end(self):
        self.weights = weights(self.model).clone()


def test_callbacks_see_the_mean_when_the_training_ends(teacher):
    watch = Watch()
    model = student(teacher, averaging=0.5).learn(4 * ROLLOUT, callback=watch)
    assert th.equal(watch.weights, weights(model))


def test_a_run_that_is_stopped_keeps_the_last_weights_and_leaves_nothing_to_the_next(samples, teacher):
    model = student(teacher, averaging=1.0).learn(4 * ROLLOUT, callback=Watch(stop_at=2 * ROLLOUT + 4))
    assert len(samples) == 2
    assert th.equal(weights(model), samples[-1])
    model.learn(2 * ROLLOUT)
    th.testing.assert_close(weights(model), th.stack(samples[2:]).mean(0), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", list(METHODS["unbiased"]))
def test_defaults(method, teacher):
    """
    The rows with a loss and teacher V reward average, but not where an environment's reward goes on to improve the student, nor as the
    paper has them.
    """

    def of(engine=DistillPPO, **kwargs):
        kwargs = dict(n_steps=16, seed=0) | kwargs
        return engine("MlpPolicy", make_vec_env("CartPole-v1", 1), teacher=teacher, method=method, **kwargs).averaging

    control = {"control": "student"} if method == "teacher_distill" else {}
    own = {"n_distill": 0.8, "teacher_v_reward": 0.3}
    assert of() == own.get(method, 0.5 if METHODS["unbiased"][method].loss else 0.0)
    assert of(env_reward_coef=1.0, **control) == of(env_reward_coef=lambda _: 0.5, **control) == 0.0
    assert of(form="paper") == of(DistillA2C) == 0.0
    assert of(averaging=0.25) == of(DistillA2C, averaging=0.25) == 0.25


def test_it_is_saved(tmp_path, teacher):
    student(teacher, averaging=0.25).save(tmp_path / "student.zip")
    assert DistillPPO.load(tmp_path / "student.zip").averaging == 0.25


@pytest.mark.parametrize("averaging", [-0.1, 1.5, float("nan")])
def test_a_share_is_between_0_and_1(averaging, teacher):
    with pytest.raises(ValueError, match=r"^averaging is a share of the run between 0 and 1, not"):
        student(teacher, averaging=averaging)


class Normalised(BaseFeaturesExtractor):
    """BatchNorm, a spectral norm, Dropout, a mask of infinities and a counter of its own."""

    def __init__(self, space):
        super().__init__(space, 8)
        spectral = th.nn.utils.parametrizations.spectral_norm(th.nn.Linear(8, 8))
        self.net = th.nn.Sequential(
            th.nn.Linear(4, 8), th.nn.BatchNorm1d(8), th.nn.ReLU(), th.nn.Dropout(0.1), spectral
        )
        self.register_buffer("mask", th.tensor([-th.inf, 0.0]))
        self.register_buffer("calls", th.tensor(0))

    def forward(self, obs):
        self.calls += 1
        return self.net(obs)


@pytest.mark.parametrize("engine", [DistillPPO, DistillA2C])
def test_what_a_network_computes_with_beside_its_weights(engine, monkeypatch, teacher):
    """Running statistics are those of the mean weights on states of all samples; what is no mean stays whole; σ is 1."""
    kept, states = [], []
    original = WeightMean.add

    def add_and_keep(self, network, obs):
        original(self, network, obs)
        kept.append({name: value.clone() for name, value in network.state_dict().items()})
        states.append(obs.clone())

    monkeypatch.setattr(WeightMean, "add", add_and_keep)
    settings = dict(n_steps=16, averaging=0.5, seed=0, device="cpu")
    settings |= dict(batch_size=16, n_epochs=2) if engine is DistillPPO else {}
    settings |= dict(policy_kwargs=dict(features_extractor_class=Normalised, net_arch=[]), learning_rate=0.02)
    env = make_vec_env("CartPole-v1", 4, seed=0)
    model = engine("MlpPolicy", env, teacher=teacher, method="on_policy_distill", **settings).learn(8 * ROLLOUT)
    assert len(kept) == 4
    end = model.policy.state_dict()
    for name, value in end.items():
        samples = th.stack([sample[name] for sample in kept])
        if name.endswith(("weight", "bias", "original")):
            th.testing.assert_close(value, samples.mean(0), rtol=1e-4, atol=1e-6)
        elif name.endswith("mask"):
            assert th.equal(value, samples[-1])
    extractor = model.policy.features_extractor
    met = extractor.net[0](th.cat(states)).detach().double()
    assert len(met) == (4 * 16 if engine is DistillPPO else 4 * 64)
    norm = extractor.net[1]
    th.testing.assert_close(norm.running_mean.double(), met.mean(0), rtol=1e-4, atol=1e-6)
    th.testing.assert_close(norm.running_var.double(), met.var(0), rtol=1e-4, atol=1e-6)
    assert norm.momentum == 0.1
    weight = extractor.net[4].eval().weight
    assert float(th.linalg.matrix_norm(weight.detach(), 2)) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("as_dict", [False, True])
def test_of_the_states_of_a_long_run_some_are_kept(as_dict):
    """Evenly spread over the samples, and no more than there is room for."""
    mean, network = WeightMean(), th.nn.Sequential(th.nn.Linear(1, 2), th.nn.BatchNorm1d(2))
    for k in range(100):
        states = th.full((N_STATES // 8, 1), float(k))
        mean.add(network, {"a": states} if as_dict else states)
    kept = [float((batch["a"] if as_dict else batch)[0, 0]) for batch in mean._states]
    assert kept == [0, 16, 32, 48, 64, 80, 96]


def test_networks_without_batch_norm_keep_no_states():
    mean = WeightMean()
    mean.add(th.nn.Linear(1, 2), th.zeros(3, 1))
    assert not mean._states
