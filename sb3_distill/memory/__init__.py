"""A teacher's memory: the states that a teacher has been in and what it said about them, to learn from without it.

* :func:`record` plays a teacher and writes its memory to disk.
* :class:`DiskMemory` reads it: shuffled, in batches, larger than RAM.
* :class:`Memory`, :class:`Batch` and :class:`About` are what a student learns from, on disk or in RAM.
* :func:`check_memory` sees whether a memory fits a student.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sb3_distill.memory.batches import About, Batch, Memory
    from sb3_distill.memory.check import check_memory
    from sb3_distill.memory.disk import DiskMemory
    from sb3_distill.memory.errors import DamagedMemoryError
    from sb3_distill.memory.recorder import record

__all__ = ["About", "Batch", "DamagedMemoryError", "DiskMemory", "Memory", "check_memory", "record"]

_HOME = {
    "About": "batches",
    "Batch": "batches",
    "DamagedMemoryError": "errors",
    "DiskMemory": "disk",
    "Memory": "batches",
    "check_memory": "check",
    "record": "recorder",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: h5py is an extra, and a memory in RAM does not need it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
