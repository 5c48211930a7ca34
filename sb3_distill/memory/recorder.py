"""Playing a teacher and writing down what it meets and says.

All environments make their steps together, and everything random is drawn in the same order from the start. So a recording
that was interrupted goes on by being played again: the environments are given the actions that are on disk, and the teacher
is not asked, up to where each one's episodes end there; from then on all goes as it would have gone. That works in every
``VecEnv`` whose ``seed`` decides what happens, whatever its wrappers remember from one episode to the next. And it is
checked: an environment that does not repeat itself is found out.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.agents.load import load_teacher
from sb3_distill.common.folders import check_folder
from sb3_distill.common.layers import raw_env
from sb3_distill.common.masks import check_no_masks
from sb3_distill.common.observations import copy_obs
from sb3_distill.common.questions import env_id_of, seed_envs
from sb3_distill.common.whole_numbers import check_whole
from sb3_distill.memory.answers import kind_of
from sb3_distill.memory.disk import DiskMemory
from sb3_distill.memory.disk_space import check_room
from sb3_distill.memory.episode import n_columns, parts
from sb3_distill.memory.folder import LOCK, METADATA, Recorded, Settings, Writer, locked, read_folder
from sb3_distill.memory.memory import About
from sb3_distill.memory.playing import Recording
from sb3_distill.memory.space_text import space_to_data
from sb3_distill.rules.temperature import check_softness
from sb3_distill.teachers.fingerprint import fingerprint_of
from sb3_distill.teachers.teacher import Teacher, as_teacher_reads


def record(
    teacher: Any,
    env: VecEnv,
    n_steps: int,
    path: str | Path,
    epsilon: float = 0.05,
    seed: int = 0,
    progress_bar: bool = False,
) -> DiskMemory:
    """
    Play a teacher and write to disk what it meets: states, what it says about them (it is asked once), executed actions,
    rewards, and where episodes end.

    The teacher plays ε-greedily (Rusu et al. 2015): argmax Q or the most probable action, and with probability ε any action.
    Each of n environments makes n_steps / n steps, where its last episode is cut.

    If ``path`` holds a shorter recording with the same arguments, this one goes on where that stopped, and what comes of it is
    the same as without the stop; but if that was finished, the episodes that its end has cut stay cut. An episode is on disk
    as soon as it has ended, so whatever happens, no more is lost than the episodes that are being played. Until then it is in
    RAM: an episode of Atari takes 7 kB a step.

    :param teacher: a :class:`~sb3_distill.Teacher`, or what :func:`~sb3_distill.load_teacher` takes
    :param env: the environments. What the teacher's own training put around its environments, such as a stack of frames, is put
        around these if they lack it; a ``VecNormalize`` is passed by. They are seeded, played and left open
    :param n_steps: how many states to record, in all environments together
    :param path: of a folder, made if need be; see :mod:`~sb3_distill.memory.folder` for what is in it
    :param epsilon: ε in [0, 1]
    :param seed: of the environments and of all else that is random; the global random state is left alone
    :param progress_bar: whether to show one
    :return: the memory
    :raises ValueError: before any work, for numbers out of range, a teacher that does not fit the environment, a folder that
        holds something else, or a recording with other arguments (both are shown). In the course of it, for observations and
        answers that are not finite, and if the environment does not repeat what is on disk
    :raises OSError: before any work, if the disk has no room for it, or if another process is recording there; or if the disk
        fails
    """
    return prepare(teacher, env, n_steps, path, epsilon, seed)(progress_bar)


def prepare(
    teacher: Any,
    env: VecEnv,
    n_steps: int,
    path: str | Path,
    epsilon: float,
    seed: int,
    env_kwargs: Mapping[str, Any] | None = None,
    module: str | None = None,
) -> Callable[[bool], DiskMemory]:
    """
    All of :func:`record` before any work.

    :param teacher: as there, like the others
    :param env_kwargs: what the environments were made with, to be written down
    :param module: that registers them, likewise
    :return: the work: with a progress bar or without, to a memory
    :raises ValueError: as there; also OSError
    """
    check_numbers(n_steps, epsilon, seed)
    if not isinstance(env, VecEnv):
        raise ValueError(f"env must be a VecEnv, such as make_vec_env of Stable-Baselines3 makes, not {env!r}.")
    path = Path(path).expanduser()
    teacher = load_teacher(teacher, tune=False)
    check_no_masks(env, "a recording")
    env = as_teacher_reads(teacher, raw_env(env)[0])
    about = about_of(teacher, env)._replace(env_kwargs=as_json(env_kwargs), module=module)
    settings = Settings(about, weights_of(teacher), env.num_envs, float(epsilon), int(seed))
    there = recorded_there(path, settings)
    if there is not None:
        settings = there.settings
    seed_envs(env, settings.seed)
    obs = copy_obs(env.reset())
    check_room(path, obs, settings.about, env.num_envs, n_steps - (there.n_steps if there else 0))

    def play(progress_bar: bool) -> DiskMemory:
        with locked(path):
            writer = Writer(path, settings)
            recorded = recorded_there(path, settings)
            assert recorded is not None
            try:
                if recorded.n_steps < n_steps:
                    Recording(teacher, env, obs, recorded, writer).play(n_steps, progress_bar)
            finally:
                writer.publish()
        return DiskMemory(path)

    return play


def as_json(env_kwargs: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """
    :param env_kwargs: of an environment
    :return: as they will be read; None if JSON has no such values
    """
    try:
        return None if env_kwargs is None else dict(json.loads(json.dumps(dict(env_kwargs), allow_nan=False)))
    except (TypeError, ValueError):
        return None


def check_numbers(n_steps: int, epsilon: float, seed: int) -> None:
    """
    :param n_steps: at least 1
    :param epsilon: in [0, 1]
    :param seed: at least 0
    :raises ValueError: if one of them is not
    """
    check_whole("n_steps", n_steps, 1)
    check_whole("seed", seed, 0)
    check_softness(None, epsilon)


def about_of(teacher: Teacher, env: VecEnv) -> About:
    """
    :param teacher: who
    :param env: where
    :return: what a memory of the two is of
    :raises ValueError: for spaces that cannot be stored
    """
    about = About(
        env_id_of(env),
        teacher.name,
        env.observation_space,
        env.action_space,
        kind_of(teacher),
        fingerprint_of(teacher),
    )
    try:
        n_columns(about)
        space_to_data(about.observation_space)
    except TypeError as error:
        raise ValueError(str(error)) from error
    parts(about.observation_space)
    return about


def weights_of(teacher: Teacher) -> str:
    """
    :param teacher: who
    :return: SHA-256 of its weights, and of the factor of its values: a teacher that goes on learning is another one
    """
    digest = hashlib.sha256(repr(teacher.value_scale).encode())
    for name, tensor in sorted(teacher.weights().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def recorded_there(path: Path, settings: Settings) -> Recorded | None:
    """
    :param path: of the folder
    :param settings: of the recording
    :return: what is in the folder of this recording; None if there is nothing
    :raises ValueError: if there is something else, or a recording with other settings: both are shown
    """
    check_folder(path, "choose another path")
    if not (path / METADATA).exists():
        # A recording that was stopped before it began leaves its lock and temporary files.
        if path.is_dir() and any(not file.name.startswith(".") and file.name != LOCK for file in path.iterdir()):
            raise ValueError(f"{path} holds other files and no memory: choose another path.")
        return None
    recorded = read_folder(path)
    for (name, theirs, shown), (_, mine, mine_shown) in zip(
        described(recorded.settings), described(settings), strict=True
    ):
        # What has no name, or was recorded before there were fingerprints, is not compared.
        if theirs != mine and None not in (theirs, mine):
            raise ValueError(
                f"{path} holds a recording with another {name}: there it is {shown}, and now {mine_shown}. Choose another path, or the "
                "same arguments to go on with it."
            )
    return recorded


def described(settings: Settings) -> list[tuple[str, Any, str]]:
    """
    :param settings: of a recording
    :return: what may not change when it goes on: names, values to compare, and values to show. A teacher is known by its
        weights, for its name may be a path
    """
    about = settings.about
    values = {
        "environment": about.env_id,
        "set of arguments of the environment": about.env_kwargs,
        "observation space": about.observation_space,
        "action space": about.action_space,
        "kind of answers": about.kind,
        "number of environments": settings.n_envs,
        "epsilon": settings.epsilon,
        "seed": settings.seed,
    }
    teacher = ("teacher", settings.weights, f"{about.teacher} with the weights {settings.weights[:8]}…")
    if about.fingerprint is not None:  # the number that a student's messages name
        teacher = (*teacher[:2], f"{about.teacher} with the weights {about.fingerprint[:8]}…")
    shown = f"{about.teacher} with the fingerprint {(about.fingerprint or '')[:8]}…"
    normalised = ("teacher", about.fingerprint, shown)  # of the statistics, too
    return [teacher, normalised, *((name, value, str(value)) for name, value in values.items())]
