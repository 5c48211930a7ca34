"""``test_ray_vec_env.py`` runs this in a network of its own. SubprocVecEnv plays first: it forks, which Ray's threads would not survive."""

import os
import signal
import time
import traceback
import warnings

import gymnasium as gym
import numpy as np
import pytest
from ray_episodes import Mishap, functions, play
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import SubprocVecEnv

from sb3_distill.envs import RayVecEnv


@pytest.fixture(scope="module")
def env():
    theirs = SubprocVecEnv(functions("Box"), start_method="fork")
    played = play(theirs)
    theirs.close()
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    env = RayVecEnv(functions("Box"), envs_per_actor=2)
    env.played = played
    yield env
    env.close()
    env.close()
    with pytest.raises(RuntimeError, match="is closed"):
        env.reset()
    ray.shutdown()


def test_it_is_subproc_vec_env_to_the_bit(env):
    assert len(env._actors) == 2
    assert play(env) == env.played


def test_attributes_methods_and_wrappers(env):
    assert env.get_attr("level") == [1, 1, 1]
    env.unwrapped.env_method("set_wrapper_attr", "level", 5, indices=[2, 0])
    assert env.get_attr("level", indices=[2, 1, 0, 0, -1]) == [5, 1, 5, 5, 5]
    assert env.env_method("plus", 2, y=10, indices=1) == [13]
    assert env.env_method("plus", 2) == [7, 3, 7]
    assert env.env_is_wrapped(Monitor) == [False, True, False]
    assert env.env_is_wrapped(gym.wrappers.TimeLimit, indices=np.array([2])) == [True]
    assert env.has_attr("level") and not env.has_attr("nothing")
    env.set_attr("other", {"a": 1}, indices=[1])
    assert env.get_attr("other", 1) == [{"a": 1}]
    with pytest.raises(AttributeError, match="nothing"):
        env.get_attr("nothing")
    with pytest.raises(IndexError):
        env.get_attr("level", 3)
    pids = env.get_attr("pid")
    assert pids[0] == pids[1] != pids[2] != os.getpid()


def test_images(env):
    images = env.get_images()
    assert [image.shape for image in images] == [(4, 6, 3)] * 3
    assert env.render().shape == (8, 12, 3)


def fails():
    raise KeyError("a user's mistake")


def fails_strangely():
    raise Mishap(1, 2)


def leaves():
    raise SystemExit(3)


def test_errors_of_environments_have_their_own_traceback(env):
    """And the environments may be played on."""
    for trouble, error, said in (
        (fails, KeyError, "a user's mistake"),
        (fails_strangely, RuntimeError, "Mishap: 1 and 2"),
        (leaves, RuntimeError, "has ended its process"),
    ):
        env.env_method("set_wrapper_attr", "trouble", trouble, indices=1)
        env.reset()
        with pytest.raises(error, match=said) as caught:
            env.step(np.zeros((3, 2), np.float32))
        text = "".join(traceback.format_exception(caught.value))
        assert "in environment 1:" in text and f"in {trouble.__name__}\n" in text and "inside_ray.py" in text
    env.env_method("set_wrapper_attr", "trouble", None, indices=1)
    env.reset()
    env.step(np.zeros((3, 2), np.float32))


def dead(pid):
    """Wait until a process is gone."""
    os.kill(pid, signal.SIGKILL)
    for _ in range(100):
        try:
            if "Z" in open(f"/proc/{pid}/stat").read().rpartition(")")[2]:
                break
        except FileNotFoundError:
            break
        time.sleep(0.05)


def test_a_lost_actor_comes_back(env):
    """Its episodes are cut where they were seen last, the others go on; it is known what was set."""
    env.seed(11)
    env.set_options({"length": 1000})
    env.reset()
    env.unwrapped.env_method("set_wrapper_attr", "level", 1)
    env.set_attr("colour", "red", indices=1)
    actions = np.full((3, 2), 0.5, np.float32)
    for _ in range(4):
        before, *_ = env.step(actions)
    pids = env.get_attr("pid")
    dead(pids[0])
    with pytest.warns(UserWarning, match=r"Actor 0 \(environments 0 to 1\) was lost .* after 4, 4 steps.* loss 1 of"):
        obs, rewards, dones, infos = env.step(actions)
    assert dones.tolist()[:2] == [True, True] and rewards.tolist()[:2] == [0, 0]
    for i in (0, 1):
        assert infos[i]["TimeLimit.truncated"] and np.array_equal(infos[i]["terminal_observation"], before[i])
        assert obs[i][0] == 0 and env.reset_infos[i]["seed"] not in (None, 11, 12)
    assert "episode" not in infos[1]
    assert env.get_attr("pid")[0] != pids[0] and env.get_attr("pid")[2] == pids[2]
    assert env.get_attr("colour", 1) == ["red"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, rewards, _, _ = env.step(actions)
    assert rewards[0] == 1.0


def test_an_actor_that_is_missed_between_two_steps(env):
    """The question is answered by the new one, and the next step says that episodes were cut."""
    env.set_options({"length": 1000})
    env.reset()
    actions = np.full((3, 2), 0.5, np.float32)
    before, *_ = env.step(actions)
    dead(env.get_attr("pid", 2)[0])
    with pytest.warns(UserWarning, match=r"Actor 1 \(environments 2 to 2\) was lost"):
        assert env.get_attr("cut") == [False, True, False]
    obs, _, dones, infos = env.step(actions)
    assert dones.tolist() == [False, False, True]
    assert infos[2]["TimeLimit.truncated"] and np.array_equal(infos[2]["terminal_observation"], before[2])
    assert obs[:, 0].tolist() == [2, 2, 0]
    dead(env.get_attr("pid", 2)[0])
    with pytest.warns(UserWarning, match="it begins anew"):
        assert env.reset()[:, 0].tolist() == [0, 0, 0]
