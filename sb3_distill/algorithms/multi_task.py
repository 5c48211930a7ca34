"""Policy distillation of several teachers into one student (Rusu et al. 2015, arXiv 1511.06295, section 3.3).

Each task is a :class:`~sb3_distill.PolicyDistillation` with its own teacher, its own environment or memory, and
a policy that shares layers with the others (:mod:`~sb3_distill.students.shared_trunk`).

* Playing, the task is switched every episode: a round is one episode of each task in turn, and again until it has its steps.
* Training, it is switched every minibatch, and each minibatch is of one task. The paper switches from one task's memory to the
  next every episode; with a switch every minibatch no task is forgotten while others are trained, and each counts as much as the
  others, however long its episodes are.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import HumanOutputFormat
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, RolloutReturn, TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import check_for_correct_spaces, safe_mean, should_collect_more_steps
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.dqn.policies import DQNPolicy

from sb3_distill.algorithms.optimizers import in_few_calls
from sb3_distill.algorithms.policy_distillation import PolicyDistillation
from sb3_distill.common.env_ids import check_env_id
from sb3_distill.common.given_env import check_maker
from sb3_distill.common.nearest import nearest
from sb3_distill.evaluation.episodes import EVALUATION_SEED, episode_returns, greedy, make_plain_envs
from sb3_distill.evaluation.student_env import made_for
from sb3_distill.memory.memory import Memory
from sb3_distill.memory.ring import RingMemory
from sb3_distill.memory.unplayable import unplayable
from sb3_distill.students.shared_trunk import SharedTrunk
from sb3_distill.teachers.binding import Binding

SelfMultiTask = TypeVar("SelfMultiTask", bound="MultiTaskDistillation")

#: how long a task is played before the next one is
ONE_EPISODE = TrainFreq(1, TrainFrequencyUnit.EPISODE)


class MultiTaskDistillation(PolicyDistillation):
    """
    One student of several teachers: a trunk that all tasks share, and an output layer for each, which the task's id chooses.

    What leaves is a plain SB3 policy for each task: ``model.task(id)``, and ``model.save_task(id, path)`` as a zip of DQN or PPO.
    ``save`` and ``load`` keep all tasks together.

    >>> from sb3_distill.algorithms.multi_task import MultiTaskDistillation
    >>> teachers = {"CartPole-v1": "zoo:dqn/CartPole-v1"}
    >>> model = MultiTaskDistillation("MlpPolicy", ["CartPole-v1"], teacher=teachers, policy_kwargs=dict(net_arch=[16]))
    >>> model.task("CartPole-v1").predict([0.0, 0.0, 0.0, 0.0])[0] in (0, 1)
    True

    :param policy: SB3's name or class of the policies
    :param env: from the tasks' ids to environments, one copy each, or Gymnasium ids, which may stand for themselves in a list;
        may be left out with memories
    :param teacher: from the tasks' ids to teachers
    :param memory: from the tasks' ids to memories, or paths of such: nothing is played then
    :param teacher_obs: as for one task, and the same for all
    :param kwargs: of :class:`~sb3_distill.PolicyDistillation`. ``buffer_size`` is each task's; ``train_freq``
        counts the steps of all tasks together, in whole episodes
    :raises ValueError: as there, for tasks that are not the same in ``env``, ``teacher`` and ``memory``, and for more than one
        copy of an environment
    """

    policy: SharedTrunk  # type: ignore[assignment]
    memory: dict[str, Any] | None  # type: ignore[assignment]

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: Mapping[str, GymEnv | str] | Sequence[str] | None = None,
        *,
        teacher: Mapping[str, Any] | None = None,
        memory: Mapping[str, Memory | str | Path] | None = None,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        for name, given in (("env", env), ("teacher", teacher), ("memory", memory)):
            _check_mapping(name, given)
        super().__init__(policy, None, _init_setup_model=False, **kwargs)
        self._envs = dict(env) if isinstance(env, Mapping) else {task_id: task_id for task_id in env or ()}
        self.teacher = teacher
        self.memory = None if memory is None else dict(memory)
        self.task_ids = list(self._envs or self.memory or ())
        #: of observations and actions of each task
        self.task_spaces: dict[str, tuple[spaces.Space, spaces.Space]] = {}
        if _init_setup_model:
            if not self.task_ids:
                raise ValueError("There are no tasks: give env={id: environment, …} or memory={id: path, …}.")
            self._setup_model()

    # --- setting up ---------------------------------------------------------------------------------------------------

    def _setup_model(self) -> None:
        if not self.task_ids:
            raise ValueError(
                "There are no tasks in it: a student of one teacher is loaded with PolicyDistillation.load, which saved it."
            )
        self._check_settings()
        self._setup_lr_schedule()
        self._convert_train_freq()
        for name, given in (("env", self._envs), ("teacher", self.teacher), ("memory", self.memory)):
            self._check_ids(name, given or {})
        #: from ids to students of one teacher each, whose policies share their layers
        self.tasks = {task_id: self._make_task(task_id, number) for number, task_id in enumerate(self.task_ids)}
        self.task_spaces = {
            task_id: (task.observation_space, task.action_space) for task_id, task in self.tasks.items()
        }
        self.observation_space = spaces.Dict({task_id: both[0] for task_id, both in self.task_spaces.items()})
        self.action_space = spaces.Dict({task_id: both[1] for task_id, both in self.task_spaces.items()})
        self.n_envs = 1
        self.policy = SharedTrunk([task.policy for task in self.tasks.values()], self.lr_schedule).to(self.device)
        in_few_calls(self.policy.optimizer)
        self._collect_memories()
        self._binding = Binding()  # each task has its own
        self._n_rounds = 0

    def _check_ids(self, name: str, given: Mapping[str, Any]) -> None:
        for task_id in given:
            self._known(task_id)
        missing = [task_id for task_id in self.task_ids if given and task_id not in given]
        if missing:
            raise ValueError(
                f"{name} lacks the task {missing[0]!r}: it must have one entry for each of {self.task_ids}."
            )

    def _known(self, task_id: str) -> str:
        """The id; an unknown one is an error with the nearest matches."""
        if task_id not in self.task_ids:
            raise ValueError(f"Unknown task {task_id!r}: {nearest(str(task_id), self.task_ids)}")
        return task_id

    def _make_task(self, task_id: str, number: int) -> PolicyDistillation:
        """:param number: of the task, for its seed"""
        task = PolicyDistillation(
            self.policy_class,
            self._envs.get(task_id),
            teacher=(self.teacher or {}).get(task_id),
            memory=(self.memory or {}).get(task_id),
            teacher_obs=self.teacher_obs,
            student=self.student,
            loss=self.loss,
            temperature=self.temperature,
            epsilon=self.epsilon,
            beta=self.beta,
            beta_per=self.beta_per,
            learning_rate=self.learning_rate,
            buffer_size=self.buffer_size,
            batch_size=self.batch_size,
            stats_window_size=self._stats_window_size,
            policy_kwargs=self.policy_kwargs,
            seed=None if self.seed is None else self.seed + number,
            device=self.device,
            _init_setup_model=False,
        )
        if task.env is not None and task.n_envs != 1:
            raise ValueError(
                f"The environment of the task {task_id!r} has {task.n_envs} copies: give one, whose episodes can take turns "
                "with those of the other tasks."
            )
        if task_id in self.task_spaces:  # the model was loaded
            if task.env is not None:
                check_for_correct_spaces(task.env, *self.task_spaces[task_id])
            task.observation_space, task.action_space = self.task_spaces[task_id]
            task.n_envs = 1
        task._setup_model()
        return task

    def _collect_memories(self) -> None:
        #: from ids to what each task learns from; CheckpointCallback asks whether there is any
        self.replay_buffer = {task_id: task.replay_buffer for task_id, task in self.tasks.items()}

    def _check_teacher(self) -> None:
        for task in self.tasks.values():
            task._check_teacher()
        self._collect_memories()

    def _stand_in(self) -> VecEnv | None:
        return unplayable(*self.task_spaces[self.task_ids[0]])

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        if self.memory is None:
            self._check_teacher()
            for task in self.tasks.values():
                task._setup_learn(total_timesteps, None, reset_num_timesteps)
        return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)

    def set_env(self, env: Mapping[str, GymEnv], force_reset: bool = True) -> None:  # type: ignore[override]
        """
        SB3's ``set_env`` for each task.

        :param env: from the tasks' ids to environments
        :param force_reset: whether the next ``learn`` begins with new episodes
        """
        self._check_ids("env", env)
        for task_id, task_env in env.items():
            self.tasks[task_id].set_env(task_env, force_reset)

    # --- playing and training -----------------------------------------------------------------------------------------

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, train_freq: TrainFreq, *args: Any, **kwargs: Any
    ) -> RolloutReturn:
        """Episodes of all tasks in turn; with memories, a round of updates. See :class:`~stable_baselines3.DQN`."""
        if self.memory is not None:
            return super().collect_rollouts(env, callback, train_freq, *args, **kwargs)
        log_interval = kwargs["log_interval"]
        callback.on_rollout_start()
        n_steps = n_episodes = 0
        while should_collect_more_steps(train_freq, n_steps, n_episodes):
            for task in self.tasks.values():
                task.num_timesteps, task._total_timesteps = self.num_timesteps, self._total_timesteps
                assert task.env is not None
                rollout = task.collect_rollouts(task.env, _Relay(self, task, callback), ONE_EPISODE, task.replay_buffer)
                n_steps += rollout.episode_timesteps
                if not rollout.continue_training:
                    return RolloutReturn(n_steps, n_episodes, False)
                self._episode_num += 1
                if log_interval is not None and self._episode_num % log_interval == 0:
                    self.dump_logs()
            n_episodes += 1
        self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
        callback.on_rollout_end()
        return RolloutReturn(n_steps, n_episodes, True)

    def _judge(self) -> None:
        for task in self.tasks.values():
            task._n_updates = self._n_updates
            task._judge()

    @contextmanager
    def _learning(self) -> Iterator[None]:  # type: ignore[override]
        with ExitStack() as stack:
            for task in self.tasks.values():
                stack.enter_context(task._learning())
            yield

    def _losses(self) -> Iterator[th.Tensor]:
        for losses in cycle([task._losses() for task in self.tasks.values()]):
            yield next(losses)

    def dump_logs(self) -> None:
        """SB3's, with the mean return of each task that is played."""
        for task_id, task in self.tasks.items():
            if task.ep_info_buffer:
                self.logger.record(f"return/{task_id}", safe_mean([episode["r"] for episode in task.ep_info_buffer]))
        for output in self.logger.output_formats:
            if isinstance(output, HumanOutputFormat):
                # Names of tasks that begin alike would be cut to one name, which SB3 refuses.
                output.max_length = max(output.max_length, *(len(f"   {task_id}") for task_id in self.tasks))
        super().dump_logs()

    # --- the student --------------------------------------------------------------------------------------------------

    def task(self, task_id: str) -> DQNPolicy | ActorCriticPolicy:
        """
        The student of one task.

        :param task_id: which
        :return: a plain SB3 policy, of this student's own weights: it learns on as this does
        :raises ValueError: for an unknown task, with the nearest ones
        """
        return self.tasks[self._known(task_id)].policy

    def save_task(self, task_id: str, path: str | Path | io.BufferedIOBase) -> None:
        """
        Save the student of one task as a plain zip of DQN or PPO.

        :param task_id: which
        :param path: of the file, or a file
        :raises ValueError: for an unknown task, with the nearest ones
        """
        self.tasks[self._known(task_id)].save(path)

    @property
    def n_parameters(self) -> int:
        """How many numbers pick the actions of all tasks together; what tasks share counts once."""
        return self.policy.n_parameters

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """:raises ValueError: always: a task has to be named"""
        raise ValueError(
            f"Each task has a policy of its own: call model.task(id).predict(…), id one of {self.task_ids}."
        )

    def evaluate(
        self,
        env: Mapping[str, str | Callable[[int], VecEnv]] | None = None,
        n_episodes: int = 20,
        seed: int = EVALUATION_SEED,
        max_steps: int | None = None,
    ) -> dict[str, np.ndarray]:
        """
        Play every task greedily.

        :param env: from the tasks' ids to Gymnasium ids, or functions that make n environments; a task that it lacks is
            played in the environment of which it has the id
        :param n_episodes: of each task
        :param seed: of the first episode; see :func:`~sb3_distill.evaluation.episodes.episode_returns`
        :param max_steps: an episode that has not ended by then is cut
        :return: from the tasks' ids to the returns of their episodes
        :raises ValueError: for an unknown task, with the nearest ones; before any is played, for one whose id is none of Gymnasium's
            and that has no environment here, and for what is no function that makes n environments
        """
        _check_mapping("env", env)
        envs = {self._known(task_id): given for task_id, given in (env or {}).items()}
        for task_id in self.task_ids:
            _check_playable(task_id, envs)
        returns = {}
        for task_id, task in self.tasks.items():
            given = envs.get(task_id, task_id)
            make = partial(make_plain_envs, given) if isinstance(given, str) else given
            seen = partial(made_for, task, make)
            returns[task_id] = episode_returns(greedy(task.policy.predict), seen, n_episodes, seed, max_steps)
        return returns

    # --- saving -------------------------------------------------------------------------------------------------------

    def _ring_memories(self) -> dict[str, RingMemory]:
        return {} if self.memory is not None else {task_id: task.replay_buffer for task_id, task in self.tasks.items()}

    def _take_memories(self, memories: dict[str, RingMemory], path: Any) -> None:
        if self.memory is not None:
            raise ValueError("These tasks learn from the memories that they were given, and not from play: load none.")
        if sorted(memories) != sorted(self.task_ids):
            raise ValueError(
                f"{path} has the memories of the tasks {sorted(memories)}, and here are {sorted(self.task_ids)}."
            )
        for task_id, memory in memories.items():  # all of them, before any is taken
            if len(memory):
                self.tasks[task_id]._check_loaded(memory)
        for task_id, memory in memories.items():
            self.tasks[task_id]._take(memory)
        self._collect_memories()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "tasks", "_envs"]

    @classmethod
    def load(  # type: ignore[override]
        cls: type[SelfMultiTask],
        path: str | Path | io.BufferedIOBase,
        env: Mapping[str, GymEnv | str] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> SelfMultiTask:
        """
        SB3's ``load``.

        :param path: of the file, or a file
        :param env: from the tasks' ids to environments, where it shall learn on
        :param args: of SB3's ``load``
        :param kwargs: of SB3's ``load``; ``teacher=…`` and ``memory=…`` are not in the file and can be given here
        :return: the model
        """
        return super().load(path, None, *args, **kwargs, _envs=dict(env or {}))


def _check_playable(task_id: str, envs: Mapping[str, Any]) -> None:
    """That there is an environment to evaluate a task in."""
    if task_id in envs:
        check_maker(envs[task_id])
        return
    try:
        check_env_id(task_id)
    except ValueError:
        raise ValueError(
            f"There is no environment to play the task {task_id!r} in, whose id is none of Gymnasium's: give a function that makes n "
            f"of them, evaluate({{{task_id!r}: lambda n: make_vec_env(make_one, n)}})."
        ) from None


def _check_mapping(name: str, given: Any) -> None:
    """:raises ValueError: for one thing where there is one for each task"""
    if given is None or isinstance(given, Mapping):
        return
    ids = name == "env" and isinstance(given, Sequence) and not isinstance(given, str)
    if not (ids and all(isinstance(env_id, str) for env_id in given)):
        also = ", or a list of Gymnasium ids" if name == "env" else ""
        raise ValueError(
            f"{name} must be a dict from the tasks' ids, such as {name}={{'CartPole-v1': …}}{also}, not "
            f"{type(given).__name__} {' '.join(repr(given).split())[:80]}."
        )


class _Relay(BaseCallback):
    """Between a task that is played and the callbacks of the whole: these count all tasks' steps."""

    def __init__(self, whole: MultiTaskDistillation, task: PolicyDistillation, callback: BaseCallback) -> None:
        super().__init__()
        self.whole, self.model, self.callback = whole, task, callback

    def update_locals(self, locals_: dict[str, Any]) -> None:
        self.callback.update_locals({**locals_, "self": self.whole})

    def _on_step(self) -> bool:
        self.whole.num_timesteps = self.num_timesteps
        return self.callback.on_step()
