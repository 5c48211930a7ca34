"""HDF5 files that say themselves whether they are whole.

HDF5 leaves the first bytes of a file to its user (the "user block"). Here they hold the version of the layout, which memory
the file belongs to, and the SHA-256 of these two and of all that follows: a file that was cut off, altered, or put in from
elsewhere is known before HDF5 reads a byte of it. The digest tells of accidents. Whoever alters a file on purpose can
write a new one, so what is read behind it is checked, too.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sb3_distill.memory.errors import DamagedMemoryError
from sb3_distill.memory.hdf5 import h5py

#: version of the layout, in these files and in ``metadata.json``
FORMAT = 1
USER_BLOCK = 512
#: HDF5 1.10 reads it (virtual datasets need that), and groups take half the bytes of older versions
_LIBVER = ("v110", "v110")
_SEAL = re.compile(rb"sb3-distill memory, format (\d{1,9})\nmemory ([0-9a-f]{64})\nsha256 ([0-9a-f]{64})\n\0*")
_PIECE = 1 << 20


@contextmanager
def writing(path: Path, memory_id: str) -> Iterator[Any]:
    """
    Open a file to write in, and seal it at the end.

    :param path: of a file that nobody else reads yet, or that is not there
    :param memory_id: 64 hexadecimal digits
    """
    with h5py.File(path, "a", userblock_size=USER_BLOCK, libver=_LIBVER) as file:
        yield file
    with path.open("r+b") as raw:
        header = _header(memory_id)
        raw.write(header + b"sha256 " + _digest(raw, header).encode() + b"\n")


def check_seal(path: Path, memory_id: str) -> None:
    """
    :param path: of a file
    :param memory_id: of the memory that it should belong to
    :raises DamagedMemoryError: if it is truncated or altered, of another version of the format, or of another memory
    """
    with path.open("rb") as raw:
        found = _SEAL.fullmatch(raw.read(USER_BLOCK))
        if found is None:
            raise DamagedMemoryError(f"{path} is truncated or altered: it does not begin as a file of a memory.")
        check_format(int(found[1]), path)
        if found[3].decode() != _digest(raw, _header(found[2].decode())):
            raise DamagedMemoryError(
                f"{path} is truncated or altered: its bytes are not those that were written. Restore it from a copy, or record "
                "the memory anew."
            )
        if found[2].decode() != memory_id:
            raise DamagedMemoryError(
                f"{path} is of another memory than metadata.json beside it: one of the two was altered or put there."
            )


def check_format(version: object, path: Path) -> None:
    """
    :param version: what a file says
    :param path: of the file
    :raises DamagedMemoryError: if it is not the version that is read here
    """
    if version != FORMAT:
        raise DamagedMemoryError(
            f"{path} is of format {version}, and this version of sb3-distill reads and writes format {FORMAT}: formats do not "
            "mix. Record the memory anew, or use the version that wrote it."
        )


def _header(memory_id: str) -> bytes:
    return f"sb3-distill memory, format {FORMAT}\nmemory {memory_id}\n".encode()


def _digest(raw: Any, header: bytes) -> str:
    """Of a header and of all behind the user block; the position in the file comes back as it was."""
    digest = hashlib.sha256(header)
    position = raw.tell()
    raw.seek(USER_BLOCK)
    while piece := raw.read(_PIECE):
        digest.update(piece)
    raw.seek(position)
    return digest.hexdigest()
