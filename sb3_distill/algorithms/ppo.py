"""Distillation with PPO's machinery: ``DistillPPO``, and a class for each row of the table."""

from typing import Any, ClassVar, TypeVar

from stable_baselines3 import PPO
from stable_baselines3.common.utils import LinearSchedule

from sb3_distill.algorithms.distillation import Distillation

SelfDistillPPO = TypeVar("SelfDistillPPO", bound="DistillPPO")


class DistillPPO(Distillation, PPO):
    """
    Distillation with PPO: the student learns on its own rollouts (or the teacher's), with SB3's PPO as the optimiser.

    Every keyword argument of SB3's ``PPO`` keeps its name and meaning. What distillation adds is described in
    :class:`~sb3_distill.algorithms.distillation.Distillation`; the defaults that it changes are ``PPO``'s in ``DistillPPO.defaults``
    (for all rows) and ``DistillPPO.row_defaults``.
    """

    defaults: ClassVar[dict[str, Any]] = {
        "learning_rate": LinearSchedule(4e-3, 2e-4, 1.0),
        "n_steps": 128,
        "batch_size": 64,
        "n_epochs": 15,
    }
    row_defaults: ClassVar[dict[str, dict[str, Any]]] = {
        # ∇ℓ is exact where a policy gradient is noise, so it may be ten times as long before it is cut.
        # Without rewards to optimise there is nothing for a critic to do.
        "teacher_distill": {"vf_coef": 0.0, "max_grad_norm": 5.0, "averaging": 0.5},
        "on_policy_distill": {"vf_coef": 0.0, "max_grad_norm": 5.0, "averaging": 0.5},
        "kickstarting": {"env_reward_coef": 1.0},
        "proximal_distill": {"env_reward_coef": 1.0},
        # A short horizon: while the student is poor its KL is a cost that ending an episode would save. Short rollouts: what is
        # learnt of one is soon tried in the next.
        "n_distill": {
            "gamma": 0.9,
            "reward_coef": 0.03,
            "learning_rate": LinearSchedule(2e-3, 1e-4, 1.0),
            "n_steps": 32,
            "n_epochs": 20,
            "max_grad_norm": 5.0,
            "averaging": 0.8,
        },
        "expected_entropy": {"gamma": 0.5, "max_grad_norm": 5.0, "averaging": 0.5},
        "entropy_regularised": {
            "gamma": 0.5,
            "gae_lambda": 0.8,
            "learning_rate": LinearSchedule(1e-3, 5e-5, 1.0),
            "batch_size": 256,
            "n_epochs": 10,
        },
        # V_π judges the next few steps, and the student's critic what its policy adds to that.
        # A short horizon at first, in which V_π is most of the judgement, then that of the return: it corrects V_π where that is wrong.
        "teacher_v_reward": {"gamma": LinearSchedule(0.8, 0.99, 0.5), "gae_lambda": 0.8, "averaging": 0.3},
    }
    #: angles and velocities differ by a factor of ten and more
    continuous_defaults: ClassVar[dict[str, Any]] = {"whitening": True}
    #: the better of a few trials with students of 7% on Pong
    pixel_defaults: ClassVar[dict[str, Any]] = {
        "learning_rate": LinearSchedule(2e-3, 1e-4, 1.0),
        "n_steps": 128,
        "batch_size": 256,
        "n_epochs": 8,
        # They still gain in the second half of a run: a mean of its weights has 11.6 on Pong where the last ones have 15.2.
        "averaging": 0.0,
    }
    pixel_row_defaults: ClassVar[dict[str, dict[str, Any]]] = {
        # The critic shares the student's convolutions, and its gradient is many times ∇ℓ.
        "n_distill": {"vf_coef": 0.01, "reward_coef": 0.1},
        "expected_entropy": {"vf_coef": 0.01, "reward_coef": 0.1},
        # Without ℓ, a policy gradient alone: no higher rate was tried.
        "entropy_regularised": {"learning_rate": LinearSchedule(5e-4, 2.5e-5, 1.0)},
        "teacher_v_reward": {"learning_rate": LinearSchedule(5e-4, 2.5e-5, 1.0)},
    }


class TeacherDistill(DistillPPO):
    """Teacher distill: the teacher plays, the student descends Σ H×(π‖π_θ) on its states."""

    fixed_method = "teacher_distill"


class OnPolicyDistill(DistillPPO):
    """On-policy distill: the student plays and descends H×(π‖π_θ) on its states; no gradient field, but fast."""

    fixed_method = "on_policy_distill"


class EntropyRegularised(DistillPPO):
    """Entropy regularised: r̂_i = log π(a_i|s_i) − log π_θ(a_i|s_i); without the second term as ``form="paper"``."""

    fixed_method = "entropy_regularised"


class NDistill(DistillPPO):
    """N-distill: ℓ = KL(π‖π_θ) and r̂_i = −γ ℓ(s_{i+1}), the gradient of E Σ ℓ; H× for KL as ``form="paper"``."""

    fixed_method = "n_distill"


class ExpectedEntropyDistill(DistillPPO):
    """Expected entropy regularised: ℓ = KL(π_θ‖π) and r̂_i = −γ ℓ(s_{i+1}); H×(π_θ‖π) as ``form="paper"``."""

    fixed_method = "expected_entropy"


class TeacherVReward(DistillPPO):
    """Teacher V reward: r̂_i = r_i + γ_π V_π(s_{i+1}) − V_π(s_i); V_πθ(s_i) for the last with ``baseline="student"``."""

    fixed_method = "teacher_v_reward"


class Kickstarting(DistillPPO):
    """
    Kickstarting (Schmitt et al. 2018, arXiv 1803.03835): PPO with a pull towards the teacher that lets go, on-policy distill +R with
    ``loss_coef`` falling to 0.
    """

    fixed_method = "kickstarting"


class ProximalDistill(DistillPPO):
    """
    Proximal policy distillation (Spigler 2025, arXiv 2407.15134): PPO with the loss max(ρ_t, 1−ε) H×(π‖π_θ), the gradient through ρ_t
    included.
    """

    fixed_method = "proximal_distill"
