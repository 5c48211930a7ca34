"""Which code a run was made with: a version number stands for many states of a clone."""

import hashlib
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

#: folders of the package that no run depends on
APART = ("cli", "envs", "exporting", "study", "tabular", "zoo")


@lru_cache(maxsize=1)
def code() -> str:
    """
    :return: a digest of the package's source files that runs depend on
    """
    digest = hashlib.sha256()
    for package in ("sb3_distill", "sb3_distill.envs"):  # side by side in a clone, one within the other when installed
        root = Path(str(files(package)))
        for path in sorted(root.rglob("*.py")):
            name = path.relative_to(root)
            if name.parts[0] not in APART:
                digest.update(f"{package}/{name.as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]
