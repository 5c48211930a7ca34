"""Files that are either whole or not there."""

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """
    Write a file under a temporary name and rename it once it is complete, and on the disk: nobody meets half a file, not even
    after the power has failed.

    :param path: what it shall be called
    :return: where to write; the name ends as ``path`` does
    :raises OSError: if the disk is full; what was there under that name stays
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path, names: Iterable[str]) -> None:
    """
    Remove what :func:`replacing` had begun when its process was killed, and nothing else.

    :param folder: in which no other process writes
    :param names: of the files that it writes there
    """
    for name in map(Path, names):
        ours = re.compile(rf"\.{re.escape(name.stem)}\.\d+\.tmp{re.escape(name.suffix)}")
        for path in folder.glob(f".{name.stem}.*.tmp{name.suffix}"):
            if ours.fullmatch(path.name):
                path.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """
    :param path: of the file
    :param data: of numbers, strings, lists and dicts, without NaN
    """
    with replacing(path) as temporary:
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """
    :param path: of the file
    :param header: names of the columns
    :param rows: as many values each
    """
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def write_figure(path: Path, figure: Figure) -> None:
    """
    :param path: of the file; its suffix says the format
    :param figure: what to draw
    """
    with replacing(path) as temporary:
        figure.savefig(temporary)
