"""What distillation adds to SB3's on-policy algorithms, at their seams: no method body of SB3's is repeated.

* ``collect_rollouts`` runs SB3's own on an environment that is listened to (:mod:`sb3_distill.envs.tap`).
* The rollout buffer calls back before advantages are computed. There the teacher is asked about the whole rollout in one
  batch, and r̂ joins the rewards.
* ``train`` runs SB3's own while ``policy.evaluate_actions``, the one forward pass of a minibatch, attaches ∇ℓ to the
  graph and weighs the policy gradient.
"""

import io
import math
import pathlib
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
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
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import FloatSchedule
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill import losses
from sb3_distill.averaging import WeightMean
from sb3_distill.buffers import DistillDictRolloutBuffer, DistillFrameRolloutBuffer, DistillRolloutBuffer
from sb3_distill.distributions import check_readable, from_parameters, parameters, plain, unvalidated
from sb3_distill.env_ids import check_env_id as check_env_id
from sb3_distill.envs.frame_stack import frame_stack_of, observation_log
from sb3_distill.envs.tap import (
    StudentView,
    Tap,
    check_rewards,
    concatenate_obs,
    copy_obs,
    raw_env,
    replaced,
    reward_unit,
    same_obs,
    stack_obs,
)
from sb3_distill.envs.teacher_view import TeacherView, Wrap, view_of
from sb3_distill.given_env import check_env
from sb3_distill.methods import CONTROLS, Method, get_method
from sb3_distill.optimizers import same_kind
from sb3_distill.own_predict import compare_in_play
from sb3_distill.pixels import fast_pixels
from sb3_distill.questions import innermost
from sb3_distill.rewards import Transitions
from sb3_distill.rollout_size import batch_that_fits, steps_that_fill, warn_of_cut_minibatch
from sb3_distill.schedules import TRIED, LoggableLearningRate, has_effect, schedule_of, value_at
from sb3_distill.spaces import action_tensor, any_action, draw_actions
from sb3_distill.student_policy import check_distribution, check_numbers, check_policy
from sb3_distill.teachers import Answer, Teacher, join_answers
from sb3_distill.threads import rollout_threads, torch_threads
from sb3_distill.zoo.teachers import load_teacher

SelfDistillation = TypeVar("SelfDistillation", bound="Distillation")

COEFFICIENTS = ("loss_coef", "reward_coef", "env_reward_coef")

#: settings of ``form="paper"``: a normalised advantage is not its R̂, and the last weights are its student
PAPER: dict[str, Any] = {"normalize_advantage": False, "reward_coef": 1.0, "gamma": 0.99, "averaging": 0.0}

_NOT_SAVED = (
    "teacher",
    "teacher_obs",
    "rollout_buffer_class",
    "rollout_buffer_kwargs",
    "_row",
    "_carried",
    "_view",
    "_seen",
    "_mean",
    "_shown",
    "_played_by_others",
    "_warned",
    "_distils",
)


class Distillation(LoggableLearningRate, OnPolicyAlgorithm):
    """
    The part that DistillPPO and DistillA2C share. Put it before the SB3 algorithm in a class's bases.

    It descends along E_q[ Σ_t −∇ log π_θ(a_t|s_t) Â_t + loss_coef ∇ℓ_t ], where Â_t is SB3's advantage of the rewards
    reward_coef · r̂_t + env_reward_coef · r_t. With w = reward_coef + env_reward_coef, the buffer holds those rewards
    divided by w and the policy-gradient loss is multiplied by w. Without normalised advantages that changes nothing; with
    them it gives the coefficients the meaning that normalisation would take from them. Where w = 0 there is no
    policy-gradient term, and the critic learns the environment's return.

    :param policy: SB3's name or class of the student's policy
    :param env: the student's environment, or its Gymnasium id
    :param teacher: a :class:`~sb3_distill.teachers.Teacher`, or whatever :func:`~sb3_distill.load_teacher` takes. It may
        wait until ``learn``, and is never saved
    :param teacher_obs: puts the teacher's wrappers around an environment, where it does not see what the student sees; see
        :mod:`~sb3_distill.envs.teacher_view`
    :param method: a row of :data:`~sb3_distill.methods.METHODS` by name, or a row of one's own; by default ``"n_distill"``.
        The named classes fix it
    :param form: ``"unbiased"`` or ``"paper"``, see :mod:`~sb3_distill.methods`
    :param baseline: of teacher V reward, ``"teacher"`` (V_π(s_i)) or ``"student"`` (V_πθ(s_i))
    :param control: who picks the executed actions: ``"student"``, ``"teacher"`` or ``"uniform"``; by default the row's own
    :param loss_coef: weight of ℓ, at least 0; a number or a schedule of ``progress_remaining``, as the next two. By default 1, or
        0 where the row has no ℓ
    :param reward_coef: weight of r̂; by default the row's own, or 0 where the row has no r̂
    :param env_reward_coef: weight of the environment's reward
    :param averaging: the share of a run at its end over which the student's weights are averaged, one sample after each
        rollout (Polyak and Juditsky, 1992); the mean takes their place when the run is over, before ``on_training_end``. With 0
        the last weights stay, as they do after a run that a callback has stopped. By default the row's own; 0 where the
        environment's reward has a weight, which goes on to improve the student, for images, and in the paper's form
    :param mixed_precision: whether the student's features extractors multiply in bfloat16 while it learns, see
        :func:`~sb3_distill.pixels.fast_pixels`; None where it sees images, on a device that does that faster
    :param kwargs: of the SB3 algorithm, with its names and meanings. Of ``n_steps`` and ``batch_size``, what is left out is chosen
        so that no minibatch is cut short, if that can be done near its default
    :raises ValueError: before any work, for unknown names, a teacher that does not fit the environment or lacks the value
        function that the row needs, coefficients that are negative or weigh a term that the row does not have, a share outside
        [0, 1], w > 0 with a control policy other than the student, or a student whose action distribution cannot be read
    """

    #: what distillation changes of SB3's defaults: for every row, then for single rows
    defaults: ClassVar[dict[str, Any]] = {}
    row_defaults: ClassVar[dict[str, dict[str, Any]]] = {}
    #: then for students that see images, whose networks take smaller steps: for every row, and for single ones
    pixel_defaults: ClassVar[dict[str, Any]] = {}
    pixel_row_defaults: ClassVar[dict[str, dict[str, Any]]] = {}
    #: the row of the named classes; None where the argument ``method`` chooses it
    fixed_method: ClassVar[str | None] = None

    rollout_buffer: DistillRolloutBuffer
    averaging: float = 0.0
    #: of the weights so far, where they are averaged
    _mean: WeightMean | None = None
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
        form: str = "unbiased",
        baseline: str = "teacher",
        control: str | None = None,
        loss_coef: float | Schedule | None = None,
        reward_coef: float | Schedule | None = None,
        env_reward_coef: float | Schedule = 0.0,
        averaging: float | None = None,
        mixed_precision: bool | None = None,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        if self.fixed_method is not None and method is not None:
            raise ValueError(f"{type(self).__name__} is the method {self.fixed_method!r}: leave method={method!r} out.")
        method = self.fixed_method or method or "n_distill"
        row = get_method(method, form, baseline)
        if control is not None and control not in CONTROLS:
            raise ValueError(f"Unknown control policy {control!r}: choose one of {', '.join(map(repr, CONTROLS))}.")
        if isinstance(env, str) and ":" not in env:  # else Gymnasium imports a module first
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
        n_envs = env.num_envs if isinstance(env, VecEnv) else 1
        settings = self._settings(row, form, kwargs, n_envs, _sees_images(env))
        super().__init__(policy, env, **(_of_sb3(settings) | kwargs), _init_setup_model=False)
        if loss_coef is None:
            loss_coef = 0.0 if row.loss is None else 1.0
        if reward_coef is None:
            reward_coef = 0.0 if row.reward is None else settings.get("reward_coef", 1.0)
        if averaging is None:
            averaging = settings.get("averaging", 0.0) if env_reward_coef == 0 else 0.0
        self.teacher = teacher
        self.teacher_obs = teacher_obs
        self.method = method
        self.form = form
        self.baseline = baseline
        self.control = control
        # A FloatSchedule in what load() restores may be of a term that the row does not have; here it is a schedule like others.
        self.loss_coef = getattr(loss_coef, "value_schedule", loss_coef)
        self.reward_coef = getattr(reward_coef, "value_schedule", reward_coef)
        self.env_reward_coef = env_reward_coef
        self.averaging = averaging
        self.mixed_precision = mixed_precision
        if _init_setup_model:
            self._setup_model()

    # --- setting up ---------------------------------------------------------------------------------------------------

    def _settings(self, row: Method, form: str, given: dict[str, Any], n_envs: int, images: bool) -> dict[str, Any]:
        """The defaults of a row; of the rollout's and the minibatch's size, those that fit what is given and each other."""
        settings = self.defaults | self.row_defaults.get(row.name, {})
        if images:
            settings |= self.pixel_defaults | self.pixel_row_defaults.get(row.name, {})
        if form == "paper":
            settings |= PAPER
        batch_size, n_steps = given.get("batch_size"), given.get("n_steps")
        if n_steps is not None and n_steps * n_envs == 1:
            settings["normalize_advantage"] = False  # one advantage has no standard deviation
        if "batch_size" in settings and n_steps is None:
            settings["n_steps"] = steps_that_fill(settings["n_steps"], batch_size or settings["batch_size"], n_envs)
        elif "batch_size" in settings and n_steps is not None and batch_size is None:
            settings["batch_size"] = batch_that_fits(settings["batch_size"], n_steps * n_envs)
        return settings

    def _setup_model(self) -> None:
        if self.fixed_method is not None and self.method != self.fixed_method:
            raise ValueError(
                f"This is a student of {self.method!r}, and {type(self).__name__} is {self.fixed_method!r}: load it with the class of "
                "its method, or as a DistillPPO or DistillA2C."
            )
        self._row = get_method(self.method, self.form, self.baseline)
        if self.control is None:
            self.control = self._row.control
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
        #: what the teacher sees, and of what teacher, environment and ``teacher_obs`` that was made
        self._view: TeacherView | None = None
        self._seen: tuple[Any, ...] | None = None
        if self.teacher is not None:
            self._check_teacher()
        super()._setup_model()
        check_readable(self.policy.action_dist)
        in_few_calls(self.policy.optimizer)
        #: the last state of the rollout before, and the teacher's answer there
        self._carried: tuple[Teacher, Any, Answer] | None = None

    def _check_teacher(self) -> None:
        """Make the teacher answer, and see that it fits the row and the environment."""
        if self.teacher is None:
            raise ValueError(
                f"{type(self).__name__} has no teacher to learn from: set model.teacher = load_teacher(…), or give "
                "teacher=… to the constructor or to load()."
            )
        self.teacher = load_teacher(self.teacher)
        reward = self._row.reward
        if reward is not None and reward.uses_value and not self.teacher.has_value:
            raise ValueError(
                f"The method {self._row.name!r} needs the teacher's value function, and {self.teacher.name} has none: use a "
                "teacher with a critic or a Q-network, or another method."
            )
        if self.env is not None:
            seen = (self.teacher, self.env, self.teacher_obs)
            if self._seen is None or any(a is not b for a, b in zip(self._seen, seen, strict=True)):
                self._view = view_of(self.teacher, raw_env(self.env)[0], innermost(self.env), self.teacher_obs)
                self._seen = seen

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        self._check_teacher()
        self._check_schedules()
        self._warn_if_nothing_teaches()
        self._mean = None
        hearing: AbstractContextManager[None] = nullcontext()
        if self._view is not None:
            hearing = self._view.hearing(steps=True)
            if self._view.obs is None:
                self._last_obs = None  # what the teacher sees begins with an episode
        before = self._last_obs
        with hearing:
            total_timesteps, callback = super()._setup_learn(*args, **kwargs)
        if total_timesteps > 0:  # SB3 does so after a rollout, but the first one is weighed, too
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
        if self._last_obs is not before:
            # A copy: the environment may write over it before SB3 puts it into its buffer.
            self._last_obs = copy_obs(self._last_obs)
            self._shown = (self._last_obs, copy_obs(self._present_obs()), self._view)
        self._played_by_others = True  # since the last rollout, for all that is known here
        if self._distils:
            assert self.env is not None
            with torch_threads(rollout_threads(self.env)):  # a pass of the size of a rollout's
                check_distribution(self.policy, self._last_obs)
        return total_timesteps, callback

    def _present_obs(self) -> Any:
        """What the teacher sees of the state that the environment is in."""
        if self._view is not None:
            return self._view.obs
        vec_normalize = raw_env(self.env)[1] if self.env is not None else None
        return self._last_obs if vec_normalize is None else vec_normalize.old_obs

    def _start_obs(self) -> Any:
        """What the teacher sees of the state that SB3 goes on from, in which the environment need not be any more."""
        last_obs, seen, view = self._shown
        known = last_obs is self._last_obs and view is self._view
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
        weights = [self._weights_at(progress) for progress in TRIED]
        self._distils = any(loss > 0 or reward > 0 for loss, reward, _ in weights)
        if self._distils:
            for progress in TRIED:
                value_at("learning_rate", vars(self)["learning_rate"], progress)

    def _warn_if_nothing_teaches(self) -> None:
        if self.ent_coef == 0 and not any(any(self._weights_at(1 - k / 100)) for k in range(101)):
            warnings.warn(
                "Nothing teaches: loss_coef, reward_coef and env_reward_coef are 0 throughout the run, so the student's policy stays "
                "as it is. Give one of them a weight.",
                stacklevel=2,
            )

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
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """SB3's, on an environment that is listened to; see :class:`~stable_baselines3.PPO`."""
        _, reward_coef, env_reward_coef = self._weights()
        self._pg_coef = reward_coef + env_reward_coef
        env_scale = 1.0 if self._critic_is_of_env else env_reward_coef / self._pg_coef
        raw, vec_normalize = raw_env(env)
        # A callback may play in this environment, too: it does so after a step, before SB3's buffer has that step.
        paid = self._uses_env_reward
        tap: Tap
        view = StudentView(env, env_scale, lambda: len(tap.rewards) == rollout_buffer.pos < n_rollout_steps, paid)
        student: list[np.ndarray] = []
        answers: list[Answer] = []
        n_threads = th.get_num_threads()

        def before_step(actions: np.ndarray) -> np.ndarray:
            # Here and not in the buffer: callbacks run in between, and their predict() overwrites the distribution.
            student.append(parameters(self.policy.action_dist).cpu().numpy())
            if not np.isfinite(student[-1].sum()):
                raise ValueError(
                    f"The student's action distribution is not finite after {self.num_timesteps} steps: {student[-1]}. "
                    "Lower learning_rate."
                )
            if self.control == "student":
                return actions
            if self.control == "uniform":
                return np.stack([any_action(self.action_space) for _ in range(env.num_envs)])
            answers.append(self._carried_answer(tap.observations[-1]) or self._ask(tap.observations[-1]))
            return draw_actions(self.action_space, self._distribution(answers[-1].parameters))

        def finish_rollout(compute: Callable[[th.Tensor], None], last_values: th.Tensor) -> None:
            with torch_threads(n_threads):  # the games wait
                answer = self._answer_for(tap, answers)
            self._finish_rollout(compute, last_values, tap, view, answer, np.stack(student))

        assert self._last_obs is not None
        tap = self._tap(raw, before_step, lambda: view.stepping, n_rollout_steps)
        hearing: AbstractContextManager[None] = nullcontext() if self._view is None else self._view.hearing(steps=False)
        self.rollout_buffer.finish_rollout = finish_rollout
        try:
            fast = fast_pixels(self.policy, self.mixed_precision, same_weights=True)
            with hearing, tap, unvalidated(), fast, torch_threads(rollout_threads(env)):
                finished = super().collect_rollouts(view, callback, rollout_buffer, n_rollout_steps)
            if not finished and self._view is not None:
                self._view.obs = None  # SB3 has not kept the last observation either: the next learn() resets
            return finished
        finally:
            self.rollout_buffer.finish_rollout = None
            if self._view is not None or vec_normalize is not None:
                last = min(rollout_buffer.pos, len(tap.observations) - 1)
                self._shown = (self._last_obs, tap.observations[last], self._view)

    def _tap(
        self,
        raw: VecEnv,
        before_step: Callable[[np.ndarray], np.ndarray],
        is_own: Callable[[], bool],
        n_rollout_steps: int,
    ) -> Tap:
        """What listens to the environment in a rollout that begins now."""

        def on_others(n: int) -> None:
            if n > n_rollout_steps:
                self._played_by_others = True
            elif isinstance(self.rollout_buffer, DistillFrameRolloutBuffer):
                self.rollout_buffer.cut(n)

        if self._view is None:
            log = observation_log(raw, n_rollout_steps + 1)
            tap = Tap(raw, self._start_obs(), before_step, None, log, is_own, on_others)
        else:
            env, see = self._view.env, self._view.step
            tap = Tap(env, self._start_obs(), before_step, see, None, is_own, on_others)
        if self._played_by_others:
            tap.observations.cut()
            self.rollout_buffer.cut_at_start = True
        self._played_by_others = False
        return tap

    @property
    def _uses_env_reward(self) -> bool:
        """Whether anything learns from the environment's reward, r̂ apart."""
        return self._weights()[2] > 0 or (self._critic_is_of_env and self.vf_coef > 0)

    @property
    def _critic_is_of_env(self) -> bool:
        """Whether the critic learns the environment's return, and not that of the rewards that are optimised."""
        reward = self._row.reward
        return self._pg_coef == 0 or (reward is not None and reward.uses_student_value)

    def _distribution(self, params: th.Tensor) -> Distribution:
        return from_parameters(self.action_space, params)

    def _ask(self, obs: Any) -> Answer:
        """The teacher's answer for a batch of states."""
        with_value = self._row.reward is not None and self._row.reward.uses_value
        return self.teacher.answer_in_chunks(obs, with_value)

    def _carried_answer(self, obs: Any) -> Answer | None:
        """What the teacher said about these states at the end of the rollout before, if it did."""
        carried, self._carried = self._carried, None
        if carried is not None and carried[0] is self.teacher and same_obs(carried[1], obs):
            return carried[2]
        return None

    def _answer_for(self, tap: Tap, answers: list[Answer]) -> Answer:
        """The teacher's answer for s_1 … s_{T+1}, then for the truncated states: what is not known yet, in one batch."""
        if not answers:
            carried = self._carried_answer(tap.observations[0])
            answers = [carried] if carried is not None else []
        uses_next_state = self._row.reward is not None and self._row.reward.uses_next_state
        truncated = [obs for _, _, obs in tap.truncated] if uses_next_state else []
        answer = join_answers([*answers, self._ask(tap.observations.batch(len(answers), truncated))])
        compare_in_play(self.teacher, lambda: tap.observations.batch(0))
        if not th.isfinite(answer.parameters).all():
            raise ValueError(f"The teacher {self.teacher.name} answered with NaN or infinity: are its weights damaged?")
        last = slice(n := self.n_steps * self.n_envs, n + self.n_envs)
        last_answer = Answer(answer.parameters[last], None if answer.value is None else answer.value[last])
        self._carried = (self.teacher, tap.observations[-1], last_answer)
        return Answer(answer.parameters.cpu(), None if answer.value is None else answer.value.cpu())

    def _finish_rollout(
        self,
        compute: Callable[[th.Tensor], None],
        last_values: th.Tensor,
        tap: Tap,
        view: StudentView,
        answer: Answer,
        student: np.ndarray,
    ) -> None:
        """Add r̂ to the rewards and have returns and advantages computed."""
        buffer, row = self.rollout_buffer, self._row
        n = self.n_steps * self.n_envs
        if self._uses_env_reward:
            check_rewards(np.stack(tap.rewards))
        teacher_t = answer.parameters[:n]
        student_t = th.from_numpy(student).reshape(n, -1)
        buffer.teacher_parameters[:] = teacher_t.reshape(buffer.teacher_parameters.shape).numpy()
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
        if answer.value is not None:
            value_tp1 = next_states(answer.value, n, self.n_envs, tap.truncated)
            step = step._replace(teacher_value_t=answer.value[:n], teacher_value_tp1=value_tp1)
        if row.reward.uses_next_state and row.reward.uses_student:
            ends = [self._last_obs, stack_obs(view.truncated)] if view.truncated else [self._last_obs]
            with th.no_grad():
                obs_tensor, _ = self.policy.obs_to_tensor(concatenate_obs(ends))
                student_ends = parameters(self.policy.get_distribution(obs_tensor)).cpu()
            student_all = th.cat([student_t, student_ends])
            step = step._replace(
                teacher_tp1=self._distribution(next_states(answer.parameters, n, self.n_envs, tap.truncated)),
                student_tp1=self._distribution(next_states(student_all, n, self.n_envs, tap.truncated)),
            )
        injected = row.reward(step, row.loss).reshape(self.n_steps, self.n_envs).numpy()
        if self._weights()[1] > 0 and not np.isfinite(injected).all():
            check_rewards(np.stack(tap.rewards))
        self.logger.record("distill/reward", float(injected.mean()))
        self._mix_rewards(compute, last_values, injected)

    def _mix_rewards(self, compute: Callable[[th.Tensor], None], last_values: th.Tensor, injected: np.ndarray) -> None:
        """Returns and advantages of reward_coef · r̂ + env_reward_coef · r, over their sum."""
        buffer = self.rollout_buffer
        if self._pg_coef == 0:
            return compute(last_values)
        share = self._weights()[1] / self._pg_coef
        if not self._critic_is_of_env:
            buffer.rewards += share * injected
            return compute(last_values)
        # The critic is V_πθ, which r̂ contains already. So r̂ has no critic: its advantage is its own sum, discounted by γλ.
        rewards, values = buffer.rewards, buffer.values
        buffer.rewards, buffer.values = injected, np.zeros_like(values)
        compute(th.zeros_like(last_values))
        advantages = share * buffer.advantages
        buffer.rewards, buffer.values = rewards, values
        compute(last_values)
        buffer.advantages = advantages + (1 - share) * self._reward_unit() * buffer.advantages

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
        loss_coef = self._weights()[0]
        evaluate_actions = self.policy.evaluate_actions
        batch_losses: list[float] = []
        last_obs: Any = None

        def evaluate_and_attach(obs: Any, actions: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor | None]:
            nonlocal last_obs
            last_obs = obs
            values, log_prob, entropy = evaluate_actions(obs, actions)
            if entropy is None:
                # What SB3 would estimate it with; a view of its own, so that the policy gradient's weight is not on it.
                entropy = -log_prob
                log_prob = log_prob.view_as(log_prob)
            if self.vf_coef == 0:
                values = values.detach()
            if self._pg_coef == 0:
                log_prob = log_prob.detach()
            loss = None
            if self._row.loss is not None:
                student = plain(self.action_space, self.policy.action_dist)
                loss = self._row.loss(self._distribution(self.rollout_buffer.batch_teacher_parameters), student).mean()
                batch_losses.append(check_loss(loss.item(), len(batch_losses), self.num_timesteps))
            if loss is not None or self._pg_coef != 1:
                log_prob = WeighAndAttach.apply(log_prob, self._pg_coef, loss, loss_coef)
            return values, log_prob, entropy

        fast = fast_pixels(self.policy, self.mixed_precision)
        with replaced(self.policy, "evaluate_actions", evaluate_and_attach), unvalidated(), fast:
            super().train()
        if batch_losses:
            self.logger.record("distill/loss", float(np.mean(batch_losses)))
        if self.averaging and self._current_progress_remaining < self.averaging:
            self._mean = self._mean or WeightMean()
            self._mean.add(self.policy, last_obs)
            if self.num_timesteps >= self._total_timesteps:
                self._mean.put_into(self.policy)


class WeighAndAttach(th.autograd.Function):
    """
    Returns log-probabilities unchanged; whatever loss is computed from them has its gradient multiplied by ``weight`` and gains
    ``coef · loss`` in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, log_prob: th.Tensor, weight: float, loss: th.Tensor | None, coef: float) -> th.Tensor:
        ctx.weight, ctx.coef = weight, coef
        return log_prob.view_as(log_prob)

    @staticmethod
    def backward(ctx: Any, grad: th.Tensor) -> tuple[th.Tensor | None, None, th.Tensor | None, None]:  # type: ignore[override]
        weighed = grad * ctx.weight if ctx.needs_input_grad[0] else None
        return weighed, None, grad.new_tensor(ctx.coef) if ctx.needs_input_grad[2] else None, None


def next_states(x: th.Tensor, n: int, n_envs: int, truncated: list[tuple[int, int, Any]]) -> th.Tensor:
    """
    Shift what is known of states by one step.

    :param x: about s_1 … s_{T+1}, then about the states at which time limits cut episodes, in rows: n + n_envs + k
    :param n: T · n_envs
    :param n_envs: number of environments; rows of one step are neighbours
    :param truncated: the k steps and environments of the latter; k = 0 leaves truncated steps as they are
    :return: about s_{t+1} of each of the n steps; of a step that ended an episode without a time limit, about the first
        state of the next episode, which is to be masked
    """
    x_tp1 = x[n_envs : n + n_envs].clone()
    for k, (step, i, _) in enumerate(truncated):
        x_tp1[step * n_envs + i] = x[n + n_envs + k]
    return x_tp1


def check_loss(loss: float, update: int, num_timesteps: int) -> float:
    """
    :param loss: ℓ, mean over a minibatch
    :param update: the minibatch's number since the rollout
    :param num_timesteps: for the message
    :return: the loss
    :raises ValueError: if it is not finite, before it reaches the optimiser
    """
    if not np.isfinite(loss):
        raise ValueError(
            f"The distillation loss is {loss} in update {update + 1} after {num_timesteps} steps: "
            "lower learning_rate or loss_coef."
        )
    return loss


def _sees_images(env: Any) -> bool:
    space = getattr(env, "observation_space", None)
    return space is not None and is_image_space(space)


def _of_sb3(settings: dict[str, Any]) -> dict[str, Any]:
    """Those of the defaults that are arguments of SB3's algorithm."""
    return {name: value for name, value in settings.items() if name not in ("reward_coef", "averaging")}


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


def in_few_calls(optimizer: th.optim.Optimizer) -> None:
    """:param optimizer: from now on it updates all parameters at once, if its kind can: the same arithmetic to the bit"""
    for group in optimizer.param_groups:
        if group.get("foreach", False) is None:
            group["foreach"] = True
