"""A teacher as one would type it: a path, or a name of the zoo with or without ``zoo:``."""

import re
import warnings
from pathlib import Path

#: a name such as the RL Zoo files agents under, and no path of a zip
_ZOO_NAME = re.compile(r"\w+/[\w./-]*-v\d+")


def typed_teacher(text: str) -> str:
    """
    What is meant by a teacher's name. A path that exists wins.

    :param text: as it was typed
    :return: for :func:`~sb3_distill.load_teacher`. Where it could mean two things, or means an agent of the zoo, a warning says which
        was taken
    """
    from sb3_distill.agents.find import zoo_folders

    if text.startswith(("zoo:", "hub:")) or not _ZOO_NAME.fullmatch(text):
        return text
    path = Path(text).expanduser()
    in_zoo = text.replace("/", "-").replace("-", "/", 1) in zoo_folders() or text in zoo_folders()
    if path.exists() or path.with_name(f"{path.name}.zip").exists():
        if in_zoo:
            warnings.warn(f"The teacher is the path {text}, which exists: write zoo:{text} for the zoo's agent.")
        return text
    if in_zoo:
        warnings.warn(f"The teacher is zoo:{text}: there is no path {text}.")
    # Without either, the zoo's nearest names help more than that there is no such path.
    return f"zoo:{text}"
