"""Images as channel planes, so that a frame that several observations share is stored once.

An observation of four stacked frames shares three of them with the one before. As planes p_0, p_1, … of height × width, an
episode of images with C channels is

    observation t  =  p_{tc}, …, p_{tc+C−1}

where c is the number of planes that are new in each observation: 1 for a stack of grey frames, 3 for one of colour frames,
C where nothing is shared. c is found by looking: it is the smallest at which every observation's older planes are those of
the one before, to the bit. So whatever an episode starts with (frames of zeros, a frame repeated), it comes back as it was.
"""

from functools import lru_cache

import numpy as np
from gymnasium import spaces


def is_image(space: spaces.Space) -> bool:
    """
    :param space: of an observation, or of a part of one
    :return: whether it is kept as planes: any ``Box`` of three axes
    """
    return isinstance(space, spaces.Box) and len(space.shape) == 3


def channel_axis(space: spaces.Space) -> int:
    """
    :param space: of an image
    :return: 0 or 2: where its channels are taken to be, the shorter of the two
    """
    assert space.shape is not None
    return 0 if space.shape[0] <= space.shape[2] else 2


def plane_shape(space: spaces.Space) -> tuple[int, int, int]:
    """
    :param space: of an image
    :return: channels C, height, width
    """
    shape = list(space.shape or ())
    return (shape.pop(channel_axis(space)), shape[0], shape[1])


def to_planes(space: spaces.Space, images: np.ndarray) -> np.ndarray:
    """
    :param space: of an image
    :param images: shape (…, *space.shape)
    :return: a view of shape (…, C, height, width)
    """
    return np.moveaxis(images, channel_axis(space) - 3, -3)


def from_planes(space: spaces.Space, planes: np.ndarray) -> np.ndarray:
    """
    The inverse of :func:`to_planes`.

    :param space: of an image
    :param planes: shape (…, C, height, width)
    :return: a view of shape (…, *space.shape)
    """
    return np.moveaxis(planes, -3, channel_axis(space) - 3)


@lru_cache
def divisors(n: int) -> tuple[int, ...]:
    """
    :param n: at least 1
    :return: what divides it, ascending, itself included
    """
    return tuple(k for k in range(1, n + 1) if n % k == 0)


class PlaneLog:
    """
    The images of one episode as they come.

    :param first: planes of the first image, shape (C, height, width)
    """

    def __init__(self, first: np.ndarray) -> None:
        self._last = np.array(first)
        self._parts = [self._last]
        self._possible = divisors(len(first))

    def append(self, image: np.ndarray) -> None:
        """
        :param image: planes of the next image, shape (C, height, width)
        """
        image = np.array(image)  # environments write the next one into the same array
        n = len(image)
        possible = tuple(c for c in self._possible if c == n or np.array_equal(image[: n - c], self._last[c:]))
        if possible[0] != self.n_new:
            self._store_more(possible[0])
        self._possible = possible
        self._parts.append(image[n - self.n_new :].copy())
        self._last = image

    @property
    def n_new(self) -> int:
        """c, as far as is known by now."""
        return self._possible[0]

    def array(self) -> np.ndarray:
        """
        :return: all planes, shape (C + (n − 1) c, height, width) for n images
        """
        return np.concatenate(self._parts)

    def _store_more(self, n_new: int) -> None:
        """Keep more planes of every image so far: a larger c, at which they all still share what they should."""
        planes, n = self.array(), len(self._last)
        ends = range(n + self.n_new, len(planes) + 1, self.n_new)
        self._parts = [planes[:n], *(planes[end - n_new : end] for end in ends)]
