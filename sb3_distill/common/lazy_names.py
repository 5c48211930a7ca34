"""What a package offers, imported when it is asked for: PyTorch takes a second, and ``sb3-distill --help`` does not need it."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """
    ``__getattr__`` and ``__dir__`` of a package (PEP 562).

    :param package: its ``__name__``
    :param homes: from the names that it offers to the modules that have them
    :return: both
    """

    def __getattr__(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return __getattr__, lambda: sorted({*vars(sys.modules[package]), *homes})
