"""The library's messages in the words of the command line: there an argument is a flag."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sb3_distill.common.user_code import users_frame

#: arguments that are flags of the same name
SAME = (
    *(
        "method",
        "form",
        "baseline",
        "control",
        "weight",
        "beta",
        "loss_coef",
        "reward_coef",
        "env_reward_coef",
        "loss",
        "memory",
        "temperature",
    ),
    *(
        "epsilon",
        "gamma",
        "learning_rate",
        "n_envs",
        "seed",
        "device",
        "net_arch",
        "teacher",
        "env",
        "steps",
        "env_kwargs",
    ),
)
#: arguments whose flag has another name
OTHER = {"student": "engine", "env_id": "env", "tensorboard_log": "tensorboard-log"}
#: arguments that the command line does not have
PYTHON_ONLY = ("teacher_obs",)

_NAMES = {name: name.replace("_", "-") for name in SAME} | OTHER
_VALUE = r"""'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<plain>…|\[[^\]]*\]|-?\d+(?:\.\d+)?(?:e[-+]?\d+)?|\w+)"""
_GIVEN = re.compile(rf"(?<![-\w.])(?P<name>{'|'.join(_NAMES)})=(?:{_VALUE})")
_BARE = re.compile(rf"(?<![-\w.'\"])(?P<name>{'|'.join(name for name in _NAMES if '_' in name)})\b(?!=)")
_SUBJECT = re.compile(rf"^(?P<name>{'|'.join(_NAMES)})(?= must )")
_OR = re.compile(r"(?<=\s)(--[-\w]+ \w+) or '(\w+)'")
#: of the command line, with what is typed after it
_FLAG = re.compile(r"(?<![-\w])--(?P<name>[a-z][-a-z]+)(?: (?P<value>\S+(?= \(not )|-?\d[\d.e+-]*\b|\w+:[\w./-]*\w))?")
_PYTHON = re.compile(rf"(?<![-\w.])(?P<text>({'|'.join(PYTHON_ONLY)})=(?:…|\w+)?)")


def as_flags(message: str) -> str:
    """
    >>> as_flags("control='teacher' cannot go with the reward: set control='student' or reward_coef=0.")
    '--control teacher cannot go with the reward: set --control student or --reward-coef 0.'
    >>> as_flags("temperature must be greater than 0: lower learning_rate")
    '--temperature must be greater than 0: lower --learning-rate'

    :param message: of an error, which names arguments as Python does
    :return: the same with flags
    """

    def given(match: re.Match[str]) -> str:
        value = next(text for text in match.group("single", "double", "plain") if text is not None)
        return _flag(match) if value == "…" else f"{_flag(match)} {value}"

    message = _OR.sub(r"\1 or \2", _GIVEN.sub(given, message))
    message = _SUBJECT.sub(_flag, _BARE.sub(_flag, message))
    return _PYTHON.sub(r"\g<text> (of the constructor in Python; there is no flag for it)", message)


def _flag(match: re.Match[str]) -> str:
    return f"--{_NAMES[match['name']]}"


def as_arguments(message: str) -> str:
    """
    >>> as_arguments("runs/a holds a student already: choose another folder with --out, or add --overwrite.")
    'runs/a holds a student already: choose another folder with out=…, or add overwrite=True.'

    >>> as_arguments("with --method n_distill (not expected_entropy), or --env my_module:Mine-v0")
    'with method=n_distill (not expected_entropy), or env=my_module:Mine-v0'

    :param message: of an error, which names flags as the command line does
    :return: the same with arguments of :func:`~sb3_distill.distill`
    """
    message = message.replace("--overwrite", "overwrite=True")
    return _FLAG.sub(lambda match: f"{match['name'].replace('-', '_')}={match['value'] or '…'}", message)


@contextmanager
def in_arguments() -> Iterator[None]:
    """A context whose errors speak of arguments of Python."""
    try:
        yield
    except (ValueError, ImportError, OSError) as error:
        message = as_arguments(str(error))
        if (
            users_frame(error) is not None
            or message == str(error)
            or type(error) not in (ValueError, ImportError, OSError)
        ):
            raise
        raise type(error)(message) from error


@contextmanager
def in_flags() -> Iterator[None]:
    """A context whose errors speak of flags."""
    try:
        yield
    except (ValueError, ImportError) as error:
        if users_frame(error) is not None:  # its words are an environment's
            raise
        message = as_flags(str(error))
        if message == str(error) or type(error) not in (ValueError, ImportError):
            raise
        raise type(error)(message) from error
