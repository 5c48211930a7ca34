"""Where an agent plays: in the environment that its files tell, or in the one that the user names."""

from collections.abc import Mapping
from typing import Any

from sb3_distill.arguments import import_environment, split_module
from sb3_distill.env_ids import register_ale
from sb3_distill.zoo.run_settings import environment_named
from sb3_distill.zoo.settings import Training, usual_training
from sb3_distill.zoo.teachers import Agent, read_training_of


def training_of(agent: Agent, source: str, env: str | None, env_kwargs: Mapping[str, Any]) -> Training:
    """
    :param agent: whose files tell where it was trained, if any does
    :param source: as the user calls it, for messages
    :param env: ``ID`` or ``MODULE:ID``; None for the environment that the files tell. In that very environment an agent has what its
        training had: stacked frames, wrappers, arguments; in another one what is usual there
    :param env_kwargs: of the environment, which win over those of its training
    :return: where it plays
    :raises ValueError: if nothing tells it, or there is no such environment; also ImportError
    """
    trained = read_training_of(agent)
    if env is not None:
        env_id = import_environment(env)
        if trained is None or trained.env_id != env_id:
            # What is around a Q-network's frames is in its files even if the name of the environment is not.
            trained = usual_training(env_id) if trained is None or trained.env_id else trained._replace(env_id=env_id)
    if trained is None or trained.env_id is None:
        named = environment_named(agent.run) if agent.run else None
        if named is not None and ":" in named:
            raise ValueError(
                f"{source} was trained in {named}: add --env {named} if you trust that module, which is imported then."
            )
        raise ValueError(f"Nothing says where {source} was trained: add --env.")
    if env_kwargs:
        register_ale(split_module(trained.env_id)[1])
        trained = trained._replace(env_kwargs={**trained.env_kwargs, **env_kwargs})
    return trained
