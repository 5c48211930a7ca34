"""A teacher is trained as SB3 alone would do it, survives being killed, and is filed so that SB3 and the zoo's loader read it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch as th
import yaml
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import LinearSchedule
from torch import nn

from envs_for_tests import CountdownEnv
from sb3_distill.agents.find import BUNDLED, find_agent, read_training_of
from sb3_distill.agents.load import load_teacher
from sb3_distill.agents.training import read_config, training
from sb3_distill.cli import main, train_teacher
from sb3_distill.cli.parser import Parser
from sb3_distill.envs.atari import make_atari_vec_env
from sb3_distill.evaluation.episodes import episode_returns
from sb3_distill.students.features import MinAtarCNN
from sb3_distill.zoo import dqn_training
from sb3_distill.zoo.dqn_training import cut_episodes, latest_checkpoint, open_folder, save_to_play, train_dqn
from sb3_distill.zoo.teacher_settings import STICKY, TEACHERS, TeacherSettings

HYPERPARAMETERS = {
    "policy": "MlpPolicy",
    "learning_rate": 1e-3,
    "buffer_size": 1_000,
    "learning_starts": 100,
    "batch_size": 16,
    "train_freq": 16,
    "gradient_steps": 2,
    "n_steps": 3,
    "policy_kwargs": {"net_arch": [8]},
}
QUICK = TeacherSettings(HYPERPARAMETERS, n_timesteps=1_000, eval_every=256, n_envs=2, n_eval_episodes=3)
make_cartpoles = partial(make_vec_env, "CartPole-v1")


def weights(model):
    return [parameter.detach().clone() for parameter in model.policy.parameters()]


def same_weights(first, second):
    return all(th.equal(a, b) for a, b in zip(first, second, strict=True))


# --- training ---------------------------------------------------------------------------------------------------------


def sb3_alone(settings, seed=0):
    """What a user of SB3 would write."""
    kwargs = {name: value for name, value in settings.hyperparameters.items() if name != "policy"}
    model = DQN("MlpPolicy", make_cartpoles(settings.n_envs, seed), seed=seed, device="cpu", **kwargs)
    return model.learn(settings.n_timesteps)


@pytest.mark.parametrize(("checkpoint_seconds", "averaged_steps"), [(0.0, None), (1e9, None), (0.0, 400)])
def test_evaluations_checkpoints_and_means_leave_no_trace(tmp_path, monkeypatch, checkpoint_seconds, averaged_steps):
    """The network at the end of the training is SB3's own, to the bit."""
    found = []
    original = dqn_training.Keeper._on_training_end
    monkeypatch.setattr(
        dqn_training.Keeper, "_on_training_end", lambda self: (original(self), found.append(weights(self.model)))
    )
    settings = QUICK._replace(averaged_steps=averaged_steps)
    train_dqn(make_cartpoles, settings, 0, tmp_path, checkpoint_seconds=checkpoint_seconds)
    assert same_weights(found[0], weights(sb3_alone(QUICK)))
    assert not same_weights(found[0], weights(sb3_alone(QUICK, seed=1))), "control"
    assert (latest_checkpoint(tmp_path) is not None) == (checkpoint_seconds == 0)


def test_the_best_network_is_kept(tmp_path, monkeypatch):
    """By the mean of an evaluation, and of equals the first."""
    scores = iter([[1.0, 2.0], [5.0, 0.0], [2.0, 3.0], [0.0, 1.0]])
    seen = []

    def play(model, make_envs, n_episodes, seed, max_steps):
        seen.append((model.num_timesteps, n_episodes, weights(model)))
        return np.array(next(scores))

    monkeypatch.setattr(dqn_training, "greedy", lambda predict: predict.__self__)
    monkeypatch.setattr(dqn_training, "episode_returns", play)
    trained = train_dqn(make_cartpoles, QUICK, 0, tmp_path)
    assert [(step, n) for step, n, _ in seen] == [(256, 3), (512, 3), (768, 3), (1_024, 3)]
    assert [e.timesteps for e in trained.evaluations] == [256, 512, 768, 1_024]
    assert [e.returns.tolist() for e in trained.evaluations] == [[1, 2], [5, 0], [2, 3], [0, 1]]
    assert trained.best.num_timesteps == 512
    assert same_weights(weights(trained.best), seen[1][2])
    assert not same_weights(seen[1][2], seen[2][2]), "control"
    assert trained.timesteps == 1_024


def test_the_mean_of_the_weights_is_played_and_kept(tmp_path, monkeypatch):
    """m ← m + (w − m) n/N after each n steps, from the first weights on."""
    found, means = [], []
    count = dqn_training.Keeper._count_weights

    def record(self):
        count(self)
        found.append([weight.clone() for weight in self._weights()])

    def play(model, *_):
        means.append([weight.detach().clone() for weight in model.q_net.parameters()])
        return np.array([0.0, len(means)])

    monkeypatch.setattr(dqn_training.Keeper, "_count_weights", record)
    monkeypatch.setattr(dqn_training, "greedy", lambda predict: predict.__self__)
    monkeypatch.setattr(dqn_training, "episode_returns", play)
    trained = train_dqn(make_cartpoles, QUICK._replace(averaged_steps=128, n_timesteps=640), 0, tmp_path)
    assert [e.timesteps for e in trained.evaluations] == [256, 512, 640]
    assert len(found) == 1 + 640 // 32
    mean = found[0]
    for weights_then in found[1:]:
        mean = [m + (w - m) * 32 / 128 for m, w in zip(mean, weights_then, strict=True)]
    assert all(th.allclose(m, e, atol=1e-6) for m, e in zip(means[-1], mean, strict=True))
    assert not any(th.allclose(m, w, atol=1e-4) for m, w in zip(means[-1], found[-1], strict=True)), "control"
    assert same_weights(means[-1], trained.best.q_net.parameters())


def test_a_continued_training_knows_the_mean(tmp_path, monkeypatch):
    settings, written = QUICK._replace(averaged_steps=128, n_timesteps=320), []
    write = dqn_training.Keeper.write
    monkeypatch.setattr(
        dqn_training.Keeper, "write", lambda self: (write(self), written.append([m.clone() for m in self.mean]))
    )
    train_dqn(make_cartpoles, settings, 0, tmp_path, checkpoint_seconds=0.0)
    keeper = dqn_training.Keeper(make_cartpoles, 0, settings, tmp_path, 0.0)
    keeper.restore(latest_checkpoint(tmp_path))
    assert same_weights(keeper.mean, written[-1]) and not same_weights(keeper.mean, written[0])


def test_a_short_training_is_evaluated_at_its_end(tmp_path):
    trained = train_dqn(make_cartpoles, QUICK._replace(n_timesteps=100), 0, tmp_path)
    assert [e.timesteps for e in trained.evaluations] == [128]
    assert trained.best.num_timesteps == 128


def test_evaluation_meets_other_episodes_than_training(tmp_path):
    """Seeds of one do not overlap with those of the other."""
    made = []

    def make(n_envs, seed):
        made.append(set(range(seed, seed + n_envs)))
        return make_cartpoles(n_envs, seed)

    train_dqn(make, QUICK._replace(n_timesteps=32), 7, tmp_path)
    assert made == [{7, 8}, {9, 10, 11}]


# --- killed -----------------------------------------------------------------------------------------------------------

SCRIPT = """
import sys, torch
torch.set_num_threads(1)
sys.path[:0] = {tests!r}
from pathlib import Path
from test_train_teacher import QUICK, make_cartpoles
from sb3_distill.zoo.dqn_training import train_dqn
train_dqn(make_cartpoles, QUICK._replace(n_timesteps=10**9), 0, Path(sys.argv[1]), checkpoint_seconds=0.0)
"""


def start(folder):
    """A training without an end, in a process of its own."""
    script = SCRIPT.format(tests=[str(folder) for folder in Path(__file__).parents[:2]])
    return subprocess.Popen([sys.executable, "-c", script, str(folder)], stderr=subprocess.PIPE)


def steps_in(folder):
    checkpoint = latest_checkpoint(folder)
    return int(checkpoint.name.removeprefix("step-")) if checkpoint else -1


def kill_after(folder, n_steps, delay):
    """SIGKILL a moment after its checkpoints have passed a step."""
    process = start(folder)
    limit = time.monotonic() + 120
    while steps_in(folder) < n_steps:
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < limit
        time.sleep(0.005)
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()


def test_a_killed_training_goes_on(tmp_path):
    """Twice, wherever the signal finds it; then it ends here as if nothing had been."""
    kill_after(tmp_path, 300, delay=0.013)
    first = steps_in(tmp_path)
    with np.load(latest_checkpoint(tmp_path) / "evaluations.npz") as saved:
        before = saved["timesteps"].tolist(), saved["results"].tolist(), float(saved["seconds"])
    assert first >= 300 and before[0][0] == 256
    kill_after(tmp_path, first + 300, delay=0.007)
    second = steps_in(tmp_path)
    total = second + 500
    trained = train_dqn(make_cartpoles, QUICK._replace(n_timesteps=total), 0, tmp_path, checkpoint_seconds=1e9)
    n = len(before[0])
    assert [e.timesteps for e in trained.evaluations[:n]] == before[0]
    assert [e.returns.tolist() for e in trained.evaluations[:n]] == before[1]
    steps = [e.timesteps for e in trained.evaluations]
    assert steps == sorted(set(steps))
    assert steps[:-1] == list(range(256, steps[-2] + 1, 256))
    assert total <= trained.timesteps == steps[-1] < total + 32
    assert trained.seconds > before[2] > 0
    means = [e.returns.mean() for e in trained.evaluations]
    assert trained.best.num_timesteps == steps[int(np.argmax(means))]


def test_what_is_continued_is_what_was_saved(tmp_path):
    """Network, optimiser, counters, exploration and replay buffer; other dice, and new episodes."""
    train_dqn(make_cartpoles, QUICK, 0, tmp_path, checkpoint_seconds=0.0)
    checkpoint = latest_checkpoint(tmp_path)
    hyperparameters = {k: v for k, v in HYPERPARAMETERS.items() if k != "policy"}
    env = make_cartpoles(2, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = dqn_training.load_checkpoint(checkpoint, env, 0, hyperparameters, "cpu")
    step = int(checkpoint.name.removeprefix("step-"))
    assert model.num_timesteps == step == 992
    assert model._n_updates == 2 * (step // 32 - 3), (
        "none before 100 steps, of which the rollout that ended at 96 was the last"
    )
    assert model._n_calls == step // 2
    assert model.exploration_rate == pytest.approx(0.05)
    assert isinstance(model.replay_buffer, NStepReplayBuffer)
    assert (model.replay_buffer.n_steps, model.replay_buffer.pos, model.replay_buffer.full) == (3, step // 2, False)
    adam = model.policy.optimizer.state_dict()["state"]
    assert all(state["step"] == model._n_updates and state["exp_avg"].any() for state in adam.values())
    assert (model.replay_buffer.dones[step // 2 - 1] == 1).all()
    first_time = make_cartpoles(2, 0).reset()
    assert not np.array_equal(env.reset(), first_time)


def test_half_a_checkpoint_is_none(tmp_path, monkeypatch):
    """The disk is full: the error is the disk's, the checkpoint before stays, and the training goes on from it."""
    original, calls = DQN.save_replay_buffer, []

    def save(self, path):
        original(self, path)
        calls.append(path)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(DQN, "save_replay_buffer", save)
    with pytest.raises(OSError, match="No space left"):
        train_dqn(make_cartpoles, QUICK, 0, tmp_path, checkpoint_seconds=0.0)
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-64"]
    trained = train_dqn(make_cartpoles, QUICK, 0, tmp_path, checkpoint_seconds=0.0)
    assert trained.timesteps == 1_024
    assert [path.name for path in tmp_path.iterdir()] == ["step-992"]


def test_the_newest_checkpoint_by_number(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    for name in ("step-99", "step-1000", "unfinished", "training.json"):
        (tmp_path / name).mkdir()
    assert latest_checkpoint(tmp_path) == tmp_path / "step-1000"


def test_a_folder_belongs_to_one_training(tmp_path):
    """Another seed, or another number of steps, is told what is there."""
    identity = {"env": "CartPole-v1", "seed": 0, "steps": 100}
    folder = tmp_path / "a" / "b"
    assert open_folder(folder, identity | {"seed": 5}) is None
    assert open_folder(folder, identity) is None, "nothing had been learnt with the other seed"
    (folder / "step-5").mkdir()
    assert open_folder(folder, dict(identity)) == folder / "step-5"
    with pytest.raises(
        ValueError, match=r"b holds an unfinished training with env=CartPole-v1, seed=0, steps=100, not .*seed=1"
    ):
        open_folder(folder, identity | {"seed": 1})


# --- where a training was interrupted, the replay buffer has a seam ---------------------------------------------------


def filled(buffer_class, n, dones=(), timeouts=(), **kwargs):
    """A buffer of two environments; the observation of step t is t, and of the next t + ½, the reward 2^t."""
    space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    buffer = buffer_class(32, space, spaces.Discrete(2), device="cpu", n_envs=2, **kwargs)
    for t in range(n):
        obs = np.full((2, 1), t, np.float32)
        done = np.array([t in dones, False])
        infos = [{"TimeLimit.truncated": t in timeouts}, {}]
        buffer.add(obs, obs + 0.5, np.zeros((2, 1), int), np.full(2, 2.0**t), done, infos)
    return buffer


def targets(buffer, t):
    """Return, next observation and end of the targets of one step, of both environments, by the buffer's own arithmetic."""
    data = buffer._get_samples(np.repeat(t, 64))
    return set(
        zip(*(column.flatten().tolist() for column in (data.rewards, data.next_observations, data.dones)), strict=True)
    )


def test_no_return_reaches_over_the_seam():
    """Before it, returns end there and bootstrap from the state that was seen last."""
    buffer = filled(NStepReplayBuffer, 5, n_steps=3, gamma=0.5)
    cut_episodes(buffer)
    for t in range(5, 9):  # what the continued training adds
        obs = np.full((2, 1), 100 + t, np.float32)
        buffer.add(obs, obs + 0.5, np.zeros((2, 1), int), np.full(2, 2.0**t), np.zeros(2, bool), [{}, {}])
    discounted = [sum(0.5**k * 2.0 ** (t + k) for k in range(n)) for t, n in ((2, 3), (3, 2), (4, 1), (5, 3))]
    assert [targets(buffer, t) for t in (2, 3, 4, 5)] == [
        {(discounted[0], 4.5, 0.0)},
        {(discounted[1], 4.5, 0.0)},
        {(discounted[2], 4.5, 0.0)},
        {(discounted[3], 107.5, 0.0)},
    ]


@pytest.mark.parametrize("buffer_class", [ReplayBuffer, NStepReplayBuffer])
@pytest.mark.parametrize(("timeouts", "terminal"), [((), 1.0), ((4,), 0.0)])
def test_an_episode_that_had_ended_stays_ended(buffer_class, timeouts, terminal):
    """Of two environments the first had just ended, by itself or by its time limit."""
    buffer = filled(buffer_class, 5, dones=(4,), timeouts=timeouts)
    cut_episodes(buffer)
    assert {done for _, _, done in targets(buffer, 4)} == {terminal, 0.0}
    assert buffer.dones[4].tolist() == [1, 1]
    assert buffer.timeouts[4].tolist() == [1 - terminal, 1]


@pytest.mark.parametrize(("n", "last"), [(0, None), (16, 15), (18, 1)])
def test_the_seam_is_at_the_newest_transition(n, last):
    """In an empty buffer, a full one, and one that has begun to overwrite."""
    buffer = filled(ReplayBuffer, n)
    cut_episodes(buffer)
    assert np.flatnonzero(buffer.dones.any(1)).tolist() == ([] if last is None else [last])


# --- filed ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(monkeypatch):
    """A line that takes seconds."""
    monkeypatch.setitem(TEACHERS, "CartPole-v1", QUICK)
    monkeypatch.setattr(train_teacher, "N_EPISODES", 4)


def command(*words):
    parser = Parser()
    train_teacher.add_command(parser.add_subparsers())
    args = parser.parse_args(["train-teacher", *words])
    return args.prepare(args)


@pytest.fixture
def agent(table, tmp_path, capsys):
    """The folder that the command makes, and what it prints."""
    command("--env", "CartPole-v1", "--out", str(tmp_path), "--seed", "3")()
    return tmp_path / "dqn" / "CartPole-v1_1", capsys.readouterr().out


def test_the_zoos_layout(agent):
    folder, out = agent
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "CartPole-v1.zip",
        "CartPole-v1/config.yml",
        "CartPole-v1/args.yml",
        "evaluations.npz",
        "learning_curve.csv",
        "learning_curve.png",
    }
    assert [path.name for path in folder.parent.iterdir()] == ["CartPole-v1_1"], (
        "checkpoints and temporary files are gone"
    )
    about = {"algo": "dqn", "env": "CartPole-v1", "env_kwargs": None, "seed": 3}
    assert read_config(folder / "CartPole-v1" / "args.yml") == about
    config = read_config(folder / "CartPole-v1" / "config.yml")
    expected = HYPERPARAMETERS | {"policy_kwargs": "dict(net_arch=[8])", "n_envs": 2, "n_timesteps": 1_000}
    assert config == expected
    assert "DQN on CartPole-v1: the same 4 episodes for both" in out
    assert "The best of 4 evaluations of 3 episodes is in" in out


def test_what_is_reported_is_what_is_filed(agent):
    """evaluations.npz has the returns of the agent in the zip, not of the network at the end of training."""
    from sb3_distill.evaluation.episodes import EVALUATION_SEED, episode_returns

    folder, out = agent
    with np.load(folder / "evaluations.npz") as saved:
        timesteps, results = saved["timesteps"], saved["results"]
    model = DQN.load(folder / "CartPole-v1.zip", device="cpu")
    act = lambda obs: model.predict(obs, deterministic=True)[0]  # noqa: E731
    np.testing.assert_array_equal(results, [episode_returns(act, "CartPole-v1", 4, EVALUATION_SEED)])
    assert timesteps.tolist() == [model.num_timesteps]
    rows = [line.split(",") for line in (folder / "learning_curve.csv").read_text().splitlines()]
    assert rows[0] == ["environment_steps", "mean_return", "standard_error", "n_episodes"]
    assert [row[0] for row in rows[1:]] == ["256", "512", "768", "1024"]
    best = max(rows[1:], key=lambda row: float(row[1]))
    assert int(best[0]) == model.num_timesteps
    assert f"{results.mean():.1f}" in out


def test_sb3_and_the_loader_read_the_same_agent(agent):
    folder, _ = agent
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = DQN.load(folder / "CartPole-v1.zip", device="cpu")
    teacher = load_teacher(folder, temperature=1.0, device="cpu")
    obs = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    assert th.equal(teacher.q_values(obs), model.q_net(th.as_tensor(obs)).detach())
    assert teacher.env_id == "CartPole-v1"
    with zipfile.ZipFile(folder / "CartPole-v1.zip") as archive:
        data = json.loads(archive.read("data"))
    assert not {"_last_obs", "ep_info_buffer", "replay_buffer_class"} & set(data)


def test_the_zoos_own_script_plays_it(agent, tmp_path):
    """rl_zoo3's enjoy, unmodified."""
    words = (
        "--algo",
        "dqn",
        "--env",
        "CartPole-v1",
        "-f",
        str(tmp_path),
        "-n",
        "200",
        "--no-render",
        "--device",
        "cpu",
    )
    done = subprocess.run([sys.executable, "-m", "rl_zoo3.enjoy", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Episode Reward:" in done.stdout


def test_an_agent_is_not_overwritten_unasked(agent, table, tmp_path):
    folder, _ = agent
    before = (folder / "CartPole-v1.zip").read_bytes()
    with pytest.raises(ValueError, match=r"CartPole-v1_1 holds an agent already: .* --overwrite"):
        command("--env", "CartPole-v1", "--out", str(tmp_path))
    assert (folder / "CartPole-v1.zip").read_bytes() == before
    command("--env", "CartPole-v1", "--out", str(tmp_path), "--overwrite", "--steps", "100")()
    assert (folder / "CartPole-v1.zip").read_bytes() != before
    assert [path.name for path in folder.parent.iterdir()] == ["CartPole-v1_1"]


def test_the_command_continues_what_was_killed(table, tmp_path, capsys, monkeypatch):
    """The second time with the same words; with others it says what is there."""
    words = ("--env", "CartPole-v1", "--out", str(tmp_path))
    monkeypatch.setattr(dqn_training.train_dqn, "__defaults__", (False, 0.0))

    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dqn_training.Keeper, "_on_training_end", killed)
        with pytest.raises(KeyboardInterrupt):
            command(*words)()
    work = tmp_path / "dqn" / "CartPole-v1_1.training"
    assert not (tmp_path / "dqn" / "CartPole-v1_1").exists()
    with pytest.raises(ValueError, match=r"holds an unfinished training with .*seed=0.*, not .*seed=1"):
        command(*words, "--seed", "1")
    capsys.readouterr()
    command(*words)()
    assert f"Continuing {work / 'step-992'}\n" in capsys.readouterr().out
    assert not work.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("place", ["_on_step", "_evaluate"])
def test_an_interrupt_waits_for_a_checkpoint_before_the_first_was_due(
    number, place, table, tmp_path, capsys, monkeypatch
):
    words = ["train-teacher", "--env", "CartPole-v1", "--out", str(tmp_path), "--quiet"]
    work = tmp_path / "dqn" / "CartPole-v1_1.training"
    method = getattr(dqn_training.Keeper, place)

    sent = []

    def interrupted(keeper):
        if keeper.num_timesteps >= 100 and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)
        return method(keeper)

    with monkeypatch.context() as patch:
        patch.setattr(dqn_training.Keeper, place, interrupted)
        assert main(words) == 128 + number
    assert f"its checkpoints are in {work}" in capsys.readouterr().err
    assert latest_checkpoint(work) is not None
    assert main(words) == 0
    assert f"Continuing {work}/step-" in capsys.readouterr().out


def test_an_interrupt_before_anything_was_learnt_says_so(table, tmp_path, capsys, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(dqn_training, "train_dqn", interrupted)
    assert main(["train-teacher", "--env", "CartPole-v1", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err.endswith("interrupted: nothing has been saved yet\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--env", "MinAtar/Breakout-v0"),
            r"^No settings for a teacher of 'MinAtar/Breakout-v0': did you mean 'MinAtar/Breakout-v1'",
        ),
        (("--env", "x"), r"choose one of CartPole-v1, MinAtar/Asterix-v1, "),
        (("--env", "CartPole-v1", "--seed", "-1"), "--seed: must be a whole number of at least 0, not '-1'"),
        (("--env", "CartPole-v1", "--steps", "0"), "--steps: must be a whole number of at least 1, not '0'"),
        (("--env", "CartPole-v1", "--threads", "0"), "--threads: must be a whole number of at least 1, not '0'"),
        (("--env", "CartPole-v1", "--device", "cpy"), "no device 'cpy' here"),
    ],
)
def test_bad_input_is_named_before_anything_is_made(tmp_path, words, message):
    with pytest.raises(ValueError, match=message):
        command(*words, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_without_the_package_nothing_is_made(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "minatar.gym", None)
    monkeypatch.delitem(sys.modules, "sb3_distill.envs.min_atar", raising=False)
    with pytest.raises(ValueError, match=r"pip install 'sb3-distill\[minatar\]'"):
        command("--env", "MinAtar/Breakout-v1", "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_command_imports_nothing_heavy():
    code = "import sys; from sb3_distill.cli.train_teacher import add_command; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"


# --- what plays -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", ["MinAtar/Seaquest-v1", "MinAtar/Freeway-v1"])
def test_a_whole_agent_fits_600_kilobytes(tmp_path, monkeypatch, env_id):
    """The largest of the games' networks after training: its folder, figure and all. And its name loses its slash."""
    monkeypatch.setattr(train_teacher, "N_EPISODES", 2)
    monkeypatch.setitem(TEACHERS, env_id, TEACHERS[env_id]._replace(n_eval_episodes=2, n_envs=2, eval_every=64))
    kwargs = dict(TEACHERS[env_id].hyperparameters) | {"learning_starts": 64, "buffer_size": 1_000}
    monkeypatch.setitem(TEACHERS, env_id, TEACHERS[env_id]._replace(hyperparameters=kwargs))
    monkeypatch.setattr(train_teacher, "MAX_EPISODE_STEPS", 50)
    monkeypatch.setattr(dqn_training, "episode_returns", lambda *args: np.random.rand(2))
    command("--env", env_id, "--out", str(tmp_path), "--steps", "256")()
    name = env_id.replace("/", "-")
    folder = tmp_path / "dqn" / f"{name}_1"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 600_000
    assert read_config(folder / name / "args.yml")["env"] == env_id
    model, teacher = DQN.load(folder / f"{name}.zip", device="cpu"), load_teacher(folder, temperature=1.0, device="cpu")
    obs = np.stack([model.observation_space.sample() for _ in range(8)])
    assert th.equal(teacher.q_values(obs), model.q_net(th.as_tensor(obs)).detach())
    assert 132_000 < teacher.n_parameters < 134_000


def test_playing_needs_neither_target_nor_optimiser(tmp_path):
    """The zip has the network once; SB3 has two of it again when it has loaded it, and trains on."""
    env = make_vec_env(CountdownEnv, 2, seed=0)
    hyperparameters = {k: v for k, v in HYPERPARAMETERS.items() if k != "policy"} | {
        "policy_kwargs": {"net_arch": [64]}
    }
    model = DQN("MlpPolicy", env, device="cpu", seed=0, **hyperparameters).learn(1_000)
    model.save(tmp_path / "whole")
    network = [p.detach().clone() for p in model.q_net.parameters()]
    assert not same_weights(network, list(model.q_net_target.parameters())), "control: SB3's target lags behind"
    save_to_play(model, tmp_path / "m.zip")
    assert same_weights(network, list(model.q_net.parameters()))
    with zipfile.ZipFile(tmp_path / "m.zip") as small, zipfile.ZipFile(tmp_path / "whole.zip") as whole:
        assert small.namelist() == whole.namelist()
        n_bytes = 4 * sum(p.numel() for p in network)
        assert n_bytes < small.getinfo("policy.pth").file_size < n_bytes + 5_000
        assert whole.getinfo("policy.pth").file_size > 2 * n_bytes
        assert small.getinfo("policy.optimizer.pth").file_size < 5_000
    loaded = DQN.load(tmp_path / "m.zip", env=env, device="cpu")
    assert same_weights(network, list(loaded.q_net.parameters()))
    assert same_weights(network, list(loaded.q_net_target.parameters()))
    loaded.learn(500)
    assert not same_weights(network, list(loaded.q_net.parameters()))
    assert isinstance(loaded.replay_buffer, NStepReplayBuffer)
    assert not same_weights(list(loaded.q_net.parameters()), list(loaded.q_net_target.parameters()))


# --- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", TEACHERS)
def test_every_line_of_the_table_makes_a_dqn(env_id):
    """Its arguments are SB3's, and its config.yml says the same in plain values, which the RL Zoo's scripts evaluate."""
    settings = TEACHERS[env_id]
    kwargs = dict(settings.hyperparameters) | {"buffer_size": 100}
    env = train_teacher.Job(env_id, settings, 0, Path()).make_envs(2, 0)
    model = DQN(kwargs.pop("policy"), env, device="cpu", **kwargs)
    config = yaml.safe_load(yaml.safe_dump(train_teacher.config(settings)))
    rate = settings.hyperparameters["learning_rate"]
    if isinstance(rate, LinearSchedule):  # what "lin_" means there
        assert config["learning_rate"] == f"lin_{rate.start}" and (rate.end, rate.end_fraction) == (0, 1)
    assert config["n_timesteps"] == settings.n_timesteps and config["n_envs"] == settings.n_envs
    kwargs = config.get("policy_kwargs", "{}")
    assert eval(kwargs, {"MinAtarCNN": MinAtarCNN}) == settings.hyperparameters.get("policy_kwargs", {})
    if env_id.startswith("MinAtar/"):
        assert type(model.q_net.features_extractor) is MinAtarCNN
        assert [layer.out_features for layer in model.q_net.q_net] == [env.action_space.n]
    assert settings.eval_every % settings.n_envs == 0


def test_the_five_games_are_there():
    games = ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")
    assert {f"MinAtar/{game}-v1" for game in games} | {"CartPole-v1"} <= set(TEACHERS)


def test_what_environments_have_is_in_the_config():
    settings = QUICK._replace(environment={"frame_stack": 4, "env_wrapper": ["AtariWrapper"]})
    config = train_teacher.config(settings)
    assert (config["frame_stack"], config["env_wrapper"]) == (4, ["AtariWrapper"])


def test_pongs_teacher_learns_where_its_config_says():
    settings = TEACHERS["PongNoFrameskip-v4"]
    told = training("PongNoFrameskip-v4", train_teacher.config(settings), None, Path()).atari
    assert told is not None and told.pop("frame_stack") == 4
    steps = []
    job = train_teacher.Job("PongNoFrameskip-v4", settings, 0, Path())
    for env in (job.make_envs(2, 0), make_atari_vec_env("Pong", n_envs=2, seed=0, action_repeat_probability=STICKY)):
        env.reset()
        rng = np.random.default_rng(0)
        steps.append([env.step(rng.integers(6, size=2))[0].tobytes() for _ in range(40)])
        env.close()
    assert steps[0] == steps[1] and told["action_repeat_probability"] == STICKY


def test_arguments_as_text():
    """As the RL Zoo's files have them."""
    value = {"net_arch": [4], "activation_fn": nn.ReLU, "features_extractor_kwargs": {"filters": (8,)}, "name": "a"}
    text = train_teacher.as_text(value)
    assert text == ("dict(net_arch=[4], activation_fn=ReLU, features_extractor_kwargs=dict(filters=(8,)), name='a')")
    assert train_teacher.as_text(LinearSchedule(1e-3, 0.0, 1.0)) == "lin_0.001"


def test_evaluation_is_sb3s(tmp_path):
    """With whole episodes by ``Monitor``, in the environments that are given; SB3 has the shortest first."""
    trained = train_dqn(make_cartpoles, QUICK._replace(n_timesteps=256), 0, tmp_path)
    returns, _ = evaluate_policy(trained.best, make_cartpoles(3, 2), 3, return_episode_rewards=True)
    assert len(set(returns)) > 1, "control"
    assert sorted(trained.evaluations[0].returns) == returns


def test_evaluations_are_of_the_same_games_and_cut(tmp_path, monkeypatch):
    """A network is compared with the one before it, not their luck; a game without an end does not stop the training."""
    played = []

    def play(*args):
        played.append(args[2:])
        return episode_returns(*args)

    monkeypatch.setattr(dqn_training, "episode_returns", play)
    monkeypatch.setattr(dqn_training, "MAX_EVALUATED_STEPS", 5)
    trained = train_dqn(make_cartpoles, QUICK._replace(n_timesteps=512), 0, tmp_path)
    assert played == [(3, 2, 5)] * 2
    assert [e.returns.tolist() for e in trained.evaluations] == [[5, 5, 5]] * 2


def test_an_id_with_a_slash_is_found_as_it_was_filed(tmp_path, monkeypatch):
    """rl_zoo3 files MinAtar/Breakout-v0 as MinAtar-Breakout-v0; the name with the slash finds it, and its environment."""
    folder = tmp_path / "dqn" / "MinAtar-Breakout-v0_1"
    shutil.copytree(BUNDLED / "dqn" / "CartPole-v1_1", folder)
    (folder / "CartPole-v1.zip").rename(folder / "MinAtar-Breakout-v0.zip")
    (folder / "CartPole-v1").rename(folder / "MinAtar-Breakout-v0")
    (folder / "MinAtar-Breakout-v0" / "args.yml").write_text("{algo: dqn, env: MinAtar/Breakout-v0, seed: 0}")
    monkeypatch.setenv("RL_TRAINED_AGENTS", str(tmp_path))
    agent = find_agent("zoo:dqn/MinAtar/Breakout-v0")
    training = read_training_of(agent)
    assert agent.checkpoint == folder / "MinAtar-Breakout-v0.zip"
    assert training is not None and training.env_id == "MinAtar/Breakout-v0"


def test_stops_at_a_return(tmp_path):
    """After the first evaluation that has it, and not before."""
    settings = TeacherSettings({}, 100, 10, stop_at=5.0)
    keeper = dqn_training.Keeper(None, 0, settings, tmp_path, 60)
    keeper.num_timesteps = 9
    assert keeper._on_step()
    keeper.evaluations.append(dqn_training.Evaluation(9, np.array([4.0, 5.0])))
    assert keeper._on_step()
    keeper.evaluations.append(dqn_training.Evaluation(9, np.array([5.0, 5.0])))
    assert not keeper._on_step()
