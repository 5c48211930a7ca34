"""Reads an SB3 checkpoint without running anything in it.

A checkpoint is a zip with ``data`` (JSON; what JSON cannot hold is a pickle in base64, with its plain attributes beside it
as text) and ``policy.pth`` (the weights). SB3's own ``load`` runs those pickles, which is unsafe for files from others and
fails where a module they name is gone: agents made with ``gym`` and older Pythons do not load. Here the text and the
weights are read, and no pickle is run: what only a pickle tells, the layout of the weights included, is read off its structure
(:mod:`sb3_distill.agents.unpickling`, :mod:`sb3_distill.agents.saved_weights`). Sizes are checked before memory is taken.
"""

import base64
import json
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch as th
from gymnasium import spaces

from sb3_distill.agents.errors import CheckpointError
from sb3_distill.agents.own_classes import OwnClassError, algorithm_of, remedy
from sb3_distill.agents.saved_policy import read_policy_kwargs
from sb3_distill.agents.saved_spaces import read_space
from sb3_distill.agents.saved_weights import MAX_MEMBERS, MoreThanWeightsError, read_weights
from sb3_distill.agents.unpickling import pickled_names

#: A zip may unpack to this much, and this many times its own size more. Weights hardly compress.
FREE_SIZE, MAX_RATIO = 1 << 24, 20
#: bytes of the largest ``data``, and values in it: each of them is an object, however short it is written
MAX_DATA, MAX_VALUES = 1 << 25, 1 << 20


class Checkpoint(NamedTuple):
    """What an SB3 zip says about its policy.

    :param path: where it was read
    :param policy_class: the qualified name of its policy's class
    :param policy_kwargs: those that shape the network; optimiser settings are left out
    :param observation_space: what the policy sees
    :param action_space: what the policy does
    :param weights: the policy's state dict, on the CPU
    :param version: of SB3 that made it, as far as the file tells
    :param algorithm: whose ``load`` reads it, as far as the file tells
    :param was_normalized: whether it was trained under a ``VecNormalize``; only the files of on-policy algorithms tell
    :param gamma: the discount that it was trained with, as far as the file tells
    """

    path: Path
    policy_class: str
    policy_kwargs: dict[str, Any]
    observation_space: spaces.Space
    action_space: spaces.Space
    weights: dict[str, th.Tensor]
    version: str
    algorithm: str = "PPO"
    was_normalized: bool = False
    gamma: float | None = None


def _discount(value: Any) -> float | None:
    """What a file has as a discount, if it can be one."""
    is_one = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
    return float(value) if is_one else None


def read_checkpoint(path: str | Path) -> Checkpoint:
    """
    Read an SB3 zip without running it.

    :param path: the zip
    :return: its contents
    :raises FileNotFoundError: if there is no such file
    :raises CheckpointError: if the file is truncated, no zip of SB3's, or lacks what a policy needs
    """
    path = Path(path)
    members = read_members(path, ("data", "policy.pth", "_stable_baselines3_version"))
    missing = {"data", "policy.pth"} - set(members)
    if missing:
        raise CheckpointError(f"{path} is no SB3 checkpoint: it has no member {' and no '.join(sorted(missing))}.")
    data = read_data(path, members["data"])
    algorithm = "PPO"
    try:
        policy_class = class_name(data["policy_class"])
        algorithm = algorithm_of(policy_class, data)
        return Checkpoint(
            path=path,
            policy_class=policy_class,
            policy_kwargs=_policy_kwargs(data),
            observation_space=read_space(data["observation_space"]),
            action_space=read_space(data["action_space"]),
            weights=_weights(path, members.pop("policy.pth")),
            version=members.get("_stable_baselines3_version", b"unknown").decode("ascii", "replace").strip(),
            algorithm=algorithm,
            # SB3's on-policy algorithms keep an observation from beneath a VecNormalize; the others keep one in any case.
            was_normalized="gae_lambda" in data and data.get("_last_original_obs") is not None,
            gamma=_discount(data.get("gamma")),
        )
    except CheckpointError:
        raise
    except OwnClassError as error:
        raise CheckpointError(f"{path} cannot be read: policy_kwargs has {error}, {remedy(path, algorithm)}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except Exception as error:  # hostile entries may raise anything at all
        raise CheckpointError(f"{path} cannot be read: its member 'data' is damaged: {in_short(error)}") from error


def read_members(path: Path, names: tuple[str, ...] | None = None) -> dict[str, bytes]:
    """
    :param path: a zip
    :param names: of the members that are wanted; None for all
    :return: those that are there
    :raises FileNotFoundError: if there is no such file
    :raises CheckpointError: if the file is no complete zip, or a member would unpack to an absurd size
    """
    if not path.is_file():
        raise FileNotFoundError(f"No such checkpoint: {path}")
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            if _count(file, b"PK\1\2") > MAX_MEMBERS:
                raise zipfile.BadZipFile(f"it has more than {MAX_MEMBERS:,} members")
            with zipfile.ZipFile(file) as archive:
                if min((member.header_offset for member in archive.infolist()), default=0) > 0:
                    # What was found is the end of an uncompressed policy.pth, which is a zip itself.
                    raise zipfile.BadZipFile("its own list of members is missing")
                wanted = {m.filename: m for m in archive.infolist() if names is None or m.filename in names}
                claimed = sum(member.file_size for member in wanted.values())
                if claimed > FREE_SIZE + MAX_RATIO * size:
                    raise zipfile.BadZipFile(f"it claims to unpack to {claimed:,} bytes, and has {size:,}")
                return {name: _unpacked(archive, member) for name, member in wanted.items()}
    except Exception as error:  # a damaged zip asks for passwords, compressions and versions that there are not
        problem = str(error)[:200]
        raise CheckpointError(f"{path} is not a complete zip file: {problem}. Copy or download it again.") from error


def _count(file: BinaryIO, signature: bytes) -> int:
    """How often four bytes stand in a file: members of a zip are listed before anything about them can be checked."""
    n, tail = 0, b""
    while chunk := file.read(1 << 16):
        n += (tail + chunk).count(signature)
        tail = chunk[-3:]
    return n


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """A member, and not much more than it claims."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # Python unpacks other kinds without a limit.
        raise zipfile.BadZipFile(f"its member {member.filename!r} is compressed in a way that SB3 does not use")
    with archive.open(member) as stream:
        # Not read(): that unpacks all that there is, and then looks at how much it was to be.
        return stream.read(member.file_size + 1)


def read_data(path: Path, member: bytes) -> dict[str, Any]:
    """
    :param path: for the message
    :param member: the zip's ``data``
    :return: the JSON in it
    :raises CheckpointError: if it is none of SB3's
    """
    try:
        if len(member) > MAX_DATA or sum(member.count(sign) for sign in (b",", b"[", b"{")) > MAX_VALUES:
            raise ValueError(f"it is larger than {MAX_DATA:,} bytes or {MAX_VALUES:,} values")
        data = json.loads(member)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no SB3 checkpoint: its member 'data' is not JSON: {error}.") from error
    if not isinstance(data, dict) or not isinstance(data.get("policy_class"), dict):
        raise CheckpointError(f"{path} is no SB3 checkpoint: its member 'data' names no policy class.")
    return data


def class_name(field: dict[str, Any]) -> str:
    """
    The name of a pickled class; nothing is imported or run.

    :param field: an entry of ``data``
    :return: its qualified name
    :raises ValueError: if the pickle names none
    """
    names = pickled_names(base64.b64decode(field[":serialized:"]))
    if not names or not re.fullmatch(r"[\w.]{1,200}", names[-1]):
        raise ValueError("the class of its policy has no name.")
    return names[-1]


def _policy_kwargs(data: dict[str, Any]) -> dict[str, Any]:
    """The arguments that shape the network, from text."""
    use_sde = {"use_sde": True} if data.get("use_sde") is True else {}
    return use_sde | read_policy_kwargs(data.get("policy_kwargs") or {})


def _weights(path: Path, member: bytes) -> dict[str, th.Tensor]:
    """The state dict in ``policy.pth``."""
    try:
        weights = read_weights(member)
    except MoreThanWeightsError as error:
        raise CheckpointError(
            f"{path} holds more than weights in its member 'policy.pth', so it was not loaded: it asks for {error}."
        ) from error
    except Exception as error:  # hostile entries may raise anything at all
        raise CheckpointError(f"{path} has a damaged member 'policy.pth': {in_short(error)}") from error
    if weights is None:
        raise CheckpointError(f"{path} is no SB3 checkpoint: its member 'policy.pth' is not a dictionary of tensors.")
    return weights


def in_short(error: Exception) -> str:
    """
    :param error: anything
    :return: one line that says something, even of an error without a message
    """
    text = next(iter(str(error).splitlines()), "")
    return text if text and type(error) in (RuntimeError, ValueError) else f"{type(error).__name__}: {text}"
