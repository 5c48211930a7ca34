"""From files to a policy and the settings that it was trained with."""

import warnings
from functools import partial
from pathlib import Path
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_distill.agents.checkpoint import Checkpoint, in_short
from sb3_distill.agents.errors import CheckpointError
from sb3_distill.agents.find import (
    Agent,
    read_training_of,
)
from sb3_distill.agents.goals import by_key, is_joined
from sb3_distill.agents.layout import holds_statistics
from sb3_distill.agents.normalization import (
    NormalizeStatistics,
    check_observations,
    normalize_statistics,
    read_vecnormalize,
    undoing,
)
from sb3_distill.agents.own_classes import remedy
from sb3_distill.agents.policy_file import read_agent
from sb3_distill.agents.saved_policy import POLICIES, build_policy
from sb3_distill.agents.training import Training


def _make_no_env_of_a_name(name: str, env_id: str, n_envs: int) -> VecEnv:
    """What was saved under such a name may have learnt with other arguments, in other wrappers, or elsewhere."""
    raise ValueError(
        f"That {name} is of {env_id!r} is only what its name sounds like, and no environment is made of that: give load_teacher "
        "env_id=… to say so."
    )


def policy_and_settings(
    agent: Agent, checkpoint: Checkpoint | None = None, vec_normalize: "str | Path | VecNormalize | None" = None
) -> tuple[BasePolicy, dict[str, Any]]:
    """
    A teacher's policy, and all else that its files say about it.

    :param agent: where they are
    :param checkpoint: if it was read before
    :param vec_normalize: statistics that come before those of the files
    :return: the policy, on the CPU, and arguments of :class:`Teacher`
    :raises CheckpointError: if a file is damaged, missing, or of another agent
    """
    kwargs: dict[str, Any] = {"name": agent.name, "env_id": None}
    trained = read_training_of(agent)
    if trained is not None:
        kwargs["env_id"] = trained.env_id
        if trained.env_id is not None and not trained.plain:
            kwargs["make_env"] = trained.make_vec_env
            kwargs["vec_wrapper"] = trained.observe
        if trained.env_id is not None and agent.guessed:
            kwargs["make_env"] = partial(_make_no_env_of_a_name, agent.name, trained.env_id)
    if trained is not None and trained.normalized and not agent.vec_normalize and vec_normalize is None:
        place = (agent.config or agent.checkpoint).parent
        usual = "vec_normalize.pkl" if place == agent.checkpoint.parent else "vecnormalize.pkl"
        raise CheckpointError(
            f"{agent.checkpoint} was trained on normalised observations (normalize in its config.yml), and {place / usual} is "
            "missing: put it there, or give load_teacher vec_normalize=PATH."
        )
    checkpoint = checkpoint or read_agent(agent.checkpoint)
    if trained is not None and trained.normalized and len(agent.vec_normalize) == 1 and vec_normalize is None:
        means = read_vecnormalize(agent.vec_normalize[0]).obs_mean
        checkpoint = by_key(checkpoint, means) if is_joined(checkpoint, means) else checkpoint
    policy = rebuild(checkpoint)
    kwargs["gamma"] = checkpoint.gamma
    statistics = statistics_of(agent, trained, checkpoint, policy.observation_space, vec_normalize)
    if statistics is not None:
        kwargs |= undoing(statistics)
    return policy, kwargs


def statistics_of(
    agent: Agent,
    trained: Training | None,
    checkpoint: Checkpoint,
    seen: spaces.Space,
    given: "str | Path | VecNormalize | None",
) -> NormalizeStatistics | None:
    """
    :param agent: whose statistics they are
    :param trained: what its settings say
    :param checkpoint: what its zip says
    :param seen: what its policy sees
    :param given: statistics that come before those of the files
    :return: they; None for an agent of plain observations
    :raises CheckpointError: if they are missing, damaged, several or of other observations
    """
    frames = trained.frame_stack if trained is not None else 1
    if given is not None:
        return read_given(given, seen, frames)
    if trained is not None and agent.config is not None and not trained.normalized and not checkpoint.was_normalized:
        return None
    sure = trained is not None and trained.normalized
    paths = [path for path in agent.vec_normalize if sure or holds_statistics(path)]
    if not paths:
        if checkpoint.was_normalized:
            warnings.warn(
                f"{agent.checkpoint} was trained under a VecNormalize, and no statistics are beside it: it is asked about "
                "observations as they are, and may play badly. Give load_teacher vec_normalize=PATH.",
                stacklevel=2,
            )
        return None
    read = {path: read_vecnormalize(path) for path in paths}
    if len(paths) > 1:  # those of other observations are another agent's
        read = {path: found for path, found in read.items() if _fits(found, seen, frames)} or read
    if len(read) > 1:
        raise CheckpointError(
            f"Which statistics are {agent.checkpoint}'s? There are {', '.join(map(str, read))}: give load_teacher "
            "vec_normalize=PATH."
        )
    ((path, statistics),) = read.items()
    try:
        check_observations(statistics, seen, str(path), frames)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error} If they are another agent's, move them elsewhere, or give load_teacher vec_normalize=PATH."
        ) from None
    return statistics


def read_given(given: "str | Path | VecNormalize", seen: spaces.Space, frame_stack: int = 1) -> NormalizeStatistics:
    """
    :param given: a ``vecnormalize.pkl``, or a live ``VecNormalize``
    :param seen: what the policy sees
    :param frame_stack: how many frames that is, where each was normalised before
    :return: its statistics
    :raises FileNotFoundError: if there is no such file
    :raises CheckpointError: if it is damaged, or of other observations
    :raises ValueError: if it is neither
    """
    if not isinstance(given, (str, Path, VecNormalize)):
        raise ValueError(f"vec_normalize is {_in_a_line(given)}: give a path to a vecnormalize.pkl, or a VecNormalize.")
    if isinstance(given, VecNormalize):
        statistics, name = normalize_statistics(given), "vec_normalize"
    else:
        path = Path(given).expanduser()
        if not path.is_file():
            raise FileNotFoundError(
                f"No VecNormalize statistics at {str(given)!r}: vec_normalize takes a path to a pickle."
            )
        statistics, name = read_vecnormalize(path), str(path)
    check_observations(statistics, seen, name, frame_stack)
    return statistics


def _fits(statistics: NormalizeStatistics, seen: spaces.Space, frame_stack: int) -> bool:
    try:
        check_observations(statistics, seen, "", frame_stack)
    except CheckpointError:
        return False
    return True


def _in_a_line(given: Any) -> str:
    return f"{type(given).__name__} {' '.join(repr(given).split())[:80]}"


def rebuild(checkpoint: Checkpoint) -> BasePolicy:
    """
    :param checkpoint: as it was read
    :return: its policy, on the CPU
    :raises CheckpointError: if it is none of SB3's, or the weights do not fit it
    """
    policy_class = POLICIES.get(checkpoint.policy_class)
    if policy_class is None:
        raise CheckpointError(
            f"{checkpoint.path} has a policy of its own, {checkpoint.policy_class}, "
            f"{remedy(checkpoint.path, checkpoint.algorithm)}"
        )
    try:
        return build_policy(
            policy_class,
            checkpoint.observation_space,
            checkpoint.action_space,
            checkpoint.policy_kwargs,
            checkpoint.weights,
        )
    except Exception as error:  # SB3 builds a network from hostile sizes and spaces until something breaks
        raise CheckpointError(
            f"{checkpoint.path} has weights that do not fit the network it describes: {in_short(error)}"
        ) from error
