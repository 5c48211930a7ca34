"""A callback that waits for rollouts must not stand within one that tells it of none."""

from stable_baselines3.common.callbacks import BaseCallback, EventCallback


def check_told_of_rollouts(callback: BaseCallback, more: str = "") -> None:
    """
    :param callback: that acts when a rollout begins or ends
    :param more: for the message
    :raises ValueError: if it is within an event callback
    """
    name, parent = type(callback).__name__, type(callback.parent).__name__
    if isinstance(callback.parent, EventCallback):
        raise ValueError(
            f"{name} would never be called within {parent}, which tells it of no rollout: give it to learn() as a callback of its own, "
            f"callback=[{name}(…), {parent}(…)].{more}"
        )
