"""Which memory this is."""

import hashlib

from sb3_distill.memory.memory import Memory


def memory_fingerprint(memory: Memory) -> str:
    """
    Cheaply told: by what the memory is of, and how much is in it.

    :param memory: which
    :return: 64 hexadecimal digits
    """
    about = memory.about
    parts = (
        about.env_id,
        about.teacher,
        about.fingerprint,
        about.kind,
        len(memory),
        getattr(memory, "memory_id", None),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()
