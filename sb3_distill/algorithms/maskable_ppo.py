"""Distillation with MaskablePPO's machinery: ``DistillMaskablePPO``, and a class for each row of the table."""

import warnings
from typing import Any, ClassVar, TypeVar

from gymnasium import spaces
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.maskable.utils import is_masking_supported
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.algorithms.buffers import MASKABLE
from sb3_distill.algorithms.distillation import Distillation
from sb3_distill.algorithms.masked_states import hear_last_masks
from sb3_distill.algorithms.ppo import DistillPPO
from sb3_distill.algorithms.rollout import Rollout
from sb3_distill.common.masks import factors, told_at_time_limits
from sb3_distill.rules.methods import NEXT_STATE
from sb3_distill.teachers.teacher import Answer

SelfDistillMaskablePPO = TypeVar("SelfDistillMaskablePPO", bound="DistillMaskablePPO")


class DistillMaskablePPO(Distillation, MaskablePPO):  # type: ignore[misc]
    """
    Distillation with sb3-contrib's MaskablePPO, in environments that say which actions are allowed: neither the student nor its teacher,
    whoever that is, takes another one.

    Every keyword argument of ``MaskablePPO`` keeps its name and meaning; the defaults that are changed are ``DistillPPO``'s. What
    distillation adds is described in :class:`~sb3_distill.algorithms.distillation.Distillation`. π in each of its formulas is the
    teacher's distribution among the allowed actions, as π_θ is the student's: π(a|s) over its sum. Of a Q-network that is
    (1−ε) softmax(Q/τ) + ε/|A| over the allowed ones alone.

    The mask of a state at which a time limit cuts an episode is asked for before the reset where the environments are in this process
    (``DummyVecEnv``), or read from the step's ``info["action_mask"]``; where neither tells, that of the state before stands in.

    :raises ValueError: for continuous actions; at ``learn``, for an environment that hands out no masks (but for
        ``use_masking=False``), and in a rollout, for a mask that is none or forbids everything; and as there
    """

    masks_actions = True
    policy_base = MaskableActorCriticPolicy
    buffers = MASKABLE
    defaults: ClassVar[dict[str, Any]] = DistillPPO.defaults
    row_defaults: ClassVar[dict[str, dict[str, Any]]] = DistillPPO.row_defaults
    pixel_defaults: ClassVar[dict[str, Any]] = DistillPPO.pixel_defaults
    pixel_row_defaults: ClassVar[dict[str, dict[str, Any]]] = DistillPPO.pixel_row_defaults

    #: of the present or last ``learn``
    _use_masking: bool = True
    #: whether it was said that nobody tells some masks
    _said_no_mask: bool = False

    @classmethod
    def check_serves(cls, env: Any) -> None:
        """
        :param env: a Gymnasium environment or a ``VecEnv``
        :raises ValueError: if its actions are not discrete
        """
        space = getattr(env, "action_space", None)
        if space is not None and not factors(space):
            raise ValueError(
                f"{cls.__name__} masks Discrete, MultiDiscrete and MultiBinary actions, and the environment has {space}: take "
                f"{cls._unmasked()}, engine='ppo'."
            )
        if isinstance(space, spaces.MultiBinary) and not isinstance(space.n, int):
            raise ValueError(
                f"MaskablePPO has no {space} of several dimensions: flatten it, MultiBinary({space.n!r}) to one."
            )

    @classmethod
    def _unmasked(cls) -> str:
        """The name of the class that heeds no masks."""
        from sb3_distill.algorithms.engines import sibling  # which imports this

        return sibling(cls, "ppo")

    def learn(  # type: ignore[override]
        self: SelfDistillMaskablePPO,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        use_masking: bool = True,
        progress_bar: bool = False,
    ) -> SelfDistillMaskablePPO:
        """
        sb3-contrib's ``learn``.

        :param total_timesteps: environment steps, over all environments
        :param callback: called at every step
        :param log_interval: rollouts between two log entries
        :param tb_log_name: of the run in Tensorboard, by default the class's name
        :param reset_num_timesteps: whether the count of steps starts anew
        :param use_masking: whether the environment's masks count; without, student and teacher take any action
        :param progress_bar: whether to show one
        :return: the trained model
        :raises ValueError: if there is no teacher, or it does not fit the environment or the method; if the environment hands out no masks
        """
        self._use_masking = use_masking
        name = tb_log_name or type(self).__name__
        return MaskablePPO.learn(
            self, total_timesteps, callback, log_interval, name, reset_num_timesteps, use_masking, progress_bar
        )

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        if self._use_masking and self.env is not None:
            self.check_hands_out_masks(self.env)
        return super()._setup_learn(*args, **kwargs)

    @classmethod
    def check_hands_out_masks(cls, env: VecEnv) -> None:
        """
        :param env: to learn in
        :raises ValueError: if it does not say which actions are allowed
        """
        if not is_masking_supported(env):
            raise ValueError(
                f"The environment does not say which actions are allowed, and {cls.__name__} asks it: give it a method "
                "action_masks(), or wrap it in sb3-contrib's ActionMasker(env, function). Without masks, take "
                f"{cls._unmasked()}, engine='ppo', or learn(…, use_masking=False)."
            )

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int, *rest: Any
    ) -> bool:
        if not self._use_masking or NEXT_STATE not in self._row.needs:
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps, *rest)
        with told_at_time_limits(env):
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps, *rest)

    def _answer_for(self, heard: Rollout) -> Answer:
        if heard.masks:
            n_unknown = hear_last_masks(heard)
            if n_unknown and NEXT_STATE in self._row.needs and not self._said_no_mask:
                self._said_no_mask = True
                warnings.warn(
                    f"Nobody tells which actions were allowed in the last states of {n_unknown} of {heard.tap.n_ends} episodes that ended "
                    "in this rollout: time limits have cut them, and the environment has begun the next ones. The mask of the state "
                    f"before stands in, so that what {self._row.name} has of these states is only near to it. Let step() put "
                    "info['action_mask'] = action_masks().",
                    stacklevel=2,
                )
        return super()._answer_for(heard)


class TeacherDistillMaskablePPO(DistillMaskablePPO):
    """Teacher distill: the teacher plays, the student descends Σ H×(π‖π_θ) on its states."""

    fixed_method = "teacher_distill"


class OnPolicyDistillMaskablePPO(DistillMaskablePPO):
    """On-policy distill: the student plays and descends H×(π‖π_θ) on its states; no gradient field, but fast."""

    fixed_method = "on_policy_distill"


class EntropyRegularisedMaskablePPO(DistillMaskablePPO):
    """Entropy regularised: r̂_i = log π(a_i|s_i) − log π_θ(a_i|s_i); without the second term as ``form="paper"``."""

    fixed_method = "entropy_regularised"


class NDistillMaskablePPO(DistillMaskablePPO):
    """N-distill: ℓ = KL(π‖π_θ) and r̂_i = −γ ℓ(s_{i+1}), the gradient of E Σ ℓ; H× for KL as ``form="paper"``."""

    fixed_method = "n_distill"


class ExpectedEntropyDistillMaskablePPO(DistillMaskablePPO):
    """Expected entropy regularised: ℓ = KL(π_θ‖π) and r̂_i = −γ ℓ(s_{i+1}); H×(π_θ‖π) as ``form="paper"``."""

    fixed_method = "expected_entropy"


class TeacherVRewardMaskablePPO(DistillMaskablePPO):
    """Teacher V reward: r̂_i = r_i + γ_π V_π(s_{i+1}) − V_π(s_i); V_πθ(s_i) for the last with ``baseline="student"``."""

    fixed_method = "teacher_v_reward"


class KickstartingMaskablePPO(DistillMaskablePPO):
    """
    Kickstarting (Schmitt et al. 2018, arXiv 1803.03835): PPO with a pull towards the teacher that lets go, on-policy distill +R with
    ``loss_coef`` falling to 0.
    """

    fixed_method = "kickstarting"


class ProximalDistillMaskablePPO(DistillMaskablePPO):
    """
    Proximal policy distillation (Spigler 2025, arXiv 2407.15134): PPO with the loss max(ρ_t, 1−ε) H×(π‖π_θ), the gradient through ρ_t
    included.
    """

    fixed_method = "proximal_distill"
