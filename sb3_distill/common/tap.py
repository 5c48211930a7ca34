"""Listening to a vectorised environment in place.

During a rollout the teacher must see raw observations (beneath a ``VecNormalize``, which also overwrites terminal ones)
and may pick the actions. A wrapper slipped into the middle of ``model.env`` would do, but callbacks look at that chain
while a rollout runs: ``EvalCallback`` walks it beside its own and fails on any difference. So the methods ``step_async``,
``step_wait`` and ``reset`` of one environment are replaced on the instance for as long as the rollout lasts.

Others may step it meanwhile: a callback may evaluate in the environment that the rollout is collected in. SB3's algorithms then
go on with the observation that they had, in the episode that the evaluation left. So do we: what is recorded are the rollout's
own steps, which :class:`StudentView` knows, and with them what stands in SB3's buffer.
"""

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from sb3_distill.common.frames import FrameLog
from sb3_distill.common.layers import Layer
from sb3_distill.common.masks import METHOD, checked_masks, mask_in
from sb3_distill.common.observations import ObservationLog, check_finite, copy_obs, observation_of, same_obs, stack_obs
from sb3_distill.common.questions import as_dones, as_rewards, is_truncated, lost_its_state, warn_of_lost_states
from sb3_distill.common.replaced import replaced


class Tap:
    """
    Records what a vectorised environment says, and may change what it is told. A context manager.

    :param env: the environment to listen to
    :param obs: its present observations, or what ``view`` makes of them
    :param before_step: called with each step's actions, shape (n_envs, …); returns those to execute instead
    :param view: from what a step returned to the observations and infos that are recorded; by default they themselves
    :param observations: where they are recorded; by default as they are
    :param is_own: whether the step that comes is one to record and change; by default all are
    :param on_others: called when others have stepped or reset the environment, with the number of observations so far
    """

    def __init__(
        self,
        env: VecEnv,
        obs: VecEnvObs,
        before_step: Callable[[np.ndarray], np.ndarray],
        view: Callable[..., tuple[Any, list[dict[str, Any]]]] | None = None,
        observations: "ObservationLog | FrameLog | None" = None,
        is_own: Callable[[], bool] = lambda: True,
        on_others: Callable[[int], None] = lambda n: None,
    ) -> None:
        check_finite(obs, "at the start of this rollout")
        self.env = env
        self.before_step = before_step
        self.view = view
        self.is_own = is_own
        self.on_others = on_others
        self._own = True
        #: observations s_1 … s_{T+1}, the last being where the next step starts
        self.observations = ObservationLog() if observations is None else observations
        self.observations.append(obs)
        #: the environment's own rewards r_1 … r_T, each of shape (n_envs,)
        self.rewards: list[np.ndarray] = []
        #: 1 where s_{t+1} is not terminal (a time limit ends the episode but makes no state terminal)
        self.continues: list[np.ndarray] = []
        #: (t, environment, s_{t+1}) of the steps at which a time limit cut the episode
        self.truncated: list[tuple[int, int, Any]] = []
        #: how many episodes ended, and how many of them a time limit cut in a state that nobody tells
        self.n_ends, self.n_lost = 0, 0
        #: of the last states in ``truncated`` those that are the next episode's first
        self.overwritten: list[Any] = []

    def __enter__(self) -> "Tap":
        self._step_async, self._step_wait, self._reset = self.env.step_async, self.env.step_wait, self.env.reset
        self._stack = ExitStack()
        self._stack.enter_context(replaced(self.env, "step_async", self._tapped_step_async))
        self._stack.enter_context(replaced(self.env, "step_wait", self._tapped_step_wait))
        self._stack.enter_context(replaced(self.env, "reset", self._tapped_reset))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()
        # Their closures may hold this Tap: a circle in which a rollout's observations would wait for the garbage collector.
        del self.before_step, self.is_own, self.on_others

    def warn_of_ends(self) -> bool:
        """
        Say what is wrong with the observations at time limits, if anything is.

        :return: whether something is
        """
        if self.n_lost:
            warn_of_lost_states(self.n_lost, self.n_ends, "in this rollout")
        n = len(self.truncated)
        overwritten = 3 <= n == len(self.overwritten) and any(
            not same_obs(last, self.overwritten[0]) for last in self.overwritten
        )
        if overwritten:
            warnings.warn(
                f"In all {n} episodes that a time limit cut in this rollout, the last observation is the first one of the next "
                "episode: the environment seems to write observations into one array, and SB3 hands the last one on after the reset. "
                "Values at time limits are those of other states. Let the environment return copies: obs.copy().",
                stacklevel=2,
            )
        return self.n_lost > 0 or overwritten

    def _tapped_reset(self) -> VecEnvObs:
        obs = self._reset()
        self._others()
        return obs

    def _others(self) -> None:
        self.observations.cut()
        self.on_others(len(self.observations))

    def _tapped_step_async(self, actions: np.ndarray) -> None:
        self._own = self.is_own()
        self._step_async(self.before_step(actions) if self._own else actions)

    def _tapped_step_wait(self) -> VecEnvStepReturn:
        said = self._step_wait()
        obs, rewards, dones, infos = said
        seen, seen_infos = (obs, infos) if self.view is None else self.view(obs, rewards, dones, infos)
        if not self._own:
            self._others()
            return said
        step = len(self.rewards)
        check_finite(seen, f"after step {step + 1} of this rollout")
        self.observations.append(seen)
        self.rewards.append(as_rewards(rewards, np.float32))
        ends = as_dones(dones)
        continues = 1.0 - ends.astype(np.float32)
        for i in ended(ends):
            self.n_ends += 1
            self.n_lost += lost_its_state(seen_infos[i])
            if is_truncated(seen_infos[i]):
                continues[i] = 1.0
                last = copy_obs(seen_infos[i]["terminal_observation"])
                check_finite(stack_obs([last]), f"after step {step + 1} of this rollout", first=i)
                self.truncated.append((step, i, last))
                if same_obs(last, observation_of(seen, i)):
                    self.overwritten.append(last)
        self.continues.append(continues)
        return said


class StudentView(Layer):
    """
    The environment as the algorithm sees it for the length of a rollout: rewards are scaled, and the observations at
    which time limits cut episodes are kept. Episode statistics of ``Monitor`` are beneath it.

    What an environment may write over in its next step is copied: SB3 puts an observation into its buffer after that.

    :param venv: the environment
    :param reward_scale: a factor for the environment's reward
    :param is_paid: whether that has a weight at all; else NaN and infinity are taken for 0
    :param is_next: whether the step that comes is the rollout's; a callback may evaluate in this, too
    """

    def __init__(
        self, venv: VecEnv, reward_scale: float, is_next: Callable[[], bool] = lambda: True, is_paid: bool = True
    ) -> None:
        super().__init__(venv)
        self.reward_scale = reward_scale
        self.is_paid = is_paid
        self.is_next = is_next
        #: whether the step that is being made is the rollout's
        self.stepping = False
        #: s_{t+1} of the steps in ``Tap.truncated``, in the same order, through all wrappers
        self.truncated: list[Any] = []
        #: what the infos say there of the actions that are allowed, or None
        self.truncated_masks: list[Any] = []
        #: which actions are allowed now, as the environments were asked last, shape (n_envs, columns); None if nobody has asked
        self.masks: np.ndarray | None = None
        self._n_steps = 0

    def reset(self) -> VecEnvObs:
        return self.venv.reset()

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        said = super().env_method(method_name, *method_args, indices=indices, **method_kwargs)
        if method_name != METHOD or indices is not None:
            return said
        # Here, where it is known when: sb3-contrib's own error would be one of NumPy's.
        self.masks = checked_masks(said, self.action_space, f"in step {self._n_steps + 1} of this rollout")
        return list(self.masks)

    def step_async(self, actions: np.ndarray) -> None:
        self.stepping = self.is_next()
        self._n_steps += self.stepping
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        obs, rewards, dones, infos = self.venv.step_wait()
        own, self.stepping = self.stepping, False
        ends = as_dones(dones)
        for i in ended(ends):
            if own and is_truncated(infos[i]):
                self.truncated.append(copy_obs(infos[i]["terminal_observation"]))
                self.truncated_masks.append(mask_in(infos[i]))
        # A new array: SB3 adds bootstrap values to it in place.
        own_rewards = as_rewards(rewards)
        if not self.is_paid:
            own_rewards = np.where(np.isfinite(own_rewards), own_rewards, np.zeros_like(own_rewards))
        return copy_obs(obs), own_rewards * self.reward_scale, ends, infos


def ended(dones: np.ndarray) -> list[int]:
    """The environments whose episode has just ended: mostly none, and then this costs next to nothing."""
    return np.flatnonzero(dones).tolist() if dones.any() else []


def check_rewards(rewards: np.ndarray, since: str = "of this rollout", before: int = 0) -> None:
    """
    :param rewards: of n environments, shape (steps, n)
    :param since: for the message, since when steps are counted
    :param before: how many steps there were before these
    :raises ValueError: if one of them is NaN or infinity: which environment, which step
    """
    bad = np.argwhere(~np.isfinite(rewards))
    if len(bad):
        step, env = bad[0].tolist()
        raise ValueError(
            f"The reward of environment {env} in step {before + step + 1} {since} is not finite: {rewards[step, env]}. "
            "Mend the environment."
        )
