"""A process that does one run after another, and imports PyTorch once: ``python -m sb3_distill.study.worker``.

A task is a line of JSON on stdin, and its report one on stdout. When stdin ends, so does the process: whoever began it is gone.
"""

import json
import os
import signal
import sys
import threading
import time
from queue import SimpleQueue
from typing import NoReturn

from sb3_distill.study.work import Task, do

#: seconds that a run has to write its last checkpoint after whoever began the process is gone
GRACE = 10.0


def main() -> None:
    """Do what comes on stdin."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & has it ignored
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what is printed is no report
    tasks: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_read, args=(tasks,), daemon=True).start()
    try:
        import sb3_distill.experiment.distill  # noqa: F401 - seconds, before the first task comes

        _answer(reports, "null")
        while line := tasks.get():
            report = do(Task(**json.loads(line)))
            _answer(reports, json.dumps(report._asdict()))
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    _leave()


def _answer(reports: "object", line: str) -> None:
    reports.write(f"{line}\n")  # type: ignore[attr-defined]
    reports.flush()  # type: ignore[attr-defined]


def _read(tasks: "SimpleQueue[str]") -> None:
    for line in sys.stdin:
        tasks.put(line)
    tasks.put("")
    # In the middle of a run: as Ctrl-C, which writes a checkpoint.
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(GRACE)
    _leave()


def _leave() -> NoReturn:
    """Without waiting for threads of an environment's."""
    os._exit(0)


if __name__ == "__main__":
    main()
