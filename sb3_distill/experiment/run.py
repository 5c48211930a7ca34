"""One distillation from a plan to files: the student is trained, saved as it learns, and compared with its teacher.

What was stopped, killed, or out of disk space goes on from its last checkpoint, when the same settings meet the same folder: nothing is
lost but the rollouts since. Where its episodes can be played again up to where they were, see :mod:`~sb3_distill.experiment.replay`, it
ends with the weights of a run in one piece; else new episodes begin.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from sb3_distill.agents.tuned_teacher import load_teacher_for
from sb3_distill.common.files import replacing, write_json
from sb3_distill.common.interrupts import Postponed
from sb3_distill.common.phases import phase
from sb3_distill.common.user_code import users_frame
from sb3_distill.experiment.checkpoints import (
    check_state,
    read_checkpoint,
    restore_student,
    student_state,
    write_checkpoint,
)
from sb3_distill.experiment.keeper import Keeper
from sb3_distill.experiment.outcome import Outcome, compare, episode_limit
from sb3_distill.experiment.plan import Plan
from sb3_distill.experiment.progress import ProgressLine
from sb3_distill.experiment.replay import record_episodes
from sb3_distill.experiment.run_folder import RESULTS, STUDENT, RunFolder
from sb3_distill.experiment.telling import write_curve
from sb3_distill.experiment.then_reinforcement import DISTILLED, Reinforcement
from sb3_distill.teachers.fingerprint import fingerprint_of
from sb3_distill.teachers.q_network import QTeacher
from sb3_distill.teachers.teacher import Teacher

#: learning-curve points after the first
CURVE_POINTS = 16
#: episodes of a point, if the comparison in the end does not have fewer
CURVE_EPISODES = 20
#: All evaluations of a curve together, over all their environments: one without a time limit must not stop a run for good. A
#: twentieth of it would do for Atari's games, which take some thousand steps each.
CURVE_STEPS = 2_000_000


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
            self.teacher.meet(*self.plan.seen)
        self._check_teacher()
        self._reinforcement: Reinforcement | None = None
        #: of the last checkpoint of the distillation
        self._about = self.state
        self.student: Any = self.plan.build(teacher=self.teacher)
        if not self.plan.settings.offline:
            record_episodes(self.student.env)
        #: whether the episodes of the part before go on
        self.in_place = False
        if self.state is not None:
            self.in_place = restore_student(self.student, self.state["student"], folder.checkpoint)

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
        if self.state is None:
            return 0
        later = self.state.get("reinforcement")
        return int(self.student.num_timesteps + (later["student"]["counters"]["num_timesteps"] if later else 0))

    def _find_teacher(self) -> Teacher:
        settings = self.plan.settings
        make_env = self.plan.make_teacher_env
        load = partial(load_teacher_for, settings.teacher, settings.env_id, make_env, device=self.plan.device)
        load = partial(load, noise=settings.noise or 0.0, as_registered=not settings.env_kwargs)
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
            if self.plan.settings.then_rl:
                self._reinforce(self.plan.settings.then_rl, keeper)
            try:
                with replacing(self.folder.path / STUDENT) as temporary:  # before anything else can go wrong
                    self.trained.save(temporary)
                outcome = self._compare(keeper)
                self._write(keeper, outcome)
            except OSError as error:
                if users_frame(error) is not None:
                    raise
                raise type(error)(
                    f"{error}. {self._kept_words(keeper)}: when that is mended, the same command goes on from there."
                ) from error
        except KeyboardInterrupt as stop:
            stop.args = (f"{self._kept_words(keeper)}, and the same command goes on from there",) if keeper.kept else ()
            raise
        self.folder.clean()
        return outcome

    def _new_keeper(self, write: Callable[[dict[str, Any]], None], steps: int) -> Keeper:
        settings = self.plan.settings
        return Keeper(
            write,
            self.plan.make_env,
            max(1, steps // CURVE_POINTS),
            min(CURVE_EPISODES, settings.eval_episodes),
            max_steps=episode_limit(settings.env_id),
            total_steps=CURVE_STEPS,
        )

    def _kept_words(self, keeper: Keeper) -> str:
        later = self._reinforcement
        if later is None or later.keeper.kept is None:
            return keeper.kept_words()
        return (
            f"The distillation and {later.keeper.kept_words()} of reinforcement learning".replace(
                " are saved of", " of"
            )
            + " are saved"
        )

    @property
    def trained(self) -> Any:
        """What comes of it: the student, or the model that went on from it."""
        return self.student if self._reinforcement is None else self._reinforcement.model

    def _keeper(self) -> Keeper:
        keeper = self._new_keeper(self._write_checkpoint, self.plan.settings.steps)
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
        self._about = state
        write_checkpoint(self.folder.checkpoint, state)

    def _write_second_checkpoint(self, about: dict[str, Any]) -> None:
        assert self._about is not None
        assert self._reinforcement is not None
        write_checkpoint(self.folder.checkpoint, {**self._about, "reinforcement": self._reinforcement.state(about)})

    def _reinforce(self, steps: int, keeper: Keeper) -> None:
        with replacing(self.folder.path / DISTILLED) as temporary:
            self.student.save(temporary)
        second = self._new_keeper(self._write_second_checkpoint, steps)
        second.points = [(0, keeper.points[-1][1])]
        self._reinforcement = Reinforcement(self.student, steps, second)
        begun = None if self.state is None else self.state.get("reinforcement")
        if begun is not None:
            self._reinforcement.take_up(begun, self.folder.checkpoint)
        said = self.quiet or self.student.verbose > 0
        self._reinforcement.run(said, f"{self.folder.path.name}-rl")

    def _train(self, keeper: Keeper) -> None:
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

    def _compare(self, keeper: Keeper) -> Outcome:
        means = [score.mean for _, score in keeper.points]
        seconds, later = keeper.training_seconds, self._reinforcement
        if later is None:
            return compare(self.plan, self.teacher, self.student, seconds, means, self.quiet)
        seconds += later.keeper.training_seconds
        before = self.student.num_timesteps
        outcome = compare(self.plan, self.teacher, later.model, seconds, means, self.quiet, before)
        outcome.data["reinforcement"] = later.data()
        return outcome._replace(lines=[*outcome.lines, later.line()])

    def _write(self, keeper: Keeper, outcome: Outcome) -> None:
        later = self._reinforcement
        points = [] if later is None else later.points()
        write_curve(self.folder.path, self.plan.settings, keeper, outcome.players, points)
        write_json(self.folder.path / RESULTS, outcome.data)  # last: the run is finished when it is there
