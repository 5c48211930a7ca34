"""Where an agent that is exported can meet observations, if an environment is at hand."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from sb3_distill.agents.training import usual_training
from sb3_distill.common.own_env import find_environment
from sb3_distill.common.spaces import check_spaces
from sb3_distill.common.user_code import first_line
from sb3_distill.exporting.agent import Exportable, as_asked, as_env_shows, as_made, exportable
from sb3_distill.exporting.observations import N_ENVS
from sb3_distill.exporting.recipe import Recipe

#: makes n environments
MakeEnv = Callable[[int], VecEnv]


@contextmanager
def prepared(
    source: Any,
    env: "str | VecEnv | gym.Env | MakeEnv | None",
    vec_normalize: "str | Path | VecNormalize | None",
    layout: str | None,
) -> Iterator[tuple[Exportable, Recipe, VecEnv | None]]:
    """
    A context with all that an export needs.

    :param source: of the agent
    :param env: an id, an environment, or what makes n of them; None for that of the source's files
    :param vec_normalize: statistics, if they were given
    :param layout: of images, if it was given
    :return: the agent, what it does, and environments, if some are at hand: those that are made are closed in the end
    :raises ValueError: for what does not go together
    """
    given = _given(env)
    make_env = _maker(env)
    agent = exportable(source, vec_normalize=vec_normalize, make_env=make_env)
    as_asked(agent, layout)  # or it raises, before an environment is made
    mode = agent.policy.training  # which predict changes
    venv = given if given is not None else _made(agent, asked_for=make_env is not None)
    try:
        if venv is not None:
            _check(agent, venv)
            agent = as_env_shows(agent, venv)
        agent = as_asked(agent, layout)
        yield agent, Recipe(agent.policy, agent.statistics, agent.observation_space), venv
    finally:
        agent.policy.set_training_mode(mode)
        if venv is not None and given is None:
            venv.close()


def _given(env: Any) -> VecEnv | None:
    """What was given, if it is an environment: without what the file has itself."""
    if isinstance(env, gym.Env):
        return DummyVecEnv([lambda: env])
    return as_made(env) if isinstance(env, VecEnv) else None


def _maker(env: Any) -> MakeEnv | None:
    if env is None or isinstance(env, (VecEnv, gym.Env)):
        return None
    if isinstance(env, str):
        return usual_training(find_environment(env)).make_vec_env
    if callable(env):
        return env  # type: ignore[no-any-return]
    raise ValueError(f"env must be the id of an environment or an environment, not {type(env).__name__}.")


def _made(agent: Exportable, asked_for: bool) -> VecEnv | None:
    """Environments; None if there are none, which is a warning, or an error for those that were asked for."""
    if agent.make_env is None:
        return None
    try:
        return agent.make_env(N_ENVS)
    except Exception as error:
        if asked_for:
            raise
        warnings.warn(
            f"No environment of {agent.name} is at hand ({first_line(error)}): the file is checked by observations drawn from the space "
            "alone. Give env=… to have some that are met in play."
        )
        return None


def _check(agent: Exportable, env: VecEnv) -> None:
    mine = agent.policy.observation_space, agent.policy.action_space
    check_spaces(agent.name, *mine, env.observation_space, env.action_space, who="agent")
