"""The library's messages in the words of the command line: there an argument is a flag."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sb3_distill.common.user_code import users_frame

#: arguments that are flags of the same name
SAME = (
    *(
        "method",
        "engine",
        "form",
        "baseline",
        "control",
        "weight",
        "beta",
        "beta_per",
        "teacher_return",
        "random_return",
        "reward_bound",
        "loss_coef",
        "reward_coef",
        "env_reward_coef",
        "noise",
        "critic",
        "then_rl",
    ),
    *("loss", "memory", "temperature", "epsilon", "gamma", "learning_rate", "n_envs", "seed", "device", "threads"),
    *(
        "net_arch",
        "size",
        "student_obs",
        "teacher",
        "env",
        "env_kwargs",
        "steps",
        "eval_episodes",
        "tensorboard_log",
        "out",
        "overwrite",
    ),
    *("to", "int8", "layout", "tolerance"),
)
#: arguments whose flag has another name
OTHER = {"student": "engine", "env_id": "env", "n_observations": "observations"}
#: arguments that the command line does not have
PYTHON_ONLY = ("teacher_obs",)

_NAMES = {name: name.replace("_", "-") for name in SAME} | OTHER
_VALUE = r"""'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<plain>…|\[[^\]]*\]|-?\d+(?:\.\d+)?(?:e[-+]?\d+)?|\w+)"""
_GIVEN = re.compile(rf"(?<![-\w.])(?P<name>{'|'.join(_NAMES)})=(?:{_VALUE})")
_BARE = re.compile(rf"(?<![-\w.'\"])(?P<name>{'|'.join(name for name in _NAMES if '_' in name)})\b(?!=)")
_SUBJECT = re.compile(rf"^(?P<name>{'|'.join(_NAMES)})(?= must )")
_OR = re.compile(r"(?<=\s)(--[-\w]+ \w+) or '(\w+)'")
_PYTHON = re.compile(rf"(?<![-\w.])(?P<text>({'|'.join(PYTHON_ONLY)})=(?:…|\w+)?)")


def as_flags(message: str) -> str:
    """
    >>> as_flags("control='teacher' cannot go with the reward: set control='student' or reward_coef=0.")
    '--control teacher cannot go with the reward: set --control student or --reward-coef 0.'
    >>> as_flags("temperature must be greater than 0: lower learning_rate")
    '--temperature must be greater than 0: lower --learning-rate'

    >>> as_flags("runs/a holds a student already: choose another folder with out=…, or add overwrite=True.")
    'runs/a holds a student already: choose another folder with --out, or add --overwrite.'

    :param message: of an error, which names arguments as Python does
    :return: the same with flags
    """

    def given(match: re.Match[str]) -> str:
        value = next(text for text in match.group("single", "double", "plain") if text is not None)
        return _flag(match) if value in ("…", "True") else f"{_flag(match)} {value}"

    message = _OR.sub(r"\1 or \2", _GIVEN.sub(given, message))
    message = _SUBJECT.sub(_flag, _BARE.sub(_flag, message))
    return _PYTHON.sub(r"\g<text> (of the constructor in Python; there is no flag for it)", message)


def _flag(match: re.Match[str]) -> str:
    return f"--{_NAMES[match['name']]}"


@contextmanager
def in_flags() -> Iterator[None]:
    """A context whose errors speak of flags."""
    try:
        yield
    except (ValueError, ImportError, OSError) as error:
        message = as_flags(str(error))
        ours = isinstance(error, OSError) or type(error) in (ValueError, ImportError)
        if not ours or message == str(error) or users_frame(error) is not None:  # whose words are an environment's
            raise
        raise type(error)(message) from error
