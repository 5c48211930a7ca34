"""Teachers whose actions are bounded: SAC, TQC and CrossQ (squashed Gaussians), TD3 and DDPG (one action), ARS (one action).

The students' Gaussians are not squashed, and the KL between the two kinds has no closed form. So these teachers answer with
the diagonal Gaussian that has the mean and the variance of their own actions, in the environment's units. For H×(π‖π_θ), the
loss of teacher and on-policy distill, nothing is lost by that: the expectation of a Gaussian's log-density depends on π
through its first two moments only.
"""

import math
from numbers import Real
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.ars.policies import ARSPolicy
from sb3_contrib.crossq.policies import CrossQPolicy
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy
from torch.nn import functional

from sb3_distill.common.spaces import env_actions
from sb3_distill.rules.temperature import check_softness
from sb3_distill.teachers.teacher import Answer, Observation, Teacher

#: Points of the quadrature, and how many standard deviations they reach to either side. Up to σ = e², the widest that SAC
#: allows, the mean is exact to 2e-6, the standard deviation to 1e-5, and its logarithm down to MIN_STD to 1e-4.
NODES, REACH = 128, 6.5
#: the narrowest Gaussian that a teacher answers with, in units of half the range of an action
MIN_STD = 1e-3


def tanh_moments(mean: th.Tensor, std: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """
    Mean and standard deviation of tanh(u), u ∼ N(mean, std²), by a sum over evenly spaced points.

    It converges geometrically, for the integrand is analytic and falls off as a Gaussian. Gauss–Hermite points of the same
    number are further apart in the middle, where a wide tanh has its step, and a thousand times less exact there.

    :param mean: of any shape
    :param std: of the same shape
    :return: two tensors of that shape
    """
    z = th.linspace(-REACH, REACH, NODES, dtype=mean.dtype, device=mean.device)
    w = th.softmax(-(z**2) / 2, dim=0)
    values = th.tanh(mean[..., None] + std[..., None] * z)
    first = (values * w).sum(-1)
    return first, ((values - first[..., None]) ** 2 * w).sum(-1).sqrt()


class _BoxTeacher(Teacher):
    """What the teachers of a ``Box`` share."""

    action_space: spaces.Box  # type: ignore[assignment]

    def _gaussian(self, mean: th.Tensor, std: th.Tensor | float) -> th.Tensor:
        """Parameters of a Gaussian that is given in [-1, 1], in the environment's units."""
        low = th.as_tensor(self.action_space.low.flatten(), device=mean.device)
        high = th.as_tensor(self.action_space.high.flatten(), device=mean.device)
        half = (high - low) / 2
        std = th.as_tensor(std, device=mean.device).clamp(min=MIN_STD).expand_as(mean)
        return th.cat([low + half * (mean + 1), (half * std).log()], dim=-1)

    def act(self, obs: Observation, masks: np.ndarray | None = None) -> np.ndarray:
        if masks is not None:  # of ARS with discrete actions
            return super().act(obs, masks)
        self.policy.set_training_mode(False)
        normalised = obs if self.normalize_obs is None else self.normalize_obs(obs)
        return self.policy.predict(normalised, deterministic=True)[0]


class SquashedTeacher(_BoxTeacher):
    """
    A teacher from SAC, TQC or CrossQ. V_π(s) is the critics' least (SAC, CrossQ) or mean (TQC) value of the greedy action;
    it contains the entropy that they were paid for.
    """

    policy: SACPolicy | TQCPolicy | CrossQPolicy

    def greedy(self, obs: Observation) -> np.ndarray:
        with th.no_grad():
            params = self._gaussian(th.tanh(self._normal(self.prepare(obs)).mean), 1.0)
        return env_actions(self.action_space, params.chunk(2, dim=-1)[0])

    def _normal(self, obs: Any) -> th.distributions.Normal:
        """Before it is squashed."""
        actor = self.policy.actor
        mean, log_std, kwargs = actor.get_action_dist_params(obs)
        return actor.action_dist.proba_distribution(mean, log_std, **kwargs).distribution

    def _answer(self, obs: Any, with_value: bool) -> Answer:
        normal = self._normal(obs)
        params = self._gaussian(*tanh_moments(normal.mean, normal.stddev))
        if not with_value:
            return Answer(params, None)
        values = self.policy.critic(obs, th.tanh(normal.mean))
        if isinstance(self.policy, TQCPolicy):
            value = values.mean(dim=(1, 2))
        else:
            value = th.cat(values, dim=1).amin(dim=1)
        return Answer(params, value * self.value_scale)


class DeterministicTeacher(_BoxTeacher):
    """
    A teacher from TD3, DDPG or ARS, which has one action in each state. What it answers is wider: a Gaussian around the
    action, or ε of all its mass spread over the discrete actions.

    :param policy: the network
    :param action_std: of the Gaussian, in units of half the range of an action; TD3 explores with 0.1
    :param epsilon: ε in (0, 1], of discrete actions
    :param kwargs: see :class:`~sb3_distill.Teacher`
    :raises ValueError: if either is not positive and finite: log π would be infinite
    """

    policy: TD3Policy | ARSPolicy

    def __init__(
        self, policy: TD3Policy | ARSPolicy, action_std: float = 0.1, epsilon: float = 0.01, **kwargs: Any
    ) -> None:
        super().__init__(policy, **kwargs)
        check_softness(None, epsilon)
        for option, value in (("action_std", action_std), ("epsilon", epsilon)):
            if not (isinstance(value, Real) and 0 < value < math.inf):
                raise ValueError(
                    f"{option} must be greater than 0 for {self.name}, which has one action in each state, not {value!r}."
                )
        self.action_std = action_std
        self.epsilon = epsilon
        self.has_value = isinstance(policy, TD3Policy)

    def _answer(self, obs: Any, with_value: bool) -> Answer:
        actions = self.policy._predict(obs, deterministic=True)
        if isinstance(self.action_space, spaces.Discrete):
            n = int(self.action_space.n)
            probs = (1 - self.epsilon) * functional.one_hot(actions, n) + self.epsilon / n
            return Answer(probs.log(), None)
        if isinstance(self.policy, ARSPolicy) and not self.policy.squash_output:
            low, high = (
                th.as_tensor(bound.flatten(), device=actions.device)
                for bound in (self.action_space.low, self.action_space.high)
            )
            actions = 2 * (actions.clamp(low, high) - low) / (high - low) - 1
        params = self._gaussian(actions, self.action_std)
        if not with_value or not isinstance(self.policy, TD3Policy):
            return Answer(params, None)
        return Answer(params, th.cat(self.policy.critic(obs, actions), dim=1).amin(dim=1) * self.value_scale)
