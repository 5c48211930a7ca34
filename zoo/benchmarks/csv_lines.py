"""Lines of a CSV that grows as runs end."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def read(out: Path) -> list[dict[str, str]]:
    """
    :param out: a CSV, if there is one yet
    :return: its lines
    """
    if not out.exists():
        return []
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def write(out: Path, lines: Sequence[dict[str, Any]]) -> None:
    """
    :param out: a CSV
    :param lines: go to its end
    """
    is_new = not out.exists()
    with out.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        if is_new:
            writer.writeheader()
        writer.writerows(lines)
