"""Distillation with PPO's machinery."""

from typing import Any, ClassVar, TypeVar

from stable_baselines3 import PPO
from stable_baselines3.common.type_aliases import MaybeCallback

from sb3_distill.distillation import Distillation

SelfDistillPPO = TypeVar("SelfDistillPPO", bound="DistillPPO")


class DistillPPO(Distillation, PPO):
    """Distillation with PPO."""

    defaults: ClassVar[dict[str, Any]] = {"learning_rate": 1e-3, "n_steps": 128, "batch_size": 64, "n_epochs": 10}
    row_defaults: ClassVar[dict[str, dict[str, Any]]] = {}

    def learn(
        self: SelfDistillPPO,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfDistillPPO:
        """As SB3's."""
        name = tb_log_name or type(self).__name__
        return super().learn(total_timesteps, callback, log_interval, name, reset_num_timesteps, progress_bar)
