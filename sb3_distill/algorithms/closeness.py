"""How alike teacher and student are in the states of a rollout, as it is logged."""

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution

from sb3_distill.rules import losses


def closeness(space: gym.Space, n: int, teacher: Distribution, student: Distribution) -> dict[str, float]:
    """
    :param space: of actions
    :param n: how many states there are
    :param teacher: its distributions there
    :param student: the student's, as it was when it saw them
    :return: means over the states: KL(π‖π_θ) and H(π), and either the distance of the modes in each dimension of ``Box`` actions, or
        the share of the states in which both have the same greedy action
    """
    means = {
        "kl": float(losses.kl(teacher, student).mean()),
        "teacher_entropy": float(losses.entropy(teacher).mean()),
    }
    greedy = [distribution.mode().reshape(n, -1) for distribution in (teacher, student)]
    if isinstance(space, spaces.Box):
        return means | {"mean_distance": float((greedy[0] - greedy[1]).abs().mean())}
    return means | {"agreement": float((greedy[0] == greedy[1]).all(dim=1).float().mean())}
