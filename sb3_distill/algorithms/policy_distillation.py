"""Policy distillation from a teacher's memory (Rusu et al. 2015, arXiv 1511.06295), as an algorithm of SB3's kind.

* A round of play is SB3's ``collect_rollouts``. Where SB3 would explore (``_sample_action``), the teacher is asked about the
  present states, which go to the memory with its answers before anything moves; then it acts.
* ``train`` descends a loss of :mod:`~sb3_distill.rules.offline_losses` on random minibatches of the memory.
* With ``memory=…`` nothing is played: the same loop reads what was recorded before.
"""

import io
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import islice
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, RolloutReturn, Schedule, TrainFreq
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.dqn.policies import DQNPolicy

from sb3_distill.agents.load import load_teacher
from sb3_distill.algorithms.frame_stack import frame_stack_of
from sb3_distill.algorithms.optimizers import in_few_calls
from sb3_distill.algorithms.q_units import QUnits, output_layer
from sb3_distill.algorithms.schedules import LoggableLearningRate
from sb3_distill.algorithms.student_policy import check_distribution, check_numbers
from sb3_distill.common.env_ids import check_env_id
from sb3_distill.common.given_env import check_env
from sb3_distill.common.layers import raw_env
from sb3_distill.common.nearest import nearest
from sb3_distill.common.observations import check_finite, copy_obs, observation_of
from sb3_distill.common.questions import env_id_of
from sb3_distill.common.replaced import replaced
from sb3_distill.common.spaces import channels_last
from sb3_distill.memory.answers import answers_of, greedy_actions, kind_of
from sb3_distill.memory.check import check_memory
from sb3_distill.memory.memory import About, Memory
from sb3_distill.memory.ring import RingMemory
from sb3_distill.memory.ring_file import read_memories, write_memories
from sb3_distill.memory.unplayable import unplayable
from sb3_distill.rules.controls import CONTROLS, Step, disturbed
from sb3_distill.rules.distributions import parameters, unvalidated
from sb3_distill.rules.offline_losses import StateLoss, check_loss, mse, state_loss
from sb3_distill.rules.temperature import ENOUGH_STATES, check_q_values, softest_by_confidence
from sb3_distill.students.pixels import fast_pixels
from sb3_distill.teachers.binding import Binding
from sb3_distill.teachers.fingerprint import fingerprint_of
from sb3_distill.teachers.own_predict import N_STATES, compare_in_play
from sb3_distill.teachers.teacher import Teacher
from sb3_distill.teachers.view import Wrap

SelfPolicyDistillation = TypeVar("SelfPolicyDistillation", bound="PolicyDistillation")

#: what a student may be: the algorithm of SB3 that its zip is for, and the policies that this algorithm has
STUDENTS: dict[str, tuple[type[DQN | PPO], type[BasePolicy]]] = {
    "dqn": (DQN, DQNPolicy),
    "ppo": (PPO, ActorCriticPolicy),
}

#: the name of a memory that is no task's
ONLY = ""

#: minibatches that are read, and moved to the device, at once
READ_AHEAD = 16

#: states of the memory, at most, by which τ or the units of ``"mse"`` are found
N_JUDGED = 1_024

#: what a saved student is rid of: the teacher's side, and settings of SB3's that have no meaning here but one in DQN or PPO
_NOT_SAVED = (
    *("teacher", "teacher_obs", "memory", "_binding", "_shown", "_asked", "_rng", "_reading", "_state_loss"),
    *("_units", "_n_judged", "_loaded"),
    *("n_steps", "tau", "gamma", "learning_starts", "use_sde_at_warmup"),
    *("replay_buffer_class", "replay_buffer_kwargs", "optimize_memory_usage"),
)


class PolicyDistillation(LoggableLearningRate, OffPolicyAlgorithm):
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
    :param teacher_obs: puts the teacher's wrappers around an environment, where it does not see what the student sees; see
        :mod:`~sb3_distill.teachers.view`
    :param student: ``"dqn"``, a Q-network (for ``Discrete`` actions), or ``"ppo"``, an actor-critic of which the critic is not
        trained
    :param loss: ``"kl"``, ``"nll"`` or ``"mse"``, see :mod:`~sb3_distill.rules.offline_losses`; ``"mse"`` needs a teacher and a student
        with Q-values
    :param temperature: τ > 0 of ``"kl"``, in units of the teacher's Q; an actor-critic teacher is taken as it is. ``"auto"`` takes
        the largest τ that gives the greedy action a mean probability of 0.9 over states of the memory, anew for every teacher:
        whatever the rewards are multiplied by, the student is the same. ``temperature_report`` says which
    :param epsilon: probability of a random action at a step, in [0, 1]; the paper has 0.05
    :param dagger: β, the probability in [0, 1] with which the teacher acts at a step, and else the student; the teacher is asked in
        any case. A float, or a schedule of ``progress_remaining`` as SB3 has it: ``LinearSchedule(1.0, 0.0, 0.5)`` leaves the
        student to itself after half of the steps. 1 is the paper's; less is DAgger (Ross et al. 2011)
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

    policy: DQNPolicy | ActorCriticPolicy
    memory: Any
    #: what is learned from: ``memory``, or a :class:`~sb3_distill.memory.ring.RingMemory` that the teacher's play fills
    replay_buffer: Any
    #: τ that is used, and why; None before it is chosen, and where no τ has a part
    chosen_temperature: float | None = None
    temperature_report: str = "not chosen yet"
    #: in which Q-values are learnt, for ``loss="mse"``
    _units: QUnits | None = None
    #: by how many states the teacher's Q-values have been judged
    _n_judged: int = 0
    #: the teacher in the environment
    _binding: Binding
    #: whether the memory was loaded, and no teacher has been compared with it yet
    _loaded = False
    #: the last observation of this play as the environment gave it, and as the teacher sees it, where they are not SB3's own
    _shown: tuple[Any, Any] = (None, None)
    #: whether the actions of the step that comes were chosen here
    _asked: bool = False

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None = None,
        *,
        teacher: Any = None,
        memory: Memory | str | Path | None = None,
        teacher_obs: Wrap | None = None,
        student: str = "dqn",
        loss: str = "kl",
        temperature: float | str = "auto",
        epsilon: float = 0.05,
        dagger: float | Schedule = 1.0,
        learning_rate: float | Schedule = LinearSchedule(2e-3, 1e-4, 1.0),  # noqa: B008 - it has no state
        buffer_size: int = 100_000,
        batch_size: int = 64,
        train_freq: int | tuple[int, str] = 128,
        gradient_steps: int = -1,
        max_grad_norm: float = 10.0,
        mixed_precision: bool | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        self.student = student
        self.loss = loss
        self.temperature = temperature
        self.epsilon = epsilon
        self.dagger = dagger
        self.batch_size = batch_size
        self.train_freq = train_freq  # type: ignore[assignment]
        self.max_grad_norm = max_grad_norm
        check_numbers({"learning_rate": learning_rate})
        self._check_settings()
        if env is not None:
            check_env(env)
        if isinstance(env, str):
            check_env_id(env)
        opened = None if memory is None else open_memory(memory)
        if env is None and opened is None and _init_setup_model:
            raise ValueError("There is nothing to learn from: give env=… for the teacher to play in, or memory=….")
        super().__init__(
            policy,
            unplayable(*opened.about[2:4]) if env is None and opened is not None else env,  # type: ignore[arg-type]
            learning_rate,
            buffer_size,
            learning_starts=0,
            batch_size=batch_size,
            train_freq=train_freq,
            gradient_steps=gradient_steps,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
            sde_support=False,
        )
        if env is None:
            self.env = None
        self.teacher = teacher
        self.memory = opened
        self.teacher_obs = teacher_obs
        self.mixed_precision = mixed_precision
        if _init_setup_model:
            self._setup_model()

    # --- setting up ---------------------------------------------------------------------------------------------------

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        if total_timesteps > 0:  # learn(0) has no progress
            super()._update_current_progress_remaining(num_timesteps, total_timesteps)
        # A last round may end after the run does: with SB3's kind of schedule, p ↦ c·p, the student would unlearn.
        self._current_progress_remaining = max(self._current_progress_remaining, 0.0)

    def _check_settings(self) -> None:
        """What can be wrong without a look at anything else."""
        if self.student not in STUDENTS:
            raise ValueError(f"Unknown student {self.student!r}: {nearest(str(self.student), STUDENTS)}")
        if self.temperature != "auto" and not isinstance(self.temperature, Real):
            raise ValueError(f"temperature must be a number greater than 0 or 'auto', not {self.temperature!r}.")
        check_loss(self.loss, 1.0 if isinstance(self.temperature, str) else self.temperature)
        if self.loss == "mse" and self.student == "ppo":
            raise ValueError("loss='mse' needs a student with Q-values: set student='dqn', or loss='kl' or 'nll'.")
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon must lie between 0 and 1, not {self.epsilon!r}.")
        length = self.train_freq[0] if isinstance(self.train_freq, tuple) else self.train_freq
        sizes = {"batch_size": self.batch_size, "train_freq": length}  # below 1 the run would go on for ever
        check_numbers(sizes | {"max_grad_norm": self.max_grad_norm})
        self._beta(1.0)

    def _beta(self, progress_remaining: float) -> float:
        """The present value of ``dagger``."""
        beta = FloatSchedule(self.dagger)(progress_remaining)
        if not 0 <= beta <= 1:
            raise ValueError(
                f"dagger, the probability with which the teacher acts, must lie between 0 and 1, not {beta}."
            )
        return beta

    def _get_policy_from_name(self, policy_name: str) -> type[BasePolicy]:
        aliases = STUDENTS[self.student][0].policy_aliases
        if policy_name not in aliases:
            raise ValueError(f"Unknown policy {policy_name!r}: {nearest(policy_name, aliases)}")
        return aliases[policy_name]

    def _setup_model(self) -> None:
        task_ids = vars(self).get("task_ids")
        if task_ids:
            raise ValueError(
                f"This is the student of several tasks, {task_ids}: load it with MultiTaskDistillation.load, or save each with "
                "save_task."
            )
        self._check_settings()
        algorithm, policy_class = STUDENTS[self.student]
        if not issubclass(self.policy_class, policy_class):
            raise ValueError(
                f"student={self.student!r} leaves as a {algorithm.__name__}, whose policies are {policy_class.__name__}, and the "
                f"policy is {self.policy_class.__name__}: give a name such as 'MlpPolicy', or another student."
            )
        if self.student == "dqn" and not isinstance(self.action_space, spaces.Discrete):
            raise ValueError(f"student='dqn' needs Discrete actions, not {self.action_space}: set student='ppo'.")
        self._rng = np.random.default_rng(self.seed)
        self._binding = Binding()
        self._n_rounds = 0
        if self.memory is not None:
            self._check_memory()
        else:
            nobody = About(None, "nobody yet", self.observation_space, self.action_space, "q_values")
            self.replay_buffer = RingMemory(self.buffer_size, nobody)
            if self.teacher is not None and self.env is not None:
                self._check_teacher()
        super()._setup_model()
        if self.loss == "mse":
            assert isinstance(self.policy, DQNPolicy)
            output_layer(self.policy)
        in_few_calls(self.policy.optimizer)

    def _check_memory(self) -> None:
        """Make the memory readable, and see that it fits the student, the teacher and the loss."""
        self.memory = open_memory(self.memory)
        about = self.memory.about
        if self.teacher is not None:
            self.teacher = load_teacher(self.teacher, tune=False)
        fits = partial(check_memory, about, self.observation_space, self.action_space, env_id_of(self.env))
        if self.teacher is None:
            fits()
        else:
            fits(self.teacher.name, fingerprint_of(self.teacher))
        if self._beta(1.0) < 1 or self._beta(0.0) < 1:
            raise ValueError(
                "A memory has the teacher's states alone: leave dagger out, or give env=… instead of memory=…."
            )
        if self._vec_normalize_env is not None:
            raise ValueError(
                "A memory has observations as the environment gave them, and without steps the statistics of VecNormalize would "
                "not move: give an environment without it, or none."
            )
        self.replay_buffer = self.memory
        self.gradient_steps = -1  # as many as a round has played, which is none: they are made as the memory is read
        self._judge_anew(about)

    def set_teacher(self, teacher: Any) -> None:
        """
        Learn from another teacher from now on; the memory begins anew, if it is another.

        :param teacher: a :class:`~sb3_distill.Teacher`, or whatever :func:`~sb3_distill.load_teacher` takes
        :raises ValueError: if there is no environment, or the teacher does not fit it or the loss
        """
        self.teacher = load_teacher(teacher, tune=False)
        self._loaded = self._loaded and self.replay_buffer.about.fingerprint == fingerprint_of(self.teacher)
        self._check_teacher()

    def _check_teacher(self) -> None:
        """Make the teacher answer, and see that it fits the environment and the loss."""
        if self.teacher is None:
            raise ValueError(
                f"{type(self).__name__} has no teacher to learn from: set model.teacher = load_teacher(…), or give "
                "teacher=… or memory=… to the constructor or to load()."
            )
        if self.env is None:
            raise ValueError(
                "The teacher has no environment to play in: call set_env, or give env=… or memory=… to load()."
            )
        self.teacher = load_teacher(self.teacher, tune=False)
        before = self._binding.teacher
        if self._binding.is_of(self.teacher, self.env, self.teacher_obs):
            mark, was = fingerprint_of(self.teacher), self.replay_buffer.about.fingerprint
            if was in (mark, None):  # a file of an older version does not know it, and its teacher's name was compared
                return
            # A live model may learn on, and a memory is of one teacher.
            warnings.warn(
                f"The teacher {self.teacher.name} has changed since it gave the answers in the memory (fingerprint {was[:8]}, now "
                f"{mark[:8]}): the memory of {len(self.replay_buffer):,} states begins anew.",
                stacklevel=2,
            )
            before = None
        old, self._binding = self._binding, Binding()
        try:
            self._binding.bind(self.teacher, self.env, self.teacher_obs)
            self._begin_memory(is_another=self.teacher is not before)
        except ValueError:
            self._binding = old  # with its memory
            raise
        self._loaded = False

    def _begin_memory(self, is_another: bool) -> None:
        """:param is_another: whether the teacher is another than the one that the memory is of: it begins anew, if it was not loaded"""
        assert self.env is not None
        if is_another:
            raw, mark = raw_env(self.env)[0], fingerprint_of(self.teacher)
            kind = kind_of(self.teacher)
            about = About(self.teacher.env_id, self.teacher.name, raw.observation_space, raw.action_space, kind, mark)
            self._judge_anew(about)
        if self._loaded:
            self._check_loaded(self.replay_buffer)
        elif is_another:
            # Beneath VecNormalize images may have their channels last, where no frames are found.
            n_stack = frame_stack_of(self.env) if self._vec_normalize_env is None else None
            self.replay_buffer = RingMemory(self.buffer_size, about, n_stack)

    def _check_loaded(self, memory: RingMemory) -> None:
        """
        :param memory: that was loaded
        :raises ValueError: if it is of another environment or teacher than are here, as far as any are here
        """
        fits = partial(check_memory, memory.about, self.observation_space, self.action_space, env_id_of(self.env))
        if isinstance(self.teacher, Teacher):
            fits(self.teacher.name, fingerprint_of(self.teacher))
        else:
            fits()
        if self.env is None:
            return
        if memory.n_envs not in (0, self.n_envs):
            raise ValueError(
                f"The memory is of {memory.n_envs} environments side by side, and here are {self.n_envs}: make as many."
            )
        if memory.n_stack is not None and memory.n_stack != frame_stack_of(self.env):
            raise ValueError(
                f"The memory is of stacks of {memory.n_stack} frames, which VecFrameStack made: put one around the environment."
            )

    def _judge_anew(self, about: About) -> None:
        """
        Have a loss, for now, for another teacher, whose Q-values have not been seen.

        :raises ValueError: if this teacher cannot serve the loss
        """
        given = self.temperature != "auto"
        self._state_loss: StateLoss = state_loss(
            self.loss, about.kind, about.action_space, float(self.temperature) if given else 1.0
        )
        self._units, self._n_judged = None, 0
        uses_it = self.loss == "kl" and about.kind == "q_values"
        self.chosen_temperature = float(self.temperature) if given and uses_it else None
        self.temperature_report = "given" if given else "not chosen yet" if uses_it else "of no use here"

    def _judge(self) -> None:
        """Find τ, or the units of ``"mse"``, by the Q-values in the memory; anew with twice as many, until there are enough."""
        about, n = self.replay_buffer.about, len(self.replay_buffer)
        if self.memory is None and self._binding.view is None and n > 0:
            compare_in_play(self.teacher, lambda: next(iter(self.replay_buffer.batches(N_STATES, 0))).observations)
        by_q = self.loss == "mse" or (self.loss == "kl" and self.temperature == "auto")
        if about.kind != "q_values" or not by_q or self._n_judged >= ENOUGH_STATES or n < max(1, 2 * self._n_judged):
            return
        self._n_judged = n
        q_values = th.from_numpy(next(iter(self.replay_buffer.batches(N_JUDGED, 0))).answers)
        check_q_values(q_values, about.teacher)
        if self.loss == "mse":
            assert isinstance(self.policy, DQNPolicy)
            units = self._units = QUnits(self.policy, q_values, fresh=self._n_updates == 0)
            self._state_loss = lambda answers, student: mse(units.normalized(answers), student)
            return
        self.chosen_temperature, self.temperature_report, doubt = softest_by_confidence(q_values)
        self._state_loss = state_loss("kl", about.kind, about.action_space, self.chosen_temperature)
        if doubt is not None and n >= ENOUGH_STATES:
            warnings.warn(f"The temperature of {about.teacher} is doubtful: {doubt}.", stacklevel=2)

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
            *(self.action_space, n_envs, self._beta(self._current_progress_remaining), self._rng),
        )
        actions = disturbed(CONTROLS["mixed"](step), self.epsilon, self.action_space, self._rng)
        return actions, actions

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
        self._last_obs = new_obs
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

    # --- saving -------------------------------------------------------------------------------------------------------

    def save_replay_buffer(self, path: str | Path | io.BufferedIOBase) -> None:
        """
        Save the memory that the teacher's play has filled: arrays of NumPy, and JSON for what it is of. A memory that was given
        is not saved again, with a warning.

        :param path: of the file, or a file. As with SB3, a name without a suffix gets ".pkl", and folders are made
        :raises OSError: if the disk is full; what was there under that name stays
        """
        memories = self._ring_memories()
        if memories:
            write_memories(path, memories)
        else:
            warnings.warn(
                f"{path} is not written: this student's memory was given, and nothing is added.", stacklevel=2
            )

    def _ring_memories(self) -> dict[str, RingMemory]:
        """What is to be saved, by the ids of tasks."""
        return {ONLY: self.replay_buffer} if self.memory is None else {}

    def load_replay_buffer(self, path: str | Path | io.BufferedIOBase, truncate_last_traj: bool = True) -> None:
        """
        Go on with a memory that :meth:`save_replay_buffer` has written. Nothing in the file is unpickled.

        :param path: of the file, or a file; ".pkl" may be left out
        :param truncate_last_traj: SB3's, for another kind of buffer: it has no effect
        :raises FileNotFoundError: if there is none
        :raises ValueError: if it is damaged, or of other spaces, another environment or another teacher, or if this student
            learns from a memory that was given; what was in the memory stays
        """
        self._take_memories(read_memories(path), path)

    def _take_memories(self, memories: dict[str, RingMemory], path: Any) -> None:
        """Go on with what was read; an empty memory, which is of no teacher yet, changes nothing."""
        if self.memory is not None:
            raise ValueError("This student learns from the memory that it was given, and not from play: load none.")
        self._take(_one(memories, path))

    def _take(self, memory: RingMemory) -> None:
        if len(memory):
            self._check_loaded(memory)
            self.replay_buffer = memory
            self._loaded = self._binding.teacher is None
            self._n_judged = 0

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), *_NOT_SAVED]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []

    def save(
        self,
        path: str | Path | io.BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """
        SB3's ``save``: the student as a zip of DQN or PPO.

        :param path: of the file, or a file
        :param exclude: attributes that are to be left out besides the usual ones
        :param include: attributes that are to be saved though usually they are not
        """
        if isinstance(self.policy, DQNPolicy):  # a DQN that learns on begins with the student as its own target
            self.policy.q_net_target.load_state_dict(self.policy.q_net.state_dict())
        super().save(path, exclude, include)


def _one(memories: dict[str, RingMemory], path: Any) -> RingMemory:
    if list(memories) != [ONLY]:
        raise ValueError(
            f"{path} has the memories of the tasks {sorted(memories)}: load it with MultiTaskDistillation."
        )
    return memories[ONLY]


def student_parameters(policy: DQNPolicy | ActorCriticPolicy, obs: Any) -> th.Tensor:
    """
    :param policy: the student's
    :param obs: n observations as the network takes them
    :return: its Q-values or, of an actor-critic, the parameters of its distribution; shape (n, columns), on the graph
    """
    return policy.q_net(obs) if isinstance(policy, DQNPolicy) else parameters(policy.get_distribution(obs))


def open_memory(memory: Memory | str | Path) -> Memory:
    """
    :param memory: one, or the path of one that was recorded
    :return: a memory with something in it
    :raises ValueError: if there is nothing in it
    """
    if not isinstance(memory, Memory):
        from sb3_distill.memory.disk import DiskMemory

        memory = DiskMemory(memory)
    if len(memory) == 0:
        raise ValueError(f"The memory of {memory.about.teacher} is empty: record some steps first.")
    return memory
