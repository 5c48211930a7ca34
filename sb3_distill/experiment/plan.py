"""What is planned: the settings of an experiment, checked before its teacher is asked anything, and what they are made into."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.agents.find import find_agent
from sb3_distill.agents.load import load_teacher
from sb3_distill.agents.own_source import try_in
from sb3_distill.agents.run_settings import environment_config
from sb3_distill.agents.training import Training
from sb3_distill.agents.training_envs import environment_of, training_in
from sb3_distill.algorithms.coefficients import COEFFICIENTS
from sb3_distill.algorithms.distillation import Distillation
from sb3_distill.algorithms.maskable_ppo import DistillMaskablePPO
from sb3_distill.algorithms.schedules import described_schedule, schedule_of
from sb3_distill.common.env_ids import check_env_id
from sb3_distill.common.folders import check_folder
from sb3_distill.common.layers import innermost
from sb3_distill.common.spaces import check_spaces
from sb3_distill.experiment import offline
from sb3_distill.experiment.settings import ROW_OPTIONS, Settings
from sb3_distill.experiment.student_obs import sight
from sb3_distill.memory.check import check_arguments
from sb3_distill.memory.fingerprint import memory_fingerprint
from sb3_distill.rules.temperature import check_softness
from sb3_distill.students.features import min_atar_student
from sb3_distill.students.nature_cnn import student_arch
from sb3_distill.teachers.fingerprint import fingerprint_of
from sb3_distill.teachers.teacher import Teacher
from sb3_distill.teachers.view import Wrap

if TYPE_CHECKING:
    from sb3_distill.algorithms.policy_distillation import PolicyDistillation


class Plan(NamedTuple):
    """What is known of an experiment before its teacher is asked anything.

    :param settings: of the experiment
    :param described: the settings, with the method's own values for those that were left out, for JSON
    :param environment: what the environments are made with, for JSON
    :param build: makes the student from its teacher
    :param make_env: makes n environments to play in, as the student sees them
    :param device: of student and teacher
    :param seen: the observation and the action space of the environments, as the teacher reads them
    :param make_teacher_env: makes n environments for the teacher and for random play
    :param teacher_obs: what the teacher sees of the student's environment, where that is something else
    """

    settings: Settings
    described: dict[str, Any]
    environment: dict[str, Any]
    build: "Callable[..., Distillation | PolicyDistillation]"
    make_env: Callable[[int], VecEnv]
    device: str
    seen: tuple[spaces.Space, spaces.Space]
    make_teacher_env: Callable[[int], VecEnv]
    teacher_obs: Wrap | None = None


def prepare(settings: Settings, verbose: int = 0) -> Plan:
    """
    Check all that can be checked before the teacher is asked anything, cheapest first.

    :param settings: of the experiment
    :param verbose: of SB3
    :return: the plan
    :raises ValueError: for what does not exist or does not go together; also OSError and ImportError
    """
    check_values(settings)
    agent = find_agent(settings.teacher)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they come when the teacher is loaded for its work
        teacher = load_teacher(
            settings.teacher, env_id=settings.env_id, tune=False, device="cpu", noise=settings.noise or 0.0
        )
    trained = training_in(agent, settings.env_id)
    if settings.env_kwargs:
        trained = trained._replace(env_kwargs={**trained.env_kwargs, **settings.env_kwargs})
    read, teacher_obs = trained, None
    if settings.student_obs is not None:
        trained, read, teacher_obs = sight(trained, settings.student_obs, teacher, remembers(settings))
    env = trained.make_monitored(settings.n_envs, settings.seed)
    seen = (env if teacher_obs is None else teacher_obs(innermost(env))).observation_space, env.action_space
    try_in(teacher, read.make_vec_env)
    teacher.meet(*seen)
    check_spaces(
        settings.teacher,
        teacher.observation_space,
        teacher.action_space,
        *seen,
        lambda: (environment_of(agent), settings.env_id),
    )

    policy = policy_for(env.observation_space, remembers(settings))
    network = network_for(settings, env.observation_space)
    images = policy.startswith("Cnn")
    if settings.threads or not images:
        th.set_num_threads(settings.threads or 1)
    device = settings.device or ("auto" if images else "cpu")
    build = partial(
        student_class(settings),
        policy,
        env,
        policy_kwargs=network,
        seed=settings.seed,
        device=device,
        verbose=verbose,
        tensorboard_log=settings.tensorboard_log,
        **({} if teacher_obs is None else {"teacher_obs": teacher_obs}),
    )
    # A student without a teacher takes no time and checks the rest, before the teacher's temperature takes some.
    student = build(teacher=None, verbose=0)
    if isinstance(student, Distillation):
        student.check_values_of(teacher)
    if isinstance(student, DistillMaskablePPO):
        student.check_hands_out_masks(env)
    if not isinstance(student, Distillation) and student.memory is not None:
        check_arguments(student.memory.about, trained.env_kwargs, f"The memory {settings.memory}")
    described = describe_settings(settings, read.env_kwargs, student) | fingerprints(teacher, student)
    make_env, make_teacher_env = (partial(second_copy, where) for where in (trained, read))
    environment = environment_config(trained)
    return Plan(settings, described, environment, build, make_env, device, seen, make_teacher_env, teacher_obs)


def check_values(settings: Settings) -> None:
    """
    :param settings: of the experiment
    :raises ValueError: for what does not exist, without a file being read; also ImportError
    """
    check_env_id(settings.env_id)
    if settings.noise and settings.offline:
        raise ValueError(
            f"noise={settings.noise:g} is of the teachers of rows: a policy distillation's plays with epsilon={settings.noise:g}."
        )
    if settings.then_rl and settings.offline:
        raise ValueError(
            f"then_rl={settings.then_rl} goes on from a student that has played and has a critic, and policy distillation's has neither: "
            "take a row of the table, or in Python sb3_distill.then_rl of a student='ppo'."
        )
    if settings.size:
        student_arch(settings.size)
    if settings.student_obs is not None and settings.memory is not None:
        raise ValueError(
            f"student_obs={settings.student_obs!r} is seen while the teacher plays, and memory=… has what it saw itself: leave one out."
        )
    softness = None if settings.temperature == "auto" else float(settings.temperature)
    check_softness(softness, settings.epsilon or 0.0)
    check_device(settings.device)
    check_tensorboard(settings.tensorboard_log)


def second_copy(trained: Training, n_envs: int) -> VecEnv:
    """
    :param trained: where the student is trained, in environments of its own
    :param n_envs: how many more
    :return: they, to play in
    :raises ValueError: if they cannot be made
    """
    try:
        return trained.make_vec_env(n_envs)
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise ValueError(
            f"{reason}. These {n_envs} are to evaluate in, beside those of the training: if there can be only one, distil in Python, "
            "where DistillPPO and learn() make no second one."
        ) from error


def student_class(settings: Settings) -> "Callable[..., Distillation | PolicyDistillation]":
    """
    :param settings: of the experiment
    :return: makes the student from what all methods have: policy, environment, ``teacher`` …
    """
    from sb3_distill.algorithms.engines import ENGINES

    rate = {} if settings.learning_rate is None else {"learning_rate": settings.learning_rate}
    if settings.offline:
        return partial(offline.student_class(settings), **rate)
    options = {name: getattr(settings, name) for name in ROW_OPTIONS}
    options = rate | {name: value for name, value in options.items() if value is not None}
    return partial(ENGINES[settings.engine].algorithm, method=settings.method, **options)


def remembers(settings: Settings) -> bool:
    """
    :param settings: of the experiment
    :return: whether its students have an LSTM
    """
    from sb3_distill.algorithms.engines import ENGINES

    return settings.engine in ENGINES and ENGINES[settings.engine].algorithm.remembers


def policy_for(space: spaces.Space, with_memory: bool = False) -> str:
    """
    :param space: of the observations
    :param with_memory: whether the policy has an LSTM
    :return: SB3's name for the policy that reads them, or sb3-contrib's
    """
    kind = "Cnn" if is_image_space(space) else "Mlp"
    return f"{'MultiInput' if isinstance(space, spaces.Dict) else kind}{'Lstm' if with_memory else ''}Policy"


def network_for(settings: Settings, space: spaces.Space) -> dict[str, Any]:
    """
    :param settings: of the experiment
    :param space: of the observations
    :return: ``policy_kwargs`` of the student
    :raises ValueError: for ``size`` where there are no images
    """
    if not settings.size:
        arch = list(settings.net_arch)
        # As wide as its first layer; sb3-contrib's own 256 would be most of a small student.
        return {"net_arch": arch} | ({"lstm_hidden_size": arch[0]} if remembers(settings) and arch else {})
    if remembers(settings):
        raise ValueError(
            f"size={settings.size!r} is of networks without a memory: with engine={settings.engine!r}, give net_arch=…."
        )
    if len(space.shape or ()) != 3:
        raise ValueError(f"size=… is for images, and {settings.env_id} shows {space}: use net_arch=….")
    # What has rows and columns and is no image to SB3 is a board, such as MinAtar's.
    return student_arch(settings.size) if is_image_space(space) else min_atar_student(settings.size)


def check_device(device: str | None) -> None:
    """
    :param device: that was asked for
    :raises ValueError: if PyTorch does not have it: SB3 would take the CPU without a word
    """
    if device in (None, "auto"):
        return
    try:
        th.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"The device {device!r} cannot be used here: {reason}. Choose cpu, or auto.") from error


def check_tensorboard(folder: str | None) -> None:
    """
    :param folder: for TensorBoard, if any
    :raises ValueError: if it cannot be one
    :raises ImportError: if there is one and TensorBoard is not installed
    """
    if folder is None:
        return
    check_folder(Path(folder), "choose another with tensorboard_log=…")
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise ImportError("tensorboard_log=… needs TensorBoard: pip install tensorboard.") from error


def describe_settings(
    settings: Settings, env_kwargs: Mapping[str, Any], student: "Distillation | PolicyDistillation"
) -> dict[str, Any]:
    """
    :param settings: of the experiment
    :param env_kwargs: of the environments, those of the teacher's training among them
    :param student: made from them
    :return: those that the method has, with its own values for those that were left out
    """
    foreign = offline.OPTIONS if isinstance(student, Distillation) else ROW_OPTIONS
    given = {name: value for name, value in asdict(settings).items() if name not in foreign}
    for name in ("then_rl", "noise", "student_obs"):
        if given[name] is None:
            del given[name]  # as older runs have it
    given |= {"net_arch": list(settings.net_arch), "env_kwargs": dict(env_kwargs)}
    if not isinstance(student, Distillation):
        return given | offline.settings(student)
    own = {name: getattr(student, name) for name in ROW_OPTIONS}
    own["gamma"] = student.gamma if student.gamma_schedule is None else student.gamma_schedule
    return given | {name: _at_first(name, value) for name, value in own.items()}


def _at_first(name: str, value: Any) -> Any:
    """An option as JSON has it: a coefficient is a schedule by then, and what older runs say nothing of is as they had it."""
    if name in COEFFICIENTS or (name == "gamma" and callable(value)):
        return described_schedule(schedule_of(name, value))
    return None if name == "beta_per" and value == "step" else value


def fingerprints(teacher: Teacher, student: "Distillation | PolicyDistillation") -> dict[str, str]:
    """
    :param teacher: of the experiment
    :param student: made for it
    :return: what tells the teacher, and the student's memory if it reads one, from others that may come to lie under the same names
    """
    known = {"teacher_fingerprint": fingerprint_of(teacher)}
    memory = getattr(student, "memory", None)
    if memory is not None:
        known["memory_fingerprint"] = memory_fingerprint(memory)
    return known
