"""The oscillation of Czarnecki et al. 2019 (figure 2): seven states in which on-policy distillation circles for ever.

The states are a binary tree, actions go left (L) or right (R), and an episode has three steps::

                          state 0                       P(R) = x        loss: a constant
              state 1                 state 2           P(R) = y        y,  −4 y
        state 3     state 4     state 5     state 6     P(R) = x        −2 x,  2 x,  −2 x,  2 x

A student has two parameters: x = σ(θ_1) and y = σ(θ_2). Its loss is linear in the probabilities, ℓ(s) = −4 Σ_a π(a|s) π_θ(a|s),
which is the above up to constants with π(R|s) = ½; ⅜, 1; ¾, ¼, ¾, ¼. State 2 is the paper's s_R: the teacher prefers R strongly,
ℓ(θ|s_R) = −4 π_θ(R|s_R). The figure's other numbers could not be read, so this is a construction that does what it shows.

θ_1 decides which of states 1 and 2 follows, where θ_2 is pushed in opposite directions; θ_2 decides whether the last state is a
left or a right one, where θ_1 is pushed in opposite directions. On-policy distill sees only the pushes:

    g_1 = −2 (1 − 2 y) x (1 − x),      g_2 = (1 − 5 x) y (1 − y)

It is matching pennies: along −g the number 3 θ_1 + exp(−θ_1) + 4 exp(θ_1) + 4 cosh(θ_2) is constant, and its level sets are closed
curves around x = 1/5, y = 1/2. N-distill also sees where the pushes lead to, and descends

    E Σ ℓ = (x − 2 y − 2 x y − 11) / 2

to x = y = 1, from anywhere. The environment pays what the loss charges, 4 π(a|s): a student's return is minus its expected loss.
"""

import numpy as np

from sb3_distill.envs.tabular import Look, TabularEnv, TabularMDP

RIGHT = 1
#: of the loss: ℓ(θ|s_R) = −STRENGTH · π_θ(R|s_R)
STRENGTH = 4.0
#: which parameter, θ_1 or θ_2, is the logit of R in each state, shape (7,)
PARAMETER = np.array([0, 1, 1, 0, 0, 0, 0])
#: the teacher's π(R | s), shape (7,)
TEACHER_RIGHT = np.array([0.5, 0.375, 1.0, 0.75, 0.25, 0.75, 0.25])


def oscillation_teacher() -> np.ndarray:
    """:return: π(a | s), shape (7, 2)"""
    return np.stack([1 - TEACHER_RIGHT, TEACHER_RIGHT], axis=1)


def oscillation_policy(theta: np.ndarray) -> np.ndarray:
    """
    :param theta: (θ_1, θ_2), shape (…, 2)
    :return: the student's π_θ(a | s), shape (…, 7, 2)
    """
    right = (1 / (1 + np.exp(-np.asarray(theta, float))))[..., PARAMETER]
    return np.stack([1 - right, right], axis=-1)


def oscillation_mdp() -> TabularMDP:
    """:return: the tree; from states 3 to 6 a step stays in place and ends the episode"""
    states = np.arange(7)
    inner = states < 3
    following = np.where(inner[:, None], 2 * states[:, None] + [1, 2], states[:, None])
    start = (states == 0).astype(float)
    return TabularMDP(
        following, STRENGTH * oscillation_teacher(), np.zeros(7, bool), start, np.eye(2), np.where(inner, 0.0, 1.0)
    )


class Oscillation(TabularEnv):
    """
    A walk of three steps down a binary tree; actions left and right. The observation is the number of the state.

    :param render_mode: ``"human"``, ``"rgb_array"``, ``"ansi"`` or None
    """

    def __init__(self, render_mode: str | None = None) -> None:
        places = np.array([[0, 3], [1, 1], [1, 5], [2, 0], [2, 2], [2, 4], [2, 6]])
        # As in the paper's figure, the states that share θ_2 are yellow.
        colors = np.array([(255, 255, 255), (240, 228, 66)], np.uint8)[PARAMETER]
        super().__init__(oscillation_mdp(), Look(places, "0123456", colors), render_mode)
