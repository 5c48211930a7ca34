"""Environments of the user's own, ``MODULE:ID``: the one thing that is imported because somebody has typed it."""

import importlib
import os
import re
import sys
import traceback
from types import TracebackType

from sb3_distill.common.flags import in_flags

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def split_module(env: str) -> tuple[str, str]:
    """
    :param env: ``MODULE:ID`` or ``ID``
    :return: the module, empty if there is none, and the id
    """
    module, _, env_id = env.rpartition(":")
    return module, env_id


def import_environment(env: str) -> str:
    """
    :param env: as it was typed on the command line
    :return: the id, as :func:`find_environment` has it
    :raises ValueError: as there, in words of the command line; also ImportError
    """
    with in_flags():
        return find_environment(env)


def find_environment(env: str) -> str:
    """
    Find an environment that the user has named, in the working directory too.

    :param env: ``MODULE:ID``, whose module is imported to register it, or ``ID``
    :return: the id
    :raises ValueError: if the module is not there or cannot be imported, and if there is no environment of that id then: what is
        near it
    :raises ImportError: for an Atari game, if ale-py is missing
    """
    import gymnasium as gym

    from sb3_distill.common.env_ids import check_env_id

    module, env_id = split_module(env)
    if not module:
        check_env_id(env_id)
        return env_id
    before = set(gym.registry)
    import_module(module)
    if env_id in gym.registry:
        return env_id
    registered = [known for known in gym.registry if known not in before or _is_from(module, known)]
    said = f"it registers {', '.join(map(repr, registered[:8]))}" if registered else "it registers nothing"
    try:
        check_env_id(env_id)
    except ValueError:
        raise ValueError(f"The module {module!r} has no environment {env_id!r}: {said} with Gymnasium.") from None
    return env_id


def _is_from(module: str, env_id: str) -> bool:
    """Whether an environment's code is in a module, which may have been imported before."""
    import gymnasium as gym

    entry_point = gym.registry[env_id].entry_point
    place = entry_point.partition(":")[0] if isinstance(entry_point, str) else getattr(entry_point, "__module__", "")
    return f"{place}.".startswith(f"{module}.")


def import_module(module: str) -> None:
    """
    Import a module that the user has named, in the working directory or installed.

    :param module: dotted
    :raises ValueError: if it is not there, or its code raises: what, and in which line
    """
    name = module.removesuffix(".py").replace(os.sep, ".")
    if module != name or not _MODULE.fullmatch(module):
        hint = repr(name) if _MODULE.fullmatch(name) else "it as Python imports it, such as a.b"
        raise ValueError(f"{module!r} is no name of a module: write {hint}.")
    working_directory_on_path()
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise ValueError(_cannot(module, error)) from error
        raise ValueError(
            f"No module {module!r}: there is none in the working directory, {os.getcwd()}, and none is installed."
        ) from error
    except (Exception, SystemExit) as error:  # it is the user's code, which raises whatever it likes
        raise ValueError(_cannot(module, error)) from error


def working_directory_on_path() -> None:
    """Let modules be imported from the working directory, after what is installed, which none of them is to hide."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def _cannot(module: str, error: BaseException) -> str:
    where = _line_of(module, error.__traceback__)
    said = " ".join(str(error).split())
    return f"The module {module!r} cannot be imported:{where} {type(error).__name__}{': ' if said else ''}{said}"


def _line_of(module: str, trace: TracebackType | None) -> str:
    """Where in the module's own file it happened, as text."""
    tail = module.replace(".", "/")
    for frame in reversed(traceback.extract_tb(trace)):
        if frame.filename.replace(os.sep, "/").removesuffix(".py").removesuffix("/__init__").endswith(tail):
            return f" {frame.filename}, line {frame.lineno}:"
    return ""
