"""Ray has no authentication, and may listen on the machine's own address: its tests are in a network that has the loopback alone."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest


def namespace() -> list[str]:
    """:return: how a command begins that runs in such a network; without Ray, or where none can be made, the test skips"""
    pytest.importorskip("ray")
    for flags in ("-n", "-rn"):
        command = [
            "unshare",
            flags,
            "-pf",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            'ip link set lo up && exec "$@"',
            "sh",
        ]
        if shutil.which("unshare") and not subprocess.run([*command, "true"], capture_output=True).returncode:
            return command
    pytest.skip("no network namespace can be made here, and Ray would listen on this machine's own address")


def run_inside(*words: str, timeout: float = 600) -> subprocess.CompletedProcess:
    """
    :param words: after ``python``
    :param timeout: seconds
    :return: how it ended there; modules of the tests are found by Ray's processes, too
    """
    here = [str(Path(__file__).parent), str(Path(__file__).parent / "envs")]
    env = os.environ | {"PYTHONPATH": ":".join(filter(None, [*here, *sys.path])), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [*namespace(), sys.executable, *words]
    # Ray's sockets lie there, and the path of a socket may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        env["RAY_TMPDIR"] = folder
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=env)
