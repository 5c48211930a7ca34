"""CartPole that draws itself small: an example of what makes pictures cheap.

Gymnasium's CartPole draws 600 × 400 pixels in pygame, of which a student sees 84 × 84 or fewer. This one has the same dynamics, to the bit,
and draws the few pixels that are seen. ``sb3_distill/SmallCartPole-v1`` is its id, with CartPole-v1's 500 steps.
"""

import math
from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from sb3_distill.common.whole_numbers import check_whole

#: in the cart's units: half of the track's width, and of the cart's width and height; the pole's half thickness
HALF_TRACK, HALF_CART, HALF_HEIGHT, HALF_POLE = 2.4, 0.2, 0.12, 0.06
#: The pole is drawn longer than it is, as one that is seen from nearby: in 42 pixels, an angle of 3 degrees is one pixel at its tip.
STRETCH = 2.0
#: what is seen above the track and below it
ABOVE, BELOW = 2.4, 0.4


class SmallCartPole(CartPoleEnv):
    """
    Gymnasium's CartPole, drawn in white and grey on black, with soft edges: where the cart is shows to a part of a pixel.

    :param size: of the picture, in pixels of a side
    :param kwargs: of Gymnasium's ``CartPoleEnv``
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(self, size: int = 84, **kwargs: Any) -> None:
        check_whole("size", size, 1)
        super().__init__(**kwargs)
        self.size = size
        self._x = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 * HALF_TRACK - HALF_TRACK
        self._y = (ABOVE - (np.arange(size, dtype=np.float32) + 0.5) / size * (ABOVE + BELOW))[:, None]

    def render(self) -> Any:
        """:return: uint8, shape (size, size, 3); None without ``render_mode="rgb_array"``"""
        if self.render_mode != "rgb_array" or self.state is None:
            return None
        x, _, angle, _ = (float(value) for value in self.state)
        # How deep a pixel's centre lies within a shape, over the pixel's size: 0 at half a pixel outside, 1 at half a pixel inside.
        dx, dy = 2 * HALF_TRACK / self.size, (ABOVE + BELOW) / self.size
        across, down = self._x - x, self._y
        cart = _inside(HALF_CART - np.abs(across), dx) * _inside(HALF_HEIGHT - np.abs(down), dy)
        sine, cosine = math.sin(angle), math.cos(angle)
        along = across * sine + down * cosine
        aside = across * cosine - down * sine
        length, edge = STRETCH * 2 * self.length, max(dx, dy)
        pole = _inside(HALF_POLE - np.abs(aside), edge) * _inside(length / 2 - np.abs(along - length / 2), edge)
        grey = 255 * cart * (1 - pole) + 127 * pole
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def _inside(depth: np.ndarray, pixel: float) -> np.ndarray:
    return np.clip(depth / pixel + 0.5, 0.0, 1.0)
