"""Ray is found: it is installed, and a cluster answers, or one of this machine alone begins."""

import os
import re
import socket
import tempfile
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from sb3_distill.common.user_code import first_line

_ADDRESS = r"(?:ray://)?(\[[0-9a-fA-F:]+\]|[^\s:/]+):(\d{1,5})"
#: seconds in which an address has to answer
PATIENCE = 10.0


def check_ray(address: str | None = None) -> ModuleType:
    """
    :param address: of a cluster, if one was named
    :return: Ray
    :raises ImportError: if it is not installed
    :raises ConnectionError: if nobody answers at the address
    :raises ValueError: if it is no address
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError("Ray is not installed: pip install 'sb3-distill[ray]'.") from error
    if address in (None, "auto"):
        named = os.environ.get("RAY_ADDRESS", "")
        said = None if ray.is_initialized() else _silence(named)
        if said is not None:
            raise ConnectionError(
                f"No Ray cluster answers at {named} ({said}), which RAY_ADDRESS names: unset it, or give an address."
            )
    elif address != "local":
        if re.fullmatch(_ADDRESS, str(address)) is None:
            raise ValueError(f"{address!r} is no address of Ray: write HOST:6379, ray://HOST:10001, or auto.")
        said = _silence(str(address))
        if said is not None:
            raise ConnectionError(
                f"No Ray cluster answers at {address} ({said}): 'ray start --head' begins one, and prints its address."
            )
    return ray


def _silence(address: str) -> str | None:
    """Why nobody answers at an address; None if somebody does, or it is none."""
    match = re.fullmatch(_ADDRESS, address)
    if match is None:
        return None
    try:
        socket.create_connection((match[1].strip("[]"), int(match[2])), PATIENCE).close()
    except (OSError, OverflowError) as error:
        return str(getattr(error, "strerror", None) or error)
    return None


def gone_cluster() -> str | None:
    """
    :return: the address that Ray's file of the last cluster on this machine names, and why nobody answers there, in words; None if
        somebody does, or there is no such file. Ray itself would wait for it for minutes
    """
    if os.environ.get("RAY_ADDRESS"):
        return None  # comes first
    path = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray" / "ray_current_cluster"
    try:
        named = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    said = _silence(named)
    return None if said is None else f"at {named} ({said}), which {path} names"


def connected(address: str | None = None, num_cpus: int | None = None) -> ModuleType:
    """
    :param address: of a cluster; None for the one that this process is connected to, or the one at hand, or a new one of this
        machine, which listens on the loopback alone and ends with the process
    :param num_cpus: of a new one, by default as many as Ray finds
    :return: Ray, connected
    :raises ImportError: if it is not installed
    :raises ConnectionError: if there is no cluster at that address
    :raises ValueError: if it is no address
    """
    ray: Any = check_ray(address)
    if ray.is_initialized():
        return ray
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    gone = gone_cluster() if address in (None, "auto") else None
    if gone is not None and address is not None:
        raise ConnectionError(f"No Ray cluster answers {gone}: 'ray start --head' begins one, and prints its address.")
    if gone is not None:
        warnings.warn(f"No Ray cluster answers {gone}: a new one of this machine is begun.", stacklevel=2)
    elif address != "local":
        try:
            ray.init(address=address or "auto", **quiet)
            return ray
        except (ConnectionError, RuntimeError, TimeoutError) as error:
            if address is not None:
                raise ConnectionError(f"The Ray cluster at {address} cannot be used: {first_line(error)}") from error
    ray.init(address="local", num_cpus=num_cpus, include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
    return ray
