"""A small random MDP: exact expected updates by linear solves, and the same MDP as a vectorised environment.

Nothing here knows how the algorithms work: state visits, values and gradients come from the transition matrix. Only the
formulas under test, of losses.py and rewards.py, are the package's own, so that the theorems are proved about them.
"""

from dataclasses import dataclass

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.rewards import Transitions
from sb3_distill.teachers import Answer, Teacher


@dataclass
class MDP:
    """S states, A actions, episodes that end by chance. ``transition[s, a]`` sums to less than 1: the rest is the end."""

    transition: th.Tensor  # (S, A, S)
    reward: th.Tensor  # (S, A)
    start: th.Tensor  # (S,)
    teacher_logits: th.Tensor  # (S, A)

    @classmethod
    def random(cls, seed, n_states=5, n_actions=3, end=0.2):
        generator = th.Generator().manual_seed(seed)

        def uniform(*shape):
            return th.rand(*shape, generator=generator, dtype=th.float64)

        transition = uniform(n_states, n_actions, n_states) ** 3
        ends = end * 2 * uniform(n_states, n_actions, 1)
        transition = (1 - ends) * transition / transition.sum(-1, keepdim=True)
        start = uniform(n_states)
        return cls(
            transition,
            4 * uniform(n_states, n_actions) - 2,
            start / start.sum(),
            1.5 * th.randn(n_states, n_actions, generator=generator, dtype=th.float64),
        )

    @property
    def n_states(self):
        return self.transition.shape[0]

    @property
    def n_actions(self):
        return self.transition.shape[1]

    def distribution(self, logits):
        return CategoricalDistribution(self.n_actions).proba_distribution(logits)

    def policy_value(self, probs, reward_sa, gamma):
        """V of a policy by a linear solve; ``reward_sa`` of shape (S, A)."""
        p = th.einsum("sa,sat->st", probs, self.transition)
        return th.linalg.solve(th.eye(self.n_states, dtype=th.float64) - gamma * p, (probs * reward_sa).sum(1))

    def teacher_value(self, gamma):
        return self.policy_value(self.teacher_logits.softmax(-1), self.reward, gamma)

    def visits(self, probs, gamma):
        """Discounted expected visits of each state in an episode."""
        p = th.einsum("sa,sat->st", probs, self.transition)
        return th.linalg.solve(th.eye(self.n_states, dtype=th.float64) - gamma * p.T, self.start)

    def rollout_visits(self, probs, n_steps, truncation):
        """Mean share of each state in a rollout of ``n_steps`` that starts with a reset and resets where episodes end."""
        p = th.einsum("sa,sat->st", probs, self.transition)
        cut = (1 - truncation) * p
        step = cut + (1 - cut.sum(1, keepdim=True)) * self.start
        share, now = th.zeros(self.n_states, dtype=th.float64), self.start
        for _ in range(n_steps):
            share, now = share + now / n_steps, now @ step
        return share

    def reward_sa(self, method, logits, gamma, student_value=None):
        """E[r̂ | s, a] of a row, shape (S, A), by listing every transition, the end of an episode among them."""
        n_s, n_a = self.n_states, self.n_actions
        end = 1 - self.transition.sum(-1, keepdim=True)
        probability = th.cat([self.transition, end], dim=-1)  # (S, A, S + 1)
        s, a, t = (x.flatten() for x in th.meshgrid(th.arange(n_s), th.arange(n_a), th.arange(n_s + 1), indexing="ij"))
        following = t.clamp(max=n_s - 1)  # whatever stands for the end must not matter
        value = self.teacher_value(gamma)
        step = Transitions(
            action_t=a,
            reward_t=self.reward[s, a],
            continues_t=(t < n_s).double(),
            gamma=gamma,
            teacher_t=self.distribution(self.teacher_logits[s]),
            student_t=self.distribution(logits[s]),
            teacher_tp1=self.distribution(self.teacher_logits[following]),
            student_tp1=self.distribution(logits[following]),
            teacher_value_t=value[s],
            teacher_value_tp1=value[following],
            student_value_t=student_value[s] if student_value is not None else None,
        )
        return (probability * method.reward(step, method.loss).reshape(n_s, n_a, n_s + 1)).sum(-1)

    def expected_update(self, method, logits, gamma, weights=None, student_value=None):
        """g(θ) of a row, shape (S, A). ``weights`` of states are their discounted visits under q unless given."""
        logits = logits.detach().requires_grad_()
        probs = logits.softmax(-1)
        control = self.teacher_logits.softmax(-1) if method.control == "teacher" else probs
        weights = self.visits(control.detach(), gamma) if weights is None else weights
        surrogate = th.zeros((), dtype=th.float64)
        if method.loss is not None:
            loss = method.loss(self.distribution(self.teacher_logits), self.distribution(logits))
            surrogate = surrogate + (weights * loss).sum()
        if method.reward is not None:
            r = self.reward_sa(method, logits.detach(), gamma, student_value)
            v = self.policy_value(probs.detach(), r, gamma)
            q = r + gamma * th.einsum("sat,t->sa", self.transition, v)
            surrogate = surrogate - (weights * (probs.detach() * logits.log_softmax(-1) * q).sum(-1)).sum()
        return th.autograd.grad(surrogate, logits)[0]


class TableTeacher(Teacher):
    """Answers from the tables of an MDP whose observation is the number of the state, and counts the questions."""

    def __init__(self, mdp, gamma):
        self.logits, self.values = mdp.teacher_logits.float(), mdp.teacher_value(gamma).float()
        self.normalize_obs = None
        self.name = "table"
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
