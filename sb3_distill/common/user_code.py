"""Whether an error comes out of somebody's environment, and from where in it: its faults are the user's to find and to mend."""

import traceback
from pathlib import Path
from types import TracebackType

#: packages that call an environment
_CALLERS = ("stable_baselines3", "sb3_contrib", "gymnasium")
#: those whose own frames are no place in an environment
_LIBRARIES: tuple[str, ...] = (
    *_CALLERS,
    "torch",
    "numpy",
    "sb3_distill",
    "rl_zoo3",
    "imageio",
    "imageio_ffmpeg",
    "rich",
    "tqdm",
)
_LIBRARIES += ("matplotlib", "h5py", "yaml", "cloudpickle", "pygame")


def users_frame(error: BaseException) -> TracebackType | None:
    """
    :param error: that was raised
    :return: the innermost place of its traceback in code of an environment, such as the user's: called by Gymnasium or SB3, and of
        neither of them, nor of this package, nor of Python; None if there is no such place
    """
    found, called, trace = None, False, error.__traceback__
    while trace is not None:
        package = _package_of(trace)
        if package in _CALLERS:
            called = True
        elif called and package not in _LIBRARIES and not _is_pythons(trace):
            found = trace
        trace = trace.tb_next
    return found


def told(error: BaseException, place: TracebackType) -> str:
    """
    :param error: that was raised
    :param place: of :func:`users_frame`
    :return: what and where, in a line: ``ValueError in MyEnv.step (mine.py:12): x must be positive``
    """
    code = place.tb_frame.f_code
    owner = place.tb_frame.f_locals.get("self")
    name = code.co_name if owner is None else f"{type(owner).__name__}.{code.co_name}"
    said = " ".join(str(error).split())
    return f"{type(error).__name__} in {name} ({Path(code.co_filename).name}:{place.tb_lineno}){': ' if said else ''}{said}"


def said_by(error: BaseException) -> str:
    """
    :param error: that was raised
    :return: its class and the first line of what it says
    """
    said = str(error).strip()
    return f"{type(error).__name__}{': ' if said else ''}{said.splitlines()[0] if said else ''}"


def innermost(error: BaseException) -> str:
    """
    :param error: that was raised
    :return: ``mine.py:12``, the innermost place of its traceback in nobody's library; nothing if there is none
    """
    found, trace = "", error.__traceback__
    while trace is not None:
        if _package_of(trace) not in _LIBRARIES and not _is_pythons(trace):
            found = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def first_line(error: BaseException) -> str:
    """
    :param error: that was raised, by anybody's code
    :return: the first line of what it says, or its class if it says nothing
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def traceback_text(error: BaseException) -> str:
    """
    :param error: that was raised
    :return: its traceback, from where an environment was called
    """
    trace = error.__traceback__
    while trace is not None and (_package_of(trace) in _LIBRARIES or _is_pythons(trace)):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


def _package_of(trace: TracebackType) -> str:
    return str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


def _is_pythons(trace: TracebackType) -> bool:
    """Whether it is in Python's own library."""
    path = trace.tb_frame.f_code.co_filename
    return path.startswith("<frozen") or (
        path.startswith(_PYTHON) and "site-packages" not in path and "dist-packages" not in path
    )


_PYTHON = str(Path(traceback.__file__).parent)
