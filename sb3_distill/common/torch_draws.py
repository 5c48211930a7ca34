"""PyTorch's random numbers, left as they are by what nobody is to notice."""

from contextlib import AbstractContextManager

import torch as th


def same_draws(device: th.device) -> AbstractContextManager[None]:
    """
    :param device: that is computed on
    :return: a context after which PyTorch draws what it would have drawn without it, on the CPU and on that device. Other devices
        are not looked at, which takes time where there are many
    """
    return th.random.fork_rng([device] if device.type == "cuda" else [])
