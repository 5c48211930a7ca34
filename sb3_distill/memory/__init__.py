"""A teacher's memory: the states that a teacher has been in and what it said about them, to learn from without it.

* :func:`record` plays a teacher and writes its memory to disk.
* :class:`DiskMemory` reads it: shuffled, in batches, larger than RAM.
* :class:`Memory`, :class:`Batch` and :class:`About` are what a student learns from, on disk or in RAM.
* :func:`check_memory` sees whether a memory fits a student.
"""

from typing import TYPE_CHECKING

from sb3_distill.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from sb3_distill.memory.check import check_memory
    from sb3_distill.memory.disk import DiskMemory
    from sb3_distill.memory.errors import DamagedMemoryError
    from sb3_distill.memory.memory import About, Batch, Memory
    from sb3_distill.memory.recorder import record

__all__ = [
    "About",
    "Batch",
    "DamagedMemoryError",
    "DiskMemory",
    "Memory",
    "check_memory",
    "record",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "check_memory": "sb3_distill.memory.check",
        "DiskMemory": "sb3_distill.memory.disk",
        "DamagedMemoryError": "sb3_distill.memory.errors",
        "About": "sb3_distill.memory.memory",
        "Batch": "sb3_distill.memory.memory",
        "Memory": "sb3_distill.memory.memory",
        "record": "sb3_distill.memory.recorder",
    },
)
