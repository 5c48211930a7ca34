"""Tables of text whose first column can be copied whole: it is never folded and never cut."""

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence

from rich.cells import cell_len

#: between columns
GAP = "  "
#: characters of a name in :func:`pairs`; a longer one takes more
NAMES = 20
#: before what did not fit beside the others
INDENT = "    "


def output_width() -> int | None:
    """
    :return: characters of a line of stdout; None where lines may have any length: in a file, or for another program
    """
    if os.environ.get("COLUMNS", "").isdigit() or sys.stdout.isatty():
        return shutil.get_terminal_size().columns or 80  # a terminal may not know its size
    return None


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[str] = ()) -> str:
    """
    A line for each row where the terminal is wide enough, or stdout is none. Otherwise the last columns, as many as do not fit, go
    to lines of their own beneath, each value after the name of its column.

    :param header: names of the columns
    :param rows: as many cells each, without line breaks
    :param right: names of columns that stand to the right
    :return: the text, with a line break at its end
    """
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(cell_len(line[i]) for line in lines) for i in range(len(header))]
    width = output_width()
    shown = len(header)
    while width is not None and shown > 1 and sum(widths[:shown]) + len(GAP) * (shown - 1) > width:
        shown -= 1
    text = ""
    for k, line in enumerate(lines):
        cells = [
            _padded(cell, size, name in right) for cell, size, name in zip(line[:shown], widths, header, strict=False)
        ]
        text += GAP.join(cells).rstrip() + "\n"
        rest = "; ".join(f"{name} {cell}" for name, cell in zip(header[shown:], line[shown:], strict=True) if cell)
        if rest and k > 0:
            text += folded(INDENT, rest)
    return text


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """
    :param rows: names and values
    :return: a line each, longer values on several in a narrow terminal
    """
    return "".join(folded(_padded(name, NAMES, False) + GAP, value, " " * (NAMES + len(GAP))) for name, value in rows)


def folded(start: str, text: str, indent: str | None = None) -> str:
    """
    :param start: of the first line
    :param text: folded between words; a word is never broken
    :param indent: of the others, by default as long as ``start``
    :return: the lines
    """
    width = output_width()
    indent = " " * len(start) if indent is None else indent
    if width is None:
        return f"{start}{text}\n"
    wrapped = textwrap.wrap(
        text,
        max(width, len(start) + 20),
        initial_indent=start,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(wrapped or [start]) + "\n"


def _padded(cell: str, size: int, right: bool) -> str:
    space = " " * (size - cell_len(cell))
    return space + cell if right else cell + space
