"""What is learnt from the teacher in a minibatch: mean w·ℓ, and how much ℓ counts there."""

import warnings

import gymnasium as gym
import torch as th
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy

from sb3_distill.algorithms.buffers import DistillRolloutBuffer
from sb3_distill.algorithms.gradient import check_on_graph
from sb3_distill.rules.distributions import executed, from_parameters, parameters, plain
from sb3_distill.rules.methods import Method
from sb3_distill.rules.weights import States


def batch_loss(
    row: Method,
    space: gym.Space,
    policy: ActorCriticPolicy,
    buffer: DistillRolloutBuffer,
    critic_unit: float,
    clip_range: float | None,
    weights: list[float],
    values: th.Tensor,
    log_prob: th.Tensor,
) -> th.Tensor:
    """
    Mean w·ℓ of the minibatch that was evaluated last.

    :param row: with a loss
    :param space: of actions
    :param policy: the student's, right after its forward pass
    :param buffer: which has given the minibatch out
    :param critic_unit: how much of the environment's own reward is 1 in the critic's values
    :param clip_range: ε of PPO's objective, if there is one
    :param weights: the minibatch's mean w joins them, where the row has one that differs from state to state
    :param values: of that pass, shape (n,), off the graph; n counts rows that fill sequences up, which ``buffer.batch_mask`` leaves out
    :param log_prob: of that pass, shape (n,)
    :return: on the graph
    :raises ValueError: if nothing can be learnt from ℓ
    """
    is_state, student = buffer.batch_mask, plain(space, policy.action_dist)
    if is_state is not None:  # now and not of the losses: what fills up may have any, and infinity times 0 is no number
        student = from_parameters(space, parameters(student)[is_state])
        values, log_prob = values[is_state], log_prob[is_state]
    student = executed(space, student)
    teacher = from_parameters(space, buffer.batch_teacher_parameters)
    loss = row.loss_of(teacher, student)
    check_on_graph(loss, log_prob, row.name)
    if row.state_weight is not None:
        log_ratio = log_prob - buffer.batch_old_log_prob
        states = States(teacher, student, buffer.batch_teacher_values, values * critic_unit, log_ratio, clip_range)
        weight = row.weight_of(states)
        weights.append(float(weight.detach().mean()))
        loss = weight * loss
    return loss.mean()


def log_weight(
    logger: Logger,
    row: Method,
    buffer: DistillRolloutBuffer,
    critic_unit: float,
    mean: float,
    num_timesteps: int | None,
) -> bool:
    """
    Log how much ℓ has counted in an update.

    :param logger: of the run
    :param row: with a weight
    :param buffer: of the rollout that was learnt from
    :param critic_unit: how much of the environment's own reward is 1 in the critic's values
    :param mean: of w
    :param num_timesteps: for the warning that ℓ counts in no state; None where it was said before
    :return: whether it is said now
    """
    logger.record("distill/weight", mean)
    if buffer.teacher_values is None:
        return False
    theirs, ours = float(buffer.teacher_values.mean()), float(buffer.values.mean()) * critic_unit
    logger.record("distill/teacher_value", theirs)
    logger.record("distill/student_value", ours)
    if mean != 0 or num_timesteps is None:
        return False
    assert row.weight is not None
    warnings.warn(
        f"Nothing is learnt from the teacher after {num_timesteps} steps: the weight {row.weight.formula} "
        f"is 0 in all states, where V_π is {theirs:.4g} and V_πθ {ours:.4g} in the mean. If the student is not that much better, "
        "the values are of different discounts or units: give gamma the teacher's, or leave weight out.",
        stacklevel=2,
    )
    return True
