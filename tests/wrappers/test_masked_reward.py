"""The teacher's reward for sb3-contrib's own MaskablePPO: of a distribution among the actions that are allowed."""

import numpy as np
import pytest
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from masked_envs import SPACES, MaskedEnv, masked_envs, masked_teacher
from sb3_distill import load_teacher
from sb3_distill.common.masks import allowed_action
from sb3_distill.envs import TeacherReward, VecTeacherReward

SMALL = dict(n_steps=16, batch_size=16, n_epochs=1, seed=0, device="cpu")


def q(obs):
    return np.concatenate([5 * obs, obs[:, :1] * 7, 90 + obs], axis=1)


@pytest.mark.parametrize("reward", ["log_prob", "teacher_value"])
def test_it_is_paid_among_the_allowed_and_at_time_limits_too(reward):
    """Against probabilities in float64, in environments whose masks are gone when a time limit has cut."""
    seen, paid = [], []

    class Noted(MaskedEnv):
        def _next(self):
            seen.append((super()._next(), self.mask.copy()))
            return seen[-1][0]

        def step(self, action):
            made = super().step(action)
            paid.append(made[1])
            return made

    teacher = load_teacher(q, answers="q_values", batched=True, temperature=2.0, epsilon=0.0)
    env = VecTeacherReward(
        masked_envs(n_envs=1, env_class=Noted), teacher, reward, shift=None, gamma=0.9, env_reward_coef=1.0
    )

    def policy(k):
        obs, mask = seen[k]
        values = q(obs[None])[0].astype(np.float64)
        p = np.where(mask, np.exp((values - values[mask].max()) / 2), 0)
        return p / p.sum(), (p * values).sum() / p.sum()

    env.reset()
    rng, cut = np.random.default_rng(0), 0
    for _ in range(30):
        k = len(seen) - 1
        action = rng.choice(np.flatnonzero(seen[k][1]))
        _, _, dones, infos = env.step(np.array([action]))
        if reward == "log_prob":
            want = np.log(policy(k)[0][action])
        else:
            truncated = infos[0]["TimeLimit.truncated"]
            cut += truncated
            following = 0 if dones[0] and not truncated else policy(k + 1)[1]
            want = paid[-1] + 0.9 * following - policy(k)[1]
        assert infos[0]["teacher_reward"] == pytest.approx(want, abs=1e-3)
    assert reward == "log_prob" or cut >= 2


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_maskable_ppo_learns_from_it_unmodified(space):
    teacher = masked_teacher(masked_envs(space))
    for env in (
        VecTeacherReward(masked_envs(space), teacher),
        make_vec_env(lambda: MaskedEnv(space), 2, wrapper_class=TeacherReward, wrapper_kwargs={"teacher": teacher}),
    ):
        model = MaskablePPO("MlpPolicy", env, **SMALL).learn(32)
        assert np.abs(model.rollout_buffer.rewards).max() < 100


def test_an_agent_that_heeds_no_masks_is_told_which_does():
    env = VecTeacherReward(masked_envs(spaces.Discrete(7)), masked_teacher(masked_envs()))
    with pytest.raises(ValueError, match=r"which the environment forbids.*learn with sb3-contrib's MaskablePPO"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("masked_envs.is_allowed", lambda *a: True)
            PPO("MlpPolicy", env, **SMALL).learn(64)


def test_draws_among_the_allowed_are_uniform():
    for space in SPACES:
        space.seed(0)
        mask = np.ones(7 if not isinstance(space, spaces.MultiBinary) else 6, bool)
        mask[0] = False
        drawn = [allowed_action(space, mask) for _ in range(300)]
        first = np.array([np.ravel(action)[0] for action in drawn])
        assert 0 not in first
