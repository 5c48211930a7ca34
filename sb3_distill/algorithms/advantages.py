"""The second seam: before SB3 computes advantages, r̂ joins the rewards in its buffer. Functions of what was heard."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy

from sb3_distill.algorithms.rollout import Rollout
from sb3_distill.common.observations import concatenate_obs, stack_obs
from sb3_distill.common.spaces import action_tensor
from sb3_distill.rules.critics import td_target
from sb3_distill.rules.distributions import parameters
from sb3_distill.rules.methods import NEXT_STATE, TEACHER_VALUE, Method
from sb3_distill.rules.rewards import Transitions
from sb3_distill.teachers.teacher import Answer

#: SB3's own computation, of last values
Compute = Callable[[th.Tensor], None]


def transitions(
    heard: Rollout,
    answer: Answer,
    buffer: RolloutBuffer,
    distribution: Callable[[th.Tensor], Distribution],
    gamma: float,
    critic_unit: float,
) -> Transitions:
    """
    :param heard: of a rollout
    :param answer: the teacher's, for s_1 … s_T first
    :param buffer: with the rollout's actions and values
    :param distribution: from parameters to distributions
    :param gamma: the discount
    :param critic_unit: how much of the environment's own reward is 1 in the critic's values: r̂ is of the environment's own
    :return: what is known of s_t in each of n transitions; rows of one step are neighbours
    """
    student_t = heard.student_parameters
    n = len(student_t)
    return Transitions(
        action_t=action_tensor(buffer.action_space, buffer.actions.reshape(n, -1)),
        reward_t=th.from_numpy(np.concatenate(heard.tap.rewards)),
        continues_t=th.from_numpy(np.concatenate(heard.tap.continues)),
        gamma=gamma,
        teacher_t=distribution(answer.parameters[:n]),
        student_t=distribution(student_t),
        student_value_t=th.from_numpy(buffer.values.flatten()) * critic_unit,
    )


def student_at_ends(
    policy: ActorCriticPolicy, ask: Callable[[Any], Distribution], heard: Rollout, last_obs: Any
) -> th.Tensor:
    """
    :param policy: the student's
    :param ask: from those states, as a tensor, to its distributions there
    :param heard: of a rollout
    :param last_obs: s_{T+1}, as the student sees it
    :return: the student's parameters there, then in the states at which time limits cut episodes
    """
    truncated = heard.env.truncated
    ends = [last_obs, stack_obs(truncated)] if truncated else [last_obs]
    with th.no_grad():
        obs_tensor, _ = policy.obs_to_tensor(concatenate_obs(ends))
        return parameters(ask(obs_tensor)).cpu()


def injected_reward(
    row: Method,
    step: Transitions,
    distribution: Callable[[th.Tensor], Distribution],
    answer: Answer,
    student: th.Tensor | None,
    truncated: list[tuple[int, int, Any]],
    n_envs: int,
    bound: float | None = None,
) -> np.ndarray:
    """
    r̂ of a rollout.

    :param row: which has r̂
    :param step: what is known of s_t, for n transitions; rows of one step are neighbours
    :param distribution: from parameters to distributions
    :param answer: the teacher's for s_1 … s_{T+1}, then for the states at which time limits cut episodes
    :param student: the student's parameters there, if the row needs them beyond s_t
    :param truncated: those states' steps, environments and observations
    :param n_envs: environments side by side
    :param bound: of |r̂|; None for none
    :return: shape (n_steps, n_envs)
    :raises ValueError: if the row's is of another shape
    """
    assert row.reward is not None
    n = len(step.reward_t)
    if answer.value is not None and TEACHER_VALUE in row.reward.needs:
        step = step._replace(teacher_value_t=answer.value[:n])
    if NEXT_STATE in row.reward.needs:
        step = step._replace(teacher_tp1=distribution(next_states(answer.parameters, n, n_envs, truncated)))
        if step.teacher_value_t is not None:
            assert answer.value is not None
            step = step._replace(teacher_value_tp1=next_states(answer.value, n, n_envs, truncated))
    if student is not None:
        step = step._replace(student_tp1=distribution(next_states(student, n, n_envs, truncated)))
    return row.reward_of(step, bound).reshape(-1, n_envs).numpy()


def add_reward(
    buffer: RolloutBuffer,
    compute: Compute,
    last_values: th.Tensor,
    injected: np.ndarray,
    share: float,
    critic_unit: float | None,
    judge: Compute,
) -> None:
    """
    Returns and advantages of share · r̂ and what the buffer has of the environment's reward.

    :param buffer: changed in place
    :param compute: SB3's computation
    :param last_values: the critic's in s_{T+1}
    :param injected: r̂, shape (n_steps, n_envs)
    :param share: of r̂ in the rewards that are optimised
    :param critic_unit: None if the critic learns the return of these rewards. If it learns the environment's, how much of the
        environment's own reward is 1 in its values
    :param judge: the computation for the environment's rewards, :func:`judged`
    """
    if critic_unit is None:
        buffer.rewards += share * injected
        return compute(last_values)
    # The critic is V_πθ, which r̂ contains already. So r̂ has no critic: its advantage is its own sum, discounted by γλ.
    rewards, values = buffer.rewards, buffer.values
    buffer.rewards, buffer.values = injected, np.zeros_like(values)
    compute(th.zeros_like(last_values))
    advantages = share * buffer.advantages
    buffer.rewards, buffer.values = rewards, values
    judge(last_values)
    buffer.advantages = advantages + (1 - share) * critic_unit * buffer.advantages


def judged(
    buffer: RolloutBuffer,
    compute: Compute,
    row: Method,
    step: Transitions,
    answer: Answer,
    truncated: list[tuple[int, int, Any]],
    critic_unit: float,
    last_values: th.Tensor,
) -> None:
    """
    Returns and advantages of the environment's rewards, where the critic may learn from the teacher's.

    :param buffer: changed in place
    :param compute: SB3's computation
    :param row: with a critic or without one
    :param step: what is known of s_t, for n transitions; rows of one step are neighbours
    :param answer: the teacher's for s_1 … s_{T+1}, then for the states at which time limits cut episodes
    :param truncated: those states' steps, environments and observations
    :param critic_unit: how much of the environment's own reward is 1 in the critic's values
    :param last_values: the critic's in s_{T+1}
    """
    compute(last_values)
    if row.critic is None:
        return
    assert answer.value is not None
    n, n_envs = len(step.reward_t), buffer.n_envs
    target = answer.value[:n]
    if NEXT_STATE in row.critic.needs:
        target = td_target(step.reward_t, step.continues_t, next_states(answer.value, n, n_envs, truncated), step.gamma)
    buffer.returns = (target.reshape(-1, n_envs) / critic_unit).numpy().astype(np.float32)
    if NEXT_STATE in row.critic.needs:
        buffer.advantages = buffer.returns - buffer.values


def check_injected(row: Method, injected: np.ndarray, num_timesteps: int) -> None:
    """
    :param row: for the message
    :param injected: r̂ of a rollout
    :param num_timesteps: for the message
    :raises ValueError: if it is not finite, before anything is learnt from it
    """
    n_bad = int((~np.isfinite(injected)).sum())
    if n_bad:
        raise ValueError(
            f"The reward r̂ of row {row.name!r} is NaN or infinite in {n_bad} of {injected.size} transitions of the rollout that ends "
            f"after {num_timesteps} steps: it must be a finite number in each."
        )


def next_states(x: th.Tensor, n: int, n_envs: int, truncated: list[tuple[int, int, Any]]) -> th.Tensor:
    """
    Shift what is known of states by one step.

    :param x: about s_1 … s_{T+1}, then about the states at which time limits cut episodes, in rows: n + n_envs + k
    :param n: T · n_envs
    :param n_envs: number of environments; rows of one step are neighbours
    :param truncated: the k steps and environments of the latter; k = 0 leaves truncated steps as they are
    :return: about s_{t+1} of each of the n steps; of a step that ended an episode without a time limit, about the first
        state of the next episode, which is to be masked
    """
    x_tp1 = x[n_envs : n + n_envs].clone()
    for k, (step, i, _) in enumerate(truncated):
        x_tp1[step * n_envs + i] = x[n + n_envs + k]
    return x_tp1
