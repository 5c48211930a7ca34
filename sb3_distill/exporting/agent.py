"""What is exported: an agent with all that it needs to read an environment's observations, wherever it comes from."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize, VecTransposeImage

from sb3_distill.agents import normalization
from sb3_distill.agents.load import FAMILIES, _policy_of, family_of
from sb3_distill.common.articles import with_article
from sb3_distill.common.observations import each_part
from sb3_distill.common.spaces import signature
from sb3_distill.evaluation.episodes import make_plain_envs
from sb3_distill.teachers.teacher import Teacher

LAYOUTS = ("channels-first", "channels-last")


class Exportable(NamedTuple):
    """An agent, as it is exported.

    :param policy: on the CPU
    :param statistics: of its ``VecNormalize``
    :param observation_space: the environment's own
    :param name: for messages and metadata
    :param env_id: where it was trained, if that is known
    :param make_env: makes n environments with its observations, before normalisation; None if nothing says which
    :param model: with a ``predict`` of its own, if it is one
    """

    policy: BasePolicy
    statistics: normalization.NormalizeStatistics | None
    observation_space: spaces.Space
    name: str
    env_id: str | None = None
    make_env: Callable[[int], VecEnv] | None = None
    model: BaseAlgorithm | None = None

    def predict(self, obs: Any, **more: Any) -> tuple[np.ndarray, Any]:
        """
        What SB3 answers.

        :param obs: n observations as the environment gives them
        :param more: ``state`` and ``episode_start``, or ``action_masks``
        :return: actions and state
        """
        if self.statistics is not None and self.statistics.obs_mean is not None:
            obs = normalization.Normalizer(self.statistics)(obs)
        player: Any = self.policy if self.model is None else self.model
        with th.no_grad():
            return player.predict(obs, deterministic=True, **more)  # type: ignore[no-any-return]

    @property
    def is_recurrent(self) -> bool:
        """Whether it remembers."""
        return isinstance(self.policy, RecurrentActorCriticPolicy)

    @property
    def is_masked(self) -> bool:
        """Whether it can be told which actions are allowed."""
        return isinstance(self.policy, MaskableActorCriticPolicy)


def exportable(
    source: Any,
    *,
    vec_normalize: str | Path | VecNormalize | None = None,
    env: VecEnv | None = None,
    make_env: Callable[[int], VecEnv] | None = None,
    layout: str | None = None,
) -> Exportable:
    """
    :param source: as :func:`~sb3_distill.load_teacher` takes it
    :param vec_normalize: statistics, where they are others than the source tells
    :param env: whose observations it reads
    :param make_env: makes n such environments
    :param layout: of images, where no environment is at hand to tell it
    :return: it
    :raises ValueError: for what cannot be exported; also OSError and CheckpointError
    """
    if layout not in (None, *LAYOUTS):
        raise ValueError(f"layout must be {' or '.join(map(repr, LAYOUTS))}, not {layout!r}.")
    model = source if isinstance(source, BaseAlgorithm) else None
    if isinstance(source, Teacher):
        policy, kwargs = _of_teacher(source)
    else:
        policy, kwargs = _policy_of(source, vec_normalize, "cpu")
    if not isinstance(policy, BasePolicy) or family_of(type(policy)) is None:
        known = ", ".join(sorted({known.__name__ for known, _ in FAMILIES}))
        own = with_article(type(policy).__name__)
        raise ValueError(
            f"Cannot export {kwargs['name']}: its policy is {own}, and what can be exported has one of {known}."
        )
    statistics = _statistics(kwargs.get("normalize_obs"), kwargs["name"])
    if policy.device.type != "cpu":
        policy, model = copy.deepcopy(policy).to("cpu"), None
    wrap = kwargs.get("vec_wrapper")
    if make_env is None and isinstance(source, (str, Path)):
        make_env = kwargs.get("make_env")
        if make_env is None and kwargs.get("env_id") is not None:
            make_env = partial(make_plain_envs, kwargs["env_id"])
    if make_env is not None:
        make_env = partial(as_agent_reads, policy.observation_space, make_env, wrap)
    raw = _raw_space(policy.observation_space, model, env, statistics)
    if layout is not None:
        raw = laid_out(policy.observation_space, layout)
    return Exportable(policy, statistics, raw, kwargs["name"], kwargs.get("env_id"), make_env, model)


def as_agent_reads(
    space: spaces.Space, make_env: Callable[[int], VecEnv], wrap: Callable[[VecEnv], VecEnv] | None, n_envs: int
) -> VecEnv:
    """
    :param space: of the agent's observations
    :param make_env: makes n environments
    :param wrap: what training put around them
    :param n_envs: n
    :return: they, with what training put around its own if they lack it
    """
    env = make_env(n_envs)
    return wrap(env) if wrap is not None and signature(env.observation_space) != signature(space) else env


def as_made(env: VecEnv) -> VecEnv:
    """
    :param env: any stack of wrappers
    :return: what is beneath its lowest ``VecNormalize`` or ``VecTransposeImage``: both are in the file
    """
    raw, layer = env, env
    while isinstance(layer, VecEnvWrapper):
        if isinstance(layer, (VecNormalize, VecTransposeImage)):
            raw = layer.venv
        layer = layer.venv
    return raw


def laid_out(space: spaces.Space, layout: str) -> spaces.Space:
    """
    :param space: of the policy, images channels first
    :param layout: of ``LAYOUTS``
    :return: the environment's, if its images are laid out so
    """
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: laid_out(sub, layout) for key, sub in space.spaces.items()})
    if layout == "channels-first" or not isinstance(space, spaces.Box) or len(space.shape) != 3:
        return space
    low, high = (np.moveaxis(bound, 0, -1) for bound in (space.low, space.high))
    return spaces.Box(low, high, dtype=space.dtype)  # type: ignore[arg-type]


def _of_teacher(teacher: Teacher) -> tuple[Any, dict[str, Any]]:
    kwargs = {name: getattr(teacher, name, None) for name in ("name", "env_id", "normalize_obs", "vec_wrapper")}
    return getattr(teacher, "policy", None), kwargs


def _statistics(normalize: Any, name: str) -> normalization.NormalizeStatistics | None:
    if normalize is None or isinstance(normalize, normalization.Normalizer):
        return None if normalize is None else normalize.statistics
    raise ValueError(
        f"Cannot export {name}: its normalize_obs is {type(normalize).__name__}, a function of Python, and no file can hold that. "
        "Statistics of a VecNormalize can be exported."
    )


def _raw_space(
    own: spaces.Space,
    model: BaseAlgorithm | None,
    env: VecEnv | None,
    statistics: normalization.NormalizeStatistics | None,
) -> spaces.Space:
    """Of the environment, as far as one is at hand: it may give images channels last where the policy has them first."""
    if env is None and model is not None and isinstance(model.env, VecEnv):
        env = model.env
    if env is None:
        means = None if statistics is None else statistics.obs_mean
        return _as_normalized(own, means)
    return raw_space(own, env)


def raw_space(own: spaces.Space, env: VecEnv) -> spaces.Space:
    """
    :param own: of an agent's observations
    :param env: that it plays in
    :return: the environment's own, where it may give images channels last
    """
    raw = as_made(env).observation_space
    return raw if signature(raw) == signature(own) else own


def _as_normalized(own: spaces.Space, means: Any) -> spaces.Space:
    """A space whose images are laid out as the statistics of ``VecNormalize`` are, which saw the environment's."""
    if isinstance(own, spaces.Dict):
        means = means or {}
        return spaces.Dict({key: _as_normalized(sub, means.get(key)) for key, sub in own.spaces.items()})
    shape = tuple(own.shape or ())
    last = np.ndim(means) == 3 and np.shape(means) != shape and np.shape(means)[:2] == shape[1:]
    return laid_out(own, "channels-last") if last else own


def cast(obs: Any, space: spaces.Space) -> Any:
    """
    :param obs: n observations
    :param space: theirs
    :return: the same, of its dtypes
    """
    if isinstance(space, spaces.Dict):
        return {key: np.asarray(obs[key]).astype(sub.dtype, copy=False) for key, sub in space.spaces.items()}
    return each_part(obs, lambda values: np.asarray(values).astype(space.dtype, copy=False))
