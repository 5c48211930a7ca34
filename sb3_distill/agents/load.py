"""Finds teachers and makes them answer: loaded models, checkpoints, folders of the RL Zoo, bundled agents."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch as th
from gymnasium import spaces
from sb3_contrib.ars.policies import ARSPolicy
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.crossq.policies import CrossQPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy

from sb3_distill.agents.errors import CheckpointError
from sb3_distill.agents.find import (
    find_agent,
    resolve_env_id,
)
from sb3_distill.agents.known_temperatures import known_choice
from sb3_distill.agents.normalization import normalize_statistics, undoing
from sb3_distill.agents.own_source import from_name, is_function, own_teacher
from sb3_distill.agents.rebuilt import _in_a_line, policy_and_settings, read_given
from sb3_distill.agents.training import Training, usual_training
from sb3_distill.common.articles import with_article
from sb3_distill.common.env_ids import is_atari
from sb3_distill.common.mujoco import former_wrappers
from sb3_distill.common.questions import env_id_of
from sb3_distill.common.user_code import first_line
from sb3_distill.rules.temperature import check_q_values, check_softness
from sb3_distill.teachers.actor_critic import ActorCriticTeacher
from sb3_distill.teachers.bounded import DeterministicTeacher, SquashedTeacher
from sb3_distill.teachers.noise import check_noise, made_noisy
from sb3_distill.teachers.own_predict import compare_at_load
from sb3_distill.teachers.q_network import QTeacher
from sb3_distill.teachers.recent_states import recent_states
from sb3_distill.teachers.recurrent import RecurrentTeacher
from sb3_distill.teachers.teacher import Teacher
from sb3_distill.teachers.tuning import tune_temperature

#: Which policies can teach, and how: the first line that fits. A further family of algorithms is a further line here and a
#: class of its own.
FAMILIES: tuple[tuple[type[BasePolicy], type[Teacher]], ...] = (
    (DQNPolicy, QTeacher),
    (QRDQNPolicy, QTeacher),
    (RecurrentActorCriticPolicy, RecurrentTeacher),
    (ActorCriticPolicy, ActorCriticTeacher),
    (MaskableActorCriticPolicy, ActorCriticTeacher),
    (SACPolicy, SquashedTeacher),
    (TQCPolicy, SquashedTeacher),
    (CrossQPolicy, SquashedTeacher),
    (TD3Policy, DeterministicTeacher),
    (ARSPolicy, DeterministicTeacher),
)

#: ε of Q-network teachers: it bounds log π from below at log(ε/|A|), −5.3 for two actions
DEFAULT_EPSILON = 0.01
#: episodes that choose a temperature, at each of the values
EPISODES = 6


def load_teacher(
    source: "str | Path | BaseAlgorithm | BasePolicy | Teacher | Callable[..., Any]",
    *,
    env_id: str | None = None,
    vec_normalize: "str | Path | VecNormalize | None" = None,
    temperature: "float | str" = "auto",
    epsilon: float | None = None,
    action_std: float | None = None,
    device: str = "auto",
    tune: bool = True,
    answers: str | None = None,
    batched: bool | None = None,
    value: "Callable[..., Any] | None" = None,
    env: "str | gym.Env | VecEnv | None" = None,
    observation_space: "spaces.Space | None" = None,
    action_space: "spaces.Space | None" = None,
    noise: float = 0.0,
) -> Teacher:
    """
    Make a teacher.

    A function can teach, too: a controller, a rule, a network of another library. What it answers with is said by ``answers``, and it
    is asked about a few observations at once, as soon as the spaces are known.

    >>> def controller(obs):
    ...     return int(obs[2] + 0.5 * obs[3] > 0)
    >>> teacher = load_teacher(controller, env="CartPole-v1")
    >>> teacher.distribution([[0.0, 0.0, 0.1, 0.0]]).distribution.probs.round(decimals=3).tolist()
    [[0.005, 0.995]]

    A Q-network's policy is (1−ε) softmax(Q/τ) + ε/|A|. ``temperature="auto"`` chooses the largest τ that does what the greedy
    policy does; ``teacher.temperature_report`` says by what and what it costs. Of a checkpoint that tells its environment, by 6
    episodes there, for at most 10 seconds (mostly one); what these say of the bundled agents and of the RL Zoo's is known, and
    nothing is played. Of a loaded model, whose environment may be one that exists once, no
    second one is made: by the states in its replay buffer, or if there are none, the first observations that the teacher is asked
    about, until there are 256. So it is where the episodes fail, too, after a warning. τ is in units of Q, and found in units of
    the Q-values' own spread: whatever the rewards are multiplied by, the policy is the same.

    :param source: a :class:`Teacher`, which is returned as it is, and whose options are given where it is made; a loaded model of any
        algorithm of SB3 or sb3-contrib
        (its network is shared, not copied), or its policy alone; its network teaches, and that its ``predict`` does something else is
        a warning; a path to an SB3 zip, or to what ``policy.save`` wrote; a path
        to a folder ``ALGO/ENV_1`` of the RL Zoo;
        ``"zoo:dqn/CartPole-v1"``, looked for among the bundled agents and then in the folders that the environment
        variable ``RL_TRAINED_AGENTS`` lists; ``"hub:sb3/dqn-CartPole-v1"``, from the Hugging Face hub; or a function of one observation.
        An object of one's own that has a ``reset()`` remembers the episode: each environment has a copy of it. A function may also be
        ``"MODULE:NAME"``, whose module is imported, a path to an ONNX file, and one to a file of CleanRL's or rsl_rl's, see
        :mod:`~sb3_distill.agents.foreign`
    :param env_id: the teacher's environment, where it is another than the source tells; only used to choose a temperature, and
        made for that
    :param vec_normalize: the ``VecNormalize`` that the teacher was trained under, or a path to its pickle, where it is another
        than the source tells; of a policy, nothing else can tell it
    :param temperature: τ > 0 in units of Q, or ``"auto"``; of Q-values only
    :param epsilon: ε in [0, 1], by default 0.01, and 0 for logits of a function; of Q-networks, ARS and discrete answers of functions
    :param action_std: of the Gaussian around the one action of TD3, DDPG, ARS or a function, in units of half the action's range,
        by default 0.1; of these only
    :param device: where the teacher answers; a loaded model and a module stay on their own
    :param tune: whether episodes may be played to choose a temperature: no need where it has no effect
    :param answers: of a function: ``"action"`` (default), ``"logits"``, ``"probabilities"``, ``"q_values"`` or ``"mean_and_std"``, see
        :mod:`~sb3_distill.teachers.answer_kinds`. Discrete actions are counted from 0
    :param batched: of a function: whether it takes n observations and answers for each; by default one at a time, but for an
        ``nn.Module``. It is given arrays of NumPy, or dicts of them, and an ``nn.Module`` tensors
    :param value: of a function: another one (or a module, ``MODULE:NAME``, an ONNX file), from the same observations to V_π(s), in units
        of the environment's reward, for rows that need the teacher's value
    :param env: of a function: the environment whose spaces it has, a Gymnasium id, ``MODULE:ID``, or one that was made, which is not
        stepped. By default those of the environment in which it is asked first
    :param observation_space: of a function, in place of ``env``
    :param action_space: likewise
    :param noise: the share in [0, 1] of its actions that is uniform, of ``Discrete`` ones: π becomes (1 − noise) π + noise/|A|, to the
        students and where it plays, in place of the noise that a :class:`Teacher` had. Its value function stays that of the teacher
        without noise, as does its temperature
    :return: the teacher
    :raises FileNotFoundError: if nothing is found under that path or name; names come with the nearest matches
    :raises CheckpointError: if a file is damaged, no checkpoint, or lacks what it needs, and for a policy that cannot teach, as one of
        PPO's with squashed actions
    :raises ValueError: for τ ≤ 0, ε outside [0, 1], or an option that the teacher's family does not have
    """
    noise = check_noise(noise)
    named, source = source, from_name(source)
    of_functions: dict[str, Any] = {"answers": answers, "batched": batched, "value": value}
    of_functions |= {"observation_space": observation_space, "action_space": action_space}
    if isinstance(source, Teacher):
        given: dict[str, Any] = {"temperature": None if temperature == "auto" else temperature, "epsilon": epsilon}
        given |= {"action_std": action_std}
        if named is source:  # a name is looked for with all that is known of where it is to teach
            named = source.name
            given |= {"env_id": env_id, "vec_normalize": vec_normalize, "env": env, **of_functions}
        for option in (name for name, value in given.items() if value is not None):
            raise ValueError(f"{named} is a teacher already: give {option} where it is made.")
        return made_noisy(source, noise) if noise else source
    if temperature != "auto" and not isinstance(temperature, (int, float)):
        raise ValueError(f"temperature must be a number greater than 0 or 'auto', not {temperature!r}.")
    check_softness(None if temperature == "auto" else float(temperature), 0.0 if epsilon is None else epsilon)
    options = {"temperature": None if temperature == "auto" else float(temperature)}
    options |= {"epsilon": epsilon, "action_std": action_std}
    if not isinstance(source, (str, Path, BaseAlgorithm, BasePolicy)) and is_function(source):
        teacher: Teacher = own_teacher(source, env=env, vec_normalize=vec_normalize, options=options, **of_functions)
        teacher.env_id = env_id or teacher.env_id
        if tune:
            _tune(teacher, None)
        return made_noisy(teacher, noise)
    env_id = _of_an_agent(source, env_id, env, of_functions)
    return made_noisy(_load_agent(source, env_id, vec_normalize, options, device, tune), noise)


def _load_agent(
    source: Any, env_id: Any, vec_normalize: Any, options: dict[str, float | None], device: str, tune: bool
) -> Teacher:
    """:func:`load_teacher` for agents of SB3 and sb3-contrib."""
    if env_id is not None and not isinstance(env_id, str):
        raise ValueError(
            f"env_id must be the id of a Gymnasium environment, such as 'CartPole-v1', not {_in_a_line(env_id)}."
        )
    policy, kwargs = _policy_of(source, vec_normalize, device)
    is_its_own = isinstance(source, BaseAlgorithm)
    if env_id is not None and (present := resolve_env_id(env_id)) != kwargs["env_id"]:
        trained = Training(present, wrappers=former_wrappers(env_id, present))
        kwargs |= {"env_id": present, "make_env": None}
        kwargs |= {} if trained.plain else {"make_env": trained.make_vec_env, "vec_wrapper": trained.observe}
        is_its_own = False
    if kwargs["env_id"] is not None and kwargs.get("make_env") is None and is_atari(kwargs["env_id"]):
        kwargs["make_env"] = usual_training(kwargs["env_id"]).make_vec_env
    teacher_class = family_of(type(policy))
    if teacher_class is None:
        raise CheckpointError(
            f"Cannot learn from {kwargs['name']}: its policy is {with_article(type(policy).__name__)}, and known teachers have one of "
            f"{', '.join(sorted({p.__name__ for p, _ in FAMILIES}))}."
        )
    problem = unteachable(policy)
    if problem is not None:
        raise CheckpointError(f"Cannot learn from {kwargs['name']}: {problem}.")
    kwargs |= _options_for(teacher_class, policy, options, kwargs["name"])
    teacher = teacher_class(policy, **kwargs)
    if tune:
        _tune(teacher, source if is_its_own else None)
    if isinstance(source, (BaseAlgorithm, BasePolicy)):
        compare_at_load(teacher, source)
    return teacher


def _of_an_agent(source: Any, env_id: str | None, env: Any, of_functions: dict[str, Any]) -> str | None:
    """The id of an agent's environment, if it was given; nothing that is a function's alone may be."""
    given = [name for name, value in of_functions.items() if value is not None]
    if env is not None and (not isinstance(env, str) or env_id not in (None, env)):
        given.append("env")
    # Of what is no agent either, that alone is said.
    if given and isinstance(source, (str, Path, BaseAlgorithm, BasePolicy)):
        raise ValueError(
            f"{'=… and '.join(given)}=… belong{'s' if len(given) == 1 else ''} to teachers that are functions, and {_in_a_line(source)} is "
            "none: leave it out."
        )
    return env_id if env is None else env


def _tune(teacher: Teacher, model: Any) -> None:
    """Choose the temperature, if it has one to choose: as is known, by play, or in the environment of a loaded model by its memory."""
    if not isinstance(teacher, QTeacher) or teacher.temperature is not None:
        return
    known = None if model is not None else known_choice(teacher)
    if known is not None:
        teacher.settle(known)
    elif model is not None:
        _tune_by_memory(teacher, model)
    elif teacher.env_id is not None:
        tune_temperature(teacher, EPISODES)


def _tune_by_memory(teacher: QTeacher, model: BaseAlgorithm) -> None:
    """Choose the temperature by the states in the model's replay buffer, if there are enough and the network can read them."""
    try:
        obs = recent_states(model)
        q_values = None if obs is None else th.cat([teacher.q_values(part) for part in obs])
        if q_values is None:
            return
        check_q_values(q_values, teacher.name)
    except Exception as error:  # a buffer of the user's own class may hold anything
        warnings.warn(
            f"Not choosing the temperature of {teacher.name} by the states in its replay buffer ({type(error).__name__}: "
            f"{first_line(error)}): the first observations that it is asked about decide.",
            stacklevel=2,
        )
        return
    teacher.choose_temperature(q_values)


def family_of(policy_class: type[BasePolicy]) -> type[Teacher] | None:
    """
    :param policy_class: of SB3 or sb3-contrib
    :return: the class of teacher that it makes, if any
    """
    return next((teacher for policy, teacher in FAMILIES if issubclass(policy_class, policy)), None)


def unteachable(policy: BasePolicy) -> str | None:
    """
    :param policy: of a known family
    :return: why it cannot teach all the same, if so
    """
    if isinstance(policy, (ActorCriticPolicy, MaskableActorCriticPolicy)) and policy.squash_output:
        return "its actions are squashed, and no student's distribution can be compared with theirs: train it with squash_output=False"
    return None


def _options_for(
    teacher_class: type[Teacher], policy: BasePolicy, options: dict[str, float | None], name: str
) -> dict[str, float]:
    """The given options, if they are this family's; what is not given is the class's own default, but for ε."""
    known: tuple[str, ...] = ()
    if issubclass(teacher_class, QTeacher):
        known = ("temperature", "epsilon")
    elif issubclass(teacher_class, DeterministicTeacher):
        known = ("epsilon",) if isinstance(policy.action_space, spaces.Discrete) else ("action_std",)
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if option not in known:
            raise ValueError(
                f"{option} is no option of {name}, {with_article(teacher_class.__name__)}: leave it out"
                f"{' (it has ' + ' and '.join(known) + ')' if known else ''}."
            )
    return ({"epsilon": DEFAULT_EPSILON} if "epsilon" in known else {}) | given


def _policy_of(
    source: Any, vec_normalize: "str | Path | VecNormalize | None", device: str
) -> tuple[BasePolicy, dict[str, Any]]:
    """What load_teacher was given, as a policy and arguments of :class:`Teacher`."""
    if isinstance(source, (str, Path)):
        policy, kwargs = policy_and_settings(find_agent(source), vec_normalize=vec_normalize)
        policy.to(get_device(device))
        return policy, kwargs
    if isinstance(source, BaseAlgorithm):
        policy, kwargs = _from_model(source)
    elif isinstance(source, BasePolicy):
        policy, kwargs = source, {"env_id": None, "name": f"{type(source).__name__} given"}
    else:
        raise ValueError(
            f"Cannot learn from {_in_a_line(source)}: give a Teacher, a model or a policy of SB3 or sb3-contrib, a path to its "
            "file or folder, a name such as 'zoo:dqn/CartPole-v1', or a function from observations to actions."
        )
    if vec_normalize is not None:
        kwargs |= undoing(read_given(vec_normalize, policy.observation_space))
    elif isinstance(source, OnPolicyAlgorithm) and source.get_vec_normalize_env() is None and _was_normalized(source):
        warnings.warn(
            f"{kwargs['name']} was trained under a VecNormalize, and was loaded without it: it is asked about observations as they "
            "are, and may play badly. Give load_teacher vec_normalize=PATH, or load the model with its environment.",
            stacklevel=3,
        )
    return policy, kwargs


def _was_normalized(model: OnPolicyAlgorithm) -> bool:
    """SB3's on-policy algorithms keep an observation from beneath a VecNormalize alone; the others keep one in any case."""
    return model._last_original_obs is not None


def _make_no_second_env(name: str, env_id: str, n_envs: int) -> VecEnv:
    """
    An id says neither the arguments that the environment was made with nor what is around it; a simulator, a window or a robot
    exists once, and another constructor may stop the first one.
    """
    raise ValueError(
        f"The environment of {name} is its own, and no second one is made of its id {env_id!r}: give load_teacher the id of another as "
        "env_id, or play in the model's."
    )


def _from_model(model: BaseAlgorithm) -> tuple[BasePolicy, dict[str, Any]]:
    name = f"{type(model).__name__} model"
    kwargs: dict[str, Any] = {"env_id": env_id_of(model.env), "name": name, "gamma": getattr(model, "gamma", None)}
    if kwargs["env_id"] is not None:
        kwargs["make_env"] = partial(_make_no_second_env, name, kwargs["env_id"])
    vec_normalize = model.get_vec_normalize_env()
    if vec_normalize is not None:
        kwargs |= undoing(normalize_statistics(vec_normalize))
    return model.policy, kwargs
