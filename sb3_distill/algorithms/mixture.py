"""A policy gradient where teacher and student take turns: the ratio is taken against the density that has drawn the action."""

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.buffers import RolloutBuffer

from sb3_distill.algorithms.rollout import Rollout
from sb3_distill.common.spaces import action_tensor
from sb3_distill.rules.controls import log_density
from sb3_distill.rules.distributions import from_parameters
from sb3_distill.teachers.teacher import Answer


def put_executed(
    buffer: RolloutBuffer, heard: Rollout, answer: Answer, space: gym.Space, beta: float, beta_per: str
) -> None:
    """
    Put into the rollout the actions that were executed, and the logarithms of the densities that have drawn them, q(a|s) =
    β π(a|s) + (1−β) π_θ(a|s), in place of what the student would have done: PPO's ratio is then π_θ/q.

    :param buffer: changed in place
    :param heard: of the rollout
    :param answer: the teacher's, for s_1 … s_T first
    :param space: of actions
    :param beta: β in this rollout
    :param beta_per: ``"episode"``: who is drawn acts to its end, and the density is that of who acts
    """
    turns = np.stack(heard.turns)
    for step, drawn in heard.drawn.items():
        buffer.actions[step, turns[step]] = drawn.reshape(buffer.actions[step].shape)[turns[step]]
    n = turns.size
    actions = action_tensor(space, buffer.actions.reshape(n, -1))
    teacher = from_parameters(space, answer.parameters[:n]).log_prob(actions)
    student = from_parameters(space, heard.student_parameters).log_prob(actions)
    teachers = th.from_numpy(turns.flatten())
    student = th.where(teachers, student, th.from_numpy(buffer.log_probs.flatten()))  # of its own, it is known
    betas = teachers.float() if beta_per == "episode" else th.full((n,), beta)
    buffer.log_probs[:] = log_density(teacher, student, betas).reshape(turns.shape).numpy()
