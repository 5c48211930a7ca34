"""Rebuilds the network of a checkpoint: which class, with which arguments, filled with which weights.

Nothing that a file says is imported, evaluated or believed. Classes come from the closed list ``POLICIES``, arguments from
the closed list ``ARGUMENTS``. The network is laid out without memory first (torch's meta device), so that the sizes that a
file claims cost nothing, and the weights are used only if they have the shapes of that layout.
"""

import ast
from collections.abc import Callable
from functools import partial
from typing import Any

import sb3_contrib.ars.policies
import sb3_contrib.common.maskable.policies
import sb3_contrib.common.recurrent.policies
import sb3_contrib.crossq.policies
import sb3_contrib.qrdqn.policies
import sb3_contrib.tqc.policies
import stable_baselines3.common.policies
import stable_baselines3.dqn.policies
import stable_baselines3.sac.policies
import stable_baselines3.td3.policies
import torch as th
from gymnasium import spaces
from stable_baselines3.common import torch_layers
from stable_baselines3.common.policies import BasePolicy
from torch import nn
from torch.overrides import TorchFunctionMode

from sb3_distill.agents.own_classes import CLASSES, OwnClassError, named_class
from sb3_distill.common.articles import with_article
from sb3_distill.rules.distributions import unvalidated
from sb3_distill.students.features import MinAtarCNN
from sb3_distill.students.nature_cnn import SmallNatureCNN

_MODULES = (
    stable_baselines3.common.policies,
    stable_baselines3.dqn.policies,
    stable_baselines3.sac.policies,
    stable_baselines3.td3.policies,
    sb3_contrib.ars.policies,
    sb3_contrib.common.maskable.policies,
    sb3_contrib.common.recurrent.policies,
    sb3_contrib.crossq.policies,
    sb3_contrib.qrdqn.policies,
    sb3_contrib.tqc.policies,
)

#: every policy class of SB3 and sb3-contrib by its qualified name
POLICIES: dict[str, type[BasePolicy]] = {
    f"{module.__name__}.{name}": cls
    for module in _MODULES
    for name, cls in vars(module).items()
    if name.endswith("Policy") and isinstance(cls, type) and issubclass(cls, BasePolicy) and cls is not BasePolicy
}

#: actions that a policy would take for others, and build a network; all other policies refuse those that they do not know
_ACTIONS: dict[type[BasePolicy], tuple[type[spaces.Space], ...]] = {
    stable_baselines3.dqn.policies.DQNPolicy: (spaces.Discrete,),
    sb3_contrib.qrdqn.policies.QRDQNPolicy: (spaces.Discrete,),
    stable_baselines3.sac.policies.SACPolicy: (spaces.Box,),
    stable_baselines3.td3.policies.TD3Policy: (spaces.Box,),
    sb3_contrib.tqc.policies.TQCPolicy: (spaces.Box,),
    sb3_contrib.crossq.policies.CrossQPolicy: (spaces.Box,),
}

ACTIVATIONS = {
    cls.__name__: cls
    for cls in (nn.ReLU, nn.Tanh, nn.ELU, nn.GELU, nn.LeakyReLU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.CELU, nn.SELU)
}
_EXTRACTORS = {
    cls.__name__: cls
    for cls in (
        torch_layers.FlattenExtractor,
        torch_layers.NatureCNN,
        torch_layers.CombinedExtractor,
        MinAtarCNN,
        SmallNatureCNN,
    )
}
#: Hidden layers (of LSTMs, too) and units in one of the largest network that is laid out, how many critics it has, and hidden
#: layers of all critics. A unit costs nothing on paper, but a layer is an object.
MAX_LAYERS, MAX_UNITS, MAX_CRITICS, MAX_CRITIC_LAYERS = 64, 1 << 20, 64, 512


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _real(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError
    return float(value)


def _count(value: Any, least: int = 1, most: int = MAX_UNITS) -> int:
    # Not 0 units: weights without numbers would fit any claim about what they are multiplied with.
    if type(value) is not int or not least <= value <= most:
        raise ValueError
    return value


def _units(value: Any) -> list[int]:
    if not isinstance(value, (list, tuple)) or len(value) > MAX_LAYERS:
        raise ValueError
    return [_count(units) for units in value]


def _net_arch(value: Any) -> Any:
    """A list of units; one such for each network by name; or SB3's form before 1.8, ``[{"pi": …, "vf": …}]``."""
    if isinstance(value, (list, tuple)) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0]
    if isinstance(value, dict):
        if not set(value) <= {"pi", "vf", "qf"}:
            raise ValueError
        return {name: _units(units) for name, units in value.items()}
    return _units(value)


def _one_of(known: dict[str, Any]) -> Callable[[Any], Any]:
    """A class, by what ``str`` makes of it or what one types: ``<class 'torch.nn.modules.activation.ReLU'>``, ``nn.ReLU``."""
    return {
        text: cls
        for name, cls in known.items()
        for text in (str(cls), name, f"nn.{name}", f"th.nn.{name}", f"torch.nn.{name}")
    }.__getitem__


def _each(**parsers: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
    def parse(value: Any) -> dict[str, Any]:
        return {name: parsers[name](item) for name, item in (value or {}).items()}

    return parse


#: what may shape a network, each with a function that takes it or fails
ARGUMENTS: dict[str, Callable[[Any], Any]] = {
    "net_arch": _net_arch,
    "activation_fn": _one_of(ACTIVATIONS),
    "features_extractor_class": _one_of(_EXTRACTORS),
    "features_extractor_kwargs": _each(
        features_dim=_count, cnn_output_dim=_count, filters=_units, normalized_image=_flag
    ),
    "lstm_kwargs": _each(dropout=_real, bias=_flag),
    **dict.fromkeys(("log_std_init", "clip_mean", "batch_norm_momentum", "batch_norm_eps"), _real),
    **dict.fromkeys(("n_quantiles", "lstm_hidden_size"), _count),
    "renorm_warmup_steps": partial(_count, least=0),
    "n_critics": partial(_count, most=MAX_CRITICS),
    "n_lstm_layers": partial(_count, most=MAX_LAYERS),
    **dict.fromkeys(
        (
            *("ortho_init", "use_sde", "full_std", "use_expln", "squash_output", "normalize_images", "batch_norm"),
            *("share_features_extractor", "shared_lstm", "enable_critic_lstm", "with_bias"),
        ),
        _flag,
    ),
}
#: what an optimiser or an older SB3 was told, and a network need not know
_IGNORED = (":type:", ":serialized:", "optimizer_class", "optimizer_kwargs", "device", "sde_net_arch", "lr_schedule")
#: present names of weights and those of older files: actor and critic had one extractor, ARS one layer without a number
_RENAMED = (
    ("pi_features_extractor.", "features_extractor."),
    ("vf_features_extractor.", "features_extractor."),
    ("action_net.0.", "action_net."),
)
_OPTIONAL = ("net_arch", "features_extractor_kwargs", "lstm_kwargs")


def read_policy_kwargs(given: dict[str, Any]) -> dict[str, Any]:
    """
    The arguments that shape a network, from a checkpoint's text.

    :param given: names with plain values, or with the text of what JSON cannot hold
    :return: arguments for a policy class
    :raises OwnClassError: for a class that is not on the list
    :raises ValueError: for another value, or a name, that is not
    """
    kwargs: dict[str, Any] = {}
    # Classes first: the arguments of somebody's own are not known either.
    for name, value in sorted(given.items(), key=lambda item: item[0] not in CLASSES):
        if name in _IGNORED or (value is None and name in _OPTIONAL):
            continue
        try:
            kwargs[name] = ARGUMENTS[name](_literal(value) if isinstance(value, str) else value)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            if (own := named_class(name, value)) is not None:
                raise OwnClassError(own) from error
            raise ValueError(
                f"policy_kwargs has {name}={str(value)[:80]!r}, which is not among the values known here."
            ) from error
    arch = kwargs.get("net_arch", [])
    depth = max(map(len, arch.values()), default=0) if isinstance(arch, dict) else len(arch)
    if depth * kwargs.get("n_critics", 1) > MAX_CRITIC_LAYERS:
        raise ValueError(f"policy_kwargs has n_critics={kwargs['n_critics']}, too many for {depth} layers each.")
    return kwargs


def _literal(text: str) -> Any:
    """What a text spells if it is a literal; else the text."""
    try:
        return parse_literal(text)
    except ValueError:
        return text


def parse_literal(text: str) -> Any:
    """
    Read what the RL Zoo writes as Python, ``dict(net_arch=[256, 256], activation_fn=nn.ReLU)``, without evaluating it.

    :param text: numbers, strings, None, booleans, lists, tuples, dictionaries, ``dict(…)`` with names, and dotted names
    :return: the value; a dotted name stays text
    :raises ValueError: for anything else, or a text of more than 10,000 characters
    """
    if len(text) > 10_000:
        raise ValueError("a text of more than 10,000 characters is no literal.")
    try:
        return _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, TypeError, RecursionError, MemoryError):  # the last of the parser
        raise ValueError(f"{text[:80]!r} is no literal.") from None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _value(node.operand)
        if type(number) in (int, float):
            return -number
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict) and None not in node.keys:  # which "**" would be
        return {_value(k): _value(v) for k, v in zip(node.keys, node.values, strict=True) if k is not None}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        if all(keyword.arg for keyword in node.keywords):
            return {keyword.arg: _value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Attribute):
        return ast.unparse(node)
    raise ValueError(f"{ast.unparse(node)[:80]!r} is no literal.")


class _NoOptimizer:
    """In the place of the optimiser that SB3 gives every policy: a teacher's is never stepped, and torch takes seconds for its first."""

    def __init__(self, params: Any, **kwargs: Any) -> None:
        pass


class _OnPaper(TorchFunctionMode):
    """Leaves tensors without memory where they are when a policy's constructor sends them to a device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is th.Tensor.to and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


def build_policy(
    policy_class: type[BasePolicy],
    observation_space: spaces.Space,
    action_space: spaces.Space,
    kwargs: dict[str, Any],
    weights: dict[str, th.Tensor],
) -> BasePolicy:
    """
    A policy with the weights of a checkpoint, on the CPU, in evaluation mode. Torch's random state is left alone.

    :param policy_class: of ``POLICIES``
    :param observation_space: what it sees
    :param action_space: what it does
    :param kwargs: see :func:`read_policy_kwargs`
    :param weights: by name; they become the policy's own tensors
    :return: the policy
    :raises ValueError: if the weights are not those of the network that is described, or it has no use for such spaces
    """
    parts = observation_space.spaces.values() if isinstance(observation_space, spaces.Dict) else [observation_space]
    if any(isinstance(part, spaces.Discrete) and part.start != 0 for part in parts):
        raise ValueError("SB3 cannot encode observations that are counted from another number than 0")
    allowed = next((kinds for cls, kinds in _ACTIONS.items() if issubclass(policy_class, cls)), (spaces.Space,))
    if not isinstance(action_space, allowed):
        raise ValueError(f"{with_article(policy_class.__name__)} has no actions of kind {type(action_space).__name__}")
    if not issubclass(policy_class, sb3_contrib.ars.policies.ARSPolicy):
        kwargs = kwargs | {"lr_schedule": lambda _: 0.0, "optimizer_class": _NoOptimizer}
    with th.random.fork_rng(devices=[]):
        with th.device("meta"), _OnPaper(), unvalidated():
            policy = policy_class(observation_space, action_space, **kwargs)
        policy.load_state_dict(fitting(_with_target(weights), policy.state_dict()), assign=True)
        if kwargs.get("use_sde"):
            # The matrices of exploration noise are no weights: they were laid out without memory, too.
            noisy: Any = getattr(policy, "actor", policy)
            noisy.reset_noise()
    policy.requires_grad_(False)
    policy.set_training_mode(False)
    return policy


def _with_target(weights: dict[str, th.Tensor]) -> dict[str, th.Tensor]:
    """A DQN may come without its target network, which takes no part in playing: the network stands in for it."""
    if any(name.startswith("q_net_target.") for name in weights):
        return weights
    network = {name: value for name, value in weights.items() if name.startswith("q_net.")}
    return weights | {name.replace("q_net.", "q_net_target.", 1): value for name, value in network.items()}


def fitting(weights: dict[str, th.Tensor], layout: dict[str, th.Tensor]) -> dict[str, th.Tensor]:
    """
    :param weights: of a checkpoint
    :param layout: the state dict of the network that they are for
    :return: the weights, under the layout's names
    :raises ValueError: if one is missing, superfluous, of another shape, kind or extent, or not finite
    """
    found: dict[str, th.Tensor] = {}
    used: set[str] = set()
    for name, expected in layout.items():
        old_name = next((old + name.removeprefix(new) for new, old in _RENAMED if name.startswith(new)), name)
        value = weights.get(name, weights.get(old_name))
        if value is None:
            raise ValueError(f"{name} is missing")
        if value.shape != expected.shape or value.dtype != expected.dtype:
            raise ValueError(
                f"{name} is {tuple(value.shape)} of {value.dtype}, and should be {tuple(expected.shape)} of {expected.dtype}"
            )
        if value.layout != th.strided or value.untyped_storage().nbytes() < value.numel() * value.element_size():
            raise ValueError(f"{name} repeats itself to claim {value.numel():,} numbers")
        if value.is_floating_point() and value.numel() and not th.stack(value.aminmax()).isfinite().all():
            raise ValueError(f"{name} has numbers that are not finite")
        found[name] = value
        used |= {name if name in weights else old_name}
    superfluous = sorted(set(weights) - used)
    if superfluous:
        raise ValueError(f"{superfluous[0]} has no place in it")
    return found
