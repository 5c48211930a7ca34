"""What a run is made from, where somebody leaves it out: environment, teacher, engine, folder."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sb3_distill.common.nearest import nearest
from sb3_distill.common.own_env import find_environment
from sb3_distill.experiment import offline
from sb3_distill.experiment.checks import check_settings
from sb3_distill.experiment.settings import ROW_OPTIONS, Settings

if TYPE_CHECKING:
    from sb3_distill.experiment.plan import Plan
    from sb3_distill.memory.memory import About

#: what the name of the default folder begins with, and what changes nothing about the student
UNNAMED = ("method", "engine", "env", "seed", "threads", "device", "eval_episodes", "tensorboard_log")

#: what is in that name only where runs differ in it
ALSO_NAMED = ("net_arch", "steps", "n_envs", "temperature")


def settled(given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Check what says how is learnt, and fill in what was left out.

    :param given: fields of :class:`~sb3_distill.experiment.settings.Settings` by name; None is left out, and ``method`` may have hyphens
    :return: the same, with the method's name as the table has it, an engine, and the rows' options
    :raises ValueError: for a name that there is not, and options that the method does not have
    """
    from sb3_distill.algorithms.engines import ENGINES
    from sb3_distill.rules.methods import get_method, method_names

    typed = str(given.get("method") or "n_distill")
    method = typed.replace("-", "_")
    choices = (*method_names(), offline.NAME)
    if method not in choices:
        raise ValueError(f"Unknown method {typed!r}: {nearest(method, choices)}")
    is_offline = method == offline.NAME
    foreign = tuple(ROW_OPTIONS) if is_offline else offline.OPTIONS
    too_much = [f"{name}=…" for name in foreign if given.get(name) is not None]
    if too_much:
        raise ValueError(
            f"method={hyphens(method)!r} has no {' and no '.join(too_much)}: leave out what it does not have."
        )
    engines = offline.ENGINES if is_offline else tuple(ENGINES)
    engine = given.get("engine") or engines[0]
    if engine not in engines:
        raise ValueError(f"Unknown engine {engine!r} of {hyphens(method)}: {nearest(str(engine), engines)}")
    whole = {**given, "method": method, "engine": engine}
    if is_offline:
        if given.get("memory") is not None and given.get("epsilon") is not None:
            raise ValueError(
                "epsilon=… is of the teacher's play, and with memory=… it does not play: leave one of them out."
            )
        return whole
    whole |= {name: value for name, value in ROW_OPTIONS.items() if whole.get(name) is None}
    get_method(method, whole["form"], whole["baseline"], whole["control"], whole["weight"])
    return whole


def settings_from(given: Mapping[str, Any]) -> Settings:
    """
    :param given: fields of :class:`~sb3_distill.experiment.settings.Settings` by name; what is left out or None is found: the
        environment from the memory or the teacher, the teacher from the memory or the environment
    :return: the experiment that they describe
    :raises ValueError: for unknown names, values that a setting cannot have, if nothing says which environment it is, or there is no
        such; also OSError and ImportError
    """
    from sb3_distill.algorithms.offline_memory import open_memory
    from sb3_distill.memory.check import check_memory

    known = [f.name for f in fields(Settings)]
    for name in given:
        if name not in known:
            raise ValueError(f"Unknown setting {name!r}: {nearest(name, known)}")
    whole = settled(check_settings(given))
    memory: Any = whole.get("memory")
    teacher = whole.get("teacher")
    about = None if memory is None else open_memory(memory).about
    env = whole.get("env") or (default_env(teacher) if about is None else env_of_memory(memory, about))
    env_id = find_environment(env)
    if about is not None:
        check_memory(about, env_id=env_id, name=f"The memory {memory}")
        # It plays where its states are from, but for what is asked for.
        whole["env_kwargs"] = {**(about.env_kwargs or {}), **(whole.get("env_kwargs") or {})}
    if teacher is None:
        teacher = default_teacher(env_id) if about is None else teacher_of_memory(memory, about)
    whole |= {"env": env, "teacher": teacher}
    if whole.get("net_arch") is not None:
        whole["net_arch"] = tuple(whole["net_arch"])
    return Settings(**{name: value for name, value in whole.items() if value is not None})


def default_out(plan: "Plan", env_kwargs: Mapping[str, Any]) -> Path:
    """
    :param plan: of the experiment
    :param env_kwargs: that were typed, without those of a memory
    :return: where its files go if nothing else is said
    """
    from sb3_distill.experiment.run_folder import default_folder

    settings = plan.settings
    start = f"{hyphens(settings.method)}-{settings.engine}-{settings.env_id.replace('/', '-')}-{settings.seed}"
    usual = asdict(Settings(settings.env, default_teacher(settings.env_id))) | ROW_OPTIONS
    typed = asdict(settings) | {"env_kwargs": dict(env_kwargs)}
    given = {name: value for name, value in typed.items() if value not in (None, usual[name])}
    also = {name: given[name] for name in ALSO_NAMED if name in given}
    if settings.memory is not None:  # whose teacher it is, and whose path may be long
        given.pop("teacher", None)
        also["memory"] = given["memory"]
        given["memory"] = Path(settings.memory).expanduser().absolute().name.removeprefix("memory-")
    named = {name: value for name, value in given.items() if name not in (*UNNAMED, *ALSO_NAMED)}
    return default_folder(start, named, also, plan.described)


def default_env(teacher: str | None) -> str:
    """
    :param teacher: as it was typed, if it was
    :return: the environment of its training; the bundled agent's if no teacher was named
    :raises ValueError: if nothing says it; also for a teacher that cannot be read
    """
    from sb3_distill.agents.find import find_agent, read_training_of
    from sb3_distill.agents.training_envs import of_unknown_module

    if teacher is None:
        return "CartPole-v1"
    agent = find_agent(teacher)
    trained = read_training_of(agent)
    if trained is None or trained.env_id is None:
        raise ValueError(
            of_unknown_module(agent, teacher) or f"Nothing says which environment {teacher} is of: give env=…."
        )
    return trained.env_id


def env_of_memory(memory: str, about: "About") -> str:
    """
    :param memory: as it was typed
    :param about: what it is of
    :return: the environment that it was recorded in
    :raises ValueError: if it does not say, or that is not registered here
    """
    import gymnasium as gym

    from sb3_distill.common.env_ids import is_known

    env_id = about.env_id
    if env_id is None:
        raise ValueError(f"Nothing says which environment {memory} is of: give env=….")
    if env_id not in gym.registry and (about.module or not is_known(env_id)):
        of = f"{about.module or 'MODULE'}:{env_id}"
        raise ValueError(
            f"The memory {memory} was recorded in {of}, which is not registered here: give env={of!r} if you trust that module, "
            "which is imported then."
        )
    return env_id


def teacher_of_memory(memory: str, about: "About") -> str:
    """
    :param memory: as it was typed
    :param about: what it is of
    :return: the teacher that it names, if that is at hand: of the zoo, or a path
    :raises ValueError: if it is not
    """
    from sb3_distill.agents.find import zoo_folders

    name = about.teacher
    if name in zoo_folders():
        return f"zoo:{name}"
    if Path(name).exists():
        return name
    raise ValueError(f"The memory {memory} is of the teacher {name!r}, which is not here: give teacher=….")


def default_teacher(env_id: str) -> str:
    """
    :param env_id: a Gymnasium id
    :return: the name of the teacher for it
    """
    return f"zoo:dqn/{env_id}"


def hyphens(name: str) -> str:
    """
    :param name: of a method
    :return: as it is typed
    """
    return name.replace("_", "-")
