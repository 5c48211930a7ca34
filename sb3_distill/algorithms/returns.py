"""Mean returns that a student is compared by: its teacher's and random play's, given or played, and those of its own last episodes."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.evaluation.episodes import EVALUATION_SEED, Heeding, play_episodes, random_play
from sb3_distill.rules.weights import Returns, check_returns
from sb3_distill.teachers.teacher import Teacher

#: of each, where nobody gives their mean return; an episode is cut after that many steps
EPISODES, MAX_STEPS = 10, 10_000


def known_returns(teacher_return: float | None, random_return: float | None, teacher: Teacher | None) -> Returns:
    """
    :param teacher_return: G_π as given, or None: then some episodes are played where the teacher was trained
    :param random_return: G_random as given, or None, likewise
    :param teacher: who teaches; None leaves what is not given at 0 or 1, above each other, for a check of the rest
    :return: both, and nothing of the student yet
    :raises ValueError: if they cannot be compared, or one is neither given nor can be played
    """
    if teacher is not None:
        teacher_return = _played(teacher, None) if teacher_return is None else teacher_return
        random_return = _played(teacher, 0) if random_return is None else random_return
    elif teacher_return is None or random_return is None:
        for name, value in (("teacher_return", teacher_return), ("random_return", random_return)):
            if value is not None and not np.isfinite(value):
                raise ValueError(f"{name} must be a mean return, a finite number, not {value!r}.")
        return Returns(1.0, None, 0.0)
    returns = Returns(teacher_return, None, random_return)  # type: ignore[arg-type]
    check_returns(returns)
    return returns


def _played(teacher: Teacher, seed: int | None) -> float:
    """:param seed: of random play; None for the teacher's own"""
    name, who = ("teacher_return", "the teacher") if seed is None else ("random_return", "uniformly random play")

    def make(n: int) -> VecEnv:
        return teacher.training_env(n)

    act = Heeding(teacher.act) if seed is None else random_play(teacher.action_space, EPISODES, seed)
    try:
        return float(play_episodes(act, make, EPISODES, EVALUATION_SEED, MAX_STEPS).returns.mean())
    except ValueError as error:
        hint = " (0 is QDagger's, where no return is negative)" if seed is not None else ""
        raise ValueError(
            f"weight='return_ratio' compares with the mean return of {who}, which is not known here: give {name}=…{hint}, or load the "
            f"teacher with env_id=…, for it to be played. {error}"
        ) from error


def students_return(episodes: Sequence[Mapping[str, Any]] | None) -> float | None:
    """
    :param episodes: SB3's ``ep_info_buffer``, of the last episodes that have ended
    :return: their mean return in the environment's own rewards; None where there is none
    """
    return float(np.mean([episode["r"] for episode in episodes])) if episodes else None


def warn_of_unknown_returns(n_ended: int) -> None:
    """:param n_ended: how many episodes have ended, of which nobody has told the return"""
    warnings.warn(
        f"weight='return_ratio' stays 1: {n_ended} episodes have ended, and the environment has told the return of none. Put a Monitor "
        "around each environment, as make_vec_env does, or a VecMonitor around them all.",
        stacklevel=2,
    )
