"""Which environments show stacks of frames."""

from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecFrameStack

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
    shape = env.observation_space.shape
    # SB3 has put the channels first by now, unless the images are none to it
    return (
        n_stack if n_stack is not None and shape is not None and len(shape) == 3 and shape[0] % n_stack == 0 else None
    )
