"""Action masks: which actions an environment allows in its present state, as sb3-contrib's MaskablePPO asks for them.

An environment hands them out by a method ``action_masks()``: a flag for each ``Discrete`` action, for each action of each factor of
``MultiDiscrete``, joined, and for 0 and 1 of each factor of ``MultiBinary``.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from sb3_contrib.common.maskable.utils import EXPECTED_METHOD_NAME, is_masking_supported
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_distill.common.layers import innermost
from sb3_distill.common.replaced import replaced
from sb3_distill.common.spaces import first_action

METHOD = EXPECTED_METHOD_NAME
#: where an environment says them of the state that a step has led to
IN_INFO = ("action_mask", "action_masks")


def factors(space: spaces.Space | None) -> list[int]:
    """
    :param space: of actions, of which a mask can forbid some
    :return: how many flags each factor of an action has; none for other spaces
    """
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete):
        return [int(n) for n in np.asarray(space.nvec).flatten()]
    if isinstance(space, spaces.MultiBinary):
        return [2] * int(np.prod(space.shape or ()))
    return []


def has_masks(env: VecEnv | gym.Env | str) -> bool:
    """
    :param env: any
    :return: whether it hands out masks of discrete actions, as far as that can be known without harm: SB3's own way to ask a ``VecEnv``
        of somebody else's is to have the method itself sent, which may end a worker
    """
    if not factors(getattr(env, "action_space", None)):
        return False
    if isinstance(env, VecEnv):
        inner = innermost(env)
        if type(inner).has_attr is VecEnv.has_attr and not isinstance(inner, DummyVecEnv):
            return False
    try:
        said = is_masking_supported(env)  # type: ignore[arg-type]
    except Exception:
        return False
    return isinstance(said, (bool, np.bool_)) and bool(said)


def check_no_masks(env: VecEnv | gym.Env | str, who: str) -> None:
    """
    :param env: any
    :param who: would play and learn there without heeding masks, for the message
    :raises ValueError: if it hands out masks
    """
    if has_masks(env):
        raise ValueError(
            f"The environment says which actions are allowed (action_masks()), and {who} does not heed it: forbidden ones would be taken. "
            "Students that do are those of MaskablePPO's machinery, NDistillMaskablePPO and the other rows, engine='maskable_ppo'."
        )


def masks_now(env: VecEnv, when: str) -> np.ndarray:
    """
    :param env: that hands out masks
    :param when: for messages, such as ``"in step 3 of this rollout"``
    :return: of its present states, of booleans, shape (n_envs, columns)
    :raises ValueError: as :func:`checked_masks`
    """
    return checked_masks(env.env_method(METHOD), env.action_space, when)


def checked_masks(masks: Sequence[Any], space: spaces.Space, when: str, first: int = 0) -> np.ndarray:
    """
    :param masks: of n environments, each of flags of any shape that holds them
    :param space: of actions
    :param when: for messages
    :param first: the number of the first of these environments
    :return: the masks as booleans, a new array of shape (n, columns)
    :raises ValueError: for a mask of another size, with other numbers than 0 and 1, or that leaves no action: which environment, which
        step
    """
    sizes = factors(space)
    arrays = [_as_array(mask) for mask in masks]
    for i, array in enumerate(arrays):
        if array.size != sum(sizes) or array.dtype.kind not in "biuf":
            what = f"of shape {array.shape}" if array.dtype.kind in "biuf" else "no array of flags"
            raise ValueError(
                f"The action mask of environment {first + i} {when} is {what}, and that of {space} has {sum(sizes)} flags"
                f"{_layout(space)}. Mend its action_masks()."
            )
    flags = np.stack([array.reshape(-1) for array in arrays])
    if flags.dtype.kind != "b":
        wrong = (flags != 0) & (flags != 1)  # of NaN, too
        if wrong.any():
            i, column = np.argwhere(wrong)[0].tolist()
            raise ValueError(
                f"The action mask of environment {first + i} {when} has {flags[i, column]} for action {column}: a flag is True (1) for "
                "what is allowed, or False (0). Mend its action_masks()."
            )
        flags = flags.astype(bool)
    starts = np.cumsum([0, *sizes[:-1]])
    none_left = ~np.logical_or.reduceat(flags, starts, axis=1)
    if none_left.any():
        i, factor = np.argwhere(none_left)[0].tolist()
        of = f" in factor {factor} of {len(sizes)}" if len(sizes) > 1 else ""
        raise ValueError(
            f"The action mask of environment {first + i} {when} forbids all {sizes[factor]} actions{of}: there has to be one that is "
            "allowed. Mend its action_masks(), or end the episode in such a state."
        )
    return flags


def _as_array(mask: Any) -> np.ndarray:
    try:
        return np.asarray(mask)
    except ValueError:  # rows of different lengths
        return np.asarray(None)


def _layout(space: spaces.Space) -> str:
    if isinstance(space, spaces.MultiDiscrete):
        return ", of one factor after the other in one array"
    return ", for 0 and 1 of one factor after the other" if isinstance(space, spaces.MultiBinary) else ""


def forbidden(space: spaces.Space, masks: np.ndarray, actions: Any) -> np.ndarray:
    """
    :param space: of actions
    :param masks: of n environments, of booleans, shape (n, columns)
    :param actions: n of them
    :return: which of the actions are not allowed, shape (n,)
    """
    starts = np.cumsum([0, *factors(space)[:-1]])
    columns = np.asarray(actions).reshape(len(masks), -1).astype(int) + starts
    return np.logical_not(np.take_along_axis(masks, columns, axis=1)).any(axis=1)


def mask_in(info: dict[str, Any]) -> Any:
    """
    :param info: of a step
    :return: the mask of the state that it has led to, if it has that
    """
    return next((info[name] for name in IN_INFO if info.get(name) is not None), None)


def allowed_action(space: spaces.Space, mask: np.ndarray) -> np.ndarray:
    """
    :param space: of one environment's actions; its own random state is drawn from
    :param mask: of its state, shape (columns,)
    :return: a uniformly random one of the allowed actions, as SB3's algorithms hand it to an environment
    """
    flags = mask.astype(np.int8)
    chosen: Any
    if isinstance(space, spaces.Discrete):
        chosen = flags
    elif isinstance(space, spaces.MultiDiscrete):
        chosen = tuple(np.split(flags, np.cumsum(factors(space))[:-1]))
        if space.nvec.ndim > 1:
            raise ValueError(f"No action of {space} can be drawn under a mask: flatten the space.")
    else:
        pairs = flags.reshape(*(space.shape or ()), 2)
        chosen = np.where(pairs.all(-1), 2, pairs[..., 1]).astype(np.int8)  # 2 for either
    action, start = np.asarray(space.sample(mask=chosen)), first_action(space)
    return action - start if np.any(start) else action


@contextmanager
def told_at_time_limits(env: VecEnv) -> Iterator[None]:
    """
    A context in which the info of a step that a time limit cut says which actions are allowed in the state that it led to, which
    nobody can ask for after the reset that SB3's environments make at once. Of environments in this process.

    :param env: that hands out masks
    """
    inner: Any = innermost(env)
    vectorised = getattr(getattr(inner, "venv", None), "unwrapped", None)
    single = getattr(inner, "envs", None) or getattr(vectorised, "envs", None) or []
    with ExitStack() as stack:
        for one in single:
            if isinstance(one, gym.Env):
                stack.enter_context(replaced(one, "step", partial(_step, one, one.step)))
        yield


def _step(env: gym.Env, step: Any, action: Any) -> Any:
    obs, reward, terminated, truncated, info = step(action)
    if truncated and not terminated and mask_in(info) is None:
        info = info | {IN_INFO[0]: env.get_wrapper_attr(METHOD)()}
    return obs, reward, terminated, truncated, info
