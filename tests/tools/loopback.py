"""A tool begins anew in a network that has the loopback alone: Ray has no authentication, and may listen on the machine's own address."""

import os
import sys
from collections.abc import Sequence

#: in the environment of who is inside
INSIDE = "TOOL_IN_A_NETWORK_OF_ITS_OWN"


def begin_inside(module: str, argv: Sequence[str]) -> None:
    """
    Return at once in such a network; else put this very command in one in place of this process.

    :param module: of the tool
    :param argv: its arguments
    """
    if os.environ.get(INSIDE):
        return
    command = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable, "-m", module, *argv]
    os.execvpe("unshare", ["unshare", "-n", *command], {**os.environ, INSIDE: "1"})
