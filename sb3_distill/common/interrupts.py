"""Ctrl-C and SIGTERM: a command ends in one line, and where it is learning, after what it has learnt is on disk."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, ClassVar, NoReturn

#: from a signal to the exit code of a shell's convention, 128 + its number, and the word for it
ENDS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}
#: how long a rollout may go on after a signal, so that all of it is learnt from and saved
PATIENCE = 2.0
#: shows a terminal's cursor, which a progress bar had hidden
_SHOW_CURSOR = "\x1b[?25h"


class TerminatedError(KeyboardInterrupt):
    """SIGTERM: as Ctrl-C, with another exit code."""


def guarded(command: Callable[[], int], tell: Callable[[str], None], program: bool = False) -> int:
    """
    Run a command that signals end: in one line and with the exit code 130 after Ctrl-C, 143 after SIGTERM. A second signal does
    not wait for what the command would still clean up.

    :param command: returns its exit code. What it wants to say about an interrupt is the argument of the KeyboardInterrupt
    :param tell: prints a line
    :param program: whether nothing comes after it but the end of the process, which signals shall not disturb
    :return: the exit code
    """
    if threading.current_thread() is not threading.main_thread():
        return command()
    guard = _Guard()
    with guard:
        try:
            return command()
        except KeyboardInterrupt as error:
            return guard.ended(error, tell)
        except Exception as error:
            if guard.signal is None:
                raise
            return guard.ended(error, tell)  # what became of the interrupt in somebody's except clause
        finally:
            guard.keep = program


def raise_if_interrupted() -> None:
    """
    For where an interrupt may have been taken for something else: libraries catch more than they should while they are imported.

    :raises KeyboardInterrupt: if a signal has come since :func:`guarded` began
    """
    if _Guard.present is not None and _Guard.present.signal is not None:
        raise KeyboardInterrupt


class _Guard:
    """The handlers of a command's process, as long as it runs."""

    present: "ClassVar[_Guard | None]" = None

    def __init__(self) -> None:
        self.signal: int | None = None
        #: whether signals are ignored afterwards, and not handled as before
        self.keep = False

    def __enter__(self) -> None:
        # What a shell's "&" and nohup have set to be ignored stays ignored.
        self._before = {s: signal.getsignal(s) for s in ENDS if signal.getsignal(s) is not signal.SIG_IGN}
        for number in self._before:
            signal.signal(number, self._on_signal)
        self._outer, _Guard.present = _Guard.present, self
        self._hook = sys.unraisablehook
        sys.unraisablehook = self._on_unraisable

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if self.keep else handler)
        sys.unraisablehook = self._hook
        _Guard.present = self._outer

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            self._leave()
        self.signal = number
        raise KeyboardInterrupt if number == signal.SIGINT else TerminatedError

    def _on_unraisable(self, about: Any) -> None:
        """An interrupt in a destructor, which Python would print and forget."""
        if self.signal is not None and issubclass(about.exc_type, KeyboardInterrupt):
            self._leave()
        self._hook(about)

    def _leave(self) -> NoReturn:
        code, word = ENDS[signal.Signals(self.signal or signal.SIGINT)]
        cursor = _SHOW_CURSOR if os.isatty(2) else ""
        os.write(2, f"{cursor}sb3-distill: {word}\n".encode())
        os._exit(code)

    def ended(self, error: BaseException, tell: Callable[[str], None]) -> int:
        """
        :param error: that a signal has raised
        :param tell: prints a line
        :return: the exit code, after one line
        """
        number = self.signal or (signal.SIGTERM if isinstance(error, TerminatedError) else signal.SIGINT)
        code, word = ENDS[signal.Signals(number)]
        said = f": {error}" if isinstance(error, KeyboardInterrupt) and str(error) else ""
        tell(f"{word}{said}")
        return code


class Postponed:
    """
    A context in which the first signal waits for a good moment, :meth:`act_if_asked`; a second one does not. Outside the main
    thread, and of signals that end the process without Python, it changes nothing.

    :param patience: seconds after which it is :attr:`late`
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._asked: int | None = None
        self._since = 0.0
        self._waits = True
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def __enter__(self) -> "Postponed":
        if threading.current_thread() is threading.main_thread():
            for number in ENDS:
                handler = signal.getsignal(number)
                if callable(handler):
                    self._before[number] = handler
                    signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is None:
            self.act_if_asked()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._waits and self._asked is None:
            self._asked, self._since = number, time.monotonic()
        else:
            self._before[number](number, frame)

    @property
    def asked(self) -> bool:
        """Whether a signal waits."""
        return self._asked is not None

    def act_if_asked(self) -> None:
        """
        :raises KeyboardInterrupt: if a signal has come, or whatever its handler raises
        """
        if self._asked is not None:
            self._before[self._asked](self._asked, None)

    @property
    def late(self) -> bool:
        """Whether a signal has waited for long enough."""
        return self._asked is not None and time.monotonic() - self._since > self.patience

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A context within, in which signals do not wait."""
        self._waits = False
        try:
            self.act_if_asked()
            yield
        finally:
            self._waits = True
