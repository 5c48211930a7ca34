"""How many threads PyTorch computes with, where games have threads of their own."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch as th
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.common.layers import innermost
from sb3_distill.envs.atari import AtariVecEnv

#: With so many threads a rollout's small batches are done as soon by one of them. The other would go on waiting for work after
#: each batch, for a millisecond and in a loop, on a core that ALE's threads need by then.
FEW_THREADS = 2


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """
    :param n: how many threads PyTorch has in this context
    """
    before = th.get_num_threads()
    th.set_num_threads(n)
    try:
        yield
    finally:
        th.set_num_threads(before)


def rollout_threads(env: VecEnv) -> int:
    """
    :param env: any stack of wrappers
    :return: how many threads of PyTorch choose actions there: one in ALE's games if PyTorch has few, else all that it has
    """
    n_threads = th.get_num_threads()
    return 1 if n_threads <= FEW_THREADS and isinstance(innermost(env), AtariVecEnv) else n_threads
