"""An environment as a trained model reads it: with the statistics of ``VecNormalize`` that it has learnt with."""

import copy
from collections.abc import Callable

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import (
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    unwrap_vec_normalize,
)

from sb3_distill.common.articles import with_article
from sb3_distill.common.given_env import made
from sb3_distill.common.layers import innermost
from sb3_distill.common.spaces import same_kind, signature

#: what need not be around an environment that is only played: SB3's ``predict`` turns images around itself
_NOT_NEEDED = (VecCheckNan, VecMonitor, VecTransposeImage)


def seen_by(model: BaseAlgorithm, env: VecEnv) -> VecEnv:
    """
    Give an environment to play in the ``VecNormalize`` of the one that a model was trained in, and what was around that.

    :param model: trained, or in training; nothing of its own environment changes
    :param env: as a function that makes environments returns it: without a ``VecNormalize``, or in the wrappers of training, whose
        ``VecNormalize`` is given the model's statistics
    :return: ``env`` itself where the model has learnt without ``VecNormalize``, else the environment with normalised observations and
        rewards as they are; its statistics are a copy, and stand still
    :raises ValueError: if it has other spaces than the model, there is a wrapper around the model's ``VecNormalize`` that cannot be
        made again, or the observations are others than it has statistics of
    """
    trained = model.get_vec_normalize_env()
    if trained is None:
        _check_fit(model, env)
        return env
    frozen = unwrap_vec_normalize(env)
    if frozen is None:
        if signature(env.observation_space) != signature(trained.venv.observation_space):
            raise ValueError(
                f"The environment shows {env.observation_space}, and the model was trained with a VecNormalize around "
                f"{trained.venv.observation_space}: make the environment with the wrappers of training."
            )
        frozen = VecNormalize(
            env,
            norm_obs=trained.norm_obs,
            clip_obs=trained.clip_obs,
            epsilon=trained.epsilon,
            norm_obs_keys=trained.norm_obs_keys,
        )
        env = _around(model.env, trained, frozen)
    elif (
        frozen is trained
    ):  # the environment of training itself, which goes on to learn: a second reader of what is beneath it
        frozen = copy.copy(trained)
        frozen.set_venv(trained.venv)
        env = _around(env, trained, frozen)
    frozen.training = frozen.norm_reward = False
    if trained.norm_obs:
        frozen.obs_rms = copy.deepcopy(trained.obs_rms)
    _check_fit(model, env)
    return env


def made_for(model: BaseAlgorithm, make: Callable[[int], VecEnv], n_envs: int) -> VecEnv:
    """
    New environments to evaluate a model in, which are reset, played and closed.

    :param model: see :func:`seen_by`
    :param make: a function that makes as many environments as it is asked for
    :param n_envs: how many
    :return: as the model reads them
    :raises ValueError: if these are those of training, whose episodes would end, and as :func:`seen_by` does
    """
    env = make(n_envs)
    if model.env is not None and isinstance(env, VecEnv) and innermost(env) is innermost(model.env):
        raise ValueError(
            "The environment to evaluate in is the one of training, which would be reset and closed in the middle of its episodes: "
            "give a function that makes new ones, or the Gymnasium id."
        )
    return seen_by(model, made(lambda n: env, n_envs))


def _check_fit(model: BaseAlgorithm, env: VecEnv) -> None:
    for kind, mine, theirs in (
        ("observation", model.observation_space, env.observation_space),
        ("action", model.action_space, env.action_space),
    ):
        if not same_kind(mine, theirs):
            raise ValueError(
                f"The environment does not fit the {type(model).__name__} that is to play in it: its {kind} space is {theirs}, the "
                f"model's is {mine}. Make it with the wrappers of training."
            )


def _around(layer: VecEnv | None, trained: VecNormalize, frozen: VecNormalize) -> VecEnv:
    """The frozen one in the wrappers that are around the trained one."""
    wrappers: list[VecEnvWrapper] = []
    while isinstance(layer, VecEnvWrapper) and layer is not trained:
        wrappers.append(layer)
        layer = layer.venv
    env: VecEnv = frozen
    for wrapper in reversed(wrappers):
        if isinstance(wrapper, VecFrameStack):
            env = VecFrameStack(env, wrapper.stacked_obs.n_stack)
        elif not isinstance(wrapper, _NOT_NEEDED):
            raise ValueError(
                f"The model was trained with {with_article(type(wrapper).__name__)} around its VecNormalize: make the environment with the "
                "wrappers of training, VecNormalize among them."
            )
    return env
