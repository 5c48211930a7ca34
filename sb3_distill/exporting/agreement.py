"""Whether a file answers as SB3's ``predict`` does."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces

from sb3_distill.common.observations import observation_of
from sb3_distill.exporting.agent import Exportable
from sb3_distill.exporting.observations import Asked
from sb3_distill.exporting.recipe import ACTION, NEXT_STATES, SCORES, STATES, Recipe
from sb3_distill.exporting.traced import tensors, tracing
from sb3_distill.teachers.onnx_function import MASKS, START
from sb3_distill.teachers.teacher import size_of

#: from inputs by name to outputs by name
Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]

#: of a sum in float32, in units of max(1, its size)
ROUNDING = 1e-5
#: how often weights are rounded otherwise: errors cancel by chance
N_ROUNDINGS = 4
#: how many numbers a batch of observations should hold at most
AT_ONCE = 1 << 22


class ExportError(ValueError):
    """A file does not answer as the agent that it was made of."""


class Agreement(NamedTuple):
    """How alike a file and SB3's ``predict`` answer.

    :param n: to how many observations
    :param n_met: how many of them were met in play; the others were drawn from the space
    :param max_difference: the largest difference of an answer, in units of max(1, its size): of actions of a ``Box``, of what discrete
        actions are chosen by (Q-values, log-probabilities), and of an LSTM's state
    :param mean_difference: mean over the observations of the largest difference there
    :param n_different: how many discrete actions are others, ties among them
    :param n_ties: how many of these are ties: what the two actions were chosen by differs by less than the rounding of both sides
    :param discrete: whether actions are discrete
    :param rounding: how much SB3's own answers change when each weight is rounded otherwise, measured where the difference is above 1e-5:
        there it is what float32 leaves undecided
    """

    n: int
    n_met: int
    max_difference: float
    mean_difference: float
    n_different: int
    n_ties: int
    discrete: bool
    rounding: float = 0.0

    @property
    def share_of_equal(self) -> float:
        """Of actions, ties count as equal."""
        return 1 - (self.n_different - self.n_ties) / self.n

    def __str__(self) -> str:
        where = f"{self.n_met:,} met in play, {self.n - self.n_met:,} drawn from the space"
        text = f"{self.n:,} observations ({where}): "
        if self.discrete:
            same = self.n - self.n_different
            text += f"{same:,} greedy actions equal"
            text += f", {self.n_ties:,} tied within rounding" if self.n_ties else ""
            other = self.n_different - self.n_ties
            text += f", {other:,} others; " if other else "; "
        text += f"answers differ by at most {self.max_difference:.1e}"
        return text + (f", and float32 leaves {self.rounding:.1e} of them open" if self.rounding else "")

    def check(self, tolerance: float) -> None:
        """
        :param tolerance: how much answers may differ; anything goes if it is infinite
        :raises ExportError: if they do by more, or an action is another one
        """
        if not self.max_difference <= max(tolerance, 2 * self.rounding) or (
            self.n_different > self.n_ties and tolerance < np.inf
        ):
            raise ExportError(
                f"The file does not answer as SB3's predict, so it was not kept: {self}. {tolerance:.0e} is allowed."
            )


def agreement(agent: Exportable, recipe: Recipe, run: Run, questions: Asked, exact: bool = True) -> Agreement:
    """
    :param agent: whose ``predict`` is right
    :param recipe: which knows what actions are chosen by
    :param run: the file
    :param questions: what both are asked
    :param exact: whether the file has the agent's own weights
    :return: how alike they are
    """
    n = questions.n
    step = max(1, min(n, AT_ONCE // max(1, size_of(agent.observation_space))))
    differences, different, ties = [], 0, 0
    space = agent.policy.action_space
    for first in range(0, n, step):
        part = slice(first, first + step)
        inputs = cut(questions.inputs, recipe, part)
        right = answers(agent, recipe, observation_of(questions.observations, part), inputs)
        if not first:
            _check_same(right, answers(agent, recipe, observation_of(questions.observations, part), inputs), space)
        found = run(inputs)
        differences.append(_differences(right, found, space))
        others = _others(right[ACTION], found[ACTION], space)
        different += int(others.sum())
        if SCORES in right and others.any():
            ties += int(_tied(right[SCORES], right[ACTION], found[ACTION], space, 2 * ROUNDING)[others].sum())
    every = np.concatenate(differences)
    worst = float(every.max()) if not np.isnan(every).any() else float("nan")
    noise = _rounding(recipe, cut(questions.inputs, recipe, slice(step))) if exact and worst > ROUNDING else 0.0
    discrete = not isinstance(space, spaces.Box)
    return Agreement(n, questions.n_met, worst, float(every.mean()), different, ties, discrete, noise)


def _check_same(right: Mapping[str, np.ndarray], again: Mapping[str, np.ndarray], space: spaces.Space) -> None:
    """:raises ExportError: if an agent answers otherwise when it is asked again: no file can answer as it does"""
    moved, others = (
        _differences(right, again, space).max(initial=0),
        int(_others(right[ACTION], again[ACTION], space).sum()),
    )
    if moved > ROUNDING or others:
        raise ExportError(
            f"SB3's predict answers otherwise when it is asked again, by {moved:.1e}"
            + (f" and with {others:,} other actions" if others else "")
            + ": the agent's network draws random numbers, and a file cannot answer as it does."
        )


def _rounding(recipe: Recipe, inputs: Mapping[str, np.ndarray]) -> float:
    """
    How much answers change when the last bits of all weights do: by backward error analysis, a sum in another order is the exact one
    of such weights.
    """
    given = tensors([inputs[port.name] for port in recipe.inputs])
    names = [port.name for port in recipe.outputs]
    generator = th.Generator().manual_seed(0)
    kept = [(weights, weights.detach().clone()) for weights in recipe.parameters()]
    said = []
    with tracing(recipe), th.no_grad():
        try:
            for _ in range(1 + N_ROUNDINGS):
                said.append(dict(zip(names, (x.numpy().copy() for x in recipe(*given)), strict=True)))
                for weights, value in kept:
                    signs = th.randint(0, 2, weights.shape, generator=generator) * 2 - 1
                    weights.copy_(value * (1 + signs * 2.0**-22))
        finally:
            for weights, value in kept:
                weights.copy_(value)
    return max(float(_differences(said[0], found, recipe.policy.action_space).max()) for found in said[1:])


def cut(inputs: Mapping[str, np.ndarray], recipe: Recipe, part: slice) -> dict[str, np.ndarray]:
    """
    :param inputs: by name
    :param recipe: which knows their batch axes
    :param part: of the batch
    :return: that part of each
    """
    found = {}
    for port in recipe.inputs:
        index: list[Any] = [slice(None)] * (port.batch_axis + 1)
        index[port.batch_axis] = part
        found[port.name] = np.ascontiguousarray(inputs[port.name][tuple(index)])
    return found


def answers(agent: Exportable, recipe: Recipe, obs: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """
    :param agent: who is asked
    :param recipe: for what its discrete actions are chosen by
    :param obs: a batch
    :param inputs: the same, by name
    :return: what SB3 answers, by name
    """
    more: dict[str, Any] = {}
    if agent.is_recurrent:
        more = {"state": tuple(inputs[name] for name in STATES), "episode_start": inputs[START]}
    elif MASKS in inputs:
        more = {"action_masks": inputs[MASKS]}
    action, state = agent.predict(obs, **more)
    found = {ACTION: np.asarray(action)}
    if agent.is_recurrent:
        found |= dict(zip(NEXT_STATES, state, strict=True))
    if recipe.gives_scores:
        with tracing(recipe), th.no_grad():
            found[SCORES] = recipe(*tensors([inputs[port.name] for port in recipe.inputs]))[1].numpy()
    return found


def _differences(right: Mapping[str, Any], found: Mapping[str, Any], space: spaces.Space) -> np.ndarray:
    """The largest of each state, shape (n,)."""
    n = len(right[ACTION])
    worst = np.zeros(n)
    names = [name for name in right if name != ACTION or isinstance(space, spaces.Box)]
    for name in names:
        a, b = np.asarray(right[name], np.float64), np.asarray(found[name], np.float64)
        if name in NEXT_STATES:
            a, b = a.swapaxes(0, 1), b.swapaxes(0, 1)
        a, b = a.reshape(n, -1), b.reshape(n, -1)
        size = np.maximum(1, np.abs(a) if name != SCORES else np.abs(a).max(axis=1, keepdims=True))
        with np.errstate(invalid="ignore"):
            worst = np.maximum(worst, np.where(a == b, 0, np.abs(a - b) / size).max(axis=1, initial=0))
    return worst


def _others(right: np.ndarray, found: np.ndarray, space: spaces.Space) -> np.ndarray:
    """Where discrete actions are others, shape (n,)."""
    if isinstance(space, spaces.Box):
        return np.zeros(len(right), dtype=bool)
    return (right != found).reshape(len(right), -1).any(axis=1)


def _tied(scores: np.ndarray, right: np.ndarray, found: np.ndarray, space: spaces.Space, rounding: float) -> np.ndarray:
    """Where two actions were chosen by the same, but for rounding, shape (n,)."""
    n = len(scores)
    a, b = right.reshape(n, -1).astype(np.int64), found.reshape(n, -1).astype(np.int64)
    if isinstance(space, spaces.MultiBinary):
        gaps = np.where(a != b, np.abs(scores), 0)  # of log-odds: a half is 0
    else:
        nvec = space.nvec.tolist() if isinstance(space, spaces.MultiDiscrete) else [int(space.n)]  # type: ignore[attr-defined]
        starts = np.cumsum([0, *nvec[:-1]])
        gaps = np.abs(np.take_along_axis(scores, a + starts, 1) - np.take_along_axis(scores, b + starts, 1))
    return gaps.max(axis=1) <= rounding * np.maximum(1, np.abs(scores).max(axis=1))  # type: ignore[no-any-return]
