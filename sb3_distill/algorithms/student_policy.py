"""Which policies and sizes a student may have: what is wrong is said before any work."""

import inspect
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any

import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.torch_layers import FlattenExtractor, NatureCNN

from sb3_distill.algorithms.schedules import TRIED, discount_at
from sb3_distill.common.torch_draws import same_draws
from sb3_distill.rules.distributions import check_readable, unvalidated


def check_policy(policy_class: Any, policy_kwargs: dict[str, Any], base: type = ActorCriticPolicy) -> None:
    """
    :param policy_class: of the student
    :param policy_kwargs: its arguments
    :param base: the class that the engine's policies are of
    :raises ValueError: for a policy that the engine cannot train, and for squashed actions
    """
    if isinstance(policy_class, type):
        is_masked = issubclass(policy_class, MaskableActorCriticPolicy)
        if base is MaskableActorCriticPolicy and not is_masked:
            raise ValueError(
                f"A student of MaskablePPO's machinery has a policy that can be masked, not {policy_class.__name__}: give 'MlpPolicy', "
                "'CnnPolicy', 'MultiInputPolicy' or a subclass of sb3-contrib's MaskableActorCriticPolicy."
            )
        if is_masked and base is not MaskableActorCriticPolicy:
            raise ValueError(
                f"{policy_class.__name__} is a policy of MaskablePPO's: give it to DistillMaskablePPO or a class of its rows "
                "(NDistillMaskablePPO …), engine='maskable_ppo', or leave the choice to 'MlpPolicy'."
            )
        if not issubclass(policy_class, base):
            raise ValueError(
                f"A student of PPO's or A2C's machinery has an actor-critic policy, not {policy_class.__name__}: give 'MlpPolicy', "
                "'CnnPolicy', 'MultiInputPolicy' or a subclass of ActorCriticPolicy. (PolicyDistillation trains a DQN's.)"
            )
    if policy_kwargs.get("squash_output"):
        raise ValueError(
            "A student with squashed actions cannot be compared with its teacher: leave squash_output=True out of policy_kwargs."
        )


def check_reads(policy_class: Any, policy_kwargs: dict[str, Any], space: spaces.Space) -> None:
    """
    :param policy_class: of the student
    :param policy_kwargs: its arguments
    :param space: of its observations
    :raises ValueError: for a policy that reads arrays where there is a Dict, and for one that would flatten pictures which SB3's network
        for images can read: in thousands of inputs without an order little is found. With ``features_extractor_class`` somebody has said
        what they wish
    """
    if not isinstance(policy_class, type) or "features_extractor_class" in policy_kwargs:
        return
    parameter = inspect.signature(policy_class).parameters.get("features_extractor_class")
    reads = None if parameter is None else parameter.default
    kind = "LstmPolicy" if issubclass(policy_class, RecurrentActorCriticPolicy) else "Policy"
    if isinstance(space, spaces.Dict) and reads in (FlattenExtractor, NatureCNN):
        raise ValueError(
            f"{policy_class.__name__} reads an array, and the student sees a Dict of {', '.join(map(repr, space.spaces))}: give "
            f"'MultiInput{kind}'."
        )
    if not isinstance(space, spaces.Box) or len(space.shape) != 3 or not is_image_space(space):
        return
    height, width = space.shape[1:] if is_image_space_channels_first(space) else space.shape[:2]
    if reads is FlattenExtractor and min(height, width) >= 36:  # of SB3's NatureCNN
        raise ValueError(
            f"{policy_class.__name__} flattens what it sees, and the student sees pictures, {space}: give 'Cnn{kind}' (or "
            f"'MultiInput{kind}' for a Dict of them), or say features_extractor_class=FlattenExtractor in policy_kwargs."
        )


def check_numbers(settings: Mapping[str, Any]) -> None:
    """
    :param settings: of an algorithm, by their names; what is missing or None is SB3's default
    :raises ValueError: for sizes below 1, for ``max_grad_norm`` at or below 0, with which nothing would be learnt, for discounts
        outside [0, 1], for a ``learning_rate`` below 0, and for a seed that NumPy does not take; a schedule is tried when it is needed
    """
    seed = settings.get("seed")
    if seed is not None and not (isinstance(seed, Integral) and 0 <= int(seed) < 2**32):
        raise ValueError(f"seed must be a whole number from 0 to 2**32 - 1, or None, not {seed!r}.")
    for name in ("gamma", "gae_lambda"):
        value = settings.get(name)
        if name == "gamma" and callable(value):
            for progress in TRIED:
                discount_at(value, progress)
        elif value is not None and not is_share(value):
            raise ValueError(f"{name} must lie between 0 and 1, not {value!r}.")
    rate = settings.get("learning_rate")
    if rate is not None and not callable(rate) and not isinstance(rate, str):
        check_rate(rate)
    for name in ("n_steps", "batch_size", "n_epochs", "train_freq"):
        value = settings.get(name)
        if value is not None and not (_is_number(value) and value >= 1):
            kind = "" if _is_number(value) else "a whole number, "
            raise ValueError(f"{name} must be {kind}at least 1, not {value!r}.")
    value = settings.get("max_grad_norm")
    if value is not None and not (_is_number(value) and value > 0):  # nor is NaN
        raise ValueError(f"max_grad_norm, to which a gradient is cut, must be greater than 0, not {value!r}.")


def check_rate(rate: Any) -> None:
    """
    :param rate: of learning
    :raises ValueError: if it is negative, with which the student would unlearn, or NaN
    """
    if not (_is_number(rate) and rate >= 0):
        raise ValueError(f"learning_rate must be at least 0, not {rate!r}.")


def _is_number(value: Any) -> bool:
    """Also an array or a tensor of one."""
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, str)


def is_share(value: Any) -> bool:
    """
    :param value: whatever was given
    :return: whether it is a number from 0 to 1
    """
    try:
        return bool(0 <= value <= 1)  # which NaN is not
    except TypeError:
        return False


def check_distribution(policy: ActorCriticPolicy, obs: Any, ask: Callable[[Any], Any] | None = None) -> None:
    """
    Ask a policy for its action distribution, once, before there is anything to lose. No random number is drawn.

    :param policy: of the student
    :param obs: of n environments, as the policy sees them
    :param ask: calls its ``get_distribution`` with a tensor of observations, where that takes more than these
    :raises ValueError: if its ``get_distribution`` fails
    :raises TypeError: if what it returns cannot be read
    """
    policy.set_training_mode(False)
    with th.no_grad(), same_draws(policy.device), unvalidated():  # what is not finite is said where it is known when
        try:
            distribution = (ask or policy.get_distribution)(policy.obs_to_tensor(obs)[0])
        except Exception as error:
            raise ValueError(
                f"The student's policy {type(policy).__name__} does not tell its action distribution: its get_distribution raises "
                f"{type(error).__name__}: {error}. Give it one that returns what ActorCriticPolicy's does."
            ) from error
    check_readable(distribution)
