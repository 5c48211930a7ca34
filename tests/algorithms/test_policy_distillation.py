"""Policy distillation as an algorithm of SB3's kind: what it plays, keeps, learns from, counts, saves and refuses."""

import io
import os
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper, VecFrameStack, VecNormalize, VecTransposeImage
from stable_baselines3.dqn.policies import DQNPolicy

from envs_for_tests import ACTION_SPACES, DICT_SPACE, IMAGE_SPACE, Chain, CountdownEnv, actor_critic_teacher
from sb3_distill import load_teacher
from sb3_distill.algorithms.policy_distillation import READ_AHEAD, PolicyDistillation
from sb3_distill.evaluation.episodes import episode_returns, greedy
from sb3_distill.memory.memory import About
from sb3_distill.memory.ring import RingMemory
from sb3_distill.rules.temperature import softest_by_confidence
from sb3_distill.teachers.fingerprint import fingerprint_of
from sb3_distill.teachers.q_network import QTeacher

SMALL = dict(policy_kwargs=dict(net_arch=[16]), device="cpu", batch_size=16, train_freq=16)


def q_teacher(observation_space=None, action_space=None, seed=0, **kwargs):
    """A DQN teacher with random weights, whose greedy action depends on the state."""
    th.manual_seed(seed)
    observation_space = observation_space or spaces.Box(-1.0, 1.0, (3,), np.float32)
    policy = DQNPolicy(observation_space, action_space or spaces.Discrete(3), lambda _: 0.0, net_arch=[16])
    for parameter in policy.parameters():
        parameter.data *= 4
    return QTeacher(policy, temperature=1.0, name=kwargs.pop("name", "random"), **kwargs)


def countdown(n_envs=2, **kwargs):
    env = DummyVecEnv([lambda: CountdownEnv(**kwargs)] * n_envs)
    env.seed(0)
    return env


def make(env=None, teacher=None, policy="MlpPolicy", **kwargs):
    return PolicyDistillation(policy, env, teacher=teacher, **({"seed": 0} | SMALL | kwargs))


def channels_first(env):
    """The space of an environment's images as SB3's policies have it."""
    return VecTransposeImage.transpose_space(env.observation_space)


def recorded(n=200, teacher=None, space=None, seed=0):
    """A memory of random states."""
    teacher = teacher or q_teacher(space)
    kind = "q_values" if isinstance(teacher, QTeacher) else "parameters"
    memory = RingMemory(n, About("Env-v0", teacher.name, teacher.observation_space, teacher.action_space, kind))
    teacher.observation_space.seed(seed)
    for _ in range(n):
        obs = teacher.observation_space.sample()
        batch = {k: v[None] for k, v in obs.items()} if isinstance(obs, dict) else obs[None]
        answers = teacher.q_values(batch) if kind == "q_values" else teacher.answer(batch).parameters
        memory.add(batch, answers.numpy())
    return memory


def contents(model):
    """All states of a model's memory, with their answers."""
    (batch,) = model.replay_buffer.batches(10**6, 0)
    return batch


def weights(model):
    return {key: value.clone() for key, value in model.policy.state_dict().items() if "target" not in key}


def same(a, b):
    return a.keys() == b.keys() and all(th.equal(a[key], b[key]) for key in a)


class Actions(VecEnvWrapper):
    """Remembers what was done where."""

    def __init__(self, venv):
        super().__init__(venv)
        self.done = []

    def reset(self):
        self.obs = self.venv.reset()
        return self.obs

    def step_async(self, actions):
        self.done.append((np.array(self.obs), np.array(actions)))
        self.venv.step_async(actions)

    def step_wait(self):
        step = self.venv.step_wait()
        self.obs = step[0]
        return step

    def agreement(self, act):
        """How often what was done is what somebody would do."""
        return np.mean([np.mean(actions == act(obs)) for obs, actions in self.done])


# --- it learns --------------------------------------------------------------------------------------------------------


def test_a_small_student_reaches_the_zoos_teacher():
    """CartPole's DQN of 67,586 parameters and 500 points, in 386 parameters and 4,096 steps, with no setting of one's own."""
    teacher = load_teacher("zoo:dqn/CartPole-v1", temperature=1.0)
    env = make_vec_env("CartPole-v1", 8, seed=0)
    kwargs = dict(policy_kwargs=dict(net_arch=[16, 16]), seed=0, device="cpu")
    student = PolicyDistillation("MlpPolicy", env, teacher=teacher, **kwargs).learn(4_096)
    assert episode_returns(greedy(student.predict), "CartPole-v1", 6, 2_000_000).mean() > 475
    offline = PolicyDistillation("MlpPolicy", memory=student.replay_buffer, student="ppo", **kwargs).learn(2_000)
    assert episode_returns(greedy(offline.predict), "CartPole-v1", 6, 2_000_000).mean() > 475


@pytest.mark.parametrize(
    ("loss", "student"), [("kl", "dqn"), ("nll", "dqn"), ("mse", "dqn"), ("kl", "ppo"), ("nll", "ppo")]
)
def test_each_loss_falls_and_the_student_does_what_the_teacher_does(loss, student):
    memory = recorded(400)
    model = make(memory=memory, loss=loss, student=student, temperature=0.1, learning_rate=1e-2)
    seen = []

    class Keep(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):
            seen.append(self.logger.name_to_value["distill/loss"])

    model.learn(500, callback=Keep())
    assert np.mean(seen[-5:]) < 0.5 * np.mean(seen[:3])
    (batch,) = memory.batches(400, 0)
    agreement = (model.predict(batch.observations, deterministic=True)[0] == batch.answers.argmax(1)).mean()
    assert agreement > 0.85


def test_mse_is_in_units_of_the_environments_reward():
    """A teacher trained on normalised rewards has its Q-values in others."""
    teacher = q_teacher(value_scale=5.0)
    model = make(countdown(), teacher, loss="mse").learn(32)
    batch = contents(model)
    with th.no_grad():
        in_own_units = teacher.policy.q_net(th.as_tensor(batch.observations)).numpy()
    assert np.allclose(batch.answers, 5 * in_own_units, atol=1e-5)


@cache
def reader_of_plain_units(loss):
    return make(memory=recorded(400), loss=loss, learning_rate=3e-3).learn(300)


@pytest.mark.parametrize(("scale", "offset"), [(1e-6, 0.0), (1e-3, 1e3), (1e6, 1e3)])
@pytest.mark.parametrize("loss", ["kl", "nll", "mse"])
def test_the_unit_of_the_reward_does_not_matter(loss, scale, offset):
    """Q → cQ + b: the same student but for rounding, which training makes larger. With "mse" its Q-values are in the teacher's units."""
    plain = recorded(400)
    other = recorded(400)
    unit = plain._answers.std()
    other._answers = ((plain._answers.astype(np.float64) + offset * unit) * scale).astype(np.float32)
    students = [reader_of_plain_units(loss), make(memory=other, loss=loss, learning_rate=3e-3).learn(300)]
    (batch,) = plain.batches(400, 0)
    obs = th.as_tensor(batch.observations)
    with th.no_grad():
        first, second = (student.policy.q_net(obs).double().numpy() for student in students)
    if loss == "mse":
        second = second / scale - offset * unit
        tolerance = 0.02 * unit
    else:
        tolerance = 0.02 * first.std()
    assert np.abs(second - first).mean() < tolerance
    assert (first.argmax(1) == second.argmax(1)).mean() > 0.98
    assert (first.argmax(1) == batch.answers.argmax(1)).mean() > 0.8


def test_auto_is_the_temperature_at_which_the_teacher_is_sure():
    """Of the states in the memory; anew for another teacher, and saved as "auto"."""
    memory = recorded(400)
    model = make(memory=memory).learn(20)
    (batch,) = memory.batches(400, 0)
    assert model.chosen_temperature == pytest.approx(softest_by_confidence(th.as_tensor(batch.answers)).temperature)
    assert model.logger.name_to_value["distill/temperature"] == model.chosen_temperature
    assert (model.temperature, make(memory=memory, temperature=0.3).chosen_temperature) == ("auto", 0.3)
    playing = make(countdown(8), q_teacher(), train_freq=64, gradient_steps=1).learn(600)
    softer = playing.chosen_temperature
    teacher = q_teacher()
    teacher.value_scale = 1e3
    playing.set_teacher(teacher)
    assert (playing.chosen_temperature, playing.temperature_report) == (None, "not chosen yet")
    assert playing.learn(600).chosen_temperature == pytest.approx(1e3 * softer, rel=0.5)


def test_mse_is_shown_in_the_teachers_units_at_every_time(tmp_path):
    """To callbacks, in a file, to another run, and for another teacher: what is learnt in other units is nobody's business."""
    memory = recorded(400)
    memory._answers = memory._answers * 1e4 + 1e6
    (batch,) = memory.batches(400, 0)
    obs = th.as_tensor(batch.observations)
    distances = []

    def distance(q_net):
        with th.no_grad():
            return float((q_net(obs).numpy() - batch.answers).std() / batch.answers.std())

    class Watch(BaseCallback):
        def _on_step(self):
            distances.append(distance(self.model.policy.q_net))
            return True

    model = make(memory=memory, loss="mse", learning_rate=3e-3).learn(600, callback=Watch())
    assert np.mean(distances[-50:]) < 0.3 < distances[0] and max(distances[:50]) < 3
    model.save(tmp_path / "student")
    assert distance(DQN.load(tmp_path / "student", device="cpu").q_net) == pytest.approx(distance(model.policy.q_net))
    again = PolicyDistillation.load(tmp_path / "student", memory=memory, device="cpu", learning_rate=0.0).learn(20)
    assert distance(again.policy.q_net) == pytest.approx(distance(model.policy.q_net), rel=1e-2)


@pytest.mark.parametrize("actions", list(ACTION_SPACES))
def test_an_actor_critic_teaches_actions_of_every_kind(actions):
    """The KL of its own distribution falls, playing and reading; the student acts as an environment wants it."""
    env = countdown(action_space=ACTION_SPACES[actions])
    teacher = actor_critic_teacher(env)
    model = make(env, teacher, student="ppo", dagger=0.5, learning_rate=1e-2)
    model.learn(64)
    first = model.logger.name_to_value["distill/loss"]
    model.learn(256)
    assert model.logger.name_to_value["distill/loss"] < 0.5 * first
    reader = make(memory=model.replay_buffer, student="ppo").learn(50)
    assert env.action_space.contains(reader.predict(contents(model).observations[0], deterministic=True)[0])


# --- what the memory holds ---------------------------------------------------------------------------------------------


class Overwriting(VecEnvWrapper):
    """Gives the same array at every step, as fast environments do."""

    def reset(self):
        self.array = np.array(self.venv.reset())
        return self.array

    def step_wait(self):
        obs, rewards, dones, infos = self.venv.step_wait()
        self.array[:] = obs
        return self.array, rewards, dones, infos


@pytest.mark.parametrize(
    "wrap", [lambda env: env, Overwriting, VecNormalize], ids=["plain", "overwriting", "normalised"]
)
def test_every_state_has_its_own_answer(wrap):
    """Also at ends of episodes, if the environment overwrites its arrays, and beneath VecNormalize, where states are raw."""
    teacher = q_teacher()
    model = make(wrap(countdown()), teacher).learn(64)
    batch = contents(model)
    assert len(batch.answers) == 64
    assert batch.observations.dtype == np.float32
    assert len(np.unique(batch.observations, axis=0)) == 64
    assert np.allclose(batch.answers, teacher.q_values(batch.observations).numpy(), atol=1e-6)


def test_the_states_are_those_that_were_acted_in():
    """First ones of episodes are among them, terminal ones are not; in the order in which they came."""
    env = DummyVecEnv([Chain])
    teacher = q_teacher(env.observation_space, env.action_space)
    teacher.policy.q_net.q_net[-1].weight.data[:] = 0
    teacher.policy.q_net.q_net[-1].bias.data = th.tensor([0.0, 1.0])  # always to the right
    model = make(env, teacher, epsilon=0.0).learn(16)
    # The fifth step ends the episode, in a state that looks like the fifth cell and is not acted in.
    cells = model.replay_buffer._observations[""].argmax(1)[:16]
    assert cells.tolist() == [0, 1, 2, 3, 4] * 3 + [0]


def test_the_student_learns_from_what_it_sees_itself():
    """Beneath VecNormalize the memory is raw, and a minibatch is normalised with the statistics of now, as SB3 does it."""
    env = VecNormalize(countdown())
    model = make(env, q_teacher()).learn(64)
    env.obs_rms.mean, env.obs_rms.var = np.full(3, 5.0), np.full(3, 4.0)
    raw = contents(model).observations
    obs, answers = next(model._minibatches())
    distances = np.abs(obs.numpy()[:, None] - (raw[None] - 5) / 2).max(-1)
    assert distances.min(1).max() < 1e-5
    assert len(set(distances.argmin(1))) == 16
    assert answers.shape == (16, 3)


def test_a_teacher_that_sees_other_things_than_its_student():
    """A stack of frames of its own, kept up with every step; the memory holds the student's states."""
    env = countdown()
    space = VecFrameStack(countdown(), 2).observation_space
    teacher = q_teacher(space)
    model = make(env, teacher, teacher_obs=lambda venv: VecFrameStack(venv, 2)).learn(64)
    states, answers = model.replay_buffer._observations[""][:64].reshape(32, 2, 3), model.replay_buffer._answers[:64]
    for step, row in enumerate(answers.reshape(32, 2, 3)):
        before = np.zeros((2, 3)) if step % 5 == 0 else states[step - 1]
        seen = np.concatenate([before, states[step]], axis=1).astype(np.float32)
        assert np.allclose(row, teacher.q_values(seen).numpy(), atol=1e-6)


def test_a_memory_is_of_one_teacher():
    """Another teacher begins a new one; the same one goes on with its own, in another environment too."""
    model = make(countdown(), q_teacher()).learn(32)
    model.learn(32)
    assert len(model.replay_buffer) == 64
    model.set_env(countdown())
    model.learn(32)
    assert len(model.replay_buffer) == 96
    model.teacher = q_teacher(seed=1, name="other")
    model.learn(32)
    assert len(model.replay_buffer) == 32
    assert model.replay_buffer.about.teacher == "other"


def test_a_live_teacher_that_has_learnt_on_begins_a_new_memory():
    """Its old answers are another policy's, and the file that is saved says whose they are."""
    teacher = q_teacher()
    model = make(countdown(), teacher).learn(32)
    with th.no_grad():
        next(teacher.policy.q_net.parameters()).add_(1.0)
    with pytest.warns(
        UserWarning, match=r"has changed since it gave the answers .* the memory of 32 states begins anew"
    ):
        model.learn(32)
    assert len(model.replay_buffer) == 32
    assert model.replay_buffer.about.fingerprint == fingerprint_of(teacher)


def test_a_memory_of_an_older_version_goes_on():
    """Its file has no fingerprint to compare."""
    model = make(countdown(), q_teacher()).learn(32)
    model.replay_buffer.about = model.replay_buffer.about._replace(fingerprint=None)
    model.learn(32)
    assert len(model.replay_buffer) == 64


def test_frames_are_kept_once():
    """Of a stack of four, a quarter of the bytes; and what is read is what the environment gave."""
    env = VecFrameStack(countdown(observation_space=IMAGE_SPACE), 4)
    model = make(env, q_teacher(channels_first(env)), policy="CnnPolicy", gradient_steps=0, buffer_size=600).learn(640)
    frames = model.replay_buffer._frames
    assert frames.frames.nbytes < 0.27 * 600 * 4 * 36 * 36
    batch = contents(model)
    answers = model.teacher.q_values(batch.observations).numpy()
    assert np.allclose(batch.answers, answers, atol=1e-4)


# --- who acts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_dagger_is_the_share_of_the_teachers_actions(beta):
    """With students that never do what the teacher does, the two can be told apart; the answers are the teacher's always."""
    teacher = q_teacher()
    env = Actions(countdown(4))
    model = make(env, teacher, epsilon=0.0, dagger=beta, gradient_steps=0)
    last = model.policy.q_net.q_net[-1]
    last.weight.data[:] = 0
    last.bias.data = th.tensor([0.0, 0.0, 1.0])
    teacher.policy.q_net.q_net[-1].bias.data[2] = -1e3
    model.learn(2_000)
    assert env.agreement(teacher.act) == pytest.approx(beta, abs=0.05)
    assert env.agreement(lambda obs: 2) == pytest.approx(1 - beta, abs=0.05)
    batch = contents(model)
    # Sums of float32 numbers of about 1 are rounded in another order in a batch of another size: 0 is only 0 up to 1e-6.
    assert np.allclose(batch.answers, teacher.q_values(batch.observations).numpy(), rtol=1e-4, atol=1e-6)


def test_beta_is_dagger_by_the_name_that_it_has_everywhere(tmp_path):
    """The old name works, in files too; both at once say two things."""
    env = countdown()
    assert make(env, q_teacher(), dagger=0.25).beta == 0.25 == make(env, q_teacher(), beta=0.25).dagger
    with pytest.raises(ValueError, match=r"former name of beta=0\.5: give beta alone"):
        make(env, q_teacher(), dagger=0.25, beta=0.5)
    model = make(env, q_teacher(), beta=0.5)
    vars(model)["dagger"] = vars(model).pop("beta")  # as such files were
    model.save(tmp_path / "old")
    assert PolicyDistillation.load(tmp_path / "old", env=env).beta == 0.5
    with pytest.raises(ValueError, match="Unknown beta_per 'rollout'"):
        make(env, q_teacher(), beta_per="rollout")


def test_one_who_is_drawn_for_an_episode_acts_to_its_end():
    """With students that never do what the teacher does: all steps of an episode are one player's."""
    teacher = q_teacher()
    env = Actions(countdown(4))
    model = make(env, teacher, epsilon=0.0, beta=0.5, beta_per="episode", gradient_steps=0)
    last = model.policy.q_net.q_net[-1]
    last.weight.data[:] = 0
    last.bias.data = th.tensor([0.0, 0.0, 1.0])
    teacher.policy.q_net.q_net[-1].bias.data[2] = -1e3
    model.learn(1_000)
    students = np.stack([actions == 2 for _, actions in env.done])
    switches = (students[1:] != students[:-1]).mean()
    assert 0.3 < students.mean() < 0.7 and 0 < switches < 0.15  # 0.5 if drawn at each step; an episode has five


def test_dagger_may_be_a_schedule():
    """The teacher acts less and less: over the first half of the steps, then not at all."""
    env = Actions(countdown(4))
    teacher = q_teacher()
    model = make(env, teacher, epsilon=0.0, dagger=LinearSchedule(1.0, 0.0, 0.5), gradient_steps=0)
    teacher.policy.q_net.q_net[-1].bias.data[2] = -1e3
    last = model.policy.q_net.q_net[-1]
    last.weight.data[:] = 0
    last.bias.data = th.tensor([0.0, 0.0, 1.0])
    model.learn(4_000)
    students = np.array([(actions == 2).mean() for _, actions in env.done]).reshape(4, -1).mean(1)
    assert students == pytest.approx([0.25, 0.75, 1.0, 1.0], abs=0.06)
    env.done.clear()
    model.learn(4)  # a new run begins with the teacher, not where the last one ended
    assert not (env.done[0][1] == 2).any()


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_epsilon_is_the_share_of_random_actions(epsilon):
    teacher = q_teacher()
    env = Actions(countdown(4))
    make(env, teacher, epsilon=epsilon, gradient_steps=0).learn(4_000)
    assert env.agreement(teacher.act) == pytest.approx(1 - epsilon + epsilon / 3, abs=0.03)


# --- steps, rounds and callbacks --------------------------------------------------------------------------------------


class Count(BaseCallback):
    """Counts what it hears, and may stop."""

    def __init__(self, stop_at=None):
        super().__init__()
        self.stop_at, self.rounds, self.updates = stop_at, 0, []

    def _on_rollout_start(self):
        self.rounds += 1
        self.updates.append(self.model._n_updates)

    def _on_step(self):
        return self.n_calls != self.stop_at


def test_with_an_environment_timesteps_are_its_steps():
    """Rounds of 16 steps of 2 environments; the last one is played to its end; as many updates as steps, or what is said."""
    count = Count()
    model = make(countdown(), q_teacher()).learn(80, callback=count)
    assert (model.num_timesteps, count.n_calls, count.rounds) == (96, 48, 3)
    assert model._n_updates == 96
    assert make(countdown(), q_teacher(), gradient_steps=5).learn(80)._n_updates == 15


def test_with_a_memory_timesteps_are_minibatches():
    """Exactly as many updates, and callbacks see the student after each; rounds are for the log."""
    count = Count()
    model = make(memory=recorded()).learn(40, callback=count)
    assert (model.num_timesteps, count.n_calls, model._n_updates) == (40, 40, 40)
    assert count.updates == [0, 16, 32]
    assert model.get_env() is None
    model.learn(10, reset_num_timesteps=False)
    assert (model.num_timesteps, model._n_updates) == (50, 50)


@pytest.mark.parametrize("mode", ["playing", "reading"])
def test_a_callback_may_stop_it_and_it_goes_on(mode):
    """What is counted has happened; the next run begins with an episode, so that frames stay whole."""
    env = VecFrameStack(countdown(observation_space=IMAGE_SPACE), 2)
    teacher = q_teacher(channels_first(env))
    kwargs = dict(policy="CnnPolicy", gradient_steps=2)
    model = make(env, teacher, **kwargs) if mode == "playing" else make(memory=recorded(20, teacher), **kwargs)
    model.learn(64, callback=Count(stop_at=3))
    assert model.num_timesteps == (6 if mode == "playing" else 3)
    assert model._n_updates == (0 if mode == "playing" else 3)
    model.learn(32, reset_num_timesteps=False)
    assert model.num_timesteps == (38 if mode == "playing" else 35)


@pytest.mark.parametrize("mode", ["playing", "reading"])
def test_sb3s_callbacks_and_progress_bar(mode, tmp_path):
    """Evaluation, checkpoints and the bar find what they look for, with an environment and without."""
    env = countdown()
    model = make(env, q_teacher()) if mode == "playing" else make(memory=recorded())
    evaluation = EvalCallback(countdown(1), eval_freq=8, n_eval_episodes=1, log_path=str(tmp_path), verbose=0)
    checkpoints = CheckpointCallback(16, str(tmp_path / "checkpoints"))
    model.learn(64, callback=[evaluation, checkpoints], progress_bar=True)
    n_calls = 32 if mode == "playing" else 64
    assert np.load(tmp_path / "evaluations.npz")["timesteps"].tolist() == [
        k * (2 if mode == "playing" else 1) for k in range(8, n_calls + 1, 8)
    ]
    assert len(list((tmp_path / "checkpoints").iterdir())) == n_calls // 16


def test_the_network_is_trained_in_training_mode_and_plays_in_the_other():
    """Dropout is on in every update, after a callback has played too, and off when the student or the teacher acts."""
    modes = {"forward": [], "predict": []}

    class Dropping(DQNPolicy):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.q_net.register_forward_pre_hook(lambda net, _: modes["forward"].append(net.training))

    class Play(BaseCallback):
        def _on_step(self):
            modes["forward"].clear()
            self.model.predict(np.zeros((1, 3), np.float32))
            modes["predict"] += modes["forward"]
            modes["forward"].clear()
            return True

        def _on_rollout_end(self):
            modes["forward"].clear()

    model = PolicyDistillation(Dropping, countdown(), teacher=q_teacher(), dagger=0.0, seed=0, **SMALL)
    model.learn(32, callback=Play())
    assert modes["predict"] == [False] * 16
    assert modes["forward"] == [True] * 32
    modes["forward"].clear()
    reader = PolicyDistillation(Dropping, memory=recorded(), seed=0, **SMALL)
    seen = []

    class PlayAndLook(Play):
        def _on_step(self):
            seen.extend(modes["forward"])
            return super()._on_step()

    reader.learn(5, callback=PlayAndLook())
    assert seen == [True] * 5


@pytest.mark.parametrize("n", [100, 16 * READ_AHEAD + 5])
def test_minibatches_are_whole_and_a_pass_has_no_state_twice(n):
    """What is left of a pass is left out, unless the memory is smaller than a minibatch."""
    stream = make(memory=recorded(n))._minibatches()
    passes = [[next(stream)[0] for _ in range(n // 16)] for _ in range(2)]
    for minibatches in passes:
        assert [len(obs) for obs in minibatches] == [16] * (n // 16)
        assert len({tuple(row) for obs in minibatches for row in obs.tolist()}) == 16 * (n // 16)
    assert not th.equal(passes[0][0], passes[1][0])
    assert len(next(make(memory=recorded(7))._minibatches())[1]) == 7


def test_fewer_calls_are_the_same_arithmetic():
    """To the bit: updating all parameters at once, and one by one."""

    def run(**optimizer_kwargs):
        kwargs = dict(policy_kwargs=dict(net_arch=[16], optimizer_kwargs=optimizer_kwargs))
        return make(memory=recorded(), **kwargs).learn(20)

    at_once, one_by_one = run(), run(foreach=False)
    groups = [model.policy.optimizer.param_groups[0] for model in (at_once, one_by_one)]
    assert [group["foreach"] for group in groups] == [True, False]
    assert same(weights(at_once), weights(one_by_one))


@pytest.mark.parametrize("mode", ["playing", "reading"])
def test_a_seed_decides_everything(mode):
    """Networks, random actions, and the order of states."""

    def run(seed):
        if mode == "playing":
            model = make(countdown(), q_teacher(), dagger=0.5, seed=seed)
        else:
            model = make(memory=recorded(), seed=seed)
        np.random.seed(np.random.randint(1 << 30))  # whatever the global state is
        return weights(model.learn(64))

    assert same(run(3), run(3))
    assert not same(run(3), run(4))


def test_playing_leaves_the_global_random_state_alone():
    """So that a student which follows a teacher does not change what that teacher learns."""
    model = make(countdown(), q_teacher(), dagger=0.5)
    numpy_state, torch_state = np.random.get_state()[1].copy(), th.get_rng_state()
    model.learn(64)
    assert np.array_equal(numpy_state, np.random.get_state()[1])
    assert th.equal(torch_state, th.get_rng_state())


# --- observations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("student", ["dqn", "ppo"])
@pytest.mark.parametrize("kind", ["dict", "image", "number"])
def test_a_student_of_a_memory_is_that_of_an_environment(kind, student):
    """Dicts, images and numbers: the same spaces, channels first included, and the same preprocessing."""
    space, policy = {
        "dict": (DICT_SPACE, "MultiInputPolicy"),
        "image": (IMAGE_SPACE, "CnnPolicy"),
        "number": (spaces.Discrete(7), "MlpPolicy"),
    }[kind]
    env = countdown(observation_space=space)
    teacher = actor_critic_teacher(VecTransposeImage(env) if kind == "image" else env)
    played = make(env, teacher, policy, student=student, gradient_steps=2).learn(32)
    read = make(memory=played.replay_buffer, policy=policy, student=student).learn(3)
    assert read.observation_space == played.observation_space
    assert read.action_space == played.action_space
    # As an environment gives them, with the channels last.
    as_given = RingMemory(20, read.memory.about._replace(observation_space=space))
    as_given.add(env.reset(), np.zeros((2, 3), np.float32))
    last = make(memory=as_given, policy=policy, student=student).learn(3)
    assert last.observation_space == played.observation_space
    obs = env.reset()
    assert read.predict(obs, deterministic=True)[0].shape == (2,)


# --- saving -----------------------------------------------------------------------------------------------------------


LOADS_WITHOUT_US = """
import sys
sys.modules["sb3_distill"] = None  # importing it fails
import numpy as np, stable_baselines3
model = getattr(stable_baselines3, sys.argv[1]).load(sys.argv[2], device="cpu")
print(model.predict(np.load(sys.argv[3]), deterministic=True)[0].tolist())
"""


@pytest.mark.parametrize("student", ["dqn", "ppo"])
def test_the_zip_is_sb3s(student, tmp_path):
    """It loads where this package is not installed, plays the same, has no teacher in it, and is for SB3 to learn on with."""
    algorithm = {"dqn": DQN, "ppo": PPO}[student]
    env = countdown()
    model = make(env, q_teacher(), student=student, dagger=LinearSchedule(1.0, 0.5, 0.5)).learn(64)
    model.save(tmp_path / "student")
    obs = contents(model).observations
    np.save(tmp_path / "obs.npy", obs)
    expected = model.predict(obs, deterministic=True)[0].tolist()
    command = [
        sys.executable,
        "-c",
        LOADS_WITHOUT_US,
        algorithm.__name__,
        tmp_path / "student.zip",
        tmp_path / "obs.npy",
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == str(expected), done.stderr
    plain = algorithm.load(tmp_path / "student", env=env, device="cpu")
    assert not {"teacher", "memory", "_rng"} & set(vars(plain))
    if student == "dqn":
        assert all(
            th.equal(a, b)
            for a, b in zip(plain.q_net.state_dict().values(), plain.q_net_target.state_dict().values(), strict=True)
        )
    else:
        assert plain.n_steps == 2_048  # PPO's own
        plain = algorithm.load(tmp_path / "student.zip", env=env, device="cpu", n_steps=64)
    plain.learn(130)
    assert load_teacher(tmp_path / "student.zip", **({"temperature": 1.0} if student == "dqn" else {})).n_parameters > 0


@pytest.mark.parametrize("student", ["dqn", "ppo"])
@pytest.mark.parametrize("mode", ["playing", "reading"])
def test_load_resumes(mode, student, tmp_path):
    """Settings, counts and the optimiser's moments come back; teacher and memory are given again."""
    sources = dict(env=countdown(), teacher=q_teacher()) if mode == "playing" else dict(memory=recorded())
    model = make(**sources, student=student, loss="nll", epsilon=0.2, dagger=1.0, learning_rate=1e-3).learn(64)
    file = io.BytesIO()
    model.save(file)
    again = PolicyDistillation.load(file, device="cpu", **sources)
    assert same(weights(model), weights(again))
    assert (again.loss, again.epsilon, again.student) == ("nll", 0.2, student)
    assert (again.num_timesteps, again._n_updates, again.batch_size) == (64, 64, 16)
    moments = [m.policy.optimizer.state_dict()["state"] for m in (model, again)]
    assert moments[0].keys() == moments[1].keys() and len(moments[0]) > 0
    assert all(th.equal(moments[0][k]["exp_avg"], moments[1][k]["exp_avg"]) for k in moments[0])
    again.learn(32, reset_num_timesteps=False)
    assert (again.num_timesteps, again._n_updates) == (96, 96)
    assert not same(weights(model), weights(again))
    alone = PolicyDistillation.load(file, device="cpu")
    assert np.array_equal(alone.predict(np.zeros(3))[0], model.predict(np.zeros(3))[0])
    with pytest.raises(ValueError, match="has no teacher to learn from"):
        alone.learn(10)
    alone.teacher = q_teacher()
    with pytest.raises(ValueError, match="no environment to play in"):
        alone.learn(10)
    alone.set_env(countdown(alone.n_envs))
    alone.learn(10)


ENJOYS_BOTH = """
import sys
from rl_zoo3.enjoy import enjoy
for algo in ("dqn", "ppo"):
    sys.argv = ["enjoy", "--algo", algo, "--env", "CartPole-v1", "-f", sys.argv[-1]]
    sys.argv[1:1] = ["--no-render", "-n", "1100", "--device", "cpu"]
    enjoy()
"""


def test_it_plays_in_rl_zoo3s_enjoy(tmp_path):
    """As dqn or ppo, from a folder in the zoo's layout."""
    env = make_vec_env("CartPole-v1", 4, seed=0)
    teacher = load_teacher("zoo:dqn/CartPole-v1", temperature=1.0)
    for student in ("dqn", "ppo"):
        model = PolicyDistillation("MlpPolicy", env, teacher=teacher, student=student, seed=0, device="cpu")
        folder = tmp_path / student / "CartPole-v1_1"
        (folder / "CartPole-v1").mkdir(parents=True)
        (folder / "CartPole-v1" / "config.yml").write_text("!!python/object/apply:collections.OrderedDict\n- []\n")
        model.learn(2_048).save(folder / "CartPole-v1")
    command = [sys.executable, "-c", ENJOYS_BOTH, str(tmp_path)]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    rewards = [float(line.split(": ")[1]) for line in done.stdout.splitlines() if line.startswith("Episode Reward")]
    assert len(rewards) == 4 and min(rewards) > 400


# --- bad input --------------------------------------------------------------------------------------------------------


class Untouched(CountdownEnv):
    """Nobody may begin an episode here."""

    def reset(self, **kwargs):
        raise AssertionError("work was done before the check")


BAD = {
    "loss": (dict(loss="huber"), "Unknown loss 'huber': choose one of kl, nll, mse"),
    "student": (dict(student="pp"), "Unknown student 'pp': did you mean 'ppo'"),
    "policy": (dict(policy="MlpPolice"), "Unknown policy 'MlpPolice': did you mean 'MlpPolicy'"),
    "policy class": (dict(policy=DQNPolicy, student="ppo"), "leaves as a PPO, whose policies are ActorCriticPolicy"),
    "temperature": (dict(temperature=0.0), "temperature must be a number greater than 0, not 0.0"),
    "epsilon": (dict(epsilon=1.5), "epsilon must lie between 0 and 1, not 1.5"),
    "dagger": (dict(dagger=-0.1), "dagger.*must lie between 0 and 1, not -0.1"),
    "buffer": (dict(buffer_size=0), "room for at least one state, not buffer_size=0"),
    "mse": (dict(loss="mse", student="ppo"), "loss='mse' needs a student with Q-values"),
    "actions": (
        dict(teacher=q_teacher(action_space=spaces.Discrete(5))),
        r"action space is Discrete\(5\), the environment's is Discrete\(3\)",
    ),
    "observations": (dict(teacher=q_teacher(spaces.Box(-1.0, 1.0, (4,)))), r"observation space is .*\(4,\).*\(3,\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_said_before_any_work(case):
    kwargs, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        make(DummyVecEnv([Untouched]), **({"teacher": q_teacher()} | kwargs))


def test_a_teacher_without_q_values_cannot_serve_mse():
    env = DummyVecEnv([Untouched])
    with pytest.raises(ValueError, match=r"loss='mse' needs a teacher's Q-values"):
        make(env, actor_critic_teacher(env), loss="mse")
    with pytest.raises(ValueError, match="needs Discrete actions"):
        box = DummyVecEnv([lambda: Untouched(action_space=ACTION_SPACES["box"])])
        make(box, actor_critic_teacher(box))


def test_a_memory_that_is_of_something_else():
    """Of other observations, actions, or another teacher or environment: both are shown."""
    memory = recorded()
    with pytest.raises(ValueError, match=r"\(3,\).*\(4,\)"):
        make(countdown(observation_space=spaces.Box(-1.0, 1.0, (4,), np.float32)), memory=memory)
    with pytest.raises(ValueError, match=r"Discrete\(3\).*Discrete\(2\)"):
        make(countdown(action_space=spaces.Discrete(2)), memory=memory)
    with pytest.raises(ValueError, match=r"'random'.*'other'"):
        make(memory=memory, teacher=q_teacher(name="other"))
    with pytest.raises(ValueError, match=r"'Env-v0'.*'CartPole-v1'"):
        make("CartPole-v1", memory=memory)
    with pytest.raises(ValueError, match=r"loss='mse' needs a teacher's Q-values"):
        make(memory=recorded(teacher=actor_critic_teacher(countdown())), loss="mse")


def test_what_a_memory_cannot_go_with():
    with pytest.raises(ValueError, match=r"leave beta \(dagger\) out"):
        make(memory=recorded(), dagger=LinearSchedule(1.0, 0.0, 0.5))
    with pytest.raises(ValueError, match="VecNormalize"):
        make(VecNormalize(countdown()), memory=recorded())
    with pytest.raises(ValueError, match="is empty: record some steps"):
        make(memory=RingMemory(5, recorded().about))
    with pytest.raises(ValueError, match=r"nothing to learn from: give env=… .* or memory=…"):
        make()
    with pytest.raises(FileNotFoundError):
        make(memory="no/such/memory")


def test_numbers_that_are_not_finite_stop_it():
    """Of the environment, of the teacher, and of the loss, each by name."""

    class Broken(CountdownEnv):
        def step(self, action):
            obs, *rest = super().step(action)
            return obs * np.nan, *rest

    with pytest.raises(ValueError, match="observation of environment 0 after 1 steps is not finite"):
        make(DummyVecEnv([Broken]), q_teacher()).learn(20)
    teacher = q_teacher()
    teacher.policy.q_net.q_net[-1].bias.data[0] = np.nan
    with pytest.raises(ValueError, match="teacher random answered with NaN"):
        make(countdown(), teacher).learn(20)
    with pytest.raises(ValueError, match=r"distillation loss is .* in update .*: lower learning_rate"):
        make(memory=recorded(), loss="mse", learning_rate=1e30).learn(50)


def test_a_memory_on_disk(tmp_path):
    """What was recorded is what is learned from, by its path."""
    from sb3_distill.memory.recorder import record

    teacher = load_teacher("zoo:dqn/CartPole-v1", temperature=1.0)
    record(teacher, make_vec_env("CartPole-v1", 4), 1_000, tmp_path / "memory")
    model = make(memory=tmp_path / "memory").learn(100)
    assert len(model.replay_buffer) == 1_000
    assert model.observation_space.shape == (4,)


def test_a_teacher_that_is_refused_leaves_the_memory_of_the_one_before():
    env = countdown()
    model = make(env, q_teacher(), loss="mse").learn(40)
    before, first = len(model.replay_buffer), model.teacher
    assert before > 0
    with pytest.raises(ValueError, match="mse"):
        model.set_teacher(actor_critic_teacher(countdown()))
    model.set_teacher(first)
    assert len(model.replay_buffer) == before
