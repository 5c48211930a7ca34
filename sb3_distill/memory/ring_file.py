"""Memories in RAM as a file: arrays of NumPy, and JSON for what they are of. Nothing in it is unpickled or evaluated."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np

from sb3_distill.common.damaged_zip import DAMAGED_ZIP
from sb3_distill.common.files import replacing
from sb3_distill.memory.errors import DamagedMemoryError
from sb3_distill.memory.memory import About, Kind
from sb3_distill.memory.ring import RingMemory
from sb3_distill.memory.space_text import space_from_data, space_to_data

FORMAT = "sb3-distill memories 1"
#: the file's name in SB3's manner: what has no suffix gets this one
SUFFIX = ".pkl"
_HEADER = "header"


def write_memories(path: str | Path | io.BufferedIOBase, memories: Mapping[str, RingMemory]) -> None:
    """
    :param path: of the file, or a file; a name without a suffix gets ".pkl", as SB3's buffers do, and folders are made
    :param memories: by name
    :raises OSError: if the disk is full; what was there under that name stays
    """
    arrays: dict[str, np.ndarray] = {}
    described = []
    for number, (name, memory) in enumerate(memories.items()):
        numbers, its = memory.contents()
        described.append({"name": name, "about": _about_data(memory.about), "numbers": numbers, "arrays": list(its)})
        arrays |= {f"{number}_{k}": array for k, array in enumerate(its.values())}
    text = json.dumps({"format": FORMAT, "memories": described})
    arrays[_HEADER] = np.frombuffer(text.encode(), np.uint8)
    if not isinstance(path, (str, Path)):
        np.savez(path, **arrays)  # type: ignore[arg-type]
        return
    target = Path(path)
    target = target if target.suffix else Path(f"{target}{SUFFIX}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_memories(path: str | Path | io.BufferedIOBase) -> dict[str, RingMemory]:
    """
    :param path: of the file, or a file; ".pkl" may be left out
    :return: memories by name
    :raises FileNotFoundError: if there is none
    :raises DamagedMemoryError: if the file is something else, truncated or altered
    """
    source: Any = path
    if isinstance(path, (str, Path)):
        source = Path(path)
        if not source.is_file() and not source.suffix:
            source = Path(f"{source}{SUFFIX}")
        if not source.is_file():
            raise FileNotFoundError(f"There is no memory at {source}: give the path that save_replay_buffer was given.")
    try:
        with zipfile.ZipFile(source) as members:
            if any(member.compress_type != zipfile.ZIP_STORED for member in members.infolist()):
                raise ValueError("its parts are compressed")  # to what size, nobody knows
            if members.testzip() is not None:
                raise ValueError("its checksums are wrong")
        if not isinstance(path, (str, Path)):
            path.seek(0)
        with np.load(source, allow_pickle=False) as arrays:
            data = json.loads(arrays[_HEADER].tobytes())
            if data["format"] != FORMAT:
                raise ValueError(f"its format is {str(data['format'])[:80]!r}, and known is {FORMAT!r}")
            return {str(its["name"]): _memory(its, number, arrays) for number, its in enumerate(data["memories"])}
    except DAMAGED_ZIP as error:
        raise DamagedMemoryError(
            f"{path} is no memory that save_replay_buffer of a distillation wrote, or is truncated or altered: {error}."
        ) from error


def _memory(its: dict[str, Any], number: int, arrays: Any) -> RingMemory:
    """:param its: what the header says of the memory; :param arrays: of all"""
    found = {str(name): arrays[f"{number}_{k}"] for k, name in enumerate(its["arrays"])}
    about = its["about"]
    if about["kind"] not in get_args(Kind):
        raise ValueError(f"its answers are {str(about['kind'])[:80]!r}")
    spaces = {key: space_from_data(about[key]) for key in ("observation_space", "action_space")}
    numbers = {str(name): value if value is None else int(value) for name, value in its["numbers"].items()}
    return RingMemory.of(About(**{**about, **spaces}), numbers, found)


def _about_data(about: About) -> dict[str, Any]:
    spaces = {key: space_to_data(getattr(about, key)) for key in ("observation_space", "action_space")}
    return about._asdict() | spaces
