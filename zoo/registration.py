"""Registers the distillation algorithms with rl_zoo3, by being imported.

Names, what ``-optimize`` draws, and hyperparameter files as the default ``-conf``. rl_zoo3 has tables for the first two,
meant for algorithms from elsewhere; for the last its ``ExperimentManager`` is extended.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import rl_zoo3.exp_manager
import rl_zoo3.train
import rl_zoo3.utils
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, PPO

import sb3_distill.common.env_ids  # noqa: F401 - registers environments, MinAtar's games among them
from sb3_distill.algorithms.distillation import Distillation
from sb3_distill.algorithms.engines import zoo_names
from sb3_distill.algorithms.policy_distillation import PolicyDistillation
from sb3_distill.common.user_code import first_line
from sb3_distill.rules.methods import NAMED, get_method
from sb3_distill.students.features import MinAtarCNN
from sb3_distill.students.nature_cnn import student_arch
from sb3_distill.zoo.masked_play import heed_masks, with_masked_evaluation
from sb3_distill.zoo.param_types import check_types, check_zoo_sizes
from sb3_distill.zoo.typed_params import LATE, StoreTyped, check_names

HYPERPARAMS = Path(__file__).parent / "hyperparams"

#: what ``--algo`` may be besides SB3's and :data:`OFFLINE`
ALGORITHMS = zoo_names()
#: those that learn from a teacher's memory, which the rows do not
OFFLINE: dict[str, type[PolicyDistillation]] = {"policy_distillation": PolicyDistillation}


def sample_hyperparams(
    algorithm: type[Distillation], trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]
) -> dict[str, Any]:
    """
    What ``-optimize`` tries. The teacher and the student's network stay as they are: they are the task.

    :param algorithm: whose hyperparameters; those of terms that its row lacks are not drawn
    :param trial: draws
    :param n_actions: of rl_zoo3's samplers, not needed here; as the next two
    :param n_envs: number of environments
    :param additional_args: of off-policy algorithms
    :return: arguments of the constructor
    """
    row = get_method(algorithm.fixed_method or "n_distill")
    is_ppo, is_a2c = issubclass(algorithm, (PPO, MaskablePPO, RecurrentPPO)), issubclass(algorithm, A2C)
    trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
    trial.suggest_int("n_steps_pow", *((2, 6) if is_a2c else (5, 9)))
    if is_ppo:
        trial.suggest_int("batch_size_pow", 4, 8)
        trial.suggest_int("n_epochs", 5, 30)
    is_named = row.name in NAMED  # whose loss_coef falls to 0, and a constant one would not
    if row.loss is not None and not is_named:
        trial.suggest_float("loss_coef", 0.1, 10.0, log=True)
    if row.reward is not None:
        trial.suggest_float("reward_coef", 0.01, 10.0, log=True)
    if row.reward is not None or is_named:
        trial.suggest_float("one_minus_gamma", 0.01, 1.0, log=True)
        trial.suggest_float("one_minus_gae_lambda", 0.01, 1.0, log=True)
    return converted(trial)


def sample_offline_hyperparams(
    trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]
) -> dict[str, Any]:
    """
    The same of :class:`~sb3_distill.PolicyDistillation`.

    :param trial: draws
    :param n_actions: of rl_zoo3's samplers, not needed here; as the next two
    :param n_envs: number of environments
    :param additional_args: of off-policy algorithms
    :return: arguments of the constructor
    """
    trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
    trial.suggest_int("batch_size_pow", 4, 8)
    trial.suggest_float("temperature", 1e-3, 1.0, log=True)
    trial.suggest_int("train_freq_pow", 4, 9)
    return converted(trial)


def converted(trial: optuna.Trial) -> dict[str, Any]:
    """
    :param trial: has drawn
    :return: arguments of the constructor, which are written beside what was drawn, where studies are looked at
    """
    hyperparams = convert_hyperparams(trial.params)
    for name, value in hyperparams.items():
        trial.set_user_attr(name, value)
    return hyperparams


def convert_hyperparams(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    :param sampled_params: of a trial
    :return: arguments of the constructor: x for ``one_minus_x``, powers of two for ``x_pow``
    """
    hyperparams = {}
    for name, value in sampled_params.items():
        if name.endswith("_pow"):
            hyperparams[name.removesuffix("_pow")] = 2**value
        elif name.startswith("one_minus_"):
            hyperparams[name.removeprefix("one_minus_")] = 1 - value
        else:
            hyperparams[name] = value
    return hyperparams


class DistillExperimentManager(ExperimentManager):
    """
    rl_zoo3's, which finds the distillation algorithms' hyperparameter files and names their teachers.

    :param args: what was typed
    :param algo: the algorithm's name
    :param rest: as the next, of rl_zoo3's class
    :param kwargs: likewise
    """

    def __init__(self, args: argparse.Namespace, algo: str, *rest: Any, **kwargs: Any) -> None:
        super().__init__(args, algo, *rest, **kwargs)
        if algo in ALGORITHMS | OFFLINE and args.conf_file is None:
            self.config = str(HYPERPARAMS / f"{algo}.yml")

    def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """
        rl_zoo3's, with ``{env}`` in the teacher's name replaced.

        :return: hyperparameters to use, and to save
        :raises ValueError: if there is no teacher, before a folder is made for the run
        """
        hyperparams, saved = super().read_hyperparameters()
        if self.algo in ALGORITHMS | OFFLINE:
            teacher = hyperparams.get("teacher")
            if teacher is None:
                raise ValueError(
                    f"{self.algo} needs a teacher, for example -params teacher:\"'zoo:dqn/{self.env_name}'\""
                )
            hyperparams["teacher"] = saved["teacher"] = str(teacher).replace("{env}", self.env_name)
        return hyperparams, saved

    def create_callbacks(self) -> None:
        """rl_zoo3's, of which the one that evaluates takes no forbidden action."""
        if self._masks_actions:
            return with_masked_evaluation(super().create_callbacks)
        return super().create_callbacks()

    def objective(self, trial: optuna.Trial) -> float:
        """
        rl_zoo3's, likewise.

        :param trial: of ``-optimize``
        :return: its score
        """
        call = partial(super().objective, trial)
        return with_masked_evaluation(call) if self._masks_actions else call()

    @property
    def _masks_actions(self) -> bool:
        return self.algo in ALGORITHMS and ALGORITHMS[self.algo].masks_actions

    def _preprocess_hyperparams(self, hyperparams: dict[str, Any]) -> Any:
        """
        rl_zoo3's, which takes its own keys out.

        :param hyperparams: all of them
        :return: what is left for the algorithm, and what becomes of rl_zoo3's
        :raises ValueError: for what the algorithm does not have, values of another kind than it takes, and text that is no Python, before
            a folder is made for the run
        """
        check_zoo_sizes(hyperparams)
        try:
            processed = super()._preprocess_hyperparams(hyperparams)
        except (SyntaxError, NameError, AttributeError) as error:
            raise ValueError(
                f"Text among the hyperparameters, such as policy_kwargs or normalize, cannot be evaluated: {first_line(error)}"
            ) from error
        algorithm = rl_zoo3.ALGOS[self.algo]
        check_names(self.algo, algorithm, processed[0])
        check_types(self.algo, algorithm, {name: value for name, value in processed[0].items() if name not in LATE})
        return processed

    @staticmethod
    def _preprocess_schedules(hyperparams: dict[str, Any]) -> dict[str, Any]:
        try:
            return ExperimentManager._preprocess_schedules(hyperparams)
        except ValueError as error:
            raise ValueError(
                f"A schedule among the hyperparameters is none ({first_line(error)}): write a number or lin_NUMBER, such as "
                "learning_rate:\"'lin_0.001'\"."
            ) from error


for _name, _algorithm in ALGORITHMS.items():
    rl_zoo3.ALGOS[_name] = _algorithm
    HYPERPARAMS_SAMPLER[_name] = partial(sample_hyperparams, _algorithm)
    HYPERPARAMS_CONVERTER[_name] = convert_hyperparams
for _name, _offline in OFFLINE.items():
    rl_zoo3.ALGOS[_name] = _offline
    HYPERPARAMS_SAMPLER[_name] = sample_offline_hyperparams
    HYPERPARAMS_CONVERTER[_name] = convert_hyperparams
heed_masks()
rl_zoo3.exp_manager.ExperimentManager = DistillExperimentManager  # type: ignore[misc]
for _module in (rl_zoo3.utils, rl_zoo3.train):  # what is imported later has it from the first
    _module.StoreDict = StoreTyped  # type: ignore[attr-defined]
rl_zoo3.train.ExperimentManager = DistillExperimentManager  # type: ignore[misc]
# Names that policy_kwargs may have: rl_zoo3 evaluates them there.
rl_zoo3.exp_manager.MinAtarCNN = MinAtarCNN  # type: ignore[attr-defined]
rl_zoo3.exp_manager.student_arch = student_arch  # type: ignore[attr-defined]
