"""Which environments show stacks of frames, and where these are kept."""

from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecFrameStack

from sb3_distill.common.frames import FrameLog
from sb3_distill.common.observations import ObservationLog
from sb3_distill.envs.atari import AtariVecEnv


def frame_stack_of(env: VecEnv) -> int | None:
    """
    :param env: any stack of wrappers
    :return: how many frames an observation is made of, older ones than an episode's first being zero, as SB3's
        ``VecFrameStack`` makes it; None if it is not made of frames
    """
    layer = env
    while isinstance(layer, VecEnvWrapper) and not isinstance(layer, VecFrameStack):
        layer = layer.venv
    if isinstance(layer, VecFrameStack):
        n_stack = layer.stacked_obs.n_stack if not isinstance(layer.observation_space, spaces.Dict) else None
    else:
        n_stack = layer.venv.frame_stack if isinstance(layer, AtariVecEnv) else None
    space = env.observation_space
    if n_stack is None or not isinstance(space, spaces.Box) or not is_image_space(space):
        return None
    # SB3 puts channels first, outside of VecFrameStack: an environment that it has not wrapped yet may have them last.
    return n_stack if is_image_space_channels_first(space) else None


def observation_log(env: VecEnv, n_steps: int) -> ObservationLog | FrameLog:
    """
    :param env: whose observations are to be kept
    :param n_steps: how many steps
    :return: an empty log, in which each frame is kept once if observations are stacks of frames
    """
    n_stack, shape = frame_stack_of(env), env.observation_space.shape
    if n_stack is None or shape is None:
        return ObservationLog()
    return FrameLog(n_steps, env.num_envs, n_stack, shape)
