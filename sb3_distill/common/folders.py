"""Whether a folder can be written to, seen before any work is done for it."""

import os
from pathlib import Path


def check_folder(path: Path, remedy: str = "choose another with out=…") -> None:
    """
    :param path: of a folder, which need not be there
    :param remedy: what to do about it, for the message
    :raises ValueError: if it is none, or cannot be made, as what is on the way to it is a file, leads nowhere, or may not be written to
    """
    if path.is_dir():
        return
    if os.path.lexists(path):
        raise ValueError(f"{path} is not a folder: {remedy}.")
    for part in path.parents:
        if part.is_dir():
            if not os.access(part, os.W_OK | os.X_OK):
                raise ValueError(f"{path} cannot be made, as {part} may not be written to: {remedy}.")
            return
        if os.path.lexists(part):
            raise ValueError(f"{path} cannot be made, as {part} is not a folder: {remedy}.")
