"""Distillation on stacks of frames: kept once, they are what was seen, and the student learns the same from them."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from sb3_distill import DistillPPO, load_teacher
from sb3_distill.algorithms.buffers import DistillFrameRolloutBuffer, DistillRolloutBuffer
from sb3_distill.algorithms.frame_stack import frame_stack_of, observation_log
from sb3_distill.common.frames import FrameLog
from sb3_distill.common.observations import ObservationLog
from sb3_distill.common.spaces import check_spaces
from sb3_distill.students.nature_cnn import student_arch

N_ENVS, N_STEPS = 3, 8


def make_env(n_stack=4):
    """Frames of noise; episodes are cut after ten steps."""
    env = VecFrameStack(DummyVecEnv([lambda: FakeImageEnv(4, 40, 40)] * N_ENVS), n_stack)
    env.seed(0)
    for i, one in enumerate(env.unwrapped.envs):
        one.observation_space.seed(i)
    return env


@pytest.fixture(scope="module")
def teacher():
    model = DQN("CnnPolicy", make_env(), buffer_size=1, device="cpu", seed=0, policy_kwargs=student_arch("4%"))
    return load_teacher(model, temperature=0.01)


def make(teacher, **kwargs):
    kwargs = {"method": "n_distill", "policy_kwargs": student_arch("4%"), "seed": 0, "device": "cpu"} | kwargs
    return DistillPPO("CnnPolicy", make_env(), teacher=teacher, n_steps=N_STEPS, batch_size=12, n_epochs=2, **kwargs)


@pytest.mark.parametrize("method", ["n_distill", "expected_entropy", "teacher_distill", "teacher_v_reward"])
def test_it_learns_the_same_as_from_whole_stacks(teacher, method):
    """To the bit, over rollouts that begin within episodes and hold time limits."""
    ours = make(teacher, method=method).learn(4 * N_STEPS * N_ENVS)
    whole = make(teacher, method=method, rollout_buffer_class=DistillRolloutBuffer).learn(4 * N_STEPS * N_ENVS)
    assert type(ours.rollout_buffer) is DistillFrameRolloutBuffer
    assert type(whole.rollout_buffer) is DistillRolloutBuffer
    for a, b in zip(ours.policy.parameters(), whole.policy.parameters(), strict=True):
        assert th.equal(a, b)
    n = N_STEPS * N_ENVS
    assert np.array_equal(ours.rollout_buffer.observations[np.arange(n)], whole.rollout_buffer.observations)


def test_the_teacher_is_asked_about_what_the_student_saw(teacher):
    """Every stack once, and the states at which time limits cut episodes; nothing else."""
    model = make(teacher)
    seen, shown, cut = [], [model.env.reset().copy()], []
    answer, step = teacher.answer, model.env.step_wait

    def asked(obs, with_value=False):
        seen.append(np.array(obs))
        return answer(obs, with_value)

    def stepped():
        obs, rewards, dones, infos = step()
        shown.append(obs.copy())
        cut.extend(infos[i]["terminal_observation"] for i in np.flatnonzero(dones))
        return obs, rewards, dones, infos

    model._last_obs, model._last_episode_starts = shown[0], np.ones(N_ENVS, dtype=bool)
    teacher.answer, model.env.step_wait = asked, stepped
    try:
        model.learn(2 * N_STEPS * N_ENVS, reset_num_timesteps=False)
    finally:
        del teacher.answer
    states = [state.tobytes() for state in np.concatenate(seen)]
    expected = {state.tobytes() for state in [*np.concatenate(shown), *cut]}
    assert len(cut) >= N_ENVS
    assert len(states) == len(set(states))
    assert set(states) == expected


def test_a_saved_student_is_sb3s(teacher, tmp_path):
    """What frames were kept in is not saved: PPO loads it, and so do we, with and without frames."""
    model = make(teacher).learn(N_STEPS * N_ENVS)
    model.save(tmp_path / "student")
    obs = np.random.default_rng(0).integers(0, 256, (5, 4, 40, 40), dtype=np.uint8)
    loaded = [
        PPO.load(tmp_path / "student", device="cpu"),
        DistillPPO.load(tmp_path / "student", device="cpu"),
        DistillPPO.load(tmp_path / "student", env=make_env(), teacher=teacher, device="cpu"),
    ]
    for other in loaded:
        assert np.array_equal(model.predict(obs, deterministic=True)[0], other.predict(obs, deterministic=True)[0])
    assert type(loaded[2].rollout_buffer) is DistillFrameRolloutBuffer
    loaded[2].learn(N_STEPS * N_ENVS)


def test_which_environments_show_stacks():
    env = make_env()
    assert frame_stack_of(env) is None  # channels last, as SB3's algorithms never see it
    model = PPO("CnnPolicy", env, n_steps=8, device="cpu", policy_kwargs=student_arch("4%"))
    assert frame_stack_of(model.env) == 4
    assert isinstance(observation_log(model.env, 3), FrameLog)
    assert isinstance(observation_log(DummyVecEnv([lambda: FakeImageEnv(4, 40, 40)]), 3), ObservationLog)


def test_defaults_for_images(teacher):
    """Smaller steps for convolutions, unless something else was asked for; none for other observations."""
    kwargs = {"teacher": teacher, "policy_kwargs": student_arch("4%"), "device": "cpu"}
    model = DistillPPO("CnnPolicy", make_env(), method="entropy_regularised", **kwargs)
    assert (model.learning_rate(1.0), model.batch_size, model.n_epochs) == (5e-4, 256, 8)
    assert model.gamma == DistillPPO.row_defaults["entropy_regularised"]["gamma"]
    for method in ("on_policy_distill", "n_distill", "expected_entropy"):
        model = DistillPPO("CnnPolicy", make_env(), method=method, **kwargs)
        assert (model.learning_rate(1.0), model.batch_size, model.n_epochs) == (2e-3, 256, 8)
    model = DistillPPO("CnnPolicy", make_env(), learning_rate=1e-3, batch_size=24, **kwargs)
    assert (model.learning_rate, model.n_steps, model.batch_size, model.n_epochs) == (1e-3, 128, 24, 8)
    assert model.policy.optimizer.param_groups[0]["lr"] == 1e-3
    assert model.averaging == 0.0
    model = DistillPPO("MlpPolicy", "CartPole-v1")
    assert (model.n_steps, model.n_epochs, model.averaging) == (64, 20, 0.8)


def test_rows_with_a_critic_have_defaults_of_their_own_for_images(teacher):
    """They give way to what was asked for and to the paper's form."""

    def of(**changes):
        kwargs = {
            "teacher": teacher,
            "policy_kwargs": student_arch("4%"),
            "device": "cpu",
            "method": "expected_entropy",
        }
        model = DistillPPO("CnnPolicy", make_env(), **(kwargs | changes))
        return model.vf_coef, model.reward_coef(1.0), model.gamma

    assert of() == (0.01, 0.1, 0.5)
    assert of(method="n_distill") == (0.01, 0.1, 0.9)
    assert of(vf_coef=0.3, reward_coef=0.7, gamma=0.6) == (0.3, 0.7, 0.6)
    assert of(form="paper") == (0.01, 1.0, 0.99)
    assert of(method="entropy_regularised") == (0.5, 1.0, 0.5)
    model = DistillPPO("MlpPolicy", "CartPole-v1", method="expected_entropy")
    assert (model.vf_coef, model.reward_coef(1.0)) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("teacher_space", "env_space", "message"),
    [
        (spaces.Discrete(18), spaces.Discrete(6), r"make_atari_vec_env\(…, full_action_space=True\)"),
        (spaces.Discrete(6), spaces.Discrete(18), r"make_atari_vec_env\(…, full_action_space=False\)"),
    ],
)
def test_another_set_of_actions(teacher_space, env_space, message):
    frames = spaces.Box(0, 255, (4, 84, 84), np.uint8)
    with pytest.raises(ValueError, match=message):
        check_spaces("pong", frames, teacher_space, frames, env_space)


def test_another_stack_of_frames():
    mine, theirs = spaces.Box(0, 255, (4, 84, 84), np.uint8), spaces.Box(0, 255, (2, 64, 64), np.uint8)
    with pytest.raises(ValueError, match=r"make_atari_vec_env\(…, frame_stack=4, screen_size=84\)"):
        check_spaces("pong", mine, spaces.Discrete(6), theirs, spaces.Discrete(6))
