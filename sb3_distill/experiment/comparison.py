"""How far a student has come: its share of the teacher's return, and how alike the two act where the student goes."""

import time
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.common.layers import innermost, raw_env
from sb3_distill.common.masks import has_masks, masks_now
from sb3_distill.common.questions import as_dones
from sb3_distill.common.spaces import env_actions
from sb3_distill.common.tap import Tap
from sb3_distill.evaluation.episodes import Greedy
from sb3_distill.evaluation.student_env import seen_by
from sb3_distill.rules import losses
from sb3_distill.rules.distributions import from_parameters, parameters, unvalidated
from sb3_distill.teachers.teacher import Teacher, masks_if_any
from sb3_distill.teachers.view import Wrap, view_of


class Share(NamedTuple):
    """A student's share of what its teacher gains over random play.

    :param mean: (student − random) / (teacher − random), of mean returns: 1 is the teacher, 0 random play
    :param standard_error: of that
    """

    mean: float
    standard_error: float


def share_of_teacher(teacher: np.ndarray, student: np.ndarray, random: np.ndarray) -> Share | None:
    """
    How much of the teacher's return over random play a student has.

    The standard error is the delta method's, of episodes with the same seeds for all three: what a hard episode costs the teacher and
    the student alike does not count as a difference.

    :param teacher: returns of n ≥ 2 episodes
    :param student: of the same n episodes
    :param random: likewise
    :return: the share; None where the teacher is not better than random play by two standard errors, so that there is nothing to share
    :raises ValueError: if the three are not of the same episodes
    """
    if not len(teacher) == len(student) == len(random) >= 2:
        raise ValueError(
            "Shares are of the same episodes, at least 2: these are "
            f"{len(teacher)} of the teacher, {len(student)} of the student and {len(random)} of random play."
        )
    n, gain = len(teacher), float(np.mean(teacher) - np.mean(random))
    if gain <= 2 * (teacher - random).std(ddof=1) / np.sqrt(n):
        return None
    share = float(np.mean(student) - np.mean(random)) / gain
    # Derivatives of the share by the three means, and so each episode's part in its error.
    parts = (student - share * teacher + (share - 1) * random) / gain
    return Share(share, float(parts.std(ddof=1) / np.sqrt(n)))


class Likeness(NamedTuple):
    """How alike a student and its teacher act in the states that the student comes to; what does not apply is None.

    :param n_states: how many that were
    :param agreement: share of the states in which both have the same greedy action, of discrete actions
    :param mean_distance: between the greedy actions, mean over states and axes, in the environment's units; of a ``Box``
    :param kl: mean of KL(π‖π_θ), in nats; of students that are an actor-critic
    """

    n_states: int
    agreement: float | None
    mean_distance: float | None
    kl: float | None


def likeness(
    student: BaseAlgorithm,
    teacher: Teacher,
    env: VecEnv,
    n_states: int = 2_000,
    teacher_obs: Wrap | str | None = None,
    seconds: float = 20.0,
) -> Likeness:
    """
    Play a student greedily and ask its teacher about every state that it comes to.

    :param student: an SB3 model; one that was trained with a ``VecNormalize`` has its statistics here too
    :param teacher: the student's
    :param env: to play in, see :func:`~sb3_distill.evaluation.student_env.seen_by`; it is reset, and not closed
    :param n_states: about how many: rounded up to whole steps of all environments
    :param teacher_obs: see :mod:`~sb3_distill.teachers.view`
    :param seconds: after which it is played no further, where steps are slow
    :return: how alike they are, and by how many states
    :raises ValueError: if the teacher does not fit the environment
    """
    env = seen_by(student, env)
    raw, vec_normalize = raw_env(env)
    view = view_of(teacher, raw, innermost(env), teacher_obs)
    n_steps = -(-n_states // env.num_envs)
    policy: Any = student.policy
    heeds, masks = isinstance(policy, MaskableActorCriticPolicy) and has_masks(env), list[np.ndarray]()
    end = time.monotonic() + seconds
    actions: list[np.ndarray] = []
    student_parameters: list[th.Tensor] = []
    student.policy.set_training_mode(False)
    with unvalidated(), th.no_grad():
        with nullcontext() if view is None else view.hearing(steps=False):
            obs: Any = env.reset()
        if view is None:
            tap = Tap(raw, obs if vec_normalize is None else vec_normalize.old_obs, _unchanged)
        else:
            tap = Tap(view.env, view.obs, _unchanged, view.step)
        play, starts = Greedy(student.predict), np.ones(env.num_envs, dtype=bool)
        play.begin(starts)
        with tap:
            for step in range(n_steps):
                if heeds:
                    masks.append(masks_now(env, f"in step {step + 1} of the comparison"))
                more: Any = {"action_masks": masks[-1]} if heeds else {}
                remembered = play.state
                actions.append(play(obs, **more))
                if isinstance(policy, (ActorCriticPolicy, MaskableActorCriticPolicy)):
                    tensor, _ = policy.obs_to_tensor(obs)
                    there = distribution_in(policy, tensor, remembered, starts, **more)
                    student_parameters.append(parameters(there).cpu())
                if step + 1 == n_steps or time.monotonic() > end:
                    break
                obs, _, ends, _ = env.step(actions[-1])
                starts = as_dones(ends)
                play.begin(starts)
        told = masks_if_any(np.concatenate(masks) if heeds else None)
        answer = teacher.answer_in_chunks(tap.observations.batch(0), **told).parameters.cpu()
        pi = from_parameters(student.action_space, answer)
        n = len(actions) * env.num_envs
        mine, theirs = np.concatenate(actions), env_actions(student.action_space, pi.mode())
        difference = mine.reshape(n, -1) - theirs.reshape(n, -1)
        box = isinstance(student.action_space, spaces.Box)
        kl = None
        if student_parameters:
            kl = float(losses.kl(pi, from_parameters(student.action_space, th.cat(student_parameters))).mean())
    return Likeness(
        n,
        None if box else float((difference == 0).all(axis=1).mean()),
        float(np.abs(difference).mean()) if box else None,
        kl,
    )


def distribution_in(policy: Any, obs: Any, state: Any, starts: np.ndarray, **more: Any) -> Any:
    """
    :param policy: of a student
    :param obs: n observations, as a tensor
    :param state: what it remembers, as its ``predict`` returned it; None before an episode
    :param starts: whether these are first observations of episodes, shape (n,)
    :param more: for a policy without a memory, such as masks
    :return: its action distributions
    """
    if not isinstance(policy, RecurrentActorCriticPolicy):
        return policy.get_distribution(obs, **more)
    layers, _, size = policy.lstm_hidden_state_shape
    if state is None:
        state = (np.zeros((layers, len(starts), size)),) * 2
    shown, kept = (th.as_tensor(part, dtype=th.float32, device=policy.device) for part in state)
    first = th.as_tensor(starts, dtype=th.float32, device=policy.device)
    return policy.get_distribution(obs, (shown, kept), first)[0]


def _unchanged(actions: np.ndarray) -> np.ndarray:
    return actions
