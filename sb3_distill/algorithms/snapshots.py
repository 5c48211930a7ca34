"""A model that learns on, as a teacher or a policy that stays as the model is now."""

import copy
import warnings
from typing import Any, TypeVar

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from sb3_distill.agents.load import load_teacher
from sb3_distill.teachers.teacher import Teacher

SomePolicy = TypeVar("SomePolicy", bound=BasePolicy)


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
    teacher.policy = frozen_copy(teacher.policy)
    teacher.name = f"{teacher.name} after {model.num_timesteps} steps"
    return teacher


def frozen_copy(policy: SomePolicy) -> SomePolicy:
    """
    :param policy: any
    :return: a copy that stays as it is, without what its optimisers know
    """
    # The last distribution is on a graph, which cannot be copied and is not needed.
    parts = [getattr(module, name, None) for module in policy.modules() for name in ("action_dist", "optimizer")]
    shared: dict[int, Any] = {id(part): copy.copy(part) for part in parts if part is not None}
    frozen = copy.deepcopy(policy, shared)
    frozen.requires_grad_(False)
    frozen.set_training_mode(False)
    return frozen
