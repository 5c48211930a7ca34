"""``sb3_distill.distill``: what ``sb3-distill distill`` does, as a function."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch as th

from sb3_distill.algorithms.engines import loading_class
from sb3_distill.algorithms.threads import torch_threads
from sb3_distill.experiment.checks import check_call
from sb3_distill.experiment.defaults import default_out, settings_from
from sb3_distill.experiment.plan import Plan, prepare, student_class
from sb3_distill.experiment.run import Experiment
from sb3_distill.experiment.run_folder import STUDENT, FinishedError, RunFolder
from sb3_distill.experiment.settings import Settings

if TYPE_CHECKING:
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

    from sb3_distill.algorithms.distillation import Distillation
    from sb3_distill.algorithms.policy_distillation import PolicyDistillation


class Distilled(NamedTuple):
    """What came of a distillation.

    :param student: trained; a plain SB3 model is in ``folder / "student.zip"``. Of a run that had ended before it has neither
        environment nor teacher. After reinforcement learning it is that plain model
    :param settings: what it was made from
    :param folder: with the files that ``sb3-distill distill`` writes
    :param data: as ``results.json`` has it
    """

    student: "Distillation | PolicyDistillation | OnPolicyAlgorithm"
    settings: Settings
    folder: Path
    data: dict[str, Any]

    @property
    def share_of_teacher(self) -> float | None:
        """The student's share of the teacher's return over random play; None if the teacher is not better than that."""
        return self.data["comparison"]["share_of_teacher"]  # type: ignore[no-any-return]

    def returns(self, player: str = "student") -> np.ndarray:
        """
        :param player: ``"student"``, ``"teacher"`` or ``"random play"``
        :return: of the episodes that all play in the end, shape (n,)
        """
        return np.array(self.data["players"][player]["returns"])


def distill(
    teacher: str | Path | None = None,
    env: str | None = None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Distilled:
    """
    Train a student, play it against its teacher, and write the files of ``sb3-distill distill``. What was stopped or killed goes on
    when the same is called again, and what has ended is read.

    >>> from sb3_distill import distill
    >>> result = distill("zoo:dqn/CartPole-v1", steps=512, net_arch=[8], eval_episodes=2, out=getfixture("tmp_path"), quiet=True)
    >>> result.returns("teacher").tolist(), result.student.num_timesteps
    ([500.0, 500.0], 512)

    :param teacher: see :func:`~sb3_distill.load_teacher`: a path or a name; by default the DQN of the zoo for the environment
    :param env: a Gymnasium id, or ``MODULE:ID``; by default where the teacher was trained, or that of ``memory``
    :param out: the folder of the run; by default one in ``runs`` that is named by what the run is
    :param overwrite: whether another run in that folder may be replaced
    :param quiet: whether nothing is said about what goes on
    :param settings: fields of :class:`~sb3_distill.experiment.settings.Settings`: ``method``, ``net_arch``, ``steps``, ``seed`` …
    :return: the student and what was measured of it
    :raises ValueError: before any work, for what does not exist or does not go together; also OSError and ImportError
    """
    given_out = check_call(out, overwrite, quiet)
    with torch_threads(th.get_num_threads()):
        plan = prepare(settings_from({**settings, "teacher": teacher, "env": env}))
        path = default_out(plan, settings.get("env_kwargs") or {}) if given_out is None else given_out
        folder = RunFolder(path, plan.described, overwrite)
        if not folder.finished:
            experiment = Experiment(plan, folder, quiet)
            try:
                with folder.at_work():
                    outcome = experiment.run()
                return Distilled(experiment.trained, plan.settings, folder.path, outcome.data)
            except FinishedError:
                pass  # by another process, meanwhile
        folder.clean()
        return Distilled(_read_student(plan, folder.path), plan.settings, folder.path, folder.read_results())


def _read_student(plan: Plan, folder: Path) -> "Distillation | PolicyDistillation | OnPolicyAlgorithm":
    """The student of a run that has ended."""
    if plan.settings.then_rl:
        plain: Any = loading_class(plan.settings.engine)
        return plain.load(folder / STUDENT, device=plan.device)  # type: ignore[no-any-return]
    build: Any = student_class(plan.settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build.func.load(folder / STUDENT, device=plan.device)  # type: ignore[no-any-return]
