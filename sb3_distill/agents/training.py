"""How an agent of the RL Zoo was trained, from its ``config.yml`` and ``args.yml``: read as plain values, and no more."""

import importlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import gymnasium as gym
import yaml
from gymnasium import wrappers as gym_wrappers
from sb3_contrib.common.wrappers import TimeFeatureWrapper
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack

from sb3_distill.agents.errors import CheckpointError
from sb3_distill.agents.saved_policy import parse_literal
from sb3_distill.agents.time_feature import VecTimeFeature
from sb3_distill.common.env_ids import is_atari
from sb3_distill.common.mujoco import WRAPPER as FORMER_OBSERVATIONS
from sb3_distill.common.mujoco import FormerObservations, VecFormerObservations
from sb3_distill.common.user_code import told, users_frame
from sb3_distill.envs.atari import make_atari_vec_env
from sb3_distill.envs.parts import VecParts
from sb3_distill.envs.pixels import PixelObservation

#: bytes of the longest settings file: the zoo's longest have 1,000, and Python parses YAML slowly
MAX_SETTINGS = 1 << 15
#: The largest whole number in a wrapper's arguments, but for the steps of an episode. A history of 10^9 steps fills the memory
#: before anything is compared with the checkpoint.
MAX_ARGUMENT = 4_096

#: the wrappers that the zoo's files may name; gym called some of them otherwise
_WRAPPERS: dict[str, Callable[..., gym.Env]] = {
    "AtariWrapper": AtariWrapper,
    "TimeFeatureWrapper": TimeFeatureWrapper,
    "FlattenObservation": gym_wrappers.FlattenObservation,
    "RescaleAction": gym_wrappers.RescaleAction,
    "ResizeObservation": gym_wrappers.ResizeObservation,
    "GrayscaleObservation": gym_wrappers.GrayscaleObservation,
    "GrayScaleObservation": gym_wrappers.GrayscaleObservation,
    FORMER_OBSERVATIONS: FormerObservations,
    "PixelObservation": PixelObservation,
}
#: the one wrapper of the ``VecEnv`` that can be made from a file: what it shows of Dict observations
PART = "stable_baselines3.common.vec_env.VecExtractDictObs"
_ZOO_WRAPPERS = (
    "HistoryWrapper",
    "HistoryWrapperObsDict",
    "MaskVelocityWrapper",
    "FrameSkip",
    "YAMLCompatResizeObservation",
)


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML that also reads the ordered dictionaries and tuples of the zoo's files, and nothing else."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leaves merge keys ("<<") alone, and so unknown: a few nested ones would fill the memory."""


_PlainLoader.add_constructor(
    "tag:yaml.org,2002:python/object/apply:collections.OrderedDict",
    lambda loader, node: dict(loader.construct_sequence(node, deep=True)[0]),  # type: ignore[arg-type]
)
_PlainLoader.add_constructor(
    "tag:yaml.org,2002:python/tuple",
    lambda loader, node: loader.construct_sequence(node, deep=True),  # type: ignore[arg-type]
)


class PythonText(str):
    """What a tag of Python stood at, as inert text: fine where nobody needs it."""


def _inert(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> PythonText:
    if suffix.startswith(("object/apply", "object/new")):  # a call: no honest setting needs one
        raise ValueError(
            f"could not determine a constructor for the tag python/{suffix[:80]}, and no Python is run from here"
        )
    return PythonText(f"!!python/{suffix}"[:200])


_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", _inert)  # type: ignore[no-untyped-call]
#: what is needed of a settings file: nothing inert may stand there
_NEEDED = ("normalize", "env_wrapper", "frame_stack", "env_kwargs", "env", "vec_env_wrapper")


def _check_needed(config: Any) -> None:
    """:raises ValueError: if a value that is needed, or the whole, is an object of Python"""
    found = [config] if not isinstance(config, dict) else [config.get(name) for name in _NEEDED]
    while found:
        value = found.pop()
        if isinstance(value, PythonText):
            raise ValueError(f"it has {value} where a plain value is needed, and no Python is run from here")
        if isinstance(value, (list, tuple)):
            found += value
        elif isinstance(value, dict):
            found += [*value, *value.values()]


def read_config(path: str | Path) -> dict[str, Any]:
    """
    Read a ``config.yml`` or ``args.yml`` of the RL Zoo, tags and all, without making Python objects from it.

    :param path: the file
    :return: the hyperparameters that the agent was trained with
    :raises CheckpointError: if the file holds anything but plain values
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_SETTINGS + 1)
        if len(text) > MAX_SETTINGS:
            raise ValueError(f"it has more than {MAX_SETTINGS:,} bytes")
        config = yaml.load(text, Loader=_PlainLoader)  # noqa: S506 - a safe loader, see above
        if _written_out(config, {}) > MAX_SETTINGS:
            raise ValueError("it repeats itself without end")
        _check_needed(config or {})
        return dict(config or {})
    except OSError:
        raise
    except Exception as error:  # PyYAML's constructors raise whatever they trip over
        raise CheckpointError(f"{path} is not a hyperparameter file of the RL Zoo: {error}") from error


def _written_out(value: Any, known: dict[int, float]) -> float:
    """
    How long a value is where nothing is shared. An alias of YAML costs three bytes and may stand for what has ten more of
    them, so that the text of a value, in a message of ours or of Gymnasium's, would fill the memory.

    :param value: of a settings file
    :param known: by identity, what has been counted
    :return: characters and items; infinite if it contains itself
    """
    if isinstance(value, (str, bytes)):
        return 1 + len(value)
    if not isinstance(value, (dict, list, tuple, set)):
        return 1
    if id(value) not in known:
        known[id(value)] = math.inf
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_written_out(part, known) for part in parts)
    return known[id(value)]


class Training(NamedTuple):
    """Where an agent was trained.

    :param env_id: the Gymnasium id, under its present name; None if it is not known
    :param env_kwargs: of ``gym.make``
    :param wrappers: around each environment, innermost first: names, with arguments
    :param frame_stack: how many frames an observation has
    :param normalized: whether a ``VecNormalize`` was around it all
    :param vec_env_wrappers: names of wrappers of the ``VecEnv``, which cannot be made here
    :param key: the part of Dict observations that was seen, of SB3's ``VecExtractDictObs``; None for all that there is
    """

    env_id: str | None
    env_kwargs: Mapping[str, Any] = MappingProxyType({})
    wrappers: tuple[tuple[str, dict[str, Any]], ...] = ()
    frame_stack: int = 1
    normalized: bool = False
    vec_env_wrappers: tuple[str, ...] = ()
    key: str | None = None

    @property
    def plain(self) -> bool:
        """Whether ``gym.make(env_id)`` alone is that environment."""
        around = self.wrappers or self.frame_stack > 1 or self.vec_env_wrappers or self.key is not None
        return not self.env_kwargs and not around

    def make_env(self) -> gym.Env:
        """
        :return: one environment, in its own wrappers
        :raises ValueError: for a wrapper that is not on the list, or an environment that cannot be made
        """
        if self.env_id is None:
            raise ValueError("Nothing says which environment this was.")
        self._check_vec_env_wrappers()
        found = [(find_wrapper(name), kwargs) for name, kwargs in self.wrappers]
        try:
            env = gym.make(self.env_id, **self.env_kwargs)
            for wrapper, kwargs in found:
                env = wrapper(env, **kwargs)
        except Exception as error:  # environments and wrappers raise whatever does not suit them
            place = users_frame(error)
            reason: Any = f"{type(error).__name__}: {error}" if not isinstance(error, gym.error.Error) else error
            reason = reason if place is None else told(error, place)
            raise ValueError(f"Environment {self.env_id!r} cannot be made here: {reason}") from error
        return env

    @property
    def atari(self) -> dict[str, Any] | None:
        """What :func:`~sb3_distill.envs.atari.make_atari_vec_env` is to be told; None if it does not make this environment."""
        if self.env_id is None or not is_atari(self.env_id) or self.env_kwargs or len(self.wrappers) != 1 or self.key:
            return None
        name, kwargs = self.wrappers[0]
        if name.rpartition(".")[2] != "AtariWrapper":
            return None
        return {"game": self.env_id, "frame_stack": self.frame_stack, **kwargs}

    def make_vec_env(self, n_envs: int) -> VecEnv:
        """
        :param n_envs: how many
        :return: as many environments in one process, with stacked frames; not normalised
        :raises ValueError: as :meth:`make_env`
        """
        if self.atari is None:
            return self.stack(DummyVecEnv([self.make_env] * n_envs))
        try:
            return make_atari_vec_env(n_envs=n_envs, **self.atari)
        except (ValueError, TypeError, ImportError) as error:
            raise ValueError(f"Environment {self.env_id!r} cannot be made here: {error}") from error

    def make_monitored(self, n_envs: int, seed: int) -> VecEnv:
        """
        :param n_envs: how many
        :param seed: of the first
        :return: as :meth:`make_vec_env`, to train in: seeded, and with the statistics of a ``Monitor``
        :raises ValueError: as :meth:`make_env`
        """
        if self.atari is None:
            return self.stack(make_vec_env(self.make_env, n_envs, seed=seed))
        env = self.make_vec_env(n_envs)
        env.seed(seed)
        return env

    def observe(self, env: VecEnv) -> VecEnv:
        """
        What training added to observations, for environments that are not in its wrappers.

        :param env: environments
        :return: the same with former observations of MuJoCo's, a time feature, a part of a Dict and stacked frames, as far as training
            had them
        """
        self._check_vec_env_wrappers()
        for name, kwargs in self.wrappers:
            if name.rpartition(".")[2] == "TimeFeatureWrapper":
                env = VecTimeFeature(env, **kwargs)
            elif name == FORMER_OBSERVATIONS:
                env = VecFormerObservations(env, **kwargs)
        return self.stack(env)

    def _check_vec_env_wrappers(self) -> None:
        if self.vec_env_wrappers:
            raise ValueError(
                f"Trained in vec_env_wrapper {', '.join(self.vec_env_wrappers)} (in its config.yml), which is not made here: "
                "give teacher_obs a function that puts it around the environment."
            )

    def stack(self, env: VecEnv) -> VecEnv:
        """
        :param env: environments in their own wrappers
        :return: the same with the part of Dict observations that was seen, and stacked frames, if training had them
        :raises ValueError: if there is no such part
        """
        if self.key is not None:
            env = VecParts(env, self.key)
        return VecFrameStack(env, self.frame_stack) if self.frame_stack > 1 else env


def usual_training(env_id: str) -> Training:
    """
    :param env_id: a Gymnasium id
    :return: where agents of that environment are trained, if their files do not say it: Atari games in the RL Zoo's wrapper and
        stack of four frames, all others as they are
    """
    if not is_atari(env_id):
        return Training(env_id)
    return Training(env_id, {}, (("stable_baselines3.common.atari_wrappers.AtariWrapper", {}),), 4)


def find_wrapper(name: str) -> Callable[..., gym.Env]:
    """
    A wrapper of the closed list, by what the zoo's files call it.

    :param name: a class, with or without its module; the module is not imported
    :return: the class
    :raises ValueError: if it is not on the list
    """
    short = name.rpartition(".")[2]
    if short in _ZOO_WRAPPERS:
        try:
            return getattr(importlib.import_module("rl_zoo3.wrappers"), short)  # type: ignore[no-any-return]
        except ImportError as error:
            raise ValueError(f"The wrapper {name!r} is rl_zoo3's: pip install 'sb3-distill[zoo]'.") from error
    if short not in _WRAPPERS:
        raise ValueError(f"Unknown wrapper {name!r}: {', '.join(sorted([*_WRAPPERS, *_ZOO_WRAPPERS]))} are known.")
    return _WRAPPERS[short]


def training(env_id: str | None, config: Mapping[str, Any], env_kwargs: Any, source: Path) -> Training:
    """
    :param env_id: under its present name; None if it is not known
    :param config: of a ``config.yml``
    :param env_kwargs: of an ``args.yml``
    :param source: for the message
    :return: what they say
    :raises CheckpointError: for values of other kinds than the zoo's
    """
    try:
        wrappers = config.get("env_wrapper") or []
        vec_wrappers, key = _vec_wrappers(config.get("vec_env_wrapper") or [])
        frames = config.get("frame_stack") or 1
        if type(frames) is not int or not 1 <= frames <= 64:
            raise ValueError(f"frame_stack is {str(frames)[:80]!r}")
        return Training(
            env_id,
            _arguments(env_kwargs) | _arguments(config.get("env_kwargs")),
            tuple(_wrapper(item) for item in (wrappers if isinstance(wrappers, list) else [wrappers])),
            frames,
            bool(config.get("normalize")) and config.get("normalize") != "False",
            vec_wrappers,
            key,
        )
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{source} is not a hyperparameter file of the RL Zoo: {error}") from error


def _vec_wrappers(given: Any) -> tuple[tuple[str, ...], str | None]:
    """Names of the wrappers of a ``VecEnv`` that cannot be made here, and the key of the one that can, if it is alone."""
    found = [_wrapper(item) for item in (given if isinstance(given, list) else [given])]
    if (
        len(found) == 1
        and found[0][0].rpartition(".")[2] == PART.rpartition(".")[2]
        and isinstance(found[0][1].get("key"), str)
    ):
        return (), found[0][1]["key"]
    return tuple(name for name, _ in found), None


def _wrapper(item: Any) -> tuple[str, dict[str, Any]]:
    """An entry of ``env_wrapper``: a name, or a dictionary from one name to arguments."""
    if isinstance(item, dict):
        if len(item) != 1:
            raise ValueError(f"env_wrapper has {str(item)[:80]}")
        ((item, kwargs),) = item.items()
    else:
        kwargs = None
    if not isinstance(item, str):
        raise ValueError(f"env_wrapper has {str(item)[:80]}")
    arguments = _arguments(kwargs)
    for name, value in arguments.items():
        numbers = value if isinstance(value, list) else [value]
        if name != "max_steps" and any(isinstance(n, int) and abs(n) > MAX_ARGUMENT for n in numbers):
            raise ValueError(f"env_wrapper has {item} with {name}={str(value)[:80]}")
    return item, arguments


def _arguments(given: Any) -> dict[str, Any]:
    """Keyword arguments: a dictionary, or the text of one."""
    if isinstance(given, str):
        given = parse_literal(given)
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(isinstance(name, str) for name in given):
        raise ValueError(f"{str(given)[:80]!r} are no arguments")
    return given
