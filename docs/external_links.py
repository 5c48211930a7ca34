"""What intersphinx asks other projects for, committed: the site builds without a network, and always alike.

``inventories/NAME.txt`` has the names that these pages use, those of SB3 and Gymnasium also as their modules are called,
because autodoc writes ``stable_baselines3.ppo.ppo.PPO`` where SB3's pages say ``stable_baselines3.ppo.PPO``.
"""

import zlib
from pathlib import Path

SITES = {
    "stable-baselines3": "https://stable-baselines3.readthedocs.io/en/master/",
    "gymnasium": "https://gymnasium.farama.org/",
    "pytorch": "https://docs.pytorch.org/docs/stable/",
    "numpy": "https://numpy.org/doc/stable/",
    "python": "https://docs.python.org/3/",
}
FUNCTIONS = ("make_vec_env",)


def intersphinx_mapping(built: Path) -> dict[str, tuple[str, str]]:
    """
    :param built: a folder; ``NAME.inv`` of each project is written there
    :return: for intersphinx
    """
    built.mkdir(parents=True, exist_ok=True)
    mapping = {}
    for name, url in SITES.items():
        text = (Path(__file__).parent / "inventories" / f"{name}.txt").read_text(encoding="utf-8")
        path = built / f"{name}.inv"
        path.write_bytes(inventory(name, links(text)))
        mapping[name] = (url, str(path))
    return mapping


def links(text: str) -> dict[str, str]:
    """
    :param text: of a file in ``inventories``
    :return: from names to pages and anchors
    """
    pairs = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return dict(pairs)  # type: ignore[arg-type]


def inventory(project: str, uris: dict[str, str]) -> bytes:
    """
    :param project: its name
    :param uris: from names to pages and anchors
    :return: Sphinx's format, version 2
    """
    head = f"# Sphinx inventory version 2\n# Project: {project}\n# Version: \n# The remainder of this file is compressed using zlib.\n"
    rows = [
        f"{name} py:{'function' if name.endswith(FUNCTIONS) else 'class'} 1 {uri} -\n" for name, uri in uris.items()
    ]
    return head.encode() + zlib.compress("".join(rows).encode())
