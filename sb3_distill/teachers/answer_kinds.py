"""What a teacher that is no agent of SB3's may answer with, and what its policy is then.

=====================  =============================================================  ============================================
``answers``            for a state                                                    π(·|s)
=====================  =============================================================  ============================================
``"action"``           an action, as SB3 hands it to the environment                  1−ε of the mass on it, and ε on all; of a
                                                                                      ``Box`` a Gaussian around it
``"logits"``           those of ``Discrete`` actions; of ``MultiDiscrete`` joined      (1−ε) softmax + ε/n, each factor
``"probabilities"``    likewise; each factor's sum to 1                               (1−ε) p + ε/n, each factor
``"q_values"``         Q(s, ·) of ``Discrete`` actions                                (1−ε) softmax(Q/τ) + ε/n
``"mean_and_std"``     two arrays, of a ``Box`` in the environment's units            the diagonal Gaussian, no narrower than
                                                                                      MIN_STD of half the range
=====================  =============================================================  ============================================
"""

import math
from numbers import Real

import numpy as np
import torch as th
from gymnasium import spaces
from torch.nn import functional

from sb3_distill.common.articles import with_article
from sb3_distill.common.nearest import nearest
from sb3_distill.common.spaces import first_action
from sb3_distill.rules.distributions import parameter_size
from sb3_distill.rules.temperature import soften
from sb3_distill.teachers.bounded import MIN_STD

_DISCRETE = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
#: which action spaces each kind of answer is of
KINDS: dict[str, tuple[type[spaces.Space], ...]] = {
    "action": (*_DISCRETE, spaces.Box),
    "logits": _DISCRETE,
    "probabilities": _DISCRETE,
    "q_values": (spaces.Discrete,),
    "mean_and_std": (spaces.Box,),
}
#: and which options
OPTIONS: dict[str, tuple[str, ...]] = {
    "action": ("epsilon", "action_std"),
    "logits": ("epsilon",),
    "probabilities": ("epsilon",),
    "q_values": ("temperature", "epsilon"),
    "mean_and_std": (),
}
#: by how much the sum of probabilities may miss 1
_SUM = 1e-3


class AnswerError(ValueError):
    """A teacher of a user's own answers with something that cannot be an answer."""


class FunctionError(AnswerError):
    """A teacher of a user's own raises, which is the cause of this."""


def check_kind(answers: str) -> None:
    """
    :param answers: as it was given
    :raises ValueError: if there is no such kind
    """
    if answers not in KINDS:
        raise ValueError(f"Unknown answers={answers!r}: {nearest(str(answers), KINDS)}")


def check_serves(answers: str, action_space: spaces.Space, name: str) -> None:
    """
    :param answers: a kind
    :param action_space: of the environment
    :param name: whose answers, for the message
    :raises AnswerError: if such actions have no such answers
    """
    if not isinstance(action_space, KINDS[answers]):
        fitting = [repr(kind) for kind, known in KINDS.items() if isinstance(action_space, known)]
        if not fitting:
            raise AnswerError(
                f"{name} cannot act in {action_space}: use a Discrete, MultiDiscrete, MultiBinary or Box action space."
            )
        raise AnswerError(
            f"answers={answers!r} of {name} does not go with the action space {action_space}: give answers={' or '.join(fitting)}."
        )
    if isinstance(action_space, spaces.MultiDiscrete) and action_space.nvec.ndim > 1:
        raise AnswerError(
            f"{name} cannot act in {action_space}: SB3 knows MultiDiscrete actions of one axis, so flatten the space."
        )


def width(answers: str, action_space: spaces.Space) -> int:
    """
    :param answers: a kind
    :param action_space: of the environment
    :return: how many numbers are the answer for one state
    """
    if answers == "action":
        return 1 if isinstance(action_space, spaces.Discrete) else int(np.prod(action_space.shape or ()))
    return parameter_size(action_space)


def one_answer(answers: str, action_space: spaces.Space) -> str:
    """
    :param answers: a kind
    :param action_space: of the environment
    :return: what the answer for one state is, for messages
    """
    if answers == "action":
        return f"{with_article(type(action_space).__name__)} action is {_shape(action_space.shape or ())}"
    if answers == "mean_and_std":
        return f"mean and standard deviation are two arrays of shape {action_space.shape}"
    return f"{answers.replace('_', '-').replace('q-v', 'Q-v')} of {action_space} are {width(answers, action_space)} numbers"


def _shape(shape: tuple[int, ...]) -> str:
    return f"of shape {shape}" if shape else "one number"


def fault(answers: str, action_space: spaces.Space, rows: np.ndarray) -> tuple[int, str] | None:
    """
    :param answers: a kind
    :param action_space: of the environment
    :param rows: the answers for n states, shape (n, :func:`width`)
    :return: the first state whose answer cannot be one, and what is wrong with it; None if there is none
    """
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(rows.astype(np.float32)).all(axis=1)
    if bad.any():
        row = rows[bad.argmax()]
        if np.isfinite(row).all():
            most = np.finfo(np.float32).max
            return int(bad.argmax()), f"which float32, in which students learn, does not hold: it goes to {most:.3g}"
        never = answers == "logits" and bool(np.isneginf(row).any() and not np.isnan(row).any())
        remedy = ": of an action that it never takes, a logit of -20 is as good, or with answers='probabilities' a probability of 0"
        return int(bad.argmax()), f"which is not finite{remedy if never else ''}"
    wrong, what = np.zeros_like(rows, dtype=bool), ""
    if answers == "mean_and_std":
        wrong, what = rows <= 0, "and a standard deviation is greater than 0"
        wrong[:, : rows.shape[1] // 2] = False
    elif answers == "probabilities":
        wrong = (rows < 0) | (rows > 1)
        for part in np.split(rows, _edges(action_space), axis=1):
            if not isinstance(action_space, spaces.MultiBinary):
                wrong |= np.abs(part.sum(axis=1, keepdims=True) - 1) > _SUM
        what = "and probabilities lie between 0 and 1 and sum to 1: give answers='logits' or 'q_values' if it is those"
    elif answers == "action" and isinstance(action_space, _DISCRETE):
        n = _counts(action_space)
        wrong = (rows < 0) | (rows >= n) | (rows != np.floor(rows))
        most = f"0 … {int(n[0]) - 1}" if len(set(n.tolist())) == 1 else f"0 … {(n - 1).tolist()}"
        what = f"which is outside {action_space}: its actions are {most}"
        if np.any(first_action(action_space)):
            what += ", for SB3 counts them from 0, whatever start says"
    if wrong.any():
        return int(wrong.any(axis=1).argmax()), what
    return None


def _counts(action_space: spaces.Space) -> np.ndarray:
    """How many actions each factor has."""
    if isinstance(action_space, spaces.Discrete):
        return np.array([action_space.n])
    if isinstance(action_space, spaces.MultiDiscrete):
        return np.asarray(action_space.nvec).flatten()
    return np.full(int(np.prod(action_space.shape or ())), 2)


def _edges(action_space: spaces.Space) -> np.ndarray:
    """Where the columns of one factor end and those of the next begin."""
    return (
        np.cumsum(_counts(action_space))[:-1] if isinstance(action_space, spaces.MultiDiscrete) else np.array([], int)
    )


def beyond(action_space: spaces.Space, rows: np.ndarray) -> np.ndarray:
    """
    :param action_space: a ``Box``
    :param rows: actions, shape (n, d)
    :return: by how much each is outside, shape (n,)
    """
    assert isinstance(action_space, spaces.Box)
    low, high = action_space.low.flatten(), action_space.high.flatten()
    size = np.where(np.isfinite(high - low), high - low, 1.0)
    out = np.maximum(np.maximum(low - rows, rows - high), 0.0)
    return np.where(out > 1e-6 * size, out, 0.0).max(axis=1, initial=0.0)


def parameters_of(
    answers: str, action_space: spaces.Space, rows: th.Tensor, epsilon: float, action_std: float
) -> th.Tensor:
    """
    :param answers: a kind, but ``"q_values"``
    :param action_space: of the environment
    :param rows: answers without fault, shape (n, :func:`width`)
    :param epsilon: ε in [0, 1], of discrete actions; greater than 0 for actions and probabilities, whose log would be infinite
    :param action_std: of the Gaussian around an action, in units of half the action's range where that is finite
    :return: of π, see :mod:`sb3_distill.rules.distributions`
    """
    if isinstance(action_space, spaces.Box):
        if answers == "mean_and_std":
            mean, std = rows.chunk(2, dim=-1)
            return th.cat([mean, std.maximum(least_std(action_space).to(rows.dtype)).log()], dim=-1)
        low, high = (th.as_tensor(b.flatten(), dtype=rows.dtype) for b in (action_space.low, action_space.high))
        std = max(action_std, MIN_STD) * least_std(action_space) / MIN_STD
        return th.cat([rows.clamp(low, high), std.log().to(rows.dtype).expand_as(rows)], dim=-1)
    if isinstance(action_space, spaces.MultiBinary):
        if answers == "logits" and epsilon == 0:
            return rows
        # In float64, where also a small ε is no 0, and each of the two by itself, where it is not lost beside 1.
        yes, no = (rows.double().sigmoid(), (-rows.double()).sigmoid()) if answers == "logits" else (rows, 1 - rows)
        odds = [((1 - epsilon) * p.double() + epsilon / 2).log() for p in (yes, no)]
        return (odds[0] - odds[1]).to(rows.dtype)
    counts = _counts(action_space).tolist()
    if answers == "action":
        parts = [functional.one_hot(rows[:, i].long(), n).to(rows.dtype) for i, n in enumerate(counts)]
    else:
        parts = list(rows.split(counts, dim=-1))
    if answers == "logits":
        return th.cat([soften(part, 1.0, epsilon) for part in parts], dim=-1)
    mixed = [
        ((1 - epsilon) * part / part.sum(-1, keepdim=True) + epsilon / n)
        for part, n in zip((part.double() for part in parts), counts, strict=True)
    ]
    return th.cat(mixed, dim=-1).log().to(rows.dtype)


def least_std(action_space: spaces.Box) -> th.Tensor:
    """
    :param action_space: of the environment
    :return: the least standard deviation of each action: :data:`MIN_STD` of half its range, or of 1 where that is infinite or 0; float64
    """
    low, high = (th.as_tensor(b.flatten(), dtype=th.float64) for b in (action_space.low, action_space.high))
    half = (high - low) / 2
    return MIN_STD * th.where((half > 0) & (half <= th.finfo(th.float32).max / 2), half, 1.0)


def check_options(answers: str, action_space: spaces.Space | None, given: dict[str, float | None], name: str) -> None:
    """
    :param answers: a kind
    :param action_space: of the environment, if it is known
    :param given: ``temperature``, ``epsilon`` and ``action_std``; None where it was not given
    :param name: whose, for the message
    :raises ValueError: for an option that such answers do not have, and numbers that make log π infinite
    """
    known = OPTIONS[answers]
    if answers == "action" and action_space is not None:
        known = ("action_std",) if isinstance(action_space, spaces.Box) else ("epsilon",)
    for option, value in given.items():
        if value is None:
            continue
        if option not in known:
            has = f" (there is {' and '.join(known)})" if known else ""
            actions = "" if action_space is None else f" in {action_space}"
            raise ValueError(f"{option} is no option of {name}, with answers={answers!r}{actions}: leave it out{has}.")
        if not isinstance(value, Real) or isinstance(value, bool):
            raise ValueError(f"{option} of {name} must be a number, not {value!r}.")
        needed = option == "action_std" or (option == "epsilon" and answers in ("action", "probabilities"))
        if needed and not 0 < value < math.inf:
            raise ValueError(f"{option} must be greater than 0 for {name}, or log π would be infinite, not {value!r}.")
