"""What a long command says on stderr while it works: which phase it is in, and how far it has come.

In a terminal that is a line which goes again. Anywhere else it is one line for each phase, and none for those that are over
within two seconds.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

#: what is over by then was not worth a line
SECONDS = 2.0


@contextmanager
def phase(text: str, quiet: bool = False) -> Iterator[None]:
    """
    A context that takes its time.

    :param text: what is done in it
    :param quiet: whether nothing is said
    """
    console = Console(stderr=True)
    if quiet:
        yield
    elif console.is_terminal:
        with console.status(f"{text} …"):
            yield
    else:
        timer = threading.Timer(SECONDS, _say, [text])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _say(text: str) -> None:
    sys.stderr.write(f"sb3-distill: {text} …\n")
    sys.stderr.flush()
