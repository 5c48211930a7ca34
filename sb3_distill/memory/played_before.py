"""What is on disk of a recording that goes on: actions to play again, and what must come of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sb3_distill.memory.episode import Played, stored
from sb3_distill.memory.memory import About


class Replay:
    """
    The steps of one environment that are on disk, one after the other.

    :param about: what the memory is of
    :param played: the environment's episodes, in order
    """

    def __init__(self, about: About, played: Sequence[Played]) -> None:
        self.n_episodes = len(played)
        self.n_steps = sum(len(episode.rewards) for episode in played)
        self.actions = [action for episode in played for action in episode.actions]
        self._space = about.observation_space
        self._rewards = [reward for episode in played for reward in episode.rewards]
        #: by step: the episode that begins with it, and the one that ends with it
        self._begins: dict[int, Played] = {}
        self._ends: dict[int, Played] = {}
        step = 0
        for episode in played:
            self._begins[step] = episode
            step += len(episode.rewards)
            self._ends[step - 1] = episode

    def begins_as_before(self, step: int, obs: Any) -> bool:
        """
        :param step: that comes next
        :param obs: the environment's present observation
        :return: whether an episode that began here began like this
        """
        if step not in self._begins:
            return True
        now = stored(obs, self._space)
        return all(np.array_equal(first, now[name]) for name, first in self._begins[step].first.items())

    def goes_as_before(self, step: int, reward: float, terminated: bool, done: bool) -> bool:
        """
        :param step: that was made
        :param reward: of the step
        :param terminated: whether it ended the episode in a terminal state
        :param done: whether it ended the episode
        :return: whether it was like this before. An episode that was cut may have been cut by the end of the recording
        """
        ended = self._ends.get(step)
        as_before = not done if ended is None else terminated == ended.terminated
        return as_before and reward == self._rewards[step]
