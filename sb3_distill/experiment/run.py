"""One distillation from settings to files: the student is trained, saved as it learns, and compared with its teacher.

What was stopped, killed, or out of disk space goes on from its last checkpoint, when the same settings meet the same folder. The
part that goes on begins new episodes, because environments cannot be saved in general, so it ends with other weights than a run in
one piece; nothing else is lost but the rollouts since the checkpoint.
"""

import platform
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.agents.find import find_agent
from sb3_distill.agents.load import load_teacher
from sb3_distill.agents.run_settings import environment_config
from sb3_distill.agents.training import Training
from sb3_distill.agents.training_envs import environment_of, training_in
from sb3_distill.agents.tuned_teacher import load_teacher_for
from sb3_distill.algorithms.coefficients import COEFFICIENTS
from sb3_distill.algorithms.distillation import Distillation
from sb3_distill.common.env_ids import check_env_id
from sb3_distill.common.files import replacing, write_csv, write_figure, write_json
from sb3_distill.common.interrupts import Postponed
from sb3_distill.common.phases import phase
from sb3_distill.common.spaces import check_spaces
from sb3_distill.common.user_code import users_frame
from sb3_distill.evaluation import learning_curves, scores
from sb3_distill.evaluation.episodes import EVALUATION_SEED, greedy, play_episodes, random_play
from sb3_distill.evaluation.learning_curves import LearningCurve
from sb3_distill.evaluation.scores import Player, Score
from sb3_distill.experiment import offline
from sb3_distill.experiment.advice import advice
from sb3_distill.experiment.checkpoints import (
    check_state,
    read_checkpoint,
    restore_mean,
    restore_student,
    student_state,
    write_checkpoint,
)
from sb3_distill.experiment.comparison import Likeness, Share, likeness, share_of_teacher
from sb3_distill.experiment.progress import ProgressLine
from sb3_distill.experiment.run_folder import FINGERPRINTS, RESULTS, STUDENT, RunFolder
from sb3_distill.experiment.settings import ROW_OPTIONS, Settings
from sb3_distill.memory.check import check_arguments
from sb3_distill.memory.fingerprint import fingerprint_of, memory_fingerprint
from sb3_distill.rules.temperature import check_softness
from sb3_distill.students.features import min_atar_student
from sb3_distill.students.nature_cnn import student_arch
from sb3_distill.teachers.q_network import QTeacher
from sb3_distill.teachers.teacher import Teacher, actor_size

if TYPE_CHECKING:
    from sb3_distill.algorithms.policy_distillation import PolicyDistillation

#: learning-curve points after the first
CURVE_POINTS = 16
#: episodes of a point, if the comparison in the end does not have fewer
CURVE_EPISODES = 20
#: seconds that evaluations may take more than the training has, before points wait: an environment may be slow
CURVE_SECONDS = 10.0
#: All evaluations of a curve together, over all their environments: one without a time limit must not stop a run for good. A
#: twentieth of it would do for Atari's games, which take some thousand steps each.
CURVE_STEPS = 2_000_000
#: an episode of the comparison is cut then, if the environment has no longer time limit of its own
MAX_EPISODE_STEPS = 10_000
#: on which student and teacher are compared
COMPARED_STATES = 2_000
#: from one checkpoint to the next, not counting the rollout that it waits for: what a killed run loses
CHECKPOINT_SECONDS = 20.0
#: whose versions results depend on
PACKAGES = ("sb3-distill", "stable-baselines3", "sb3-contrib", "gymnasium", "torch", "numpy")


class Plan(NamedTuple):
    """What is known of an experiment before its teacher is asked anything.

    :param settings: of the experiment
    :param described: the settings, with the method's own values for those that were left out, for JSON
    :param environment: what the environments are made with, for JSON
    :param build: makes the student from its teacher
    :param make_env: makes n environments to play in
    :param device: of student and teacher
    """

    settings: Settings
    described: dict[str, Any]
    environment: dict[str, Any]
    build: "Callable[..., Distillation | PolicyDistillation]"
    make_env: Callable[[int], VecEnv]
    device: str


class Outcome(NamedTuple):
    """What came of an experiment.

    :param data: as ``results.json`` has it
    :param players: teacher, student and random play
    :param lines: how far the student has come, in words
    """

    data: dict[str, Any]
    players: list[Player]
    lines: list[str]


# --- before anything is loaded ----------------------------------------------------------------------------------------


def prepare(settings: Settings, verbose: int = 0) -> Plan:
    """
    Check all that can be checked before the teacher is asked anything, cheapest first.

    :param settings: of the experiment
    :param verbose: of SB3
    :return: the plan
    :raises ValueError: for what does not exist or does not go together; also OSError and ImportError
    """
    check_env_id(settings.env_id)
    if settings.size:
        student_arch(settings.size)
    softness = None if settings.temperature == "auto" else float(settings.temperature)
    check_softness(softness, settings.epsilon or 0.0)
    check_device(settings.device)
    check_tensorboard(settings.tensorboard_log)
    agent = find_agent(settings.teacher)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they come when the teacher is loaded for its work
        teacher = load_teacher(settings.teacher, env_id=settings.env_id, tune=False, device="cpu")
    trained = training_in(agent, settings.env_id)
    if settings.env_kwargs:
        trained = trained._replace(env_kwargs={**trained.env_kwargs, **settings.env_kwargs})
    env = trained.make_monitored(settings.n_envs, settings.seed)
    check_spaces(
        settings.teacher,
        teacher.observation_space,
        teacher.action_space,
        env.observation_space,
        env.action_space,
        lambda: (environment_of(agent), settings.env_id),
    )

    policy = policy_for(env.observation_space)
    images = policy == "CnnPolicy"
    # What has rows and columns and is no image to SB3 is a board, such as MinAtar's.
    sized = student_arch if images else min_atar_student
    if settings.size and len(env.observation_space.shape or ()) != 3:
        raise ValueError(f"size=… is for images, and {settings.env_id} shows {env.observation_space}: use net_arch=….")
    if settings.threads or not images:
        th.set_num_threads(settings.threads or 1)
    device = settings.device or ("auto" if images else "cpu")
    network = sized(settings.size) if settings.size else {"net_arch": list(settings.net_arch)}
    build = partial(
        student_class(settings),
        policy,
        env,
        policy_kwargs=network,
        seed=settings.seed,
        device=device,
        verbose=verbose,
        tensorboard_log=settings.tensorboard_log,
    )
    # A student without a teacher takes no time and checks the rest, before the teacher's temperature takes some.
    student = build(teacher=None, verbose=0)
    if not isinstance(student, Distillation) and student.memory is not None:
        check_arguments(student.memory.about, trained.env_kwargs, f"The memory {settings.memory}")
    described = describe_settings(settings, trained.env_kwargs, student) | fingerprints(teacher, student)
    return Plan(settings, described, environment_config(trained), build, partial(second_copy, trained), device)


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


def policy_for(space: spaces.Space) -> str:
    """
    :param space: of the observations
    :return: SB3's name for the policy that reads them
    """
    if isinstance(space, spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if is_image_space(space) else "MlpPolicy"


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
    :raises ImportError: if there is one and TensorBoard is not installed
    """
    if folder is None:
        return
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
    given |= {"net_arch": list(settings.net_arch), "env_kwargs": dict(env_kwargs)}
    if not isinstance(student, Distillation):
        return given | offline.settings(student)
    return given | {name: _at_first(name, getattr(student, name)) for name in ROW_OPTIONS}


def _at_first(name: str, value: Any) -> Any:
    """An option as it is at the beginning of a run: a coefficient is a schedule by then."""
    return value(1.0) if name in COEFFICIENTS else value


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


# --- the run ----------------------------------------------------------------------------------------------------------


class Experiment:
    """
    A teacher and its student, at the beginning or where the last part has left them.

    :param plan: what to do
    :param folder: where the files go
    :param quiet: whether nothing is said about phases
    :raises ValueError: for a teacher that does not fit, and a damaged checkpoint
    """

    def __init__(self, plan: Plan, folder: RunFolder, quiet: bool = False) -> None:
        self.plan, self.folder, self.quiet = plan, folder, quiet
        self._take_up()

    def _take_up(self) -> None:
        folder = self.folder
        self._version = folder.version()
        self.state = (
            None if self._version is None else check_state(read_checkpoint(folder.checkpoint), folder.checkpoint)
        )
        with phase("loading the teacher and seeing how it plays", self.quiet):
            self.teacher = self._find_teacher()
        self._check_teacher()
        self.student = self.plan.build(teacher=self.teacher)
        if self.state is not None:
            restore_student(self.student, self.state["student"], folder.checkpoint)

    def catch_up(self) -> None:
        """Go on from what another process has learnt here since, if any has: for the beginning of the work in the folder."""
        if self.folder.version() != self._version:
            self._take_up()

    def _check_teacher(self) -> None:
        """The file may be another since the checkpoint, or since the settings were looked at."""
        before = self.plan.described["teacher_fingerprint"]
        if self.state is not None:
            before = self.state.get("teacher", before)  # old ones do not know it
        self._fingerprint = fingerprint_of(self.teacher)
        if before != self._fingerprint:
            raise ValueError(
                f"{self.folder.path} was begun with another teacher under the name {self.plan.settings.teacher} (fingerprint "
                f"{str(before)[:8]}…, not {self._fingerprint[:8]}…): choose another folder with out=…, or add overwrite=True."
            )

    @property
    def steps_before(self) -> int:
        """What earlier parts have learnt from."""
        return 0 if self.state is None else self.student.num_timesteps

    def _find_teacher(self) -> Teacher:
        settings = self.plan.settings
        load = partial(load_teacher_for, settings.teacher, settings.env_id, self.plan.make_env, device=self.plan.device)
        if settings.offline:
            return load(tune=False)
        known = None if self.state is None else self.state["temperature"]
        if known is None:
            return load(temperature=settings.temperature, epsilon=settings.epsilon)
        # It was chosen in the first part.
        teacher = load(temperature=known[0], epsilon=settings.epsilon)
        assert isinstance(teacher, QTeacher)
        teacher.temperature_report = known[1]
        return teacher

    def run(self) -> Outcome:
        """
        Train the student, compare it with its teacher, write the files. The folder is the caller's to lock.

        :return: what came of it
        :raises OSError: if the disk is full; the last checkpoint stays
        :raises KeyboardInterrupt: after Ctrl-C, when what was learnt is on disk; its message says where the run goes on
        """
        self.catch_up()
        keeper = self._keeper()
        try:
            self._train(keeper)
            try:
                with replacing(self.folder.path / STUDENT) as temporary:  # before anything else can go wrong
                    self.student.save(temporary)
                outcome = self._compare(keeper)
                self._write(keeper, outcome)
            except OSError as error:
                if users_frame(error) is not None:
                    raise
                raise type(error)(
                    f"{error}. {keeper.kept_words()}: when that is mended, the same command goes on from there."
                ) from error
        except KeyboardInterrupt as stop:
            stop.args = (f"{keeper.kept_words()}, and the same command goes on from there",) if keeper.kept else ()
            raise
        self.folder.clean()
        return outcome

    def _keeper(self) -> "Keeper":
        settings = self.plan.settings
        keeper = Keeper(
            self._write_checkpoint,
            self.plan.make_env,
            max(1, settings.steps // CURVE_POINTS),
            min(CURVE_EPISODES, settings.eval_episodes),
            max_steps=episode_limit(settings.env_id),
            total_steps=CURVE_STEPS,
        )
        if self.state is not None:
            keeper.take_up(self.state)
        return keeper

    def _write_checkpoint(self, about: dict[str, Any]) -> None:
        temperature = None
        if isinstance(self.teacher, QTeacher) and self.teacher.temperature is not None:
            temperature = (self.teacher.temperature, self.teacher.temperature_report)
        state = {
            "student": student_state(self.student),
            "temperature": temperature,
            "teacher": self._fingerprint,
            **about,
        }
        write_checkpoint(self.folder.checkpoint, state)

    def _train(self, keeper: "Keeper") -> None:
        settings, student = self.plan.settings, self.student
        text = f"training for {settings.steps:,} {'minibatches' if settings.memory else 'steps'}"
        begun = self.state is not None
        # learn() counts from where the student is, and so does the progress that its schedules go by.
        left = max(0, settings.steps - student.num_timesteps) if begun else settings.steps
        said = self.quiet or student.verbose > 0
        with ProgressLine(text, settings.steps, said) as line, Postponed() as postponed:
            keeper.line, keeper.postponed = line, postponed
            student.learn(
                left, callback=[line, keeper], tb_log_name=self.folder.path.name, reset_num_timesteps=not begun
            )

    def _compare(self, keeper: "Keeper") -> Outcome:
        settings, teacher, student = self.plan.settings, self.teacher, self.student

        def play(
            name: str,
            act: Callable[[Any], np.ndarray],
            *about: Any,
            view: Callable[[VecEnv], VecEnv] = lambda env: env,
        ) -> Player:
            n, limit = settings.eval_episodes, episode_limit(settings.env_id)
            with phase(f"{n} episodes of {name}", self.quiet):
                episodes = play_episodes(act, lambda n: view(self.plan.make_env(n)), n, EVALUATION_SEED, limit)
            return Player(name, episodes.returns, *about)._replace(n_cut=episodes.n_cut)

        steps = None if settings.memory else student.num_timesteps  # those of a memory were taken before
        about = (actor_size(student.policy), steps, keeper.training_seconds)
        players = [
            play("teacher", teacher.act, teacher.n_parameters, view=teacher.view),
            play("student", greedy(student.predict), *about),
            play("random play", random_play(student.action_space, settings.eval_episodes)),
        ]
        share = share_of_teacher(*(player.returns for player in players))
        with phase("teacher and student on the student's states", self.quiet):
            alike = self._likeness()
        temperature = teacher.temperature if isinstance(teacher, QTeacher) and not settings.offline else None
        means = [score.mean for _, score in keeper.points]
        next_try = advice(share, alike, self.plan.described, temperature, means)
        data = {
            # These can be typed, the fingerprints cannot.
            "settings": {name: value for name, value in self.plan.described.items() if name not in FINGERPRINTS},
            "fingerprints": {name: value for name, value in self.plan.described.items() if name in FINGERPRINTS},
            "environment": self.plan.environment,
            "teacher": about_teacher(teacher, settings),
            "players": scores.result_data(players),
            "comparison": comparison_data(share, alike, next_try),
            "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        }
        return Outcome(data, players, comparison_lines(share, alike, next_try))

    def _likeness(self) -> Likeness:
        env = self.plan.make_env(min(8, self.plan.settings.eval_episodes))
        try:
            env.seed(EVALUATION_SEED)
            return likeness(self.student, self.teacher, env, COMPARED_STATES)
        except Exception as error:
            # Whatever an environment does not like: the student is trained, and this alone is missing.
            warnings.warn(f"How alike teacher and student act could not be measured: {type(error).__name__}: {error}")
            return Likeness(0, None, None, None)
        finally:
            env.close()

    def _write(self, keeper: "Keeper", outcome: Outcome) -> None:
        write_curve(self.folder.path, self.plan.settings, keeper, outcome.players)
        write_json(self.folder.path / RESULTS, outcome.data)  # last: the run is finished when it is there


class Keeper(LearningCurve):
    """
    A learning curve that also writes checkpoints, and lets a signal wait until what was learnt is in one.

    :param write: a checkpoint; what it is given goes into it
    :param args: of :class:`~sb3_distill.evaluation.learning_curves.LearningCurve`, as ``kwargs``
    """

    line: ProgressLine
    postponed: Postponed

    def __init__(self, write: Callable[[dict[str, Any]], None], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._write = write
        #: steps in the last checkpoint, and points of the curve in it
        self.kept: tuple[int, int] | None = None
        self._mean_of: Mapping[str, Any] | None = None
        self._written = self._started = time.monotonic()
        self._seconds_before = 0.0
        self._evaluating_before = 0.0
        self._problem: OSError | None = None

    def take_up(self, state: Mapping[str, Any]) -> None:
        """
        :param state: what :meth:`save` has written
        """
        self.points = [(steps, Score(*score)) for steps, score in state["points"]]
        self.seconds = self._evaluating_before = state["evaluation_seconds"]
        self.steps_made = state["evaluation_steps"]
        self._seconds_before = state["training_seconds"]
        self._mean_of = state["student"]
        self.kept = (state["student"]["counters"]["num_timesteps"], len(self.points))

    @property
    def training_seconds(self) -> float:
        """Of all parts, without evaluations, and without what was lost."""
        return self._trained_until(self._ended)

    def _trained_until(self, now: float) -> float:
        return self._seconds_before + now - self._started - (self.seconds - self._evaluating_before)

    def _has_time(self) -> bool:
        return not self.points or self.seconds <= self._trained_until(time.monotonic()) + CURVE_SECONDS

    def kept_words(self) -> str:
        """What is on disk, for messages."""
        steps = 0 if self.kept is None else self.kept[0]
        return f"{steps:,} {'minibatches' if self._reads else 'steps'} are saved"

    @property
    def _reads(self) -> bool:
        """Whether a memory is learnt from, and nothing is played: then every step is an update."""
        return getattr(self.model, "memory", None) is not None

    def save(self) -> None:
        """Write a checkpoint, if there is anything new. A full disk is a warning: the training goes on, and tries again later."""
        self._ended = time.monotonic()
        now = (self.model.num_timesteps, len(self.points))
        if self.kept == now:
            return
        try:
            self._write(
                {
                    "points": self.points,
                    "evaluation_seconds": self.seconds,
                    "evaluation_steps": self.steps_made,
                    "training_seconds": self.training_seconds,
                }
            )
            self.kept, self._problem = now, None
        except OSError as error:
            if self._problem is None:
                warnings.warn(
                    f"No checkpoint after {now[0]:,} steps: {error}. Training goes on; {self.kept_words()}, and what comes "
                    "after them would be lost with the process."
                )
            self._problem = error
        self._written = time.monotonic()

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self._started = self._ended = self._written = time.monotonic()
        if self._mean_of is not None:
            restore_mean(self.model, self._mean_of)  # type: ignore[arg-type]

    def _on_rollout_start(self) -> None:
        # Here all that was played is learnt from, and nothing new is played yet.
        self._began = self.model.num_timesteps
        if self.postponed.asked:
            self.save()
            self.postponed.act_if_asked()
        if time.monotonic() - self._written > CHECKPOINT_SECONDS:
            self.save()
        super()._on_rollout_start()

    def _on_step(self) -> bool:
        if self.postponed.late:
            played = self.model.num_timesteps
            if not self._reads:  # nothing was learnt since the rollout began: it is played once more
                self.model.num_timesteps = self._began
            self.save()
            self.model.num_timesteps = played
            self.postponed.act_if_asked()
        return super()._on_step()

    def _on_training_end(self) -> None:
        self.save()
        if not self.points or self.points[-1][0] < self.model.num_timesteps:
            super()._on_training_end()

    def _evaluate(self) -> None:
        try:
            with self.line.doing(f"{self.n_episodes} episodes"), self.postponed.at_once():
                super()._evaluate()
        finally:
            self.save()


# --- what is told -----------------------------------------------------------------------------------------------------


def about_teacher(teacher: Teacher, settings: Settings) -> dict[str, Any]:
    """
    :param teacher: loaded
    :param settings: of the experiment
    :return: its name and size and, of a Q-network, how its policy is made, if the method learns from that
    """
    about: dict[str, Any] = {"name": teacher.name, "parameters": teacher.n_parameters}
    if isinstance(teacher, QTeacher) and not settings.offline:
        about |= {
            "temperature": teacher.temperature,
            "temperature_report": teacher.temperature_report,
            "epsilon": teacher.epsilon,
        }
    return about


def episode_limit(env_id: str) -> int:
    """
    :param env_id: a Gymnasium id
    :return: after how many steps an episode is cut
    """
    spec = gym.registry.get(env_id)
    return max(MAX_EPISODE_STEPS, getattr(spec, "max_episode_steps", None) or 0)


def comparison_data(share: Share | None, alike: Likeness, next_try: str | None) -> dict[str, Any]:
    """
    :param share: of the teacher's return; None if it is not better than random play
    :param alike: how alike the two act
    :param next_try: what :func:`~sb3_distill.experiment.advice.advice` says
    :return: for ``results.json``
    """
    return {
        "share_of_teacher": None if share is None else share.mean,
        "standard_error": None if share is None else share.standard_error,
        **alike._asdict(),
        "advice": next_try,
    }


def comparison_lines(share: Share | None, alike: Likeness, next_try: str | None) -> list[str]:
    """
    :param share: as for :func:`comparison_data`, as the others
    :return: the same in words
    """
    if share is None:
        lines = ["The teacher is not better than random play here, so that there is no share of its return to tell."]
    else:
        lines = [
            f"The student has {share.mean:.1%} ± {share.standard_error:.1%} of the teacher's return over random play."
        ]
    parts = []
    if alike.agreement is not None:
        parts.append(f"the same greedy action in {alike.agreement:.1%}")
    if alike.mean_distance is not None:
        parts.append(f"greedy actions {alike.mean_distance:.3g} apart")
    if alike.kl is not None:
        parts.append(f"KL(π‖π_θ) {alike.kl:.3g}")
    if parts:
        lines.append(f"On {alike.n_states:,} states of the student's play: {', '.join(parts)}.")
    if next_try is not None:
        lines.append(f"Below 95%: {next_try}.")
    return lines


def write_curve(out: Path, settings: Settings, curve: LearningCurve, players: list[Player]) -> None:
    """
    Write ``learning_curve.csv`` and draw it as ``learning_curve.png``.

    :param out: a folder
    :param settings: of the experiment
    :param curve: of the student
    :param players: of whom the student has a curve, and the others a horizontal line each
    """
    unit = "minibatches" if settings.memory else "environment steps"
    write_csv(
        out / "learning_curve.csv",
        [unit.replace(" ", "_"), "mean_return", "standard_error", "n_episodes", "episodes_cut"],
        [(steps, *point) for steps, point in curve.points],
    )
    names = {p.name: f"{p.name}, {p.parameters:,} parameters" if p.parameters else p.name for p in players}
    levels = [learning_curves.Level(names[p.name], scores.score(p.returns)) for p in players if p.name != "student"]
    note = f"mean ± standard error of {curve.n_episodes} episodes (student) or {settings.eval_episodes} (teacher, random play)"
    figure = learning_curves.draw_learning_curves([curve.curve(names["student"])], levels, settings.title, note)
    figure.axes[0].set_xlabel(unit)
    write_figure(out / "learning_curve.png", figure)
