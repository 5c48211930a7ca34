"""Objects of the user's own, ``MODULE:NAME``: a teacher that is no file. The module is imported because somebody has typed it."""

import re
import sys
from pathlib import Path
from typing import Any

from sb3_distill.common.nearest import nearest
from sb3_distill.common.own_env import import_module

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def is_object_name(text: Any) -> bool:
    """
    :param text: a teacher, as it was given
    :return: whether it is ``MODULE:NAME``: no path that exists, and no name of the zoo or the Hub
    """
    if not isinstance(text, str) or not _NAME.fullmatch(text) or text.startswith(("zoo:", "hub:")):
        return False
    return not Path(text).exists()


def import_object(text: str) -> Any:
    """
    :param text: ``MODULE:NAME``, of a module in the working directory or installed
    :return: what it is called there
    :raises ValueError: if the module is not there or cannot be imported, and if nothing in it has that name: what is near it
    """
    module, _, name = text.partition(":")
    import_module(module)
    found: Any = sys.modules[module]
    for part in name.split("."):
        if not hasattr(found, part):
            known = [key for key in dir(found) if not key.startswith("_") and callable(getattr(found, key, None))]
            raise ValueError(f"The module {module!r} has no {name!r}: {nearest(part, known)}")
        found = getattr(found, part)
    return found
