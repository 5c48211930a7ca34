"""Finds teachers and makes them answer: loaded models, checkpoints, folders of the RL Zoo, bundled agents."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch as th
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.dqn.policies import DQNPolicy

from sb3_distill.methods import nearest
from sb3_distill.teachers import ActorCriticTeacher, QTeacher, Teacher, check_softness, tune_temperature
from sb3_distill.zoo.checkpoint import (
    CheckpointError,
    NormalizeStatistics,
    normalize_statistics,
    read_checkpoint,
    read_config,
    read_vecnormalize,
)

#: agents that ship with the package, in the layout of the RL Zoo
BUNDLED = Path(__file__).parent / "agents"

#: Which policies can teach, and how. A further family of algorithms is a further line here and a class in teachers.py.
FAMILIES: dict[str, tuple[type[BasePolicy], type[Teacher]]] = {
    "stable_baselines3.dqn.policies.DQNPolicy": (DQNPolicy, QTeacher),
    "sb3_contrib.qrdqn.policies.QRDQNPolicy": (QRDQNPolicy, QTeacher),
    "stable_baselines3.common.policies.ActorCriticPolicy": (ActorCriticPolicy, ActorCriticTeacher),
}

#: ε of Q-network teachers: it bounds log π from below at log(ε/|A|), −5.3 for two actions
DEFAULT_EPSILON = 0.01


def load_teacher(
    source: "str | Path | BaseAlgorithm | Teacher",
    *,
    env_id: str | None = None,
    temperature: "float | str" = "auto",
    epsilon: float | None = None,
    device: str = "auto",
) -> Teacher:
    """
    Make a teacher.

    A Q-network's policy is (1−ε) softmax(Q/τ) + ε/|A|. ``temperature="auto"`` chooses the largest τ that plays as the
    greedy policy does, by 40 episodes in the teacher's environment if its id is known, else from the first
    observations that the teacher is asked about; ``teacher.temperature_report`` says which and what it costs.

    :param source: a :class:`Teacher`, which is returned as it is; a loaded SB3 model (DQN, QR-DQN, PPO, A2C, TRPO; its
        network is shared, not copied); a path to an SB3 zip; a path to a folder ``ALGO/ENV_1`` of the RL Zoo; or
        ``"zoo:dqn/CartPole-v1"``, looked for among the bundled agents and then in the folders that the environment
        variable ``RL_TRAINED_AGENTS`` lists
    :param env_id: the teacher's environment, where the source does not tell; only used to choose a temperature
    :param temperature: τ > 0 in units of Q, or ``"auto"``; of Q-networks only
    :param epsilon: ε in [0, 1], by default 0.01; of Q-networks only
    :param device: where the teacher answers; a loaded model stays on its own
    :return: the teacher
    :raises FileNotFoundError: if nothing is found under that path or name; names come with the nearest matches
    :raises CheckpointError: if a file is damaged, no checkpoint, or lacks what it needs
    :raises ValueError: for τ ≤ 0, ε outside [0, 1], or either with a teacher that is no Q-network
    """
    if isinstance(source, Teacher):
        return source
    if temperature != "auto" and not isinstance(temperature, (int, float)):
        raise ValueError(f"temperature must be a number greater than 0 or 'auto', not {temperature!r}.")
    check_softness(None if temperature == "auto" else float(temperature), 0.0 if epsilon is None else epsilon)

    kwargs: dict[str, Any]
    if isinstance(source, BaseAlgorithm):
        policy, kwargs = _from_model(source)
    else:
        policy, kwargs = _from_path(find_checkpoint(source), get_device(device))
    if env_id is not None:
        kwargs["env_id"] = resolve_env_id(env_id)
    teacher_class = next((t for p, t in FAMILIES.values() if isinstance(policy, p)), None)
    if teacher_class is None or isinstance(policy, RecurrentActorCriticPolicy):  # whose answer depends on the past
        raise CheckpointError(
            f"Cannot learn from {kwargs['name']}: its policy is a {type(policy).__name__}, and known teachers have one of "
            f"{', '.join(sorted(p.__name__ for p, _ in FAMILIES.values()))}."
        )
    if not issubclass(teacher_class, QTeacher):
        if temperature != "auto" or epsilon is not None:
            raise ValueError(
                f"temperature and epsilon belong to Q-network teachers, and {kwargs['name']} is none: leave them out."
            )
        return teacher_class(policy, **kwargs)
    teacher = teacher_class(
        policy,  # type: ignore[arg-type]
        temperature=None if temperature == "auto" else float(temperature),
        epsilon=DEFAULT_EPSILON if epsilon is None else epsilon,
        **kwargs,
    )
    if teacher.temperature is None and teacher.env_id is not None and teacher.env_id in gym.registry:
        tune_temperature(teacher, teacher.env_id)
    return teacher


def find_checkpoint(source: str | Path) -> Path:
    """
    The zip that a path or a name means.

    :param source: a zip, a folder ``ALGO/ENV_1``, or ``"zoo:ALGO/ENV"``
    :return: the path of the zip
    :raises FileNotFoundError: if there is none
    """
    text = str(source)
    if text.startswith("zoo:"):
        return _checkpoint_in(_find_in_zoo(text.removeprefix("zoo:")))
    path = Path(source).expanduser().absolute()
    zipped = path.parent / f"{path.name}.zip"
    if not path.is_file() and zipped.is_file():  # in the zoo, beside a folder of that name with its settings
        return zipped
    if path.is_dir():
        return _checkpoint_in(path)
    if not path.exists():
        raise FileNotFoundError(
            f"No teacher at {text!r}: give a path to an SB3 zip or folder, or a name such as 'zoo:dqn/CartPole-v1'."
        )
    return path


def zoo_folders() -> dict[str, Path]:
    """
    Every agent at hand: bundled ones first, then those in the folders of ``RL_TRAINED_AGENTS``.

    :return: from names ``"ALGO/ENV"`` to folders ``…/ALGO/ENV_N``, the highest N of each
    """
    roots = [BUNDLED, *(Path(p) for p in os.environ.get("RL_TRAINED_AGENTS", "").split(os.pathsep) if p)]
    found: dict[str, Path] = {}
    for root in roots:
        here: dict[str, tuple[int, Path]] = {}
        for folder in root.glob("*/*_*"):
            env_id, _, run = folder.name.rpartition("_")
            if folder.is_dir() and run.isdigit():
                name = f"{folder.parent.name}/{env_id}"
                here[name] = max(here.get(name, (0, folder)), (int(run), folder))
        for name, (_, folder) in sorted(here.items()):
            found.setdefault(name, folder)
    return found


def _find_in_zoo(name: str) -> Path:
    folders = zoo_folders()
    if name in folders:
        return folders[name]
    # An agent is filed under the name that its environment had then: LunarLander-v2, now v3.
    former = [known for known in folders if known.rpartition("-v")[0] == name.rpartition("-v")[0] and "-v" in known]
    if former and name.partition("/")[2] in gym.registry:
        return folders[max(former)]
    where = "" if os.environ.get("RL_TRAINED_AGENTS") else " Set RL_TRAINED_AGENTS to a folder of agents to have more."
    raise FileNotFoundError(f"No agent 'zoo:{name}': {nearest(name, list(folders))}{where}")


def _checkpoint_in(folder: Path) -> Path:
    env_id = folder.name.rpartition("_")[0] or folder.name
    for candidate in (folder / f"{env_id}.zip", folder / "best_model.zip"):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"No checkpoint in {folder}: it has neither {env_id}.zip nor best_model.zip.")


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


def _from_model(model: BaseAlgorithm) -> tuple[BasePolicy, dict[str, Any]]:
    env_id = None
    if model.env is not None:
        try:
            spec = model.env.get_attr("spec", 0)[0]
            env_id = spec.id if spec is not None else None
        except (AttributeError, NotImplementedError):
            pass
    kwargs: dict[str, Any] = {"env_id": env_id, "name": f"{type(model).__name__} model"}
    vec_normalize = model.get_vec_normalize_env()
    if vec_normalize is not None:
        kwargs |= _normalization(normalize_statistics(vec_normalize))
    return model.policy, kwargs


def _from_path(path: Path, device: Any) -> tuple[BasePolicy, dict[str, Any]]:
    env_id = path.parent.name.rpartition("_")[0] or path.stem
    settings = path.parent / env_id
    kwargs: dict[str, Any] = {"name": str(path), "env_id": None}
    if path.parent.parent.name and settings.is_dir():
        kwargs |= {"env_id": resolve_env_id(env_id), "name": f"{path.parent.parent.name}/{env_id}"}
    config = read_config(settings / "config.yml") if (settings / "config.yml").is_file() else {}
    if config.get("normalize"):
        statistics_path = settings / "vecnormalize.pkl"
        if not statistics_path.is_file():
            raise CheckpointError(
                f"{path} was trained on normalised observations (normalize: {config['normalize']} in its config.yml), and "
                f"{statistics_path} is missing: put it there."
            )
        kwargs |= _normalization(read_vecnormalize(statistics_path))

    checkpoint = read_checkpoint(path)
    family = FAMILIES.get(checkpoint.policy_class)
    if family is None:
        raise CheckpointError(
            f"{path} cannot teach yet: its policy is a {checkpoint.policy_class}, and known are {', '.join(sorted(FAMILIES))}."
        )
    try:
        with th.random.fork_rng(devices=[]):  # the network is first filled with random numbers, on the CPU
            policy = family[0](
                checkpoint.observation_space,
                checkpoint.action_space,
                lr_schedule=lambda _: 0.0,
                **checkpoint.policy_kwargs,
            )
        policy.load_state_dict(checkpoint.weights)
    except Exception as error:  # SB3 builds a network from hostile sizes and spaces until something breaks
        raise CheckpointError(f"{path} has weights that do not fit the network it describes: {error}") from error
    policy.set_training_mode(False)
    return policy.to(device), kwargs


def _normalization(statistics: NormalizeStatistics) -> dict[str, Any]:
    """The arguments of :class:`Teacher` that undo a ``VecNormalize`` of its training."""
    return {"normalize_obs": normalizer(statistics), "value_scale": statistics.reward_scale}


def normalizer(statistics: NormalizeStatistics) -> Callable[[Any], Any] | None:
    """
    From an environment's observations to those that the teacher was trained on, by SB3's own formula.

    :param statistics: frozen
    :return: a function of a batch of observations; None if observations were left alone
    """
    if statistics.obs_mean is None:
        return None
    # A VecNormalize that wraps nothing: its methods need the statistics only.
    frozen = VecNormalize.__new__(VecNormalize)
    frozen.norm_obs, frozen.clip_obs, frozen.epsilon = True, statistics.clip_obs, statistics.epsilon

    def running(mean: Any, var: Any) -> RunningMeanStd:
        rms = RunningMeanStd(shape=mean.shape)
        rms.mean, rms.var = mean, var
        return rms

    if isinstance(statistics.obs_mean, dict):
        frozen.norm_obs_keys = list(statistics.obs_mean)
        frozen.obs_rms = {k: running(statistics.obs_mean[k], statistics.obs_var[k]) for k in statistics.obs_mean}
    else:
        frozen.obs_rms = running(statistics.obs_mean, statistics.obs_var)  # type: ignore[assignment]
    return frozen.normalize_obs
