"""``distill`` in Python is ``sb3-distill distill``: the same run, the same files, errors in arguments and not in flags."""

import json
from dataclasses import fields
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO

from sb3_distill import distill
from sb3_distill.agents.find import BUNDLED
from sb3_distill.cli import main
from sb3_distill.evaluation import learning_curves
from sb3_distill.evaluation.learning_curves import LearningCurve
from sb3_distill.experiment.checks import CHECKS
from sb3_distill.experiment.settings import Settings
from sb3_distill.rules.methods import METHODS

SMALL = dict(steps=256, n_envs=2, net_arch=[8], eval_episodes=2, quiet=True)
#: nothing is played to choose a temperature
COLD = SMALL | dict(temperature=0.01)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A run of on-policy distillation as it is."""
    return distill(out=tmp_path_factory.mktemp("plain") / "run", env="CartPole-v1", method="on_policy_distill", **COLD)


def test_it_is_the_command(tmp_path):
    words = ["--steps", "256", "--n-envs", "2", "--net-arch", "8", "--eval-episodes", "2", "--quiet"]
    words += ["--temperature", "0.01"]
    assert main(["distill", "--env", "CartPole-v1", *words, "--out", str(tmp_path / "typed")]) == 0
    result = distill(env="CartPole-v1", out=tmp_path / "called", temperature=0.01, **SMALL)
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
    distill(out=tmp_path / "run", **COLD)
    with pytest.raises(
        ValueError, match=r"with seed=0 \(not 1\): choose another folder with out=…, or add overwrite=True\.$"
    ):
        distill(out=tmp_path / "run", seed=1, **COLD)
    assert distill(out=tmp_path / "run", seed=1, overwrite=True, **COLD).settings.seed == 1


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
def test_mixtures_and_weights_are_settings_of_a_run(words, settings, plain, tmp_path, capsys):
    """Typed or called, they are in results.json and in the name of the folder, and the student is theirs."""
    common = ["--steps", "256", "--n-envs", "2", "--net-arch", "8", "--eval-episodes", "2", "--quiet"]
    method = ["--method", "on-policy-distill", "--env", "CartPole-v1", "--temperature", "0.01"]
    called = dict(env="CartPole-v1", method="on_policy_distill") | COLD
    assert main(["distill", *method, *common, *words, "--out", str(tmp_path / "typed")]) == 0
    result = distill(out=tmp_path / "called", **called, **settings)
    assert result.data["settings"] | settings == result.data["settings"]
    typed = json.loads((tmp_path / "typed" / "results.json").read_text())
    assert typed["settings"] == result.data["settings"] and typed["players"]["student"]["returns"] == list(
        result.returns()
    )
    pairs = zip(plain.student.policy.parameters(), result.student.policy.parameters(), strict=True)
    assert not all(th.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(steps=512.0), "^steps must be a whole number of at least 1, not 512.0"),
        (dict(steps="1k"), "^steps must be a whole number of at least 1, not '1k'"),
        (dict(steps=-5), "^steps must be a whole number of at least 1, not -5"),
        (dict(n_envs=2.5), "^n_envs must be a whole number of at least 1"),
        (dict(n_envs=True), "^n_envs must be a whole number"),
        (dict(eval_episodes=1), "^eval_episodes must be a whole number of at least 2, not 1"),
        (dict(threads=0), "^threads must be a whole number of at least 1, not 0"),
        (dict(seed=-1), "^seed must be a whole number of at least 0, not -1"),
        (dict(seed=1.5), "^seed must be a whole number of at least 0"),
        (dict(net_arch="16"), "^net_arch must be a list of whole numbers of at least 1, not '16'"),
        (dict(net_arch=[16.5]), "^net_arch must be a list"),
        (dict(net_arch=[0]), "^net_arch must be a list"),
        (dict(net_arch=dict(pi=[8])), "^net_arch must be a list"),
        (dict(loss_coef="a"), "^loss_coef must be a number, not 'a'"),
        (dict(loss_coef=lambda p: p), "^loss_coef must be a number, not function .* which takes schedules"),
        (dict(gamma="x"), "^gamma must be a number, not 'x'"),
        (dict(gamma=1.5), "^gamma must lie between 0 and 1, not 1.5"),
        (dict(learning_rate=-1e-3), "^learning_rate must be at least 0, not -0.001"),
        (dict(learning_rate=float("nan")), "^learning_rate must be a number, not nan"),
        (dict(temperature="hot"), "^temperature must be a number or 'auto', not 'hot'"),
        (dict(epsilon="x"), "^epsilon must be a number"),
        (dict(env_kwargs=[1]), "^env_kwargs must be a dict"),
        (dict(env_kwargs="n=4"), "^env_kwargs must be a dict"),
        (dict(env_kwargs={"f": print}), "^env_kwargs must be a dict .* which JSON can hold"),
        (dict(memory=5), "^memory must be the path of a folder, not 5"),
        (dict(method=METHODS["paper"]["n_distill"]), r"^method must be a name, .*DistillPPO\(…, method=row\)"),
        (dict(engine=3), "^engine must be a name, as text, not 3"),
        (dict(teacher=3), "^teacher must be a path or a name"),
        (dict(device=0), "^device must be a name such as 'cpu'"),
        (dict(env=3), "^env must be a Gymnasium id"),
    ],
)
def test_a_setting_of_another_kind_is_named_before_any_file(settings, message, tmp_path):
    given = {"teacher": "zoo:dqn/CartPole-v1", "out": tmp_path / "run"} | SMALL
    with pytest.raises(ValueError, match=message):
        distill(**(given | settings))
    assert not (tmp_path / "run").exists()


def test_objects_are_for_students_in_python(tmp_path):
    teacher = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu")
    with pytest.raises(
        ValueError, match=r"^teacher must be a path .*, not PPO .*NDistill\(…, teacher=load_teacher\(model\)\)"
    ):
        distill(teacher, out=tmp_path / "run", **SMALL)
    with pytest.raises(ValueError, match=r"^env must be a Gymnasium id .*, not .*NDistill\("):
        distill("zoo:dqn/CartPole-v1", gym.make("CartPole-v1"), out=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()


def test_every_setting_has_a_check():
    assert set(CHECKS) == {f.name for f in fields(Settings)}


def test_numbers_of_numpy_and_paths_are_settings(tmp_path):
    teacher = Path(str(BUNDLED)) / "dqn" / "CartPole-v1_1" / "CartPole-v1.zip"
    small = SMALL | dict(
        steps=np.int64(64), eval_episodes=np.int64(2), net_arch=np.array([8]), seed=np.int32(3), epsilon=np.float32(0)
    )
    result = distill(teacher, "CartPole-v1", out=tmp_path / "run", temperature=np.float64(0.5), **small)
    assert result.settings.net_arch == (8,) and result.data["settings"]["seed"] == 3


def points_of(folder):
    lines = (folder / "learning_curve.csv").read_text().splitlines()
    return [tuple(int(float(value)) for value in (line.split(",")[0], line.split(",")[3])) for line in lines[1:]]


def test_a_point_of_the_curve_has_no_more_episodes_than_the_comparison(tmp_path, monkeypatch):
    notes = []
    draw = learning_curves.draw_learning_curves
    monkeypatch.setattr(learning_curves, "draw_learning_curves", lambda *args: (notes.append(args[3]), draw(*args))[1])
    distill(env="CartPole-v1", out=tmp_path / "run", **COLD)
    assert {n for _, n in points_of(tmp_path / "run")} == {2}
    assert notes == ["mean ± standard error of 2 episodes (student) or 2 (teacher, random play)"]


@pytest.mark.parametrize(("seconds", "steps"), [(0.0, [0, 64, 128, 192, 256]), (4.0, [0, 64, 256]), (1e6, [0, 256])])
def test_where_evaluations_take_longer_than_the_training_points_wait(seconds, steps, tmp_path, monkeypatch):
    """Ten seconds more than the training they may; the first and the last are always made. What is added here is no training."""
    evaluate = LearningCurve._evaluate

    def slow(self):
        evaluate(self)
        self.seconds += seconds

    monkeypatch.setattr(LearningCurve, "_evaluate", slow)
    monkeypatch.setattr("sb3_distill.experiment.run.CURVE_POINTS", 4)
    distill(env="CartPole-v1", out=tmp_path / "run", **COLD)
    assert [step for step, _ in points_of(tmp_path / "run")] == steps


def test_the_process_is_left_as_it_was(tmp_path):
    threads = th.get_num_threads()
    th.set_num_threads(2)
    try:
        distill(out=tmp_path / "run", **COLD)
        assert th.get_num_threads() == 2
    finally:
        th.set_num_threads(threads)


def test_an_error_of_the_folder_is_in_words_of_python(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((OSError, ValueError), match="choose another with out=…"):
        distill(out=tmp_path / "file", **SMALL)
