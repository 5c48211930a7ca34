"""Smaller NatureCNNs for students that read Atari frames (Rusu et al. 2015, table of network architectures)."""

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_distill.students.features import sized

#: (size and stride of a filter) in each of NatureCNN's convolutions
CONVOLUTIONS = ((8, 4), (4, 2), (3, 1))
#: the paper's students, by their share of the teacher's 1.7 million parameters: filters, and units of the layer that follows
STUDENTS: dict[str, dict[str, Any]] = {
    "100%": {"features_dim": 512, "filters": (32, 64, 64)},
    "25%": {"features_dim": 256, "filters": (16, 32, 32)},
    "7%": {"features_dim": 128, "filters": (16, 16, 16)},
    "4%": {"features_dim": 64, "filters": (16, 16, 16)},
}


class SmallNatureCNN(BaseFeaturesExtractor):
    """
    SB3's NatureCNN (Mnih et al. 2015) with other numbers of filters.

    :param observation_space: images, channels first, at least 36 × 36
    :param features_dim: units of the fully connected layer
    :param filters: of the three convolutions
    :raises ValueError: for other observations
    """

    #: in the zips of students, whatever the house looks like
    __module__ = "sb3_distill.nature_cnn"

    def __init__(
        self, observation_space: spaces.Box, features_dim: int = 512, filters: tuple[int, int, int] = (32, 64, 64)
    ) -> None:
        shape = observation_space.shape or ()
        if len(shape) != 3 or min(shape[1:]) < 36:
            raise ValueError(
                f"SmallNatureCNN reads images of channels × height × width, at least 36 × 36, not {observation_space}: "
                "leave features_extractor_class out for other observations."
            )
        super().__init__(observation_space, features_dim)
        layers: list[nn.Module] = []
        n_in = shape[0]
        for n_out, (size, stride) in zip(filters, CONVOLUTIONS, strict=True):
            layers += [nn.Conv2d(n_in, n_out, size, stride), nn.ReLU()]
            n_in = n_out
        self.cnn = nn.Sequential(*layers, nn.Flatten())
        with th.no_grad():
            n_flat = self.cnn(th.zeros(1, *shape)).shape[1]
        self.linear = nn.Sequential(nn.Linear(n_flat, features_dim), nn.ReLU())

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.linear(self.cnn(observations))  # type: ignore[no-any-return]


def student_arch(share: str) -> dict[str, Any]:
    """
    The paper's student networks.

    >>> from sb3_distill.students.nature_cnn import student_arch
    >>> student_arch("7%")["features_extractor_kwargs"]
    {'features_dim': 128, 'filters': (16, 16, 16)}

    :param share: of the parameters of a NatureCNN: ``"25%"``, ``"7%"``, ``"4%"``, or ``"100%"``
    :return: ``policy_kwargs`` for ``CnnPolicy``
    :raises ValueError: for another share
    """
    return sized(SmallNatureCNN, STUDENTS, share)
