"""The benchmark of distilling in pixels: its arithmetic, and that its parts run."""

import numpy as np
import pytest

pytest.importorskip("ale_py")
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.torch_layers import NatureCNN
from torch.utils.flop_counter import FlopCounterMode

from sb3_distill.algorithms.threads import torch_threads
from sb3_distill.zoo.benchmarks import atari as atari_benchmark


def test_operations_are_what_torch_counts():
    """Forwards, and forwards and backwards, of SB3's own NatureCNN."""
    network = NatureCNN(spaces.Box(0, 255, (4, 84, 84), np.uint8))
    frames = th.rand(1, 4, 84, 84)
    counted = []
    for backwards in (False, True):
        with FlopCounterMode(display=False) as counter:
            features = network(frames)
            if backwards:
                features.sum().backward()
        counted.append(counter.get_total_flops())
    assert atari_benchmark.network_flops() == tuple(counted)


@pytest.mark.parametrize("who", ["ppo", "n_distill", "n_distill in float32"])
def test_a_timed_run(who, monkeypatch):
    """Parts add up to at most the whole, and the memory is the process's."""
    monkeypatch.setattr(
        atari_benchmark, "SETTINGS", atari_benchmark.SETTINGS | {"n_steps": 4, "batch_size": 16, "n_epochs": 1}
    )
    monkeypatch.setattr(atari_benchmark, "WARM_UP", 32)
    with torch_threads(th.get_num_threads()):
        run = atari_benchmark.time_run(who, 64, 1)
    assert all(seconds > 0 for seconds in run["parts"].values())
    assert sum(run["parts"].values()) <= run["seconds"]
    assert ("teacher" in run["parts"]) == (who != "ppo")
    assert run["peak"] > 100 * atari_benchmark.MIB
    assert run["precisions"]["teacher"] == "float32"
    faster = who == "n_distill" and atari_benchmark.multiplies_bfloat16_faster("cpu")
    assert run["precisions"]["training"] == ("bfloat16" if faster else "float32")
    assert atari_benchmark.parts_table(who, [run], 64).row_count == len(run["parts"]) + 1


def test_the_environments_take_turns(monkeypatch):
    """With two environments in the place of 8 and of 32, which take half a minute to be made."""
    monkeypatch.setattr(
        atari_benchmark, "play", lambda make, n_envs, steps, play=atari_benchmark.play: play(make, 2, 4)
    )
    table = atari_benchmark.env_table(64, 1)
    assert table.row_count == 2
    assert list(table.columns[0].cells) == ["8", "32"]


def test_the_resident_memory_of_a_moment_is_that_of_the_last_rollouts():
    resident = atari_benchmark.Resident()
    resident.noted = [(32 * k, k) for k in range(1, 31)]
    assert resident.window(640) == list(range(11, 21))
    assert resident.window(100) == [1, 2, 3]


def test_a_long_run_is_watched_from_its_first_rollout_on(monkeypatch):
    monkeypatch.setattr(
        atari_benchmark, "SETTINGS", atari_benchmark.SETTINGS | {"n_steps": 4, "batch_size": 16, "n_epochs": 1}
    )
    table = atari_benchmark.memory_table(320)
    assert list(table.columns[0].cells) == ["32", "160", "320"]
    assert next(iter(table.columns[4].cells)) == "1.000"


def test_one_teacher_plays_in_both_environments(tmp_path):
    """Untrained and cut short, it has lost as many points in one as in the other, to within the no-ops at the start."""
    env = atari_benchmark.ours(1)
    DQN("CnnPolicy", env, buffer_size=1, seed=0, device="cpu").save(tmp_path / "agent.zip")
    env.close()
    table = atari_benchmark.score_table(str(tmp_path / "agent.zip"), 2, max_steps=60)
    ours, sb3, difference = (next(iter(column.cells)) for column in table.columns)
    assert "±" in ours and "±" in sb3
    assert abs(float(difference.split()[0])) <= 1


def test_scoring_a_teacher_of_another_environment_is_refused(capsys):
    with pytest.raises(SystemExit):
        atari_benchmark.main(["score", "--teacher", "zoo:dqn/CartPole-v1"])
    assert "The teacher dqn/CartPole-v1 does not fit the environment" in capsys.readouterr().err
