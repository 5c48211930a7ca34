"""A model that learns on, as a teacher that stays as the model is now."""

import copy
import warnings

from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_distill.agents.load import load_teacher
from sb3_distill.teachers.teacher import Teacher


def snapshot(model: BaseAlgorithm, first: bool = True) -> Teacher:
    """
    :param model: any that can teach
    :param first: whether it may be said that the model does something else than its network says
    :return: the teacher that it is now; what the model learns later does not reach it
    """
    with warnings.catch_warnings():
        if not first:
            warnings.filterwarnings("ignore", ".* does not do what its network says")
        teacher = load_teacher(model, tune=False)  # the student has a temperature of its own
    teacher.policy = copy.deepcopy(teacher.policy)
    teacher.name = f"{teacher.name} after {model.num_timesteps} steps"
    return teacher
