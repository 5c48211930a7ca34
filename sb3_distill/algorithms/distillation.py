"""What distillation adds to SB3's on-policy algorithms, at three seams: no method body of SB3's is repeated.

* ``collect_rollouts`` runs SB3's own on an environment that is listened to (:mod:`~sb3_distill.algorithms.rollout`).
* The rollout buffer calls back before advantages are computed. There the teacher is asked about the whole rollout in one
  batch, and r̂ joins the rewards (:mod:`~sb3_distill.algorithms.advantages`).
* ``train`` runs SB3's own while ``policy.evaluate_actions``, the one forward pass of a minibatch, attaches ∇ℓ to the
  graph and weighs the policy gradient (:mod:`~sb3_distill.algorithms.gradient`).
"""

import inspect
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.algorithms.advantages import (
    Compute,
    add_reward,
    check_injected,
    injected_reward,
    judged,
    student_at_ends,
    transitions,
)
from sb3_distill.algorithms.asking import answer_in_the_end, answer_now
from sb3_distill.algorithms.averaging import WeightMean
from sb3_distill.algorithms.batch_loss import batch_loss, log_weight
from sb3_distill.algorithms.closeness import closeness
from sb3_distill.algorithms.coefficients import Weights, beta_at, warn_if_nothing_teaches
from sb3_distill.algorithms.gradient import attaching
from sb3_distill.algorithms.mixture import put_executed
from sb3_distill.algorithms.place import present_obs
from sb3_distill.algorithms.prepared import Prepared
from sb3_distill.algorithms.returns import students_return, warn_of_unknown_returns
from sb3_distill.algorithms.rollout import Rollout, listening
from sb3_distill.algorithms.schedules import value_at
from sb3_distill.algorithms.settings import visible_signature
from sb3_distill.algorithms.student_policy import check_distribution
from sb3_distill.algorithms.then_rl import gamma_of, then_rl
from sb3_distill.algorithms.threads import rollout_threads, torch_threads
from sb3_distill.algorithms.whitening import Statistics, first_layers, joined, whitened
from sb3_distill.common.layers import raw_env, reward_unit
from sb3_distill.common.observations import copy_obs
from sb3_distill.common.replaced import replaced
from sb3_distill.common.spaces import env_actions
from sb3_distill.common.tap import check_rewards
from sb3_distill.rules.controls import CONTROLS, Step
from sb3_distill.rules.distributions import from_parameters, parameters, unvalidated, within_bounds
from sb3_distill.rules.methods import NEXT_STATE, STUDENT, TEACHER_VALUE
from sb3_distill.students.pixels import fast_pixels
from sb3_distill.teachers.teacher import Answer

SelfDistillation = TypeVar("SelfDistillation", bound="Distillation")


class Distillation(Prepared, OnPolicyAlgorithm):
    """
    The part that DistillPPO, DistillA2C, DistillTRPO and DistillMaskablePPO share. Put it before the SB3 algorithm in a class's bases.

    It descends along E_q[ Σ_t −∇ log π_θ(a_t|s_t) Â_t + loss_coef ∇ℓ_t ], where Â_t is SB3's advantage of the rewards
    reward_coef · r̂_t + env_reward_coef · r_t. With w = reward_coef + env_reward_coef, the buffer holds those rewards
    divided by w and the policy-gradient loss is multiplied by w. Without normalised advantages that changes nothing; with
    them it gives the coefficients the meaning that normalisation would take from them. Where w = 0 there is no
    policy-gradient term, and the critic learns the environment's return.

    :param policy: SB3's name or class of the student's policy
    :param env: the student's environment, or its Gymnasium id
    :param teacher: a :class:`~sb3_distill.Teacher`, or whatever :func:`~sb3_distill.load_teacher` takes. It may
        wait until ``learn``, and is never saved
    :param teacher_obs: puts the teacher's wrappers around an environment, where it does not see what the student sees, or is the key of
        its part of Dict observations, ``"state"``; see :mod:`~sb3_distill.teachers.view`
    :param method: a row of :data:`~sb3_distill.METHODS` by name, or a row of one's own; by default ``"n_distill"``.
        The named classes fix it
    :param form: ``"unbiased"`` (default) or ``"paper"``, see :mod:`~sb3_distill.rules.methods`; of a named row
    :param baseline: of teacher V reward, ``"teacher"`` (V_π(s_i), default) or ``"student"`` (V_πθ(s_i))
    :param control: who picks the executed actions: ``"student"``, ``"teacher"``, ``"uniform"`` or ``"mixed"``; by default the row's own
    :param weight: of ℓ, a name of :data:`~sb3_distill.rules.methods.WEIGHTS`. For rows without r̂: ``"v_conditioned"`` counts states in
        which the teacher's value is above the student's, whose critic then learns the environment's return, and ``"proximal"`` is
        max(ρ_t, 1−ε), with PPO's ratio and ``clip_range``. For all rows with ℓ: ``"return_ratio"`` turns ℓ, and r̂ with it, down as
        the student's return nears the teacher's
    :param critic: what the student's critic learns in place of the return of who acts. ``"teacher"``: V_π(s_t), so that it knows what the
        copied policy is worth when reinforcement learning begins. ``"td"``: r_t + γ V_π(s_{t+1}), which the advantage of the environment's
        reward is then made of, too. In the units of the environment that the student learns in
    :param beta: β of ``control="mixed"``, how likely the teacher acts at a step and not the student; a number or a schedule, in [0, 1]
    :param beta_per: ``"step"``, or ``"episode"``: then the one who is drawn acts to its end
    :param teacher_return: of ``weight="return_ratio"``: the teacher's mean return an episode, in the environment's own rewards. By
        default that of 10 episodes that it plays where it was trained
    :param random_return: likewise, of uniformly random play
    :param reward_bound: the largest abs(r̂), greater than 0. By default 5 nats for each dimension of a continuous action where r̂ is made
        of logarithms of densities, which have no limits, and else none; ``math.inf`` for none
    :param loss_coef: weight of ℓ, at least 0; a number or a schedule of ``progress_remaining``, as the next two. By default 1, or
        0 where the row has no ℓ; beside the environment's reward it falls from 1 to 0
    :param reward_coef: weight of r̂; by default the row's own, or 0 where the row has no r̂; beside the environment's reward that of
        an r̂ that is the teacher's pull falls to 0, too
    :param env_reward_coef: weight of the environment's reward, by default 0, or 1 of ``"kickstarting"`` and ``"proximal_distill"``
    :param averaging: the share of a run at its end over which the student's weights are averaged, one sample after each
        rollout (Polyak and Juditsky, 1992); the mean takes their place when the run is over, before ``on_training_end``. With 0
        the last weights stay, as they do after a run that a callback has stopped. By default the row's own; 0 where the
        environment's reward has a weight, which goes on to improve the student, for images, and in the paper's form
    :param whitening: whether observations are whitened while the student learns, see :mod:`~sb3_distill.algorithms.whitening`: each column
        less its mean, in units of its standard deviation, both of all observations so far. The network is rewritten for that and back
        again, so that everybody else has one of observations as they are. Of SB3's own networks of vectors; others learn as they are.
        By default where actions are continuous, but for the paper's form
    :param mixed_precision: whether the student's features extractors multiply in bfloat16 while it learns, see
        :func:`~sb3_distill.students.pixels.fast_pixels`; None where it sees images, on a device that does that faster
    :param kwargs: of the SB3 algorithm, with its names and meanings; ``gamma`` may be a schedule, too, whose number as a rollout begins is
        that rollout's. Of ``n_steps`` and ``batch_size``, what is left out is chosen
        so that no minibatch is cut short, if that can be done near its default
    :raises ValueError: before any work, for unknown names, a teacher that does not fit the environment or lacks the value
        function that the row needs, coefficients that are negative or weigh a term that the row does not have, a share outside
        [0, 1], w > 0 with a control policy that is neither the student nor, with PPO's and TRPO's ratio, a mixture, a weight that
        the row or the engine does not admit, returns that are not known, or a student whose action distribution cannot be read
    :raises TypeError: for an argument that there is not, with the nearest that there is
    """

    #: present values of the coefficients as the last rollout began
    _rollout_weights: Weights
    #: of the observations so far, where the student learns on whitened ones; a list after ``load``
    observation_statistics: Statistics | None = None
    #: λ of the last rollout, and how many episodes have ended since learn() began
    _coefficient: float = 1.0
    _n_ended: int = 0
    #: of the weights so far, where they are averaged
    _mean: WeightMean | None = None
    #: whether it was said that the weight of ℓ is 0 everywhere
    _said_no_weight: bool = False
    #: whether it was said that something is wrong with terminal observations
    _warned: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        signature = inspect.signature(cls.__init__)
        if cls.__init__ is Distillation.__init__:
            signature = visible_signature(cls, signature)
        else:  # a user's class with a constructor of its own
            signature = signature.replace(parameters=list(signature.parameters.values())[1:])
        cls.__signature__ = signature  # type: ignore[attr-defined]

    def learn(
        self: SelfDistillation,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfDistillation:
        """
        SB3's ``learn``.

        :param total_timesteps: environment steps, over all environments
        :param callback: called at every step
        :param log_interval: rollouts between two log entries
        :param tb_log_name: of the run in Tensorboard, by default the class's name
        :param reset_num_timesteps: whether the count of steps starts anew
        :param progress_bar: whether to show one
        :return: the trained model
        :raises ValueError: if there is no teacher, or it does not fit the environment or the method
        """
        name = tb_log_name or type(self).__name__
        return super().learn(total_timesteps, callback, log_interval, name, reset_num_timesteps, progress_bar)

    def then_rl(self, total_timesteps: int, **kwargs: Any) -> OnPolicyAlgorithm:
        """
        Go on by reinforcement learning that does not forget: :func:`~sb3_distill.then_rl`.

        :param total_timesteps: environment steps, over all environments
        :param kwargs: as there
        :return: a plain PPO, A2C, TRPO or MaskablePPO, trained
        """
        return then_rl(self, total_timesteps, **kwargs)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        self._check_teacher()
        self._check_schedules()
        if self.ent_coef == 0:
            warn_if_nothing_teaches(self._weights_at)
        self._mean = None
        if self._binding.begins_with_an_episode:
            self._last_obs = None
        before = self._last_obs
        with self._binding.hearing(steps=True):
            total_timesteps, callback = super()._setup_learn(*args, **kwargs)
        if self.num_timesteps == 0:
            self._n_ended = 0
        if total_timesteps > 0:  # SB3 does so after a rollout, but the first one is weighed, too
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
        if self._last_obs is not before:
            # A copy: the environment may write over it before SB3 puts it into its buffer.
            self._last_obs = copy_obs(self._last_obs)
            view = self._binding.view
            self._place.keep(self._last_obs, copy_obs(present_obs(self._last_obs, self.env, view)), view)
        self._place.others_played = True  # since the last rollout, for all that is known here
        if self._distils:
            assert self.env is not None
            with torch_threads(rollout_threads(self.env)):  # a pass of the size of a rollout's
                check_distribution(self.policy, self._last_obs, self._in_first_states)
        return total_timesteps, callback

    # --- the first seam -----------------------------------------------------------------------------------------------

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int, *rest: Any
    ) -> bool:
        """SB3's, on an environment that is listened to; see :class:`~stable_baselines3.PPO`."""
        self._coefficient = self._coefficient_now()
        weights = self._rollout_weights = self._weights().times(self._coefficient)
        place, view, buffer = self._place, self._binding.view, self.rollout_buffer
        n_threads = th.get_num_threads()
        is_cut, place.others_played = place.others_played, False
        if is_cut:
            buffer.cut_at_start = True

        def on_others(n: int) -> None:
            if n > n_rollout_steps:
                place.others_played = True
            else:
                buffer.cut(n)

        def finish_rollout(compute: Compute, last_values: th.Tensor) -> None:
            assert heard is not None
            with torch_threads(n_threads):  # the games wait
                answer = self._answer_for(heard)
            self._finish_rollout(compute, last_values, heard, answer)

        assert self._last_obs is not None
        seen, heard = place.seen(self._last_obs, self.env, view), None
        scale, paid = weights.env_scale(self._row), self._uses_env_reward
        listened = listening(
            env, view, seen, self._act, rollout_buffer, n_rollout_steps, scale, paid, is_cut, on_others
        )
        try:
            fast = fast_pixels(self.policy, self.mixed_precision, same_weights=True)
            called_back = replaced(buffer, "finish_rollout", finish_rollout)
            hearing = self._binding.hearing(steps=False)
            with called_back, hearing, listened as heard, unvalidated(), fast, torch_threads(rollout_threads(env)):
                finished = super().collect_rollouts(heard.env, callback, rollout_buffer, n_rollout_steps, *rest)
            if not finished:
                self._binding.forget()  # SB3 has not kept the last observation either: the next learn() resets
            return finished
        finally:
            if heard is not None and (view is not None or raw_env(env)[1] is not None):
                observations = heard.tap.observations
                place.keep(self._last_obs, observations[min(rollout_buffer.pos, len(observations) - 1)], view)

    def _coefficient_now(self) -> float:
        """λ, by the returns of the last episodes; 1 where the row has none."""
        if self._row.coefficient is None:
            return 1.0
        assert self._returns is not None
        student = students_return(self.ep_info_buffer)
        if student is None and self._n_ended > 0 and not self._said_no_weight:
            self._said_no_weight = True
            warn_of_unknown_returns(self._n_ended)
        now = self._row.coefficient(self._returns[1]._replace(student=student))
        self.logger.record("distill/weight", now)
        return now

    def _act(self, heard: Rollout, actions: np.ndarray) -> np.ndarray:
        """The actions to execute, where the student would do ``actions``."""
        # Here and not in the buffer: callbacks run in between, and their predict() overwrites the distribution.
        heard.student.append(parameters(self.policy.action_dist).cpu().numpy())
        if heard.env.masks is not None:
            heard.masks.append(heard.env.masks)
        if not np.isfinite(heard.student[-1].sum()):
            raise ValueError(
                f"The student's action distribution is not finite after {self.num_timesteps} steps: {heard.student[-1]}. "
                "Lower learning_rate."
            )

        def teacher() -> np.ndarray:
            answer = answer_now(self.teacher, self._binding, heard, TEACHER_VALUE in self._row.needs)
            last = answer.parameters[-len(actions) :]
            drawn = from_parameters(self.action_space, last).sample()
            if self.control == "mixed":
                heard.drawn[len(heard.student) - 1] = drawn.cpu().numpy()
            return env_actions(self.action_space, drawn)

        def teachers_turn() -> np.ndarray:
            heard.turns.append(self._turns.teachers(self._beta(), self._last_episode_starts))  # type: ignore[arg-type]
            return heard.turns[-1]

        assert self.control is not None
        masks = heard.masks[-1] if heard.masks else None
        step = Step(lambda: actions, teacher, self.action_space, len(actions), teachers_turn, masks)
        return CONTROLS[self.control](step)

    def _beta(self) -> float:
        """How likely the teacher acts in this rollout."""
        return beta_at(self.beta, self.control, self._current_progress_remaining)

    # --- the second seam ----------------------------------------------------------------------------------------------

    def _answer_for(self, heard: Rollout) -> Answer:
        """The teacher's answer for s_1 … s_{T+1}, then for the truncated states."""
        n, with_value = self.n_steps * self.n_envs, TEACHER_VALUE in self._row.needs
        return answer_in_the_end(self.teacher, self._binding, heard, n, with_value, NEXT_STATE in self._row.needs)

    def _finish_rollout(self, compute: Compute, last_values: th.Tensor, heard: Rollout, answer: Answer) -> None:
        """Add r̂ to the rewards and have returns and advantages computed."""
        buffer, row, tap, weights = self.rollout_buffer, self._row, heard.tap, self._rollout_weights
        drawn_from, answer = answer, answer._replace(parameters=within_bounds(self.action_space, answer.parameters))
        w = weights.policy_gradient
        if self._uses_env_reward:
            check_rewards(np.stack(tap.rewards))
        self._n_ended += tap.n_ends
        buffer.keep(answer, row.weight is not None and TEACHER_VALUE in row.weight.needs)
        if self.control == "mixed" and w > 0:
            put_executed(buffer, heard, drawn_from, self.action_space, self._beta(), self.beta_per)
        distribution = partial(from_parameters, self.action_space)
        step = transitions(heard, answer, buffer, distribution, self.gamma, self._reward_unit())
        step = step._replace(teacher_gamma=gamma_of(self.teacher))
        for name, mean in closeness(self.action_space, len(step.reward_t), step.teacher_t, step.student_t).items():
            self.logger.record(f"distill/{name}", mean)
        if not self._warned and (w > 0 or self.vf_coef > 0):
            self._warned = tap.warn_of_ends()
        judge = partial(judged, buffer, compute, row, step, answer, tap.truncated, self._reward_unit())
        if row.reward is None:
            return judge(last_values)
        student = None
        if {NEXT_STATE, STUDENT} <= row.reward.needs:
            ends = student_at_ends(self.policy, partial(self._at_ends, heard), heard, self._last_obs)
            student = th.cat([heard.student_parameters, ends])
            student = within_bounds(self.action_space, student)
        injected = injected_reward(row, step, distribution, answer, student, tap.truncated, self.n_envs, self._bound)
        if w > 0 and not np.isfinite(injected).all():
            check_rewards(np.stack(tap.rewards))
            check_injected(row, injected, self.num_timesteps)
        self.logger.record("distill/reward", float(injected.mean()))
        if w == 0:
            return judge(last_values)
        unit = self._reward_unit() if weights.critic_is_of_env(row) else None
        add_reward(buffer, compute, last_values, injected, weights.reward / w, unit, judge)

    def _at_ends(self, heard: Rollout, obs: Any) -> Distribution:
        """The student in s_{T+1}, then in the states at which time limits cut episodes."""
        ends = bool(heard.env.truncated)
        masks: Any = {"action_masks": heard.masks_since(-1, with_ends=ends)} if heard.masks else {}
        return self.policy.get_distribution(obs, **masks)

    def _in_first_states(self, obs: Any) -> Distribution:
        """The student in the states in which ``learn`` begins, for a look at what it tells."""
        return self.policy.get_distribution(obs)

    @property
    def _uses_env_reward(self) -> bool:
        """Whether anything learns from the environment's reward, r̂ apart."""
        weights = self._rollout_weights
        return weights.env_reward > 0 or (weights.critic_is_of_env(self._row) and self.vf_coef > 0)

    def _reward_unit(self) -> float:
        """How much of the environment's own reward is 1 in the critic's values, where these are of its return."""
        is_of_env = self._rollout_weights.critic_is_of_env(self._row)
        return reward_unit(self.env) if is_of_env and self.env is not None else 1.0

    # --- the third seam -----------------------------------------------------------------------------------------------

    def train(self) -> None:
        """SB3's, with ∇ℓ added and the policy gradient weighed; see :class:`~stable_baselines3.PPO`."""
        row, buffer, unit = self._row, self.rollout_buffer, self._reward_unit()
        weights: list[float] = []
        clip_range = (
            value_at("clip_range", self.clip_range, self._current_progress_remaining)
            if hasattr(self, "clip_range")
            else None
        )
        of_batch = partial(batch_loss, row, self.action_space, self.policy, buffer, unit, clip_range, weights)
        loss = None if row.loss is None else of_batch
        coefficients = (
            self._coefficient * self._weights().loss,
            self._rollout_weights.policy_gradient,
            self.vf_coef != 0,
        )
        fast = fast_pixels(self.policy, self.mixed_precision)
        attached_to = attaching(self.policy, loss, *coefficients, self.num_timesteps)
        with whitened(self.policy, self._scale()), attached_to as attached, unvalidated(), fast:
            super().train()
        if attached.losses:
            self.logger.record("distill/loss", float(np.mean(attached.losses)))
        if weights:
            when = None if self._said_no_weight else self.num_timesteps
            self._said_no_weight |= log_weight(self.logger, row, buffer, unit, float(np.mean(weights)), when)
        if self.averaging and self._current_progress_remaining < self.averaging:
            self._mean = self._mean or WeightMean()
            states = attached.last_obs
            if states is None:  # TRPO evaluates in another way
                assert self._last_obs is not None
                states = self.policy.obs_to_tensor(self._last_obs)[0]
            self._mean.add(self.policy, states)
            if self.num_timesteps >= self._total_timesteps:
                self._mean.put_into(self.policy)

    def _scale(self) -> Statistics | None:
        """Of the observations to learn on, if they are whitened: those of this rollout and of all before."""
        seen = self.rollout_buffer.observations
        if not (self.whitening and self._distils and isinstance(seen, np.ndarray) and first_layers(self.policy)):
            return None
        self.observation_statistics = joined(self.observation_statistics, seen.reshape(self.n_steps * self.n_envs, -1))
        return self.observation_statistics
