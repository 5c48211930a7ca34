"""A student's memory is saved, loaded and filled on, under SB3's names, and nothing in its file is run."""

import io
import pickle

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack
from test_policy_distillation import channels_first, countdown, make, q_teacher

from envs_for_tests import DICT_SPACE, IMAGE_SPACE, CountdownEnv, actor_critic_teacher
from sb3_distill.algorithms.multi_task import MultiTaskDistillation
from sb3_distill.algorithms.policy_distillation import PolicyDistillation
from sb3_distill.memory import DamagedMemoryError


def states(memory):
    (batch,) = memory.batches(10**6, 3)
    obs = batch.observations if isinstance(batch.observations, dict) else {"": batch.observations}
    return {**obs, "answers": batch.answers}


def equal(a, b):
    return len(a) == len(b) and all(
        np.array_equal(x, y) for x, y in zip(states(a).values(), states(b).values(), strict=True)
    )


def env_of(kind):
    if kind == "frames":
        return VecFrameStack(DummyVecEnv([lambda: CountdownEnv(IMAGE_SPACE, spaces.Discrete(3))] * 2), 3, "last")
    return countdown(observation_space=DICT_SPACE if kind == "dict" else None, action_space=spaces.Discrete(3))


@pytest.mark.parametrize("buffer_size", [1_000, 24])
@pytest.mark.parametrize("kind", ["box", "dict", "frames"])
def test_what_is_loaded_is_what_was_saved_and_goes_on(kind, buffer_size, tmp_path):
    """Before it is full and several times round; a pass in the same order has the same states and answers."""
    policy = {"box": "MlpPolicy", "dict": "MultiInputPolicy", "frames": "CnnPolicy"}[kind]
    env = env_of(kind)
    space = env.observation_space
    if kind == "frames":
        space = channels_first(env)
    teacher = actor_critic_teacher(CountdownEnv(space, spaces.Discrete(3))) if kind == "dict" else q_teacher(space)
    kwargs = dict(policy=policy, buffer_size=buffer_size)
    model = make(env, teacher, **kwargs).learn(64)
    model.save_replay_buffer(tmp_path / "deep" / "memory")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["memory.pkl"]
    for path in ("memory", "memory.pkl"):
        other = make(env_of(kind), teacher, **kwargs)
        other.load_replay_buffer(tmp_path / "deep" / path)
        assert equal(other.replay_buffer, model.replay_buffer)
    other.learn(32, reset_num_timesteps=False)
    assert len(other.replay_buffer) == min(buffer_size, 96)
    file = io.BytesIO()
    model.save_replay_buffer(file)
    file.seek(0)
    other.load_replay_buffer(file)
    assert equal(other.replay_buffer, model.replay_buffer)


def test_another_teacher_or_environment_is_refused_and_nothing_is_lost(tmp_path):
    model = make(countdown(action_space=spaces.Discrete(3)), q_teacher()).learn(32)
    model.save_replay_buffer(tmp_path / "m")
    other = make(countdown(action_space=spaces.Discrete(3)), q_teacher(seed=1)).learn(32)
    before = other.replay_buffer
    with pytest.raises(ValueError, match="another teacher"):
        other.load_replay_buffer(tmp_path / "m")
    assert other.replay_buffer is before
    with pytest.raises(ValueError, match="2 environments side by side, and here are 3"):
        make(countdown(3, action_space=spaces.Discrete(3)), q_teacher()).load_replay_buffer(tmp_path / "m")
    late = make(countdown(action_space=spaces.Discrete(3)))
    late.load_replay_buffer(tmp_path / "m")
    late.teacher = q_teacher(seed=1)
    with pytest.raises(ValueError, match="another teacher"):
        late.learn(32)
    late.teacher = q_teacher(name="renamed")
    assert len(late.learn(32).replay_buffer) == 64


def test_nothing_in_a_file_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("it was unpickled",)

    model = make(countdown(action_space=spaces.Discrete(3)), q_teacher())
    (tmp_path / "pickle.pkl").write_bytes(pickle.dumps(Trap()))
    np.savez(tmp_path / "object.npz", header=np.array([Trap()], dtype=object))
    np.savez_compressed(tmp_path / "small.npz", header=np.zeros(10**6, np.uint8))
    make(countdown(action_space=spaces.Discrete(3)), q_teacher()).learn(32).save_replay_buffer(tmp_path / "whole.pkl")
    whole = (tmp_path / "whole.pkl").read_bytes()
    (tmp_path / "cut.pkl").write_bytes(whole[:-100])
    (tmp_path / "bit.pkl").write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    for name in ("pickle.pkl", "object.npz", "small.npz", "cut.pkl", "bit.pkl"):
        with pytest.raises(DamagedMemoryError, match="is no memory that save_replay_buffer"):
            model.load_replay_buffer(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no memory at"):
        model.load_replay_buffer(tmp_path / "nothing")


def test_all_tasks_together(tmp_path):
    def several():
        env = {task: countdown(1, action_space=spaces.Discrete(3)) for task in "ab"}
        teachers = {task: q_teacher(seed=seed) for seed, task in enumerate("ab")}
        return MultiTaskDistillation("MlpPolicy", env, teacher=teachers, seed=0, device="cpu", train_freq=16)

    model = several().learn(40, callback=CheckpointCallback(20, tmp_path, save_replay_buffer=True))
    assert list(tmp_path.glob("*replay_buffer*.pkl"))
    model.save_replay_buffer(tmp_path / "all")
    other = several()
    other.load_replay_buffer(tmp_path / "all")
    assert all(equal(other.tasks[task].replay_buffer, model.tasks[task].replay_buffer) for task in "ab")
    other.learn(20, reset_num_timesteps=False)
    assert len(other.tasks["a"].replay_buffer) > len(model.tasks["a"].replay_buffer)
    with pytest.raises(ValueError, match="load it with MultiTaskDistillation"):
        make(countdown(1, action_space=spaces.Discrete(3)), q_teacher()).load_replay_buffer(tmp_path / "all")


def test_sb3s_schedules_end_no_run_and_never_turn_the_sign():
    """The last round ends after the run does; SB3's progress is below 0 there."""
    env = countdown(action_space=spaces.Discrete(3))
    rates = []
    model = make(env, q_teacher(), learning_rate=lambda p: rates.append(1e-3 * p) or 1e-3 * p, dagger=lambda p: p)
    model.learn(33)
    assert model.num_timesteps == 64
    assert min(rates) >= 0
    assert isinstance(model.learn(0), PolicyDistillation)
