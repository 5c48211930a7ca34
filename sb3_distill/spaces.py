"""Whether a teacher fits an environment, and how actions travel between arrays and tensors."""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first


def check_spaces(
    name: str,
    teacher_observations: spaces.Space,
    teacher_actions: spaces.Space,
    observation_space: spaces.Space,
    action_space: spaces.Space,
) -> None:
    """
    :param name: the teacher's, for the message
    :param teacher_observations: what the teacher reads
    :param teacher_actions: what the teacher does
    :param observation_space: of the environment, before any VecNormalize
    :param action_space: of the environment
    :raises ValueError: if the teacher cannot read those observations or does other actions; both spaces are shown
    """
    for kind, mine, theirs in (
        ("observation", teacher_observations, observation_space),
        ("action", teacher_actions, action_space),
    ):
        if signature(mine) != signature(theirs):
            raise ValueError(
                f"The teacher {name} does not fit the environment: its {kind} space is {mine}, the environment's is {theirs}."
                + _atari_hint(mine, theirs)
            )


def _atari_hint(mine: spaces.Space, theirs: spaces.Space) -> str:
    """What to tell ``make_atari_vec_env``, if the two look like Atari."""
    if isinstance(mine, spaces.Discrete) and isinstance(theirs, spaces.Discrete) and 18 in (mine.n, theirs.n):
        return f" On Atari, 18 are all actions: make_atari_vec_env(…, full_action_space={bool(mine.n == 18)})."
    if is_image_space(mine) and is_image_space(theirs):
        frames, side = signature(mine)[1][:2]
        return f" On Atari: make_atari_vec_env(…, frame_stack={frames}, screen_size={side})."
    return ""


def signature(space: spaces.Space) -> Any:
    """
    What two spaces must share for one network to serve both: kind and shape. Bounds may have changed with a version.

    :param space: any space that SB3 supports
    :return: something to compare
    """
    if isinstance(space, spaces.Dict):
        return {key: signature(sub) for key, sub in space.spaces.items()}
    if isinstance(space, spaces.Discrete):
        return "Discrete", int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return "MultiDiscrete", tuple(space.nvec.flatten().tolist())
    if isinstance(space, spaces.Box) and is_image_space(space) and not is_image_space_channels_first(space):
        return "Box", (space.shape[-1], *space.shape[:-1])
    return type(space).__name__, space.shape


def action_tensor(action_space: spaces.Space, actions: np.ndarray) -> th.Tensor:
    """
    Actions as the ``log_prob`` of SB3's distributions takes them.

    :param action_space: of one environment
    :param actions: of n environments, in any shape that holds n of them
    :return: shape (n,) and integer for ``Discrete`` spaces, else (n, d) and float
    """
    if isinstance(action_space, spaces.Discrete):
        return th.as_tensor(actions, dtype=th.long).flatten()
    return th.as_tensor(actions, dtype=th.float32).reshape(-1, int(np.prod(action_space.shape or ())))


def draw_actions(action_space: spaces.Space, distribution: Distribution) -> np.ndarray:
    """
    :param action_space: of one environment
    :param distribution: for n environments
    :return: n sampled actions as the environments take them
    """
    return env_actions(action_space, distribution.sample())


def env_actions(action_space: spaces.Space, actions: th.Tensor) -> np.ndarray:
    """
    The inverse of :func:`action_tensor`.

    :param action_space: of one environment
    :param actions: of n environments, from a distribution
    :return: the n actions as environments take them: clipped to a ``Box``
    """
    array = actions.cpu().numpy().reshape((-1, *(action_space.shape or ())))
    if isinstance(action_space, spaces.Box):
        return np.clip(array, action_space.low, action_space.high)
    return array


def channels_last(obs: Any) -> Any:
    """
    Lay images out as convolutions are fastest on, a pixel's channels side by side, while they are bytes still. Shapes and
    values stay what they are; sums in a convolution may be rounded in another order.

    :param obs: observations as SB3's networks take them: a tensor, or a dict of tensors; images are (n, C, H, W)
    :return: the same, images with ``torch.channels_last`` strides
    """
    if isinstance(obs, dict):
        return {key: channels_last(value) for key, value in obs.items()}
    return obs.contiguous(memory_format=th.channels_last) if obs.dim() == 4 else obs
