"""Policy distillation from a teacher's memory (Rusu et al. 2015, arXiv 1511.06295), as an algorithm of SB3's kind.

* A round of play is SB3's ``collect_rollouts``. Where SB3 would explore (``_sample_action``), the teacher is asked about the
  present states, which go to the memory with its answers before anything moves; then it acts.
* ``train`` descends a loss of :mod:`~sb3_distill.rules.offline_losses` on random minibatches of the memory.
* With ``memory=…`` nothing is played: the same loop reads what was recorded before.
"""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import MaybeCallback, RolloutReturn, TrainFreq
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.dqn.policies import DQNPolicy

from sb3_distill.algorithms.judging import is_due, judged
from sb3_distill.algorithms.offline_memory import open_memory as open_memory
from sb3_distill.algorithms.prepared_offline import STUDENTS as STUDENTS
from sb3_distill.algorithms.prepared_offline import PreparedOffline
from sb3_distill.algorithms.student_policy import check_distribution
from sb3_distill.common.layers import raw_env
from sb3_distill.common.observations import check_finite, copy_obs, observation_of
from sb3_distill.common.replaced import replaced
from sb3_distill.common.spaces import channels_last
from sb3_distill.memory.answers import answers_of, greedy_actions
from sb3_distill.memory.ring import RingMemory
from sb3_distill.memory.unplayable import unplayable
from sb3_distill.rules.controls import CONTROLS, Step, disturbed
from sb3_distill.rules.distributions import parameters, unvalidated
from sb3_distill.students.pixels import fast_pixels
from sb3_distill.teachers.own_predict import N_STATES, compare_in_play

SelfPolicyDistillation = TypeVar("SelfPolicyDistillation", bound="PolicyDistillation")

#: minibatches that are read, and moved to the device, at once
READ_AHEAD = 16


class PolicyDistillation(PreparedOffline, OffPolicyAlgorithm):
    """
    One network learns what a teacher says about the states in its memory.

    With an environment, a round is: ``train_freq`` steps in which the teacher plays, acting at random with probability
    ``epsilon``, and the states that it meets replace the oldest ones in a memory of ``buffer_size`` states; then ``gradient_steps``
    minibatches drawn from that memory. (The paper, appendix A: 54,000 steps, a memory of 540,000, 10,000 minibatches.)
    With a memory instead, every minibatch is drawn from that.

    ``save`` writes what SB3's ``DQN.load`` (or ``PPO.load``) reads and plays; the teacher and the memory are not in it. A DQN that
    is to learn on by reinforcement takes over ``train_freq``, ``gradient_steps`` and ``learning_rate``: give ``DQN.load`` its own.

    >>> from sb3_distill.algorithms.policy_distillation import PolicyDistillation
    >>> model = PolicyDistillation("MlpPolicy", "CartPole-v1", teacher="zoo:dqn/CartPole-v1", policy_kwargs=dict(net_arch=[16]))
    >>> model.learn(1_000).save(getfixture("tmp_path") / "student")
    >>> from stable_baselines3 import DQN
    >>> DQN.load(getfixture("tmp_path") / "student").q_net.q_net[0]
    Linear(in_features=4, out_features=16, bias=True)

    :param policy: SB3's name or class of the student's policy, of DQN's or PPO's
    :param env: the environment, or its Gymnasium id; may be left out with a memory
    :param teacher: a :class:`~sb3_distill.Teacher`, or whatever :func:`~sb3_distill.load_teacher` takes. It may wait
        until ``learn``. With a memory it is not asked; if it is given, the memory has to be its own
    :param memory: a :class:`~sb3_distill.memory.memory.Memory`, or the path of one that was recorded: nothing is played then
    :param teacher_obs: puts the teacher's wrappers around an environment, where it does not see what the student sees, or is the key of
        its part of Dict observations, ``"state"``; see :mod:`~sb3_distill.teachers.view`
    :param student: ``"dqn"``, a Q-network (for ``Discrete`` actions), or ``"ppo"``, an actor-critic of which the critic is not
        trained
    :param loss: ``"kl"``, ``"nll"`` or ``"mse"``, see :mod:`~sb3_distill.rules.offline_losses`; ``"mse"`` needs a teacher and a student
        with Q-values
    :param temperature: τ > 0 of ``"kl"``, in units of the teacher's Q; an actor-critic teacher is taken as it is. ``"auto"`` takes
        the largest τ that gives the greedy action a mean probability of 0.9 over states of the memory, anew for every teacher:
        whatever the rewards are multiplied by, the student is the same. ``temperature_report`` says which
    :param epsilon: probability of a random action at a step, in [0, 1]; the paper has 0.05
    :param beta: β, the probability in [0, 1] with which the teacher acts at a step, and else the student; the teacher is asked in
        any case. A float, or a schedule of ``progress_remaining`` as SB3 has it: ``LinearSchedule(1.0, 0.0, 0.5)`` leaves the
        student to itself after half of the steps. 1, the default, is the paper's; less is DAgger (Ross et al. 2011)
    :param beta_per: ``"step"`` or ``"episode"``: for how long the one who is drawn acts
    :param dagger: the former name of ``beta``
    :param learning_rate: a float, or a schedule of ``progress_remaining``
    :param buffer_size: states in the memory of an environment's teacher
    :param batch_size: states in a minibatch
    :param train_freq: steps of each environment in a round, or ``(n, "episode")`` with a single environment. With a memory,
        minibatches from one line of the log and one update of the learning rate to the next
    :param gradient_steps: minibatches after a round; −1 for as many as it had steps, of all environments together. 0 fills the memory
        alone, with a warning. With a memory it has no meaning
    :param max_grad_norm: the gradient is cut to this length, greater than 0
    :param mixed_precision: whether the student's features extractors multiply in bfloat16 while it learns, see
        :func:`~sb3_distill.students.pixels.fast_pixels`; None where it sees images, on a device that does that faster
    :param stats_window_size: episodes of which ``rollout/ep_rew_mean`` is the mean
    :param tensorboard_log: folder for TensorBoard, if any
    :param policy_kwargs: of the student's policy
    :param verbose: 0, 1 (information) or 2 (debugging)
    :param seed: of everything random, the environment included
    :param device: ``"auto"``, ``"cpu"``, ``"cuda"`` …
    :param _init_setup_model: whether to build the networks now
    :raises ValueError: before any work, for unknown names, τ ≤ 0, ε or β outside [0, 1], a loss that the teacher or the student
        cannot serve, and a teacher or a memory that does not fit the environment or each other
    """

    #: the last observation of this play as the environment gave it, and as the teacher sees it, where they are not SB3's own
    _shown: tuple[Any, Any] = (None, None)
    #: in which environments an episode begins with the step that comes
    _starts: np.ndarray
    #: whether the actions of the step that comes were chosen here
    _asked: bool = False

    def _judge(self) -> None:
        """Find τ, or the units of ``"mse"``, by the Q-values in the memory; anew with twice as many, until there are enough."""
        memory = self.replay_buffer
        if self.memory is None and self._binding.view is None and len(memory) > 0:
            compare_in_play(self.teacher, lambda: next(iter(memory.batches(N_STATES, 0))).observations)
        if is_due(self.loss, self.temperature, memory, self._n_judged):
            self._n_judged = len(memory)
            self._take_judgement(judged(self.loss, self.temperature, memory, self.policy, fresh=self._n_updates == 0))

    def _learning(self) -> AbstractContextManager[None]:
        """A context in which the student answers as the loss wants it."""
        return nullcontext() if self._units is None else self._units.learning()

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        if self.memory is None:
            self._check_teacher()
            if self._binding.begins_with_an_episode:
                self._last_obs = None
        before = self._last_obs
        with self._binding.hearing(steps=True):
            total_timesteps, callback = super()._setup_learn(*args, **kwargs)
        if self._last_obs is not before:
            self._starts = np.ones(self.n_envs, dtype=bool)
            self._keep_shown(self._last_obs if self._vec_normalize_env is None else self._last_original_obs)
        if self.memory is None:
            self._cut()  # for all that is known here, others have played since
            if self.gradient_steps == 0:
                warnings.warn("gradient_steps=0: the memory is filled, and nothing is learnt of it.", stacklevel=2)
            if isinstance(self.policy, ActorCriticPolicy):
                check_distribution(self.policy, self._last_obs)
        self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
        self._reading = self._losses()
        return total_timesteps, callback

    def learn(
        self: SelfPolicyDistillation,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfPolicyDistillation:
        """
        Train the student.

        :param total_timesteps: with an environment, its steps, over all its copies; the last round is played to its end. With a
            memory, minibatches, which are as many updates of the student
        :param callback: called at every step of the environments, or after every minibatch of a memory
        :param log_interval: episodes between two log entries; with a memory, ``train_freq`` minibatches
        :param tb_log_name: of the run in TensorBoard, by default the class's name
        :param reset_num_timesteps: whether the count of steps starts anew
        :param progress_bar: whether to show one
        :return: the trained model
        :raises ValueError: if there is no teacher or no environment, or they do not fit each other or the loss
        """
        name = tb_log_name or type(self).__name__
        rest = (total_timesteps, callback, log_interval, name, reset_num_timesteps, progress_bar)
        stand_in = self._stand_in()
        if stand_in is None:
            return super().learn(*rest)
        env, self.env = self.env, self._wrap_env(stand_in)
        try:
            return super().learn(*rest)
        finally:
            self.env, self._last_obs = env, None

    def _stand_in(self) -> VecEnv | None:
        """What SB3's loop and callbacks find as the environment, where it is not the one that is played."""
        return None if self.memory is None else unplayable(*self.memory.about[2:4])

    # --- playing ------------------------------------------------------------------------------------------------------

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, train_freq: TrainFreq, *args: Any, **kwargs: Any
    ) -> RolloutReturn:
        """SB3's, with the teacher acting; with a memory, a round of updates. See :class:`~stable_baselines3.DQN`."""
        if self.memory is not None:
            return self._read(callback, train_freq.frequency, kwargs["log_interval"])
        with self._binding.hearing(steps=True), self._listening(env):
            rollout = super().collect_rollouts(env, callback, train_freq, *args, **kwargs)
        if not rollout.continue_training:
            self._last_obs = None  # SB3 has not kept it: the next learn() resets
        self.logger.record("distill/memory", len(self.replay_buffer))
        self.logger.record("distill/beta", self._beta(self._current_progress_remaining))
        return rollout

    @contextmanager
    def _listening(self, env: VecEnv) -> Iterator[None]:
        """A context that tells the steps of this play from those of others, such as a callback that evaluates in its environment."""
        raw = raw_env(env)[0]
        reset, step_wait = raw.reset, raw.step_wait

        def heard_reset() -> Any:
            obs = reset()
            self._cut()
            return obs

        def heard_step() -> Any:
            step = step_wait()
            if self._asked:
                self._keep_shown(step[0])
            else:
                self._cut()
            self._asked = False
            return step

        with replaced(raw, "reset", heard_reset), replaced(raw, "step_wait", heard_step):
            yield

    def _keep_shown(self, obs: Any) -> None:
        """:param obs: of this play's last step, as the environment gave it"""
        if self._binding.view is not None:
            self._shown = copy_obs(obs), copy_obs(self._binding.view.obs)
        else:
            self._shown = None if self._vec_normalize_env is None else copy_obs(obs), None

    def _cut(self) -> None:
        """The states that come need not go on where the last ones in the memory were."""
        if isinstance(self.replay_buffer, RingMemory):
            self.replay_buffer.cut()

    def _sample_action(
        self, learning_starts: int, action_noise: Any = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """The actions of the present states, after the states have gone to the memory."""
        raw = self._last_obs if self._shown[0] is None else self._shown[0]
        assert raw is not None and self._last_obs is not None
        self._asked = True
        check_finite(raw, f"after {self.num_timesteps} steps")
        answers = answers_of(self.teacher, raw if self._binding.view is None else self._shown[1])
        self.replay_buffer.add(raw, answers)
        last_obs = self._last_obs
        step = Step(
            lambda: self.policy.predict(last_obs, deterministic=True)[0],
            lambda: greedy_actions(self.replay_buffer.about.kind, self.action_space, answers),
            *(self.action_space, n_envs, self._teachers_turn),
        )
        actions = disturbed(CONTROLS["mixed"](step), self.epsilon, self.action_space, self._rng)
        return actions, actions

    def _teachers_turn(self) -> np.ndarray:
        return self._turns.teachers(self._beta(self._current_progress_remaining), self._starts)

    def _store_transition(
        self,
        replay_buffer: Any,
        buffer_action: np.ndarray,
        new_obs: Any,
        reward: np.ndarray,
        dones: np.ndarray,
        infos: Any,
    ) -> None:
        """Nothing: the states are in the memory, and what came of them is not asked for."""
        self._last_obs, self._starts = new_obs, dones
        if self._vec_normalize_env is not None:
            self._last_original_obs = self._vec_normalize_env.get_original_obs()

    # --- updates ------------------------------------------------------------------------------------------------------

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """
        Descend the loss on minibatches of the memory.

        :param gradient_steps: how many
        :param batch_size: of each
        """
        self._update_learning_rate(self.policy.optimizer)
        self._judge()
        with fast_pixels(self.policy, self.mixed_precision), self._learning():
            self._log_round([self._update(loss) for loss in islice(self._losses(), gradient_steps)])

    def _read(self, callback: BaseCallback, n_minibatches: int, log_interval: int | None) -> RolloutReturn:
        """A round without an environment: an update is a step, so that callbacks see the student after each."""
        callback.on_rollout_start()
        self._update_learning_rate(self.policy.optimizer)
        self._judge()
        means: list[float] = []
        goes_on = True
        no_step = {"self": self, "rewards": np.zeros(1), "dones": np.zeros(1, dtype=bool), "infos": [{}]}
        with fast_pixels(self.policy, self.mixed_precision):
            for _ in range(min(n_minibatches, self._total_timesteps - self.num_timesteps)):
                with self._learning():  # and not while callbacks look at the student
                    means.append(self._update(next(self._reading)))
                self.num_timesteps += 1
                callback.update_locals(no_step | {"loss": means[-1]})
                goes_on = callback.on_step()
                if not goes_on:
                    break
        self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
        self._log_round(means)
        self._n_rounds += 1
        if log_interval is not None and self._n_rounds % log_interval == 0:
            self.dump_logs()
        callback.on_rollout_end()
        return RolloutReturn(0, 0, goes_on)  # no steps: nothing is left for SB3 to train on

    def _losses(self) -> Iterator[th.Tensor]:
        """Mean losses of minibatches, without end, each of the student as it is when the loss is asked for."""
        for obs, answers in self._minibatches():
            if not self.policy.training:  # callbacks play
                self.policy.set_training_mode(True)
            with unvalidated():
                yield self._state_loss(answers, student_parameters(self.policy, obs)).mean()

    def _minibatches(self) -> Iterator[tuple[Any, th.Tensor]]:
        """States, as the network takes them, with the teacher's answers; a new order in each pass."""
        memory, size = self.replay_buffer, self.batch_size
        while True:
            for read in memory.batches(READ_AHEAD * size, int(self._rng.integers(1 << 31))):
                if len(read.answers) < min(size, len(memory)):
                    continue  # what remains of a pass makes no minibatch
                obs = read.observations
                if self._vec_normalize_env is not None:
                    obs = self._vec_normalize_env.normalize_obs(obs)
                obs_tensor = channels_last(self.policy.obs_to_tensor(obs)[0])
                answers = th.as_tensor(read.answers, device=self.device)
                for start in range(0, max(len(answers) - size, 0) + 1, size):
                    part = slice(start, start + size)
                    yield observation_of(obs_tensor, part), answers[part]

    def _update(self, loss: th.Tensor) -> float:
        """One step of the optimiser; returns the loss."""
        optimizer = self.policy.optimizer
        optimizer.zero_grad()
        loss.backward()
        th.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], self.max_grad_norm)
        value = loss.item()
        if not np.isfinite(value):
            raise ValueError(f"The distillation loss is {value} in update {self._n_updates + 1}: lower learning_rate.")
        optimizer.step()
        self._n_updates += 1
        return value

    def _log_round(self, means: list[float]) -> None:
        """:param means: losses of the round's minibatches"""
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        if means:
            self.logger.record("distill/loss", float(np.mean(means)))
        if self.chosen_temperature is not None:
            self.logger.record("distill/temperature", self.chosen_temperature)


def student_parameters(policy: DQNPolicy | ActorCriticPolicy, obs: Any) -> th.Tensor:
    """
    :param policy: the student's
    :param obs: n observations as the network takes them
    :return: its Q-values or, of an actor-critic, the parameters of its distribution; shape (n, columns), on the graph
    """
    return policy.q_net(obs) if isinstance(policy, DQNPolicy) else parameters(policy.get_distribution(obs))
