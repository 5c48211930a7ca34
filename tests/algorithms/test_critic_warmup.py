"""While the critic warms up the policy stands still to the bit, optimiser and all; afterwards SB3's own training goes on."""

import copy

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import TRPO, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback, EveryNTimesteps
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from envs_for_tests import CountdownEnv, actor_critic_teacher
from sb3_distill import CriticWarmup, Leash, NDistill


class Normed(BaseFeaturesExtractor):
    """Shared by both, and with statistics that a pass in training mode changes."""

    def __init__(self, space):
        super().__init__(space, 8)
        n = spaces.flatdim(space)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(n, 8), nn.BatchNorm1d(8))

    def forward(self, obs):
        return self.net(obs)


SETTINGS = {
    PPO: dict(n_steps=16, batch_size=16, n_epochs=2),
    A2C: dict(n_steps=16),
    TRPO: dict(n_steps=16, batch_size=16, n_critic_updates=2),
}
KWARGS = {
    "separate": dict(net_arch=[8]),
    "shared": dict(net_arch=[8], features_extractor_class=Normed),
    "two extractors": dict(net_arch=[8], features_extractor_class=Normed, share_features_extractor=False),
}


def made(algorithm, seed=0, policy="MlpPolicy", **kwargs):
    return algorithm(
        policy, DummyVecEnv([CountdownEnv] * 2), seed=seed, device="cpu", **(SETTINGS.get(algorithm, {}) | kwargs)
    )


def is_critics(name):
    return "value" in name or "vf_" in name or "critic" in name


class Watch(BaseCallback):
    """What policy and optimiser are before each rollout."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def _on_step(self):
        return True

    def _on_rollout_start(self):
        policy = self.model.policy
        names = {id(p): name for name, p in policy.named_parameters()}
        state = {names[id(p)]: copy.deepcopy(s) for p, s in policy.optimizer.state.items()}
        assert all(p.requires_grad for p in policy.parameters())
        assert "train" not in vars(self.model)
        assert "evaluate_actions" not in vars(policy)
        self.seen.append((copy.deepcopy(policy.state_dict()), state))


def learnt(model, n_rollouts, callback):
    watch = Watch()
    per_rollout = model.n_steps * model.n_envs
    masking = {"use_masking": False} if isinstance(model, MaskablePPO) else {}
    model.learn(per_rollout * n_rollouts, callback=[*callback, watch], reset_num_timesteps=False, **masking)
    watch._on_rollout_start()
    return watch.seen


def same(a, b):
    return all(th.equal(a[name], b[name]) if isinstance(a[name], th.Tensor) else same(a[name], b[name]) for name in a)


def split(state):
    return [{k: v for k, v in state.items() if is_critics(k) == wanted} for wanted in (False, True)]


@pytest.mark.parametrize("kind", KWARGS)
@pytest.mark.parametrize("algorithm", [PPO, A2C, TRPO])
def test_policy_stands_still(algorithm, kind):
    """To the bit, with what the optimiser knows of it; the critic moves in each rollout; then all of it moves."""
    model = made(algorithm, policy_kwargs=KWARGS[kind])
    model.learn(32)  # an optimiser that knows something already
    seen = learnt(model, 3, [CriticWarmup(2)])
    for k in range(3):
        (before, knew), (after, knows) = seen[k], seen[k + 1]
        policy, critic = split(before)
        assert same(policy, after) == (k < 2)
        assert not same(critic, after)
        assert same(split(knew)[0], knows) == (k < 2 or algorithm is TRPO)


@pytest.mark.parametrize("algorithm", [PPO, A2C, TRPO])
def test_without_rollouts_it_is_sb3(algorithm):
    """And SB3's training after a warm-up is SB3's: from the same state it makes the same update."""
    plain, warmed = (learnt(made(algorithm), 2, callback)[-1] for callback in ([], [CriticWarmup(0)]))
    assert same(plain[0], warmed[0])
    warmed = made(algorithm)
    learnt(warmed, 1, [CriticWarmup(1)])
    after = made(algorithm)
    after.set_parameters(copy.deepcopy(warmed.get_parameters()))
    for model in (warmed, after):
        model.set_random_seed(3)
        model._last_obs = None
        model.env.seed(3)
        model.env.set_attr("episode", 0)
        model.learn(32)
    assert same(warmed.policy.state_dict(), after.policy.state_dict())


def test_critic_learns_as_sb3_has_it_learn():
    """With networks apart, its update is the one of SB3's own PPO, but for the cut of the gradient that both share there."""
    settings = dict(max_grad_norm=1e9, policy_kwargs=KWARGS["separate"])
    plain, warmed = (learnt(made(PPO, **settings), 1, callback)[-1][0] for callback in ([], [CriticWarmup(1)]))
    assert same(split(plain)[1], warmed)
    assert not same(split(plain)[0], warmed)


def test_rate_of_its_own():
    model = made(PPO, learning_rate=1e-3)
    learnt(model, 1, [CriticWarmup(1, learning_rate=0.5)])
    assert model.policy.optimizer.param_groups[0]["lr"] == 0.5
    learnt(model, 1, [])
    assert model.policy.optimizer.param_groups[0]["lr"] == 1e-3


def test_masked_recurrent_and_students(tmp_path):
    """Whatever SB3's way of asking the policy is; and students of ours, whose loss waits, too."""
    models = [
        made(MaskablePPO, n_steps=16, batch_size=16),
        made(RecurrentPPO, policy="MlpLstmPolicy", n_steps=16, batch_size=16),
        made(NDistill, teacher=actor_critic_teacher(CountdownEnv()), n_steps=16, batch_size=16),
    ]
    for model in models:
        seen = learnt(model, 2, [CriticWarmup(1)])
        assert same(split(seen[0][0])[0], seen[1][0])
        assert not same(split(seen[0][0])[1], seen[1][0])
        assert not same(split(seen[1][0])[0], seen[2][0])


class SavesAtRolloutEnd(BaseCallback):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        self.model.save(self.path)


def test_what_is_saved_meanwhile_is_plain(tmp_path):
    model = made(PPO)
    model.learn(32, callback=[CriticWarmup(1), SavesAtRolloutEnd(tmp_path / "model.zip")])
    assert "train" not in vars(PPO.load(tmp_path / "model.zip"))
    assert "train" not in vars(model)


def test_an_update_that_fails_leaves_nothing_behind():
    """Neither frozen weights, nor a rate, nor a method."""
    for algorithm in (PPO, TRPO):
        model = made(algorithm)
        before = vars(model).get("target_kl")
        model.policy.optimizer.step = lambda: 1 / 0
        with pytest.raises(ZeroDivisionError):
            model.learn(32, callback=CriticWarmup(1, learning_rate=1.0))
        assert all(p.requires_grad for p in model.policy.parameters())
        assert "train" not in vars(model)
        assert model.lr_schedule(1.0) != 1.0
        assert vars(model).get("target_kl") == before


def test_bad_input():
    for n in (-1, 1.5, "2", True):
        with pytest.raises(ValueError, match="n_rollouts must be a whole number"):
            CriticWarmup(n)
    for rate in (0, -1.0, np.inf, "fast"):
        with pytest.raises(ValueError, match="learning_rate must be greater than 0"):
            CriticWarmup(1, rate)
    with pytest.raises(ValueError, match="set vf_coef"):
        made(PPO, vf_coef=0.0).learn(32, callback=CriticWarmup(1))
    dqn = DQN("MlpPolicy", DummyVecEnv([CountdownEnv]), device="cpu")
    with pytest.raises(ValueError, match="on-policy"):
        dqn.learn(8, callback=CriticWarmup(1))
    with pytest.raises(ValueError, match="callback of its own"):
        made(PPO).learn(64, callback=EveryNTimesteps(8, CriticWarmup(1)))


class Boom(BaseCallback):
    """An error between a rollout and its update, once."""

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        if self.n_calls == 16:
            raise RuntimeError("boom")


def test_an_error_before_an_update_leaves_nothing_behind():
    """The same callbacks, and both of them, serve the next run; afterwards train is SB3's."""
    model = made(PPO)
    callbacks = [CriticWarmup(1), Leash(1.0), Boom()]
    with pytest.raises(RuntimeError, match="boom"):
        model.learn(64, callback=callbacks)
    before = copy.deepcopy(model.policy.state_dict())
    model.learn(64, callback=callbacks[:2])
    assert "train" not in vars(model)
    moved = {name for name, value in model.policy.state_dict().items() if not th.equal(value, before[name])}
    assert any(is_critics(name) for name in moved) and any(not is_critics(name) for name in moved)
