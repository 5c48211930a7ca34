"""The folder of a memory: a dataset of Minari's, written so that no kill leaves it damaged.

=======================  ===============================================================================================
``metadata.json``        what the memory is of, in Minari's form; our own part says how it was recorded
``episodes_00000.hdf5``  episodes in the order in which they ended, about a megabyte a file, see
                         :mod:`~sb3_distill.memory.episode` and :mod:`~sb3_distill.memory.sealed`
``main_data.hdf5``       Minari's file: ``episode_0``, ``episode_1``, … as links into the others
=======================  ===============================================================================================

Minari 0.5 itself can write none of it: it changes ``main_data.hdf5`` in place, which a kill in mid-write damages, and
``metadata.json`` too; it stores every observation whole and uncompressed; its collector plays one environment and not a
``VecEnv``; and it needs Python 3.11. But it reads it all, ``minari.MinariDataset(path)``, with stacks of frames as the
environment gave them.

Files are written under a temporary name and renamed. To add an episode to a file, the file is copied, and the copy with the
episode takes its place: at any moment each name stands for a whole file. The files of episodes are what counts;
``main_data.hdf5`` is made from them whenever recording ends or stops, and a kill leaves the one from before.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, get_args

from sb3_distill.common.files import replacing, write_json
from sb3_distill.memory.episode import Entry, Episode, n_columns, parts, read_entry, write_episode
from sb3_distill.memory.errors import DamagedMemoryError
from sb3_distill.memory.hdf5 import FileLock, Timeout, h5py
from sb3_distill.memory.memory import About, Kind
from sb3_distill.memory.sealed import FORMAT, check_format, check_seal, writing
from sb3_distill.memory.space_text import space_from_data, space_to_data

METADATA, MAIN, LOCK = "metadata.json", "main_data.hdf5", "recording.lock"
#: bytes from which on a file of episodes takes no more of them: it is copied for each
FILE_BYTES = 1 << 20
#: of Minari's format, whose versions these are
MINARI_VERSION = "0.5.4"
#: characters of the longest metadata: bounds of images are long
MAX_METADATA = 1 << 26
_OURS = "sb3_distill"


class Settings(NamedTuple):
    """What a recording depends on, apart from its length.

    :param about: what the memory is of
    :param weights: SHA-256 of the teacher's, see :func:`~sb3_distill.memory.recorder.weights_of`
    :param n_envs: how many environments play side by side
    :param epsilon: the share of random actions
    :param seed: of everything random
    """

    about: About
    weights: str
    n_envs: int
    epsilon: float
    seed: int

    def data(self) -> dict[str, Any]:
        """:return: as ``metadata.json`` has it"""
        about = self.about
        told = {name: getattr(about, name) for name in ("fingerprint", "env_kwargs", "module")}
        known = {name: value for name, value in told.items() if value is not None}  # old memories keep their id
        return {
            "observation_space": json.dumps(space_to_data(about.observation_space)),
            "action_space": json.dumps(space_to_data(about.action_space)),
            _OURS: {
                "format": FORMAT,
                "env_id": about.env_id,
                "teacher": about.teacher,
                "weights": self.weights,
                "kind": about.kind,
                "n_envs": self.n_envs,
                "epsilon": self.epsilon,
                "seed": self.seed,
                **known,
            },
        }

    def memory_id(self) -> str:
        """:return: 64 hexadecimal digits that no other settings have"""
        return hashlib.sha256(json.dumps(self.data(), sort_keys=True).encode()).hexdigest()


class Recorded(NamedTuple):
    """What is on disk.

    :param settings: of the recording
    :param files: with episodes, in order
    :param entries: of all episodes, in the order of their ends, and of environments where those are the same. It does not
        depend on interruptions
    """

    settings: Settings
    files: list[Path]
    entries: list[Entry]

    @property
    def n_steps(self) -> int:
        """Of all episodes."""
        return sum(entry.n_steps for entry in self.entries)


# --- reading ----------------------------------------------------------------------------------------------------------


def read_folder(path: Path) -> Recorded:
    """
    Open a memory: every file is read once, and is as it was written.

    :param path: of the folder
    :return: what is in it; nothing if the recording was stopped within its first episodes
    :raises FileNotFoundError: if there is no memory
    :raises DamagedMemoryError: if a file is truncated, altered, missing, of another memory or of another format
    """
    settings, n_published = _read_metadata(path / METADATA)
    files, memory_id = sorted(path.glob("episodes_*.hdf5")), settings.memory_id()
    entries = []
    for number, file_path in enumerate(files):
        check_seal(file_path, memory_id)
        with opened(file_path) as file:
            found = [read_entry(file, number, group, settings.about) for group in file]
        # Answers and rewards are not compressed: this is as many steps as there can be.
        if sum(entry.n_steps for entry in found) * 4 * (n_columns(settings.about) + 1) > file_path.stat().st_size:
            raise DamagedMemoryError(f"{file_path} is damaged: it speaks of more steps than it can hold.")
        entries += found
    recorded = Recorded(settings, files, sorted(entries, key=lambda entry: (entry.end, entry.env)))
    _check_complete(path, recorded, n_published)
    return recorded


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """
    :param path: of an HDF5 file, opened to read
    :raises DamagedMemoryError: for what HDF5 cannot read in it
    """
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DamagedMemoryError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:  # h5py raises whatever it trips over
        raise DamagedMemoryError(f"{path} is damaged: {error}.") from error


def _read_metadata(path: Path) -> tuple[Settings, int]:
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no memory in {path.parent}: it has no {METADATA}. Give the folder that record() or "
            "'sb3-distill record' wrote."
        )
    if path.stat().st_size > MAX_METADATA:
        raise DamagedMemoryError(f"{path} is no metadata of a memory: it has {path.stat().st_size:,} bytes.")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        ours = data.get(_OURS) if isinstance(data, dict) else None
        if not isinstance(ours, dict):
            raise ValueError(
                f"it has no entry {_OURS!r}, and only memories that sb3-distill recorded have a teacher's answers"
            )
        check_format(ours.get("format"), path)
        about = About(
            _expect(ours["env_id"], str, type(None)),
            _expect(ours["teacher"], str),
            space_from_data(json.loads(_expect(data["observation_space"], str))),
            space_from_data(json.loads(_expect(data["action_space"], str))),
            _expect(ours["kind"], str),
            _expect(ours.get("fingerprint"), str, type(None)),
            _expect(ours.get("env_kwargs"), dict, type(None)),
            _expect(ours.get("module"), str, type(None)),
        )
        if about.kind not in get_args(Kind):
            raise ValueError(f"its answers are {about.kind[:80]!r}, and known are {' and '.join(get_args(Kind))}")
        if about.module is not None and not re.fullmatch(r"[\w.]{1,200}", about.module):
            raise ValueError(f"{about.module[:80]!r} is no module")
        parts(about.observation_space)
        n_columns(about)
        settings = Settings(
            about,
            _expect(ours["weights"], str),
            _expect(ours["n_envs"], int),
            float(_expect(ours["epsilon"], float, int)),
            _expect(ours["seed"], int),
        )
        return settings, _expect(data["total_episodes"], int)
    except DamagedMemoryError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedMemoryError(f"{path} is no metadata of a memory, or is truncated or altered: {error}.") from error


def _expect(value: Any, *types: type) -> Any:
    if type(value) not in types:
        raise ValueError(f"{str(value)[:80]!r} is no {' or '.join(t.__name__ for t in types)}")
    return value


def _check_complete(path: Path, recorded: Recorded, n_published: int) -> None:
    """Every environment's episodes, one after the other, and no fewer than there have been."""
    for env, of_env in groupby(sorted(recorded.entries, key=lambda e: (e.env, e.number)), key=lambda e: e.env):
        steps = 0
        for number, entry in enumerate(of_env):
            steps += entry.n_steps
            if (entry.number, entry.end) != (number, steps) or env >= recorded.settings.n_envs:
                raise DamagedMemoryError(
                    f"{path} lacks episode {number} of environment {env}, and has later ones: a file is missing."
                )
    if len(recorded.entries) < n_published:
        raise DamagedMemoryError(
            f"{path} has {len(recorded.entries)} episodes and should have {n_published}: a file is missing."
        )


# --- writing ----------------------------------------------------------------------------------------------------------


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """
    A context in which nobody else records into a folder. The system ends it with the process, however that ends.

    :param path: of the folder, made if need be
    :raises BlockingIOError: if somebody else does
    """
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BlockingIOError(
            f"{path} is being recorded by another process: wait for it, or choose another path."
        ) from None
    try:
        yield
    finally:
        lock.release()


class Writer:
    """
    Adds episodes to a folder that is locked. What is in it stays readable at every moment.

    :param path: of the folder
    :param settings: of the recording
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path = path
        self.settings = settings
        self._memory_id = settings.memory_id()
        for left in path.glob(".*.tmp.*"):  # by a recording that was killed
            left.unlink()
        if not (path / METADATA).exists():
            self._write_metadata([])
        self._n_files = max(1, len(list(path.glob("episodes_*.hdf5"))))

    def add(self, episodes: Sequence[Episode]) -> None:
        """
        :param episodes: that have ended; on return they are on disk
        """
        target = self.path / f"episodes_{self._n_files - 1:05}.hdf5"
        if target.exists() and target.stat().st_size >= FILE_BYTES:
            self._n_files += 1
            target = self.path / f"episodes_{self._n_files - 1:05}.hdf5"
        with replacing(target) as temporary:
            if target.exists():
                shutil.copyfile(target, temporary)
            with writing(temporary, self._memory_id) as file:
                for episode in episodes:
                    write_episode(file, episode, self.settings.about)
            _to_disk(temporary)

    def publish(self) -> Recorded:
        """
        Make what Minari reads.

        :return: what is on disk
        """
        recorded = read_folder(self.path)
        with replacing(self.path / MAIN) as temporary, h5py.File(temporary, "w", track_order=True) as file:
            for k, entry in enumerate(recorded.entries):
                file[f"episode_{k}"] = h5py.ExternalLink(recorded.files[entry.file].name, f"/{entry.group}")
        self._write_metadata(recorded.entries)  # last: its number of episodes is there
        return recorded

    def _write_metadata(self, entries: Sequence[Entry]) -> None:
        about = self.settings.about
        data = {
            "total_episodes": len(entries),
            "total_steps": sum(entry.n_steps for entry in entries),
            "data_format": "hdf5",
            "jpeg_encoding": False,
            "minari_version": MINARI_VERSION,
            "dataset_id": re.sub(r"[^-\w]", "-", f"{about.env_id or 'memory'}-{about.teacher}") + "-v0",
            "algorithm_name": about.teacher,
            **self.settings.data(),
        }
        with replacing(self.path / METADATA) as temporary:
            write_json(temporary, data)
            _to_disk(temporary)


def _to_disk(path: Path) -> None:
    """A rename may reach the disk before the bytes, which then a power cut takes away."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())
