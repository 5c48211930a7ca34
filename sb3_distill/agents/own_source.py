"""Teachers that are no agents of SB3's, from what ``load_teacher`` is given: a function, a module."""

import inspect
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_distill.agents.find import resolve_env_id
from sb3_distill.agents.foreign import Foreign, read_foreign
from sb3_distill.agents.normalization import undoing
from sb3_distill.agents.rebuilt import read_given
from sb3_distill.agents.training import usual_training
from sb3_distill.common.env_ids import is_atari
from sb3_distill.common.layers import raw_env
from sb3_distill.common.observations import concatenate_obs, copy_obs
from sb3_distill.common.own_env import find_environment
from sb3_distill.common.own_object import import_object, is_object_name
from sb3_distill.common.spaces import any_action
from sb3_distill.evaluation.episodes import make_plain_envs
from sb3_distill.teachers.answer_kinds import AnswerError, check_kind, check_options
from sb3_distill.teachers.asked import VALUE, Asked
from sb3_distill.teachers.onnx_function import OnnxFunction
from sb3_distill.teachers.onnx_memory import OnnxMemory
from sb3_distill.teachers.own import TRIED, OwnQTeacher, OwnTeacher, RuleTeacher


def from_name(source: Any) -> Any:
    """
    :param source: given to ``load_teacher``
    :return: what is meant, if it is a name or a path of something that is no agent of SB3's: an object of the module that was typed, a
        function that an ONNX file is, a network of another library; else the same
    :raises ValueError: if it cannot be had; also OSError and ImportError
    """
    if not isinstance(source, (str, Path)):
        return source
    if is_object_name(source):
        return import_object(str(source))
    path = Path(source).expanduser()
    if path.suffix == ".onnx":
        return OnnxFunction(source)
    return read_foreign(path) or source


def is_function(source: Any) -> bool:
    """
    :param source: given to ``load_teacher``, and no agent of SB3's
    :return: whether it can be asked
    :raises ValueError: for a class
    """
    if isinstance(source, type):
        raise ValueError(f"The class {source.__name__} is no teacher: give one of its objects, {source.__name__}(…).")
    return callable(source) or isinstance(source, Foreign)


def own_teacher(
    source: Any,
    *,
    answers: str | None,
    batched: bool | None,
    value: Callable[..., Any] | None,
    env: "str | gym.Env | VecEnv | None",
    observation_space: spaces.Space | None,
    action_space: spaces.Space | None,
    vec_normalize: "str | Path | VecNormalize | None",
    options: dict[str, float | None],
) -> OwnTeacher:
    """
    :param source: a function or a module, or what a file of another library holds
    :param answers: see :func:`~sb3_distill.load_teacher`, as the others
    :param options: ``temperature``, ``epsilon`` and ``action_std``; None where they are not given
    :return: the teacher
    :raises ValueError: for what does not go together, and if the function answers with something else
    """
    name = getattr(source, "__name__", None) or type(source).__name__
    name = name.strip("<>")  # of a lambda
    if isinstance(source, Foreign):
        name = source.name
        answers, value = _told_by_file(source, answers, batched, value, vec_normalize)
        source = source.network
    answers = answers or "action"
    check_kind(answers)
    if isinstance(source, OnnxFunction):
        source.choose(answers)
        source = OnnxMemory(source) if source.states else source
    check_options(answers, None, options, name)
    whole = isinstance(source, (th.nn.Module, OnnxFunction)) if batched is None else batched
    asked = Asked(source, name, answers, whole)
    _check_memory(asked, source)
    kwargs: dict[str, Any] = {key: given for key, given in options.items() if given is not None}
    if value is not None:
        kwargs["value"] = _value_function(value, name, answers, batched)
    kwargs |= _spaces_of(env, observation_space, action_space)
    if vec_normalize is not None:
        if kwargs["observation_space"] is None:
            raise ValueError(f"vec_normalize=… of {name} needs the space of its observations: give env=…, too.")
        kwargs |= undoing(read_given(vec_normalize, kwargs["observation_space"]))
    return (OwnQTeacher if answers == "q_values" else RuleTeacher)(asked, **kwargs)


def _value_function(value: Any, name: str, answers: str, batched: bool | None) -> Asked:
    """V_π, of whoever says it: a function, a module, or a name or file of one, as teachers are."""
    if answers == "q_values":
        raise ValueError("value=… is a function from states to V_π, and Q-values say it: leave it out.")
    function = from_name(value)
    if isinstance(function, type) or not callable(function):
        raise ValueError(
            f"value=… is a function from states to V_π, and {value!r} is none: give a function, an nn.Module, 'MODULE:NAME' or an ONNX "
            "file."
        )
    whole = isinstance(function, (th.nn.Module, OnnxFunction)) if batched is None else batched
    asked = Asked(function, f"The value function of {name}", VALUE, whole)
    if getattr(function, "states", None) or asked.remembers:
        raise ValueError(
            f"value={value!r} remembers the episode, and values are asked state by state: give a function of one observation, or leave "
            "it out."
        )
    if isinstance(function, OnnxFunction):
        function.choose(VALUE)
    return asked


def _check_memory(asked: Asked, source: Any) -> None:
    """Who is asked about batches is not told whose states they are, nor where an episode begins."""
    if asked.remembers:
        try:
            inspect.signature(asked.owner.reset).bind()
        except ValueError:  # builtins may have no signature
            pass
        except TypeError as error:
            raise AnswerError(
                f"{asked.name} has a reset() that cannot be called without arguments ({error}), as it is where an episode begins: give "
                "an object whose reset() takes none."
            ) from error
    if not asked.batched or not callable(getattr(asked.owner, "reset", None)):
        return
    said = (
        f"{asked.name} has a reset(), as who remembers the episode has, and batched=True: nothing says which states of a batch are of one "
        "episode, nor where one begins"
    )
    if isinstance(
        source, th.nn.Module
    ):  # its batches are nobody's choice, and a network may have one that does nothing
        warnings.warn(
            f"{said}. If it remembers, give a function of one observation that asks it, as an object with a reset().",
            stacklevel=2,
        )
        return
    raise ValueError(
        f"{said}. Let it take one observation at a time, without batched=True: each environment has a copy of it then. If it remembers "
        "nothing, give lambda obs: f(obs)."
    )


def _told_by_file(source: Foreign, answers: Any, batched: Any, value: Any, vec_normalize: Any) -> tuple[str, Any]:
    """What a file of another library answers with, and its value function."""
    if answers not in (None, source.answers) or batched is not None or (value is not None and source.value is not None):
        raise ValueError(
            f"{source.name} is {source.of}, which says itself what it answers with: leave answers=…, batched=… and value=… out."
        )
    if source.normalises and vec_normalize is not None:
        raise ValueError(
            f"{source.name} has the statistics of its observations in the file, and with vec_normalize=… they would be normalised twice: "
            "leave it out."
        )
    if source.doubt is not None and vec_normalize is None:
        warnings.warn(f"{source.name}: {source.doubt}.", stacklevel=2)
    return source.answers, source.value or value


def _spaces_of(env: Any, observation_space: spaces.Space | None, action_space: spaces.Space | None) -> dict[str, Any]:
    """Arguments of :class:`OwnTeacher` that an environment says."""
    given = {"observation_space": observation_space, "action_space": action_space}
    for name, space in given.items():
        if space is not None and not isinstance(space, spaces.Space):
            raise ValueError(f"{name} must be a space of Gymnasium's, not {space!r}.")
        if space is not None and env is not None:
            raise ValueError(f"env says which {name} there is: leave one of the two out.")
    if env is None:
        return given
    if isinstance(env, str):
        return _of_id(find_environment(resolve_env_id(env)))
    if isinstance(env, VecEnv):
        env = raw_env(env)[0]
    if not isinstance(getattr(env, "observation_space", None), spaces.Space):
        raise ValueError(f"env must be a Gymnasium id, an environment or a VecEnv, not {env!r}.")
    return {"observation_space": env.observation_space, "action_space": env.action_space}


def _of_id(env_id: str) -> dict[str, Any]:
    """The spaces of a registered environment, and some states in which it is."""
    try:
        env = usual_training(env_id).make_vec_env(1) if is_atari(env_id) else make_plain_envs(env_id, 1)
    except (gym.error.Error, ImportError) as error:
        raise ValueError(f"Environment {env_id!r} cannot be made here: {error}") from error
    spaces_of = {"observation_space": env.observation_space, "action_space": env.action_space}
    return {**spaces_of, "env_id": env_id, "tried": states_in(env)}


def states_in(env: VecEnv) -> Any:
    """
    :param env: one environment, which is closed in the end
    :return: some states in which it is, at random play: at least the first one
    """
    try:
        env.seed(0)
        env.action_space.seed(0)
        seen = [copy_obs(env.reset())]
        with suppress(Exception):  # of its step, which training will meet, too, and tell
            while len(seen) < TRIED:
                seen.append(copy_obs(env.step(np.stack([any_action(env.action_space)]))[0]))
        return concatenate_obs(seen)
    finally:
        env.close()


def try_in(teacher: Any, make_env: Callable[[int], VecEnv]) -> None:
    """
    Let a function whose spaces nobody has told be tried on states of the environment in which it is to teach, and not on samples of a
    space, which may hold states that there are not.

    :param teacher: any; of others than functions nothing is asked
    :param make_env: makes n of what it reads
    """
    if isinstance(teacher, OwnTeacher) and not teacher.knows_spaces:
        teacher.try_on(states_in(make_env(1)))
