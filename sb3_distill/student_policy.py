"""Which policies a student of PPO's and A2C's machinery may have: what is wrong is said before any work."""

from typing import Any

from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy


def check_policy(policy_class: Any, policy_kwargs: dict[str, Any]) -> None:
    """
    :param policy_class: of the student
    :param policy_kwargs: its arguments
    :raises ValueError: for a policy that PPO and A2C cannot train, and for squashed actions
    """
    if isinstance(policy_class, type):
        if not issubclass(policy_class, ActorCriticPolicy):
            raise ValueError(
                f"A student of PPO's or A2C's machinery has an actor-critic policy, not {policy_class.__name__}: give 'MlpPolicy', "
                "'CnnPolicy', 'MultiInputPolicy' or a subclass of ActorCriticPolicy. (PolicyDistillation trains a DQN's.)"
            )
        if issubclass(policy_class, RecurrentActorCriticPolicy):
            raise ValueError(
                f"{policy_class.__name__} has a memory, which PPO and A2C cannot train: give another policy, or stack observations."
            )
    if policy_kwargs.get("squash_output"):
        raise ValueError(
            "A student with squashed actions cannot be compared with its teacher: leave squash_output=True out of policy_kwargs."
        )
