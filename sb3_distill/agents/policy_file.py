"""Reads what ``policy.save`` of SB3 writes, ``policy.pt``, without running it: a pickle of constructor arguments beside the weights."""

from pathlib import Path
from typing import Any

from sb3_distill.agents.checkpoint import Checkpoint, in_short, read_checkpoint
from sb3_distill.agents.errors import CheckpointError
from sb3_distill.agents.own_classes import OwnClassError, remedy
from sb3_distill.agents.saved_policy import ARGUMENTS, read_policy_kwargs
from sb3_distill.agents.saved_spaces import read_pickled_space
from sb3_distill.agents.saved_weights import read_weights_and_more
from sb3_distill.agents.unpickling import Name

#: bytes of the largest file that is read
MAX_FILE = 1 << 30
#: Which class wrote the file, which does not say so: how names of its weights begin, an argument that it has, and its qualified
#: name. The first line that fits; the layout of its weights is checked as always.
_KINDS = (
    ("quantile_net.", "n_quantiles", "sb3_contrib.qrdqn.policies.QRDQNPolicy"),
    ("q_net.", "net_arch", "stable_baselines3.dqn.policies.DQNPolicy"),
    ("lstm_actor.", "net_arch", "sb3_contrib.common.recurrent.policies.RecurrentActorCriticPolicy"),
    ("value_net.", "use_sde", "stable_baselines3.common.policies.ActorCriticPolicy"),
    ("value_net.", "net_arch", "sb3_contrib.common.maskable.policies.MaskableActorCriticPolicy"),
    ("actor.log_std", "n_quantiles", "sb3_contrib.tqc.policies.TQCPolicy"),
    ("actor.log_std", "batch_norm_momentum", "sb3_contrib.crossq.policies.CrossQPolicy"),
    ("actor.log_std", "use_sde", "stable_baselines3.sac.policies.SACPolicy"),
    ("actor.mu.", "n_critics", "stable_baselines3.td3.policies.TD3Policy"),
)


def read_agent(path: Path) -> Checkpoint:
    """
    :param path: an SB3 zip, or a file of ``policy.save``
    :return: its contents
    :raises FileNotFoundError: if there is no such file
    :raises CheckpointError: if it is neither, damaged, or of a class that is not known here
    """
    if path.suffix not in (".pt", ".pth"):
        return read_checkpoint(path)
    if not path.is_file():
        raise FileNotFoundError(f"No such policy: {path}")
    if path.stat().st_size > MAX_FILE:
        raise CheckpointError(f"{path} is larger than {MAX_FILE:,} bytes.")
    try:
        weights, more = read_weights_and_more(path.read_bytes())
        if more is None:  # whatever it is, it is not what policy.save writes
            return read_checkpoint(path)
        return _checkpoint(path, weights, more)
    except CheckpointError:
        raise
    except Exception as error:  # hostile entries may raise anything at all
        raise CheckpointError(
            f"{path} cannot be read as a policy: {in_short(error)}. If SB3 loads it, load it and hand over the policy or the model."
        ) from error


def _checkpoint(path: Path, weights: dict[str, Any], data: dict[str, Any]) -> Checkpoint:
    kind = next(
        (name for start, told, name in _KINDS if told in data and any(key.startswith(start) for key in weights)), None
    )
    if kind is None:
        raise ValueError("its weights and arguments are those of no policy that is known here")
    plain = {name: _plain(value) for name, value in data.items() if name in ARGUMENTS and value is not None}
    try:
        policy_kwargs = read_policy_kwargs(plain)
    except OwnClassError as error:
        raise CheckpointError(
            f"{path} cannot be read: policy_kwargs has {error}, {remedy(path, kind.rpartition('.')[2])}"
        ) from error
    return Checkpoint(
        path=path,
        policy_class=kind,
        policy_kwargs=policy_kwargs,
        observation_space=read_pickled_space(data["observation_space"]),
        action_space=read_pickled_space(data["action_space"]),
        weights=weights,
        version="unknown",
    )


def _plain(value: Any) -> Any:
    """A class by its name, which a closed list knows or not."""
    return f"<class '{value.name}'>" if isinstance(value, Name) else value
