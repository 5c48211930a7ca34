"""Shapes that have to be equal: PyTorch would broadcast (n, 1) beside (n,) to (n, n), and nobody would be told."""

import torch as th


def check_same_shape(**tensors: th.Tensor) -> None:
    """
    :param tensors: by the names that a message calls them
    :raises ValueError: if their shapes differ in an axis that all of them have; axes before those are of whole batches, as of several
        worlds
    """
    n_axes = min(tensor.ndim for tensor in tensors.values())
    if len({tensor.shape[tensor.ndim - n_axes :] for tensor in tensors.values()}) > 1:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise ValueError(f"Shapes have to be equal, as PyTorch would broadcast them: {shapes}.")
