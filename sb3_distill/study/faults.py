"""What is wrong with a study: all of it at once, each with its line."""

from collections.abc import Sequence
from typing import NamedTuple


class Fault(NamedTuple):
    """
    One thing that is wrong.

    :param line: in the file, from 1; 0 if there is no line to name
    :param text: what, and what to do
    """

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


class StudyError(ValueError):
    """
    A study that cannot be run as it stands.

    :param source: the file's name
    :param faults: all of them
    """

    def __init__(self, source: str, faults: Sequence[Fault]) -> None:
        self.source = source
        self.faults = sorted(set(faults))
        n = len(self.faults)
        head = f"{source}: " + ("" if n == 1 else f"{n} faults, and nothing was run:\n  ")
        super().__init__(head + "\n  ".join(map(str, self.faults)))
