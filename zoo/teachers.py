"""Finds teachers and makes them answer: loaded models, checkpoints, folders of the RL Zoo, bundled agents."""

import os
import re
import warnings
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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

from sb3_distill.bounded_teachers import DeterministicTeacher, SquashedTeacher
from sb3_distill.envs.atari import is_atari
from sb3_distill.methods import nearest
from sb3_distill.own_predict import compare_at_load
from sb3_distill.questions import env_id_of
from sb3_distill.recent_states import recent_states
from sb3_distill.recurrent_teacher import RecurrentTeacher
from sb3_distill.teachers import ActorCriticTeacher, QTeacher, Teacher, check_softness, tune_temperature
from sb3_distill.temperature import check_q_values
from sb3_distill.user_code import first_line
from sb3_distill.zoo.checkpoint import Checkpoint, in_short
from sb3_distill.zoo.errors import CheckpointError
from sb3_distill.zoo.goals import by_key, is_joined
from sb3_distill.zoo.hub import zoo_rule
from sb3_distill.zoo.layout import around, holds_statistics, run_name, zip_in
from sb3_distill.zoo.own_classes import remedy
from sb3_distill.zoo.policy_file import read_agent
from sb3_distill.zoo.run_settings import STUDENT, read_run, run_file
from sb3_distill.zoo.saved_policy import POLICIES, build_policy
from sb3_distill.zoo.settings import Training, read_config, training, usual_training
from sb3_distill.zoo.statistics import (
    NormalizeStatistics,
    check_observations,
    normalize_statistics,
    normalizer,
    read_vecnormalize,
)

#: agents that ship with the package, in the layout of the RL Zoo
BUNDLED = Path(__file__).parent / "agents"

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
    source: "str | Path | BaseAlgorithm | BasePolicy | Teacher",
    *,
    env_id: str | None = None,
    vec_normalize: "str | Path | VecNormalize | None" = None,
    temperature: "float | str" = "auto",
    epsilon: float | None = None,
    action_std: float | None = None,
    device: str = "auto",
    tune: bool = True,
) -> Teacher:
    """
    Make a teacher.

    A Q-network's policy is (1−ε) softmax(Q/τ) + ε/|A|. ``temperature="auto"`` chooses the largest τ that does what the greedy
    policy does; ``teacher.temperature_report`` says by what and what it costs. Of a checkpoint that tells its environment, by 6
    episodes there, for at most 10 seconds (mostly one). Of a loaded model, whose environment may be one that exists once, no
    second one is made: by the states in its replay buffer, or if there are none, the first observations that the teacher is asked
    about, until there are 256. So it is where the episodes fail, too, after a warning. τ is in units of Q, and found in units of
    the Q-values' own spread: whatever the rewards are multiplied by, the policy is the same.

    :param source: a :class:`Teacher`, which is returned as it is; a loaded model of any algorithm of SB3 or sb3-contrib
        (its network is shared, not copied), or its policy alone; its network teaches, and that its ``predict`` does something else is
        a warning; a path to an SB3 zip, or to what ``policy.save`` wrote; a path
        to a folder ``ALGO/ENV_1`` of the RL Zoo;
        ``"zoo:dqn/CartPole-v1"``, looked for among the bundled agents and then in the folders that the environment
        variable ``RL_TRAINED_AGENTS`` lists; or ``"hub:sb3/dqn-CartPole-v1"``, from the Hugging Face hub
    :param env_id: the teacher's environment, where it is another than the source tells; only used to choose a temperature, and
        made for that
    :param vec_normalize: the ``VecNormalize`` that the teacher was trained under, or a path to its pickle, where it is another
        than the source tells; of a policy, nothing else can tell it
    :param temperature: τ > 0 in units of Q, or ``"auto"``; of Q-networks only
    :param epsilon: ε in [0, 1], by default 0.01; of Q-networks and ARS only
    :param action_std: of the Gaussian around the one action of TD3, DDPG and ARS, in units of half the action's range,
        by default 0.1; of these only
    :param device: where the teacher answers; a loaded model stays on its own
    :param tune: whether episodes may be played to choose a temperature: no need where it has no effect
    :return: the teacher
    :raises FileNotFoundError: if nothing is found under that path or name; names come with the nearest matches
    :raises CheckpointError: if a file is damaged, no checkpoint, or lacks what it needs
    :raises ValueError: for τ ≤ 0, ε outside [0, 1], or an option that the teacher's family does not have
    """
    if isinstance(source, Teacher):
        return source
    if temperature != "auto" and not isinstance(temperature, (int, float)):
        raise ValueError(f"temperature must be a number greater than 0 or 'auto', not {temperature!r}.")
    check_softness(None if temperature == "auto" else float(temperature), 0.0 if epsilon is None else epsilon)
    options = {"temperature": None if temperature == "auto" else float(temperature)}
    options |= {"epsilon": epsilon, "action_std": action_std}

    if env_id is not None and not isinstance(env_id, str):
        raise ValueError(
            f"env_id must be the id of a Gymnasium environment, such as 'CartPole-v1', not {_in_a_line(env_id)}."
        )
    policy, kwargs = _policy_of(source, vec_normalize, device)
    is_its_own = isinstance(source, BaseAlgorithm)
    if env_id is not None and resolve_env_id(env_id) != kwargs["env_id"]:
        kwargs |= {"env_id": resolve_env_id(env_id), "make_env": None}
        is_its_own = False
    if kwargs["env_id"] is not None and kwargs.get("make_env") is None and is_atari(kwargs["env_id"]):
        kwargs["make_env"] = usual_training(kwargs["env_id"]).make_vec_env
    teacher_class = family_of(type(policy))
    if teacher_class is None:
        raise CheckpointError(
            f"Cannot learn from {kwargs['name']}: its policy is a {type(policy).__name__}, and known teachers have one of "
            f"{', '.join(sorted({p.__name__ for p, _ in FAMILIES}))}."
        )
    kwargs |= _options_for(teacher_class, policy, options, kwargs["name"])
    teacher = teacher_class(policy, **kwargs)
    if tune and isinstance(teacher, QTeacher) and teacher.temperature is None:
        if not is_its_own and teacher.env_id is not None:
            tune_temperature(teacher, EPISODES)
        elif isinstance(source, BaseAlgorithm):
            _tune_by_memory(teacher, source)
    if isinstance(source, (BaseAlgorithm, BasePolicy)):
        compare_at_load(teacher, source)
    return teacher


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
                f"{option} is no option of {name}, a {teacher_class.__name__}: leave it out"
                f"{' (it has ' + ' and '.join(known) + ')' if known else ''}."
            )
    return ({"epsilon": DEFAULT_EPSILON} if "epsilon" in known else {}) | given


class Agent(NamedTuple):
    """Where the files of an agent are.

    :param checkpoint: the zip
    :param name: for messages and tables
    :param env_id: as it was when the agent was trained, if that is known
    :param config: ``config.yml``, if there is one
    :param args: ``args.yml``, if there is one
    :param vec_normalize: statistics; several if their names do not tell which are the agent's
    :param env_kwargs: ``env_kwargs.yml``, if there is one
    :param run: what a run of ``sb3-distill distill`` says about its student, if it is one
    :param guessed: whether the environment is only what the name of the file sounds like. It may have had other arguments and
        wrappers, so none is made of it unasked
    """

    checkpoint: Path
    name: str
    env_id: str | None = None
    config: Path | None = None
    args: Path | None = None
    vec_normalize: tuple[Path, ...] = ()
    env_kwargs: Path | None = None
    run: Path | None = None
    guessed: bool = False


def find_agent(source: str | Path) -> Agent:
    """
    The files that a path or a name means.

    :param source: a zip, a folder ``ALGO/ENV_1``, ``"zoo:ALGO/ENV"`` or ``"hub:OWNER/REPOSITORY"``
    :return: them
    :raises FileNotFoundError: if there is no checkpoint
    """
    if str(source).startswith("hub:"):
        return _from_hub(str(source))
    return agent_of(find_checkpoint(source))


def agent_of(path: Path) -> Agent:
    """
    The files that belong to a zip: the one reading that loading, inspecting and listing share.

    :param path: the zip
    :return: it with its settings and statistics
    :raises CheckpointError: if they cannot be told from another agent's
    """
    there = around(path)
    run = run_file(path) if there.folder is None and there.config is None else None
    if run is not None:
        name = str(path.parent if path.name == STUDENT else path)
        return Agent(path, name, vec_normalize=there.vec_normalize, run=run)
    told = args_of(there.args).get("env")
    env_id = _environment_of(there.folder, path)
    if isinstance(told, str) and (env_id is None or told.replace("/", "-") == env_id):  # a folder's name has no slash
        env_id = told
    name = str(path)
    if there.folder is not None and path.parent.parent.name and env_id is not None:
        name = f"{path.parent.parent.name}/{env_id.replace('/', '-')}"
    guessed = env_id is None
    if guessed:
        env_id = zoo_rule(path.stem, path.parent.name)[1]
    return Agent(path, name, env_id, there.config, there.args, there.vec_normalize, there.env_kwargs, guessed=guessed)


def _environment_of(settings: Path | None, path: Path) -> str | None:
    """What the RL Zoo calls the folder with the settings, if it is the zoo's."""
    if settings is None:
        return None
    looks = re.fullmatch(r".+-v\d+", settings.name) or settings.name == run_name(path.parent.name)[0]
    return settings.name if looks else None


def args_of(path: Path | None) -> dict[str, Any]:
    """
    :param path: an ``args.yml``, if there is one
    :return: what it says; nothing if it cannot be read, which reading the agent's training will say
    """
    try:
        return read_config(path) if path is not None else {}
    except (CheckpointError, OSError):
        return {}


def find_checkpoint(source: str | Path) -> Path:
    """
    The zip that a path or a name means.

    :param source: a zip, a folder ``ALGO/ENV_1``, or ``"zoo:ALGO/ENV"``
    :return: the path of the zip
    :raises FileNotFoundError: if there is none
    """
    text = str(source)
    if text.startswith("zoo:"):
        return zip_in(_find_in_zoo(text.removeprefix("zoo:")))
    path = Path(source).expanduser().absolute()
    zipped = path.parent / f"{path.name}.zip"
    if not path.is_file() and zipped.is_file():  # in the zoo, beside a folder of that name with its settings
        return zipped
    if path.is_dir():
        return zip_in(path)
    if not path.exists() and text in zoo_folders():  # "zoo:" was forgotten
        return zip_in(zoo_folders()[text])
    if not path.exists():
        raise FileNotFoundError(
            f"No teacher at {text!r}: give a path to an SB3 zip or folder, or a name such as 'zoo:dqn/CartPole-v1'."
        )
    return path


def zoo_roots() -> tuple[list[Path], list[str]]:
    """
    :return: the folders that ``RL_TRAINED_AGENTS`` lists, and as it names them those that are not there
    """
    named = [text.strip() for text in os.environ.get("RL_TRAINED_AGENTS", "").split(os.pathsep) if text.strip()]
    paths = {text: Path(os.path.expandvars(text)).expanduser().absolute() for text in named}
    return [path for path in paths.values() if path.is_dir()], [
        text for text, path in paths.items() if not path.is_dir()
    ]


def zoo_folders() -> dict[str, Path]:
    """
    Every agent at hand: bundled ones first, then those in the folders of ``RL_TRAINED_AGENTS``. Such a folder may also be
    that of one algorithm, or of one agent. One that is not there is named in a warning.

    :return: from names ``"ALGO/ENV"`` to the agents' folders, the highest run of each
    """
    roots, missing = zoo_roots()
    for text in missing:
        warnings.warn(f"RL_TRAINED_AGENTS names {text!r}, and there is no such folder.", stacklevel=2)
    found: dict[str, Path] = {}
    for root in (BUNDLED, *roots):
        here: dict[str, tuple[int, Path]] = {}
        folders = [path for path in (*root.glob("*/*"), *root.glob("*"), root) if path.is_dir()]
        for folder in sorted(folders, key=lambda folder: -len(folder.parts)):
            deep = len(folder.parts) - len(root.parts) == 2
            name, run = _name_and_run(folder, deep)
            if name is not None:
                here[name] = max(here.get(name, (-1, folder)), (run, folder))
        for name, (_, folder) in sorted(here.items()):
            found.setdefault(name, folder)
    return found


def _name_and_run(folder: Path, deep: bool) -> tuple[str | None, int]:
    """``ALGO/ENV`` and the number of a run's folder; no name if it is none. A folder that is not where the zoo has it must hold one."""
    env_id, run = run_name(folder.name)
    holds = any(folder.glob("*.zip"))
    if run is not None and (deep or holds):
        return f"{folder.parent.name}/{env_id}", run
    if not holds:
        return None, 0
    try:  # renamed or copied: what its files say
        args = args_of(agent_of(zip_in(folder)).args)
    except (CheckpointError, FileNotFoundError):
        return None, 0
    if not isinstance(args.get("env"), str):
        return None, 0
    algo = args["algo"] if isinstance(args.get("algo"), str) else folder.parent.name
    return f"{algo}/{args['env'].replace('/', '-')}", 0


def _find_in_zoo(name: str) -> Path:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "RL_TRAINED_AGENTS names")  # if it matters, the error says so
        folders = zoo_folders()
    algo, slash, env_id = name.partition("/")
    name = algo + slash + env_id.replace("/", "-")  # as rl_zoo3 files them
    if name in folders:
        return folders[name]
    # An agent is filed under the name that its environment had then: LunarLander-v2, now v3.
    former = [known for known in folders if known.rpartition("-v")[0] == name.rpartition("-v")[0] and "-v" in known]
    if former and name.partition("/")[2] in gym.registry:
        return folders[max(former)]
    missing = "".join(f" The folder {text} is not there." for text in zoo_roots()[1])
    raise FileNotFoundError(f"No agent 'zoo:{name}': {nearest(name, folders, limit=8)}{missing} {_how_to_get(name)}")


def _how_to_get(name: str) -> str:
    """Where an agent of the RL Zoo is to be had."""
    hub = f"hub:sb3/{name.replace('/', '-')}"
    if zoo_roots()[0]:
        return f"The RL Zoo's others are on the Hub, such as {hub!r}."
    clone = "git clone https://github.com/DLR-RM/rl-trained-agents"
    return f"Set RL_TRAINED_AGENTS to a folder of agents to have more ({clone!r} has the RL Zoo's), or take {hub!r} from the Hub."


def _from_hub(name: str) -> Agent:
    from sb3_distill.zoo.hub import hub_agent

    found = hub_agent(name)
    statistics = (found.vec_normalize,) if found.vec_normalize is not None else ()
    return Agent(found.zip, name, found.env_id, found.config, found.args, statistics, found.env_kwargs)


def resolve_env_id(env_id: str) -> str:
    """
    Follow an environment to its present name.

    :param env_id: a Gymnasium id, as it was when an agent was trained
    :return: the id itself, or the newest registered version under that name, with a warning
    """
    name, _, version = env_id.rpartition("-v")
    if env_id in gym.registry or not version.isdigit():
        return env_id
    versions = [int(known.rpartition("-v")[2]) for known in gym.registry if known.rpartition("-v")[0] == name]
    if not versions:
        return env_id
    newest = f"{name}-v{max(versions)}"
    warnings.warn(
        f"Environment {env_id} is now {newest}: the agent trained on the former plays the latter.", stacklevel=2
    )
    return newest


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
            "file or folder, or a name such as 'zoo:dqn/CartPole-v1'."
        )
    if vec_normalize is not None:
        kwargs |= _normalization(read_given(vec_normalize, policy.observation_space))
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


def _make_no_env_of_a_name(name: str, env_id: str, n_envs: int) -> VecEnv:
    """What was saved under such a name may have learnt with other arguments, in other wrappers, or elsewhere."""
    raise ValueError(
        f"That {name} is of {env_id!r} is only what its name sounds like, and no environment is made of that: give load_teacher "
        "env_id=… to say so."
    )


def _from_model(model: BaseAlgorithm) -> tuple[BasePolicy, dict[str, Any]]:
    name = f"{type(model).__name__} model"
    kwargs: dict[str, Any] = {"env_id": env_id_of(model.env), "name": name}
    if kwargs["env_id"] is not None:
        kwargs["make_env"] = partial(_make_no_second_env, name, kwargs["env_id"])
    vec_normalize = model.get_vec_normalize_env()
    if vec_normalize is not None:
        kwargs |= _normalization(normalize_statistics(vec_normalize))
    return model.policy, kwargs


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
    statistics = statistics_of(agent, trained, checkpoint, policy.observation_space, vec_normalize)
    if statistics is not None:
        kwargs |= _normalization(statistics)
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
    check_observations(statistics, seen, str(path), frames)
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


def read_training_of(agent: Agent) -> Training | None:
    """
    :param agent: whose settings are read
    :return: where it was trained; None if that is not known
    :raises CheckpointError: if the settings hold anything but plain values
    """
    if agent.run is not None:
        return read_run(agent.run)
    config = read_config(agent.config) if agent.config else {}
    args = read_config(agent.args) if agent.args else {}
    # Beside the zip, the Hub has the environment's arguments in a file of their own.
    env_kwargs = args.get("env_kwargs") or (read_config(agent.env_kwargs) if agent.env_kwargs else None)
    env_id = agent.env_id if agent.env_id is not None else args.get("env")
    if env_id is None and not config:
        return None
    # Gymnasium imports what comes before a colon, and no file says what is imported.
    known = resolve_env_id(env_id) if isinstance(env_id, str) and ":" not in env_id else None
    return training(known, config, env_kwargs, agent.config or agent.checkpoint)


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


def _normalization(statistics: NormalizeStatistics) -> dict[str, Any]:
    """The arguments of :class:`Teacher` that undo a ``VecNormalize`` of its training."""
    return {"normalize_obs": normalizer(statistics), "value_scale": statistics.reward_scale}
