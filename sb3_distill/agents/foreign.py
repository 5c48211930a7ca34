"""Checkpoints of other libraries, read without running anything in them: CleanRL's and rsl_rl's.

Weights are read as SB3's are, and the network around them is told by their names and shapes. What no file says is the library's custom:
activation functions, strides, the constant in rsl_rl's normalisation. A further layout is a function more in :data:`LAYOUTS`.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch as th
from torch import nn

from sb3_distill.agents.errors import CheckpointError
from sb3_distill.agents.saved_weights import read_groups
from sb3_distill.common.user_code import first_line

#: suffixes of files that may be such
SUFFIXES = (".cleanrl_model", ".pt", ".pth")
#: the strides of DQN's convolutions, by the size of their kernel
_STRIDES = {8: 4, 4: 2, 3: 1}
#: rsl_rl's, which is in no file of its
_EPS = 1e-2
#: groups of weights of its files
_RSL_RL = ("model_state_dict", "actor_state_dict")
#: where its versions have the statistics of the critic's observations, beside the policy
_CRITICS = ("critic_obs_norm_state_dict", "privileged_obs_norm_state_dict")

Weights = Mapping[str, th.Tensor]


class Foreign(NamedTuple):
    """A network of another library.

    :param name: of its file
    :param network: from observations to answers
    :param answers: of which kind, see :mod:`~sb3_distill.teachers.answer_kinds`
    :param value: from observations to V, where its unit is the environment's reward
    :param of: library and algorithm
    :param doubt: what a user should be warned of, if anything
    :param normalises: whether the statistics of its observations are within
    """

    name: str
    network: nn.Module
    answers: str
    value: nn.Module | None
    of: str
    doubt: str | None = None
    normalises: bool = False


def read_foreign(path: Path) -> Foreign | None:
    """
    :param path: of a file
    :return: the network in it; None if it is of no layout that is known here, as SB3's files are not
    :raises CheckpointError: for a file that says by its name that it is CleanRL's and is not, and if it is damaged
    """
    if path.suffix not in SUFFIXES or not path.is_file():
        return None
    is_named = path.suffix == ".cleanrl_model"
    try:
        groups = read_groups(path.read_bytes())
    except Exception as error:  # a hostile file may raise anything
        if not is_named:
            return None
        raise CheckpointError(f"{path} is damaged, or no file of torch's: {first_line(error)}.") from error
    try:
        found = next((made for layout in LAYOUTS if (made := layout(groups)) is not None), None)
    except Exception as error:  # likewise
        if not is_named and not set(_RSL_RL) & set(groups):  # one of SB3's, whose layers have such names by chance
            return None
        why = f"it has no {first_line(error)}" if isinstance(error, KeyError) else first_line(error)
        of = "a file of CleanRL's" if is_named else "a model of rsl_rl's, whose layout it has"
        raise CheckpointError(
            f"{path} cannot be read as {of}: {why}. Make an nn.Module of its network, load its weights, and give load_teacher that."
        ) from error
    if found is None and is_named:
        names = ", ".join(list(groups.get("", {}))[:4]) or "no weights"
        raise CheckpointError(
            f"{path} is of no layout that is known here: it has {names}. Known are CleanRL's DQN and PPO. For another network, make an "
            "nn.Module of it, load its weights, and give load_teacher that."
        )
    return None if found is None else found._replace(name=str(path))


# --- layouts ----------------------------------------------------------------------------------------------------------


def cleanrl_dqn(groups: Mapping[str, Weights]) -> Foreign | None:
    """:return: CleanRL's ``dqn.py`` and ``dqn_atari.py``: a network of Q-values"""
    weights = groups.get("", {})
    if not weights or not all(re.fullmatch(r"network\.\d+\.(weight|bias)", name) for name in weights):
        return None
    return Foreign("", _Sight(_sequence(weights, "network", nn.ReLU)), "q_values", None, "CleanRL's DQN")


def cleanrl_ppo(groups: Mapping[str, Weights]) -> Foreign | None:
    """:return: CleanRL's ``ppo.py``, ``ppo_atari.py`` and ``ppo_continuous_action.py``"""
    weights = groups.get("", {})
    heads = {name.partition(".")[0] for name in weights}
    if heads == {"actor", "critic"}:
        actor, critic = (_sequence(weights, name, nn.Tanh) for name in ("actor", "critic"))
        return Foreign("", actor, "logits", critic, "CleanRL's PPO")
    if heads == {"network", "actor", "critic"}:
        trunk = _sequence(weights, "network", nn.ReLU, after_last=True)
        policy, value = (_Sight(nn.Sequential(trunk, _layer(weights, name))) for name in ("actor", "critic"))
        return Foreign("", policy, "logits", value, "CleanRL's PPO")
    if heads == {"actor_mean", "actor_logstd", "critic"}:
        doubt = (
            "CleanRL trains such agents under NormalizeObservation, whose statistics are not in the file: without vec_normalize=…, or an "
            "environment that normalises, it may play badly"
        )
        gaussian = _Gaussian(_sequence(weights, "actor_mean", nn.Tanh), weights["actor_logstd"].exp())
        return Foreign("", gaussian, "mean_and_std", None, "CleanRL's PPO", doubt)  # V is of normalised rewards
    return None


def rsl_rl(groups: Mapping[str, Weights]) -> Foreign | None:
    """:return: rsl_rl's ``model_*.pt``: a policy of its three first versions in one group, of later ones in two"""
    if "model_state_dict" in groups:
        weights = groups["model_state_dict"]
        if any(name.startswith(("memory", "student", "teacher")) for name in weights):
            raise ValueError("it is recurrent, or a student of rsl_rl's, which are not read")
        std = weights["std"] if "std" in weights else weights["log_std"].exp()
        actor, critic = (_sequence(weights, name, nn.ELU) for name in ("actor", "critic"))
        mine = _part(weights, "actor_obs_normalizer") or groups.get("obs_norm_state_dict", {})
        beside: Weights = next((groups[name] for name in _CRITICS if name in groups), {})
        theirs = _part(weights, "critic_obs_normalizer") or beside
        known = bool(theirs) or "obs_norm_state_dict" not in groups  # who has one of these has one for the critic
    elif "actor_state_dict" in groups and "critic_state_dict" in groups:
        weights, other = groups["actor_state_dict"], groups["critic_state_dict"]
        param = _part(weights, "distribution")
        std = param["std_param"] if "std_param" in param else param["log_std_param"].exp()
        actor, critic = (_sequence(group, "mlp", nn.ELU) for group in (weights, other))
        mine, theirs, known = _part(weights, "obs_normalizer"), _part(other, "obs_normalizer"), True
    else:
        return None
    same_sight = _inputs(actor) == _inputs(critic)  # it may see what the actor does not
    value = nn.Sequential(_normaliser(theirs), critic) if same_sight and known else None
    policy = _Gaussian(nn.Sequential(_normaliser(mine), actor), std)
    return Foreign("", policy, "mean_and_std", value, "rsl_rl's PPO", normalises=bool(mine))


#: what is known, the first that fits
LAYOUTS: tuple[Callable[[Mapping[str, Weights]], Foreign | None], ...] = (cleanrl_dqn, cleanrl_ppo, rsl_rl)


# --- networks ---------------------------------------------------------------------------------------------------------


def _part(weights: Weights, name: str) -> dict[str, th.Tensor]:
    """What of the weights is beneath a name."""
    return {key.removeprefix(f"{name}."): w for key, w in weights.items() if key.startswith(f"{name}.")}


def _sequence(
    weights: Weights, name: str, activation: Callable[[], nn.Module], after_last: bool = False
) -> nn.Sequential:
    """Layers with an activation after each, but for the last unless that has one, too."""
    numbers = sorted({int(key.partition(".")[0]) for key in _part(weights, name)})
    if not numbers:
        raise ValueError(f"it has no {name}")
    made: list[nn.Module] = []
    for number in numbers:
        layer = _layer(weights, f"{name}.{number}")
        if made and isinstance(layer, nn.Linear) and isinstance(made[-2], nn.Conv2d):
            made.append(nn.Flatten())
        made += [layer, activation()]
    return nn.Sequential(*(made if after_last else made[:-1]))


def _layer(weights: Weights, name: str) -> nn.Module:
    weight, bias = weights[f"{name}.weight"].float(), weights[f"{name}.bias"].float()
    if weight.dim() == 2:
        layer: nn.Module = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0])
    elif weight.dim() == 4 and weight.shape[2] in _STRIDES:
        size = int(weight.shape[2])
        layer = nn.utils.skip_init(nn.Conv2d, weight.shape[1], weight.shape[0], size, stride=_STRIDES[size])
    else:
        raise ValueError(f"its layer {name} has weights of shape {tuple(weight.shape)}")
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


def _inputs(network: nn.Sequential) -> int:
    return int(network[0].weight.shape[1])  # type: ignore[union-attr, index]


class _Sight(nn.Module):
    """Images as CleanRL's networks see them, in [0, 1] and channels first; all else as it is."""

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.network = network
        first = next(module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear)))
        self.channels = first.in_channels if isinstance(first, nn.Conv2d) else None

    def forward(self, obs: th.Tensor) -> th.Tensor:
        if self.channels is None:
            return self.network(obs)
        if obs.shape[1] != self.channels and obs.shape[-1] == self.channels:
            obs = obs.permute(0, 3, 1, 2)
        return self.network(obs.float() / 255)


class _Gaussian(nn.Module):
    """A mean for each state, and the same standard deviation in all."""

    std: th.Tensor

    def __init__(self, mean: nn.Module, std: th.Tensor) -> None:
        super().__init__()
        self.mean = mean
        self.register_buffer("std", std.float().flatten())

    def forward(self, obs: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        mean = self.mean(obs)
        return mean, self.std.expand_as(mean)


class _Normaliser(nn.Module):
    """rsl_rl's ``EmpiricalNormalization``."""

    mean: th.Tensor
    std: th.Tensor

    def __init__(self, mean: th.Tensor, std: th.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.float().reshape(1, -1))
        self.register_buffer("std", std.float().reshape(1, -1))

    def forward(self, obs: th.Tensor) -> th.Tensor:
        return (obs - self.mean) / (self.std + _EPS)


def _normaliser(state: Mapping[str, Any]) -> nn.Module:
    return _Normaliser(state["_mean"], state["_std"]) if state else nn.Identity()
