"""The steps of a recording: what is on disk is played again, what is not is played by the teacher."""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from stable_baselines3.common import callbacks
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.common.observations import check_finite, copy_obs, observation_of
from sb3_distill.common.questions import as_dones, as_rewards, is_truncated
from sb3_distill.common.spaces import any_action
from sb3_distill.memory.answers import answers_of, greedy_actions
from sb3_distill.memory.episode import Episode, read_played
from sb3_distill.memory.folder import Recorded, Writer, opened
from sb3_distill.memory.played_before import Replay
from sb3_distill.memory.running import Running
from sb3_distill.rules.distributions import unvalidated
from sb3_distill.teachers.teacher import Teacher
from sb3_distill.teachers.view import TeacherView


class Recording:
    """
    One run of :func:`~sb3_distill.memory.recorder.record`.

    :param teacher: who plays
    :param env: whose observations the teacher reads; seeded and reset
    :param obs: what the reset returned
    :param recorded: what is on disk
    :param writer: writes what is not
    """

    def __init__(self, teacher: Teacher, env: VecEnv, obs: Any, recorded: Recorded, writer: Writer) -> None:
        self.teacher = teacher
        self.env = env
        self.about = recorded.settings.about
        self.epsilon = recorded.settings.epsilon
        self.writer = writer
        self._obs = obs
        # A teacher that remembers the episode reads what it has made of it.
        self._view = TeacherView(env, teacher.view) if teacher.reads_a_view else None
        self._seen = obs if self._view is None else self._view.reset(obs)
        self._dice = np.random.default_rng(recorded.settings.seed)
        self._any_action = copy.deepcopy(env.action_space)
        self._any_action.seed(recorded.settings.seed)
        self._replays = [Replay(self.about, played) for played in _played(recorded)]
        self._n_episodes = [replay.n_episodes for replay in self._replays]
        self._running: dict[int, Running] = {}
        #: how many episodes ended here, and how many of them in a state that the environment does not tell
        self.n_ends, self.n_unknown = 0, 0

    def play(self, n_steps: int, progress_bar: bool) -> None:
        """
        :param n_steps: of all environments together, those on disk included
        :param progress_bar: whether to show one
        :raises ValueError: if an observation or an answer is not finite, or the environment does not repeat what is on disk
        :raises OSError: if the disk fails
        """
        n = self.env.num_envs
        quotas = [n_steps // n + (i < n_steps % n) for i in range(n)]
        check_finite(self._obs, "at the start of the recording")
        with unvalidated(), _bar(n_steps, progress_bar) as update:
            for step in range(max(quotas)):
                self._step(step, quotas)
                update(sum(step < quota for quota in quotas))
        if self.n_unknown:
            warnings.warn(
                f"{self.n_unknown} of {self.n_ends} episodes ended without a terminal_observation in their info: in the memory these "
                "ends are terminal, and the last observation stands twice. What a student learns from is not touched by it.",
                stacklevel=2,
            )

    def _step(self, step: int, quotas: list[int]) -> None:
        """One step of all environments, and what ends with it on disk."""
        replayed = [i for i, replay in enumerate(self._replays) if step < replay.n_steps]
        new = [i for i, quota in enumerate(quotas) if self._replays[i].n_steps <= step < quota]
        for i in replayed:
            self._as_before(self._replays[i].begins_as_before(step, observation_of(self._obs, i)), i, step)
        for i in new:
            if i not in self._running:
                self._running[i] = Running(self.about, i, self._n_episodes[i], observation_of(self._obs, i))
        actions, answers = self._choose(step, replayed)
        before = self._obs
        obs, raw_rewards, raw_dones, infos = self.env.step(actions)
        self._obs = copy_obs(obs)  # the environment may write the next ones over them
        check_finite(self._obs, f"after step {step + 1} of the recording")
        rewards, dones = as_rewards(raw_rewards, np.float32), as_dones(raw_dones)
        terminated = [bool(done) and not is_truncated(info) for done, info in zip(dones, infos, strict=True)]
        for i in replayed:
            as_before = self._replays[i].goes_as_before(step, rewards[i], terminated[i], bool(dones[i]))
            self._as_before(as_before, i, step)
        ended: list[Episode] = []
        for i in new:
            following = self._last(infos[i], observation_of(before, i)) if dones[i] else observation_of(self._obs, i)
            self._running[i].step(actions[i], rewards[i], answers[i], following)
            if dones[i] or step + 1 == quotas[i]:
                ended.append(self._running.pop(i).finished(step + 1, terminated[i]))
                self._n_episodes[i] += 1
        if ended:
            self.writer.add(ended)
        self._seen = self._obs if self._view is None else self._view.step(self._obs, rewards, dones, infos)[0]

    def _choose(self, step: int, replayed: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """
        Actions and answers for all environments. The dice fall in the same way whether steps are replayed or not, and the
        teacher is asked about all environments or none: in a batch of another size its answers differ in their last bits.
        """
        n, space = self.env.num_envs, self.about.action_space
        explores = np.flatnonzero(self._dice.random(n) < self.epsilon)
        if len(replayed) < n:
            answers = answers_of(self.teacher, self._seen)
            actions = greedy_actions(self.about.kind, space, answers)
        else:
            answers = np.empty((n, 0), dtype=np.float32)
            actions = np.empty((n, *(space.shape or ())), dtype=space.dtype)
        for i in explores.tolist():
            actions[i] = any_action(self._any_action)
        for i in replayed:
            actions[i] = self._replays[i].actions[step]
        return actions, answers

    def _last(self, info: dict[str, Any], before: Any) -> Any:
        """
        The observation with which an episode ended. Where the environment does not tell it, the one before stands there: no answer
        belongs to it, and the end counts as a terminal one.
        """
        last = info.get("terminal_observation")
        self.n_ends += 1
        self.n_unknown += last is None
        return before if last is None else last

    def _as_before(self, as_before: bool, env: int, step: int) -> None:
        if not as_before:
            raise ValueError(
                f"The environment does not repeat what it did when {self.writer.path} was recorded (environment {env}, step "
                f"{step + 1}), so this recording cannot go on. Is it the same environment, newly made, and does its seed decide "
                "all that happens in it? The memory can be read as it is; record to another path to have more."
            )


def _played(recorded: Recorded) -> list[list[Any]]:
    """What is on disk of each environment: its episodes, in order."""
    episodes: list[list[Any]] = [[] for _ in range(recorded.settings.n_envs)]
    for number, path in enumerate(recorded.files):
        with opened(path) as file:
            for entry in recorded.entries:
                if entry.file == number:
                    episodes[entry.env].append(read_played(file, entry, recorded.settings.about))
    return episodes


@contextmanager
def _bar(n_steps: int, shown: bool) -> Iterator[Callable[[int], Any]]:
    """SB3's progress bar, or nothing: a function that takes the number of steps since it was called last."""
    if not shown:
        yield lambda n: None
        return
    bar = callbacks.tqdm(total=n_steps)
    try:
        yield bar.update
    finally:
        bar.refresh()
        bar.close()
