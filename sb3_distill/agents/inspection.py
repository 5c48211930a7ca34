"""What a checkpoint is and what is at hand, without running anything: ``sb3-distill inspect`` and ``sb3-distill teachers``."""

import base64
import binascii
import io
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from sb3_distill.agents.checkpoint import Checkpoint, read_data, read_members
from sb3_distill.agents.errors import CheckpointError
from sb3_distill.agents.find import BUNDLED, Agent, find_agent, zoo_folders
from sb3_distill.agents.load import family_of, unteachable
from sb3_distill.agents.policy_file import read_agent
from sb3_distill.agents.rebuilt import policy_and_settings
from sb3_distill.agents.unpickling import numeric, pickled_names, unpickle_inert
from sb3_distill.teachers.teacher import actor_size

#: What pickles of honest checkpoints are made of. Whatever else they name is worth a look before SB3 loads them.
USUAL = (
    "numpy",
    "gym",
    "gymnasium",
    "stable_baselines3",
    "sb3_contrib",
    "torch",
    "collections",
    "cloudpickle",
    "random",
)
#: bytes of the largest evaluations.npz
MAX_EVALUATIONS = 1 << 24
#: as what cloudpickle stores a function: its code is in the file, and runs when the function is called
CODE = ("CodeType", "_builtin_type", "_fill_function", "_make_function", "_make_skel_func", "_make_skeleton_class")


class Reported(NamedTuple):
    """Returns that the files of an agent report.

    :param mean: undiscounted
    :param std: over episodes
    :param n_episodes: how many
    :param source: which file says so, and when it was measured
    """

    mean: float
    std: float
    n_episodes: int
    source: str


class Inspection(NamedTuple):
    """What a checkpoint is.

    :param path: the zip
    :param teacher: the family of teacher that it makes; None if it cannot teach
    :param problem: why not
    :param checkpoint: its contents, as far as they can be read
    :param n_parameters: of the network that picks the actions, as ``teacher.n_parameters``; 0 if it cannot be rebuilt
    :param made_by: versions of what made it, as far as the file tells
    :param trained_steps: environment steps
    :param reported: the return that its files report
    :param executed: what SB3's ``load`` would unpickle: from the place in the file to the names that it would import
    :param seconds: that reading and rebuilding it took
    """

    path: Path
    teacher: str | None
    problem: str | None
    checkpoint: Checkpoint | None
    n_parameters: int
    made_by: dict[str, str]
    trained_steps: int | None
    reported: Reported | None
    executed: dict[str, list[str]]
    seconds: float


def inspect(path: Path) -> Inspection:
    """
    :param path: an SB3 zip
    :return: what it is; nothing in it is run
    :raises FileNotFoundError: if there is no such file
    """
    start = time.perf_counter()
    agent, checkpoint, teacher, problem, n_parameters = Agent(path, str(path)), None, None, None, 0
    try:
        agent = find_agent(path)
        checkpoint = read_agent(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of environments that were renamed, which nobody plays here
            policy, _ = policy_and_settings(agent, checkpoint)
        n_parameters = actor_size(policy)
        family = family_of(type(policy))
        problem = unteachable(policy) if family else f"no teacher has a policy of the class {checkpoint.policy_class}"
        teacher = family.__name__ if family and problem is None else None
    except CheckpointError as error:
        problem = str(error).splitlines()[0]
    seconds = time.perf_counter() - start
    data, executed, made_by = _look_inside(path)
    for statistics in agent.vec_normalize:
        executed[statistics.name] = pickled_names(statistics.read_bytes())
    steps = data.get("num_timesteps")
    return Inspection(
        path,
        teacher,
        problem,
        checkpoint,
        n_parameters,
        made_by,
        steps if isinstance(steps, int) else None,
        reported_return(agent, data),
        executed,
        seconds,
    )


def _look_inside(path: Path) -> tuple[dict[str, Any], dict[str, list[str]], dict[str, str]]:
    """A zip's JSON, the pickles in it, and the versions that it names; as far as it can be read."""
    try:
        members = read_members(path)
    except CheckpointError:
        return {}, {}, {}
    try:
        data = read_data(path, members.get("data", b""))
    except CheckpointError:
        data = {}
    executed = {}
    for field, value in data.items():
        if isinstance(value, dict) and isinstance(value.get(":serialized:"), str):
            executed[f"data: {field}"] = _names_in(value[":serialized:"])
    for name, member in members.items():
        if name.endswith((".pth", ".pt")):
            beyond = [
                n for n in _names_in_torch_file(member) if not n.startswith(("torch.", "collections.OrderedDict"))
            ]
            if beyond:
                executed[name] = beyond
    version = members.get("_stable_baselines3_version", b"").decode("ascii", "replace").strip()
    made_by = {"Stable-Baselines3": version} if version else {}
    for line in members.get("system_info.txt", b"").decode("utf-8", "replace").splitlines():
        name, _, value = line.removeprefix("- ").partition(": ")
        if value:
            made_by[name.strip()] = value.strip()
    return data, executed, made_by


def _names_in(serialized: str) -> list[str]:
    try:
        return pickled_names(base64.b64decode(serialized))
    except binascii.Error:
        return []


def _names_in_torch_file(member: bytes) -> list[str]:
    """What the pickle in a file of torch's names."""
    try:
        with zipfile.ZipFile(io.BytesIO(member)) as archive:
            pickles = [
                m
                for m in archive.infolist()
                if m.filename.endswith("data.pkl") and m.compress_type == zipfile.ZIP_STORED
            ]
            return [name for m in pickles for name in pickled_names(archive.read(m))]
    except Exception:  # the format before torch 1.6 is a row of pickles; a damaged zip may raise anything
        return pickled_names(member)


def unusual(names: list[str]) -> list[str]:
    """
    :param names: that a pickle imports
    :return: those that an honest checkpoint does not need
    """
    return [name for name in names if name.partition(".")[0] not in USUAL and name not in _PLAIN_BUILTINS]


_PLAIN_BUILTINS = {
    f"{module}.{name}"
    for module in ("builtins", "__builtin__")
    for name in (
        "dict",
        "list",
        "set",
        "tuple",
        "int",
        "float",
        "bool",
        "str",
        "object",
        "type",
        "slice",
        "bytes",
        "range",
    )
} | {"_codecs.encode", "types.CodeType", "copyreg._reconstructor", "copy_reg._reconstructor"}


def has_code(names: list[str]) -> bool:
    """
    :param names: that a pickle imports
    :return: whether it brings code of its own, in cloudpickle's way
    """
    return any(name.rpartition(".")[2] in CODE for name in names)


def reported_return(agent: Agent, data: dict[str, Any]) -> Reported | None:
    """
    The return that an agent's files report: of its last evaluation, or else of its last episodes of training, in which it
    explored and still learnt.

    :param agent: where the files are
    :param data: the JSON of its zip
    :return: None if they report none
    """
    evaluations = agent.checkpoint.parent / "evaluations.npz"
    try:
        if evaluations.stat().st_size > MAX_EVALUATIONS:
            raise ValueError("more evaluations than any training makes")
        with np.load(evaluations, allow_pickle=False) as saved:
            last = np.asarray(saved["results"], dtype=float)[-1]
        return Reported(float(last.mean()), float(last.std()), last.size, "last evaluation, evaluations.npz")
    except Exception:  # noqa: S110 - there is none, or it is damaged: the next source
        pass
    try:
        infos = data["ep_info_buffer"]
        if isinstance(infos, dict):
            infos = unpickle_inert(base64.b64decode(infos[":serialized:"]))
        returns = np.array([float(numeric(info["r"])) for info in infos])
        if returns.size == 0 or not np.isfinite(returns).all():
            return None
        return Reported(float(returns.mean()), float(returns.std()), returns.size, "last episodes of training")
    except Exception:  # none, or in another form
        return None


def checkpoints_in(path: Path) -> list[Path]:
    """
    :param path: a zip, or a folder
    :return: the zip, or every zip beneath the folder
    :raises FileNotFoundError: if there is none
    """
    if not path.exists():
        raise FileNotFoundError(f"No such file or folder: {path}")
    found = sorted(path.rglob("*.zip")) if path.is_dir() else [path]
    if not found:
        raise FileNotFoundError(f"No checkpoint in {path}: there is no zip beneath it.")
    return found


class AtHand(NamedTuple):
    """A teacher that ``zoo:`` finds.

    :param name: ``ALGO/ENV``
    :param inspection: of its checkpoint
    :param source: the folder of agents that it is in, or "bundled"
    :param licence: the first line of the LICENSE beside them
    """

    name: str
    inspection: Inspection
    source: str
    licence: str


def teachers_at_hand() -> list[AtHand]:
    """
    Every agent that ``load_teacher("zoo:…")`` finds.

    :return: in alphabetical order
    """
    found = []
    for name, folder in sorted(zoo_folders().items()):
        try:
            path = find_agent(folder).checkpoint
        except (FileNotFoundError, CheckpointError):
            continue
        root = folder.parent.parent
        bundled = root == BUNDLED
        found.append(AtHand(name, inspect(path), "bundled" if bundled else str(root), licence_of(root, bundled)))
    return found


def licence_of(root: Path, bundled: bool) -> str:
    """
    :param root: a folder of agents
    :param bundled: whether it is the package's own
    :return: the first line of its LICENSE, or "?"
    """
    if bundled:
        return "MIT License"
    try:
        with (root / "LICENSE").open("rb") as file:
            return file.readline(200).decode("utf-8", "replace").strip()
    except OSError:
        return "?"


def describe_space(space: spaces.Space) -> str:
    """
    :param space: any
    :return: its kind and shape, without bounds
    """
    if isinstance(space, spaces.Dict):
        return "Dict(" + ", ".join(f"{key}: {describe_space(sub)}" for key, sub in space.spaces.items()) + ")"
    if isinstance(space, spaces.Box):
        return f"Box{space.shape} {space.dtype}"
    return str(space)
