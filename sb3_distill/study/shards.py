"""A study in parts: for the array jobs of a cluster, each of which does one, and knows nothing of the others."""

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

Item = TypeVar("Item")
#: SLURM's variables of an array job
_ID, _COUNT, _LEAST = "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"


def shard_of(items: Sequence[Item], shard: tuple[int, int] | None) -> list[Item]:
    """
    >>> shard_of("abcde", (1, 2)), shard_of("abcde", (2, 2)), shard_of("ab", None)
    (['a', 'c', 'e'], ['b', 'd'], ['a', 'b'])

    :param items: all of them
    :param shard: ``(k, n)``: the k-th of n parts, from 1; None for all
    :return: the part
    :raises ValueError: if there is no such part
    """
    if shard is None:
        return list(items)
    k, n = shard
    if not 1 <= k <= n:
        raise ValueError(f"The part {k}/{n} does not exist: parts are 1/{max(n, 1)} to {max(n, 1)}/{max(n, 1)}.")
    return list(items[k - 1 :: n])


def parse_shard(text: str) -> tuple[int, int]:
    """
    :param text: ``K/N``
    :return: the two
    :raises ValueError: if it is something else
    """
    match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"A part must be K/N, such as 1/4 for the first of four, not {text!r}.")
    return int(match[1]), int(match[2])


def slurm_shard(environ: Mapping[str, str]) -> tuple[int, int] | None:
    """
    >>> slurm_shard({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "0"})
    (4, 4)

    :param environ: of the process
    :return: which part an array job of SLURM is; None if it is none
    :raises ValueError: if its variables do not say which
    """
    if _ID not in environ:
        return None
    given = {name: environ[name] for name in (_ID, _COUNT, _LEAST, "SLURM_ARRAY_TASK_STEP") if name in environ}
    said = ", ".join(f"{name}={value}" for name, value in given.items())
    try:
        number, count = int(environ[_ID]), int(environ[_COUNT])
        step = int(environ.get("SLURM_ARRAY_TASK_STEP") or 1)
        k, rest = divmod(number - int(environ[_LEAST]), max(1, step))
    except (KeyError, ValueError):
        k, rest, count = 0, 1, 0
    if rest or not 0 <= k < count:
        raise ValueError(
            f"{said} do not say which part of the study this is: number the array 1-N, or give --shard K/N."
        )
    return k + 1, count
