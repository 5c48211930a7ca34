"""Distillation with A2C's machinery."""

from typing import Any, ClassVar, TypeVar

from stable_baselines3 import A2C
from stable_baselines3.common.type_aliases import MaybeCallback

from sb3_distill.distillation import Distillation

SelfDistillA2C = TypeVar("SelfDistillA2C", bound="DistillA2C")


class DistillA2C(Distillation, A2C):
    """Distillation with A2C."""

    defaults: ClassVar[dict[str, Any]] = {}
    row_defaults: ClassVar[dict[str, dict[str, Any]]] = {}

    def learn(
        self: SelfDistillA2C,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 100,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfDistillA2C:
        """As SB3's."""
        name = tb_log_name or type(self).__name__
        return super().learn(total_timesteps, callback, log_interval, name, reset_num_timesteps, progress_bar)
