"""Reads the weights in a file of torch's, ``policy.pth``, without torch's unpickler.

``torch.load(weights_only=True)`` keeps a list of what it calls, and yet ran code before torch 2.6 (CVE-2025-32434) and wrote
beyond its memory before 2.10 (CVE-2026-24747). In any version, a kilobyte makes it hang or overflow the interpreter's stack,
and a file of the format before torch 1.6 has it hand out memory that nobody filled. What SB3 saves is simple, a dictionary of
tensors, and is put together here from the structure of the pickle and the bytes of the storages.
"""

import io
import re
import struct
import sys
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th

from sb3_distill.agents.unpickling import Inert, InertUnpickler, Name

#: members of the largest zip that is read
MAX_MEMBERS = 10_000

_DTYPES = {
    "torch.FloatStorage": "f4",
    "torch.DoubleStorage": "f8",
    "torch.HalfStorage": "f2",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
    "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
}
_REBUILD = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_KNOWN = {"collections.OrderedDict", _REBUILD, _PARAMETER, *_DTYPES}
#: how a file begins that torch before 1.6 wrote: two pickles of these
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001

#: from the key and the dtype of a storage to the bytes from which its numbers are taken
_Find = Callable[[str, np.dtype], np.ndarray]


class MoreThanWeightsError(ValueError):
    """A file of torch's that names something which weights do not need; the message is that name."""


def read_weights(content: bytes) -> dict[str, th.Tensor] | None:
    """
    :param content: of a file that torch wrote
    :return: the dictionary of tensors that it holds; None if it holds anything else
    :raises MoreThanWeightsError: if loading it would import what weights do not need
    :raises ValueError: if it is damaged; a hostile file may raise anything else
    """
    saved, find = _from_zip(content) if content.startswith(b"PK") else _from_row(content)
    if not isinstance(saved, dict) or not all(isinstance(key, str) and _is_tensor(v) for key, v in saved.items()):
        return None
    tensors = _Tensors(find, len(content))
    return {name: tensors.rebuild(made) for name, made in saved.items()}


def read_weights_and_more(content: bytes) -> tuple[dict[str, th.Tensor], dict[str, Any] | None]:
    """
    :param content: of a file that torch wrote, of what ``policy.save`` saves
    :return: the tensors in its ``state_dict``, and what its ``data`` describes: inert, nothing that it names is imported;
        nothing and None for a file without a ``state_dict``
    :raises ValueError: if it is damaged; a hostile file may raise anything else
    """
    if not content.startswith(b"PK"):
        raise ValueError("it is no file of torch's since 1.6")
    saved, find = _from_zip(content, any_name=True)
    if not isinstance(saved, dict) or not isinstance(saved.get("state_dict"), dict):
        return {}, None
    weights, data = saved["state_dict"], saved.get("data")
    if not isinstance(data, dict) or not all(isinstance(k, str) and _is_tensor(v) for k, v in weights.items()):
        raise ValueError("it has no data of a policy beside its weights")
    tensors = _Tensors(find, len(content))
    return {name: tensors.rebuild(made) for name, made in weights.items()}, data


def read_groups(content: bytes) -> dict[str, dict[str, th.Tensor]]:
    """
    :param content: of a file that torch wrote, of a dictionary that other libraries save
    :return: the dictionaries in it that hold tensors alone, by name, and under ``""`` itself if it does; of what else it holds,
        nothing is made
    :raises ValueError: if it is damaged; a hostile file may raise anything else
    """
    if not content.startswith(b"PK"):
        raise ValueError("it is no file of torch's since 1.6")
    saved, find = _from_zip(content, any_name=True)
    if not isinstance(saved, dict):
        return {}
    tensors = _Tensors(find, len(content))
    groups = {"": saved} | {key: part for key, part in saved.items() if isinstance(key, str) and isinstance(part, dict)}
    return {
        name: {key: tensors.rebuild(made) for key, made in group.items()}
        for name, group in groups.items()
        if group and all(isinstance(key, str) and _is_tensor(made) for key, made in group.items())
    }


def _load(unpickler: InertUnpickler, any_name: bool = False) -> Any:
    """The next pickle, if it names nothing strange."""
    if any_name:
        return unpickler.load()
    try:
        return unpickler.load()
    finally:
        strange = next((name for name in unpickler.names if name not in _KNOWN), None)
        if strange is not None:
            raise MoreThanWeightsError(re.sub(r"[^\w.]", "?", strange)[:80])


def _from_zip(content: bytes, any_name: bool = False) -> tuple[Any, _Find]:
    """A zip with a pickle and a member for each storage, none of them compressed."""
    if content.count(b"PK\1\2") > MAX_MEMBERS:
        raise ValueError(f"it has more than {MAX_MEMBERS:,} members")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {member.filename: member for member in archive.infolist()}

    def stored(name: str) -> memoryview:
        member = members[name]
        start = member.header_offset
        if member.compress_type != zipfile.ZIP_STORED or content[start : start + 4] != b"PK\3\4":
            raise ValueError(f"its member {name!r} is compressed or damaged")
        start += 30 + sum(struct.unpack_from("<HH", content, start + 26))
        if start + member.file_size > len(content):
            raise ValueError(f"its member {name!r} claims {member.file_size:,} bytes")
        return memoryview(content)[start : start + member.file_size]

    pickles = [name for name in members if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError("it is a zip, and none of torch's")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}byteorder" in members and bytes(stored(f"{root}byteorder")) != sys.byteorder.encode():
        raise ValueError("its numbers have another byte order than this machine's")
    saved = _load(InertUnpickler(bytes(stored(pickles[0]))), any_name)
    return saved, lambda key, dtype: _numbers(stored(f"{root}data/{key}"), dtype)


def _from_row(content: bytes) -> tuple[Any, _Find]:
    """As torch before 1.6 wrote: a row of pickles, then each storage with its length."""
    unpickler = InertUnpickler(content)
    try:
        magic = _load(unpickler), _load(unpickler)
    except MoreThanWeightsError:
        raise
    except Exception as error:
        raise ValueError("it is no file of torch's") from error
    if magic != (_MAGIC, _PROTOCOL):
        raise ValueError("it is no file of torch's")
    system = _load(unpickler)
    if system["little_endian"] is not (sys.byteorder == "little"):
        raise ValueError("its numbers have another byte order than this machine's")
    saved, keys = _load(unpickler), _load(unpickler)
    dtypes = dict(_storage(identity)[:2] for identity in unpickler.identities)
    found: dict[str, memoryview] = {}
    at = unpickler.stream.tell()
    for key in keys:
        if not isinstance(key, str):  # and whatever else it is, it is not to be hashed
            raise ValueError("one of its storages has no name")
        size = struct.unpack_from("<q", content, at)[0] * dtypes[key].itemsize
        at += 8
        if not 0 <= size <= len(content) - at:
            raise ValueError(f"one of its storages claims {size:,} bytes")
        found[key] = memoryview(content)[at : at + size]
        at += size
    return saved, lambda key, dtype: _numbers(found[key], dtype)


def _numbers(content: memoryview, dtype: np.dtype) -> np.ndarray:
    return np.frombuffer(content, dtype, len(content) // dtype.itemsize)


def _is_tensor(made: Any) -> bool:
    return isinstance(made, Inert) and made.called in (_REBUILD, _PARAMETER)


def _storage(identity: Any) -> tuple[str, np.dtype, int]:
    """Key, dtype and length of a storage, by what stands for it in the pickle."""
    kind, storage_class, key, _, length, *view = identity
    known = isinstance(storage_class, Name) and isinstance(key, str) and type(length) is int
    if kind != "storage" or not known or any(view):
        raise ValueError("it refers to something that is no storage")
    return key, np.dtype(_DTYPES[storage_class.name]), length


class _Tensors:
    """
    Makes tensors on memory of their own.

    :param find: a storage
    :param size: bytes that all storages have together: members of a zip may overlap
    """

    def __init__(self, find: _Find, size: int) -> None:
        self.find, self.left = find, size
        self.storages: dict[str, th.Tensor] = {}

    def rebuild(self, made: Inert) -> th.Tensor:
        """
        :param made: the call that would make the tensor
        :return: the tensor
        :raises ValueError: if it reaches beyond its storage, or repeats it to claim more numbers
        """
        if made.called == _PARAMETER:
            made = made.arguments[0]
        storage, offset, size, stride = made.arguments[:4]
        key, dtype, length = _storage(storage.arguments)
        if key not in self.storages:
            numbers = self.find(key, dtype)
            self.left -= numbers.nbytes
            if numbers.size != length or self.left < 0:
                raise ValueError("one of its storages has not the numbers that it claims")
            self.storages[key] = th.from_numpy(numbers.copy())
        flat = self.storages[key]
        sizes = (offset, *size, *stride)
        if flat.numpy().dtype != dtype or len(sizes) > 20 or not all(type(n) is int and 0 <= n < 2**48 for n in sizes):
            raise ValueError("one of its tensors has an impossible size")
        count, last = 1, offset
        for n, step in zip(size, stride, strict=True):
            count, last = count * n, last + (n - 1) * step
        if count > flat.numel():
            raise ValueError(f"one of its tensors repeats {flat.numel():,} numbers to claim {count:,}")
        if count and last >= flat.numel():
            raise ValueError("one of its tensors reaches beyond its storage")
        return flat.as_strided(size, stride, offset)
