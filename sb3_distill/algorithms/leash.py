"""A leash: reinforcement learning that may not go far from a policy at first, and as far as it likes later."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch as th
from sb3_contrib import TRPO, MaskablePPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import LinearSchedule

from sb3_distill.algorithms.around_train import AroundTrain
from sb3_distill.algorithms.gradient import attaching
from sb3_distill.algorithms.schedules import TRIED, value_at
from sb3_distill.algorithms.snapshots import frozen_copy
from sb3_distill.rules.distributions import plain
from sb3_distill.rules.losses import kl


class Leash(AroundTrain):
    """
    Adds coef · KL(π_0‖π_θ) to the loss of SB3's PPO or A2C as they are: π_0 is the policy as it was. A coefficient that falls to 0 lets
    go. A leash to a teacher is :class:`~sb3_distill.DistillPPO` with ``env_reward_coef``.

    :param coef: at least 0: a number or a schedule of ``progress_remaining``; by default from 1 to 0 in the first half of ``learn``
    :param policy: π_0, by default the model's own when ``learn`` begins. It is copied
    :raises ValueError: for another coefficient; at ``learn``, for another algorithm, or a policy of other spaces
    """

    def __init__(self, coef: float | Schedule | None = None, policy: ActorCriticPolicy | None = None) -> None:
        super().__init__()
        self.coef = LinearSchedule(1.0, 0.0, 0.5) if coef is None else coef
        for progress in TRIED:
            value = value_at("coef", self.coef, progress)
            if not 0 <= value < float("inf"):
                raise ValueError(f"coef of a Leash must be at least 0, not {value}.")
        self._given = None if policy is None else frozen_copy(policy)
        self._start: ActorCriticPolicy | None = None

    def _init_callback(self) -> None:
        if isinstance(self.model, TRPO):
            raise ValueError(
                "TRPO has no loss that a Leash could be added to; its target_kl holds it: leave Leash out."
            )
        if not isinstance(self.model, (PPO, A2C, MaskablePPO)):
            raise ValueError(
                f"A Leash is for PPO, A2C and MaskablePPO, not for {type(self.model).__name__}: leave it out."
            )
        if self._given is not None:
            for name in ("observation_space", "action_space"):
                given, mine = getattr(self._given, name), getattr(self.model, name)
                if given != mine:
                    raise ValueError(
                        f"The policy of the Leash has the {name} {given}, and the model has {mine}: give one of this model's."
                    )

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self._start = self._given or frozen_copy(self.model.policy)  # type: ignore[assignment]

    def around(self) -> AbstractContextManager[None]:
        return self._pulling()

    @contextmanager
    def _pulling(self) -> Iterator[None]:
        # Now, and not when the rollout has ended: SB3 says in between how far the run has come.
        coef = value_at("coef", self.coef, self.model._current_progress_remaining)
        self.logger.record("train/leash_coef", coef)
        if coef == 0:
            yield
            return
        policy: Any = self.model.policy
        start, space = self._start, self.model.action_space
        assert start is not None

        def distance(values: th.Tensor, log_prob: th.Tensor) -> th.Tensor:
            with th.no_grad():
                before = plain(space, start.get_distribution(attached.last_obs, **attached.last_more))
            return kl(before, plain(space, policy.action_dist)).mean()

        with attaching(policy, distance, coef, 1.0, True, self.num_timesteps) as attached:
            yield
        if attached.losses:
            self.logger.record("train/leash", sum(attached.losses) / len(attached.losses))
