"""The weights of ℓ, of r̂ and of the environment's reward, and β: what they may be, and what they are at a moment of a run."""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from stable_baselines3.common.utils import FloatSchedule

from sb3_distill.algorithms.schedules import has_effect, schedule_of, value_at
from sb3_distill.rules.controls import check_per
from sb3_distill.rules.methods import STUDENT_VALUE, Method

COEFFICIENTS = ("loss_coef", "reward_coef", "env_reward_coef")


class Weights(NamedTuple):
    """
    What the coefficients are at a moment of a run.

    :param loss: of ℓ
    :param reward: of r̂
    :param env_reward: of the environment's reward
    """

    loss: float
    reward: float
    env_reward: float

    def times(self, coefficient: float) -> "Weights":
        """
        :param coefficient: λ of the teacher, of ℓ and of r̂ that carries it
        :return: the same with less of the teacher
        """
        return self._replace(loss=coefficient * self.loss, reward=coefficient * self.reward)

    @property
    def policy_gradient(self) -> float:
        """w: with 0 there are no rewards to optimise."""
        return self.reward + self.env_reward

    def critic_is_of_env(self, row: Method) -> bool:
        """
        :param row: of the table
        :return: whether the critic learns the environment's return, and not that of the rewards that are optimised
        """
        return self.policy_gradient == 0 or STUDENT_VALUE in row.needs

    def env_scale(self, row: Method) -> float:
        """
        :param row: of the table
        :return: what the environment's reward is multiplied by in the buffer
        """
        return 1.0 if self.critic_is_of_env(row) else self.env_reward / self.policy_gradient


def schedules_of(row: Method, given: Mapping[str, Any]) -> dict[str, FloatSchedule]:
    """
    :param row: of the table
    :param given: from :data:`COEFFICIENTS` to numbers or schedules
    :return: schedules
    :raises ValueError: for what is neither, and for a weight on a term that the row does not have
    """
    schedules = dict(given)
    terms = {"loss_coef": (row.loss, "loss ℓ"), "reward_coef": (row.reward, "reward r̂")}
    for name, (term, what) in terms.items():
        value = given[name]
        if term is not None or (isinstance(value, (int, float)) and value == 0):
            continue
        if isinstance(value, FloatSchedule):
            schedules[name] = 0.0  # saved before this was an error
        elif has_effect(name, value):
            raise ValueError(
                f"The method {row.name!r} has no {what}, so {name}={value!r} would do nothing: leave {name} out, or take "
                "a method that has one."
            )
    return {name: schedule_of(name, value) for name, value in schedules.items()}


def weights_at(
    row: Method, control: str | None, given: Mapping[str, Any], progress: float, has_ratio: bool = True
) -> Weights:
    """
    :param row: of the table
    :param control: who acts
    :param given: from :data:`COEFFICIENTS` to numbers or schedules
    :param progress: what is left of the run, from 1 to 0
    :param has_ratio: whether the policy gradient weighs actions by π_θ/q, so that a mixture may draw them
    :return: what they are then
    :raises ValueError: where one is negative, NaN or infinite, and for rewards to optimise where others than the student act
    """
    weights = Weights(*(value_at(name, given[name], progress) for name in COEFFICIENTS))
    loss, reward, env_reward = weights
    if not all(0 <= coef < math.inf for coef in weights):  # nor is NaN
        name, value = next((n, v) for n, v in zip(COEFFICIENTS, weights, strict=True) if not 0 <= v < math.inf)
        raise ValueError(
            f"Coefficients must be at least 0: loss_coef={loss}, reward_coef={reward}, env_reward_coef={env_reward}. Give {name} a finite "
            f"number, not {value}."
        )
    if weights.policy_gradient > 0 and control != "student" and not (control == "mixed" and has_ratio):
        if env_reward > 0:
            term, change = "a weight on the environment's reward", "env_reward_coef=0"
        else:
            term, change = f"the reward r̂ of {row.name}", "reward_coef=0"
        why, else_ = "needs the student's own actions", ""
        if control == "mixed":
            why, else_ = (
                "has no ratio π_θ/q in A2C's machinery, by which the teacher's actions would be weighed",
                ", or take PPO's",
            )
        raise ValueError(
            f"control={control!r} cannot go with {term}, whose policy gradient {why}: set control='student' or {change}{else_}."
        )
    return weights


def check_beta(beta: Any, control: str | None, beta_per: str = "step") -> None:
    """
    :param beta: as given, or None
    :param control: who acts
    :param beta_per: how long a draw holds
    :raises ValueError: if one is without the other
    """
    check_per(beta_per)
    if beta_per != "step" and control != "mixed":
        raise ValueError(
            f"beta_per={beta_per!r} belongs to control='mixed', and control={control!r} draws nobody: leave beta_per out, or set "
            "control='mixed'."
        )
    if beta is None and control == "mixed":
        raise ValueError(
            "control='mixed' needs beta, how likely the teacher acts at a step and not the student: give beta=0.5, or another "
            "number or schedule between 0 and 1."
        )
    if beta is not None and control != "mixed":
        raise ValueError(
            f"beta={beta!r} belongs to control='mixed', and control={control!r} has none, as no other has it: leave "
            "beta out, or set control='mixed'."
        )


def beta_at(beta: Any, control: str | None, progress: float) -> float:
    """
    :param beta: a number or a schedule, where ``control`` is ``"mixed"``
    :param control: who acts
    :param progress: what is left of the run, from 1 to 0
    :return: how likely the teacher acts, where both do; 1 where they do not
    :raises ValueError: if it is outside [0, 1] then
    """
    if control != "mixed":
        return 1.0
    value = value_at("beta", beta, progress)
    if not 0 <= value <= 1:
        raise ValueError(f"beta must lie between 0 and 1, not {value}: it is how likely the teacher acts at a step.")
    return value


def warn_if_nothing_teaches(weights: Callable[[float], Weights]) -> None:
    """
    :param weights: from what is left of the run, from 1 to 0, to what they are then
    """
    if not any(any(weights(1 - k / 100)) for k in range(101)):
        warnings.warn(
            "Nothing teaches: loss_coef, reward_coef and env_reward_coef are 0 throughout the run, so the student's policy stays "
            "as it is. Give one of them a weight.",
            stacklevel=2,
        )
