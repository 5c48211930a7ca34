"""``distill`` in Python is ``sb3-distill distill``: the same run, the same files, errors in arguments and not in flags."""

import json

import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO

from sb3_distill import distill
from sb3_distill.cli import main

SMALL = dict(steps=256, n_envs=2, net_arch=[8], eval_episodes=2, quiet=True)


def test_it_is_the_command(tmp_path):
    words = ["--steps", "256", "--n-envs", "2", "--net-arch", "8", "--eval-episodes", "2", "--quiet"]
    assert main(["distill", "--env", "CartPole-v1", *words, "--out", str(tmp_path / "typed")]) == 0
    result = distill(env="CartPole-v1", out=tmp_path / "called", **SMALL)
    typed, called = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("typed", "called"))
    for data in (typed, called):
        del data["players"]["student"]["training_seconds"]
    assert typed == called
    plain = PPO.load(tmp_path / "typed" / "student", device="cpu")
    for a, b in zip(plain.policy.parameters(), result.student.policy.parameters(), strict=True):
        assert th.equal(a, b)
    assert result.folder == tmp_path / "called" and result.settings.steps == 256
    np.testing.assert_array_equal(result.returns(), called["players"]["student"]["returns"])


def test_what_has_ended_is_read_and_not_made_again(tmp_path, monkeypatch):
    first = distill("zoo:dqn/CartPole-v1", out=tmp_path / "run", method="policy-distillation", **SMALL)
    monkeypatch.setattr("sb3_distill.experiment.run.Experiment.run", None)
    again = distill("zoo:dqn/CartPole-v1", out=tmp_path / "run", method="policy-distillation", **SMALL)
    assert again.data == first.data and again.share_of_teacher == first.share_of_teacher
    obs = np.array([[0.0, 0.1, 0.0, -0.1]], dtype=np.float32)
    assert again.student.predict(obs, deterministic=True)[0] == first.student.predict(obs, deterministic=True)[0]


def test_another_run_in_the_folder_is_an_error_in_words_of_python(tmp_path):
    distill(out=tmp_path / "run", **SMALL)
    with pytest.raises(
        ValueError, match=r"with seed=0 \(not 1\): choose another folder with out=…, or add overwrite=True\.$"
    ):
        distill(out=tmp_path / "run", seed=1, **SMALL)
    assert distill(out=tmp_path / "run", seed=1, overwrite=True, **SMALL).settings.seed == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(methd="n_distill"), "Unknown setting 'methd': did you mean 'method'"),
        (dict(method="n_distil"), "Unknown method 'n_distil': did you mean 'n_distill'"),
        (dict(loss="kl"), r"method='n-distill' has no loss=…: leave"),
        (dict(engine="dqn"), "Unknown engine 'dqn' of n-distill"),
        (dict(size="4%"), r"size=… is for images, .* use net_arch=…\."),
        (dict(control="nobody"), "Unknown control policy 'nobody'"),
        (dict(method="on_policy_distill", control="mixed"), r"control='mixed' needs beta, .* give beta=0\.5"),
        (dict(method="on_policy_distill", beta=0.5), r"beta=0\.5 belongs to control='mixed'"),
        (dict(method="on_policy_distill", control="mixed", beta=2), r"beta must lie between 0 and 1, not 2\.0"),
        (dict(method="on_policy_distill", weight="v"), "Unknown weight 'v': choose one of 'v_conditioned'"),
        (dict(weight="v_conditioned"), "n_distill has a weight, .*, and a reward r̂|n_distill has a weight"),
        (dict(method="policy-distillation", beta=0.5), r"has no beta=…"),
    ],
)
def test_errors_come_before_any_file(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        distill("zoo:dqn/CartPole-v1", out=tmp_path / "run", **SMALL, **settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (["--control", "mixed", "--beta", "0.5"], dict(control="mixed", beta=0.5)),
        (["--weight", "v_conditioned"], dict(weight="v_conditioned")),
    ],
)
def test_mixtures_and_weights_are_settings_of_a_run(words, settings, tmp_path, capsys):
    """Typed or called, they are in results.json and in the name of the folder, and the student is theirs."""
    common = ["--steps", "256", "--n-envs", "2", "--net-arch", "8", "--eval-episodes", "2", "--quiet"]
    method = ["--method", "on-policy-distill", "--env", "CartPole-v1"]
    assert main(["distill", *method, *common, *words, "--out", str(tmp_path / "typed")]) == 0
    result = distill(env="CartPole-v1", method="on_policy_distill", out=tmp_path / "called", **SMALL, **settings)
    assert result.data["settings"] | settings == result.data["settings"]
    typed = json.loads((tmp_path / "typed" / "results.json").read_text())
    assert typed["settings"] == result.data["settings"] and typed["players"]["student"]["returns"] == list(
        result.returns()
    )
    plain = distill(env="CartPole-v1", method="on_policy_distill", out=tmp_path / "plain", **SMALL)
    pairs = zip(plain.student.policy.parameters(), result.student.policy.parameters(), strict=True)
    assert not all(th.equal(a, b) for a, b in pairs)
