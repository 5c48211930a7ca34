"""A teacher for one command: its temperature is chosen where it is asked, in that command's environments, arguments and all."""

from collections.abc import Callable
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.agents.known_temperatures import known_choice
from sb3_distill.agents.load import EPISODES, load_teacher
from sb3_distill.agents.own_source import try_in
from sb3_distill.teachers.noise import check_noise, made_noisy
from sb3_distill.teachers.q_network import QTeacher
from sb3_distill.teachers.teacher import Teacher, as_teacher_reads
from sb3_distill.teachers.tuning import tune_temperature


def load_teacher_for(
    source: str,
    env_id: str | None,
    make_env: Callable[[int], VecEnv],
    *,
    tune: bool = True,
    as_registered: bool = False,
    noise: float = 0.0,
    **options: Any,
) -> Teacher:
    """
    As :func:`~sb3_distill.load_teacher`, but that episodes are played in given environments: an id says neither the arguments that
    an environment is made with nor what is around it.

    :param source: of the teacher
    :param env_id: the environments' name, for messages
    :param make_env: makes n of them
    :param tune: whether episodes may be played to choose a temperature
    :param as_registered: whether they are made with no arguments but those of their registration: what was found there before for the
        same weights is taken then, however busy the machine is
    :param noise: the share of its actions that is uniform; not of those that are played to tune
    :param options: of ``load_teacher``
    :return: the teacher
    :raises ValueError: as there; also OSError and ImportError
    """
    teacher = load_teacher(source, env_id=env_id, tune=False, **options)
    try_in(teacher, make_env)
    if tune and isinstance(teacher, QTeacher) and teacher.temperature is None and env_id is not None:
        known = known_choice(teacher) if as_registered else None
        teacher.env_id, teacher.make_env = env_id, lambda n: as_teacher_reads(teacher, make_env(n))
        if known is None:
            tune_temperature(teacher, EPISODES)
        else:
            teacher.settle(known)
    return made_noisy(teacher, check_noise(noise))
