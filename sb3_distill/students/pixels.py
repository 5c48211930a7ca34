"""Images on their way through a network: the layout and the precision that convolutions are fastest in, in memory that is used again."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common import policies
from stable_baselines3.common.preprocessing import is_image_space, preprocess_obs

from sb3_distill.common.replaced import replaced

#: how much faster bfloat16 has to multiply before it is worth the conversions
WORTHWHILE = 2.0
#: side of the matrices, and how often each product is timed
TIMED_SIDE, TIMED_PRODUCTS = 512, 5


@contextmanager
def fast_pixels(
    policy: th.nn.Module, mixed_precision: bool | None = None, same_weights: bool = False
) -> Iterator[None]:
    """
    A context in which SB3's networks read images faster, see :class:`Pixels`, and one policy's features extractors multiply in
    bfloat16, which has the exponents of float32 and 8 of its 24 bits. Weights, features, the layers behind them, losses and
    optimisers stay float32. Without bfloat16, and for all other networks, a teacher's among them, what is computed stays the
    same, but for the order in which a convolution's sums are rounded.

    :param policy: the one that is trained
    :param mixed_precision: whether its features extractors multiply in bfloat16; None for those that see images, where the
        device does that faster
    :param same_weights: whether weights stay what they are in this context, and need to be rounded only once
    """

    def rounds(model: policies.BaseModel) -> bool:
        if mixed_precision is not None:
            return mixed_precision
        return is_image_space(model.observation_space) and multiplies_bfloat16_faster(model.device.type)

    models = {module for module in policy.modules() if isinstance(module, policies.BaseModel) and rounds(module)}
    original = policies.BaseModel.extract_features

    def extract_features(self: policies.BaseModel, obs: Any, features_extractor: Any) -> th.Tensor:
        if self not in models:
            return original(self, obs, features_extractor)
        with th.autocast(self.device.type, th.bfloat16):
            return original(self, obs, features_extractor).float()

    # torch forgets what it has rounded at the end of the outermost context, which itself rounds nothing.
    rounded_once = same_weights and models
    with (
        th.autocast(next(iter(models)).device.type, enabled=False) if rounded_once else nullcontext(),
        replaced(policies, "preprocess_obs", Pixels()),
        replaced(policies.BaseModel, "extract_features", extract_features),
    ):
        yield


@cache
def multiplies_bfloat16_faster(device: str) -> bool:
    """
    Time a matrix product in both precisions. Where the hardware has instructions for it the ratio is about 4, elsewhere it is
    below 1, so that noise does not decide.

    :param device: its type, ``"cpu"`` or ``"cuda"``; others have no bfloat16 here
    :return: whether bfloat16 is at least twice as fast
    """
    if device == "cuda":
        return th.cuda.is_bf16_supported(including_emulation=False)
    if device != "cpu":
        return False
    matrix = th.ones(TIMED_SIDE, TIMED_SIDE)
    rounded = matrix.bfloat16()
    return fastest(lambda: matrix @ matrix) > WORTHWHILE * fastest(lambda: rounded @ rounded)


def fastest(call: Callable[[], Any]) -> float:
    """:return: seconds of the fastest of some calls"""
    seconds = []
    for _ in range(TIMED_PRODUCTS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


class Pixels:
    """
    SB3's ``preprocess_obs``, faster for images.

    * A pixel's channels lie side by side (``torch.channels_last``), and are laid out so while they are bytes.
    * All batches are normalised into one block of memory: a new one for each costs more than the division, since the system
      hands out and clears its pages every time. So a backward pass has to end before the next images come, as is SB3's way;
      torch raises an error where it has not.
    * Where ``torch.autocast`` would convert them next, they are normalised into its precision.
    """

    def __init__(self) -> None:
        self._blocks: dict[tuple[th.device, th.dtype], th.Tensor] = {}
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
        device = obs.device.type
        dtype = th.get_autocast_dtype(device) if th.is_autocast_enabled(device) else th.float32
        if self._normalised is None or obs is not self._images or self._normalised.dtype != dtype:
            # else two extractors ask about one batch, one after the other
            n, c, h, w = obs.shape
            out = self._block(obs.device, dtype, obs.numel()).view(n, h, w, c).permute(0, 3, 1, 2)
            self._images = obs
            # Bytes are whole numbers that bfloat16 has, too: only the division rounds.
            self._normalised = out.copy_(obs.contiguous(memory_format=th.channels_last)).div_(255.0)
        return self._normalised

    def _block(self, device: th.device, dtype: th.dtype, size: int) -> th.Tensor:
        block = self._blocks.get((device, dtype))
        if block is None or block.numel() < size:
            block = self._blocks[device, dtype] = th.empty(size, dtype=dtype, device=device)
        return block[:size]
