"""While ALE's threads play, PyTorch leaves them the cores; the teacher, who is asked while they wait, has all threads."""

import pytest
import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecCheckNan

from sb3_distill import DistillPPO, load_teacher
from sb3_distill.algorithms.threads import rollout_threads, torch_threads
from sb3_distill.envs.atari import make_atari_vec_env
from sb3_distill.students.nature_cnn import student_arch


@pytest.fixture
def games():
    env = make_atari_vec_env("Pong", n_envs=2, seed=0)
    yield env
    env.close()


@pytest.mark.parametrize(("present", "in_games"), [(1, 1), (2, 1), (3, 3)])
def test_few_threads_become_one_in_ales_games(games, present, in_games):
    with torch_threads(present):
        assert rollout_threads(VecCheckNan(games)) == in_games
        assert rollout_threads(make_vec_env("CartPole-v1")) == present


def test_threads_come_back_after_an_error():
    before = th.get_num_threads()
    with pytest.raises(KeyError), torch_threads(before + 1):
        assert th.get_num_threads() == before + 1
        raise KeyError
    assert th.get_num_threads() == before


def test_who_has_how_many_threads(games):
    dqn = DQN("CnnPolicy", games, buffer_size=1, device="cpu", seed=0)
    student = DistillPPO(
        "CnnPolicy",
        games,
        teacher=load_teacher(dqn, temperature=0.1),
        n_steps=4,
        batch_size=8,
        n_epochs=1,
        policy_kwargs=student_arch("4%"),
        device="cpu",
    )
    seen = {}
    for name, module in (("teacher", dqn.q_net), ("student", student.policy.features_extractor)):
        module.register_forward_hook(
            lambda *args, name=name: seen.setdefault((name, th.is_grad_enabled()), set()).add(th.get_num_threads())
        )
    with torch_threads(2):
        student.learn(8)
        assert th.get_num_threads() == 2
    assert seen == {("student", False): {1}, ("teacher", False): {2}, ("student", True): {2}}
