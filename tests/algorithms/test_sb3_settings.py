"""SB3's arguments of PPO and A2C do in every class what they do there."""

import copy

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from stable_baselines3.common.vec_env import VecNormalize

from envs_for_tests import ACTION_SPACES
from sb3_classes import A2C_CLASSES, CLASSES, ENGINES, PPO_CLASSES, ROLLOUT, TRPO_CLASSES, countdown_envs, student

every_class = pytest.mark.parametrize("cls", CLASSES)
each_engine = pytest.mark.parametrize("cls", ENGINES)


class Own(BaseFeaturesExtractor):
    """With BatchNorm and Dropout, which differ between training and play."""

    def __init__(self, space, width=6):
        super().__init__(space, width)
        self.net = th.nn.Sequential(th.nn.Linear(3, width), th.nn.BatchNorm1d(width), th.nn.Dropout(0.5))

    def forward(self, obs):
        return self.net(obs)


POLICY_KWARGS = {
    "none": dict(net_arch=[]),
    "two": dict(net_arch=dict(pi=[4], vf=[6, 6]), activation_fn=th.nn.ReLU, ortho_init=False),
    "SGD": dict(net_arch=[4], optimizer_class=th.optim.SGD, optimizer_kwargs=dict(momentum=0.9)),
    "AdamW": dict(net_arch=[4], optimizer_class=th.optim.AdamW, optimizer_kwargs=dict(weight_decay=0.01)),
    "own": dict(net_arch=[4], features_extractor_class=Own, features_extractor_kwargs=dict(width=4)),
    "not shared": dict(net_arch=[4], features_extractor_class=Own, share_features_extractor=False),
}


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        pytest.param(cls, name, id=f"{cls.__name__}-{name}")
        for i, cls in enumerate(CLASSES)
        for k, name in enumerate(POLICY_KWARGS)
        if cls in (*ENGINES, *TRPO_CLASSES) or (i + k) % 3 == 0
    ],
)
def test_policy_kwargs(cls, name, tmp_path):
    """And they are saved and loaded. Networks know nothing of rows: each engine has all of these, and each row of each engine two."""
    policy_kwargs = POLICY_KWARGS[name]
    given = copy.deepcopy(policy_kwargs)
    model = student(cls, policy_kwargs=policy_kwargs).learn(2 * ROLLOUT)
    model.save(tmp_path / "student")
    loaded = cls.load(tmp_path / "student", env=countdown_envs(), teacher=model.teacher, device="cpu")
    assert type(loaded.policy.optimizer) is given.get("optimizer_class", th.optim.Adam)
    assert all(th.equal(a, b) for a, b in zip(model.policy.parameters(), loaded.policy.parameters(), strict=True))
    loaded.learn(ROLLOUT)


@every_class
def test_train_and_eval_mode(cls):
    """Rollouts and predictions are made in eval mode, updates in train mode: statistics move in the latter alone."""
    model = student(cls, policy_kwargs=dict(features_extractor_class=Own, net_arch=[]))
    norm = model.policy.features_extractor.net[1]
    train, modes = type(model).__mro__, []
    collect = model.collect_rollouts

    def watched(*args, **kwargs):
        before = norm.running_mean.clone()
        result = collect(*args, **kwargs)
        modes.append((norm.training, th.equal(before, norm.running_mean)))
        return result

    model.collect_rollouts = watched
    start = norm.running_mean.clone()
    model.learn(2 * ROLLOUT)
    assert train and modes == [(False, True)] * 2
    assert not th.equal(start, norm.running_mean)
    obs = np.ones((4, 3), np.float32)
    once, again = (model.predict(obs, deterministic=True)[0] for _ in range(2))
    assert np.array_equal(once, again) and not model.policy.training


@every_class
@pytest.mark.parametrize("sde_sample_freq", [-1, 3])
def test_state_dependent_exploration(cls, sde_sample_freq, tmp_path):
    env = countdown_envs(action_space=ACTION_SPACES["box"])
    bonus = {} if cls in TRPO_CLASSES else dict(ent_coef=0.01)  # which TRPO does not have
    model = student(cls, env, use_sde=True, sde_sample_freq=sde_sample_freq, **bonus).learn(2 * ROLLOUT)
    model.save(tmp_path / "student")
    cls.load(tmp_path / "student", env=env, teacher=model.teacher).learn(ROLLOUT)


@pytest.mark.parametrize("cls", PPO_CLASSES)
@pytest.mark.parametrize(
    "settings",
    [
        dict(clip_range_vf=0.2, vf_coef=0.5),
        dict(clip_range=lambda p: 0.2 * p),
        dict(target_kl=1e-9),
        dict(normalize_advantage=False),
        dict(batch_size=3),
        dict(n_steps=1, batch_size=2),
    ],
    ids=lambda s: next(iter(s)),
)
@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
def test_arguments_of_ppo(cls, settings):
    model = student(cls, **settings).learn(2 * ROLLOUT)
    assert all(p.isfinite().all() for p in model.policy.parameters())


@pytest.mark.parametrize("cls", A2C_CLASSES)
@pytest.mark.parametrize(
    "settings", [dict(use_rms_prop=True), dict(normalize_advantage=False), dict(gae_lambda=1.0)], ids=str
)
def test_arguments_of_a2c(cls, settings):
    model = student(cls, **settings).learn(2 * ROLLOUT)
    assert all(p.isfinite().all() for p in model.policy.parameters())


@pytest.mark.parametrize("cls", PPO_CLASSES)
def test_minibatches_of_one_state_are_refused(cls):
    with pytest.raises(AssertionError, match="`batch_size` must be greater than 1"):
        student(cls, batch_size=1)


@each_engine
def test_a_policy_class_and_its_own_schedule(cls):
    class Own(ActorCriticPolicy):
        pass

    model = student(cls, policy=Own, policy_kwargs=dict(net_arch=[4], features_extractor_class=FlattenExtractor))
    assert type(model.learn(ROLLOUT).policy) is Own


@each_engine
def test_statistics_of_vec_normalize_move_with_the_student(cls, tmp_path):
    env = VecNormalize(countdown_envs())
    model = student(cls, env).learn(2 * ROLLOUT)
    env.save(str(tmp_path / "statistics"))
    model.save(tmp_path / "student")
    other = VecNormalize.load(str(tmp_path / "statistics"), countdown_envs())
    loaded = cls.load(tmp_path / "student", env=other, teacher=model.teacher)
    assert loaded.get_vec_normalize_env() is other
    assert np.array_equal(other.obs_rms.mean, env.obs_rms.mean)
    loaded.learn(ROLLOUT)
    assert not np.array_equal(other.obs_rms.mean, env.obs_rms.mean)
