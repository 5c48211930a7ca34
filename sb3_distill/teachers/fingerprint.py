"""Which teacher this is: a digest of all that its answers depend on. Its name may be a path, or that of its class."""

import hashlib
from typing import Any

import numpy as np
import torch as th

from sb3_distill.teachers.teacher import Teacher

#: copies that a network is trained towards, and that never answer
_TARGETS = ("q_net_target.", "quantile_net_target.", "critic_target.", "actor_target.")


def fingerprint_of(teacher: Teacher) -> str:
    """
    The same teacher has the same fingerprint under every name, in every folder and on every device.

    :param teacher: who
    :return: 64 hexadecimal digits: SHA-256 of names, shapes, dtypes and values of its weights, of the statistics that normalise
        its observations, and of the factor of its values
    """
    digest = hashlib.sha256(f"values times {teacher.value_scale!r}".encode())
    for name, tensor in sorted(teacher.weights().items()):
        if isinstance(tensor, th.Tensor) and not name.startswith(_TARGETS):
            digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            # As bytes, for NumPy does not know every dtype.
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(th.uint8).numpy().tobytes())
    if teacher.noise:
        digest.update(f"\nnoise {teacher.noise!r}\n".encode())
    if teacher.normalize_obs is not None:
        statistics = getattr(teacher.normalize_obs, "statistics", None)
        fields = () if statistics is None else (*statistics._asdict().items(),)
        digest.update(b"\nnormalised\n")
        for name, value in fields:
            if name != "reward_scale":  # the factor of the values
                _update(digest, name, value)
    return digest.hexdigest()


def _update(digest: Any, name: str, value: Any) -> None:
    """Add a number, an array or a dict of arrays, whatever the precision that it came in."""
    if isinstance(value, dict):
        for key in sorted(value):
            _update(digest, f"{name}/{key}", value[key])
        return
    array = np.asarray(value, dtype=np.float64)
    digest.update(f"\n{name} {array.shape}\n".encode() + np.ascontiguousarray(array).tobytes())
