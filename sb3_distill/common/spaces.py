"""Whether a teacher fits an environment, and how actions travel between arrays and tensors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first

from sb3_distill.common import mujoco


def check_spaces(
    name: str,
    teacher_observations: spaces.Space,
    teacher_actions: spaces.Space,
    observation_space: spaces.Space,
    action_space: spaces.Space,
    environments: Callable[[], tuple[str | None, str | None]] = lambda: (None, None),
    who: str = "teacher",
) -> None:
    """
    :param name: the teacher's, for the message
    :param teacher_observations: what the teacher reads
    :param teacher_actions: what the teacher does
    :param observation_space: of the environment, before any VecNormalize
    :param action_space: of the environment
    :param environments: which environment the teacher was trained in and which this is, as far as that is known; only asked for if
        they do not fit
    :param who: reads and does it, for the message: a teacher may see something else than its student
    :raises ValueError: if the teacher cannot read those observations or does other actions; both spaces are shown
    """
    for kind, mine, theirs, fits in (
        ("observation", teacher_observations, observation_space, same_kind(teacher_observations, observation_space)),
        ("action", teacher_actions, action_space, same_actions(teacher_actions, action_space)),
    ):
        if not fits:
            raise ValueError(
                f"The {who} {name} does not fit the environment: its {kind} space is {mine}, the environment's is {theirs}."
                + _other_environment(*environments())
                + _atari_hint(mine, theirs)
                + mujoco.hint(mine, theirs, *environments())
                + (
                    " To teach a student that sees this, it needs to be told what it reads: teacher_obs=…"
                    if kind == "observation" and who == "teacher"
                    else ""
                )
                + (units_hint(mine, theirs) if kind == "action" else "")
            )


def _other_environment(trained_in: str | None, present: str | None) -> str:
    """That a teacher is of another environment, if both are known."""
    if trained_in is None or present is None or trained_in == present:
        return ""
    return f" The teacher was trained in {trained_in}, and this is {present}."


def same_actions(mine: spaces.Space, theirs: spaces.Space) -> bool:
    """
    Whether an action means the same in both: other than those of observations, bounds are an action's units, and SB3's
    ``check_for_correct_spaces`` compares them, too. Here they may differ by a ten-thousandth, as rounded ones do.

    :param mine: a space of actions
    :param theirs: another
    :return: whether kind, shape and bounds are the same, or the numbers of ``Discrete`` actions and with which they start
    """
    if not same_kind(mine, theirs):
        return False
    if isinstance(mine, spaces.Box) and isinstance(theirs, spaces.Box):
        # Of each number's own size: a motor's range may be a millionth of another's.
        size = np.max([np.where(np.isfinite(bound), np.abs(bound), 0) for bound in (mine.low, mine.high)], axis=0)
        return _close(mine.low, theirs.low, size) and _close(mine.high, theirs.high, size)
    return np.array_equal(first_action(mine), first_action(theirs))


def _close(a: np.ndarray, b: np.ndarray, size: np.ndarray) -> bool:
    """Whether bounds are equal, infinite ones too, but for rounding: that of float32, and that of the text which SB3 keeps."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    distance = np.abs(np.subtract(a, b, out=np.zeros_like(a), where=finite))
    return bool(np.where(finite, distance <= 1e-4 * size, a == b).all())


def units_hint(mine: spaces.Space, theirs: spaces.Space) -> str:
    """
    :param mine: a space of actions
    :param theirs: another, which they do not fit
    :return: what to do, if the two are of one kind and shape
    """
    if not same_kind(mine, theirs):
        return ""
    if not isinstance(mine, spaces.Box) or not isinstance(theirs, spaces.Box):
        return " An action would mean another one there: give the environment the wrappers that training put around its own."
    rescale = ""
    if np.isfinite([mine.low, mine.high, theirs.low, theirs.high]).all():
        low, high = (_short(bound) for bound in (mine.low, mine.high))
        rescale = f", or gymnasium.wrappers.RescaleAction(env, {low}, {high}) if its units alone are others"
    return (
        " An action would mean another one there: give the environment the wrappers that training put around its own"
        f"{rescale}."
    )


def _short(bound: np.ndarray) -> str:
    """A bound as one would write it: one number, if it is the same everywhere."""
    values = np.unique(bound)
    return str(values[0].item()) if len(values) == 1 else f"np.array({bound.tolist()}, np.{bound.dtype})"


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


def same_kind(mine: spaces.Space, theirs: spaces.Space) -> bool:
    """
    :param mine: a space
    :param theirs: another
    :return: whether one network can serve both, see :func:`signature`
    """
    return bool(signature(mine) == signature(theirs))


def first_action(space: spaces.Space) -> Any:
    """
    What Gymnasium counts discrete actions from. SB3 counts them from 0, whatever this says, and so does all that is here.

    :param space: of actions
    :return: ``start`` of ``Discrete`` and ``MultiDiscrete`` spaces, else 0
    """
    return getattr(space, "start", 0) if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)) else 0


def any_action(space: spaces.Space) -> np.ndarray:
    """
    :param space: of one environment's actions; its own random state is drawn from
    :return: a uniformly random action, as SB3's algorithms hand it to an environment: discrete ones are 0 … n−1
    """
    action, start = np.asarray(space.sample()), first_action(space)
    return action - start if np.any(start) else action


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
    return array.astype(action_space.dtype, copy=False)  # of MultiBinary, probabilities' floats become whole numbers


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
