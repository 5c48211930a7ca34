"""Optimisers: what of a saved one another can go on from, and updates in few calls."""

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


def in_few_calls(optimizer: th.optim.Optimizer) -> None:
    """:param optimizer: from now on it updates all parameters at once, if its kind can: the same arithmetic to the bit"""
    for group in optimizer.param_groups:
        if group.get("foreach", False) is None:
            group["foreach"] = True
