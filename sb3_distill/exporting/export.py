"""``sb3_distill.export``: an agent becomes a file that needs neither Python nor SB3, and is checked before it is kept."""

import tempfile
import warnings
from contextlib import nullcontext
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_distill.common.files import replacing
from sb3_distill.common.nearest import nearest
from sb3_distill.exporting.agent import Exportable
from sb3_distill.exporting.agreement import Agreement, Run, agreement, cut
from sb3_distill.exporting.eight_bits import rounded
from sb3_distill.exporting.environment import MakeEnv, prepared
from sb3_distill.exporting.formats import FORMATS
from sb3_distill.exporting.metadata import VERSION, metadata_of
from sb3_distill.exporting.observations import Asked, asked
from sb3_distill.exporting.recipe import Recipe

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.policies import BasePolicy

    from sb3_distill.teachers.teacher import Teacher

#: observations that a file is checked by
N_OBSERVATIONS = 10_000
#: by how much an answer may differ from SB3's, in units of max(1, its size)
TOLERANCE = 1e-5


class Exported(NamedTuple):
    """A file that was written, and how well it answers.

    :param path: of the file
    :param to: its format
    :param int8: whether its weights are whole numbers of eight bits
    :param size: in bytes
    :param agreement: with SB3's ``predict``
    """

    path: Path
    to: str
    int8: bool
    size: int
    agreement: Agreement | None

    def __str__(self) -> str:
        checked = "" if self.agreement is None else f"\nagainst SB3's predict, {self.agreement}"
        return f"{self.path}, {self.size:,} bytes of {self.to}{', int8' if self.int8 else ''}{checked}"


def export(
    source: "str | Path | BaseAlgorithm | BasePolicy | Teacher",
    path: str | Path,
    to: str | None = None,
    *,
    env: str | VecEnv | gym.Env | MakeEnv | None = None,
    int8: bool = False,
    vec_normalize: "str | Path | VecNormalize | None" = None,
    layout: str | None = None,
    n_observations: int = N_OBSERVATIONS,
    tolerance: float = TOLERANCE,
) -> Exported:
    """
    Write an agent as a file that needs neither Python nor SB3: from the environment's raw observation to the action of
    ``predict(observation, deterministic=True)``, with the statistics of ``VecNormalize``, the scaling of images, and the clipping or
    unsquashing of actions within.

    The file is checked before it has its name: it and ``predict`` answer to 10,000 observations, half of them met in play where an
    environment is at hand. What was under that name stays if the two differ.

    :param source: a student, or any agent that :func:`~sb3_distill.load_teacher` reads: a path, a name, a loaded model, its policy
    :param path: of the file
    :param to: ``"onnx"``, ``"torchscript"`` or ``"c"``; by default what the path's suffix says
    :param env: where observations are met: an id, an environment, which is reset and left open, or what makes n; by default that
        of the source's files. A loaded model's own is not touched
    :param int8: whether weights become whole numbers of eight bits, of ONNX and C: the file is a quarter as large. It has to answer as
        the agent with such weights does; by how much these differ from the agent's own answers is told
    :param vec_normalize: the ``VecNormalize`` of its training, or a path to its pickle, where it is another than the source tells
    :param layout: of images in the file's input, ``"channels-first"`` or ``"channels-last"``; by default the environment's, where one
        is at hand, and else the policy's, which is channels-first
    :param n_observations: that both answer to, at least 1
    :param tolerance: how much answers may differ, in units of max(1, their size); an infinite one keeps the file whatever it answers
    :return: where it is, and how well it agrees
    :raises ExportError: if the file does not answer as SB3 does
    :raises ValueError: for what cannot be exported, before anything is written; also OSError, ImportError and CheckpointError
    """
    path, to = target(path, to)
    if isinstance(source, (str, Path)) and path.exists() and Path(source).exists() and path.samefile(source):
        raise ValueError(f"{path} is the agent itself, which its export would replace: give another path.")
    if int8 and to == "torchscript":
        raise ValueError("int8 is for 'onnx' and 'c', and to is 'torchscript': leave one of them out.")
    if not isinstance(n_observations, int) or isinstance(n_observations, bool) or n_observations < 1:
        raise ValueError(f"n_observations must be a whole number of at least 1, not {n_observations!r}.")
    if not isinstance(tolerance, Real) or isinstance(tolerance, bool) or not float(tolerance) >= 0:
        raise ValueError(
            f"tolerance must be a number of at least 0, by how much answers may differ, not {tolerance!r}."
        )
    with prepared(source, env, vec_normalize, layout) as made:
        agent, recipe, venv = made
        questions = asked(agent, recipe, n_observations, venv)
        if int8 and not questions.n_met:
            warnings.warn(
                "Weights of eight bits are fitted to observations that were drawn from the space, for no environment is at hand: give "
                "env=…, and they are fitted to those that are met in play.",
                stacklevel=2,
            )
        with replacing(path) as temporary:
            with rounded(recipe, questions) if int8 else nullcontext():
                run = write(to, agent, recipe, questions, temporary, path, int8)
                found = None if run is None else agreement(agent, recipe, run, questions)
                if found is not None:  # with rounded weights, too, a file computes what they say
                    found.check(tolerance)
            if run is not None and int8:
                found = agreement(agent, recipe, run, questions, exact=False)
    return Exported(path, to, int8, path.stat().st_size, found)


def target(path: str | Path, to: str | None) -> tuple[Path, str]:
    """
    :param path: as it was given
    :param to: a format, if it was given
    :return: both; a path without a suffix has the format's usual one
    :raises ValueError: for a format that there is not, or a suffix of another
    :raises OSError: if no file can be there
    """
    if to is not None and to not in FORMATS:
        raise ValueError(f"to={to!r} is no format: {nearest(str(to), FORMATS)}")
    path = Path(path).expanduser()
    meant = next((name for name, suffixes in FORMATS.items() if path.suffix.lower() in suffixes), None)
    if to is None and meant is None:
        known = ", ".join(suffixes[0] for suffixes in FORMATS.values())
        raise ValueError(
            f"{path} does not say which format is meant: give to='onnx', to='torchscript' or to='c', or a suffix of {known}."
        )
    if to is not None and meant is not None and to != meant:
        raise ValueError(f"{path} has the suffix of {meant}, and to is {to!r}: leave one of them out.")
    to = to or meant
    assert to is not None
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the path of a file.")
    if meant is None:
        path = path.with_name(path.name + FORMATS[to][0])
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent} for {path.name}.")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise PermissionError(f"{path.parent} cannot be written to: give a path in another folder.") from error
    if to == "onnx":
        from sb3_distill.exporting.onnx_file import check_installed

        check_installed()
    return path, to


def is_export(path: Path) -> bool:
    """
    :param path: of a file
    :return: whether it was written here: each format has the metadata as text
    """
    return path.is_file() and VERSION.encode() in path.read_bytes()


def write(
    to: str, agent: Exportable, recipe: Recipe, questions: Asked, path: Path, called: Path, int8: bool = False
) -> Run | None:
    """
    :param to: a format
    :param agent: who is exported
    :param recipe: what it does
    :param questions: of which two are examples
    :param path: of the file
    :param called: what it will be called
    :param int8: whether weights become whole numbers of eight bits
    :return: the file, as it is run; None where it cannot be run here
    """
    metadata = metadata_of(agent, recipe) | ({"weights": "int8"} if int8 else {})
    examples = two_examples(recipe, questions)
    if to == "torchscript":
        from sb3_distill.exporting.torchscript_file import run_torchscript, write_torchscript

        write_torchscript(recipe, examples, metadata, path)
        return run_torchscript(path, recipe)
    if to == "c":
        from sb3_distill.exporting.c_file import c_prefix, compiler, run_c, write_c

        name = c_prefix(called)
        write_c(recipe, examples, metadata, path, name, int8)
        if compiler() is not None:
            return run_c(path, recipe, name)
        warnings.warn(f"{called} is not compared with SB3's predict: this machine has no C compiler.")
        return None
    from sb3_distill.exporting.onnx_file import onnx_model, run_onnx
    from sb3_distill.exporting.traced import traced

    model = onnx_model(traced(recipe, examples), recipe, metadata)
    if int8:
        from sb3_distill.exporting.onnx_int8 import with_eight_bits

        with_eight_bits(model)
    path.write_bytes(model.SerializeToString())
    return run_onnx(path)


def two_examples(recipe: Recipe, questions: Asked) -> list[np.ndarray]:
    """
    :param recipe: of an agent
    :param questions: at least one
    :return: a batch of two for each input
    """
    first = cut(questions.inputs, recipe, slice(1))
    return [np.concatenate([first[port.name]] * 2, axis=port.batch_axis) for port in recipe.inputs]
