"""A student that is ready to learn: its settings are resolved and checked, its networks and its buffer are made."""

import warnings
from typing import Any, ClassVar

import numpy as np
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule

from sb3_distill.agents.load import load_teacher
from sb3_distill.algorithms.buffers import (
    Buffers,
    DistillRolloutBuffer,
    check_rollout_buffer_class,
    rollout_buffer_for,
)
from sb3_distill.algorithms.coefficients import COEFFICIENTS, Weights, beta_at, check_beta, schedules_of, weights_at
from sb3_distill.algorithms.optimizers import in_few_calls
from sb3_distill.algorithms.place import Place
from sb3_distill.algorithms.remembering import check_memory
from sb3_distill.algorithms.returns import known_returns
from sb3_distill.algorithms.saving import SavesPlain
from sb3_distill.algorithms.schedules import (
    TRIED,
    LoggableLearningRate,
    described_schedule,
    schedule_of,
    value_at,
)
from sb3_distill.algorithms.settings import (
    OWN,
    about_env,
    all_settings,
    check_averaging,
    check_names,
    resolve_settings,
)
from sb3_distill.algorithms.student_policy import check_numbers, check_policy, check_rate, check_reads
from sb3_distill.common.env_ids import check_env_id
from sb3_distill.common.given_env import check_env
from sb3_distill.common.masks import has_masks
from sb3_distill.rules.bounds import bound_of
from sb3_distill.rules.controls import Turns
from sb3_distill.rules.distributions import check_readable
from sb3_distill.rules.methods import PROXIMAL, STUDENT_VALUE, TEACHER_VALUE, Method, get_method, with_critic
from sb3_distill.rules.weights import Returns
from sb3_distill.teachers.binding import Binding
from sb3_distill.teachers.teacher import Teacher
from sb3_distill.teachers.view import Wrap


class Prepared(LoggableLearningRate, SavesPlain):
    """All of :class:`~sb3_distill.algorithms.distillation.Distillation` but its learning; the arguments are described there."""

    #: what distillation changes of SB3's defaults: for every row, then for single rows
    defaults: ClassVar[dict[str, Any]] = {}
    row_defaults: ClassVar[dict[str, dict[str, Any]]] = {}
    #: then for students whose actions are continuous
    continuous_defaults: ClassVar[dict[str, Any]] = {}
    #: then for students that see images, whose networks take smaller steps: for every row, and for single ones
    pixel_defaults: ClassVar[dict[str, Any]] = {}
    pixel_row_defaults: ClassVar[dict[str, dict[str, Any]]] = {}
    #: the row of the named classes; None where the argument ``method`` chooses it
    fixed_method: ClassVar[str | None] = None
    #: and the row if none is chosen
    default_method: ClassVar[str] = "n_distill"
    #: whether the update weighs actions by π_θ(a|s) / π_old(a|s), as PPO's and TRPO's do
    has_ratio: ClassVar[bool] = True
    #: whether students have an LSTM, which is learnt along sequences
    remembers: ClassVar[bool] = False
    #: whether it heeds the masks that an environment hands out, see :mod:`sb3_distill.common.masks`
    masks_actions: ClassVar[bool] = False
    #: the class that its policies are of, and the buffers of its rollouts
    policy_base: ClassVar[type] = ActorCriticPolicy
    buffers: ClassVar[Buffers] = Buffers()

    rollout_buffer: DistillRolloutBuffer
    averaging: float = 0.0
    whitening: bool = False
    weight: str | None = None
    critic: str | None = None
    beta: float | Schedule | None = None
    beta_per: str = "step"
    teacher_return: float | None = None
    random_return: float | None = None
    reward_bound: float | None = None
    #: the largest |r̂|
    _bound: float | None = None
    #: a teacher, and the returns that the student's is compared with, where its weight is a ratio of returns
    _returns: tuple[Any, Returns] | None = None
    #: whose turn it is in a mixture
    _turns: Turns
    #: the teacher in the environment
    _binding: Binding
    #: where the play stands between two rollouts
    _place: Place
    #: whether ℓ or r̂ has a weight at the beginning, in the middle or at the end of a run
    _distils: bool = False

    def __init__(
        self,
        policy: Any,
        env: GymEnv | str,
        *,
        teacher: Any = None,
        teacher_obs: Wrap | str | None = None,
        method: str | Method | None = None,
        form: str | None = None,
        baseline: str | None = None,
        control: str | None = None,
        weight: str | None = None,
        critic: str | None = None,
        beta: float | Schedule | None = None,
        beta_per: str = "step",
        teacher_return: float | None = None,
        random_return: float | None = None,
        reward_bound: float | None = None,
        loss_coef: float | Schedule | None = None,
        reward_coef: float | Schedule | None = None,
        env_reward_coef: float | Schedule | None = None,
        averaging: float | None = None,
        whitening: bool | None = None,
        mixed_precision: bool | None = None,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        check_names(type(self), Prepared, kwargs)
        if self.fixed_method is not None and method is not None:
            raise ValueError(f"{type(self).__name__} is the method {self.fixed_method!r}: leave method={method!r} out.")
        check_memory(type(self), policy)
        method = self.fixed_method or method or self.default_method
        row = with_critic(get_method(method, form, baseline, control, weight), critic)
        if isinstance(env, str):
            check_env_id(env)
        if env is not None:
            check_env(env)
        elif _init_setup_model:
            raise ValueError(
                f"{type(self).__name__} learns in an environment: give env=…, one of Gymnasium's, a VecEnv or an id."
            )
        check_numbers(kwargs)
        check_averaging(averaging)
        check_rollout_buffer_class(kwargs.get("rollout_buffer_class"), self.buffers)
        if isinstance(env, str):
            env = maybe_make_env(env, kwargs.get("verbose", 0))
        if env is not None:
            self.check_serves(env)
        given = {
            "loss_coef": loss_coef,
            "reward_coef": reward_coef,
            "env_reward_coef": env_reward_coef,
            "averaging": averaging,
            "whitening": whitening,
        }
        settings = resolve_settings(type(self), row, form, kwargs | given, *about_env(env))
        theirs = {name: value for name, value in settings.items() if name not in OWN}
        super().__init__(policy, env, **theirs, _init_setup_model=False)
        if not _init_setup_model:
            self.gamma_schedule = None  # load() has that of the file, and SB3's own files have none
        self.teacher = teacher
        self.teacher_obs = teacher_obs
        self.method = method
        self.form = form if isinstance(method, Method) else form or "unbiased"
        self.baseline = baseline if isinstance(method, Method) else baseline or "teacher"
        self.control = row.control
        self.weight = weight
        self.critic = critic
        self.beta = beta
        self.beta_per = beta_per
        self.teacher_return = teacher_return
        self.random_return = random_return
        self.reward_bound = reward_bound
        # A FloatSchedule in what load() restores may be of a term that the row does not have; here it is a schedule like others.
        self.loss_coef = getattr(settings["loss_coef"], "value_schedule", settings["loss_coef"])
        self.reward_coef = getattr(settings["reward_coef"], "value_schedule", settings["reward_coef"])
        self.env_reward_coef = getattr(settings["env_reward_coef"], "value_schedule", settings["env_reward_coef"])
        self.averaging = settings["averaging"]
        self.whitening = settings["whitening"]
        self.mixed_precision = mixed_precision
        if _init_setup_model:
            check_reads(self.policy_class, self.policy_kwargs, self.observation_space)
            self._setup_model()

    @classmethod
    def settings(cls, env: GymEnv | str, **given: Any) -> dict[str, Any]:
        """
        All that a student of this class is trained with, without training one.

        >>> from sb3_distill import NDistill
        >>> settings = NDistill.settings("CartPole-v1", n_epochs=10)
        >>> [settings[name] for name in ("method", "reward_coef", "gamma", "n_steps", "batch_size", "n_epochs", "gae_lambda")]
        ['n_distill', 0.03, 0.9, 64, 64, 10, 0.95]

        :param env: the environment, or its Gymnasium id: with several copies, or with images, other sizes are chosen
        :param given: arguments of the constructor that are given
        :return: from names of arguments to values: those given, those of the row, and SB3's own
        :raises ValueError: for unknown names, and for values that the constructor refuses
        """
        return all_settings(cls, env, given)

    @classmethod
    def check_serves(cls, env: Any) -> None:
        """
        :param env: a Gymnasium environment or a ``VecEnv``
        :raises ValueError: if this engine cannot do what the environment asks for: it hands out masks, which only some heed
        """
        if has_masks(env):
            from sb3_distill.algorithms.engines import sibling  # which imports all classes, and they this

            heeds = sibling(cls, "maskable_ppo") + (", which does not remember" if cls.remembers else "")
            raise ValueError(
                f"The environment says which actions are allowed (action_masks()), and {cls.__name__} does not heed it: its student and "
                f"its teacher would take those that are forbidden. Take {heeds}, engine='maskable_ppo', whose "
                "learn(…, use_masking=False) does without masks."
            )

    def _setup_model(self) -> None:
        if self.fixed_method is not None and self.method != self.fixed_method:
            raise ValueError(
                f"This is a student of {self.method!r}, and {type(self).__name__} is {self.fixed_method!r}: load it with the class of "
                "its method, or with the class of its engine that takes any method."
            )
        variant = (
            {}
            if isinstance(self.method, Method)
            else {"form": self.form, "baseline": self.baseline, "weight": self.weight}
        )
        self._row = with_critic(get_method(self.method, **variant, control=self.control), self.critic)
        self.control = self._row.control
        if STUDENT_VALUE in self._row.needs and self.vf_coef == 0:
            what = (
                "compares with the student's own value" if self._row.critic is None else f"has critic={self.critic!r}"
            )
            raise ValueError(
                f"{self._row.name} {what}, and with vf_coef=0 its critic learns nothing: give vf_coef a weight."
            )
        check_memory(type(self), self.policy_class)
        check_policy(self.policy_class, self.policy_kwargs, self.policy_base)
        check_numbers(vars(self))
        self._check_weight()
        self._set_coefficients()
        self._bound = self._checked_bound()
        buffer = rollout_buffer_for(self.observation_space, self.env, self.rollout_buffer_class, self.buffers)
        self.rollout_buffer_class, self.rollout_buffer_kwargs = buffer[0], self.rollout_buffer_kwargs | buffer[1]
        self._binding, self._place = Binding(), Place()
        self._turns = Turns(self.beta_per, np.random.default_rng(self.seed))
        if self.teacher is not None:
            self._check_teacher()
        super()._setup_model()
        check_readable(self.policy.action_dist)
        in_few_calls(self.policy.optimizer)

    def _check_teacher(self) -> None:
        """Make the teacher answer, and see that it fits the row and the environment."""
        if self.teacher is None:
            raise ValueError(
                f"{type(self).__name__} has no teacher to learn from: set model.teacher = load_teacher(…), or give "
                "teacher=… to the constructor or to load()."
            )
        self.teacher = load_teacher(self.teacher)
        self.check_values_of(self.teacher)
        self._check_discounts()
        if self._row.coefficient is not None and (self._returns is None or self._returns[0] is not self.teacher):
            self._returns = self.teacher, known_returns(self.teacher_return, self.random_return, self.teacher)
        if self.env is not None and not self._binding.is_of(self.teacher, self.env, self.teacher_obs):
            self.check_serves(self.env)
            self._binding.bind(self.teacher, self.env, self.teacher_obs)

    def check_values_of(self, teacher: Teacher) -> None:
        """
        See that a teacher has values if the row needs them.

        :param teacher: that the student may get
        :raises ValueError: if it has none
        """
        if TEACHER_VALUE in self._row.needs and not teacher.has_value:
            of = f" with critic={self.critic!r}" if self.critic else ""
            raise ValueError(
                f"The method {self._row.name!r}{of} needs the teacher's value function, and {teacher.name} has none: use a "
                "teacher with a critic or a Q-network, or another method."
            )

    def _check_discounts(self) -> None:
        """Say if values that are compared are not of one discount."""
        weight, critic, theirs = self._row.state_weight, self._row.critic, self.teacher.gamma
        schedule = self.gamma_schedule
        mine = self.gamma if schedule is None else described_schedule(schedule_of("gamma", schedule))
        parts = [part for part in (weight, self._row.reward) if part is not None]
        compares = any({STUDENT_VALUE, TEACHER_VALUE} <= part.needs for part in parts)
        if (critic is not None or compares) and self.teacher.discounts is not None:
            user = f"critic={critic.name!r} learns from" if critic is not None else f"{self._row.name} compares"
            warnings.warn(
                f"{user} V_π of {self.teacher.name}, whose values are of several discounts ({self.teacher.discounts}), and the "
                f"student's are of gamma={mine}. Give teachers of one gamma.",
                stacklevel=2,
            )
        if critic is not None and theirs not in (None, mine):
            warnings.warn(
                f"critic={critic.name!r} learns from V_π of {self.teacher.name}, a return of gamma={theirs}, and the student's is of "
                f"gamma={mine}. Give gamma={theirs}.",
                stacklevel=2,
            )
        for part in (weight, self._row.reward):
            if part is None or not {STUDENT_VALUE, TEACHER_VALUE} <= part.needs or theirs in (None, mine):
                continue
            warnings.warn(
                f"{part.formula} compares values that are not of one discount: V_π of {self.teacher.name} is of gamma={theirs}, and "
                f"V_πθ of the student's gamma={mine}. Give gamma={theirs}.",
                stacklevel=2,
            )

    def _check_weight(self) -> None:
        """See before any work that the weight can be had with this engine, and that what belongs to it is given with it."""
        row = self._row
        if row.weight is PROXIMAL and not self.has_ratio:
            raise ValueError(
                f"{type(self).__name__} makes one update of each rollout, in which the ratio ρ of {PROXIMAL.formula} is always 1, so it "
                "would add noise and nothing else: take PPO's machinery, or leave weight='proximal' out."
            )
        if row.coefficient is not None:
            known_returns(self.teacher_return, self.random_return, None)
            return
        for name in ("teacher_return", "random_return"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} belongs to weight='return_ratio', which {row.name} does not have here: leave {name} "
                    "out, or set weight='return_ratio'."
                )

    def _checked_bound(self) -> float | None:
        """The largest |r̂|."""
        reward = self._row.reward
        if reward is None and self.reward_bound is not None:
            raise ValueError(
                f"The method {self._row.name!r} has no reward r̂, so reward_bound={self.reward_bound!r} would do nothing: leave it out."
            )
        return bound_of(self.reward_bound, reward is not None and reward.in_nats, self.action_space)

    # --- the coefficients in the course of a run ----------------------------------------------------------------------

    def _coefficients(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in COEFFICIENTS}

    def _set_coefficients(self) -> None:
        """Make schedules of the coefficients, and see that they can be honoured."""
        for name, schedule in schedules_of(self._row, self._coefficients()).items():
            setattr(self, name, schedule)
        self._check_schedules()

    def _check_schedules(self) -> None:
        """See before any work that no schedule ends the run."""
        check_beta(self.beta, self.control, self.beta_per)
        weights = [self._weights_at(progress) for progress in TRIED]
        is_optimised = any(at.policy_gradient > 0 for at in weights)
        has_clip = hasattr(self, "clip_range")  # PPO's, of which TRPO's target_kl is another thing
        target_kl = getattr(self, "target_kl", None)
        if self.control == "mixed" and is_optimised and has_clip and target_kl is not None:
            raise ValueError(
                f"target_kl={target_kl!r} is measured from the density that has drawn the actions, which in a mixture is not the "
                "student's: nothing would be learnt. Leave target_kl out, or let the student act alone."
            )
        for progress in TRIED:
            beta_at(self.beta, self.control, progress)
        self._distils = any(at.loss > 0 or at.reward > 0 for at in weights)
        if self._distils:
            for progress in TRIED:
                check_rate(value_at("learning_rate", vars(self)["learning_rate"], progress))

    def _weights(self) -> Weights:
        """Present values of loss_coef, reward_coef and env_reward_coef."""
        return self._weights_at(self._current_progress_remaining)

    def _weights_at(self, progress: float) -> Weights:
        return weights_at(self._row, self.control, self._coefficients(), progress, self.has_ratio)

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        super()._update_current_progress_remaining(num_timesteps, total_timesteps)
        if self._current_progress_remaining < 0 and self._distils:
            # A last rollout may end after the run does. With SB3's kind of schedule, p ↦ c·p, its learning rate would be negative,
            # and the student would unlearn, also where the weight of ℓ has fallen to 0 by then.
            self._current_progress_remaining = 0.0
