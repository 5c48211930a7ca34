"""The paper's student networks."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.torch_layers import NatureCNN

from sb3_distill import load_teacher
from sb3_distill.students.nature_cnn import SmallNatureCNN, student_arch
from sb3_distill.teachers.teacher import actor_size

FRAMES = spaces.Box(0, 255, (4, 84, 84), np.uint8)


def atari_like(n_actions=18):
    return FakeImageEnv(n_actions, n_channels=4, channel_first=True)


@pytest.mark.parametrize(("share", "size"), [("100%", 1_693_362), ("25%", 427_874), ("7%", 113_346), ("4%", 61_954)])
def test_sizes_are_the_papers(share, size):
    """With Atari's 18 actions, as Rusu et al. count them; the same for a Q-network and for an actor."""
    for algorithm, kwargs in ((DQN, {"buffer_size": 1}), (PPO, {})):
        model = algorithm("CnnPolicy", atari_like(), policy_kwargs=student_arch(share), device="cpu", **kwargs)
        assert actor_size(model.policy) == size


def test_the_largest_is_nature_cnn():
    """The same numbers of the same network: SB3's weights fit and give SB3's features."""
    ours, theirs = SmallNatureCNN(FRAMES), NatureCNN(FRAMES)
    ours.load_state_dict(theirs.state_dict())
    obs = th.rand(3, 4, 84, 84)
    assert th.equal(ours(obs), theirs(obs))


def test_bad_input():
    with pytest.raises(ValueError, match=r"There is no student of '30%': choose one of 100%, 25%, 7%, 4%"):
        student_arch("30%")
    with pytest.raises(
        ValueError, match="SmallNatureCNN reads images of channels × height × width, at least 36 × 36, not "
    ):
        SmallNatureCNN(spaces.Box(0, 255, (4, 20, 20), np.uint8))


def test_a_student_is_a_plain_model(tmp_path):
    """Saved and loaded by SB3 alone."""
    model = PPO("CnnPolicy", atari_like(), policy_kwargs=student_arch("4%"), n_steps=8, device="cpu")
    model.save(tmp_path / "student")
    obs = np.random.default_rng(0).integers(0, 256, (5, 4, 84, 84), dtype=np.uint8)
    actions = [m.predict(obs, deterministic=True)[0] for m in (model, PPO.load(tmp_path / "student", device="cpu"))]
    assert np.array_equal(*actions)


def test_a_student_can_be_a_teacher(tmp_path):
    """Its class is on the closed list of what a checkpoint may name, with its numbers of filters."""
    model = PPO("CnnPolicy", atari_like(), policy_kwargs=student_arch("4%"), n_steps=8, device="cpu")
    model.save(tmp_path / "student")
    teacher = load_teacher(tmp_path / "student.zip", device="cpu")
    obs = np.random.default_rng(0).integers(0, 256, (5, 4, 84, 84), dtype=np.uint8)
    assert np.array_equal(teacher.act(obs), model.predict(obs, deterministic=True)[0])
    assert teacher.n_parameters == actor_size(model.policy)
