"""The state of an optimiser that was saved, beside the optimiser that it is for."""

from typing import Any

import torch as th

#: settings of a group of parameters that say how an optimiser computes and not what; which there are depends on torch's version
_IMPLEMENTATION = {"params", "foreach", "maximize", "capturable", "differentiable", "fused", "decoupled_weight_decay"}


def same_kind(saved: dict[str, Any], optimizer: th.optim.Optimizer) -> bool:
    """
    :param saved: the state of an optimiser
    :param optimizer: another
    :return: whether the latter can go on from the former
    """
    groups = (saved["param_groups"][0], optimizer.param_groups[0])
    a, b = (set(group) - _IMPLEMENTATION for group in groups)
    return a == b
