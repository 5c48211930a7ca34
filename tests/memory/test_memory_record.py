"""Recording a teacher's memory: what is written, that nothing of it depends on interruptions, and what is refused."""

import shutil
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnvWrapper, VecFrameStack, VecNormalize

from envs_for_tests import ACTION_SPACES, DICT_SPACE, IMAGE_SPACE, CountdownEnv, actor_critic_teacher
from sb3_distill.agents.load import load_teacher
from sb3_distill.memory import DiskMemory, record
from sb3_distill.memory import folder as folder_module
from sb3_distill.teachers.q_network import QTeacher
from tools.recording_kills import content


@pytest.fixture(scope="module")
def cartpole():
    return load_teacher("zoo:dqn/CartPole-v1", temperature=1.0)


def cartpoles(n=4):
    return DummyVecEnv([lambda: gym.make("CartPole-v1")] * n)


def countdowns(observation_space=None, action_space=None, n=3):
    return DummyVecEnv([lambda: CountdownEnv(observation_space, action_space)] * n)


def stacked(n=3):
    return VecFrameStack(countdowns(IMAGE_SPACE, n=n), 4)


def random_q_teacher(env, **kwargs):
    policy = "MultiInputPolicy" if isinstance(env.observation_space, spaces.Dict) else "MlpPolicy"
    return QTeacher(DQN(policy, env, buffer_size=1, seed=0, device="cpu").policy, name="random", **kwargs)


class Stopping(VecEnvWrapper):
    """An environment that somebody interrupts after some steps."""

    def __init__(self, venv, after):
        super().__init__(venv)
        self.left = after

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return self.venv.step_wait()


class Listening(VecEnvWrapper):
    """Keeps all that an environment is told and says."""

    def reset(self):
        self.said = []
        self.obs = np.array(self.venv.reset())
        return self.obs.copy()

    def step_async(self, actions):
        self.actions = np.array(actions)
        self.venv.step_async(actions)

    def step_wait(self):
        obs, rewards, dones, infos = self.venv.step_wait()
        self.said.append((self.obs, self.actions, np.array(rewards), np.array(dones), infos))
        self.obs = np.array(obs)
        return obs, rewards, dones, infos


# --- what is written --------------------------------------------------------------------------------------------------


def test_episodes_are_what_the_environments_said(cartpole, tmp_path):
    """Against a second bookkeeping, environment by environment and step by step."""
    env = Listening(cartpoles())
    memory = record(cartpole, env, 1_400, tmp_path / "m", epsilon=0.5, seed=3)
    assert len(memory) == 1_400
    episodes = list(memory.episodes())
    assert len(episodes) == memory.n_episodes > 8
    for i in range(4):
        mine = [episode for episode in episodes if episode.env == i]
        assert [episode.number for episode in mine] == list(range(len(mine)))
        assert sum(map(len, mine)) == mine[-1].end == 350
        steps = iter(env.said)
        for k, episode in enumerate(mine):
            observations = episode.observations["observations"]
            assert len(observations) == len(episode) + 1
            for t in range(len(episode)):
                obs, actions, rewards, dones, infos = next(steps)
                assert np.array_equal(observations[t], obs[i])
                assert episode.actions[t] == actions[i]
                assert episode.rewards[t] == rewards[i]
                assert dones[i] == (t == len(episode) - 1) or (k == len(mine) - 1 and t == len(episode) - 1)
            last = infos[i]["terminal_observation"] if dones[i] else env.obs[i]
            assert np.array_equal(observations[-1], last)
        # The recording's end cuts the last episode, CartPole's own end terminates the others.
        assert [episode.terminated for episode in mine[:-1]] == [True] * (len(mine) - 1)
        assert all(episode.terminated != episode.truncated for episode in mine)
    states = np.concatenate([episode.observations["observations"][:-1] for episode in episodes])
    answers = np.concatenate([episode.answers for episode in episodes])
    np.testing.assert_allclose(answers, cartpole.q_values(states).numpy(), rtol=1e-5)
    assert (memory.about.env_id, memory.about.teacher, memory.about.kind) == (
        "CartPole-v1",
        "dqn/CartPole-v1",
        "q_values",
    )


def test_time_limits_truncate_and_ends_terminate(tmp_path):
    """Every third episode of five steps ends by a time limit; the sixth is cut after two steps by the recording's end."""
    memory = record(random_q_teacher(countdowns()), countdowns(n=2), 2 * 27, tmp_path / "m")
    for i in range(2):
        mine = [episode for episode in memory.episodes() if episode.env == i]
        assert [len(episode) for episode in mine] == [5, 5, 5, 5, 5, 2]
        assert [episode.terminated for episode in mine] == [True, True, False, True, True, False]
        assert [episode.truncated for episode in mine] == [False, False, True, False, False, True]


def test_an_episode_that_ends_with_the_recording_is_not_cut(tmp_path):
    memory = record(random_q_teacher(countdowns()), countdowns(n=1), 10, tmp_path / "m")
    assert [(len(e), e.terminated, e.truncated) for e in memory.episodes()] == [(5, True, False)] * 2


@pytest.mark.parametrize("n_steps", [1, 2, 7, 31])
def test_as_many_states_as_asked_for(n_steps, tmp_path):
    memory = record(random_q_teacher(countdowns()), countdowns(n=3), n_steps, tmp_path / "m")
    assert len(memory) == n_steps == sum(len(batch.answers) for batch in memory.batches(4, 0))


def test_the_teacher_is_asked_once_about_each_state(cartpole, tmp_path):
    class Counting(QTeacher):
        asked = 0

        def q_values(self, obs):
            self.asked += len(obs)
            return super().q_values(obs)

    teacher = Counting(cartpole.policy, name="counting")
    record(teacher, cartpoles(), 800, tmp_path / "m")
    assert teacher.asked == 800
    record(teacher, cartpoles(), 1_000, tmp_path / "m")  # and not again about those that are on disk
    assert teacher.asked == 1_000


@pytest.mark.parametrize("epsilon", [0.0, 0.25, 1.0])
def test_the_teacher_plays_epsilon_greedily(cartpole, epsilon, tmp_path):
    memory = record(cartpole, cartpoles(), 1_000, tmp_path / "m", epsilon=epsilon)
    greedy = np.concatenate([e.answers.argmax(1) == e.actions for e in memory.episodes()]).mean()
    expected = 1 - epsilon / 2  # of two actions, every second random one is the greedy one
    assert abs(greedy - expected) <= 4 * np.sqrt(expected * (1 - expected) / 1_000)


@pytest.mark.parametrize("kind", ACTION_SPACES)
def test_every_kind_of_action_with_the_parameters_of_the_teachers_policy(kind, tmp_path):
    env = countdowns(action_space=ACTION_SPACES[kind])
    teacher = actor_critic_teacher(env)
    memory = record(teacher, env, 60, tmp_path / "m", epsilon=0.3)
    assert memory.about.kind == "parameters"
    for episode in memory.episodes():
        states = episode.observations["observations"][:-1]
        np.testing.assert_allclose(episode.answers, teacher.answer(states).parameters.numpy(), rtol=1e-4, atol=1e-6)
        assert all(ACTION_SPACES[kind].contains(action) for action in episode.actions)
        assert episode.actions.dtype == ACTION_SPACES[kind].dtype


def test_a_stack_of_frames_is_stored_once(tmp_path):
    memory = record(random_q_teacher(stacked()), stacked(), 300, tmp_path / "m")
    whole = 36 * 36 * 4
    assert memory.n_bytes / len(memory) < 0.5 * whole  # episodes of five steps: 8 frames for 5 states
    (planes,) = (episode.observations["observations"] for episode in list(memory.episodes())[:1])
    assert planes.shape == (4 + 5, 36, 36)


def test_frames_come_back_as_stacks(tmp_path):
    env = Listening(stacked(n=2))
    memory = record(random_q_teacher(stacked()), env, 60, tmp_path / "m")
    seen = {obs[i].tobytes() for obs, *_ in env.said for i in range(2)}
    assert seen == {obs.tobytes() for batch in memory.batches(7, 0) for obs in batch.observations}
    assert len(seen) == 60


def test_environments_in_processes_of_their_own(cartpole, tmp_path):
    a = record(cartpole, cartpoles(2), 200, tmp_path / "a", epsilon=0.3)
    env = SubprocVecEnv([partial(gym.make, "CartPole-v1")] * 2)
    try:
        b = record(cartpole, env, 200, tmp_path / "b", epsilon=0.3)
    finally:
        env.close()
    assert content(a) == content(b)
    assert b.about.env_id == "CartPole-v1"


def test_what_the_teachers_training_added_is_added(tmp_path):
    teacher = random_q_teacher(stacked(), vec_wrapper=lambda env: VecFrameStack(env, 4))
    bare, dressed = countdowns(IMAGE_SPACE), stacked()
    a, b = record(teacher, bare, 60, tmp_path / "a"), record(teacher, dressed, 60, tmp_path / "b")
    assert content(a) == content(b)


def test_beneath_vec_normalize(cartpole, tmp_path):
    a = record(cartpole, cartpoles(), 200, tmp_path / "a")
    b = record(cartpole, VecNormalize(cartpoles()), 200, tmp_path / "b")
    assert content(a) == content(b)


def test_the_global_random_state_is_left_alone(cartpole, tmp_path):
    before = th.random.get_rng_state(), np.random.get_state()[1]
    record(cartpole, cartpoles(), 100, tmp_path / "m", epsilon=0.5)
    assert th.equal(th.random.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_seeds_differ(cartpole, tmp_path):
    contents = {content(record(cartpole, cartpoles(), 200, tmp_path / str(seed), seed=seed)) for seed in (0, 1)}
    assert len(contents) == 2


def test_progress_bar(cartpole, tmp_path, capsys):
    record(cartpole, cartpoles(), 200, tmp_path / "m", progress_bar=True)
    shown = capsys.readouterr()
    assert "200/200" in shown.out + shown.err


# --- going on ---------------------------------------------------------------------------------------------------------


def recurrent(env):
    return load_teacher(RecurrentPPO("MlpLstmPolicy", env, n_steps=8, batch_size=8, seed=0, device="cpu"))


KINDS = {
    "vectors": (countdowns, random_q_teacher),
    "dict": (partial(countdowns, DICT_SPACE), random_q_teacher),
    "discrete": (partial(countdowns, spaces.Discrete(7)), random_q_teacher),
    "frames": (stacked, random_q_teacher),
    "box actions": (partial(countdowns, None, ACTION_SPACES["box"]), actor_critic_teacher),
    "with a memory of the episode": (partial(countdowns, None, None), recurrent),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after", [0, 4, 5, 13, 16])
def test_a_recording_that_was_stopped_goes_on_to_the_same_end(kind, after, tmp_path):
    make_env, make_teacher = KINDS[kind]
    teacher = make_teacher(make_env())
    whole = record(teacher, make_env(), 100, tmp_path / "whole", epsilon=0.3, seed=5)
    path = tmp_path / "stopped"
    for more in (after, 2 * after):
        with pytest.raises(KeyboardInterrupt):
            record(teacher, Stopping(make_env(), more), 100, path, epsilon=0.3, seed=5)
        assert len(DiskMemory(path)) == 3 * (more // 5 * 5)
    resumed = record(teacher, make_env(), 100, path, epsilon=0.3, seed=5)
    assert len(resumed) == 100
    assert content(resumed) == content(whole)


def test_episodes_of_different_lengths_go_on_to_the_same_end(cartpole, tmp_path):
    whole = record(cartpole, cartpoles(), 2_000, tmp_path / "whole", epsilon=0.5)
    for after in (40, 90, 200, 333):
        with pytest.raises(KeyboardInterrupt):
            record(cartpole, Stopping(cartpoles(), after), 2_000, tmp_path / "stopped", epsilon=0.5)
    resumed = record(cartpole, cartpoles(), 2_000, tmp_path / "stopped", epsilon=0.5)
    assert content(resumed) == content(whole)


def test_a_finished_recording_is_returned_as_it_is(cartpole, tmp_path):
    first = record(cartpole, cartpoles(), 400, tmp_path / "m")
    again = record(cartpole, Stopping(cartpoles(), 0), 400, tmp_path / "m")
    assert content(first) == content(again)


def test_a_longer_recording_goes_on_with_the_same_states(cartpole, tmp_path):
    """Only the flag at the first one's end is another, where it has cut an episode in two."""
    record(cartpole, cartpoles(), 400, tmp_path / "a", epsilon=0.3)
    longer = record(cartpole, cartpoles(), 1_000, tmp_path / "a", epsilon=0.3)
    whole = record(cartpole, cartpoles(), 1_000, tmp_path / "b", epsilon=0.3)

    def of_env(memory, i, column):
        return np.concatenate([column(episode) for episode in memory.episodes() if episode.env == i])

    for i in range(4):
        for column in (
            lambda e: e.observations["observations"][:-1],
            lambda e: e.answers,
            lambda e: e.actions,
            lambda e: e.rewards,
        ):
            assert np.array_equal(of_env(longer, i, column), of_env(whole, i, column))
        cut = [episode for episode in longer.episodes() if episode.env == i and episode.end == 100]
        assert [episode.truncated for episode in cut] == [True]


def test_an_environment_that_does_not_repeat_itself_is_found_out(cartpole, tmp_path):
    class Shaky(gym.ObservationWrapper):
        def observation(self, obs):
            return obs + np.random.default_rng().normal(0, 1e-4, obs.shape).astype(np.float32)

    def shaky():
        return DummyVecEnv([lambda: Shaky(gym.make("CartPole-v1"))] * 4)

    record(cartpole, shaky(), 400, tmp_path / "m", epsilon=0.5)
    before = content(DiskMemory(tmp_path / "m"))
    with pytest.raises(ValueError, match="does not repeat what it did"):
        record(cartpole, shaky(), 800, tmp_path / "m", epsilon=0.5)
    assert content(DiskMemory(tmp_path / "m")) == before


def test_a_full_disk_loses_no_episode(cartpole, tmp_path, monkeypatch):
    whole = record(cartpole, cartpoles(), 2_000, tmp_path / "whole", epsilon=0.5)
    write, n_written = folder_module.write_episode, []

    def fail(file, episode, about):
        write(file, episode, about)
        n_written.append(episode)
        if len(n_written) == 9:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_module, "write_episode", fail)
    with pytest.raises(OSError, match="No space"):
        record(cartpole, cartpoles(), 2_000, tmp_path / "m", epsilon=0.5)
    monkeypatch.undo()
    assert DiskMemory(tmp_path / "m").n_episodes == 8
    assert not list((tmp_path / "m").glob(".*.tmp.*"))
    assert content(record(cartpole, cartpoles(), 2_000, tmp_path / "m", epsilon=0.5)) == content(whole)


def test_episodes_go_to_a_new_file_when_one_is_full(cartpole, tmp_path, monkeypatch):
    one = record(cartpole, cartpoles(), 1_000, tmp_path / "one", epsilon=0.5)
    monkeypatch.setattr(folder_module, "FILE_BYTES", 10_000)
    several = record(cartpole, cartpoles(), 1_000, tmp_path / "several", epsilon=0.5)
    assert len(list((tmp_path / "several").glob("episodes_*.hdf5"))) > 3
    assert content(one) == content(several)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_steps": 0}, "n_steps must be a whole number of at least 1, not 0"),
        ({"n_steps": 2.5}, "n_steps must be a whole number of at least 1, not 2.5"),
        ({"n_steps": True}, "n_steps must be"),
        ({"epsilon": 1.5}, "epsilon must lie between 0 and 1, not 1.5"),
        ({"epsilon": "much"}, "epsilon must lie between 0 and 1, not 'much'"),
        ({"seed": -1}, "seed must be a whole number of at least 0, not -1"),
        ({"env": "CartPole-v1"}, "env must be a VecEnv"),
    ],
)
def test_numbers_out_of_range(cartpole, arguments, message, tmp_path):
    given = {"env": Stopping(cartpoles(), 0), "n_steps": 100, "path": tmp_path / "m"} | arguments
    with pytest.raises(ValueError, match=message):
        record(cartpole, **given)
    assert not (tmp_path / "m").exists()


def test_a_teacher_that_does_not_fit(cartpole, tmp_path):
    with pytest.raises(ValueError, match=r"(?s)dqn/CartPole-v1 does not fit the environment.*\(4,\).*\(3,\)"):
        record(cartpole, countdowns(), 100, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_space_that_cannot_be_stored(tmp_path):
    space = spaces.Dict({"a/b": spaces.Box(-1.0, 1.0, (2,), np.float32)})
    with pytest.raises(ValueError, match="'a/b' cannot be stored"):
        record(random_q_teacher(countdowns(space)), countdowns(space), 100, tmp_path / "m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": 0.2}, r"another epsilon: there it is 0\.1, and now 0\.2"),
        ({"seed": 8}, "another seed: there it is 7, and now 8"),
        ({"n": 5}, "another number of environments: there it is 4, and now 5"),
    ],
)
def test_another_recording_is_not_gone_on_with(cartpole, change, message, tmp_path):
    arguments = {"epsilon": 0.1, "seed": 7, "n": 4}
    make = lambda n, **rest: record(cartpole, cartpoles(n), 400, tmp_path / "m", **rest)  # noqa: E731
    before = content(make(**arguments))
    with pytest.raises(ValueError, match=message):
        make(**(arguments | change))
    assert content(DiskMemory(tmp_path / "m")) == before


def test_another_teacher_or_environment(cartpole, tmp_path):
    record(cartpole, cartpoles(), 100, tmp_path / "m")
    other = QTeacher(DQN("MlpPolicy", cartpoles(), buffer_size=1, device="cpu").policy, name="another")
    with pytest.raises(ValueError, match=r"another teacher: there it is dqn/CartPole-v1 with .*, and now another with"):
        record(other, cartpoles(), 200, tmp_path / "m")
    longer = DummyVecEnv([lambda: gym.make("CartPole-v0")] * 4)
    with pytest.raises(ValueError, match="another environment: there it is CartPole-v1, and now CartPole-v0"):
        record(cartpole, longer, 200, tmp_path / "m")


def test_the_same_teacher_under_another_name_goes_on(cartpole, tmp_path):
    record(cartpole, cartpoles(), 100, tmp_path / "m")
    renamed = QTeacher(cartpole.policy, name="/elsewhere/agent.zip")
    assert record(renamed, cartpoles(), 200, tmp_path / "m").about.teacher == "dqn/CartPole-v1"


def test_a_folder_of_something_else(cartpole, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="holds other files"):
        record(cartpole, cartpoles(), 100, tmp_path)
    with pytest.raises(ValueError, match="is not a folder"):
        record(cartpole, cartpoles(), 100, tmp_path / "thesis.tex")
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_two_recordings_at_once(cartpole, tmp_path):
    path = tmp_path / "m"
    record(cartpole, cartpoles(), 100, path)
    with folder_module.locked(path), pytest.raises(BlockingIOError, match="being recorded by another process"):
        record(cartpole, cartpoles(), 200, path)
    assert len(record(cartpole, cartpoles(), 200, path)) == 200


def test_no_room_on_the_disk_is_said_before_the_first_step(cartpole, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    # A step of CartPole is 4 · 4 + 8 + 4 + 2 · 1 + 2 · 4 bytes.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=38 * 1_000_000 - 1))
    with pytest.raises(OSError, match=r"1,000,000 steps will need about 38\.0 MB, and .* has room for 38\.0 MB"):
        record(cartpole, Stopping(cartpoles(), 0), 1_000_000, tmp_path / "new" / "m")
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=38 * 1_000_000))
    with pytest.raises(KeyboardInterrupt):
        record(cartpole, Stopping(cartpoles(), 0), 1_000_000, tmp_path / "m")


def test_what_is_on_disk_needs_no_more_room(cartpole, tmp_path, monkeypatch):
    record(cartpole, cartpoles(), 400, tmp_path / "m")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=38 * 100))
    assert len(record(cartpole, cartpoles(), 500, tmp_path / "m")) == 500
    with pytest.raises(OSError, match="101 steps"):
        record(cartpole, cartpoles(), 601, tmp_path / "m")


def test_observations_that_are_not_finite(tmp_path):
    class Broken(gym.ObservationWrapper):
        def observation(self, obs):
            return obs if self.env.unwrapped.step_count < 3 else obs * np.nan

    env = DummyVecEnv([lambda: Broken(CountdownEnv())])
    with pytest.raises(ValueError, match="environment 0 after step 3 of the recording is not finite"):
        record(random_q_teacher(env), env, 100, tmp_path / "m")


def test_answers_that_are_not_finite(tmp_path):
    teacher = random_q_teacher(countdowns())
    next(teacher.policy.q_net.parameters()).data.fill_(th.nan)
    with pytest.raises(ValueError, match="NaN or infinity"):
        record(teacher, countdowns(), 100, tmp_path / "m")
