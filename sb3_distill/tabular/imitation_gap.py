"""A student that sees less than its teacher, exactly: a table over what it sees (figure 8; Weihs et al., ADVISOR, arXiv 2007.12173).

Several states of the MDP show the student the same, so they share a row of its table. A row's expected update is that of
:mod:`sb3_distill.tabular.exact`, of the functions that train networks, summed over the states that look alike (the chain rule);
:func:`settle` follows it to where it ends. :func:`followable` is the best return that anybody has who sees no more.

In the forked road (:mod:`sb3_distill.envs.forked_road`) all of it can be written down. With δ = π(detour) and x = π_θ(detour), what
lies on the road costs D, as seen from the start, and the rows end at

    KL(π_θ‖π) and −log π:   log x/(1−x) = log δ/(1−δ) + D       turns away (x > ½) where D > log (1−δ)/δ
    KL(π‖π_θ) and H×:       x − δ = x (1−x) D                    turns away where D > 2 − 4 δ

A fork costs the least mean divergence from teachers that go through different doors: of KL(π‖π_θ) at most log 2, of KL(π_θ‖π)
log cosh(g/2τ), where g is what the right door pays more than the wrong one: :func:`cost_of_the_road`. What is paid by the environment
counts in D with its weight: an amount that the detour pays more than the road.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch as th

from sb3_distill.envs.forked_road import DETOUR, forked_road_mdp, optimal_q, seen_at
from sb3_distill.rules.distributions import unvalidated
from sb3_distill.rules.methods import Method, Reward
from sb3_distill.rules.rewards import Transitions
from sb3_distill.tabular.exact import MDP

#: log-odds at which a table that grows without end is left: it does so surely
SURE = 36.0
#: the longest step, in log-odds
STEP = 2.0
TINY = 1e-300
#: of the update, in units of the Fisher information: at an end
ENDED = 1e-10


class Aliased(NamedTuple):
    """
    An MDP of which a student sees something. Leading dimensions "…" of the MDP are MDPs side by side.

    :param mdp: with S states, and a teacher that sees them
    :param seen: what the student sees in each, O numbers from 0, shape (S,)
    """

    mdp: MDP
    seen: th.Tensor

    @property
    def n_seen(self) -> int:
        """How much there is to be seen, O."""
        return int(self.seen.max()) + 1

    def zeros(self) -> th.Tensor:
        """:return: a student's logits before it learns, shape (…, O, A)"""
        return th.zeros(*self.mdp.start.shape[:-1], self.n_seen, self.mdp.n_actions, dtype=th.float64)

    def in_states(self, table: th.Tensor) -> th.Tensor:
        """
        :param table: of what is seen, shape (…, O, …, A)
        :return: of the states, shape (…, S, A)
        """
        return table[..., self.seen, :]

    def gathered(self, x: th.Tensor) -> th.Tensor:
        """
        :param x: of the states, shape (…, S, n)
        :return: sums over the states that look alike, shape (…, O, n)
        """
        out = th.zeros(*x.shape[:-2], self.n_seen, x.shape[-1], dtype=x.dtype)
        return out.index_add(-2, self.seen, x)

    def expected_update(self, method: Method, logits: th.Tensor, gamma: float) -> th.Tensor:
        """
        g(θ) of :meth:`sb3_distill.tabular.exact.MDP.expected_update` by the chain rule.

        :param method: a row
        :param logits: the student's table, shape (…, O, A)
        :param gamma: discount factor γ
        :return: shape (…, O, A)
        """
        return self.gathered(self.mdp.expected_update(method, self.in_states(logits), gamma))

    def expected_return(self, probs: th.Tensor) -> th.Tensor:
        """
        :param probs: π_θ(a|o), shape (…, O, A)
        :return: E Σ r_t of an episode, shape (…)
        """
        return self.mdp.expected_return(self.in_states(probs))


class Settled(NamedTuple):
    """
    Where a row ends.

    :param probs: the student's π_θ(a|o), shape (…, O, A)
    :param logits: whose softmax they are; of a student that becomes sure of an action, when it was left
    :param size: of the update there, the largest, each in units of the Fisher information of its log-odds
    """

    probs: th.Tensor
    logits: th.Tensor
    size: float


def with_env_reward(row: Method, weight: float) -> Method:
    """
    :param row: of the table of methods
    :param weight: of the environment's reward (+R)
    :return: the row whose r̂ has it, too
    """
    if weight == 0:
        return row
    own = row.reward

    def both(step: Transitions, loss: Any) -> th.Tensor:
        paid = weight * step.reward_t
        return paid if own is None else own.function(step, loss) + paid

    reward = Reward(both, f"{own.formula + ' + ' if own else ''}{weight:g} r_i", own.needs if own else frozenset())
    return replace(row, reward=reward)


@th.no_grad()
def settle(world: Aliased, method: Method, gamma: float = 1.0, n_steps: int = 500) -> Settled:
    """
    Follow a row's expected update from a uniform student to where it ends: an end that treats alike what the task treats alike.

    The update is divided by the Fisher information of what it changes, which moves no end of it, and lets a student that becomes sure
    of an action do so in steps that do not shrink. Each number moves against its own update, by as much as the last two say (the
    secant method), at most :data:`STEP`.

    :param world: what it learns in
    :param method: a row; with a reward only under the student's control
    :param gamma: discount factor γ
    :param n_steps: at most
    :return: where it ends
    :raises RuntimeError: if it does not
    """
    odds = world.zeros()
    before = odds, th.full_like(odds, math.nan)
    size = math.inf
    for _ in range(n_steps):
        probs = odds.softmax(-1)
        with th.enable_grad(), unvalidated():
            update = world.expected_update(method, odds, gamma)
        control = world.mdp.control(method, world.in_states(probs))
        visits = world.gathered(world.mdp.visits(control, gamma).unsqueeze(-1))
        push = update / (visits.clamp(min=TINY) * probs.clamp(min=TINY))
        push = push - push[..., :1]
        # Nothing is to be done where nobody comes, and no more where an action is sure.
        sure = (odds.abs() >= SURE) & (push.sign() == -odds.sign())
        push = th.where(sure | (visits == 0), th.zeros_like(push), push)
        size = float(push.abs().max())
        if size < ENDED:
            return Settled(probs, odds, size)
        rate = (odds - before[0]) / (push - before[1])
        rate = th.where(rate > 0, rate, th.full_like(rate, 0.5)).clamp(0.05, 1e3)
        before = odds, push
        odds = odds - (rate * push).clamp(-STEP, STEP)
    raise RuntimeError(f"{method.name} has not settled in {n_steps} steps: its update is {size:.1e} still.")


def followable(world: Aliased) -> th.Tensor:
    """
    The best return of anybody who sees what the student sees and remembers nothing: that of the best of all tables without chance.

    Chance brings nothing where nothing is seen twice in an episode: then the return is linear in each row of the table.

    :param world: one, or many side by side. It takes as many linear solves as there are ways to choose an action wherever that matters
    :return: shape (…)
    """
    mdp = world.mdp
    same = (mdp.transition[..., :1, :] == mdp.transition).all(-1).all(-1) & (mdp.reward[..., :1] == mdp.reward).all(-1)
    matters = {
        seen
        for seen, alike in zip(world.seen.tolist(), same.reshape(-1, mdp.n_states).all(0), strict=True)
        if not alike
    }
    best = th.full(mdp.start.shape[:-1], -math.inf, dtype=th.float64)
    probs = th.zeros(world.n_seen, mdp.n_actions, dtype=th.float64)
    for actions in itertools.product(range(mdp.n_actions), repeat=len(matters)):
        probs[:] = 0
        probs[:, 0] = 1
        for seen, action in zip(sorted(matters), actions, strict=True):
            probs[seen] = 0
            probs[seen, action] = 1
        best = th.maximum(best, mdp.expected_return(world.in_states(probs)))
    return best


# --- the forked road --------------------------------------------------------------------------------------------------


class Road(NamedTuple):
    """
    A forked road and its teacher; see :class:`~sb3_distill.envs.ForkedRoad`.

    :param temperature: τ of the teacher, softmax(Q*/τ)
    :param length: steps of plain road before the first fork
    :param forks: doors in a row
    :param detour: what the detour pays
    :param wrong: what the wrong doors of all forks pay together, where the right ones pay 1
    :param cue: whether the start tells the hidden bit
    """

    temperature: float = 0.25
    length: int = 1
    forks: int = 1
    detour: float = 0.5
    wrong: float = -1.0
    cue: bool = False

    def world(self, remembers: bool = False) -> Aliased:
        """
        :param remembers: whether the student knows in each state what it has seen before: with a cue, that is the state
        :return: the arrays, and what the student sees
        """
        mdp = forked_road_mdp(self.length, self.forks, self.detour, self.wrong)
        seen = seen_at(self.length, self.forks, self.cue)
        if remembers and self.cue:
            seen = np.arange(mdp.n_states)
        return Aliased(MDP.of(mdp, optimal_q(mdp) / self.temperature), th.from_numpy(seen))

    @property
    def teacher_detours(self) -> float:
        """δ, the probability that the teacher takes the detour."""
        return 1 / (1 + math.exp((1 - self.detour) / self.temperature))


def side_by_side(roads: list[Road], remembers: bool = False) -> Aliased:
    """
    :param roads: that differ in their teachers and in what is paid
    :param remembers: as of :meth:`Road.world`
    :return: all of them, with a leading dimension
    """
    worlds = [road.world(remembers) for road in roads]
    return Aliased(MDP.stack([world.mdp for world in worlds]), worlds[0].seen)


def cost_of_the_road(road: Road, method: Method, gamma: float = 1.0, env_weight: float = 0.0) -> float:
    """
    D: what lies behind the first step of the road costs more than what lies behind the detour, in closed form.

    :param road: without a cue
    :param method: a row of the table of methods, in either form, in which the student acts; but for teacher V reward
    :param gamma: discount factor γ
    :param env_weight: of the environment's reward
    :return: in nats
    """
    cost = 0.0
    reverse = method.name in ("entropy_regularised", "expected_entropy")
    if method.reward is not None:
        half = (1 - road.wrong) / road.forks / road.temperature / 2  # of the log-odds of the right door
        p = 1 / (1 + math.exp(-2 * half))
        entropy = math.log1p(math.exp(-2 * half)) + 2 * half * (1 - p)
        fork = math.log(math.cosh(half)) if reverse else math.log(2) - entropy
        plain = 0.0
        if "−log π" in method.descends:  # no entropy is given back
            fork, plain = fork + math.log(2), math.log(2)
        if "H×" in method.descends:
            fork, plain = math.log(2), math.log(2)
        cost += sum(plain * gamma**t for t in range(1, road.length + 1))
        cost += sum(fork * gamma ** (road.length + k) for k in range(1, road.forks + 1))
    guess = sum((1 + road.wrong) / 2 / road.forks * gamma ** (road.length + k) for k in range(1, road.forks + 1))
    return cost + env_weight * (road.detour - guess)


def detours(road: Road, method: Method, gamma: float = 1.0, env_weight: float = 0.0) -> float:
    """
    x = π_θ(detour) where a row ends, in closed form.

    :param road: as of :func:`cost_of_the_road`, as the others
    :param method: a row
    :param gamma: discount factor γ
    :param env_weight: of the environment's reward
    :return: a probability; 0 or 1 of rows that end there
    """
    delta = road.teacher_detours
    if method.name == "teacher_v_reward":
        return float(cost_of_the_road(road, replace(method, reward=None), gamma, 1.0) > 0)
    cost = cost_of_the_road(road, method, gamma, env_weight)
    odds = math.log(delta / (1 - delta)) + cost
    if method.name in ("entropy_regularised", "expected_entropy"):
        return float(odds > 0) if "−log π" in method.descends else 1 / (1 + math.exp(-odds))
    # The root in (0, 1) of cost · x² + (1 − cost) · x − δ, written so that nothing cancels.
    half = (1 - cost) / 2
    root = math.sqrt(half**2 + cost * delta)
    return delta / (half + root) if half > 0 else (root - half) / cost


def turning_point(road: Road, method: Method, gamma: float = 1.0, env_weight: float = 0.0) -> float:
    """
    :param road: as of :func:`cost_of_the_road`, as the others
    :param method: a row; but for teacher V reward
    :param gamma: discount factor γ
    :param env_weight: of the environment's reward
    :return: D less what it must be greater than for the student to take the detour more often than not
    """
    delta = road.teacher_detours
    reverse = method.name in ("entropy_regularised", "expected_entropy")
    least = math.log((1 - delta) / delta) if reverse else 2 - 4 * delta
    return cost_of_the_road(road, method, gamma, env_weight) - least


def softest(road: Road, turns: Callable[[Road], float], low: float = 0.01, high: float = 100.0) -> float | None:
    """
    The softness of the teacher at which something turns, by bisection.

    :param road: whose τ is looked for
    :param turns: a function of roads, greater than 0 for sharp teachers and less for soft ones
    :param low: the sharpest teacher
    :param high: the softest one
    :return: τ; None if all are alike
    """
    if (turns(road._replace(temperature=low)) > 0) == (turns(road._replace(temperature=high)) > 0):
        return None
    for _ in range(100):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if turns(road._replace(temperature=middle)) > 0 else (low, middle)
    return math.sqrt(low * high)


def takes_the_detour(world: Aliased, probs: th.Tensor) -> th.Tensor:
    """
    :param world: a forked road
    :param probs: the student's π_θ(a|o), shape (…, O, A)
    :return: how likely an episode takes the detour, shape (…)
    """
    return (world.mdp.start * world.in_states(probs)[..., DETOUR]).sum(-1)
