"""The forked road: a road to doors of which only a teacher knows the right one, and a detour that is safe.

::

    start ── length steps of road ── fork ── … ── fork ── end        a right door pays 1/forks, a wrong one wrong/forks
       └── detour ── end                                             pays detour

Which door is right is one hidden bit, drawn as an episode begins, the same at all forks. The teacher's observation tells it and the
student's does not, so a student that follows its teacher along the road has to guess: the imitation gap (Weihs et al., ADVISOR,
arXiv 2007.12173). With ``cue=True`` the first observation of an episode tells it, too, to a student that remembers it.

>>> from sb3_distill.envs import ForkedRoad
>>> env = ForkedRoad(length=2)
>>> print(env.look.text(0))  # doctest: +NORMALIZE_WHITESPACE
@ . . <
S . . > x
>>> env.teacher(temperature=0.25)[[0, 3]].round(3)
array([[0.881, 0.119],
       [1.   , 0.   ]])
"""

from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_distill.common.whole_numbers import check_whole
from sb3_distill.envs.tabular import Look, TabularEnv, TabularMDP

#: at the start
AHEAD, DETOUR = 0, 1


def forked_road_mdp(length: int = 1, forks: int = 1, detour: float = 0.5, wrong: float = -1.0) -> TabularMDP:
    """
    :param length: steps of plain road before the first fork, where both actions go ahead; at least 0
    :param forks: doors in a row, at least 1
    :param detour: what the detour pays
    :param wrong: what the wrong doors of all forks pay together, where the right ones pay 1
    :return: states are numbered by the hidden bit, then by the way gone, the end last: bit · (1 + length + forks) + steps
    :raises ValueError: for a length or forks that are no such numbers, and wrong doors that pay as much as the right ones
    """
    check_whole("length", length, 0)
    check_whole("forks", forks, 1)
    if not wrong < 1:
        raise ValueError(f"wrong, what wrong doors pay, must be less than the 1 of right ones, not {wrong!r}.")
    n_places = 1 + length + forks
    states, end = np.arange(2 * n_places + 1), 2 * n_places
    places, bits = states % n_places, states // n_places
    ahead = np.where(places == n_places - 1, end, states + 1)
    ahead[end] = end
    following = np.stack([ahead, np.where(places == 0, end, ahead)], axis=1)
    pays = np.where(np.arange(2) == bits[:, None], 1.0, wrong) / forks * (places > length)[:, None]
    pays[places == 0] = 0.0, detour
    pays[end] = 0.0
    start = np.where((places == 0) & (states < end), 0.5, 0.0)
    return TabularMDP(following, pays, states == end, start, np.eye(2), np.zeros(len(states)))


def optimal_q(mdp: TabularMDP) -> np.ndarray:
    """
    :param mdp: of which every episode ends, whoever acts
    :return: Q*(s, a), undiscounted, shape (S, A)
    """
    q_values = np.zeros((mdp.n_states, mdp.n_actions))
    for _ in range(mdp.n_states):
        q_values = mdp.backup(q_values.max(-1), 1.0)
    return q_values


def seen_at(length: int = 1, forks: int = 1, cue: bool = False) -> np.ndarray:
    """
    :param length: as of :func:`forked_road_mdp`
    :param forks: as of :func:`forked_road_mdp`
    :param cue: whether the start tells the hidden bit
    :return: the number of what the student sees in each state, shape (S,): the steps gone, the end last; with a cue the second start
        comes after all others
    """
    n_places = 1 + length + forks
    seen = np.append(np.tile(np.arange(n_places), 2), n_places)
    if cue:
        seen[n_places] = n_places + 1
    return seen


class ForkedRoad(TabularEnv):
    """
    A road to doors of which one is right, and a detour. Two actions: at the start 0 goes ahead and 1 is the detour, at a fork they
    are the doors. The observation is a ``Dict``: ``"seen"`` is the student's, ``"state"``, the number of the state, the teacher's.

    :param length: steps of plain road before the first fork
    :param forks: doors in a row
    :param detour: what the detour pays
    :param wrong: what the wrong doors of all forks pay together, where the right ones pay 1
    :param cue: whether what is seen at the start tells the hidden bit
    :param render_mode: ``"human"``, ``"rgb_array"``, ``"ansi"`` or None
    """

    def __init__(
        self,
        length: int = 1,
        forks: int = 1,
        detour: float = 0.5,
        wrong: float = -1.0,
        cue: bool = False,
        render_mode: str | None = None,
    ) -> None:
        mdp = forked_road_mdp(length, forks, detour, wrong)
        n_places = 1 + length + forks
        columns = np.arange(n_places)
        places = np.array([(bit, column) for bit in (0, 1) for column in columns] + [(1, n_places)])
        glyphs = [glyph for door in "<>" for glyph in ("S", *"." * length, *door * forks)] + ["x"]
        colors = np.full((mdp.n_states, 3), 255, np.uint8)
        colors[mdp.start > 0], colors[-1] = (240, 228, 66), (204, 121, 167)
        super().__init__(mdp, Look(places, glyphs, colors), render_mode)
        #: the number of what the student sees in each state
        self.seen = seen_at(length, forks, cue)
        self.observation_space = spaces.Dict(
            {"seen": spaces.Discrete(int(self.seen.max()) + 1), "state": spaces.Discrete(mdp.n_states)}
        )

    def observation(self, state: int) -> dict[str, Any]:
        return {"seen": np.int64(self.seen[state]), "state": np.int64(state)}

    def teacher(self, temperature: float = 0.25) -> np.ndarray:
        """
        :param temperature: τ, greater than 0
        :return: π(a | s) = softmax(Q*(s, ·)/τ), shape (S, 2)
        """
        if not temperature > 0:
            raise ValueError(f"temperature must be greater than 0, not {temperature!r}.")
        logits = optimal_q(self.mdp) / temperature
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        return np.asarray(weights / weights.sum(-1, keepdims=True))
