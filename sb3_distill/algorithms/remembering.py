"""What a student with an LSTM remembers in a state that it is asked about, and whose machinery trains one."""

from typing import Any

import numpy as np
import torch as th
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy

from sb3_distill.algorithms.rollout import Rollout

#: of one LSTM: what it shows and what it keeps, each of shape (layers, n, lstm_hidden_size)
Memory = tuple[th.Tensor, th.Tensor]


def blank(policy: RecurrentActorCriticPolicy, n: int) -> RNNStates:
    """
    :param policy: of a student
    :param n: environments side by side
    :return: what both LSTMs remember before an episode: zeros of shape (layers, n, lstm_hidden_size)
    """
    layers, _, size = policy.lstm_hidden_state_shape
    zeros = th.zeros(layers, n, size, device=policy.device)
    return RNNStates((zeros, zeros), (zeros, zeros))


def memory_at_ends(buffer: Any, last: Memory, starts: np.ndarray, heard: Rollout) -> tuple[Memory, th.Tensor]:
    """
    What the actor's LSTM remembers in s_{T+1}, then in the states at which time limits cut episodes. There the episode goes on: it
    remembers all up to the state before, which is what it had at hand one step later, when the reset had not been told to it.

    :param buffer: of the rollout, before its arrays are flattened
    :param last: of the actor's LSTM after s_T
    :param starts: whether an episode begins in s_{T+1}, shape (n_envs,)
    :param heard: of the rollout
    :return: the memory, and whether it is to be forgotten first, shape (n_envs + k,)
    """
    columns: list[list[th.Tensor]] = [[part] for part in last]
    for step, i, _ in heard.tap.truncated:
        if step + 1 < buffer.buffer_size:
            found = (buffer.hidden_states_pi[step + 1], buffer.cell_states_pi[step + 1])
            after = [th.as_tensor(part[:, i : i + 1], device=last[0].device) for part in found]
        else:
            after = [part[:, i : i + 1] for part in last]
        for column, part in zip(columns, after, strict=True):
            column.append(part)
    forgets = np.concatenate([np.asarray(starts, np.float32), np.zeros(len(heard.tap.truncated), np.float32)])
    shown, kept = (th.cat(column, dim=1) for column in columns)
    return (shown, kept), th.as_tensor(forgets, device=last[0].device)


def check_memory(algorithm: Any, policy: Any) -> None:
    """
    :param algorithm: a class of students
    :param policy: that is asked for, by its class or SB3's name
    :raises ValueError: for a policy with a memory where none is trained, and the other way round; the class that does is named
    """
    from sb3_distill.algorithms.engines import sibling  # which imports all classes, and they this

    name = policy if isinstance(policy, str) else getattr(policy, "__name__", repr(policy))
    mine = algorithm.__name__
    if not algorithm.remembers and _is(policy, RecurrentPPO, RecurrentActorCriticPolicy):
        raise ValueError(
            f"{name} has a memory, which {mine} does not train: take {sibling(algorithm, 'recurrent_ppo')}, or give a policy without "
            "one, 'MlpPolicy' on stacked observations for example."
        )
    if algorithm.remembers and not _is(policy, RecurrentPPO, RecurrentActorCriticPolicy):
        if _is(policy, PPO, ActorCriticPolicy):
            raise ValueError(
                f"{name} has no memory, and {mine} trains one: give {', '.join(map(repr, RecurrentPPO.policy_aliases))} or a subclass "
                f"of RecurrentActorCriticPolicy, or take {sibling(algorithm, 'ppo')}."
            )


def _is(policy: Any, algorithm: Any, base: type) -> bool:
    return (
        policy in algorithm.policy_aliases
        if isinstance(policy, str)
        else (isinstance(policy, type) and issubclass(policy, base))
    )
