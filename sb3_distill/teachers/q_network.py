"""Teachers that are Q-networks, softened: DQN and QR-DQN."""

import warnings
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from stable_baselines3.dqn.policies import DQNPolicy

from sb3_distill.rules.masking import FORBIDDEN, allowed_values
from sb3_distill.rules.temperature import (
    ENOUGH_STATES,
    Choice,
    check_q_values,
    check_softness,
    soften,
    softest_by_confidence,
)
from sb3_distill.teachers.noise import with_noise
from sb3_distill.teachers.teacher import Answer, Observation, Teacher


def _expected(log_probs: th.Tensor, q_values: th.Tensor) -> th.Tensor:
    """Σ π (Q − max Q) + max Q: the sum's rounding is one of differences, however large what all actions share."""
    best = q_values.amax(-1)
    return best + (log_probs.exp() * (q_values - best.unsqueeze(-1))).sum(-1)


def among_allowed(q_values: th.Tensor, masks: np.ndarray) -> th.Tensor:
    """
    :param q_values: Q(s, ·), shape (n, |A|)
    :param masks: of the actions that are allowed, of the same shape
    :return: the same, with the least Q-value of an allowed action for those that are not
    """
    least = allowed_values(-q_values, masks).amax(-1, keepdim=True).neg()
    return th.where(th.as_tensor(masks, device=q_values.device), q_values, least)


class QTeacher(Teacher):
    """
    A teacher from DQN or QR-DQN: π(a|s) = (1−ε) softmax(Q(s,·)/τ) + ε/|A| and V_π(s) = Σ_a π(a|s) Q(s,a).

    For QR-DQN, Q is the mean over quantiles. Where actions are masked, all of that is over the allowed ones, |A| included: a Q-network's
    opinion of what was never allowed is worth nothing.

    :param policy: the Q-network
    :param temperature: τ > 0, in units of Q. None leaves it to be found from the first observations, see
        :func:`~sb3_distill.rules.temperature.softest_by_confidence`. Where few come at a time, as with teacher control, it is found
        anew whenever their number has doubled, until there are 256
    :param epsilon: ε in [0, 1]; ε > 0 bounds log π from below by log(ε/|A|)
    :param kwargs: see :class:`Teacher`
    """

    policy: DQNPolicy | QRDQNPolicy
    action_space: spaces.Discrete

    def __init__(
        self, policy: DQNPolicy | QRDQNPolicy, temperature: float | None = None, epsilon: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(policy, **kwargs)
        check_softness(temperature, epsilon)
        self.temperature = temperature
        self.epsilon = epsilon
        #: what the temperature was chosen by and what it costs, for tables and logs
        self.temperature_report = "given" if temperature is not None else "not chosen yet"
        #: Q-values of the first observations, while they are too few to leave it at the temperature that they give
        self._first: list[th.Tensor] = []
        self._n_chosen_by = 0

    def q_values(self, obs: Observation) -> th.Tensor:
        """
        The action values.

        :param obs: n observations as the environment gives them
        :return: Q(s, ·), shape (n, |A|), in units of the environment's own reward
        """
        with th.no_grad():
            return self._q_values(self.prepare(obs))

    def _q_values(self, obs: Any) -> th.Tensor:
        if isinstance(self.policy, QRDQNPolicy):
            q_values = self.policy.quantile_net(obs).mean(dim=1)
        else:
            q_values = self.policy.q_net(obs)
        return q_values * self.value_scale

    def _answer(self, obs: Any, with_value: bool) -> Answer:
        q_values = self._q_values(obs)
        if self.temperature is None or self._first:
            self._choose(q_values, q_values)
        assert self.temperature is not None
        log_probs = soften(q_values, self.temperature, self.epsilon)
        return Answer(log_probs, _expected(log_probs, q_values) if with_value else None)

    def _masked_answer(self, obs: Any, with_value: bool, masks: np.ndarray) -> Answer:
        q_values = self._q_values(obs)
        if self.temperature is None or self._first:
            self._choose(q_values, allowed_values(q_values, masks))
        q_values = among_allowed(q_values, masks)
        assert self.temperature is not None
        log_probs = soften(allowed_values(q_values, masks), self.temperature)
        log_probs = th.where(th.as_tensor(masks, device=log_probs.device), log_probs, FORBIDDEN)
        if self.epsilon:
            log_probs = with_noise(log_probs, self.epsilon, masks)
        return Answer(log_probs, _expected(log_probs, q_values) if with_value else None)

    def choose_temperature(self, q_values: th.Tensor) -> None:
        """
        Set the temperature to the softest one that is sure of the greedy action, and say what it costs.

        :param q_values: Q(s, ·) of a batch of states, shape (n, |A|)
        :raises ValueError: if they are not finite
        """
        check_q_values(q_values, self.name)
        self.settle(softest_by_confidence(q_values))

    def settle(self, choice: Choice) -> None:
        """
        :param choice: of the temperature, from now on; a doubt about it is a warning
        """
        self.temperature, self.temperature_report = choice.temperature, choice.report
        self._first = []
        if choice.doubt is not None:
            warnings.warn(f"The temperature of {self.name} is doubtful: {choice.doubt}.", stacklevel=2)

    def _choose(self, q_values: th.Tensor, allowed: th.Tensor) -> None:
        """From the first observations, where −inf is what is forbidden: the temperature is settled when there are enough."""
        check_q_values(q_values, self.name)
        self._first.append(allowed)
        n = sum(map(len, self._first))
        if n >= ENOUGH_STATES:
            self.settle(softest_by_confidence(th.cat(self._first)))
        elif n >= 2 * self._n_chosen_by:
            self.temperature, self.temperature_report, _ = softest_by_confidence(th.cat(self._first))
            self._n_chosen_by = n

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, temperature={self.temperature}, epsilon={self.epsilon})"
