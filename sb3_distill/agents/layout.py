"""Which files around a zip are its agent's: settings and ``VecNormalize`` statistics, by what the files say and not by a folder's name.

Known are the folders of the RL Zoo (also with ``--uuid``, renamed or copied), clones and snapshots of the Hugging Face Hub, and what
callbacks of SB3 write. Here files are found, and of a pickle no more than its first bytes is looked at.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sb3_distill.agents.errors import CheckpointError

#: what the RL Zoo calls statistics in a run's folder, and on the Hub
STATISTICS = ("vecnormalize.pkl", "vec_normalize.pkl")
SETTINGS = ("config.yml", "args.yml", "env_kwargs.yml")
#: a zip of the RL Zoo's on the Hub that is no agent: training curves
NO_AGENTS = ("train_eval_metrics.zip",)
#: what SB3's CheckpointCallback writes: PREFIX_1000_steps.zip, and PREFIX_vecnormalize_1000_steps.pkl beside it
_STEPS = re.compile(r"(?P<prefix>.+)_(?P<steps>\d+)_steps")
#: how a pickle of a VecNormalize begins: its class is the first thing that it names
_HEAD, _CLASS = 512, b"VecNormalize"
#: entries of a folder that are looked at
_MOST = 10_000


class Around(NamedTuple):
    """
    What belongs to a zip.

    :param folder: with its settings; None if there is none
    :param config: ``config.yml``
    :param args: ``args.yml``
    :param env_kwargs: ``env_kwargs.yml``
    :param vec_normalize: statistics; several if they cannot be told apart by their names
    """

    folder: Path | None = None
    config: Path | None = None
    args: Path | None = None
    env_kwargs: Path | None = None
    vec_normalize: tuple[Path, ...] = ()


def around(checkpoint: Path) -> Around:
    """
    :param checkpoint: a zip
    :return: its settings and statistics: in a folder beside it that holds such, or else beside it
    :raises CheckpointError: if several folders hold settings, and none is named as the zip
    """
    folder = settings_folder(checkpoint)
    here = checkpoint.parent
    found = {name: _first(place / name for place in (folder, here) if place) for name in SETTINGS}
    own = _own_statistics(checkpoint)
    usual = [place / name for place in (folder, here) if place for name in STATISTICS if (place / name).is_file()]
    for statistics in (own, usual, [] if own or usual else _other_statistics(here)):
        if statistics:
            break
    return Around(folder, found["config.yml"], found["args.yml"], found["env_kwargs.yml"], _different(statistics))


def settings_folder(checkpoint: Path) -> Path | None:
    """
    :param checkpoint: a zip
    :return: the folder beside it with its settings, as the RL Zoo makes one in each run's; None if there is none
    :raises CheckpointError: if there are several, none of them named as the zip
    """
    named = checkpoint.parent / checkpoint.stem
    if _has_settings(named):
        return named
    if not checkpoint.parent.name:
        return None
    # A folder with zips of its own belongs to another agent.
    found = [f for f in _entries(checkpoint.parent) if _has_settings(f) and not any(f.glob("*.zip"))]
    # Beside best_model.zip and rl_model_1000_steps.zip, the folder's name may tell.
    env_id = run_name(checkpoint.parent.name)[0]
    found = [f for f in found if f.name == env_id] or found
    if len(found) > 1:
        raise CheckpointError(
            f"Which settings are {checkpoint}'s? There are {', '.join(f.name for f in found)} beside it: leave one there."
        )
    return found[0] if found else None


def run_name(name: str) -> tuple[str, int | None]:
    """
    :param name: of a run's folder: ``ENV_N``, or with ``--uuid`` ``ENV_N_UUID``
    :return: the environment and the number; the name itself and None if it is none of these
    """
    match = re.fullmatch(r"(?P<env>.+)_(?P<run>\d+)(_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?", name)
    return (match["env"], int(match["run"])) if match else (name, None)


def zip_in(folder: Path) -> Path:
    """
    :param folder: of an agent
    :return: its zip: the one named as its environment or as the folder, else ``best_model.zip``, else a student's, else the last one of a
        CheckpointCallback, else the only one; of a folder without any, that of the only folder in it that has one
    :raises FileNotFoundError: if there is none, or nothing says which
    """
    by_name = folder.name.rpartition("_")[0] or folder.name
    zips = [
        path for path in _entries(folder) if path.suffix == ".zip" and path.is_file() and path.name not in NO_AGENTS
    ]
    settings = [f.name for f in _entries(folder) if _has_settings(f)] if len(zips) > 1 else []
    for name in (by_name, run_name(folder.name)[0], folder.name, *settings, "best_model", "student"):
        candidate = folder / f"{name}.zip"
        if candidate in zips:
            return candidate
    steps = [match for match in (_STEPS.fullmatch(path.stem) for path in zips) if match]
    if zips and len(steps) == len(zips) and len({match["prefix"] for match in steps}) == 1:
        return max(zips, key=lambda path: int(path.stem.split("_")[-2]))
    if len(zips) == 1:
        return zips[0]
    if zips:
        raise FileNotFoundError(f"Which agent of {folder}? Give one of {', '.join(path.name for path in zips)}.")
    within = [path for path in _entries(folder) if path.is_dir() and any(path.glob("*.zip"))]
    if len(within) == 1:
        return zip_in(within[0])
    if within:
        raise FileNotFoundError(f"Which agent of {folder}? Give one of {', '.join(path.name for path in within[:20])}.")
    raise FileNotFoundError(
        f"No checkpoint in {folder}: it has neither {by_name}.zip nor best_model.zip nor student.zip nor any other zip."
    )


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, in order; nothing if it cannot be read."""
    try:
        return sorted(path for path, _ in zip(folder.iterdir(), range(_MOST), strict=False))
    except OSError:
        return []


def _has_settings(folder: Path) -> bool:
    return folder.is_dir() and any((folder / name).is_file() for name in (*SETTINGS, *STATISTICS))


def _first(paths: Iterable[Path]) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def _own_statistics(checkpoint: Path) -> list[Path]:
    """Statistics whose name says that they are of this zip."""
    stem = checkpoint.stem
    names = [f"{stem}_{usual}" for usual in STATISTICS]
    match = _STEPS.fullmatch(stem)
    if match:
        names.append(f"{match['prefix']}_vecnormalize_{match['steps']}_steps.pkl")
    return [checkpoint.parent / name for name in names if (checkpoint.parent / name).is_file()]


def _other_statistics(folder: Path) -> list[Path]:
    """Pickles of a VecNormalize under any name, but for those whose name says that they are of another zip."""
    return [
        path for path in _entries(folder) if path.suffix == ".pkl" and not _of_another(path) and holds_statistics(path)
    ]


def _of_another(path: Path) -> bool:
    if re.fullmatch(r".+_vecnormalize_\d+_steps", path.stem):
        return True
    return any(
        path.name.endswith(f"_{usual}") and path.with_name(path.name.removesuffix(f"_{usual}") + ".zip").is_file()
        for usual in STATISTICS
    )


def holds_statistics(path: Path) -> bool:
    """
    :param path: a pickle
    :return: whether it begins as that of a ``VecNormalize`` does; nothing is run
    """
    try:
        with path.open("rb") as file:
            return _CLASS in file.read(_HEAD)
    except OSError:
        return False


def _different(paths: list[Path]) -> tuple[Path, ...]:
    """Without copies of the same file."""
    kept: list[Path] = []
    for path in paths:
        if not any(path.stat().st_size == k.stat().st_size and path.read_bytes() == k.read_bytes() for k in kept):
            kept.append(path)
    return tuple(kept)
