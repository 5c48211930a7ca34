"""Reads an SB3 checkpoint without running anything in it.

A checkpoint is a zip with ``data`` (JSON; what JSON cannot hold is a pickle in base64, with its plain attributes beside it
as text) and ``policy.pth`` (the weights). SB3's own ``load`` runs those pickles, which is unsafe for files from others and
fails where a module they name is gone: agents made with ``gym`` and older Pythons do not load. Here the text and the
weights are read, and no pickle is: the weights go through ``torch.load(weights_only=True)``, pickled class names are
read off their opcodes, and running statistics pass an unpickler that knows stand-ins for numpy's arrays and little else.
"""

import base64
import io
import json
import pickle
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
import yaml
from gymnasium import spaces
from torch import nn

ACTIVATIONS = {
    f"<class 'torch.nn.modules.activation.{cls.__name__}'>": cls
    for cls in (nn.ReLU, nn.Tanh, nn.ELU, nn.GELU, nn.LeakyReLU, nn.SiLU, nn.Sigmoid)
}


class CheckpointError(ValueError):
    """A file that is no usable checkpoint. The message says what is wrong with it."""


class Checkpoint(NamedTuple):
    """What an SB3 zip says about its policy.

    :param path: where it was read
    :param policy_class: the qualified name of its policy's class
    :param policy_kwargs: those that shape the network; optimiser settings are left out
    :param observation_space: what the policy sees
    :param action_space: what the policy does
    :param weights: the policy's state dict, on the CPU
    :param version: of SB3 that made it, as far as the file tells
    """

    path: Path
    policy_class: str
    policy_kwargs: dict[str, Any]
    observation_space: spaces.Space
    action_space: spaces.Space
    weights: dict[str, th.Tensor]
    version: str


def read_checkpoint(path: str | Path) -> Checkpoint:
    """
    Read an SB3 zip without running it.

    :param path: the zip
    :return: its contents
    :raises FileNotFoundError: if there is no such file
    :raises CheckpointError: if the file is truncated, no zip of SB3's, or lacks what a policy needs
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No such checkpoint: {path}")
    members = _members(path)
    missing = {"data", "policy.pth"} - set(members)
    if missing:
        raise CheckpointError(f"{path} is no SB3 checkpoint: it has no member {' and no '.join(sorted(missing))}.")
    try:
        data = json.loads(members["data"])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no SB3 checkpoint: its member 'data' is not JSON: {error}.") from error
    if not isinstance(data, dict) or not isinstance(data.get("policy_class"), dict):
        raise CheckpointError(f"{path} is no SB3 checkpoint: its member 'data' names no policy class.")
    try:
        return Checkpoint(
            path=path,
            policy_class=_class_name(data["policy_class"]),
            policy_kwargs=_policy_kwargs(data),
            observation_space=read_space(data["observation_space"]),
            action_space=read_space(data["action_space"]),
            weights=_weights(path, members["policy.pth"]),
            version=members.get("_stable_baselines3_version", b"unknown").decode("ascii", "replace").strip(),
        )
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except Exception as error:  # hostile entries may raise anything at all
        raise CheckpointError(f"{path} cannot be read: its member 'data' is damaged: {_in_short(error)}") from error


def _members(path: Path) -> dict[str, bytes]:
    """What is read of a zip, as far as it is there."""
    try:
        with zipfile.ZipFile(path) as archive:
            if min((member.header_offset for member in archive.infolist()), default=0) > 0:
                # What was found is the end of an uncompressed policy.pth, which is a zip itself.
                raise zipfile.BadZipFile("its own list of members is missing")
            present = set(archive.namelist())
            return {
                name: archive.read(name)
                for name in ("data", "policy.pth", "_stable_baselines3_version")
                if name in present
            }
    except Exception as error:  # a damaged zip asks for passwords, compressions and versions that there are not
        raise CheckpointError(f"{path} is not a complete zip file: {error}. Copy or download it again.") from error


def _weights(path: Path, member: bytes) -> dict[str, th.Tensor]:
    """The state dict in ``policy.pth``."""
    try:
        weights = th.load(io.BytesIO(member), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message goes on to advise weights_only=False, which would run the file.
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        raise CheckpointError(
            f"{path} holds more than weights in its member 'policy.pth', so it was not loaded"
            f"{f': it asks for {wanted[1]}' if wanted else ''}."
        ) from error
    except Exception as error:  # torch raises whatever its reader trips over
        raise CheckpointError(f"{path} has a damaged member 'policy.pth': {_in_short(error)}") from error
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(value, th.Tensor) for name, value in weights.items()
    ):
        raise CheckpointError(f"{path} is no SB3 checkpoint: its member 'policy.pth' is not a dictionary of tensors.")
    return weights


def _in_short(error: Exception) -> str:
    """One line that says something, even of an error without a message."""
    text = next(iter(str(error).splitlines()), "")
    return text if text and type(error) is RuntimeError else f"{type(error).__name__}: {text}"


def _class_name(field: dict[str, Any]) -> str:
    """The qualified name in a pickled class, read off the pickle's opcodes: nothing is imported or run."""
    strings: list[str] = []
    name = None
    for opcode, argument, _ in pickletools.genops(base64.b64decode(field[":serialized:"])):
        if opcode.name == "GLOBAL":
            name = str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            name = ".".join(strings[-2:])
        elif isinstance(argument, str):
            strings.append(argument)
    if name is None:
        raise ValueError("the class of its policy has no name.")
    return name


def _policy_kwargs(data: dict[str, Any]) -> dict[str, Any]:
    """The arguments that shape the network, from text."""
    kwargs: dict[str, Any] = {"use_sde": True} if data.get("use_sde") else {}
    for name, value in data.get("policy_kwargs", {}).items():
        if name in (":type:", ":serialized:", "optimizer_class", "optimizer_kwargs", "device"):
            continue
        if isinstance(value, str):
            if value not in ACTIVATIONS:
                raise ValueError(f"policy_kwargs has {name}={value!r}, which is not among the values known here.")
            value = ACTIVATIONS[value]
        kwargs[name] = value
    net_arch = kwargs.get("net_arch")
    if isinstance(net_arch, list) and net_arch and isinstance(net_arch[0], dict):
        kwargs["net_arch"] = net_arch[0]
    return kwargs


def read_space(field: dict[str, Any]) -> spaces.Space:
    """
    A space from the text that SB3 writes beside its pickle.

    :param field: an entry ``observation_space`` or ``action_space`` of a checkpoint's ``data``
    :return: the space; bounds that the text abbreviates become infinite, an integer's as wide as its type
    :raises ValueError: for a kind of space that is not known here
    """
    kind = field[":type:"].removesuffix("'>").rpartition(".")[2]
    if kind == "Discrete":
        return spaces.Discrete(int(field["n"]), start=int(field.get("start", 0)))
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(_numbers(field["nvec"]).astype(np.int64))
    if kind == "MultiBinary":
        n = _numbers(field["n"]).astype(int)
        return spaces.MultiBinary(int(n[0]) if n.size == 1 else n.tolist())
    if kind == "Box":
        shape_text = field.get("_shape", field.get("shape"))
        shape = (
            tuple(int(n) for n in shape_text)
            if isinstance(shape_text, list)
            else tuple(_numbers(shape_text).astype(int))
        )
        dtype = np.dtype(field["dtype"])
        size = int(np.prod(shape))
        bounds = {}
        for name, sign in (("low", -1), ("high", 1)):
            numbers = _numbers(field[name])
            if numbers.size not in (1, size):
                integer = np.issubdtype(dtype, np.integer)
                values = set(numbers.tolist())
                widest = (np.iinfo(dtype).min if sign < 0 else np.iinfo(dtype).max) if integer else sign * np.inf
                # An image's bounds are printed as "[[[0 0 ... 0 0]]]": one number, over and over.
                numbers = np.array([values.pop() if integer and len(values) == 1 else widest], dtype)
            bounds[name] = np.broadcast_to(numbers.reshape(shape if numbers.size == size else ()), shape).astype(dtype)
        return spaces.Box(bounds["low"], bounds["high"], shape, dtype.type)
    raise ValueError(f"it has a space of kind {kind}; known are Box, Discrete, MultiDiscrete and MultiBinary.")


def _numbers(text: Any) -> np.ndarray:
    """All numbers in a piece of text, as float64."""
    found = re.findall(r"[-+]?(?:inf|\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)", str(text))
    return np.array([float(number) for number in found])


# --- running statistics ---------------------------------------------------------------------------------------------


class _Inert:
    """Stands in for every name that a pickle asks for and may not have: keeps attributes and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass


class _Dtype:
    """
    Stands in for a ``numpy.dtype``, which would believe any flags that the pickle tells it, and then take numbers for
    pointers.
    """

    def __init__(self, kind: str, *_: Any) -> None:
        self.kind, self.order = kind, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class _Array:
    """Stands in for a numpy array or scalar; becomes one when it is asked for, if it is one of plain numbers."""

    def __init__(self, *_: Any) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        _, shape, numbers, fortran, data = self.state
        if not re.fullmatch("b1|[iu][1248]|f[248]", numbers.kind):
            raise ValueError(f"an array of {numbers.kind!r} holds no plain numbers.")
        array = np.frombuffer(data, np.dtype(numbers.kind).newbyteorder(numbers.order))
        return array.reshape(shape, order="F" if fortran else "C").astype(dtype)

    @classmethod
    def scalar(cls, dtype: _Dtype, data: bytes) -> "_Array":
        array = cls()
        array.state = (1, (), dtype, False, data)
        return array

    @classmethod
    def frombuffer(cls, data: Any, dtype: _Dtype, shape: Any, order: str, *_: Any) -> "_Array":
        array = cls()
        array.state = (1, shape, dtype, order == "F", data)
        return array


_KNOWN: dict[tuple[str, str], Any] = {("numpy", "dtype"): _Dtype}
for _core in ("numpy.core", "numpy._core"):
    _KNOWN[_core + ".multiarray", "_reconstruct"] = _Array
    _KNOWN[_core + ".multiarray", "scalar"] = _Array.scalar
    _KNOWN[_core + ".numeric", "_frombuffer"] = _Array.frombuffer


class _StatisticsUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _KNOWN.get((module, name)) or type(name, (_Inert,), {})


def _numeric(value: Any) -> np.ndarray:
    """A number or array, of a pickle or live, as a float64 array of our own."""
    return np.array(value, dtype=np.float64)


class NormalizeStatistics(NamedTuple):
    """What a ``VecNormalize`` did to observations and rewards.

    :param obs_mean: running mean, shape of the observation; a dict for Dict observations; None if they were left alone
    :param obs_var: running variance, likewise
    :param clip_obs: bound on the normalised observation
    :param epsilon: added to variances
    :param reward_scale: what a normalised reward is to be multiplied with, sqrt(ret_rms.var + ε); 1 if it was left alone
    """

    obs_mean: Any
    obs_var: Any
    clip_obs: float
    epsilon: float
    reward_scale: float


def normalize_statistics(vec_normalize: Any) -> NormalizeStatistics:
    """
    A frozen copy of what a ``VecNormalize`` has learnt.

    :param vec_normalize: a live one, or what stands in for one in an unpickled file
    :return: its statistics
    """
    norm_obs, norm_reward = bool(_numeric(vec_normalize.norm_obs)), bool(_numeric(vec_normalize.norm_reward))
    rms = vec_normalize.obs_rms if norm_obs else None
    each = (lambda get: {k: get(v) for k, v in rms.items()}) if isinstance(rms, dict) else (lambda get: get(rms))
    epsilon = float(_numeric(vec_normalize.epsilon))
    return NormalizeStatistics(
        obs_mean=each(lambda r: _numeric(r.mean)) if norm_obs else None,
        obs_var=each(lambda r: _numeric(r.var)) if norm_obs else None,
        clip_obs=float(_numeric(vec_normalize.clip_obs)),
        epsilon=epsilon,
        reward_scale=float(np.sqrt(_numeric(vec_normalize.ret_rms.var) + epsilon)) if norm_reward else 1.0,
    )


def read_vecnormalize(path: str | Path) -> NormalizeStatistics:
    """
    Read a ``vecnormalize.pkl`` without running the pickle.

    :param path: the file
    :return: its statistics
    :raises CheckpointError: if the file is damaged or holds no such statistics
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            saved = _StatisticsUnpickler(file).load()
        return normalize_statistics(saved)
    except FileNotFoundError:
        raise
    except Exception as error:  # a hostile pickle may raise anything at all
        raise CheckpointError(f"{path} holds no VecNormalize statistics: {type(error).__name__}: {error}") from error


# --- the zoo's own settings -----------------------------------------------------------------------------------------


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML that also reads the ordered dictionaries and tuples of the zoo's files, and nothing else."""


_PlainLoader.add_constructor(
    "tag:yaml.org,2002:python/object/apply:collections.OrderedDict",
    lambda loader, node: dict(loader.construct_sequence(node, deep=True)[0]),  # type: ignore[arg-type]
)
_PlainLoader.add_constructor(
    "tag:yaml.org,2002:python/tuple",
    lambda loader, node: loader.construct_sequence(node, deep=True),  # type: ignore[arg-type]
)


def read_config(path: str | Path) -> dict[str, Any]:
    """
    Read a ``config.yml`` of the RL Zoo, tags and all, without making Python objects from it.

    :param path: the file
    :return: the hyperparameters that the agent was trained with
    :raises CheckpointError: if the file holds anything but plain values
    """
    path = Path(path)
    try:
        config = yaml.load(path.read_text(), Loader=_PlainLoader)  # noqa: S506 - a safe loader, see above
        return dict(config or {})
    except OSError:
        raise
    except Exception as error:  # PyYAML's constructors raise whatever they trip over
        raise CheckpointError(f"{path} is not a hyperparameter file of the RL Zoo: {error}") from error
