"""An episode that is being played."""

from typing import Any

import numpy as np

from sb3_distill.memory.episode import Episode, parts, stored
from sb3_distill.memory.memory import About
from sb3_distill.memory.planes import PlaneLog, is_image


class Rows:
    """
    Observations that are no images, as they come.

    :param first: the first one
    """

    def __init__(self, first: np.ndarray) -> None:
        self._rows = [first]

    def append(self, row: np.ndarray) -> None:
        """:param row: the next one"""
        self._rows.append(row)

    def array(self) -> np.ndarray:
        """:return: shape (n, …)"""
        return np.stack(self._rows)


class Running:
    """
    An episode of one environment, from its first observation on.

    :param about: what the memory is of
    :param env: which environment
    :param number: which of its episodes
    :param obs: the environment's present observation
    """

    def __init__(self, about: About, env: int, number: int, obs: Any) -> None:
        self.env = env
        self.number = number
        self._about = about
        of = parts(about.observation_space)
        self._logs = {
            name: PlaneLog(value) if is_image(of[name]) else Rows(value)
            for name, value in stored(obs, about.observation_space).items()
        }
        self._steps: list[tuple[np.ndarray, float, np.ndarray]] = []

    def step(self, action: np.ndarray, reward: float, answer: np.ndarray, following: Any) -> None:
        """
        :param action: that was executed
        :param reward: of the step
        :param answer: of the teacher, in the state before it
        :param following: the observation after it
        """
        self._steps.append((np.array(action), reward, answer))
        for name, value in stored(following, self._about.observation_space).items():
            self._logs[name].append(value)

    def finished(self, end: int, terminated: bool) -> Episode:
        """
        :param end: how many steps its environment has made
        :param terminated: whether the last state is terminal
        :return: the episode
        """
        actions, rewards, answers = zip(*self._steps, strict=True)
        return Episode(
            self.env,
            self.number,
            end,
            {name: log.array() for name, log in self._logs.items()},
            np.array(actions, dtype=self._about.action_space.dtype),
            np.array(rewards, dtype=np.float32),
            terminated,
            not terminated,
            np.array(answers, dtype=np.float32),
        )
