"""A student's zip is one of SB3's own algorithm, which needs neither its teacher nor this package, and is read as such."""

import io
import pathlib
import warnings
from typing import Any, TypeVar

import torch as th
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.type_aliases import GymEnv

from sb3_distill.algorithms.optimizers import in_few_calls, same_kind
from sb3_distill.algorithms.rollout_size import warn_of_cut_minibatch
from sb3_distill.algorithms.schedules import ScheduledDiscount, discount_of

SelfSavesPlain = TypeVar("SelfSavesPlain", bound="SavesPlain")

#: neither the teacher, what it sees, nor our buffer
_NOT_SAVED = (
    "teacher",
    "teacher_obs",
    "rollout_buffer_class",
    "rollout_buffer_kwargs",
    "_row",
    "_binding",
    "_place",
    "_rollout_weights",
    "_said_no_weight",
    "_turns",
    "_bound",
    "_returns",
    "_coefficient",
    "_n_ended",
    "_mean",
    "_warned",
    "_distils",
    "_use_masking",
    "_said_no_mask",
)


class SavesPlain(ScheduledDiscount):
    """An on-policy algorithm whose zip SB3's own reads, and which reads theirs. Put it before the SB3 algorithm in a class's bases."""

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), *_NOT_SAVED]

    @classmethod
    def load(
        cls: type[SelfSavesPlain],
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> SelfSavesPlain:
        """
        SB3's ``load``: a student that was saved, or what SB3's own PPO (A2C) has saved, with the settings that it was saved with.

        :param path: of the zip, or a file
        :param env: the environment to learn on in
        :param device: ``"auto"``, ``"cpu"``, ``"cuda"`` …
        :param custom_objects: to take in place of what the file has under these names
        :param print_system_info: whether to print about this system, and about the one that saved
        :param force_reset: whether ``learn`` begins with a reset of the environment
        :param kwargs: settings to take in place of the saved ones, and ``teacher``, which is never saved
        :return: the student
        :raises ValueError: for a file of another kind of algorithm, and as the constructor does
        """
        given = {**(custom_objects or {}), **kwargs}
        if "gamma" in given:  # SB3 puts it where no setter hears of it
            kwargs |= discount_of(given["gamma"])
        model = super().load(path, env, device, custom_objects, print_system_info, force_reset, **kwargs)
        if "gamma" not in given:
            model._drop_foreign_schedule()
        batch_size = getattr(model, "batch_size", None)
        if model.env is not None and batch_size:
            warn_of_cut_minibatch(batch_size, model.n_steps, model.n_envs)
        return model

    def set_parameters(
        self, load_path_or_dict: Any, exact_match: bool = True, device: th.device | str = "auto"
    ) -> None:
        """
        SB3's. Where the optimiser that was saved is of another kind, as A2C's beside PPO's, the present one begins anew, with a
        warning.

        :param load_path_or_dict: a zip, or what ``get_parameters`` gave
        :param exact_match: whether everything has to be there
        :param device: to load to
        """
        params = load_path_or_dict
        if not isinstance(params, dict):
            _, params, _ = load_from_zip_file(params, device=device, load_data=False)
        optimizer = self.policy.optimizer
        saved = params.get("policy.optimizer")
        if saved is not None and not same_kind(saved, optimizer):
            warnings.warn(
                f"What is loaded was trained with another optimiser than this student's {type(optimizer).__name__}: its weights "
                "are taken, and the optimiser begins anew."
            )
            params = params | {"policy.optimizer": optimizer.state_dict()}
        super().set_parameters(params, exact_match, device)
        in_few_calls(optimizer)
