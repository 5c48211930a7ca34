"""Distillation with TRPO's machinery: ``DistillTRPO``, and a class for each row of the table that it can serve."""

from typing import Any, ClassVar

from sb3_contrib import TRPO

from sb3_distill.algorithms.coefficients import Weights
from sb3_distill.algorithms.distillation import Distillation


class DistillTRPO(Distillation, TRPO):
    """
    Distillation with sb3-contrib's TRPO as the optimiser, for the rows that are a reward: its step is found on a surrogate of the
    return under a bound on the KL to the policy before, in which a loss ℓ has no place.

    Every keyword argument of ``TRPO`` keeps its name and meaning. What distillation adds is described in
    :class:`~sb3_distill.algorithms.distillation.Distillation`; the length of a step is the bound's, so that a common factor of
    ``reward_coef`` and ``env_reward_coef`` has no effect.

    Its own row, if none is named, is ``"entropy_regularised"``.

    >>> DistillTRPO("MlpPolicy", "CartPole-v1", method="n_distill")
    Traceback (most recent call last):
    ValueError: DistillTRPO takes no step along a loss ℓ, which 'n_distill' has: choose ...

    :raises ValueError: for a row with ℓ; and as there
    """

    defaults: ClassVar[dict[str, Any]] = {"n_steps": 128, "batch_size": 128}
    default_method = "entropy_regularised"
    row_defaults: ClassVar[dict[str, dict[str, Any]]] = {
        # As with PPO: a short horizon, since while the student is poor its KL is a cost that ending an episode would save.
        "entropy_regularised": {"gamma": 0.5, "gae_lambda": 0.8},
        "teacher_v_reward": {"gae_lambda": 0.9},
    }

    def _setup_model(self) -> None:
        # sb3-contrib leaves 0 in what TRPO does without. PPO, into which its zip may be loaded, would have no critic.
        self.vf_coef = self.max_grad_norm = 0.5
        super()._setup_model()

    def _weights_at(self, progress: float) -> Weights:
        weights = super()._weights_at(progress)
        if weights.policy_gradient == 0:
            raise ValueError(
                f"{type(self).__name__} has no step without a reward: give reward_coef or env_reward_coef a weight throughout the run."
            )
        return weights

    def _set_coefficients(self) -> None:
        if self._row.loss is not None:
            raise ValueError(
                f"{type(self).__name__} takes no step along a loss ℓ, which {self._row.name!r} has: choose 'entropy_regularised' or "
                "'teacher_v_reward', or the engine PPO or A2C."
            )
        super()._set_coefficients()


class EntropyRegularisedTRPO(DistillTRPO):
    """Entropy regularised: r̂_i = log π(a_i|s_i) − log π_θ(a_i|s_i); without the second term as ``form="paper"``."""

    fixed_method = "entropy_regularised"


class TeacherVRewardTRPO(DistillTRPO):
    """Teacher V reward: r̂_i = r_i + γ_π V_π(s_{i+1}) − V_π(s_i); V_πθ(s_i) for the last with ``baseline="student"``."""

    fixed_method = "teacher_v_reward"
