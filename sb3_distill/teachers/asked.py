"""A function of a user's own is asked about states, and what it says is checked: its shape, and each answer."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces

from sb3_distill.common.observations import each_part, length, observation_of
from sb3_distill.common.user_code import first_line, innermost, said_by
from sb3_distill.teachers.answer_kinds import AnswerError, FunctionError, fault, one_answer, width

#: kind of answer of a value function
VALUE = "value"


class Asked:
    """
    A function that is asked about batches of states, whatever it takes itself.

    :param function: from observations to answers, see :mod:`~sb3_distill.teachers.answer_kinds`. An ``nn.Module`` gets tensors, where it
        computes and in the precision of its weights, every other one NumPy's arrays
    :param name: for messages
    :param answers: a kind of answer, or ``"value"``
    :param batched: whether it takes n observations; else one
    """

    def __init__(self, function: Callable[..., Any], name: str, answers: str, batched: bool) -> None:
        self.function, self.name, self.answers, self.batched = function, name, answers, batched

    @property
    def owner(self) -> Any:
        """Whose memory it has: the function, or the object whose method it is."""
        return getattr(self.function, "__self__", self.function)

    @property
    def remembers(self) -> bool:
        """Whether it has a ``reset``, for the beginning of an episode, and is asked about one state after another."""
        return not self.batched and callable(getattr(self.owner, "reset", None))

    def begun(self) -> "Asked":
        """:return: a copy with a memory of its own, at the beginning of an episode"""
        try:
            function = copy.deepcopy(self.function)
        except Exception as error:
            raise AnswerError(
                f"{self.name} has a reset(), so each environment gets a copy of it, and it cannot be copied: {type(error).__name__}: "
                f"{first_line(error)}. Leave out of it what copy.deepcopy does not copy."
            ) from error
        asked = Asked(function, self.name, self.answers, self.batched)
        if asked.owner is self.owner:
            raise AnswerError(
                f"{self.name} has a reset(), so each environment gets a copy of it, and copy.deepcopy gives the same one back: make it an "
                "object of a class, with reset() and __call__(obs)."
            )
        asked.owner.reset()
        return asked

    def rows(self, obs: Any, action_space: spaces.Space) -> np.ndarray:
        """
        :param obs: n observations
        :param action_space: of the environment
        :return: the answers, shape (n, columns), of which each is what it has to be
        :raises AnswerError: if one is not: which, and the observation; of an error in the function it is the cause
        """
        if length(obs) == 0:  # no network need know what a batch of none is
            return np.zeros((0, self._width(action_space)))
        said = self.raw(obs)
        rows = self._shaped(said, length(obs), obs, action_space)
        problem = fault(self.answers, action_space, rows)
        if problem is not None:
            i, what = problem
            raise AnswerError(
                f"{self.name} answers {_short(rows[i])} for observation {i + 1} of {length(obs)}, {what}. The observation is "
                f"{_short(observation_of(obs, i))}."
            )
        return rows

    def raw(self, obs: Any) -> Any:
        """
        :param obs: n observations
        :return: what the function says: of a batch, or a list of what it says of each
        """
        # Copies: what it does with an observation must not reach the environment's own array.
        module = self.function if isinstance(self.function, th.nn.Module) else None
        obs = as_tensors(module, obs) if module is not None else each_part(obs, np.array)
        n = length(obs)
        with th.no_grad(), evaluating(module):
            if self.batched:
                return self._said(obs, f"a batch of {n} observations of shape {shapes(obs)}", obs)
            return [self._said(one, f"observation {i + 1} of {n}", one) for i, one in enumerate(_each(obs))]

    def _said(self, given: Any, about: str, obs: Any) -> Any:
        """What it answers, or the error of a user's code with whose it is and what it was asked about."""
        try:
            return self.function(given)
        except AnswerError:
            raise
        except Exception as error:
            place = innermost(error)
            raise FunctionError(
                f"{self.name} raises {said_by(error)}{f' in {place}' if place else ''} when it is asked about {about}. "
                f"{'They are' if self.batched else 'It is'} {_short(obs)}."
            ) from error

    def _width(self, action_space: spaces.Space) -> int:
        """How many numbers the answer for one state is."""
        return 1 if self.answers == VALUE else width(self.answers, action_space)

    def _shaped(self, said: Any, n: int, obs: Any, action_space: spaces.Space) -> np.ndarray:
        parts = self._two(said) if self.answers == "mean_and_std" else (said,)
        size = self._width(action_space)
        columns = [self._array(part, n, size // len(parts), obs, action_space) for part in parts]
        return np.concatenate(columns, axis=1)

    def _two(self, said: Any) -> Any:
        """Means and standard deviations, of a batch."""
        pairs = [said] if self.batched else said
        for pair in pairs:
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise AnswerError(
                    f"{self.name} answers {_kind(pair)}, and with answers='mean_and_std' it is a tuple of two: mean, standard deviation."
                )
        if self.batched:
            mean, std = (as_array(part) for part in said)
        else:
            mean, std = (np.stack([as_array(pair[k]) for pair in said]) for k in range(2))
        if std.size != mean.size and std.dtype.kind in "fiu":
            std = std.reshape(len(std), -1) if not self.batched else std
            try:
                std = np.broadcast_to(std, mean.reshape(len(mean), -1).shape)
            except ValueError:
                pass  # its shape will be told
        return mean, std

    def _array(self, part: Any, n: int, size: int, obs: Any, action_space: spaces.Space) -> np.ndarray:
        """Numbers of shape (n, size)."""
        if isinstance(part, (tuple, dict)) or part is None:
            several = " Of several parts, let it answer with the first one alone." if isinstance(part, tuple) else ""
            raise AnswerError(f"{self.name} answers {_kind(part)}: {self._expected(n, action_space)}.{several}")
        if isinstance(part, list) and not self.batched:
            for i, one in enumerate(part):
                if np.size(as_array(one)) != size or as_array(one).dtype.kind not in "biuf":
                    raise AnswerError(
                        f"{self.name} answers {_kind(one)} for observation {i + 1} of {n}, of shape {shapes(observation_of(obs, i))}: "
                        f"{self._expected(n, action_space)}.{self._hint(one, action_space)}"
                    )
            array = np.stack([as_array(one).reshape(size) for one in part])
        else:
            array = as_array(part)
        if array.dtype.kind not in "biuf" or array.shape[:1] != (n,) or array.size != n * size:
            raise AnswerError(
                f"{self.name} answers {_kind(part)} for {n} observations of shape {shapes(obs)}: "
                f"{self._expected(n, action_space)}.{self._hint(part, action_space)}"
            )
        return array.reshape(n, size).astype(np.float64)

    def _expected(self, n: int, action_space: spaces.Space) -> str:
        what = "a value is one number" if self.answers == VALUE else one_answer(self.answers, action_space)
        return f"{what}, and it is asked for {f'those of {n} states' if self.batched else 'that of one state'}"

    def _hint(self, said: Any, action_space: spaces.Space) -> str:
        """What may be meant instead."""
        numbers = as_array(said)
        if self.answers == "action" and isinstance(action_space, spaces.Discrete):
            if numbers.ndim and numbers.shape[-1] == action_space.n and numbers.dtype.kind == "f":
                return " If these are logits or Q-values, give answers='logits' or answers='q_values'."
        if self.batched:
            return " If it takes one observation at a time, give batched=False."
        return " If it takes a batch of observations, give batched=True."


@contextmanager
def evaluating(module: th.nn.Module | None) -> Iterator[None]:
    """
    :param module: that is asked as it plays, without dropout, and after that is in the mode that it was in, each part of it
    """
    training = [] if module is None else [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _each(obs: Any) -> list[Any]:
    return [observation_of(obs, i) for i in range(length(obs))]


def as_array(said: Any) -> np.ndarray:
    """
    :param said: an array, a tensor, a number, or lists of numbers
    :return: an array; of objects, if they are no numbers
    """
    if isinstance(said, th.Tensor):
        return said.detach().cpu().numpy() if said.dtype != th.bfloat16 else said.detach().cpu().float().numpy()
    if isinstance(said, (list, tuple)) and any(isinstance(one, th.Tensor) for one in said):
        said = [as_array(one) for one in said]
    try:
        return np.asarray(said)
    except ValueError:  # rows of different lengths
        return np.asarray(None)


def as_tensors(module: th.nn.Module, obs: Any) -> Any:
    """
    :param module: that is asked
    :param obs: n observations
    :return: copies as tensors, where the module's weights are and, if they are no whole numbers, in their precision
    """
    weight = next((p for p in module.parameters() if p.is_floating_point()), th.zeros(0))

    def tensor(values: Any) -> th.Tensor:
        made = th.tensor(np.asarray(values), device=weight.device)
        return made.to(weight.dtype) if made.is_floating_point() else made

    return each_part(obs, tensor)


def shapes(obs: Any) -> str:
    """
    :param obs: one or more observations
    :return: their shape, or the shapes of the keys
    """
    if isinstance(obs, dict):
        return "{" + ", ".join(f"{key!r}: {np.shape(value)}" for key, value in obs.items()) + "}"
    return str(np.shape(obs))


def _kind(said: Any) -> str:
    """What was said, in short."""
    array = as_array(said) if isinstance(said, (np.ndarray, th.Tensor, list)) else None
    if array is not None and array.dtype.kind in "biuf":
        return f"{type(said).__name__} of shape {array.shape}"
    return f"the {type(said).__name__} {_short(said)}"


def _short(thing: Any) -> str:
    """A thing in a line."""
    if isinstance(thing, np.ndarray) and thing.size == 1:
        return f"{thing.item():.6g}"
    text = " ".join((np.array2string(thing, precision=4) if isinstance(thing, np.ndarray) else repr(thing)).split())
    return text if len(text) <= 100 else f"{text[:97]}…"
