"""TRPO's machinery: the rows that are a reward, and what its zip is elsewhere."""

import pytest
import torch as th
from sb3_contrib import TRPO

from envs_for_tests import actor_critic_teacher
from sb3_classes import countdown_envs, small
from sb3_distill import DistillTRPO, EntropyRegularised, EntropyRegularisedTRPO, TeacherVRewardTRPO


def trpo(cls=EntropyRegularisedTRPO, **kwargs):
    env = countdown_envs()
    return cls("MlpPolicy", env, teacher=actor_critic_teacher(env), **small(cls, **kwargs))


def test_a_row_with_a_loss_is_refused_and_its_own_is_one_without():
    assert trpo(DistillTRPO).method == "entropy_regularised" == DistillTRPO.settings(countdown_envs())["method"]
    with pytest.raises(ValueError, match="takes no step along a loss ℓ, which 'n_distill' has"):
        trpo(DistillTRPO, method="n_distill")


@pytest.mark.parametrize("reward_coef", [0.0, lambda progress: progress])
def test_without_a_reward_there_is_no_step(reward_coef):
    """TRPO would go along the environment's reward instead."""
    with pytest.raises(ValueError, match="no step without a reward"):
        trpo(reward_coef=reward_coef)


def test_with_the_environments_reward_alone_it_is_trpo_to_the_bit():
    settings = dict(n_steps=64, seed=0, gamma=0.9, gae_lambda=0.8, device="cpu", policy_kwargs=dict(net_arch=[8]))
    given = dict(teacher=actor_critic_teacher(countdown_envs()), reward_coef=0.0, env_reward_coef=1.0)
    ours = EntropyRegularisedTRPO("MlpPolicy", countdown_envs(), **given, **settings).learn(256)
    theirs = TRPO("MlpPolicy", countdown_envs(), **settings).learn(256)
    assert all(th.equal(a, b) for a, b in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True))


def test_its_zip_is_trpos_and_a_student_of_ppo_that_goes_on_from_it_has_a_critic(tmp_path):
    trpo(TeacherVRewardTRPO).learn(32)
    trpo().learn(32).save(tmp_path / "student")
    assert TRPO.load(tmp_path / "student", device="cpu").n_steps == 8
    assert EntropyRegularised.load(tmp_path / "student", device="cpu").vf_coef == 0.5
