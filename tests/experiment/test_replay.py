"""A run that was killed ends like one that was not, to the bit, where its environments' episodes can be played again."""

import copy
import shutil

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from sb3_contrib import RecurrentPPO

from sb3_distill import distill
from sb3_distill.experiment.checkpoints import read_checkpoint, write_checkpoint
from sb3_distill.experiment.defaults import settings_from
from sb3_distill.experiment.keeper import Keeper
from sb3_distill.experiment.plan import prepare
from sb3_distill.experiment.run import Experiment
from sb3_distill.experiment.run_folder import RunFolder

SETTINGS = dict(net_arch=[4], n_envs=2, eval_episodes=2, temperature=0.01, quiet=True)


class Killed(BaseException):
    """As a SIGKILL: nothing is written any more."""


def killed_at(monkeypatch, out, n_saves, **settings):
    """A run that dies right after its n-th checkpoint, with a rollout half played."""
    count = []
    save, step = Keeper.save, Keeper._on_step

    def saving(self):
        save(self)
        count.append(1)

    def stepping(self):
        if len(count) >= n_saves and self.model.num_timesteps > self._began + 6:
            raise Killed
        return step(self)

    with monkeypatch.context() as patched:
        patched.setattr(Keeper, "save", saving)
        patched.setattr(Keeper, "_on_step", stepping)
        with pytest.raises(Killed):
            distill(out=out, **SETTINGS | settings)
    return out


def weights(result):
    return th.cat([parameter.detach().flatten() for parameter in result.student.policy.parameters()])


@pytest.mark.parametrize(
    "settings",
    [
        dict(method="n_distill", steps=512),
        dict(method="on_policy_distill", engine="a2c", steps=256),
        dict(method="teacher_distill", control="mixed", beta=0.5, steps=512),
        dict(method="on_policy_distill", weight="return_ratio", teacher_return=60.0, random_return=15.0, steps=512),
    ],
    ids=lambda settings: settings.get("weight", settings["method"]),
)
def test_a_killed_run_ends_like_one_that_was_not(tmp_path, monkeypatch, settings):
    whole = distill(out=tmp_path / "whole", **SETTINGS | settings)
    out = killed_at(monkeypatch, tmp_path / "killed", 2, **settings)
    saved = shutil.copytree(out, tmp_path / "saved")
    again = distill(out=out, **SETTINGS | settings)
    assert th.equal(weights(again), weights(whole))
    assert again.returns().tolist() == whole.returns().tolist()
    curves = [(folder / "learning_curve.csv").read_text() for folder in (out, tmp_path / "whole")]
    assert curves[0] == curves[1]
    # The test would see it if episodes began anew.
    monkeypatch.setattr("sb3_distill.experiment.checkpoints.go_on", lambda student, saved: False)
    assert not th.equal(weights(distill(out=saved, **SETTINGS | settings)), weights(whole))


def test_new_episodes_begin_where_the_teacher_remembers(tmp_path, monkeypatch):
    """What it remembers is not played again, and nobody is told that it were."""
    path = tmp_path / "teacher.zip"
    small = dict(n_steps=8, batch_size=8, policy_kwargs=dict(lstm_hidden_size=4, net_arch=[4]), device="cpu")
    RecurrentPPO("MlpLstmPolicy", "CartPole-v1", **small).save(path)
    settings = dict(teacher=str(path), env="CartPole-v1", method="n_distill", steps=256, temperature=None)
    out = killed_at(monkeypatch, tmp_path / "killed", 1, **settings)
    asked = []
    monkeypatch.setattr("sb3_distill.experiment.checkpoints.go_on", lambda *args: asked.append(args))
    again = distill(out=out, **SETTINGS | settings)
    assert again.student.num_timesteps == 256 and not asked


class Unseeded(gym.Env):
    """Its random numbers are its own."""

    observation_space = gym.spaces.Box(-10.0, 10.0, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self):
        self.dice = np.random.default_rng()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.dice.normal(size=4).astype(np.float32), {}

    def step(self, action):
        return self.dice.normal(size=4).astype(np.float32), 1.0, self.dice.random() < 0.1, False, {}


def test_an_environment_that_does_not_repeat_itself_begins_new_episodes_and_says_so(tmp_path, monkeypatch):
    gym.register("Unseeded-v0", Unseeded)
    try:
        settings = dict(env="Unseeded-v0", teacher="zoo:dqn/CartPole-v1", steps=256)
        out = killed_at(monkeypatch, tmp_path / "killed", 2, **settings)
        with pytest.warns(UserWarning, match="could not be played again"):
            again = distill(out=out, **SETTINGS | settings)
        assert again.student.num_timesteps >= 256
    finally:
        gym.registry.pop("Unseeded-v0")


def test_a_damaged_episode_begins_anew(tmp_path, monkeypatch):
    out = killed_at(monkeypatch, tmp_path / "killed", 2, steps=512)
    path = out / "checkpoint.npz"
    state = read_checkpoint(path)
    plan = prepare(settings_from({name: value for name, value in SETTINGS.items() if name != "quiet"} | {"steps": 512}))
    assert Experiment(plan, RunFolder(out, plan.described), quiet=True).in_place
    for damage in (
        lambda e: e["kept"][0].update(actions=np.array([7, 7])),
        lambda e: e["kept"][0].update(before={"bit_generator": "PCG64", "state": {"state": "x", "inc": 1}}),
        lambda e: e["kept"].pop(),
        lambda e: e.update(starts=np.zeros(5)),
        lambda e: e.pop("shown"),
        lambda e: e["kept"][1].update(actions=np.zeros(3_000, np.int64)),
    ):
        damaged = copy.deepcopy(state)
        damage(damaged["student"]["episodes"])
        write_checkpoint(path, damaged)
        with pytest.warns(UserWarning, match="could not be played again"):
            assert not Experiment(plan, RunFolder(out, plan.described), quiet=True).in_place
