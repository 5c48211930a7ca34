"""The exact MDPs of sb3_distill.tabular as the deep algorithms meet them: a teacher, and a vectorised environment."""

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.tabular.exact import MDP
from sb3_distill.teachers.teacher import Answer, Teacher

__all__ = ["MDP", "MDPVecEnv", "TableTeacher", "rollout_visits"]


def rollout_visits(mdp, probs, n_steps, truncation):
    """Mean share of each state in a rollout of ``n_steps`` that starts with a reset and resets where episodes end."""
    cut = (1 - truncation) * mdp.chain(probs)
    step = cut + (1 - cut.sum(1, keepdim=True)) * mdp.start
    share, now = th.zeros(mdp.n_states, dtype=th.float64), mdp.start
    for _ in range(n_steps):
        share, now = share + now / n_steps, now @ step
    return share


class TableTeacher(Teacher):
    """Answers from the tables of an MDP whose observation is the number of the state, and counts the questions."""

    def __init__(self, mdp, gamma):
        self.logits, self.values = mdp.teacher_logits.float(), mdp.teacher_value(gamma).float()
        self.normalize_obs = None
        self.name, self.gamma = "table", gamma
        self.asked = []

    observation_space = property(lambda self: spaces.Discrete(self.logits.shape[0]))
    action_space = property(lambda self: spaces.Discrete(self.logits.shape[1]))
    device = property(lambda self: th.device("cpu"))

    def prepare(self, obs):
        self.asked.append(len(obs))
        return th.as_tensor(obs).long().flatten()

    def _answer(self, obs, with_value):
        return Answer(self.logits[obs].log_softmax(-1), self.values[obs] if with_value else None)


class MDPVecEnv(VecEnv):
    """n copies of an MDP, stepped in numpy. A time limit cuts an episode with probability ``truncation`` a step."""

    def __init__(self, mdp, n_envs, seed, truncation=0.0):
        super().__init__(n_envs, spaces.Discrete(mdp.n_states), spaces.Discrete(mdp.n_actions))
        self.cumulative = mdp.transition.cumsum(-1).numpy()
        self.rewards = mdp.reward.numpy()
        self.start = mdp.start.numpy()
        self.truncation = truncation
        self.rng = np.random.default_rng(seed)

    def reset(self):
        self.state = self.rng.choice(len(self.start), self.num_envs, p=self.start)
        return self.state.copy()

    def step_async(self, actions):
        self.actions = actions

    def step_wait(self):
        rewards = self.rewards[self.state, self.actions].astype(np.float32)
        following = (self.rng.random((self.num_envs, 1)) > self.cumulative[self.state, self.actions]).sum(-1)
        terminated = following == len(self.start)
        truncated = ~terminated & (self.rng.random(self.num_envs) < self.truncation)
        dones = terminated | truncated
        infos = [{"TimeLimit.truncated": bool(t)} for t in truncated]
        for i in np.flatnonzero(dones):
            infos[i]["terminal_observation"] = np.array(min(following[i], len(self.start) - 1))
        fresh = self.rng.choice(len(self.start), self.num_envs, p=self.start)
        self.state = np.where(dones, fresh, following)
        return self.state.copy(), rewards, dones, infos

    def close(self):
        pass

    def get_attr(self, attr_name, indices=None):
        return [None] * self.num_envs

    def set_attr(self, attr_name, value, indices=None):
        pass

    def env_method(self, method_name, *args, indices=None, **kwargs):
        return [None] * self.num_envs

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False] * self.num_envs
