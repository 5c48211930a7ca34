"""Listening to a vectorised environment in place.

During a rollout the teacher must see raw observations (beneath a ``VecNormalize``, which also overwrites terminal ones)
and may pick the actions. A wrapper slipped into the middle of ``model.env`` would do, but callbacks look at that chain
while a rollout runs: ``EvalCallback`` walks it beside its own and fails on any difference. So the methods ``step_async``
and ``step_wait`` of one environment are replaced on the instance for as long as the rollout lasts.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_distill.frames import FrameLog


@contextmanager
def replaced(thing: Any, name: str, method: Callable[..., Any]) -> Iterator[None]:
    """
    A context in which one object has another method; afterwards it is as it was, whatever happens.

    :param thing: the object; its class is left alone
    :param name: of the method
    :param method: what to call instead
    """
    own = vars(thing).get(name)
    setattr(thing, name, method)
    try:
        yield
    finally:
        if own is None:
            delattr(thing, name)
        else:
            setattr(thing, name, own)


def env_id_of(env: VecEnv | None) -> str | None:
    """
    :param env: any
    :return: its Gymnasium id, if it has one and tells
    """
    try:
        spec = env.get_attr("spec", 0)[0] if env is not None else None
    except (AttributeError, NotImplementedError):  # environments that are no Gymnasium's
        return None
    return None if spec is None else spec.id


def raw_env(env: VecEnv) -> tuple[VecEnv, VecNormalize | None]:
    """
    Where an environment's observations are as it made them.

    :param env: any stack of wrappers
    :return: what is beneath its lowest ``VecNormalize``, and that ``VecNormalize``; else the whole stack and None
    """
    raw, vec_normalize, layer = env, None, env
    while isinstance(layer, VecEnvWrapper):
        if isinstance(layer, VecNormalize):
            raw, vec_normalize = layer.venv, layer
        layer = layer.venv
    return raw, vec_normalize


class ObservationLog:
    """Observations of n environments, step by step: copies, which no environment can overwrite."""

    def __init__(self) -> None:
        self._steps: list[Any] = []

    def append(self, obs: Any) -> None:
        """:param obs: of one step: an array of shape (n, …), or a dict or tuple of such"""
        self._steps.append(copy_obs(obs))

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, step: int) -> Any:
        return self._steps[step]

    def batch(self, first: int, more: Sequence[Any] = ()) -> Any:
        """:return: the observations from step ``first`` on, and ``more`` single ones, as one batch"""
        return concatenate_obs([*self._steps[first:], *([stack_obs(more)] if more else [])])


class Tap:
    """
    Records what a vectorised environment says, and may change what it is told. A context manager.

    :param env: the environment to listen to
    :param obs: its present observations, or what ``view`` makes of them
    :param before_step: called with each step's actions, shape (n_envs, …); returns those to execute instead
    :param view: from what a step returned to the observations and infos that are recorded; by default they themselves
    :param observations: where they are recorded; by default as they are
    """

    def __init__(
        self,
        env: VecEnv,
        obs: VecEnvObs,
        before_step: Callable[[np.ndarray], np.ndarray],
        view: Callable[..., tuple[Any, list[dict[str, Any]]]] | None = None,
        observations: "ObservationLog | FrameLog | None" = None,
    ) -> None:
        check_finite(obs, "at the start of this rollout")
        self.env = env
        self.before_step = before_step
        self.view = view
        #: observations s_1 … s_{T+1}, the last being where the next step starts
        self.observations = ObservationLog() if observations is None else observations
        self.observations.append(obs)
        #: the environment's own rewards r_1 … r_T, each of shape (n_envs,)
        self.rewards: list[np.ndarray] = []
        #: 1 where s_{t+1} is not terminal (a time limit ends the episode but makes no state terminal)
        self.continues: list[np.ndarray] = []
        #: (t, environment, s_{t+1}) of the steps at which a time limit cut the episode
        self.truncated: list[tuple[int, int, Any]] = []

    def __enter__(self) -> "Tap":
        self._step_async, self._step_wait = self.env.step_async, self.env.step_wait
        self._stack = ExitStack()
        self._stack.enter_context(replaced(self.env, "step_async", self._tapped_step_async))
        self._stack.enter_context(replaced(self.env, "step_wait", self._tapped_step_wait))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()
        # Its closure may hold this Tap: a circle in which a rollout's observations would wait for the garbage collector.
        del self.before_step

    def _tapped_step_async(self, actions: np.ndarray) -> None:
        self._step_async(self.before_step(actions))

    def _tapped_step_wait(self) -> VecEnvStepReturn:
        obs, rewards, dones, infos = self._step_wait()
        step = len(self.rewards)
        seen, seen_infos = (obs, infos) if self.view is None else self.view(obs, rewards, dones, infos)
        check_finite(seen, f"after step {step + 1} of this rollout")
        self.observations.append(seen)
        self.rewards.append(np.array(rewards, dtype=np.float32))
        continues = 1.0 - dones.astype(np.float32)
        for i in ended(dones):
            if is_truncated(seen_infos[i]):
                continues[i] = 1.0
                last = copy_obs(seen_infos[i]["terminal_observation"])
                check_finite(stack_obs([last]), f"after step {step + 1} of this rollout", first=i)
                self.truncated.append((step, i, last))
        self.continues.append(continues)
        return obs, rewards, dones, infos


class StudentView(VecEnvWrapper):
    """
    The environment as the algorithm sees it for the length of a rollout: rewards are scaled, and the observations at
    which time limits cut episodes are kept. Episode statistics of ``Monitor`` are beneath it.

    :param venv: the environment
    :param reward_scale: a factor for the environment's reward
    """

    def __init__(self, venv: VecEnv, reward_scale: float) -> None:
        super().__init__(venv)
        self.reward_scale = reward_scale
        #: s_{t+1} of the steps in ``Tap.truncated``, in the same order, through all wrappers
        self.truncated: list[Any] = []

    def reset(self) -> VecEnvObs:
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        obs, rewards, dones, infos = self.venv.step_wait()
        for i in ended(dones):
            if is_truncated(infos[i]):
                self.truncated.append(copy_obs(infos[i]["terminal_observation"]))
        # A new array: SB3 adds bootstrap values to it in place.
        return obs, rewards * self.reward_scale, dones, infos


def ended(dones: np.ndarray) -> list[int]:
    """The environments whose episode has just ended: mostly none, and then this costs next to nothing."""
    return np.flatnonzero(dones).tolist() if dones.any() else []


def is_truncated(info: dict[str, Any]) -> bool:
    """Whether an episode that just ended was cut by a time limit, so that its last state has a future."""
    return bool(info.get("TimeLimit.truncated", False)) and info.get("terminal_observation") is not None


def copy_obs(obs: Any) -> Any:
    """A copy that no environment can overwrite: of an array, or of a dict or tuple of arrays."""
    if isinstance(obs, dict):
        return {key: np.array(value) for key, value in obs.items()}
    return np.array(obs)


def stack_obs(observations: Sequence[Any]) -> Any:
    """
    :param observations: k observations of one state each, arrays or dicts of arrays
    :return: the batch of k, an array or a dict of arrays
    """
    if isinstance(observations[0], dict):
        return {key: np.stack([obs[key] for obs in observations]) for key in observations[0]}
    return np.stack(observations)


def concatenate_obs(observations: list[Any]) -> Any:
    """
    :param observations: batches of observations, arrays or dicts of arrays
    :return: one batch
    """
    if isinstance(observations[0], dict):
        return {key: np.concatenate([obs[key] for obs in observations]) for key in observations[0]}
    return np.concatenate(observations)


def same_obs(a: Any, b: Any) -> bool:
    """Whether two batches of observations are equal to the bit."""
    if isinstance(a, dict):
        return isinstance(b, dict) and all(np.array_equal(a[key], b[key]) for key in a)
    return not isinstance(b, dict) and np.array_equal(a, b)


def check_finite(obs: Any, when: str, first: int = 0) -> None:
    """
    :param obs: a batch of observations
    :param when: for the message
    :param first: the environment that the batch starts with
    :raises ValueError: if one of them holds NaN or infinity: which environment, which step
    """
    for name, values in obs.items() if isinstance(obs, dict) else (("", obs),):
        # The sum first: it is finite nearly always, and half the price.
        if values.dtype.kind == "f" and not np.isfinite(values.sum()) and not np.isfinite(values).all():
            bad = int(np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))[0])
            key = f" {name!r}" if name else ""
            raise ValueError(
                f"The observation{key} of environment {first + bad} {when} is not finite: {values[bad]}. Mend the environment."
            )
