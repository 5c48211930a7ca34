"""A student of a memory that is ready to learn: its settings are checked, and teacher, memory and environment fit."""

import warnings
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule
from stable_baselines3.dqn.policies import DQNPolicy

from sb3_distill.agents.load import load_teacher
from sb3_distill.algorithms.frame_stack import frame_stack_of
from sb3_distill.algorithms.judging import Judgement, unjudged
from sb3_distill.algorithms.offline_memory import open_memory
from sb3_distill.algorithms.offline_saving import SavesOffline
from sb3_distill.algorithms.optimizers import in_few_calls
from sb3_distill.algorithms.q_units import QUnits, output_layer
from sb3_distill.algorithms.schedules import LoggableLearningRate
from sb3_distill.algorithms.student_policy import check_numbers, check_reads
from sb3_distill.common.env_ids import check_env_id
from sb3_distill.common.given_env import check_env
from sb3_distill.common.layers import raw_env
from sb3_distill.common.masks import check_no_masks
from sb3_distill.common.nearest import nearest
from sb3_distill.common.questions import env_id_of
from sb3_distill.memory.answers import kind_of
from sb3_distill.memory.check import check_memory
from sb3_distill.memory.memory import About, Memory
from sb3_distill.memory.ring import RingMemory
from sb3_distill.memory.unplayable import unplayable
from sb3_distill.rules.controls import Turns, check_per
from sb3_distill.rules.offline_losses import StateLoss, check_loss
from sb3_distill.teachers.binding import Binding
from sb3_distill.teachers.fingerprint import fingerprint_of
from sb3_distill.teachers.view import Wrap

#: what a student may be: the algorithm of SB3 that its zip is for, and the policies that this algorithm has
STUDENTS: dict[str, tuple[type[DQN | PPO], type[BasePolicy]]] = {
    "dqn": (DQN, DQNPolicy),
    "ppo": (PPO, ActorCriticPolicy),
}


class PreparedOffline(LoggableLearningRate, SavesOffline):
    """All of :class:`~sb3_distill.PolicyDistillation` but its learning; the arguments are described there."""

    beta_per: str = "step"
    #: whose turn it is in each environment
    _turns: Turns
    #: τ that is used, and why; None before it is chosen, and where no τ has a part
    chosen_temperature: float | None = None
    temperature_report: str = "not chosen yet"
    #: in which Q-values are learnt, for ``loss="mse"``
    _units: QUnits | None = None

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None = None,
        *,
        teacher: Any = None,
        memory: Memory | str | Path | None = None,
        teacher_obs: Wrap | str | None = None,
        student: str = "dqn",
        loss: str = "kl",
        temperature: float | str = "auto",
        epsilon: float = 0.05,
        beta: float | Schedule | None = None,
        beta_per: str = "step",
        dagger: float | Schedule | None = None,
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
        if beta is not None and dagger is not None:
            raise ValueError(f"dagger={dagger!r} is the former name of beta={beta!r}: give beta alone.")
        former: float | Schedule = 1.0 if dagger is None else dagger
        self.beta: float | Schedule = former if beta is None else beta
        self.beta_per = beta_per
        self.batch_size = batch_size
        self.train_freq = train_freq  # type: ignore[assignment]
        self.max_grad_norm = max_grad_norm
        check_numbers({"learning_rate": learning_rate})
        self._check_settings()
        if env is not None:
            check_env(env)
            check_no_masks(env, type(self).__name__)
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
            check_reads(self.policy_class, self.policy_kwargs, self.observation_space)
            self._setup_model()

    def _check_settings(self) -> None:
        """What can be wrong without a look at anything else."""
        if "dagger" in vars(self):  # in a file that was saved when β was called so, or given to load()
            self.beta = vars(self).pop("dagger")
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
        check_per(self.beta_per)
        self._beta(1.0)

    @property
    def dagger(self) -> float | Schedule:
        """The former name of ``beta``."""
        return self.beta

    def _beta(self, progress_remaining: float) -> float:
        """The present value of ``beta``."""
        beta = FloatSchedule(self.beta)(progress_remaining)
        if not 0 <= beta <= 1:
            raise ValueError(
                f"beta (dagger), the probability with which the teacher acts, must lie between 0 and 1, not {beta}."
            )
        return beta

    def _get_policy_from_name(self, policy_name: str) -> type[BasePolicy]:
        if policy_name in RecurrentPPO.policy_aliases:
            return RecurrentPPO.policy_aliases[policy_name]  # of which it is said what is wrong
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
        if issubclass(self.policy_class, RecurrentActorCriticPolicy):
            raise ValueError(
                f"{self.policy_class.__name__} has a memory, and a student of a memory of single states has no use for it: take "
                "DistillRecurrentPPO, which learns along sequences, or give a policy without one."
            )
        if not issubclass(self.policy_class, policy_class):
            raise ValueError(
                f"student={self.student!r} leaves as a {algorithm.__name__}, whose policies are {policy_class.__name__}, and the "
                f"policy is {self.policy_class.__name__}: give a name such as 'MlpPolicy', or another student."
            )
        if self.student == "dqn" and not isinstance(self.action_space, spaces.Discrete):
            raise ValueError(f"student='dqn' needs Discrete actions, not {self.action_space}: set student='ppo'.")
        self._rng = np.random.default_rng(self.seed)
        self._turns = Turns(self.beta_per, self._rng)
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
                "A memory has the teacher's states alone: leave beta (dagger) out, or give env=… instead of memory=…."
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
        check_no_masks(self.env, type(self).__name__)
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

    def _judge_anew(self, about: About) -> None:
        """Have a loss, for now, for another teacher, whose Q-values have not been seen."""
        self._take_judgement(unjudged(self.loss, self.temperature, about))
        self._n_judged = 0

    def _take_judgement(self, found: Judgement) -> None:
        self._state_loss: StateLoss = found.loss
        self.chosen_temperature, self.temperature_report, self._units = found.temperature, found.report, found.units

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        if total_timesteps > 0:  # learn(0) has no progress
            super()._update_current_progress_remaining(num_timesteps, total_timesteps)
        # A last round may end after the run does: with SB3's kind of schedule, p ↦ c·p, the student would unlearn.
        self._current_progress_remaining = max(self._current_progress_remaining, 0.0)
