"""Distillation with A2C's machinery: ``DistillA2C``, and a class for each row of the table."""

from typing import Any, ClassVar, TypeVar

from stable_baselines3 import A2C
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.utils import LinearSchedule

from sb3_distill.algorithms.distillation import Distillation

SelfDistillA2C = TypeVar("SelfDistillA2C", bound="DistillA2C")


class DistillA2C(Distillation, A2C):
    """
    Distillation with A2C: the student learns on its own rollouts (or the teacher's), with SB3's A2C as the optimiser.

    Every keyword argument of SB3's ``A2C`` keeps its name and meaning. What distillation adds is described in
    :class:`~sb3_distill.algorithms.distillation.Distillation`; the defaults that it changes are ``A2C``'s in ``DistillA2C.defaults``
    (for all rows) and ``DistillA2C.row_defaults``.
    """

    defaults: ClassVar[dict[str, Any]] = {
        "n_steps": 8,
        "learning_rate": LinearSchedule(4e-3, 2e-4, 1.0),
        "normalize_advantage": True,
        "use_rms_prop": False,
    }
    has_ratio: ClassVar[bool] = False
    row_defaults: ClassVar[dict[str, dict[str, Any]]] = {
        # Without rewards to optimise there is nothing for a critic to do, and its gradient would take most of max_grad_norm.
        "teacher_distill": {"vf_coef": 0.0},
        "on_policy_distill": {"vf_coef": 0.0},
        "kickstarting": {"env_reward_coef": 1.0},
        # A short horizon: while the student is poor its KL is a cost that ending an episode would save.
        "n_distill": {"gamma": 0.9, "reward_coef": 0.1},
        "expected_entropy": {"gamma": 0.5},
        "entropy_regularised": {"gamma": 0.5, "gae_lambda": 0.8, "learning_rate": LinearSchedule(1e-3, 5e-5, 1.0)},
        # V_π judges the next few steps, not the student's critic at their end.
        "teacher_v_reward": {"gae_lambda": 0.9, "learning_rate": LinearSchedule(1e-3, 5e-5, 1.0)},
    }
    #: angles and velocities differ by a factor of ten and more
    continuous_defaults: ClassVar[dict[str, Any]] = {"whitening": True}
    #: chosen, not yet searched for
    pixel_defaults: ClassVar[dict[str, Any]] = {"learning_rate": LinearSchedule(5e-4, 2.5e-5, 1.0)}

    def _setup_model(self) -> None:
        if self.normalize_advantage and self.n_steps * self.n_envs == 1:
            raise ValueError(
                "A rollout of n_steps=1 in one environment has a single advantage, which cannot be normalised: give more steps or "
                "environments, or normalize_advantage=False."
            )
        super()._setup_model()

    def learn(
        self: SelfDistillA2C,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 100,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfDistillA2C:
        """SB3's, of which A2C's ``log_interval`` is longer; see :meth:`DistillPPO.learn <sb3_distill.DistillPPO.learn>`."""
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)


class TeacherDistillA2C(DistillA2C):
    """Teacher distill: the teacher plays, the student descends Σ H×(π‖π_θ) on its states."""

    fixed_method = "teacher_distill"


class OnPolicyDistillA2C(DistillA2C):
    """On-policy distill: the student plays and descends H×(π‖π_θ) on its states; no gradient field, but fast."""

    fixed_method = "on_policy_distill"


class EntropyRegularisedA2C(DistillA2C):
    """Entropy regularised: r̂_i = log π(a_i|s_i) − log π_θ(a_i|s_i); without the second term as ``form="paper"``."""

    fixed_method = "entropy_regularised"


class NDistillA2C(DistillA2C):
    """N-distill: ℓ = KL(π‖π_θ) and r̂_i = −γ ℓ(s_{i+1}), the gradient of E Σ ℓ; H× for KL as ``form="paper"``."""

    fixed_method = "n_distill"


class ExpectedEntropyDistillA2C(DistillA2C):
    """Expected entropy regularised: ℓ = KL(π_θ‖π) and r̂_i = −γ ℓ(s_{i+1}); H×(π_θ‖π) as ``form="paper"``."""

    fixed_method = "expected_entropy"


class TeacherVRewardA2C(DistillA2C):
    """Teacher V reward: r̂_i = r_i + γ_π V_π(s_{i+1}) − V_π(s_i); V_πθ(s_i) for the last with ``baseline="student"``."""

    fixed_method = "teacher_v_reward"


class KickstartingA2C(DistillA2C):
    """
    Kickstarting (Schmitt et al. 2018, arXiv 1803.03835): A2C with a pull towards the teacher that lets go, on-policy distill +R with
    ``loss_coef`` falling to 0.
    """

    fixed_method = "kickstarting"
