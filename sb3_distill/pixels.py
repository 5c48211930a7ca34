"""Images on their way into a network: the layout that convolutions are fastest on, in memory that is used again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common import policies
from stable_baselines3.common.preprocessing import is_image_space, preprocess_obs

from sb3_distill.envs.tap import replaced


@contextmanager
def fast_pixels() -> Iterator[None]:
    """
    A context in which SB3's networks read images faster. What they compute stays the same, but for the order in which a
    convolution's sums are rounded. See :class:`Pixels`.
    """
    with replaced(policies, "preprocess_obs", Pixels()):
        yield


class Pixels:
    """
    SB3's ``preprocess_obs``, faster for images.

    * A pixel's channels lie side by side (``torch.channels_last``), and are laid out so while they are bytes.
    * All batches are normalised into one block of memory: a new one for each costs more than the division, since the system
      hands out and clears its pages every time. So a backward pass has to end before the next images come, as is SB3's way;
      torch raises an error where it has not.
    """

    def __init__(self) -> None:
        self._block = th.empty(0)
        self._images: th.Tensor | None = None
        self._normalised: th.Tensor | None = None

    def __call__(self, obs: Any, observation_space: spaces.Space, normalize_images: bool = True) -> Any:
        """
        :param obs: observations of shape (n, …)
        :param observation_space: theirs
        :param normalize_images: whether images are divided by 255
        :return: what the features extractor takes
        """
        if not (
            isinstance(obs, th.Tensor) and obs.dim() == 4 and normalize_images and is_image_space(observation_space)
        ):
            return preprocess_obs(obs, observation_space, normalize_images)
        if (
            self._normalised is None or obs is not self._images
        ):  # two extractors ask about one batch, one after the other
            if self._block.numel() < obs.numel() or self._block.device != obs.device:
                self._block = th.empty(obs.numel(), device=obs.device)
            n, c, h, w = obs.shape
            out = self._block[: obs.numel()].view(n, h, w, c).permute(0, 3, 1, 2)
            self._images = obs
            self._normalised = th.div(obs.contiguous(memory_format=th.channels_last), 255.0, out=out)
        return self._normalised
