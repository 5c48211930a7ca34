"""MinAtar's five games (Young & Tian 2019, arXiv 1903.03176) as SB3 needs them.

The games are the package's own, ``pip install 'sb3-distill[minatar]'``. :mod:`sb3_distill.envs` registers ``MinAtar/Asterix-v1``,
``Breakout``, ``Freeway``, ``Seaquest`` and ``SpaceInvaders``: v1 with the actions that matter in the game, v0 with all six.
"""

from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

try:
    import seaborn  # MinAtar's own
    from minatar.gym import BaseEnv
except ImportError as error:
    raise ImportError(f"MinAtar is not installed ({error}): pip install 'sb3-distill[minatar]'.") from error

#: pixels of a cell, along each side, in ``rgb_array``
CELL = 16


class MinAtarEnv(BaseEnv):
    """
    A game of MinAtar, with what the package's own environment lacks for SB3.

    * Observations are ``Box(0, 1, (channels, 10, 10), uint8)``: channels first, one byte a cell, and no image space of SB3's,
      which would be divided by 255. Any features extractor sees zeros and ones.
    * An episode is reproduced by its seed alone. The package's sticky actions begin with the last action of the previous
      episode; here each episode begins with "no operation".
    * ``rgb_array`` has whole numbers, and cells that one can see.

    :param game: ``"asterix"``, ``"breakout"``, ``"freeway"``, ``"seaquest"`` or ``"space_invaders"``
    :param kwargs: of :class:`minatar.gym.BaseEnv`: ``render_mode`` (``"human"`` or ``"rgb_array"``), ``use_minimal_action_set``,
        ``sticky_action_prob`` (0.1: how often the previous action is repeated instead) and ``difficulty_ramping``
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 20}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(self, game: str, **kwargs: Any) -> None:
        super().__init__(game, **kwargs)
        height, width, channels = self.game.state_shape()
        self.observation_space = spaces.Box(0, 1, (channels, height, width), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        gym.Env.reset(self, seed=seed)  # the package's own does not
        self.game.last_action = 0
        state, info = super().reset(seed, options)
        return channels_first(state), info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        state, reward, terminated, truncated, info = super().step(action)
        return channels_first(state), float(reward), terminated, truncated, info

    def render(self) -> np.ndarray | None:
        if self.render_mode != "rgb_array":
            return super().render()  # type: ignore[no-any-return]
        state = self.game.state()
        # Of the channels that are in a cell, the last one is seen.
        top = (state * np.arange(1, state.shape[2] + 1)).max(axis=2)
        cells = palette(state.shape[2])[top][:, None, :, None]
        height, width = top.shape
        return np.broadcast_to(cells, (height, CELL, width, CELL, 3)).reshape(height * CELL, width * CELL, 3)


@cache
def palette(n_channels: int) -> np.ndarray:
    """
    :param n_channels: of a game
    :return: the package's colours, made once, for that takes longer than all else of a picture: black for an empty cell, then one for each
        channel; uint8, shape (1 + n_channels, 3)
    """
    colours = [(0.0, 0.0, 0.0), *seaborn.color_palette("cubehelix", n_channels)]
    return np.rint(255 * np.array(colours)).astype(np.uint8)


def channels_first(state: np.ndarray) -> np.ndarray:
    """
    :param state: bool, shape (10, 10, channels)
    :return: uint8, shape (channels, 10, 10), in memory of its own
    """
    return state.transpose(2, 0, 1).astype(np.uint8, order="C")
