"""Features extractors for SB3's policies that SB3 lacks: networks for small images, in sizes for students.

``policy_kwargs=dict(features_extractor_class=MinAtarCNN, features_extractor_kwargs=dict(filters=(8,)), net_arch=[])`` takes them
with any of SB3's policies. They are plain ``BaseFeaturesExtractor``, so that SB3 saves and loads them, and each is on the
closed list of :mod:`sb3_distill.agents.saved_policy`.
"""

from collections.abc import Mapping
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_distill.common.nearest import nearest

#: side of the square that a filter of :class:`MinAtarCNN` sees
KERNEL = 3
#: filters, and units of the layer behind them, that leave at most a share of MinAtarCNN's parameters in all of MinAtar's games
STUDENTS: dict[str, dict[str, Any]] = {
    "100%": {"features_dim": 128, "filters": (16,)},
    "25%": {"features_dim": 62, "filters": (8,)},
    "7%": {"features_dim": 27, "filters": (8, 8)},
    "4%": {"features_dim": 19, "filters": (6, 6)},
}


class MinAtarCNN(BaseFeaturesExtractor):
    """
    The network of MinAtar's DQN (Young & Tian 2019, arXiv 1903.03176): one convolution of 3 × 3 filters with stride 1, then one
    fully connected layer, ReLU after each. Smaller ones may have several convolutions, one behind the other.

    SB3 would put two layers of 64 units behind it; give ``net_arch=[]`` for the paper's network, in which the output follows.
    On Breakout's 4 × 10 × 10 with 3 actions that has 132,179 parameters; :func:`min_atar_student` has smaller ones.

    :param observation_space: a Box of channels × height × width, height and width at least 3, and 2 more for each further convolution
    :param features_dim: units of the fully connected layer
    :param filters: of each convolution
    :raises ValueError: for other observations
    """

    #: in the zips of students, whatever the house looks like
    __module__ = "sb3_distill.features"

    def __init__(
        self, observation_space: spaces.Box, features_dim: int = 128, filters: tuple[int, ...] = (16,)
    ) -> None:
        shape = observation_space.shape or ()
        lost = len(filters) * (KERNEL - 1)
        if not isinstance(observation_space, spaces.Box) or len(shape) != 3 or min(shape[1:]) <= lost:
            raise ValueError(
                f"MinAtarCNN reads a Box of channels × height × width with height and width of at least {lost + 1}, "
                f"not {observation_space}: use MlpPolicy without it for other observations."
            )
        super().__init__(observation_space, features_dim)
        n_in, height, width = shape
        layers: list[nn.Module] = []
        for n_out in filters:
            layers += [nn.Conv2d(n_in, n_out, KERNEL), nn.ReLU()]
            n_in = n_out
        self.cnn = nn.Sequential(*layers, nn.Flatten())
        n_flat = n_in * (height - lost) * (width - lost)
        self.linear = nn.Sequential(nn.Linear(n_flat, features_dim), nn.ReLU())

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.linear(self.cnn(observations))  # type: ignore[no-any-return]


def min_atar_student(share: str) -> dict[str, Any]:
    """
    Students of a teacher with MinAtar's network.

    >>> from sb3_distill.students.features import min_atar_student
    >>> min_atar_student("7%")["features_extractor_kwargs"]
    {'features_dim': 27, 'filters': (8, 8)}

    :param share: of the parameters of a MinAtarCNN: ``"25%"``, ``"7%"``, ``"4%"``, or ``"100%"``
    :return: ``policy_kwargs`` for ``MlpPolicy``, or for ``CnnPolicy``, which is the same with this extractor
    :raises ValueError: for another share
    """
    return sized(MinAtarCNN, STUDENTS, share)


def sized(
    extractor: type[BaseFeaturesExtractor], students: Mapping[str, Mapping[str, Any]], share: str
) -> dict[str, Any]:
    """
    :param extractor: whose output the last layer follows
    :param students: from shares of its parameters to its arguments
    :param share: of them
    :return: ``policy_kwargs``
    :raises ValueError: for a share that there is not
    """
    if share not in students:
        raise ValueError(f"There is no student of {share!r}: {nearest(share, students)}")
    return {"features_extractor_class": extractor, "features_extractor_kwargs": dict(students[share]), "net_arch": []}
