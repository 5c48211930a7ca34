"""Output that nobody reads any more: work that was begun is finished without it."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO


class Unread:
    """
    A stream of the process, whose text is lost as soon as what read it has gone.

    :param stream: to be written to
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        #: whether nobody reads it any more
        self.gone = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """
        :param text: for whoever reads it
        :return: how many characters were taken: all
        """
        if not self.gone:
            try:
                self._stream.write(text)
            except BrokenPipeError:
                self.gone = True
        return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        if not self.gone:
            try:
                self._stream.flush()
            except BrokenPipeError:
                self.gone = True


@contextmanager
def finishing() -> Iterator[None]:
    """
    A context whose work goes on when what reads its output has gone, as ``head`` does.

    :raises BrokenPipeError: in the end, if nobody read all of stdout; what was told on stderr may be lost without a word
    """
    out, err = Unread(sys.stdout), Unread(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err):  # type: ignore[type-var]
        yield
        out.flush()
        err.flush()
    if out.gone:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
