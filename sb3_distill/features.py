"""Features extractors for SB3's policies that SB3 lacks: networks for small images, in sizes for students.

``policy_kwargs=dict(features_extractor_class=MinAtarCNN, features_extractor_kwargs=dict(n_filters=8), net_arch=[])`` takes them
with any of SB3's policies. They are plain ``BaseFeaturesExtractor``, so that SB3 saves and loads them, and each is on the
closed list of :mod:`sb3_distill.zoo.saved_policy`.
"""

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

#: side of the square that a filter of :class:`MinAtarCNN` sees
KERNEL = 3


class MinAtarCNN(BaseFeaturesExtractor):
    """
    The network of MinAtar's DQN (Young & Tian 2019, arXiv 1903.03176): one convolution of 3 × 3 filters with stride 1, then one
    fully connected layer, ReLU after each.

    SB3 would put two layers of 64 units behind it; give ``net_arch=[]`` for the paper's network, in which the output follows.
    On Breakout's 4 × 10 × 10 with 3 actions that has 132,179 parameters. At most 25% of them are left, in all games, by
    ``n_filters=8, features_dim=62``, 7% by ``n_filters=4, features_dim=34`` and 4% by ``n_filters=4, features_dim=18``.

    :param observation_space: a Box of channels × height × width, height and width at least 3
    :param features_dim: units of the fully connected layer
    :param n_filters: of the convolution
    :raises ValueError: for other observations
    """

    def __init__(self, observation_space: spaces.Box, features_dim: int = 128, n_filters: int = 16) -> None:
        shape = observation_space.shape or ()
        if not isinstance(observation_space, spaces.Box) or len(shape) != 3 or min(shape[1:]) < KERNEL:
            raise ValueError(
                f"MinAtarCNN reads a Box of channels × height × width with height and width of at least {KERNEL}, "
                f"not {observation_space}: use MlpPolicy without it for other observations."
            )
        super().__init__(observation_space, features_dim)
        channels, height, width = shape
        n_flat = n_filters * (height - KERNEL + 1) * (width - KERNEL + 1)
        self.cnn = nn.Sequential(nn.Conv2d(channels, n_filters, KERNEL), nn.ReLU(), nn.Flatten())
        self.linear = nn.Sequential(nn.Linear(n_flat, features_dim), nn.ReLU())

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.linear(self.cnn(observations))  # type: ignore[no-any-return]
