"""What the paper's environments share: an MDP as arrays, and a Gymnasium environment that samples from these arrays.

Theory (:mod:`sb3_distill.tabular`), simulation and the environments read one :class:`TabularMDP`, so they cannot disagree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import DependencyNotInstalled

_AGENT, _INK, _LINES = "@", (0, 0, 0), (205, 205, 205)


class Dense(NamedTuple):
    """An MDP without moves: what each action leads to. ``transition.sum(-1) + end`` is 1.

    :param transition: P(s' | s, a) of steps after which the episode goes on, shape (…, S, A, S)
    :param end: the probability that the episode ends, shape (…, S, A)
    :param reward: E[r | s, a], shape (…, S, A)
    """

    transition: np.ndarray
    end: np.ndarray
    reward: np.ndarray


@dataclass(frozen=True)
class TabularMDP:
    """
    S states, A actions, M moves; or many such MDPs side by side, with leading dimensions "…" of the arrays marked so.

    A step from state s: action a makes move m with probability ``moves[a, m]``; it pays ``reward[…, s, m]`` and leads to
    s' = ``following[…, s, m]``; the episode ends if ``terminal[…, s']``, and else with probability ``fall[s]``. Moves keep
    the arrays small: a grid world of 400 cells has four of them, whatever its number of actions.

    :param following: s' of each move, integers, shape (…, S, M)
    :param reward: r of each move, shape (…, S, M)
    :param terminal: states that no step starts from, where an episode has ended (or that nothing leads to), shape (…, S)
    :param start: the probability that an episode starts in s, 0 at terminal states, shape (…, S)
    :param moves: P(m | a), shape (A, M); rows sum to 1
    :param fall: the probability that the episode ends after a step from s that led to no terminal state, shape (S,)
    """

    following: np.ndarray
    reward: np.ndarray
    terminal: np.ndarray
    start: np.ndarray
    moves: np.ndarray
    fall: np.ndarray

    @property
    def n_states(self) -> int:
        """How many states, S."""
        return self.following.shape[-2]

    @property
    def n_moves(self) -> int:
        """How many moves, M."""
        return self.following.shape[-1]

    @property
    def n_actions(self) -> int:
        """How many actions, A."""
        return self.moves.shape[0]

    def __getitem__(self, index: Any) -> "TabularMDP":
        """:param index: into the leading dimensions, which must exist"""
        arrays = (self.following[index], self.reward[index], self.terminal[index], self.start[index])
        return TabularMDP(*arrays, self.moves, self.fall)

    def continues(self) -> np.ndarray:
        """:return: the probability that a step goes on after move m in s; 0 in terminal states; shape (…, S, M)"""
        return (1.0 - self.fall)[:, None] * ~(self._ahead(self.terminal) | self.terminal[..., None])

    def move_probabilities(self, policy: np.ndarray) -> np.ndarray:
        """
        :param policy: π(a | s), shape (…, S, A)
        :return: P(m | s) of a step from s, shape (…, S, M)
        """
        return policy @ self.moves

    def chain(self, policy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        The Markov chain that a policy makes of the MDP.

        :param policy: π(a | s), shape (…, S, A); one MDP may have many policies, and many MDPs the same one
        :return: P(s' | s) of steps after which the episode goes on, shape (…, S, S), and E[r | s], shape (…, S)
        """
        probability = self.move_probabilities(policy)
        chain = self._scatter(probability * self.continues())
        return chain, (probability * self._paid()).sum(-1)

    def backup(self, value: np.ndarray, gamma: float) -> np.ndarray:
        """
        One step of dynamic programming.

        :param value: V(s), shape (…, S)
        :param gamma: discount factor γ
        :return: Q(s, a) = E[r + γ V(s')], with V = 0 where the episode has ended, shape (…, S, A)
        """
        return (self._paid() + gamma * self.continues() * self._ahead(value)) @ self.moves.T

    def dense(self) -> Dense:
        """:return: the same MDP with its moves multiplied out"""
        goes_on = self.continues()
        transition = np.stack([self._scatter(row * goes_on) for row in self.moves], axis=-2)
        return Dense(transition, 1.0 - transition.sum(-1), self._paid() @ self.moves.T)

    def _paid(self) -> np.ndarray:
        """Rewards, shape (…, S, M): none in terminal states, where no step starts."""
        return self.reward * ~self.terminal[..., None]

    def _ahead(self, x: np.ndarray) -> np.ndarray:
        """What ``x``, of shape (…, S), is where each move leads to, shape (…, S, M)."""
        shape = np.broadcast_shapes(x.shape, self.terminal.shape)
        following = np.broadcast_to(self.following, (*shape, self.n_moves))
        return np.take_along_axis(np.broadcast_to(x, shape)[..., None], following, axis=-2)

    def _scatter(self, weight: np.ndarray) -> np.ndarray:
        """Weights of (s, m), shape (…, S, M), as sums over the moves that lead from s to s', shape (…, S, S)."""
        following = np.broadcast_to(self.following, weight.shape)
        out = np.zeros((*weight.shape[:-1], self.n_states))
        for move in range(self.n_moves):  # one at a time: two moves may lead to the same state
            target = following[..., move, None]
            sums = np.take_along_axis(out, target, axis=-1) + weight[..., move, None]
            np.put_along_axis(out, target, sums, axis=-1)
        return out


class Look(NamedTuple):
    """How an MDP's states are drawn: each is a square on a board.

    :param places: row and column of each state, shape (S, 2)
    :param glyphs: a character for each state, S of them
    :param colors: red, green and blue of each state, 0 to 255, shape (S, 3)
    """

    places: np.ndarray
    glyphs: Sequence[str]
    colors: np.ndarray

    def text(self, state: int | None = None) -> str:
        """
        :param state: where the agent is, marked ``@``; None for nowhere
        :return: one line a row, with spaces between the columns
        """
        rows, columns = self.places.max(axis=0) + 1
        board = np.full((rows, columns), " ")
        board[tuple(self.places.T)] = list(self.glyphs)
        if state is not None:
            board[tuple(self.places[state])] = _AGENT
        return "\n".join(" ".join(row) for row in board)

    def picture(self, state: int | None = None, cell: int = 16) -> np.ndarray:
        """
        :param state: where the agent is, drawn as a black disc; None for nowhere
        :param cell: side of a square in pixels
        :return: red, green and blue, shape (rows · cell, columns · cell, 3), of bytes
        """
        rows, columns = self.places.max(axis=0) + 1
        board = np.full((rows, columns, 3), 255, np.uint8)
        board[tuple(self.places.T)] = self.colors
        used = np.zeros((rows, columns), bool)
        used[tuple(self.places.T)] = True
        picture = board.repeat(cell, axis=0).repeat(cell, axis=1)
        y, x = np.mgrid[: rows * cell, : columns * cell]
        edge = (y % cell == cell - 1) | (x % cell == cell - 1)
        picture[edge & used.repeat(cell, axis=0).repeat(cell, axis=1)] = _LINES
        if state is not None:
            row, column = self.places[state] * cell + (cell - 1) / 2
            picture[(y - row) ** 2 + (x - column) ** 2 <= (0.35 * cell) ** 2] = _INK
        return picture


class TabularEnv(gym.Env[Any, Any]):
    """
    Plays a :class:`TabularMDP`; the observation is the number of the state unless a subclass says otherwise.

    The episode's end is in the observation, too: a step to a terminal state shows that state, a fall the state that the
    move led to.

    :param mdp: one MDP, without leading dimensions
    :param look: how it is drawn
    :param render_mode: ``"human"`` (a window; needs pygame), ``"rgb_array"``, ``"ansi"`` or None
    """

    metadata = {"render_modes": ["human", "rgb_array", "ansi"], "render_fps": 10}  # noqa: RUF012 (Gymnasium's way)

    def __init__(self, mdp: TabularMDP, look: Look, render_mode: str | None = None) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"Unknown render_mode {render_mode!r}: choose one of {self.metadata['render_modes']}.")
        self.mdp, self.look, self.render_mode = mdp, look, render_mode
        self.observation_space: spaces.Space[Any] = spaces.Discrete(mdp.n_states)
        self.action_space = spaces.Discrete(mdp.n_actions)
        #: the number of the state that the agent is in
        self.state = int(np.argmax(mdp.start))
        self._cumulative_start, self._cumulative_moves = mdp.start.cumsum(), mdp.moves.cumsum(axis=1)
        self._window: Any = None

    def observation(self, state: int) -> Any:
        """
        :param state: its number
        :return: what the agent sees there
        """
        return state

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = self._draw(self._cumulative_start)
        if self.render_mode == "human":
            self._show()
        return self.observation(self.state), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if not self.action_space.contains(action):
            raise ValueError(f"Action {action!r} is not in {self.action_space}.")
        move = self._draw(self._cumulative_moves[action])
        reward = float(self.mdp.reward[self.state, move])
        fell = self.np_random.random() < self.mdp.fall[self.state]
        self.state = int(self.mdp.following[self.state, move])
        if self.render_mode == "human":
            self._show()
        return self.observation(self.state), reward, bool(self.mdp.terminal[self.state] or fell), False, {}

    def _draw(self, cumulative: np.ndarray) -> int:
        """A number from a distribution. Rounding may leave its last entry below 1, so that entry is not compared."""
        return int(np.searchsorted(cumulative[:-1], self.np_random.random(), side="right"))

    def render(self) -> Any:
        if self.render_mode == "ansi":
            return self.look.text(self.state)
        if self.render_mode == "rgb_array":
            return self.look.picture(self.state)
        if self.render_mode == "human":
            return self._show()
        gym.logger.warn("render() does nothing without a render_mode: give one to gymnasium.make.")
        return None

    def _show(self) -> None:
        """Draw the picture in a window, and wait for as long as a frame lasts."""
        try:
            import pygame
        except ImportError as error:
            raise DependencyNotInstalled(
                'render_mode="human" needs pygame: pip install "gymnasium[classic-control]"'
            ) from error
        picture = self.look.picture(self.state, cell=24).swapaxes(0, 1)
        if self._window is None:
            pygame.init()
            self._window = pygame.display.set_mode(picture.shape[:2])
            pygame.display.set_caption(type(self).__name__)
            self._clock = pygame.time.Clock()
        self._window.blit(pygame.surfarray.make_surface(picture), (0, 0))
        pygame.event.pump()
        pygame.display.flip()
        self._clock.tick(self.metadata["render_fps"])

    def close(self) -> None:
        if self._window is not None:
            import pygame

            pygame.display.quit()
            pygame.quit()
            self._window = None
