"""What the student's critic learns of the teacher's value function: targets, as pure functions of a rollout."""

import torch as th

from sb3_distill.common.shapes import check_same_shape


def td_target(reward_t: th.Tensor, continues_t: th.Tensor, teacher_value_tp1: th.Tensor, gamma: float) -> th.Tensor:
    """
    TD + V_π (Czarnecki et al. 2019, proposition 3): the value of a step, by the teacher's value of where it leads.

    :param reward_t: r_t, the environment's own, shape (n,)
    :param continues_t: 0 where the step ended the episode, but for a time limit, else 1, shape (n,)
    :param teacher_value_tp1: V_π(s_{t+1}) in units of those rewards, of the state at which a time limit cut the episode, too; shape (n,)
    :param gamma: γ
    :return: r_t + γ V_π(s_{t+1}), without the last term where the episode has ended, shape (n,)
    :raises ValueError: for other shapes, which would be broadcast
    """
    check_same_shape(reward_t=reward_t, continues_t=continues_t, teacher_value_tp1=teacher_value_tp1)
    return reward_t + gamma * th.where(continues_t > 0, teacher_value_tp1, 0.0)
