"""Whole episodes, scores, tables and learning curves.

* :func:`episode_returns` plays a model, or whatever acts, and gives the returns of whole episodes.
* :func:`play_episodes` gives their lengths, too, and says which were cut.
* :func:`standard_error` is of the mean of such returns.
"""

from typing import TYPE_CHECKING

from sb3_distill.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from sb3_distill.evaluation.episodes import Episodes, episode_returns, play_episodes, random_play, standard_error

__all__ = ["Episodes", "episode_returns", "play_episodes", "random_play", "standard_error"]

__getattr__, __dir__ = lazy_names(__name__, dict.fromkeys(__all__, "sb3_distill.evaluation.episodes"))
