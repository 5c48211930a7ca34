"""The random grid worlds of Czarnecki et al. 2019 (section 5, figures 3, 4, 5 and 7).

From the paper: 20 × 20 cells and a start in the centre; actions left, right, up and down; a move into a wall or off the grid
leaves the agent in place; with probability η = 0.1 the executed move is uniform over the four; after every action the agent
falls into an absorbing end state with probability 0.01, so every episode is finite; each cell, row by row, becomes a wall, a
terminal cell with reward +10 or another reward cell (terminal or not, positive or negative) with a small probability. With more
than four actions, action k moves as k mod 4.

Chosen here, because the paper's values are not known:

========  ===========  ======  ========  ============================================================================
cell      probability  reward  terminal
========  ===========  ======  ========  ============================================================================
empty     the rest
wall      0.1
goal      0.01         +10     yes       the reward is the paper's
prize     0.01         +1      yes       the nearer, smaller end that a short-sighted agent takes
pit       0.02         −1      yes
bonus     0.01         +0.1    no        entered at best every other step, it is worth 2.3 at γ = 0.99: less than a goal
malus     0.03         −0.1    no
========  ===========  ======  ========  ============================================================================

* A cell's reward is paid on entering it, and not again to an agent that a wall keeps in it.
* A fall comes after the move and its reward.
* A world may have no goal that can be reached.

>>> import gymnasium as gym
>>> import sb3_distill.envs
>>> env = gym.make("sb3_distill/GridWorld-v0", size=5, world_seed=2, render_mode="ansi")
>>> env.reset(seed=0)
(12, {})
>>> print(env.render())
. . . # .
. . # . .
. - @ . .
. . . . .
. . . . .
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from sb3_distill.envs.tabular import Look, TabularEnv, TabularMDP


class Cell(NamedTuple):
    """What a cell may hold.

    :param probability: how often it is drawn, by default
    :param reward: paid on entering it, by default
    :param terminal: whether it ends the episode
    :param glyph: in text
    :param color: in pictures; Okabe and Ito's palette, which colour-blind readers can tell apart
    """

    probability: float
    reward: float
    terminal: bool
    glyph: str
    color: tuple[int, int, int]


#: name: what it is; a cell's kind is its place in this table
CELLS = {
    "empty": Cell(0.0, 0.0, False, ".", (255, 255, 255)),
    "wall": Cell(0.10, 0.0, False, "#", (80, 80, 80)),
    "goal": Cell(0.01, 10.0, True, "G", (0, 158, 115)),
    "prize": Cell(0.01, 1.0, True, "p", (0, 114, 178)),
    "pit": Cell(0.02, -1.0, True, "x", (213, 94, 0)),
    "bonus": Cell(0.01, 0.1, False, "+", (86, 180, 233)),
    "malus": Cell(0.03, -0.1, False, "-", (230, 159, 0)),
}
KINDS = tuple(CELLS)
EMPTY, WALL = KINDS.index("empty"), KINDS.index("wall")
#: rows and columns that a move goes down and to the right: left, right, up, down
MOVES = ((0, -1), (0, 1), (-1, 0), (1, 0))
MAX_ACTIONS = 1000


def random_cells(world_seed: int, size: int = 20, probabilities: Mapping[str, float] | None = None) -> np.ndarray:
    """
    A random world: one seed, one world.

    :param world_seed: at least 0
    :param size: cells along a side
    :param probabilities: of kinds of cells, for those that differ from ``CELLS``; what is left over is empty
    :return: kinds, indices into ``KINDS``, shape (size, size); the centre, where the agent starts, is empty
    """
    table = _overridden("probability", probabilities)
    if min(table[1:]) < 0 or sum(table[1:]) > 1:
        raise ValueError(
            f"Probabilities of cells are at least 0 and sum to at most 1, not {table[1:]} for {KINDS[1:]}."
        )
    if size < 2:
        raise ValueError(f"A grid world has at least 2 × 2 cells, not {size} × {size}.")
    table[EMPTY] = 1 - sum(table[1:])
    draws = np.random.default_rng(world_seed).random((size, size))
    kinds = np.searchsorted(np.cumsum(table[1:] + table[:1])[:-1], draws, side="right") + 1
    kinds %= len(KINDS)  # empty is drawn last, so that a world with fewer walls is the same one with fewer walls
    kinds[size // 2, size // 2] = EMPTY
    return kinds.astype(np.int8)


def grid_mdp(
    kinds: np.ndarray,
    n_actions: int = 4,
    noise: float = 0.1,
    fall: float = 0.01,
    rewards: Mapping[str, float] | None = None,
) -> TabularMDP:
    """
    The exact arrays of worlds. State i is the cell in row i // columns and column i % columns.

    :param kinds: shape (…, rows, columns), see :func:`random_cells`; stack worlds to have many side by side
    :param n_actions: A, from 4 to 1000; action k means move k mod 4
    :param noise: η, the probability that the executed move is uniform over the four
    :param fall: the probability that the episode ends after a step that did not end it
    :param rewards: of kinds of cells, for those that differ from ``CELLS``
    :return: the MDP with four moves (left, right, up, down); walls count as terminal, since no step starts there
    """
    if not len(MOVES) <= n_actions <= MAX_ACTIONS:
        raise ValueError(f"n_actions is from {len(MOVES)} to {MAX_ACTIONS}, not {n_actions}.")
    if not (0 <= noise <= 1 and 0 <= fall <= 1):
        raise ValueError(f"noise and fall are probabilities, not {noise} and {fall}.")
    rows, columns = kinds.shape[-2:]
    row, column = np.divmod(np.arange(rows * columns), columns)
    flat = kinds.reshape(*kinds.shape[:-2], rows * columns)
    pay = np.array(_overridden("reward", rewards))[flat]
    here = np.arange(rows * columns)
    following, reward = [], []
    for down, right in MOVES:
        # Off the grid means not moving: the clipped cell is the cell itself.
        ahead = np.clip(row + down, 0, rows - 1) * columns + np.clip(column + right, 0, columns - 1)
        to = np.where((flat == WALL) | (flat[..., ahead] == WALL), here, ahead)
        following.append(to)
        reward.append(np.where(to == here, 0.0, np.take_along_axis(pay, to, axis=-1)))
    start = np.zeros(flat.shape)
    start[..., rows // 2 * columns + columns // 2] = 1.0
    ends = np.array([cell.terminal for cell in CELLS.values()])[flat] | (flat == WALL)
    executed = np.full((n_actions, len(MOVES)), noise / len(MOVES))
    executed[np.arange(n_actions), np.arange(n_actions) % len(MOVES)] += 1 - noise
    falls = np.full(rows * columns, fall)
    return TabularMDP(np.stack(following, -1), np.stack(reward, -1), ends, start, executed, falls)


def windows(kinds: np.ndarray, k: int) -> np.ndarray:
    """
    What an agent sees that sees only the k × k cells around it; beyond the grid everything is wall.

    :param kinds: shape (…, rows, columns)
    :param k: odd
    :return: kinds of the cells around each state, row by row, shape (…, S, k · k)
    """
    if k < 1 or k % 2 == 0:
        raise ValueError(f"A window is an odd number of cells wide, not {k}.")
    edge = [(0, 0)] * (kinds.ndim - 2) + [(k // 2, k // 2)] * 2
    padded = np.pad(kinds, edge, constant_values=WALL)
    views = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(-2, -1))  # type: ignore[call-overload]
    return views.reshape(*kinds.shape[:-2], -1, k * k)


def look(kinds: np.ndarray) -> Look:
    """
    :param kinds: of one world, shape (rows, columns)
    :return: how it is drawn
    """
    cells = [CELLS[KINDS[kind]] for kind in kinds.flat]
    places = np.indices(kinds.shape).reshape(2, -1).T
    return Look(places, [cell.glyph for cell in cells], np.array([cell.color for cell in cells], np.uint8))


def _overridden(field: str, values: Mapping[str, float] | None) -> list[float]:
    """A column of ``CELLS`` with some other values."""
    values = dict(values or {})
    wrong = set(values) - set(KINDS[1:])
    if wrong:
        raise ValueError(f"No such cell: {sorted(wrong)}. Choose from {list(KINDS[1:])}.")
    return [float(values.get(name, getattr(cell, field))) for name, cell in CELLS.items()]


class GridWorld(TabularEnv):
    """
    A random grid world. Full observation: the number of the state. With ``window``: a ``MultiDiscrete`` of what the k × k
    cells around the agent hold, row by row, which SB3 one-hot encodes by itself (a ``Box`` of kinds would be read as
    quantities, one of planes as an image).

    :param size: cells along a side
    :param world_seed: which world; ``reset(seed=…)`` seeds what happens in it
    :param n_actions: from 4 to 1000; action k moves as k mod 4: left, right, up, down
    :param noise: η, the probability that the executed move is uniform over the four
    :param fall: the probability that the episode ends after a step
    :param window: an odd k for partial observation, or None for full observation
    :param probabilities: of kinds of cells, for those that differ from ``CELLS``
    :param rewards: of kinds of cells, for those that differ from ``CELLS``
    :param render_mode: ``"human"``, ``"rgb_array"``, ``"ansi"`` or None
    """

    def __init__(
        self,
        size: int = 20,
        world_seed: int = 0,
        n_actions: int = 4,
        noise: float = 0.1,
        fall: float = 0.01,
        window: int | None = None,
        probabilities: Mapping[str, float] | None = None,
        rewards: Mapping[str, float] | None = None,
        render_mode: str | None = None,
    ) -> None:
        #: what the cells hold, shape (size, size)
        self.kinds = random_cells(world_seed, size, probabilities)
        super().__init__(grid_mdp(self.kinds, n_actions, noise, fall, rewards), look(self.kinds), render_mode)
        self._windows = None if window is None else windows(self.kinds, window).astype(np.int64)
        if self._windows is not None:
            self.observation_space = spaces.MultiDiscrete(np.full(self._windows.shape[1], len(KINDS)))

    def observation(self, state: int) -> Any:
        return state if self._windows is None else self._windows[state].copy()
