"""Where an agent plays: in the environment that its files tell, or in the one that the user names."""

import re
from collections.abc import Mapping
from typing import Any

from sb3_distill.agents.find import Agent, args_of, read_training_of
from sb3_distill.agents.run_settings import environment_named
from sb3_distill.agents.training import Training, usual_training
from sb3_distill.common.env_ids import register_ale
from sb3_distill.common.own_env import import_environment, split_module

#: an environment of a module, as it is typed
_OF_MODULE = re.compile(r"[\w.]{1,200}:[\w./-]{1,200}")


def training_of(agent: Agent, source: str, env: str | None, env_kwargs: Mapping[str, Any]) -> Training:
    """
    :param agent: whose files tell where it was trained, if any does
    :param source: as the user calls it, for messages
    :param env: ``ID`` or ``MODULE:ID``; None for the environment that the files tell, see :func:`training_in`
    :param env_kwargs: of the environment, which win over those of its training
    :return: where it plays
    :raises ValueError: if nothing tells it, or there is no such environment; also ImportError
    """
    if env is not None:
        trained = training_in(agent, import_environment(env))
    else:
        known = read_training_of(agent)
        if known is None or known.env_id is None:
            raise ValueError(of_unknown_module(agent, source) or f"Nothing says where {source} was trained: add --env.")
        trained = known
    if env_kwargs:
        register_ale(split_module(str(trained.env_id))[1])
        trained = trained._replace(env_kwargs={**trained.env_kwargs, **env_kwargs})
    return trained


def training_in(agent: Agent, env_id: str) -> Training:
    """
    :param agent: whose files tell where it was trained, if any does
    :param env_id: where it plays now, without a module
    :return: in the environment of its training, what that had: stacked frames, wrappers, arguments; in another one what is usual
        there. What is around a Q-network's frames may be in its files even if the name of the environment is not
    """
    trained = read_training_of(agent)
    if trained is None:
        return usual_training(env_id)
    named = trained.env_id or _named(agent).rpartition(":")[2]
    return trained._replace(env_id=env_id) if named in ("", env_id) else usual_training(env_id)


def environment_of(agent: Agent) -> str | None:
    """
    :param agent: whose files tell where it was trained, if any does
    :return: the environment's id, for messages
    """
    trained = read_training_of(agent)
    named = None if trained is None else trained.env_id
    return named or _named(agent).rpartition(":")[2] or None


def of_unknown_module(agent: Agent, source: str) -> str | None:
    """
    :param agent: whose files do not name a registered environment
    :param source: as the user calls it
    :return: how to say where it was trained, if its files name a module for it: they cannot have it imported
    """
    named = _named(agent)
    if not _OF_MODULE.fullmatch(named):
        return None
    return f"{source} was trained in {named}: add --env {named} if you trust that module, which is imported then."


def _named(agent: Agent) -> str:
    """The environment as an agent's files name it, with the module if they do; empty if they do not."""
    named = environment_named(agent.run) if agent.run else args_of(agent.args).get("env", agent.env_id)
    return named if isinstance(named, str) else ""
