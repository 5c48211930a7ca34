"""Where the files of an agent are: paths, folders of the RL Zoo, names, the Hub."""

import os
import re
import warnings
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym

from sb3_distill.agents.errors import CheckpointError
from sb3_distill.agents.hub import zoo_rule
from sb3_distill.agents.layout import around, run_name, zip_in
from sb3_distill.agents.run_settings import STUDENT, read_run, run_file
from sb3_distill.agents.training import Training, read_config, training
from sb3_distill.common.mujoco import differences, former_wrappers, present_name
from sb3_distill.common.nearest import nearest
from sb3_distill.common.own_object import is_object_name

#: agents that ship with the package, in the layout of the RL Zoo
BUNDLED = Path(str(files("sb3_distill.zoo"))) / "agents"


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
    if is_object_name(source):  # of a module: no file says anything about it
        return Agent(Path(source), str(source))
    return agent_of(find_checkpoint(source))


def agent_of(path: Path) -> Agent:
    """
    The files that belong to a zip: the one reading that loading, inspecting and listing share.

    :param path: the zip
    :return: it with its settings and statistics
    :raises CheckpointError: if they cannot be told from another agent's
    """
    there = around(path)
    of_a_run = path.name == STUDENT or not (path.parent / STUDENT).exists()  # or the student under another name
    run = run_file(path) if of_a_run and there.folder is None and there.config is None else None
    if run is not None:
        # No statistics: a run trains without VecNormalize, and what lies beside its student is another agent's.
        return Agent(path, str(path.parent if path.name == STUDENT else path), run=run)
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
    from sb3_distill.agents.hub import hub_agent

    found = hub_agent(name)
    statistics = (found.vec_normalize,) if found.vec_normalize is not None else ()
    return Agent(found.zip, name, found.env_id, found.config, found.args, statistics, found.env_kwargs)


def resolve_env_id(env_id: str) -> str:
    """
    Follow an environment to its present name.

    :param env_id: a Gymnasium id, as it was when an agent was trained
    :return: the id itself, or the newest registered version under that name, with a warning. Of MuJoCo's, -v5 where Gymnasium registers
        an id and cannot make it; the warning says what differs
    """
    mujoco = present_name(env_id)
    if mujoco is not None:
        warnings.warn(
            f"Environment {env_id} is now {mujoco}: the agent trained on the former plays the latter. {differences(env_id)}",
            stacklevel=2,
        )
        return mujoco
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
    trained = training(known, config, env_kwargs, agent.config or agent.checkpoint)
    return trained._replace(wrappers=former_wrappers(env_id, known) + trained.wrappers)
