"""What the command of docs/scale.md counts with."""

import gymnasium as gym
import numpy as np
import pytest

from sb3_distill.common.files import write_json
from sb3_distill.zoo.benchmarks.cost import model_text
from sb3_distill.zoo.benchmarks.numpy_cartpole import NumpyCartPole


def test_numpy_cartpole_is_gymnasiums():
    """Step for step from the same states, ends and time limit included."""
    ours, rng = NumpyCartPole(3), np.random.default_rng(0)
    ours.seed(1)
    ours.reset()
    theirs = [gym.make("CartPole-v1") for _ in range(3)]
    ours.age[0] = 497  # cut by the time limit soon
    ends = 0
    for one, state in zip(theirs, ours.state, strict=True):
        one.reset()
        one.unwrapped.state = tuple(state)
    for step in range(60):
        actions = rng.integers(0, 2, 3)
        obs, rewards, dones, infos = ours.step(actions)
        for i, one in enumerate(theirs):
            expected, reward, fallen, _, _ = one.step(actions[i])
            seen = infos[i]["terminal_observation"] if dones[i] else obs[i]
            np.testing.assert_allclose(seen, expected, rtol=1e-6)
            cut = i == 0 and step == 2
            assert rewards[i] == reward == 1 and dones[i] == (fallen or cut)
            if dones[i]:
                assert infos[i]["TimeLimit.truncated"] == cut
                one.reset()
                one.unwrapped.state = tuple(ours.state[i])
                ends += 1
    assert ends > 3


def test_the_model_of_cost(tmp_path):
    runs = [{"steps": n, "seconds": 2 + n / 1000, "bytes": 1024, "files": 3} for n in (1000, 2000, 8000)]
    write_json(tmp_path / "runs.json", runs)
    rates = [{"ms": ms, "n_envs": 8, "n_actors": 2, "ray": 8000 / (3 + 4 * ms)} for ms in (1, 5)]
    write_json(tmp_path / "environments.json", rates)
    text = model_text(tmp_path, 10_000, 1_000, 8_000)
    assert "2.0 s + 1000 µs a step (off by 0% at most); 1 KiB in 3 files" in text
    assert "27.8 core hours" in text and "10 runs one after another, 1.7 minutes" in text
    assert "4 messages, 3.00 ms + 1.00 times" in text
    with pytest.raises(FileNotFoundError):
        model_text(tmp_path / "nothing", 1, 1, 1)
