"""Memories that a student of a memory is given, or has saved: which can be opened, and which fit."""

from pathlib import Path
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.algorithms.frame_stack import frame_stack_of
from sb3_distill.memory.memory import Memory
from sb3_distill.memory.ring import RingMemory

#: the name of a memory that is no task's
ONLY = ""


def only_memory(memories: dict[str, RingMemory], path: Any) -> RingMemory:
    """
    :param memories: that were read, by the ids of tasks
    :param path: for the message
    :return: the one that is no task's
    :raises ValueError: if they are of tasks
    """
    if list(memories) != [ONLY]:
        raise ValueError(
            f"{path} has the memories of the tasks {sorted(memories)}: load it with MultiTaskDistillation."
        )
    return memories[ONLY]


def check_copies(memory: RingMemory, env: VecEnv) -> None:
    """
    :param memory: that was loaded
    :param env: in which it is to be filled
    :raises ValueError: if it is of another number of environments, or of frames where there are none here
    """
    if memory.n_envs not in (0, env.num_envs):
        raise ValueError(
            f"The memory is of {memory.n_envs} environments side by side, and here are {env.num_envs}: make as many."
        )
    if memory.n_stack is not None and memory.n_stack != frame_stack_of(env):
        raise ValueError(
            f"The memory is of stacks of {memory.n_stack} frames, which VecFrameStack made: put one around the environment."
        )


def open_memory(memory: Memory | str | Path) -> Memory:
    """
    :param memory: one, or the path of one that was recorded
    :return: a memory with something in it
    :raises ValueError: if there is nothing in it
    """
    if not isinstance(memory, Memory):
        from sb3_distill.memory.disk import DiskMemory

        memory = DiskMemory(memory)
    if len(memory) == 0:
        raise ValueError(f"The memory of {memory.about.teacher} is empty: record some steps first.")
    return memory
