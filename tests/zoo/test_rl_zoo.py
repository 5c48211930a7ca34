"""rl_zoo3's scripts with our algorithms in them: what is registered, and runs of the real scripts.

rl_zoo3 changes Gymnasium when it is imported, so it is not imported here: quick checks run in one process of their own
(``zoo_process``), the scripts in processes as a user starts them.
"""

import io
import os
import pickle
import subprocess
import sys
from argparse import Namespace
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing import get_context
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
import yaml
from sb3_contrib import TRPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.monitor import load_results

import sb3_distill
from sb3_distill import METHODS, load_teacher
from sb3_distill.agents.find import find_checkpoint
from sb3_distill.memory.ring_file import read_memories
from sb3_distill.rules.methods import get_method, method_names
from sb3_distill.zoo import train

ZOO = Path(train.__file__).parent
ALGOS = {f"{row}{suffix}": base for suffix, base in (("", PPO), ("_a2c", A2C)) for row in METHODS["unbiased"]}
ALGOS |= {f"{row}_trpo": TRPO for row in ("entropy_regularised", "teacher_v_reward")}
#: on-policy distill as others have named it, with the environment's reward
PAID = {"kickstarting": PPO, "kickstarting_a2c": A2C, "proximal_distill": PPO}
ALGOS |= PAID
ALGOS |= {f"{row}_recurrent_ppo": RecurrentPPO for row in method_names()}
PAID |= {algo: base for algo, base in ALGOS.items() if algo.startswith(("kickstarting", "proximal"))}
#: the algorithm that is no row
OFFLINE = "policy_distillation"
ENVS = ["CartPole-v1", "Acrobot-v1", "MountainCar-v0", "LunarLander-v3"]
GAMES = [f"MinAtar/{game}-v1" for game in ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")]
#: for a run that is over soon
SHORT = ["--eval-freq", "256", "--eval-episodes", "1", "--seed", "0", "--device", "cpu"]


def row_of(algo):
    return algo.removesuffix("_a2c").removesuffix("_trpo").removesuffix("_recurrent_ppo")


@pytest.fixture(scope="module")
def zoo_process():
    """Calls a function of this module in a process that has imported rl_zoo3."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield lambda function, *args: pool.submit(function, *args).result()


def run(*command, cwd, code=0):
    """What a command prints; it has to end with that exit code."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


# --- what is registered -----------------------------------------------------------------------------------------------


def registered():
    import rl_zoo3.enjoy
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER

    from sb3_distill.zoo import registration  # noqa: F401

    tables = (rl_zoo3.ALGOS, rl_zoo3.enjoy.ALGOS, HYPERPARAMS_SAMPLER, HYPERPARAMS_CONVERTER)
    return rl_zoo3.ALGOS, [set(table) for table in tables]


def test_every_algorithm_is_in_each_of_rl_zoo3s_tables(zoo_process):
    algos, tables = zoo_process(registered)
    for names in tables:
        assert names >= {*ALGOS, OFFLINE}
    for name, base in ALGOS.items():
        assert issubclass(algos[name], base)
        assert algos[name].fixed_method == row_of(name)
        assert getattr(sb3_distill, algos[name].__name__) is algos[name]
    assert algos[OFFLINE] is sb3_distill.PolicyDistillation
    assert algos["ppo"] is PPO  # SB3's own stay


def experiment(algo, env_id, conf_file=None, hyperparams=None):
    from sb3_distill.zoo.registration import DistillExperimentManager

    args = Namespace(conf_file=conf_file)
    return DistillExperimentManager(args, algo, env_id, "unused", config=conf_file, hyperparams=hyperparams)


def config(*args):
    return experiment(*args).config


def test_our_hyperparameter_files_are_the_default_for_our_algorithms_only(zoo_process):
    for algo in ("n_distill", OFFLINE):
        assert zoo_process(config, algo, "CartPole-v1") == str(ZOO / "hyperparams" / f"{algo}.yml")
    assert zoo_process(config, "n_distill", "CartPole-v1", "my.yml") == "my.yml"
    assert "rl_zoo3" in Path(zoo_process(config, "ppo", "CartPole-v1")).parts


class ImageEnv(gym.Env):
    """Four stacked frames of a game, as far as a constructor looks at them."""

    observation_space = gym.spaces.Box(0, 255, (84, 84, 4), np.uint8)
    action_space = gym.spaces.Discrete(6)


def construct_with_entries(algo):
    """Have rl_zoo3 read each entry of an algorithm's file, and give the constructor what comes out."""
    import rl_zoo3

    gym.register("GameNoFrameskip-v4", entry_point="AtariEnv")
    classes = {}
    for env_id in [*ENVS, "GameNoFrameskip-v4"]:
        manager = experiment(algo, env_id)
        hyperparams, *_ = manager._preprocess_hyperparams(manager.read_hyperparameters()[0])
        teacher = hyperparams.pop("teacher")
        model = rl_zoo3.ALGOS[algo](env=env_id if env_id in ENVS else ImageEnv(), **hyperparams)
        classes[env_id] = (teacher, manager.n_timesteps, manager.frame_stack, model.policy_class.__name__)
    del gym.registry["GameNoFrameskip-v4"]
    return classes


@pytest.mark.parametrize("algo", ALGOS)
def test_each_entry_makes_a_model(zoo_process, algo):
    """The files parse, have all five entries, and hold nothing that rl_zoo3 or the class does not know."""
    entries, kind = zoo_process(construct_with_entries, algo), "Recurrent" if ALGOS[algo] is RecurrentPPO else ""
    for env_id in ENVS:
        teacher, n_timesteps, frame_stack, policy = entries[env_id]
        assert teacher == f"zoo:dqn/{env_id.replace('Lander-v3', 'Lander-v2')}"
        assert 1_000 <= n_timesteps <= 300_000 and frame_stack is None and policy == f"{kind}ActorCriticPolicy"
    # The entry of all games has one teacher for each.
    teacher, _, frame_stack, policy = entries["GameNoFrameskip-v4"]
    assert (teacher, frame_stack, policy) == ("zoo:dqn/GameNoFrameskip-v4", 4, f"{kind}ActorCriticCnnPolicy")


def construct_offline_with_entries():
    """The same of the algorithm that is no row, with sizes of its students' networks."""
    from sb3_distill.teachers.teacher import actor_size
    from sb3_distill.zoo.registration import OFFLINE as offline

    made = {}
    for env_id in [*ENVS, *GAMES]:
        manager = experiment(OFFLINE, env_id)
        hyperparams, *_ = manager._preprocess_hyperparams(manager.read_hyperparameters()[0])
        teacher = hyperparams.pop("teacher")
        model = offline[OFFLINE](env=env_id, **hyperparams)
        made[env_id] = (teacher, manager.n_envs, manager.n_timesteps, model.student, actor_size(model.policy))
    return made


def test_each_entry_of_policy_distillation_makes_a_model(zoo_process):
    entries = zoo_process(construct_offline_with_entries)
    for env_id in ENVS:
        teacher, n_envs, n_timesteps, student, _ = entries[env_id]
        assert teacher == f"zoo:dqn/{env_id.replace('Lander-v3', 'Lander-v2')}"
        assert n_envs == 8 and 1_000 <= n_timesteps <= 300_000 and student == "dqn"
    for (
        env_id
    ) in GAMES:  # each game has a teacher of its own, and a student of less than a quarter of the paper's network
        teacher, n_envs, _, student, n_parameters = entries[env_id]
        assert (teacher, n_envs, student) == (f"zoo:dqn/{env_id.replace('/', '-')}", 32, "dqn")
        assert n_parameters < 132_179 / 4


@pytest.mark.zoo
def test_the_teachers_of_the_files_are_in_the_zoo(zoo):
    files = list((ZOO / "hyperparams").glob("*.yml"))
    masked = {f"{row}_maskable_ppo" for row in method_names()}  # which have environments of their own
    assert {file.stem for file in files} == {*ALGOS, *masked, OFFLINE}
    for file in files:
        for entry in yaml.safe_load(file.read_text()).values():
            if (
                file.stem not in masked and "{env}" not in entry["teacher"]
            ):  # the games' teachers are made by their users
                assert find_checkpoint(entry["teacher"]).is_file()


def teacher_of(hyperparams):
    return experiment("n_distill", "CartPole-v1", None, hyperparams).read_hyperparameters()[0]["teacher"]


def test_a_teacher_from_the_command_line_wins_and_none_is_an_error_at_once(zoo_process):
    assert zoo_process(teacher_of, {"teacher": "hub:sb3/dqn-CartPole-v1"}) == "hub:sb3/dqn-CartPole-v1"
    assert zoo_process(teacher_of, {"teacher": "zoo:ppo/{env}"}) == "zoo:ppo/CartPole-v1"
    with pytest.raises(ValueError, match=r"n_distill needs a teacher, .* -params teacher:\"'zoo:dqn/CartPole-v1'\""):
        zoo_process(teacher_of, {"teacher": None})


def draw(algo):
    """A draw of an algorithm's sampler; the same through the converter; and what the model that it makes has."""
    import optuna
    import rl_zoo3
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER

    from sb3_distill.zoo import registration  # noqa: F401

    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(0)).ask()
    drawn = HYPERPARAMS_SAMPLER[algo](trial, 2, 8, {})
    policy = "MlpLstmPolicy" if algo.endswith("_recurrent_ppo") else "MlpPolicy"
    model = rl_zoo3.ALGOS[algo](policy, "CartPole-v1", **drawn)
    has = {name: getattr(model, name) for name in drawn}
    return drawn, HYPERPARAMS_CONVERTER[algo](trial.params), {k: v(1) if callable(v) else v for k, v in has.items()}


@pytest.mark.parametrize("algo", ALGOS)
def test_what_optimize_draws_reaches_the_model(zoo_process, algo):
    """The constructor takes it, ``--trial-id`` finds it again, and terms that a row lacks are not searched over."""
    drawn, converted, has = zoo_process(draw, algo)
    assert converted == drawn == has
    row = get_method(row_of(algo))
    has_epochs = ALGOS[algo] in (PPO, RecurrentPPO)
    expected = {"learning_rate", "n_steps"} | ({"batch_size", "n_epochs"} if has_epochs else set())
    expected |= {"loss_coef"} if row.loss and algo not in PAID else set()
    expected |= {"reward_coef"} if row.reward else set()
    expected |= {"gamma", "gae_lambda"} if row.reward or algo in PAID else set()
    assert set(drawn) == expected  # and neither teacher nor policy_kwargs, which would replace the user's


def draw_offline():
    """As :func:`draw`, of the algorithm that is no row."""
    import optuna
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER

    from sb3_distill.zoo.registration import OFFLINE as offline

    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(0)).ask()
    drawn = HYPERPARAMS_SAMPLER[OFFLINE](trial, 2, 8, {})
    model = offline[OFFLINE]("MlpPolicy", "CartPole-v1", **drawn)
    has = {name: getattr(model, name) for name in drawn} | {"train_freq": model.train_freq.frequency}
    return drawn, HYPERPARAMS_CONVERTER[OFFLINE](trial.params), trial.user_attrs, has


def test_what_optimize_draws_reaches_the_student_of_a_memory(zoo_process):
    drawn, converted, shown, has = zoo_process(draw_offline)
    assert converted == drawn == shown == has
    assert set(drawn) == {"learning_rate", "batch_size", "temperature", "train_freq"}


# --- what is mistyped ---------------------------------------------------------------------------------------------------


def typed(algo, *params):
    """What the script says about ``-params``, and its exit code."""
    said = io.StringIO()
    sys.argv = ["train", "--algo", algo, "--env", "CartPole-v1", "-n", "64", "-f", os.devnull, "-params", *params]
    with redirect_stdout(io.StringIO()), redirect_stderr(said):
        code = train.main()
    return code, said.getvalue()


@pytest.mark.parametrize(
    ("algo", "pair", "part"),
    [
        ("n_distill", "ent_coef:0.01x", "write a number"),
        ("n_distill", "foo:a", "foo:\"'a'\""),
        ("n_distill", "teacher:zoo:dqn/CartPole-v1", "teacher:\"'zoo:dqn/CartPole-v1'\""),
        ("n_distill", "policy_kwargs:dict(net_arch=[8]", "within quotes"),
        ("n_distill", "policy_kwargs:'dict(activation_fn=nn.Relu)'", "'Relu'"),
        ("n_distill", "reward_coef", "NAME:VALUE"),
        ("n_distill", "reward_coef:", "no value"),
        ("n_distill", "reward_coeff:1", "'reward_coef'"),
        ("n_distill", "n_timestep:9", "'n_timesteps'"),
        ("n_distill", "seed:1", "--seed"),
        ("n_distill", "learning_rate:'lin'", "lin_NUMBER"),
        ("n_distill_a2c", "n_epochs:3", "no hyperparameter 'n_epochs'"),  # PPO's alone
        ("policy_distillation", "buffersize:3", "'buffer_size'"),
        ("ppo", "batchsize:3", "'batch_size'"),
        ("n_distill", "n_epochs:'x'", "n_epochs of n_distill must be a whole number, not 'x'"),
        ("n_distill", "gamma:[1]", "gamma of n_distill must be a number, not [1]"),
        ("n_distill", "policy_kwargs:5", "policy_kwargs of n_distill must be"),
        ("n_distill", "loss_coef:'x'", "loss_coef of n_distill must be"),
        ("n_distill_a2c", "use_rms_prop:'yes'", "use_rms_prop of n_distill_a2c must be True or False, not 'yes'"),
        ("policy_distillation", "buffer_size:'x'", "buffer_size of policy_distillation must be"),
        ("ppo", "n_epochs:None", "n_epochs of ppo must be a whole number, not None"),
        ("ppo", "n_timesteps:'x'", "n_timesteps must be a whole number of at least 1, not 'x'"),
        ("ppo", "frame_stack:0", "frame_stack must be a whole number of at least 1, not 0"),
    ],
)
def test_what_is_mistyped_in_params_is_one_line(zoo_process, algo, pair, part):
    code, said = zoo_process(typed, algo, "n_envs:2", pair)
    assert code == 2 and part in said
    assert said.startswith("sb3-distill-train: error: ") and said.count("\n") == 1


def unregistered():
    said = io.StringIO()
    sys.argv = ["train", "--algo", "n_distill", "--env", "MyWalk-v0", "-f", os.devnull]
    with redirect_stdout(io.StringIO()), redirect_stderr(said):
        train.main()
    return said.getvalue()


def test_an_unregistered_environment_may_be_of_a_module(zoo_process):
    said = zoo_process(unregistered)
    assert "--env my_module:ID" in said and said.count("\n") == 1


def unknown_keys():
    """Of every entry of rl_zoo3's files and ours, what the check would refuse."""
    import rl_zoo3

    from sb3_distill.zoo import param_types, registration, typed_params

    def is_text_for_more(value):
        """What rl_zoo3 makes something else of: schedules, dictionaries in text."""
        return isinstance(value, str) and value.startswith(("lin_", "dict(", "{"))

    refused = []
    files = [*registration.HYPERPARAMS.glob("*.yml"), *(Path(rl_zoo3.__file__).parent / "hyperparams").glob("*.yml")]
    files = [file for file in files if file.stem in rl_zoo3.ALGOS]
    for file in files:
        for entry in yaml.safe_load(file.read_text()).values():
            names = entry.keys() - set(typed_params.ZOO_KEYS)
            try:
                typed_params.check_names(file.stem, rl_zoo3.ALGOS[file.stem], names)
                param_types.check_zoo_sizes(entry)
                values = {name: entry[name] for name in names if not is_text_for_more(entry[name])}
                param_types.check_types(file.stem, rl_zoo3.ALGOS[file.stem], values)
            except ValueError as error:
                refused.append(f"{file}: {error}")
    return len(files), refused


def test_no_published_hyperparameter_is_taken_for_a_misspelt_one(zoo_process):
    n_files, refused = zoo_process(unknown_keys)
    assert n_files > 20 and refused == []


# --- the scripts --------------------------------------------------------------------------------------------------------


def check_run(folder, env_id, base, n_timesteps):
    """The folder is one of the zoo's, with a student that SB3 loads and that can teach."""
    assert {"config.yml", "args.yml", "command.txt"} <= {path.name for path in (folder / env_id).iterdir()}
    assert {f"{env_id}.zip", "best_model.zip", "evaluations.npz"} <= {path.name for path in folder.iterdir()}
    assert load_results(str(folder)).l.sum() > 0
    student = base.load(folder / f"{env_id}.zip")
    assert student.num_timesteps >= n_timesteps
    teacher = load_teacher(folder, temperature=1.0 if base is DQN else "auto")
    assert teacher.env_id == env_id and teacher.name == f"{folder.parent.name}/{env_id}"
    obs = np.stack([student.observation_space.sample() for _ in range(5)])
    tensor = student.policy.obs_to_tensor(obs)[0]
    with th.no_grad():
        if base is DQN:
            assert th.allclose(teacher.q_values(obs), student.q_net(tensor), atol=1e-6)
        else:
            logits = student.policy.get_distribution(tensor).distribution.logits
            assert th.allclose(teacher.answer(obs).parameters, logits, atol=1e-6)


def train_and_enjoy(algo, folder, n_timesteps=512):
    """Both scripts' ``main`` in this process."""
    from sb3_distill.zoo import enjoy

    os.chdir(folder)
    sys.argv = ["train", "--algo", algo, "--env", "CartPole-v1", "-n", str(n_timesteps), *SHORT]
    train.main()
    sys.argv = ["enjoy", "--algo", algo, "--env", "CartPole-v1", "-f", "logs", "--no-render", "-n", "30"]
    enjoy.main()


def test_a2c_trains_and_the_student_can_teach(zoo_process, tmp_path):
    zoo_process(train_and_enjoy, "on_policy_distill_a2c", tmp_path)
    check_run(tmp_path / "logs" / "on_policy_distill_a2c" / "CartPole-v1_1", "CartPole-v1", A2C, 512)


def test_policy_distillation_trains_and_the_student_can_teach(zoo_process, tmp_path):
    """An episode of its teacher's has 500 steps, in each of eight environments."""
    zoo_process(train_and_enjoy, OFFLINE, tmp_path, 4_096)
    check_run(tmp_path / "logs" / OFFLINE / "CartPole-v1_1", "CartPole-v1", DQN, 4_096)


def train_and_continue(folder):
    os.chdir(folder)
    command = ["train", "--algo", OFFLINE, "--env", "CartPole-v1", "-n", "256", *SHORT, "--save-replay-buffer"]
    command += ["-params", "n_envs:2", "normalize:True", "train_freq:64"]
    sys.argv = command
    train.main()
    sys.argv = [*command, "-i", f"logs/{OFFLINE}/CartPole-v1_1/CartPole-v1.zip"]
    train.main()


def test_policy_distillation_goes_on_with_its_memory_and_statistics(zoo_process, tmp_path):
    """``--save-replay-buffer``, then ``-i``: the second run's memory has the first one's states, too."""
    zoo_process(train_and_continue, tmp_path)
    first, second = (tmp_path / "logs" / OFFLINE / f"CartPole-v1_{n}" for n in (1, 2))
    memories = [read_memories(folder / "replay_buffer.pkl")[""] for folder in (first, second)]
    assert [len(memory) for memory in memories] == [256, 512]
    students = [DQN.load(folder / "CartPole-v1.zip", device="cpu") for folder in (first, second)]
    assert [student._n_updates for student in students] == [256, 512]
    counts = [
        pickle.loads((folder / "CartPole-v1" / "vecnormalize.pkl").read_bytes()).obs_rms.count
        for folder in (first, second)
    ]
    assert counts[1] > counts[0] + 200


def test_ppo_trains_by_the_scripts_as_they_are_typed(tmp_path):
    """``python zoo/train.py`` from elsewhere, then ``python -m sb3_distill.zoo.enjoy``."""
    said = run(
        *(ZOO / "train.py", "--algo", "n_distill", "--env", "CartPole-v1", "-n", "512", *SHORT),
        *("-params", "n_steps:32", "policy_kwargs:dict(net_arch=[8])"),
        cwd=tmp_path,
    )
    assert str(ZOO / "hyperparams" / "n_distill.yml") in said and "distill/" in said
    folder = tmp_path / "logs" / "n_distill" / "CartPole-v1_1"
    check_run(folder, "CartPole-v1", PPO, 512)
    assert PPO.load(folder / "CartPole-v1.zip").policy.mlp_extractor.policy_net[0].out_features == 8
    enjoy = ("-m", "sb3_distill.zoo.enjoy", "--algo", "n_distill", "--env", "CartPole-v1", "-f", "logs", "--no-render")
    assert "Mean reward: " in run(*enjoy, "-n", "501", cwd=tmp_path)


def test_a_script_does_not_import_from_its_own_folder(tmp_path):
    """Python puts a script's folder first on the path, and ours has a ``statistics.py``, which is not Python's."""
    (tmp_path / "train.py").write_text((ZOO / "train.py").read_text())
    (tmp_path / "optuna.py").write_text("raise SystemExit('the wrong one')")
    assert "teacher_v_reward_a2c" in run(tmp_path / "train.py", "--help", cwd=tmp_path)


def test_without_rl_zoo3_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rl_zoo3", None)
    with pytest.raises(SystemExit, match=r"^[^\n]*rl_zoo3[^\n]*: pip install 'sb3-distill\[zoo\]'$"):
        train.main()


# --- the same at length -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.zoo
@pytest.mark.parametrize("algo", ALGOS)
def test_each_algorithm_trains_with_its_own_settings_and_is_enjoyed(zoo, tmp_path, algo):
    """From the repository's root; a student that learnt nothing balances for 10 to 20 steps."""
    arguments = ("--algo", algo, "--env", "CartPole-v1")
    run("zoo/train.py", *arguments, "-f", tmp_path, "--eval-freq", "4000", "--seed", "1", cwd=ZOO.parent)
    check_run(tmp_path / algo / "CartPole-v1_1", "CartPole-v1", ALGOS[algo], 8_192)
    said = run("zoo/enjoy.py", *arguments, "-f", tmp_path, "--no-render", "-n", "5000", cwd=ZOO.parent)
    assert float(said.split("Mean reward: ")[1].split()[0]) > 100


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["n_distill", "entropy_regularised_a2c"])
def test_two_processes_tune_one_study(tmp_path, algo):
    """Four trials on one SQLite file; then ``--trial-id`` trains with what a trial drew."""
    import optuna

    study = ("--study-name", "study", "--storage", f"sqlite:///{tmp_path}/study.db")
    optuna.create_study(study_name="study", storage=study[-1], direction="maximize")
    arguments = (ZOO / "train.py", "--algo", algo, "--env", "CartPole-v1", "-n", "1024", "-f", tmp_path, *study)
    search = ("-optimize", "--n-trials", "2", "--no-optim-plots", "--pruner", "none", "--device", "cpu")
    processes = [
        subprocess.Popen([sys.executable, *map(str, (*arguments, *search))], stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [process.wait(timeout=600) for process in processes] == [0, 0]
    found = optuna.load_study(study_name="study", storage=study[-1])
    assert [trial.state for trial in found.trials] == [optuna.trial.TrialState.COMPLETE] * 4
    assert len({trial.params["learning_rate"] for trial in found.trials}) == 4
    assert found.user_attrs["teacher"] == "zoo:dqn/CartPole-v1"

    run(*arguments, "--trial-id", "3", "--seed", "0", cwd=tmp_path)
    (student,) = tmp_path.glob(f"{algo}/*/CartPole-v1.zip")
    assert ALGOS[algo].load(student).n_steps == found.trials[3].user_attrs["n_steps"]


@pytest.mark.slow
def test_a_student_teaches_under_the_zoos_wrappers_and_callbacks(tmp_path):
    """``normalize``, ``frame_stack``, ``callback``, a schedule, checkpoints, ``--progress`` and continued training."""
    script = (ZOO / "train.py", "--env", "CartPole-v1", "-n", "2048", "--eval-freq", "512", "--save-freq", "1024", "-P")
    first = ("--algo", "on_policy_distill", "-params", "normalize:True", "learning_rate:'lin_0.004'")
    run(*script, *first, cwd=tmp_path)
    logs = Path("logs")
    assert (tmp_path / logs / "on_policy_distill" / "CartPole-v1_1" / "CartPole-v1" / "vecnormalize.pkl").is_file()

    teacher = f"teacher:'{logs / 'on_policy_distill' / 'CartPole-v1_1'}'"
    stop = "callback:[{'stable_baselines3.common.callbacks.StopTrainingOnMaxEpisodes':{'max_episodes':9}}]"
    run(*script, "--algo", "teacher_v_reward", "-params", teacher, stop, "normalize:True", cwd=tmp_path)
    student = logs / "teacher_v_reward" / "CartPole-v1_1" / "CartPole-v1.zip"
    assert len(load_results(str(tmp_path / student.parent))) >= 9
    run(*script, "--algo", "teacher_v_reward", "-i", student, "-params", teacher, "normalize:True", cwd=tmp_path)

    run(*script, "--algo", "ppo", "-params", "frame_stack:2", cwd=tmp_path)
    stacked = f"teacher:'{logs / 'ppo' / 'CartPole-v1_1'}'"
    run(*script, "--algo", "n_distill_a2c", "-params", stacked, "frame_stack:2", "n_envs:2", cwd=tmp_path)
    assert load_teacher(tmp_path / logs / "n_distill_a2c" / "CartPole-v1_1").observation_space.shape == (8,)


@pytest.mark.slow
def test_record_video_knows_our_algorithms(tmp_path):
    arguments = ("--algo", "on_policy_distill", "--env", "CartPole-v1", "-f", "logs")
    run(ZOO / "train.py", *arguments, "-n", "512", *SHORT, cwd=tmp_path)
    run("-m", "sb3_distill.zoo.rl_zoo", "record_video", *arguments, "-n", "20", cwd=tmp_path)
    (video,) = tmp_path.glob("logs/on_policy_distill/CartPole-v1_1/videos/*.mp4")
    assert video.stat().st_size > 0
    assert "usage:" in run("-m", "sb3_distill.zoo.rl_zoo", "record_vidoe", cwd=tmp_path, code=1)
