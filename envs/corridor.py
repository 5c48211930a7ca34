"""The corridor of Czarnecki et al. 2019 (figure 6): a reward at one end, a penalty at the other, and two teachers.

Chosen here, because the paper's values are not known: 11 states, of which the two ends are terminal; start in the middle; +1
at the right end, −1 at the left; a step does what its action says; a time limit of 200 steps.

>>> from sb3_distill.envs import Corridor
>>> print(Corridor().look.text(5))
x . . . . @ . . . . G
>>> Corridor().teacher("adversarial", mistakes=0.1)[5]
array([0.9, 0.1])
"""

from typing import Literal

import numpy as np

from sb3_distill.envs.grid_world import CELLS
from sb3_distill.envs.tabular import Look, TabularEnv, TabularMDP

LEFT, RIGHT = 0, 1


def corridor_mdp(length: int = 11, reward: float = 1.0, penalty: float = -1.0) -> TabularMDP:
    """
    :param length: states, the two ends among them
    :param reward: for reaching the right end
    :param penalty: for reaching the left end
    :return: the corridor, with actions left and right
    """
    if length < 3:
        raise ValueError(f"A corridor has at least 3 states, not {length}.")
    states = np.arange(length)
    following = np.stack([np.maximum(states - 1, 0), np.minimum(states + 1, length - 1)], axis=1)
    pays = np.zeros((length, 2))
    pays[1, LEFT], pays[-2, RIGHT] = penalty, reward
    ends = (states == 0) | (states == length - 1)
    return TabularMDP(following, pays, ends, (states == length // 2).astype(float), np.eye(2), np.zeros(length))


def corridor_teacher(
    kind: Literal["optimal", "adversarial"] = "optimal", length: int = 11, mistakes: float = 0.05
) -> np.ndarray:
    """
    A teacher that always walks one way, but for its mistakes.

    :param kind: ``"optimal"`` walks to the reward, ``"adversarial"`` to the penalty
    :param length: of the corridor
    :param mistakes: the probability of the other action; above 0, so that log π exists
    :return: π(a | s), shape (length, 2)
    """
    if kind not in ("optimal", "adversarial"):
        raise ValueError(f"Unknown teacher {kind!r}: choose 'optimal' or 'adversarial'.")
    way = RIGHT if kind == "optimal" else LEFT
    policy = np.full((length, 2), mistakes)
    policy[:, way] = 1 - mistakes
    return policy


class Corridor(TabularEnv):
    """
    A line of states; actions left and right. The observation is the number of the state, 0 at the penalty.

    :param length: states, the two ends among them
    :param reward: for reaching the right end
    :param penalty: for reaching the left end
    :param render_mode: ``"human"``, ``"rgb_array"``, ``"ansi"`` or None
    """

    def __init__(
        self, length: int = 11, reward: float = 1.0, penalty: float = -1.0, render_mode: str | None = None
    ) -> None:
        cells = [CELLS["pit"], *[CELLS["empty"]] * (length - 2), CELLS["goal"]]
        colors = np.array([cell.color for cell in cells], np.uint8)
        places = np.stack([np.zeros(len(cells), int), np.arange(len(cells))], axis=1)
        super().__init__(
            corridor_mdp(length, reward, penalty), Look(places, [cell.glyph for cell in cells], colors), render_mode
        )

    def teacher(self, kind: Literal["optimal", "adversarial"] = "optimal", mistakes: float = 0.05) -> np.ndarray:
        """
        :param kind: ``"optimal"`` or ``"adversarial"``
        :param mistakes: the probability of the other action
        :return: π(a | s), shape (S, 2)
        """
        return corridor_teacher(kind, self.mdp.n_states, mistakes)
