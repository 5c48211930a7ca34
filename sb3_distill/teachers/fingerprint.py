"""Which teacher this is: a digest of all that its answers depend on. Its name may be a path, or that of its class."""

import hashlib
from typing import Any

import numpy as np
import torch as th

from sb3_distill.teachers.q_network import QTeacher
from sb3_distill.teachers.teacher import Teacher

#: copies that a network is trained towards, and that never answer
_TARGETS = ("q_net_target.", "quantile_net_target.", "critic_target.", "actor_target.")

#: what an action is widened by, and what it is by default, of which nothing is said
_WIDTHS = {"epsilon": 0.01, "action_std": 0.1}


def fingerprint_of(teacher: Teacher) -> str:
    """
    The same teacher has the same fingerprint under every name, in every folder and on every device.

    :param teacher: who
    :return: 64 hexadecimal digits: SHA-256 of names, shapes, dtypes and values of its weights, of the statistics that normalise
        its observations, of the factor of its values, and of what widens the one action of a state. What softens Q-values is another
        matter: they are recorded as they are, and it may be chosen later
    """
    digest = hashlib.sha256(f"values times {teacher.value_scale!r}".encode())
    for name, tensor in sorted(teacher.weights().items()):
        if isinstance(tensor, th.Tensor) and not name.startswith(_TARGETS):
            digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            # As bytes, for NumPy does not know every dtype.
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(th.uint8).numpy().tobytes())
    if teacher.noise:
        digest.update(f"\nnoise {teacher.noise!r}\n".encode())
    for name, usual in () if isinstance(teacher, QTeacher) else _WIDTHS.items():
        if (value := vars(teacher).get(name, usual)) != usual:
            digest.update(f"\n{name} {float(value)!r}\n".encode())
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
