"""Whose a run is: two processes at one study, on one machine or two, do not do the same run.

The claim is a lock of the operating system on a file, which a dead process does not keep. A file system that is shared by machines may
know locks of one machine only, or none: so the file also says who holds it, and the holder touches it. Who has not done so for
``STALE`` seconds is dead.
"""

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

#: seconds from one sign of life to the next, and after which there is none
BEAT, STALE = 15.0, 120.0
#: of file systems without locks
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EBADF)


class HeldError(Exception):
    """Another process is at the run; says which."""


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """
    A context in which nobody else has the claim.

    :param path: of the lock's file, in a folder that exists
    :raises HeldError: if another process has it
    :raises OSError: if the disk is full
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        locks = _lock(handle, path)
        _refuse_if_held(handle, locks)
        _say(handle, {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())})
        if not locks:
            time.sleep(0.05)  # two that come at once: the last one to write has it
            if (_holder(handle) or {}).get("pid") != os.getpid():
                raise HeldError(_words(_holder(handle)))
        stop = threading.Event()
        beat = threading.Thread(target=_beat, args=(handle, stop), daemon=True)
        beat.start()
        try:
            yield
        finally:
            stop.set()
            beat.join()
            with suppress(OSError):
                os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _lock(handle: int, path: Path) -> bool:
    """Whether the file is locked; False where there are no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise HeldError(_words(_holder(handle))) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    # The last holder may have removed the file between its opening and its locking.
    if not path.exists() or os.fstat(handle).st_ino != path.stat().st_ino:
        raise HeldError("another process, which is just done")
    return True


def _refuse_if_held(handle: int, locks: bool) -> None:
    holder = _holder(handle)
    if holder is None:
        return
    here = holder.get("host") == socket.gethostname()
    if here:
        alive = not locks and _started(holder.get("pid")) == holder.get("started") is not None
    else:
        alive = time.time() - os.fstat(handle).st_mtime < STALE
    if alive:
        raise HeldError(_words(holder))


def _holder(handle: int) -> dict[str, Any] | None:
    try:
        data = json.loads(os.pread(handle, 4096, 0) or b"null")
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _words(holder: dict[str, Any] | None) -> str:
    if holder is None:
        return "another process"
    return f"process {holder.get('pid')} on {str(holder.get('host'))[:60]}"


def _say(handle: int, holder: dict[str, Any]) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(holder).encode(), 0)


def _beat(handle: int, stop: threading.Event) -> None:
    while not stop.wait(BEAT):
        with suppress(OSError):
            os.utime(handle)


def _started(pid: Any) -> str | None:
    """When a process of this machine began, which tells it from another one with its number; None if there is none."""
    try:
        with open(f"/proc/{int(pid)}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, ValueError, TypeError, IndexError):
        pass
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, TypeError, OverflowError):
        return None
    except OSError:
        pass
    return "running"  # without /proc nobody knows since when
