"""The command line: one small run end to end, errors in one line, and evaluation that leaves no trace in training."""

import csv
import json
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch as th

import sb3_distill
from sb3_distill import METHODS, DistillA2C, DistillPPO, load_teacher
from sb3_distill.agents import policy_file
from sb3_distill.algorithms.engines import method_classes
from sb3_distill.algorithms.offline_memory import open_memory
from sb3_distill.algorithms.policy_distillation import PolicyDistillation
from sb3_distill.cli import main
from sb3_distill.common.files import replacing
from sb3_distill.evaluation.episodes import episode_returns
from sb3_distill.evaluation.learning_curves import LearningCurve
from sb3_distill.evaluation.scores import Player, Score, result_table, size_ratio
from sb3_distill.experiment.defaults import env_of_memory
from sb3_distill.experiment.run_folder import RUN_FILES
from sb3_distill.rules.methods import NAMED, method_names

TEACHER = "zoo:dqn/CartPole-v1"
SMALL = ["--steps", "512", "--n-envs", "2", "--eval-episodes", "5", "--temperature", "0.01"]
ROW = ["--method", "on-policy-distill"]
OFFLINE = ["--method", "policy-distillation", "--n-envs", "2", "--eval-episodes", "5", "--net-arch", "16"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a small run."""
    out = tmp_path_factory.mktemp("run") / "new" / "folder"
    assert main(["distill", *SMALL, "--net-arch", "16", "--seed", "3", "--out", str(out)]) == 0
    return out


def test_a_run_writes_its_files_and_nothing_else(run):
    assert sorted(path.name for path in run.iterdir()) == sorted(RUN_FILES)
    assert (run / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_results_tell_what_was_run_and_what_came_of_it(run):
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    settings, players = results["settings"], results["players"]
    assert (
        settings | {"method": "n_distill", "engine": "ppo", "seed": 3, "net_arch": [16], "teacher": TEACHER} == settings
    )
    assert (settings["control"], settings["loss_coef"]) == ("student", 1.0)
    assert results["teacher"]["temperature"] == 0.01 and results["teacher"]["temperature_report"] == "given"
    assert players["teacher"]["parameters"] == 67_586
    assert players["student"]["parameters"] == 4 * 16 + 16 + 16 * 2 + 2
    assert players["student"]["training_steps"] == 512
    assert 0 < players["student"]["training_seconds"] < 60
    assert results["versions"]["stable-baselines3"] == stable_baselines3.__version__
    for player in players.values():
        assert len(player["returns"]) == 5
        assert player["mean_return"] == pytest.approx(np.mean(player["returns"]))
        assert player["standard_error"] == pytest.approx(np.std(player["returns"], ddof=1) / 5**0.5)


def test_the_student_is_a_plain_sb3_model_with_the_return_that_results_tell(run):
    student = stable_baselines3.PPO.load(run / "student.zip")
    returns = episode_returns(lambda obs: student.predict(obs, deterministic=True)[0], "CartPole-v1", 5, 2_000_000)
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert returns.tolist() == results["players"]["student"]["returns"]


def test_the_learning_curve_begins_with_the_first_network_and_ends_with_the_last(run):
    with (run / "learning_curve.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["environment_steps"]) for row in rows] == list(range(0, 513, 64))
    assert {row["n_episodes"] for row in rows} == {"5"}  # no more than the comparison has
    student = stable_baselines3.PPO.load(run / "student.zip")
    returns = episode_returns(lambda obs: student.predict(obs, deterministic=True)[0], "CartPole-v1", 5, 1_000_000)
    assert float(rows[-1]["mean_return"]) == returns.mean()


def test_the_run_is_the_one_that_the_library_makes(run):
    teacher = load_teacher(TEACHER, temperature=0.01)
    env = stable_baselines3.common.env_util.make_vec_env("CartPole-v1", 2)
    student = DistillPPO("MlpPolicy", env, teacher=teacher, policy_kwargs={"net_arch": [16]}, seed=3).learn(512)
    assert_equal_parameters(student, stable_baselines3.PPO.load(run / "student.zip"))


def test_an_existing_student_is_kept_unless_told_otherwise(run, capsys):
    before = (run / "student.zip").stat().st_mtime_ns
    assert_error(capsys, [*SMALL, "--out", str(run)], "holds a student already", "--overwrite")
    assert (run / "student.zip").stat().st_mtime_ns == before
    assert (
        main(["distill", *SMALL, "--net-arch", "--steps", "64", "--engine", "a2c", "--out", str(run), "--overwrite"])
        == 0
    )
    printed = capsys.readouterr().out
    assert "Teacher dqn/CartPole-v1: 67,586 parameters, temperature 0.01 (given), epsilon 0.01" in printed
    assert all(str(run / name) in printed for name in RUN_FILES)
    student = load_as_printed(printed)
    assert isinstance(student, stable_baselines3.A2C)
    assert sum(p.numel() for p in student.policy.action_net.parameters()) == 10


def load_as_printed(printed):
    """Run the two lines of Python that a run ends with."""
    names = {}
    exec("\n".join(line.strip() for line in printed.splitlines()[-2:]), names)
    return names["student"]


def test_the_default_folder_tells_runs_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        main(["distill", *SMALL, "--steps", "64", "--engine", "a2c", "--method", "on_policy_distill", "--seed", "7"])
        == 0
    )
    assert (tmp_path / "runs" / "on-policy-distill-a2c-CartPole-v1-7" / "student.zip").is_file()


# --- policy distillation, which is no row -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def memory(tmp_path_factory):
    """The folder of what a teacher has met in 400 steps."""
    out = tmp_path_factory.mktemp("memory") / "cartpole"
    assert main(["record", TEACHER, "--steps", "400", "--n-envs", "2", "--out", str(out)]) == 0
    return out


def test_policy_distillation_makes_a_dqn_and_tells_what_it_did(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["distill", *OFFLINE, "--steps", "512", "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    assert "Teacher dqn/CartPole-v1: 67,586 parameters\n" in printed  # and no temperature: it is the student's
    out = tmp_path / "runs" / "policy-distillation-dqn-CartPole-v1-3"
    assert sorted(path.name for path in out.iterdir()) == sorted(RUN_FILES)
    student = load_as_printed(printed)
    assert isinstance(student, stable_baselines3.DQN)

    env = stable_baselines3.common.env_util.make_vec_env("CartPole-v1", 2)
    kwargs = {"teacher": load_teacher(TEACHER, temperature=1.0), "policy_kwargs": {"net_arch": [16]}, "seed": 3}
    PolicyDistillation("MlpPolicy", env, device="cpu", **kwargs).learn(512).save(tmp_path / "library")
    assert_equal_parameters(stable_baselines3.DQN.load(tmp_path / "library"), student)

    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    settings, player = results["settings"], results["players"]["student"]
    own = {"method": "policy_distillation", "engine": "dqn", "loss": "kl", "memory": None, "steps": 512}
    assert settings | own | {"temperature": "auto", "epsilon": 0.05, "teacher": TEACHER} == settings
    assert not {"form", "baseline", "control", "loss_coef", "reward_coef", "env_reward_coef"} & settings.keys()
    assert results["teacher"] == {"name": "dqn/CartPole-v1", "parameters": 67_586}
    assert (player["training_steps"], player["parameters"]) == (512, 4 * 16 + 16 + 16 * 2 + 2)


def test_policy_distillation_reads_a_memory(memory, tmp_path, capsys):
    options = ["--engine", "ppo", "--loss", "nll", "--temperature", "0.5", "--memory", str(memory), "--steps", "300"]
    assert main(["distill", *OFFLINE, *options, "--out", str(tmp_path / "out")]) == 0
    student = load_as_printed(capsys.readouterr().out)
    assert isinstance(student, stable_baselines3.PPO)
    library = PolicyDistillation(
        *("MlpPolicy", None), memory=memory, student="ppo", loss="nll", policy_kwargs={"net_arch": [16]}, seed=0
    )
    assert_equal_parameters(library.learn(300), student)

    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    settings = results["settings"]
    own = {"engine": "ppo", "loss": "nll", "temperature": 0.5, "epsilon": None, "memory": str(memory)}
    assert settings | own == settings
    assert results["players"]["student"]["training_steps"] is None  # nothing was played
    with (tmp_path / "out" / "learning_curve.csv").open(encoding="utf-8") as file:
        assert [row["minibatches"] for row in csv.DictReader(file)] == ["0", "128", "256", "300"]


def test_a_memory_of_another_environment_is_refused(memory, tmp_path, capsys):
    teacher = tmp_path / "teacher.zip"
    stable_baselines3.DQN("MlpPolicy", "Acrobot-v1", buffer_size=1).save(teacher)
    arguments = [*OFFLINE, "--memory", str(memory), "--env", "Acrobot-v1", "--teacher", str(teacher)]
    parts = ("of another environment", "'CartPole-v1'", "'Acrobot-v1'")
    assert_error(capsys, [*arguments, "--out", str(tmp_path / "out")], *parts)
    assert not (tmp_path / "out").exists()


def test_the_environment_is_that_of_what_was_named(tmp_path, memory, capsys):
    """A teacher's by its files in the zoo's layout, a memory's by what it says; what says nothing has to be told."""
    folder = tmp_path / "dqn" / "Acrobot-v1_1"
    (folder / "Acrobot-v1").mkdir(parents=True)
    (folder / "Acrobot-v1" / "args.yml").write_text("env: Acrobot-v1\n")
    stable_baselines3.DQN("MlpPolicy", "Acrobot-v1", buffer_size=1).save(folder / "Acrobot-v1.zip")
    out = tmp_path / "out"
    assert main(["distill", *SMALL, "--steps", "64", "--teacher", str(folder), "--out", str(out)]) == 0
    assert json.loads((out / "results.json").read_text())["settings"]["env"] == "Acrobot-v1"
    assert env_of_memory(str(memory), open_memory(memory).about) == "CartPole-v1"
    (folder / "Acrobot-v1.zip").rename(tmp_path / "agent.zip")
    assert main(["distill", *SMALL, "--teacher", str(tmp_path / "agent.zip")]) == 2
    assert "Nothing says which environment" in capsys.readouterr().err


def test_a_teachers_file_is_read_once_to_be_checked_and_once_for_the_work(tmp_path, monkeypatch):
    read = []
    once = policy_file.read_checkpoint
    monkeypatch.setattr(policy_file, "read_checkpoint", lambda path: read.append(path) or once(path))
    assert main(["distill", *SMALL, "--steps", "64", "--out", str(tmp_path / "out")]) == 0
    assert len(read) == 2


def test_a_policys_own_file_teaches_too(tmp_path):
    stable_baselines3.PPO("MlpPolicy", "CartPole-v1", device="cpu").policy.save(str(tmp_path / "policy.pt"))
    words = ["--teacher", str(tmp_path / "policy.pt"), "--env", "CartPole-v1", "--steps", "64"]
    assert main(["distill", *words, "--n-envs", "2", "--eval-episodes", "2", "--out", str(tmp_path / "out")]) == 0


def test_a_size_is_of_the_network_that_reads_such_observations(tmp_path, capsys):
    """Of MinAtar's for its boards; a vector has no such network."""
    game = ["--env", "MinAtar/Breakout-v1", "--size", "4%", "--out", str(tmp_path / "out")]
    assert main(["distill", *SMALL, *game, "--steps", "64", "--method", "on-policy-distill"]) == 0
    players = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))["players"]
    assert players["student"]["parameters"] == (4 * 9 * 6 + 6) + (6 * 9 * 6 + 6) + (6 * 36 * 19 + 19) + (19 * 3 + 3)
    none = ["--out", str(tmp_path / "none"), "--size"]
    assert_error(capsys, [*none, "4%"], "--size is for images", "use --net-arch")
    assert_error(capsys, [*none, "5%"], "There is no student of '5%'")


@pytest.mark.parametrize("engine", [DistillPPO, DistillA2C])
def test_evaluation_leaves_no_trace_in_training(engine):
    def trained(callback):
        teacher = load_teacher(TEACHER, temperature=0.01)
        env = stable_baselines3.common.env_util.make_vec_env("CartPole-v1", 2)
        return engine("MlpPolicy", env, teacher=teacher, seed=0).learn(768, callback)

    curve = LearningCurve("CartPole-v1", every=100, n_episodes=3, max_steps=50)
    assert_equal_parameters(trained(None), trained(curve))
    steps = [point[0] for point in curve.points]
    on_ppo, on_a2c = [0, 128, 256, 320, 448, 512, 640, 704, 768], [0, 112, 208, 304, 400, 512, 608, 704, 768]
    assert steps == (on_ppo if engine is DistillPPO else on_a2c)
    assert curve.seconds > 0


def assert_equal_parameters(one, other):
    mine, theirs = one.policy.state_dict(), other.policy.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(th.equal(mine[name], theirs[name]) for name in mine)


def no_dependency():
    raise gym.error.DependencyNotInstalled('Box2D is not installed: pip install "gymnasium[box2d]"')


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--env", "CartPol-v1"], ["Unknown environment 'CartPol-v1'", "did you mean 'CartPole-v1'"]),
        (["--env", "no_such_module:CartPole-v1"], ["no_such_module"]),
        (["--method", "n-distil"], ["Unknown method 'n-distil'", "'n_distill'"]),
        (["--engine", "pp0"], ["Unknown engine 'pp0'", "'ppo'"]),
        (["--form", "printed"], ["Unknown form 'printed'", "'unbiased'", "'paper'"]),
        (["--baseline", "student"], ["--baseline student belongs to teacher_v_reward"]),
        (["--temperature", "0"], ["temperature must be greater than 0"]),
        (["--temperature", "hot"], ["--temperature", "'auto'", "'hot'"]),
        (["--epsilon", "1.5"], ["epsilon must lie between 0 and 1"]),
        (["--teacher", "zoo:dqn/CartPol-v1"], ["No agent 'zoo:dqn/CartPol-v1'", "did you mean 'dqn/CartPole-v1'"]),
        (["--teacher", "no/such.zip"], ["No teacher at 'no/such.zip'"]),
        (["--control", "teacher"], ["--control teacher cannot go with the reward", "--reward-coef 0"]),
        (["--control", "nobody"], ["Unknown control policy 'nobody'"]),
        ([*ROW, "--control", "mixed"], ["--control mixed needs beta", "--beta 0.5"]),
        ([*ROW, "--beta", "0.5"], ["--beta 0.5 belongs to --control mixed"]),
        ([*ROW, "--control", "mixed", "--beta", "1.5"], ["--beta must lie between 0 and 1, not 1.5"]),
        (["--gamma", "1.5"], ["--gamma must lie between 0 and 1, not 1.5"]),
        (["--learning-rate", "-1"], ["--learning-rate must be at least 0, not -1.0"]),
        (["--weight", "v"], ["Unknown weight 'v': choose one of 'v_conditioned'"]),
        (
            ["--env", "Acrobot-v1", "--teacher", TEACHER],
            ["does not fit the environment", "The teacher was trained in CartPole-v1, and this is Acrobot-v1."],
        ),
        (["--loss-coef", "-1"], ["Coefficients must be at least 0"]),
        (["--steps", "0"], ["--steps", "at least 1", "'0'"]),
        (["--loss-coef", "nan"], ["--loss-coef", "must be a number"]),
        (["--colour", "red"], ["--colour", "--help"]),
        (["--loss", "kl"], ["--method n-distill has no --loss"]),
        (["--memory", "runs", "--loss", "kl"], ["has no --loss and no --memory"]),
        (["--engine", "dqn"], ["Unknown engine 'dqn' of n-distill", "ppo, a2c"]),
        (["--method", "policy-distilation"], ["Unknown method 'policy-distilation'", "'policy_distillation'"]),
        ([*OFFLINE, "--engine", "a2c"], ["Unknown engine 'a2c' of policy-distillation", "dqn, ppo"]),
        ([*OFFLINE, "--form", "unbiased"], ["--method policy-distillation has no --form"]),
        ([*OFFLINE, "--reward-coef", "0", "--control", "student"], ["no --control and no --reward-coef"]),
        ([*OFFLINE, "--baseline", "teacher"], ["no --baseline"]),
        ([*OFFLINE, "--loss", "mle"], ["Unknown loss 'mle'"]),
        ([*OFFLINE, "--loss", "mse", "--engine", "ppo"], ["--loss mse needs a student with Q-values", "--engine dqn"]),
        ([*OFFLINE, "--temperature", "-1"], ["temperature must be greater than 0"]),
        ([*OFFLINE, "--memory", "no-such-folder"], ["no-such-folder"]),
        ([*OFFLINE, "--memory", "runs", "--epsilon", "0.1"], ["--epsilon", "--memory"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_errors_are_one_line_and_leave_nothing(arguments, parts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert_error(capsys, arguments, *parts)
    assert list(tmp_path.iterdir()) == []


def test_an_environment_that_lacks_a_package_says_which(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(gym.registry, "Lacks-v0", gym.envs.registration.EnvSpec("Lacks-v0", entry_point=no_dependency))
    arguments = ["--env", "Lacks-v0", "--teacher", TEACHER, "--out", str(tmp_path / "out")]
    assert_error(capsys, arguments, "'Lacks-v0' cannot be made here", "gymnasium[box2d]")


def assert_error(capsys, arguments, *parts):
    capsys.readouterr()
    assert main(["distill", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    first = printed.err.splitlines()[0]
    assert first.startswith("sb3-distill: error: ")
    for part in parts:
        assert part in first
    assert "Traceback" not in printed.err


def test_as_a_program_it_exits_with_2():
    command = [sys.executable, "-m", "sb3_distill.cli", "distill", "--method", "nothing-like-it"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "sb3-distill: error: Unknown method 'nothing-like-it': choose one of teacher_distill, "
    )
    assert len(done.stderr.splitlines()) == 1


def test_programming_errors_are_not_hidden(monkeypatch):
    def broken(args):
        raise KeyError("a mistake of ours")

    monkeypatch.setattr("sb3_distill.cli.program.prepare_methods", broken)
    with pytest.raises(KeyError):
        main(["methods"])


def test_warnings_are_one_line(monkeypatch, capsys):
    def warn(args):
        warnings.warn("take care")
        return lambda: None

    monkeypatch.setattr("sb3_distill.cli.program.prepare_methods", warn)
    assert main(["methods"]) == 0
    assert capsys.readouterr().err == "sb3-distill: warning: take care\n"


def test_an_interrupt_has_no_traceback(monkeypatch, capsys):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr("sb3_distill.cli.program.show_methods", interrupt)
    assert main(["methods"]) == 130
    assert capsys.readouterr().err == "sb3-distill: interrupted\n"


def test_methods_lists_every_row_of_both_forms(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main(["methods"]) == 0
    printed = capsys.readouterr().out
    for rows in METHODS.values():
        for row in rows.values():
            line = [row.name, row.control, *(part.formula for part in (row.loss, row.reward) if part), row.descends]
            line.append("yes" if row.is_gradient else "no")
            assert any(all(f" {cell} " in f" {text} " for cell in line) for text in printed.splitlines()), row
    assert "V_πθ(s_i)" in printed


def test_every_row_has_a_class_for_each_engine():
    assert list(method_classes()) == list(method_names()) == [*METHODS["unbiased"], *NAMED]
    assert (method_classes()["kickstarting"], method_classes()["proximal_distill"]) == (
        ["Kickstarting", "KickstartingA2C", "KickstartingRecurrentPPO", "KickstartingMaskablePPO"],
        ["ProximalDistill", "ProximalDistillRecurrentPPO", "ProximalDistillMaskablePPO"],
    )
    assert method_classes()["n_distill"] == ["NDistill", "NDistillA2C", "NDistillRecurrentPPO", "NDistillMaskablePPO"]
    assert all(hasattr(sb3_distill, name) for names in method_classes().values() for name in names)


@pytest.mark.parametrize("command", [[], ["distill"], ["methods"]])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    assert "usage: sb3-distill" in capsys.readouterr().out


def test_half_a_file_is_never_met(tmp_path):
    path = tmp_path / "curve.csv"
    path.write_text("old")
    with pytest.raises(OSError), replacing(path) as temporary:
        temporary.write_text("ha")
        assert path.read_text() == "old" and temporary.suffix == ".csv"
        raise OSError("disk full")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["new"]


def test_tables_say_sizes_in_words():
    assert [size_ratio(n, 100) for n in (10, 100, 250, None)] == ["10.0× smaller", "1×", "2.5× larger", "—"]
    assert str(Score(1234.56, 7.0, 3)) == "1,234.6 ± 7.0"
    table = result_table([Player("random play", np.array([1.0, 3.0]))])
    assert [list(column.cells) for column in table.columns] == [
        ["random play"],
        ["2.0 ± 1.0"],
        ["—"],
        ["—"],
        ["—"],
        ["—"],
    ]
