"""Distillation with RecurrentPPO's machinery: ``DistillRecurrentPPO``, and a class for each row of the table."""

from typing import Any, ClassVar

from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.utils import LinearSchedule

from sb3_distill.algorithms.buffers import DistillRecurrentDictRolloutBuffer, DistillRecurrentRolloutBuffer
from sb3_distill.algorithms.distillation import Distillation
from sb3_distill.algorithms.ppo import DistillPPO
from sb3_distill.algorithms.remembering import blank, memory_at_ends
from sb3_distill.algorithms.rollout import Rollout
from sb3_distill.common.observations import length


class DistillRecurrentPPO(Distillation, RecurrentPPO):
    """
    Distillation with sb3-contrib's RecurrentPPO: a student with an LSTM, which learns along sequences. It can copy a teacher that sees
    more than it does (``teacher_obs``), as far as what it has seen so far tells.

    Every keyword argument of ``RecurrentPPO`` keeps its name and meaning. What distillation adds is described in
    :class:`~sb3_distill.algorithms.distillation.Distillation`; the defaults that it changes are ``RecurrentPPO``'s in
    ``DistillRecurrentPPO.defaults`` (for all rows) and ``DistillRecurrentPPO.row_defaults``.

    What the student remembers is forgotten where an episode begins, and kept from one rollout to the next. A minibatch begins each of
    its sequences with what was remembered there when it was played, and no gradient goes back beyond.
    """

    defaults: ClassVar[dict[str, Any]] = {
        "learning_rate": LinearSchedule(4e-3, 2e-4, 1.0),
        # Minibatches of whole rollouts of some environments: an LSTM is stepped once for all sequences of one.
        "n_steps": 64,
        "batch_size": 128,
        "n_epochs": 10,
    }
    remembers: ClassVar[bool] = True
    #: PPO's, but for the sizes of rollouts and minibatches
    row_defaults: ClassVar[dict[str, dict[str, Any]]] = {
        row: {name: value for name, value in settings.items() if name not in ("n_steps", "batch_size", "n_epochs")}
        for row, settings in DistillPPO.row_defaults.items()
    }
    #: angles and velocities differ by a factor of ten and more
    continuous_defaults: ClassVar[dict[str, Any]] = {"whitening": True}
    #: chosen, not yet searched for
    pixel_defaults: ClassVar[dict[str, Any]] = {"learning_rate": LinearSchedule(5e-4, 2.5e-5, 1.0)}

    policy: RecurrentActorCriticPolicy

    def _setup_model(self) -> None:
        super()._setup_model()
        # RecurrentPPO takes no class of buffers: its own is replaced while it is empty.
        is_dict = isinstance(self.observation_space, spaces.Dict)
        buffer: Any = DistillRecurrentDictRolloutBuffer if is_dict else DistillRecurrentRolloutBuffer
        self.rollout_buffer = buffer(
            self.n_steps,
            self.observation_space,
            self.action_space,
            self.rollout_buffer.hidden_state_shape,  # type: ignore[attr-defined]
            self.device,
            gae_lambda=self.gae_lambda,
            gamma=self.gamma,
            n_envs=self.n_envs,
        )

    def _in_first_states(self, obs: Any) -> Distribution:
        n = length(obs)
        memory: Any = blank(self.policy, n).pi
        return self.policy.get_distribution(obs, memory, memory[0].new_ones(n))[0]

    def _at_ends(self, heard: Rollout, obs: Any) -> Distribution:
        assert self._last_lstm_states is not None
        last, starts = self._last_lstm_states.pi, self._last_episode_starts
        assert starts is not None
        return self.policy.get_distribution(obs, *memory_at_ends(self.rollout_buffer, last, starts, heard))[0]


class TeacherDistillRecurrentPPO(DistillRecurrentPPO):
    """Teacher distill: the teacher plays, the student descends Σ H×(π‖π_θ) on its states."""

    fixed_method = "teacher_distill"


class OnPolicyDistillRecurrentPPO(DistillRecurrentPPO):
    """On-policy distill: the student plays and descends H×(π‖π_θ) on its states; no gradient field, but fast."""

    fixed_method = "on_policy_distill"


class EntropyRegularisedRecurrentPPO(DistillRecurrentPPO):
    """Entropy regularised: r̂_i = log π(a_i|s_i) − log π_θ(a_i|s_i); without the second term as ``form="paper"``."""

    fixed_method = "entropy_regularised"


class NDistillRecurrentPPO(DistillRecurrentPPO):
    """N-distill: ℓ = KL(π‖π_θ) and r̂_i = −γ ℓ(s_{i+1}), the gradient of E Σ ℓ; H× for KL as ``form="paper"``."""

    fixed_method = "n_distill"


class ExpectedEntropyDistillRecurrentPPO(DistillRecurrentPPO):
    """Expected entropy regularised: ℓ = KL(π_θ‖π) and r̂_i = −γ ℓ(s_{i+1}); H×(π_θ‖π) as ``form="paper"``."""

    fixed_method = "expected_entropy"


class TeacherVRewardRecurrentPPO(DistillRecurrentPPO):
    """Teacher V reward: r̂_i = r_i + γ_π V_π(s_{i+1}) − V_π(s_i); V_πθ(s_i) for the last with ``baseline="student"``."""

    fixed_method = "teacher_v_reward"


class KickstartingRecurrentPPO(DistillRecurrentPPO):
    """
    Kickstarting (Schmitt et al. 2018, arXiv 1803.03835): PPO with a pull towards the teacher that lets go, on-policy distill +R with
    ``loss_coef`` falling to 0.
    """

    fixed_method = "kickstarting"


class ProximalDistillRecurrentPPO(DistillRecurrentPPO):
    """
    Proximal policy distillation (Spigler 2025, arXiv 2407.15134): PPO with the loss max(ρ_t, 1−ε) H×(π‖π_θ), the gradient through ρ_t
    included.
    """

    fixed_method = "proximal_distill"
