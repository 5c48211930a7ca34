"""What distillation adds to SB3's on-policy algorithms, at three seams: no method body of SB3's is repeated.

* ``collect_rollouts`` runs SB3's own on an environment that is listened to (:mod:`~sb3_distill.algorithms.rollout`).
* The rollout buffer calls back before advantages are computed. There the teacher is asked about the whole rollout in one
  batch, and r̂ joins the rewards (:mod:`~sb3_distill.algorithms.advantages`).
* ``train`` runs SB3's own while ``policy.evaluate_actions``, the one forward pass of a minibatch, attaches ∇ℓ to the
  graph and weighs the policy gradient (:mod:`~sb3_distill.algorithms.gradient`).
"""

import inspect
import io
import math
import pathlib
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import FloatSchedule
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.agents.load import load_teacher
from sb3_distill.algorithms.advantages import add_reward, check_injected, injected_reward
from sb3_distill.algorithms.averaging import WeightMean
from sb3_distill.algorithms.buffers import DistillDictRolloutBuffer, DistillFrameRolloutBuffer, DistillRolloutBuffer
from sb3_distill.algorithms.frame_stack import frame_stack_of
from sb3_distill.algorithms.gradient import attaching, check_on_graph
from sb3_distill.algorithms.optimizers import in_few_calls, same_kind
from sb3_distill.algorithms.rollout import Rollout, listening
from sb3_distill.algorithms.rollout_size import warn_of_cut_minibatch
from sb3_distill.algorithms.schedules import TRIED, LoggableLearningRate, has_effect, schedule_of, value_at
from sb3_distill.algorithms.settings import OWN, check_names, resolve_settings, sb3_parameters, visible_signature
from sb3_distill.algorithms.student_policy import check_distribution, check_numbers, check_policy, check_rate
from sb3_distill.algorithms.threads import rollout_threads, torch_threads
from sb3_distill.common.env_ids import check_env_id
from sb3_distill.common.given_env import check_env
from sb3_distill.common.layers import raw_env, reward_unit
from sb3_distill.common.nearest import nearest
from sb3_distill.common.observations import concatenate_obs, copy_obs, stack_obs
from sb3_distill.common.spaces import action_tensor, draw_actions
from sb3_distill.common.tap import check_rewards
from sb3_distill.rules import losses
from sb3_distill.rules.controls import CONTROLS, Step
from sb3_distill.rules.distributions import check_readable, from_parameters, parameters, plain, unvalidated
from sb3_distill.rules.methods import (
    NEXT_STATE,
    STUDENT,
    STUDENT_VALUE,
    TEACHER_VALUE,
    Method,
    get_method,
    is_as_printed,
)
from sb3_distill.rules.rewards import Transitions
from sb3_distill.rules.weights import States
from sb3_distill.students.pixels import fast_pixels
from sb3_distill.teachers.binding import Binding
from sb3_distill.teachers.own_predict import compare_in_play
from sb3_distill.teachers.teacher import Answer, join_answers
from sb3_distill.teachers.view import TeacherView, Wrap

SelfDistillation = TypeVar("SelfDistillation", bound="Distillation")

COEFFICIENTS = ("loss_coef", "reward_coef", "env_reward_coef")

_NOT_SAVED = (
    "teacher",
    "teacher_obs",
    "rollout_buffer_class",
    "rollout_buffer_kwargs",
    "_row",
    "_binding",
    "_said_no_weight",
    "_rng",
    "_mean",
    "_shown",
    "_played_by_others",
    "_warned",
    "_distils",
)


class Distillation(LoggableLearningRate, OnPolicyAlgorithm):
    """
    The part that DistillPPO, DistillA2C and DistillTRPO share. Put it before the SB3 algorithm in a class's bases.

    It descends along E_q[ Σ_t −∇ log π_θ(a_t|s_t) Â_t + loss_coef ∇ℓ_t ], where Â_t is SB3's advantage of the rewards
    reward_coef · r̂_t + env_reward_coef · r_t. With w = reward_coef + env_reward_coef, the buffer holds those rewards
    divided by w and the policy-gradient loss is multiplied by w. Without normalised advantages that changes nothing; with
    them it gives the coefficients the meaning that normalisation would take from them. Where w = 0 there is no
    policy-gradient term, and the critic learns the environment's return.

    :param policy: SB3's name or class of the student's policy
    :param env: the student's environment, or its Gymnasium id
    :param teacher: a :class:`~sb3_distill.Teacher`, or whatever :func:`~sb3_distill.load_teacher` takes. It may
        wait until ``learn``, and is never saved
    :param teacher_obs: puts the teacher's wrappers around an environment, where it does not see what the student sees; see
        :mod:`~sb3_distill.teachers.view`
    :param method: a row of :data:`~sb3_distill.METHODS` by name, or a row of one's own; by default ``"n_distill"``.
        The named classes fix it
    :param form: ``"unbiased"`` (default) or ``"paper"``, see :mod:`~sb3_distill.rules.methods`; of a named row
    :param baseline: of teacher V reward, ``"teacher"`` (V_π(s_i), default) or ``"student"`` (V_πθ(s_i))
    :param control: who picks the executed actions: ``"student"``, ``"teacher"``, ``"uniform"`` or ``"mixed"``; by default the row's own
    :param weight: of ℓ in a state, a name of :data:`~sb3_distill.rules.methods.WEIGHTS`; for rows without r̂. ``"v_conditioned"``
        counts states in which the teacher's value is above the student's, whose critic then learns the environment's return
    :param beta: β of ``control="mixed"``, how likely the teacher acts at a step and not the student; a number or a schedule, in [0, 1]
    :param loss_coef: weight of ℓ, at least 0; a number or a schedule of ``progress_remaining``, as the next two. By default 1, or
        0 where the row has no ℓ
    :param reward_coef: weight of r̂; by default the row's own, or 0 where the row has no r̂
    :param env_reward_coef: weight of the environment's reward
    :param averaging: the share of a run at its end over which the student's weights are averaged, one sample after each
        rollout (Polyak and Juditsky, 1992); the mean takes their place when the run is over, before ``on_training_end``. With 0
        the last weights stay, as they do after a run that a callback has stopped. By default the row's own; 0 where the
        environment's reward has a weight, which goes on to improve the student, for images, and in the paper's form
    :param mixed_precision: whether the student's features extractors multiply in bfloat16 while it learns, see
        :func:`~sb3_distill.students.pixels.fast_pixels`; None where it sees images, on a device that does that faster
    :param kwargs: of the SB3 algorithm, with its names and meanings. Of ``n_steps`` and ``batch_size``, what is left out is chosen
        so that no minibatch is cut short, if that can be done near its default
    :raises ValueError: before any work, for unknown names, a teacher that does not fit the environment or lacks the value
        function that the row needs, coefficients that are negative or weigh a term that the row does not have, a share outside
        [0, 1], w > 0 with a control policy other than the student, or a student whose action distribution cannot be read
    :raises TypeError: for an argument that there is not, with the nearest that there is
    """

    #: what distillation changes of SB3's defaults: for every row, then for single rows
    defaults: ClassVar[dict[str, Any]] = {}
    row_defaults: ClassVar[dict[str, dict[str, Any]]] = {}
    #: then for students that see images, whose networks take smaller steps: for every row, and for single ones
    pixel_defaults: ClassVar[dict[str, Any]] = {}
    pixel_row_defaults: ClassVar[dict[str, dict[str, Any]]] = {}
    #: the row of the named classes; None where the argument ``method`` chooses it
    fixed_method: ClassVar[str | None] = None
    #: and the row if none is chosen
    default_method: ClassVar[str] = "n_distill"

    rollout_buffer: DistillRolloutBuffer
    averaging: float = 0.0
    weight: str | None = None
    beta: float | Schedule | None = None
    #: of the weights so far, where they are averaged
    _mean: WeightMean | None = None
    _binding: Binding
    #: whether it was said that the weight of ℓ is 0 everywhere
    _said_no_weight: bool = False
    #: the last observation that SB3 has, as it and as the teacher sees it, and by which view
    _shown: tuple[Any, Any, TeacherView | None] = (None, None, None)
    #: whether others have stepped or reset the environment after that observation
    _played_by_others: bool = False
    #: whether ℓ or r̂ has a weight at the beginning, in the middle or at the end of a run
    _distils: bool = False
    #: whether it was said that something is wrong with terminal observations
    _warned: bool = False

    def __init__(
        self,
        policy: Any,
        env: GymEnv | str,
        *,
        teacher: Any = None,
        teacher_obs: Wrap | None = None,
        method: str | Method | None = None,
        form: str | None = None,
        baseline: str | None = None,
        control: str | None = None,
        weight: str | None = None,
        beta: float | Schedule | None = None,
        loss_coef: float | Schedule | None = None,
        reward_coef: float | Schedule | None = None,
        env_reward_coef: float | Schedule = 0.0,
        averaging: float | None = None,
        mixed_precision: bool | None = None,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        check_names(type(self), Distillation, kwargs)
        if self.fixed_method is not None and method is not None:
            raise ValueError(f"{type(self).__name__} is the method {self.fixed_method!r}: leave method={method!r} out.")
        method = self.fixed_method or method or self.default_method
        row = get_method(method, form, baseline, control, weight)
        if isinstance(env, str):
            check_env_id(env)
        if env is not None:
            check_env(env)
        elif _init_setup_model:
            raise ValueError(
                f"{type(self).__name__} learns in an environment: give env=…, one of Gymnasium's, a VecEnv or an id."
            )
        check_numbers(kwargs)
        if averaging is not None and not 0 <= averaging <= 1:
            raise ValueError(f"averaging is a share of the run between 0 and 1, not {averaging!r}.")
        check_rollout_buffer_class(kwargs.get("rollout_buffer_class"))
        if isinstance(env, str):
            env = maybe_make_env(env, kwargs.get("verbose", 0))
        given = {
            "loss_coef": loss_coef,
            "reward_coef": reward_coef,
            "env_reward_coef": env_reward_coef,
            "averaging": averaging,
        }
        settings = resolve_settings(type(self), row, form, kwargs | given, *_copies_and_sight(env))
        theirs = {name: value for name, value in settings.items() if name not in OWN}
        super().__init__(policy, env, **theirs, _init_setup_model=False)
        self.teacher = teacher
        self.teacher_obs = teacher_obs
        self.method = method
        self.form = form if isinstance(method, Method) else form or "unbiased"
        self.baseline = baseline if isinstance(method, Method) else baseline or "teacher"
        self.control = row.control
        self.weight = weight
        self.beta = beta
        # A FloatSchedule in what load() restores may be of a term that the row does not have; here it is a schedule like others.
        self.loss_coef = getattr(settings["loss_coef"], "value_schedule", settings["loss_coef"])
        self.reward_coef = getattr(settings["reward_coef"], "value_schedule", settings["reward_coef"])
        self.env_reward_coef = env_reward_coef
        self.averaging = settings["averaging"]
        self.mixed_precision = mixed_precision
        if _init_setup_model:
            self._setup_model()

    # --- setting up ---------------------------------------------------------------------------------------------------

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        signature = inspect.signature(cls.__init__)
        if cls.__init__ is Distillation.__init__:
            signature = visible_signature(cls, signature)
        else:  # a user's class with a constructor of its own
            signature = signature.replace(parameters=list(signature.parameters.values())[1:])
        cls.__signature__ = signature  # type: ignore[attr-defined]

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
        :raises ValueError: for unknown names
        """
        if isinstance(env, str):
            check_env_id(env)
        made = maybe_make_env(env, 0)
        seen = _copies_and_sight(made)
        if isinstance(env, str):
            made.close()
        variant = {name: given.pop(name, None) for name in ("form", "baseline", "control", "weight")}
        row = get_method(cls.fixed_method or given.pop("method", None) or cls.default_method, **variant)
        theirs = {name: parameter.default for name, parameter in sb3_parameters(cls).items()}
        known = {**theirs, **dict.fromkeys(OWN), "mixed_precision": None, "beta": None}
        for name in given:
            if name not in known:
                raise ValueError(f"{cls.__name__} has no setting {name!r}: {nearest(name, known)}")
        named = {
            "method": row.name,
            "form": variant["form"] or ("paper" if is_as_printed(row) else "unbiased"),
            "baseline": variant["baseline"] or "teacher",
            "control": row.control,
            "weight": variant["weight"],
        }
        return named | known | resolve_settings(cls, row, variant["form"], given, *seen)

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
        self._row = get_method(self.method, **variant, control=self.control)
        self.control = self._row.control
        if STUDENT_VALUE in self._row.needs and self.vf_coef == 0:
            raise ValueError(
                f"{self._row.name} compares with the student's own value, and with vf_coef=0 its critic learns nothing: "
                "give vf_coef a weight."
            )
        check_policy(self.policy_class, self.policy_kwargs)
        check_numbers(vars(self))
        self._set_coefficients()
        if self.rollout_buffer_class in (RolloutBuffer, DictRolloutBuffer):
            self.rollout_buffer_class = None  # loaded from what SB3's own algorithm has saved
        dict_obs = isinstance(self.observation_space, spaces.Dict)
        buffer_class = DistillDictRolloutBuffer if dict_obs else DistillRolloutBuffer
        n_stack = None if self.env is None else frame_stack_of(self.env)
        if self.rollout_buffer_class is None:
            self.rollout_buffer_class = buffer_class if n_stack is None else DistillFrameRolloutBuffer
            if n_stack is not None:
                self.rollout_buffer_kwargs = self.rollout_buffer_kwargs | {"n_stack": n_stack}
        elif not issubclass(self.rollout_buffer_class, buffer_class):
            raise ValueError(
                f"rollout_buffer_class must be a subclass of {buffer_class.__name__}, which carries the teacher's answers, "
                f"not {self.rollout_buffer_class.__name__}."
            )
        #: the teacher in the environment
        self._binding = Binding()
        #: of who acts in a mixture
        self._rng = np.random.default_rng(self.seed)
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
        if TEACHER_VALUE in self._row.needs and not self.teacher.has_value:
            raise ValueError(
                f"The method {self._row.name!r} needs the teacher's value function, and {self.teacher.name} has none: use a "
                "teacher with a critic or a Q-network, or another method."
            )
        if self.env is not None and not self._binding.is_of(self.teacher, self.env, self.teacher_obs):
            self._binding.bind(self.teacher, self.env, self.teacher_obs)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        self._check_teacher()
        self._check_schedules()
        self._warn_if_nothing_teaches()
        self._mean = None
        if self._binding.begins_with_an_episode:
            self._last_obs = None
        before = self._last_obs
        with self._binding.hearing(steps=True):
            total_timesteps, callback = super()._setup_learn(*args, **kwargs)
        if total_timesteps > 0:  # SB3 does so after a rollout, but the first one is weighed, too
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
        if self._last_obs is not before:
            # A copy: the environment may write over it before SB3 puts it into its buffer.
            self._last_obs = copy_obs(self._last_obs)
            self._shown = (self._last_obs, copy_obs(self._present_obs()), self._binding.view)
        self._played_by_others = True  # since the last rollout, for all that is known here
        if self._distils:
            assert self.env is not None
            with torch_threads(rollout_threads(self.env)):  # a pass of the size of a rollout's
                check_distribution(self.policy, self._last_obs)
        return total_timesteps, callback

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

    def _present_obs(self) -> Any:
        """What the teacher sees of the state that the environment is in."""
        if self._binding.view is not None:
            return self._binding.view.obs
        vec_normalize = raw_env(self.env)[1] if self.env is not None else None
        return self._last_obs if vec_normalize is None else vec_normalize.old_obs

    def _start_obs(self) -> Any:
        """What the teacher sees of the state that SB3 goes on from, in which the environment need not be any more."""
        last_obs, seen, view = self._shown
        known = last_obs is self._last_obs and view is self._binding.view
        return seen if known else self._present_obs()

    def _excluded_save_params(self) -> list[str]:
        # Neither the teacher, what it sees, nor our buffer: the saved student is a plain SB3 model, which needs none of them.
        return [*super()._excluded_save_params(), *_NOT_SAVED]

    def _set_coefficients(self) -> None:
        """Make schedules of the coefficients, and see that they can be honoured."""
        terms = {"loss_coef": (self._row.loss, "loss ℓ"), "reward_coef": (self._row.reward, "reward r̂")}
        for name, (term, what) in terms.items():
            value = getattr(self, name)
            if term is not None or (isinstance(value, (int, float)) and value == 0):
                continue
            if isinstance(value, FloatSchedule):
                setattr(self, name, 0.0)  # saved before this was an error
            elif has_effect(name, value):
                raise ValueError(
                    f"The method {self._row.name!r} has no {what}, so {name}={value!r} would do nothing: leave {name} out, or take "
                    "a method that has one."
                )
        for name in COEFFICIENTS:
            setattr(self, name, schedule_of(name, getattr(self, name)))
        self._check_schedules()

    def _check_schedules(self) -> None:
        """See before any work that no schedule ends the run."""
        if self.beta is None and self.control == "mixed":
            raise ValueError(
                "control='mixed' needs beta, how likely the teacher acts at a step and not the student: give beta=0.5, or another "
                "number or schedule between 0 and 1."
            )
        if self.beta is not None and self.control != "mixed":
            raise ValueError(
                f"beta={self.beta!r} belongs to control='mixed', and control={self.control!r} has none, as no other has it: leave "
                "beta out, or set control='mixed'."
            )
        weights = [self._weights_at(progress) for progress in TRIED]
        for progress in TRIED:
            self._beta_at(progress)
        self._distils = any(loss > 0 or reward > 0 for loss, reward, _ in weights)
        if self._distils:
            for progress in TRIED:
                check_rate(value_at("learning_rate", vars(self)["learning_rate"], progress))

    def _warn_if_nothing_teaches(self) -> None:
        if self.ent_coef == 0 and not any(any(self._weights_at(1 - k / 100)) for k in range(101)):
            warnings.warn(
                "Nothing teaches: loss_coef, reward_coef and env_reward_coef are 0 throughout the run, so the student's policy stays "
                "as it is. Give one of them a weight.",
                stacklevel=2,
            )

    def _beta_at(self, progress: float) -> float:
        """How likely the teacher acts, where both do."""
        if self.control != "mixed":
            return 1.0
        beta = value_at("beta", self.beta, progress)
        if not 0 <= beta <= 1:
            raise ValueError(f"beta must lie between 0 and 1, not {beta}: it is how likely the teacher acts at a step.")
        return beta

    def _weights(self) -> tuple[float, float, float]:
        """Present values of loss_coef, reward_coef and env_reward_coef."""
        return self._weights_at(self._current_progress_remaining)

    def _weights_at(self, progress: float) -> tuple[float, float, float]:
        loss, reward, env_reward = (value_at(name, getattr(self, name), progress) for name in COEFFICIENTS)
        if not all(0 <= coef < math.inf for coef in (loss, reward, env_reward)):  # nor is NaN
            raise ValueError(
                f"Coefficients must be at least 0: loss_coef={loss}, reward_coef={reward}, env_reward_coef={env_reward}."
            )
        if reward + env_reward > 0 and self.control != "student":
            if env_reward > 0:
                term, change = "a weight on the environment's reward", "env_reward_coef=0"
            else:
                term, change = f"the reward r̂ of {self._row.name}", "reward_coef=0"
            raise ValueError(
                f"control={self.control!r} cannot go with {term}, whose policy gradient needs the student's own actions: "
                f"set control='student' or {change}."
            )
        return loss, reward, env_reward

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        super()._update_current_progress_remaining(num_timesteps, total_timesteps)
        if self._current_progress_remaining < 0 and self._distils:
            # A last rollout may end after the run does. With SB3's kind of schedule, p ↦ c·p, its learning rate would be negative,
            # and the student would unlearn, also where the weight of ℓ has fallen to 0 by then.
            self._current_progress_remaining = 0.0

    # --- saving and loading -------------------------------------------------------------------------------------------

    @classmethod
    def load(
        cls: type[SelfDistillation],
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> SelfDistillation:
        """
        SB3's ``load``: a student that was saved, or what SB3's own PPO (A2C) has saved, with the settings that it was saved with.

        :param path: of the zip, or a file
        :param env: the environment to learn on in
        :param device: ``"auto"``, ``"cpu"``, ``"cuda"`` …
        :param custom_objects: to take in place of what the file has under these names
        :param print_system_info: whether to print about this system, and about the one that saved
        :param force_reset: whether ``learn`` begins with a reset of the environment
        :param kwargs: settings to take in place of the saved ones, and ``teacher``, which is never saved
        :return: the student
        :raises ValueError: for a file of another kind of algorithm, and as the constructor does
        """
        model = super().load(path, env, device, custom_objects, print_system_info, force_reset, **kwargs)
        batch_size = getattr(model, "batch_size", None)
        if model.env is not None and batch_size:
            warn_of_cut_minibatch(batch_size, model.n_steps, model.n_envs)
        return model

    def set_parameters(
        self, load_path_or_dict: Any, exact_match: bool = True, device: th.device | str = "auto"
    ) -> None:
        """
        SB3's. Where the optimiser that was saved is of another kind, as A2C's beside PPO's, the present one begins anew, with a
        warning.

        :param load_path_or_dict: a zip, or what ``get_parameters`` gave
        :param exact_match: whether everything has to be there
        :param device: to load to
        """
        params = load_path_or_dict
        if not isinstance(params, dict):
            _, params, _ = load_from_zip_file(params, device=device, load_data=False)
        optimizer = self.policy.optimizer
        saved = params.get("policy.optimizer")
        if saved is not None and not same_kind(saved, optimizer):
            warnings.warn(
                f"What is loaded was trained with another optimiser than this student's {type(optimizer).__name__}: its weights "
                "are taken, and the optimiser begins anew."
            )
            params = params | {"policy.optimizer": optimizer.state_dict()}
        super().set_parameters(params, exact_match, device)
        in_few_calls(optimizer)

    # --- rollouts -----------------------------------------------------------------------------------------------------

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int, *rest: Any
    ) -> bool:
        """SB3's, on an environment that is listened to; see :class:`~stable_baselines3.PPO`."""
        _, reward_coef, env_reward_coef = self._weights()
        self._pg_coef = reward_coef + env_reward_coef
        env_scale = 1.0 if self._critic_is_of_env else env_reward_coef / self._pg_coef
        n_threads = th.get_num_threads()
        is_cut, self._played_by_others = self._played_by_others, False
        if is_cut:
            self.rollout_buffer.cut_at_start = True

        def on_others(n: int) -> None:
            if n > n_rollout_steps:
                self._played_by_others = True
            elif isinstance(self.rollout_buffer, DistillFrameRolloutBuffer):
                self.rollout_buffer.cut(n)

        def finish_rollout(compute: Callable[[th.Tensor], None], last_values: th.Tensor) -> None:
            assert heard is not None
            with torch_threads(n_threads):  # the games wait
                answer = self._answer_for(heard)
            self._finish_rollout(compute, last_values, heard, answer)

        assert self._last_obs is not None
        view, heard = self._binding.view, None
        listened = listening(
            *(env, view, self._start_obs(), self._act, rollout_buffer, n_rollout_steps, env_scale),
            *(self._uses_env_reward, is_cut, on_others),
        )
        self.rollout_buffer.finish_rollout = finish_rollout
        try:
            fast = fast_pixels(self.policy, self.mixed_precision, same_weights=True)
            hearing = self._binding.hearing(steps=False)
            with hearing, listened as heard, unvalidated(), fast, torch_threads(rollout_threads(env)):
                finished = super().collect_rollouts(heard.env, callback, rollout_buffer, n_rollout_steps, *rest)
            if not finished:
                self._binding.forget()  # SB3 has not kept the last observation either: the next learn() resets
            return finished
        finally:
            self.rollout_buffer.finish_rollout = None
            if heard is not None and (view is not None or raw_env(env)[1] is not None):
                seen = heard.tap.observations
                self._shown = (self._last_obs, seen[min(rollout_buffer.pos, len(seen) - 1)], view)

    def _act(self, heard: Rollout, actions: np.ndarray) -> np.ndarray:
        """The actions to execute, where the student would do ``actions``."""
        # Here and not in the buffer: callbacks run in between, and their predict() overwrites the distribution.
        heard.student.append(parameters(self.policy.action_dist).cpu().numpy())
        if not np.isfinite(heard.student[-1].sum()):
            raise ValueError(
                f"The student's action distribution is not finite after {self.num_timesteps} steps: {heard.student[-1]}. "
                "Lower learning_rate."
            )

        def teacher() -> np.ndarray:
            last = self._ask_since(heard).parameters[-len(actions) :]
            return draw_actions(self.action_space, self._distribution(last))

        assert self.control is not None
        beta = self._beta_at(self._current_progress_remaining)
        step = Step(lambda: actions, teacher, self.action_space, len(actions), beta, self._rng)
        return CONTROLS[self.control](step)

    @property
    def _uses_env_reward(self) -> bool:
        """Whether anything learns from the environment's reward, r̂ apart."""
        return self._weights()[2] > 0 or (self._critic_is_of_env and self.vf_coef > 0)

    @property
    def _critic_is_of_env(self) -> bool:
        """Whether the critic learns the environment's return, and not that of the rewards that are optimised."""
        return self._pg_coef == 0 or STUDENT_VALUE in self._row.needs

    def _reward_needs(self, *needs: str) -> bool:
        """Whether r̂ needs all of these."""
        return self._row.reward is not None and set(needs) <= self._row.reward.needs

    def _distribution(self, params: th.Tensor) -> Distribution:
        return from_parameters(self.action_space, params)

    def _ask(self, obs: Any) -> Answer:
        """The teacher's answer for a batch of states."""
        return self.teacher.answer_in_chunks(obs, TEACHER_VALUE in self._row.needs)

    def _ask_since(self, heard: Rollout) -> Answer:
        """Ask the teacher about the states since it was asked last, the present one among them, which comes last in its answer."""
        observations, n_known = heard.tap.observations, self._known(heard)
        if n_known < len(observations):
            since = observations[-1] if n_known == len(observations) - 1 else observations.batch(n_known)
            heard.answers.append(self._ask(since))
        return heard.answers[-1]

    def _known(self, heard: Rollout) -> int:
        """For how many steps the teacher's answers are known; for the first one from the rollout before, perhaps."""
        if not heard.answers:
            carried = self._binding.carried(self.teacher, heard.tap.observations[0])
            heard.answers += [carried] if carried is not None else []
        return heard.n_answered

    def _answer_for(self, heard: Rollout) -> Answer:
        """The teacher's answer for s_1 … s_{T+1}, then for the truncated states: what is not known yet, in one batch."""
        tap, n_known = heard.tap, self._known(heard)
        truncated = [obs for _, _, obs in tap.truncated] if self._reward_needs(NEXT_STATE) else []
        answer = join_answers([*heard.answers, self._ask(tap.observations.batch(n_known, truncated))])
        compare_in_play(self.teacher, lambda: tap.observations.batch(0))
        if not th.isfinite(answer.parameters).all():
            raise ValueError(f"The teacher {self.teacher.name} answered with NaN or infinity: are its weights damaged?")
        last = slice(n := self.n_steps * self.n_envs, n + self.n_envs)
        last_answer = Answer(answer.parameters[last], None if answer.value is None else answer.value[last])
        self._binding.carry(self.teacher, tap.observations[-1], last_answer)
        return Answer(answer.parameters.cpu(), None if answer.value is None else answer.value.cpu())

    def _finish_rollout(
        self, compute: Callable[[th.Tensor], None], last_values: th.Tensor, heard: Rollout, answer: Answer
    ) -> None:
        """Add r̂ to the rewards and have returns and advantages computed."""
        buffer, row, tap = self.rollout_buffer, self._row, heard.tap
        n = self.n_steps * self.n_envs
        if self._uses_env_reward:
            check_rewards(np.stack(tap.rewards))
        teacher_t = answer.parameters[:n]
        student_t = th.from_numpy(np.stack(heard.student)).reshape(n, -1)
        buffer.teacher_parameters[:] = teacher_t.reshape(buffer.teacher_parameters.shape).numpy()
        if row.weight is not None and TEACHER_VALUE in row.weight.needs:
            assert answer.value is not None
            buffer.teacher_values = answer.value[:n].reshape(self.n_steps, self.n_envs).numpy()
        self._log_rollout(self._distribution(teacher_t), self._distribution(student_t))
        if not self._warned and (self._pg_coef > 0 or self.vf_coef > 0):
            self._warned = tap.warn_of_ends()
        if row.reward is None:
            return compute(last_values)
        step = Transitions(
            action_t=action_tensor(self.action_space, buffer.actions.reshape(n, -1)),
            reward_t=th.from_numpy(np.concatenate(tap.rewards)),
            continues_t=th.from_numpy(np.concatenate(tap.continues)),
            gamma=self.gamma,
            teacher_t=self._distribution(teacher_t),
            student_t=self._distribution(student_t),
            # A critic of normalised rewards has their unit, and r̂ is of the environment's own.
            student_value_t=th.from_numpy(buffer.values.flatten()) * self._reward_unit(),
        )
        student = None
        if self._reward_needs(NEXT_STATE, STUDENT):
            student = th.cat([student_t, self._student_at_ends(heard)])
        injected = injected_reward(row, step, self._distribution, answer, student, tap.truncated, self.n_envs)
        if self._pg_coef > 0 and not np.isfinite(injected).all():
            check_rewards(np.stack(tap.rewards))
            check_injected(row, injected, self.num_timesteps)
        self.logger.record("distill/reward", float(injected.mean()))
        if self._pg_coef == 0:
            return compute(last_values)
        share = self._weights()[1] / self._pg_coef
        unit = self._reward_unit() if self._critic_is_of_env else None
        add_reward(buffer, compute, last_values, injected, share, unit)

    def _student_at_ends(self, heard: Rollout) -> th.Tensor:
        """The student's parameters in s_{T+1}, then in the states at which time limits cut episodes."""
        truncated = heard.env.truncated
        ends = [self._last_obs, stack_obs(truncated)] if truncated else [self._last_obs]
        with th.no_grad():
            obs_tensor, _ = self.policy.obs_to_tensor(concatenate_obs(ends))
            return parameters(self.policy.get_distribution(obs_tensor)).cpu()

    def _reward_unit(self) -> float:
        """How much of the environment's own reward is 1 in the critic's values, where these are of its return."""
        return reward_unit(self.env) if self._critic_is_of_env and self.env is not None else 1.0

    def _log_rollout(self, teacher: Distribution, student: Distribution) -> None:
        """Means over the states of the rollout, with the student as it was when it saw them."""
        self.logger.record("distill/kl", float(losses.kl(teacher, student).mean()))
        self.logger.record("distill/teacher_entropy", float(losses.entropy(teacher).mean()))
        greedy = [d.mode().reshape(self.n_steps * self.n_envs, -1) for d in (teacher, student)]
        if isinstance(self.action_space, spaces.Box):
            self.logger.record("distill/mean_distance", float((greedy[0] - greedy[1]).abs().mean()))
        else:
            self.logger.record("distill/agreement", float((greedy[0] == greedy[1]).all(dim=1).float().mean()))

    # --- updates ------------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """SB3's, with ∇ℓ added and the policy gradient weighed; see :class:`~stable_baselines3.PPO`."""
        weights: list[float] = []
        loss = None if self._row.loss is None else partial(self._batch_loss, weights)
        coefficients = (self._weights()[0], self._pg_coef, self.vf_coef != 0)
        fast = fast_pixels(self.policy, self.mixed_precision)
        with attaching(self.policy, loss, *coefficients, self.num_timesteps) as attached, unvalidated(), fast:
            super().train()
        if attached.losses:
            self.logger.record("distill/loss", float(np.mean(attached.losses)))
        if weights:
            self._tell_weight(float(np.mean(weights)))
        if self.averaging and self._current_progress_remaining < self.averaging:
            self._mean = self._mean or WeightMean()
            states = attached.last_obs
            if states is None:  # TRPO evaluates in another way
                assert self._last_obs is not None
                states = self.policy.obs_to_tensor(self._last_obs)[0]
            self._mean.add(self.policy, states)
            if self.num_timesteps >= self._total_timesteps:
                self._mean.put_into(self.policy)

    def _tell_weight(self, mean: float) -> None:
        """Log how much ℓ has counted in an update, and say once if it has not counted anywhere."""
        buffer = self.rollout_buffer
        self.logger.record("distill/weight", mean)
        if buffer.teacher_values is None:
            return
        theirs, ours = float(buffer.teacher_values.mean()), float(buffer.values.mean()) * self._reward_unit()
        self.logger.record("distill/teacher_value", theirs)
        self.logger.record("distill/student_value", ours)
        if mean == 0 and not self._said_no_weight:
            self._said_no_weight = True
            warnings.warn(
                f"Nothing is learnt from the teacher after {self.num_timesteps} steps: the weight {self._row.weight.formula} "  # type: ignore[union-attr]
                f"is 0 in all states, where V_π is {theirs:.4g} and V_πθ {ours:.4g} in the mean. If the student is not that much better, "
                "the values are of different discounts or units: give gamma the teacher's, or leave weight out.",
                stacklevel=2,
            )

    def _batch_loss(self, weights: list[float], values: th.Tensor, log_prob: th.Tensor) -> th.Tensor:
        """Mean w·ℓ of the minibatch that was evaluated last; its mean w joins ``weights``, if there is one."""
        row = self._row
        student = plain(self.action_space, self.policy.action_dist)
        teacher = self._distribution(self.rollout_buffer.batch_teacher_parameters)
        loss = row.loss_of(teacher, student)
        check_on_graph(loss, log_prob, row.name)
        if row.weight is not None:
            buffer = self.rollout_buffer
            log_ratio = log_prob - buffer.batch_old_log_prob
            states = States(teacher, student, buffer.batch_teacher_values, values * self._reward_unit(), log_ratio)
            weight = row.weight_of(states)
            weights.append(float(weight.detach().mean()))
            loss = weight * loss
        return loss.mean()


def _copies_and_sight(env: Any) -> tuple[int, bool]:
    """How many copies of an environment there are, and whether they show images."""
    space = getattr(env, "observation_space", None)
    return env.num_envs if isinstance(env, VecEnv) else 1, space is not None and is_image_space(space)


def check_rollout_buffer_class(buffer_class: type[RolloutBuffer] | None) -> None:
    """
    :param buffer_class: given by a user, or None
    :raises ValueError: if it has no room for the teacher's answers
    """
    ours = (DistillRolloutBuffer, DistillDictRolloutBuffer)
    if buffer_class is not None and not issubclass(buffer_class, ours):
        raise ValueError(
            f"rollout_buffer_class must be a subclass of {' or '.join(c.__name__ for c in ours)}, which carry the teacher's "
            f"answers, not {buffer_class.__name__}."
        )
