"""Ray is found: it is installed, and a cluster answers, or one of this machine alone begins."""

import os
import re
import socket
from types import ModuleType
from typing import Any

from sb3_distill.common.user_code import first_line

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
    if address in (None, "auto", "local"):
        return ray
    match = re.fullmatch(r"(?:ray://)?(\[[0-9a-fA-F:]+\]|[^\s:/]+):(\d{1,5})", str(address))
    if match is None:
        raise ValueError(f"{address!r} is no address of Ray: write HOST:6379, ray://HOST:10001, or auto.")
    try:
        socket.create_connection((match[1].strip("[]"), int(match[2])), PATIENCE).close()
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or error
        raise ConnectionError(
            f"No Ray cluster answers at {address} ({said}): 'ray start --head' begins one, and prints its address."
        ) from error
    return ray


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
    if address != "local":
        try:
            ray.init(address=address or "auto", **quiet)
            return ray
        except (ConnectionError, RuntimeError, TimeoutError) as error:
            if address is not None:
                raise ConnectionError(f"The Ray cluster at {address} cannot be used: {first_line(error)}") from error
    ray.init(address="local", num_cpus=num_cpus, include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
    return ray
