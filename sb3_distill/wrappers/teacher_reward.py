"""Environments that pay the teacher's reward: any SB3 algorithm distils in them, unmodified.

* :class:`TeacherReward` wraps one Gymnasium environment, :class:`VecTeacherReward` an SB3 ``VecEnv``. They mean the same.
* :class:`LogTeacherReward` is a callback that logs the mean of what they pay.

Two rewards need the teacher and nothing of the student, so an environment can pay them. The agent gets
``reward_coef · r̂_t + env_reward_coef · r_t`` with

=====================  ===============================================================================================
``reward``             r̂_t
=====================  ===============================================================================================
``"log_prob"``         log π(a_t|s_t) + c(s_t), entropy regularised. ``shift="teacher_entropy"`` (default): c = H(π(s_t)),
                       so that r̂ averages 0 for the teacher's own actions; ``shift=None``: c = 0, the paper's own form,
                       where every step costs and ending the episode stops the cost
``"teacher_value"``    r_t + γ V_π(s_{t+1}) − V_π(s_t), teacher V reward. V_π of a terminal state is 0; a state at which a
                       time limit cut the episode keeps its value
=====================  ===============================================================================================

Keep the agent's own ``gamma`` low (0.5) with ``"log_prob"``: with c = H(π) a student that plays the teacher's best action
earns more than 0 a step, and a long horizon would pay it for making episodes longer. With ``"teacher_value"`` it is λ that
matters: below 1 the teacher's V judges a step by the next few, which is as good as that V is; at 1 it telescopes away.

Of continuous actions log π has no floor, that of a SAC's worst action lies at some −10,000 nats, and one such step is all that an agent
would learn from. So there r̂ of ``"log_prob"`` is kept within ±``reward_bound``, 5 nats for each dimension of an action by default. It stays
a function of state and action alone, as an environment's reward is.

The environment's own return stays what ``Monitor``, ``EvalCallback`` and ``rollout/ep_rew_mean`` report. For that a ``Monitor``
belongs beneath: ``make_vec_env(env_id, wrapper_class=TeacherReward, wrapper_kwargs={"teacher": teacher})`` puts it there, while
``make_vec_env(lambda: TeacherReward(…))`` puts another one outside, whose file has the sum of what the teacher pays.
``info["teacher_reward"]`` has r̂_t. Of continuous actions the environment sees the clipped ones, and log π is theirs. Where the
environment says which actions are allowed (``action_masks()``), π is the teacher's distribution among these, and the agent has to be one
that heeds them, as sb3-contrib's MaskablePPO: log π of another one would be −∞.

>>> import gymnasium as gym
>>> from sb3_distill import load_teacher
>>> from sb3_distill.envs import TeacherReward
>>> teacher = load_teacher("zoo:dqn/CartPole-v1", temperature=0.1)
>>> env = TeacherReward(gym.make("CartPole-v1"), teacher, reward="log_prob", shift=None)
>>> _ = env.reset(seed=0)
>>> obs, reward, terminated, truncated, info = env.step(1)
>>> reward == info["teacher_reward"] <= 0
True
"""

import copy
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, is_vecenv_wrapped
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_distill.common.given_env import check_single_env, check_vec_env
from sb3_distill.common.layers import Layer, innermost
from sb3_distill.common.masks import (
    METHOD,
    checked_masks,
    forbidden,
    has_masks,
    mask_in,
    masks_now,
    told_at_time_limits,
)
from sb3_distill.common.observations import concatenate_obs, copy_obs, stack_obs
from sb3_distill.common.questions import (
    as_dones,
    as_rewards,
    is_monitored,
    is_truncated,
    lost_its_state,
    warn_of_lost_states,
)
from sb3_distill.common.spaces import action_tensor, check_spaces
from sb3_distill.common.tap import check_rewards
from sb3_distill.rules import losses
from sb3_distill.rules.bounds import bound_of, bounded
from sb3_distill.rules.distributions import from_parameters
from sb3_distill.rules.methods import LOG_PROB, NEXT_STATE, TEACHER_V, TEACHER_VALUE
from sb3_distill.rules.rewards import Transitions
from sb3_distill.teachers.teacher import Answer, Teacher, masks_if_any
from sb3_distill.teachers.view import TeacherView, Wrap, view_of

REWARDS = {"log_prob": LOG_PROB, "teacher_value": TEACHER_V}
SHIFTS = ("teacher_entropy", None)


def _check_names(reward: str, shift: str | None) -> None:
    if reward not in REWARDS:
        raise ValueError(f"Unknown reward {reward!r}: choose one of {', '.join(map(repr, REWARDS))}.")
    if shift not in SHIFTS:
        raise ValueError(f"Unknown shift {shift!r}: choose one of {', '.join(map(repr, SHIFTS))}.")


def _loaded(teacher: Any) -> Teacher:
    """What ``load_teacher`` makes of it; that is imported here, for it imports environments."""
    from sb3_distill.agents.load import load_teacher

    return load_teacher(teacher)


class _Payer:
    """Computes r̂ for a batch of environments, step by step, asking the teacher about each state once."""

    def __init__(
        self,
        env: Any,
        teacher: Teacher,
        reward: str,
        shift: str | None,
        gamma: float,
        reward_coef: float,
        env_reward_coef: float,
        reward_bound: float | None,
    ) -> None:
        self.reward = REWARDS[reward]
        self.bound = bound_of(reward_bound, self.reward.in_nats, env.action_space)
        if TEACHER_VALUE in self.reward.needs and not teacher.has_value:
            raise ValueError(f"reward={reward!r} needs the teacher's value function, and {teacher.name} has none.")
        self.teacher = teacher
        self.action_space = env.action_space
        self.shift = shift if self.reward is LOG_PROB else None
        self.gamma = gamma
        self.reward_coef = reward_coef
        self.env_reward_coef = env_reward_coef
        self.present: Answer | None = None
        self.masks: np.ndarray | None = None
        self.n_steps = 0

    def start(self, obs: Any, masks: np.ndarray | None) -> None:
        """
        :param obs: the n first observations
        :param masks: of the actions that are allowed there, shape (n, columns), if the environment says so
        """
        self.masks = masks
        self.present = self.teacher.answer(obs, TEACHER_VALUE in self.reward.needs, **masks_if_any(masks))

    def pay(
        self,
        actions: Any,
        rewards: np.ndarray,
        obs: Any,
        dones: np.ndarray,
        truncated: dict[int, Any],
        masks: np.ndarray | None,
        end_masks: Mapping[int, np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        :param actions: the n actions that were executed
        :param rewards: the environments' own, shape (n,)
        :param obs: the n observations that follow, of a new episode where one has ended
        :param dones: where an episode ended, shape (n,)
        :param truncated: the last observations of those that a time limit ended, by environment
        :param masks: of the actions that are allowed after the step, if the environment says so
        :param end_masks: of those that were allowed in the last states, by environment
        :return: what the agent gets, and r̂; both of shape (n,)
        """
        assert self.present is not None, "reset() comes before step()"
        present, n = self.present, len(rewards)
        if self.masks is not None:
            self._check_allowed(actions)
        ends = list(truncated) if NEXT_STATE in self.reward.needs else []
        batch = concatenate_obs([obs, stack_obs([truncated[i] for i in ends])]) if ends else obs
        self.masks = masks
        if masks is not None and ends:
            masks = np.concatenate([masks, np.stack([end_masks[i] for i in ends])])
        following = self.teacher.answer(batch, TEACHER_VALUE in self.reward.needs, **masks_if_any(masks))
        self.present = Answer(following.parameters[:n], None if following.value is None else following.value[:n])
        continues = th.as_tensor(~dones, dtype=th.float32)
        value_tp1 = None
        if following.value is not None:
            value_tp1 = following.value[:n].clone()
            for k, i in enumerate(ends):
                value_tp1[i] = following.value[n + k]
                continues[i] = 1.0
        teacher_t = from_parameters(self.action_space, present.parameters)
        step = Transitions(
            action_t=action_tensor(self.action_space, np.asarray(actions)).to(present.parameters.device),
            reward_t=th.as_tensor(rewards, dtype=th.float32, device=present.parameters.device),
            continues_t=continues.to(present.parameters.device),
            gamma=self.gamma,
            teacher_t=teacher_t,
            teacher_value_t=present.value,
            teacher_value_tp1=value_tp1,
        )
        injected = self.reward(step)
        if self.shift == "teacher_entropy":
            injected = injected + losses.entropy(teacher_t)
        paid = bounded(injected, self.bound).cpu().numpy()
        if self.env_reward_coef != 0 or (self.reward_coef != 0 and not np.isfinite(paid).all()):
            check_rewards(rewards[None], "since it was wrapped", self.n_steps)
        self.n_steps += 1
        # Zeros, for 0 · NaN is not 0.
        own = rewards if self.env_reward_coef != 0 else np.zeros_like(rewards)
        teachers = paid if self.reward_coef != 0 else np.zeros_like(paid)
        return self.reward_coef * teachers + self.env_reward_coef * own, paid

    def _check_allowed(self, actions: Any) -> None:
        """:raises ValueError: for an action that the environment forbids, of which log π is −∞"""
        assert self.masks is not None
        bad = np.flatnonzero(forbidden(self.action_space, self.masks, actions))
        if len(bad):
            raise ValueError(
                f"The agent takes action {np.asarray(actions)[bad[0]]} in environment {bad[0]} in step {self.n_steps + 1} since it was "
                "wrapped, which the environment forbids (action_masks()): learn with sb3-contrib's MaskablePPO, which asks what is allowed."
            )


class TeacherReward(gym.Wrapper):
    """
    Pays the teacher's reward in one Gymnasium environment. See the module's docstring for the formulas.

    :param env: the environment; it is put in a ``Monitor`` first, unless it is in one
    :param teacher: whose spaces must be those of ``env``: a :class:`~sb3_distill.Teacher`, or whatever
        :func:`~sb3_distill.load_teacher` takes
    :param reward: ``"log_prob"`` or ``"teacher_value"``
    :param shift: of ``"log_prob"``: ``"teacher_entropy"`` or None
    :param gamma: γ in ``"teacher_value"``
    :param reward_coef: weight of r̂
    :param env_reward_coef: weight of the environment's own reward
    :param reward_bound: the largest |r̂|, greater than 0; by default 5 nats for each dimension of a continuous action, of ``"log_prob"``,
        and else none. ``math.inf`` for none
    :raises ValueError: for unknown names, spaces that differ, or a teacher without the value function that is asked for; in a step,
        for a reward of the environment that has a weight and is not finite
    :raises TypeError: for a vectorised environment
    """

    def __init__(
        self,
        env: gym.Env,
        teacher: Any,
        reward: str = "log_prob",
        shift: str | None = "teacher_entropy",
        gamma: float = 0.99,
        reward_coef: float = 1.0,
        env_reward_coef: float = 0.0,
        reward_bound: float | None = None,
    ) -> None:
        _check_names(reward, shift)
        check_single_env("TeacherReward", env)
        teacher = _loaded(teacher)
        teacher.meet(env.observation_space, env.action_space)
        check_spaces(
            teacher.name,
            teacher.observation_space,
            teacher.action_space,
            env.observation_space,
            env.action_space,
            lambda: (teacher.env_id, getattr(env.spec, "id", None)),
        )
        if teacher.reads_a_view:
            raise ValueError(f"{teacher.name} remembers the episode, which takes a VecEnv: use VecTeacherReward.")
        payer = _Payer(env, teacher, reward, shift, gamma, reward_coef, env_reward_coef, reward_bound)
        super().__init__(env if is_wrapped(env, Monitor) else Monitor(env))
        self._payer = payer
        self._has_masks = has_masks(env)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        self._payer.start(stack_obs([obs]), self._masks())
        return copy.deepcopy(obs), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:  # type: ignore[override]
        obs, reward, terminated, truncated, info = self.env.step(action)
        # There is no automatic reset here, so the state that follows is always the episode's own.
        rewards, injected = self._payer.pay(
            [action], np.array([float(reward)]), stack_obs([obs]), np.array([terminated]), {}, self._masks(), {}
        )
        # A copy: SB3 hands on an episode's last observation after the reset, which may write over it.
        return (
            copy.deepcopy(obs),
            float(rewards[0]),
            terminated,
            truncated,
            Info(info, teacher_reward=float(injected[0])),
        )

    def _masks(self) -> np.ndarray | None:
        if not self._has_masks:
            return None
        said = self.env.get_wrapper_attr(METHOD)()
        return checked_masks([said], self.action_space, f"after step {self._payer.n_steps} since it was wrapped")


class VecTeacherReward(Layer):
    """
    Pays the teacher's reward in an SB3 ``VecEnv``: one question to the teacher a step, for all environments.

    :param venv: the environments; a ``VecNormalize`` belongs outside, for the teacher reads raw observations
    :param teacher: whose spaces must be those of ``venv``, or of what ``teacher_obs`` makes of it; a
        :class:`~sb3_distill.Teacher`, or whatever :func:`~sb3_distill.load_teacher` takes
    :param reward: ``"log_prob"`` or ``"teacher_value"``
    :param shift: of ``"log_prob"``: ``"teacher_entropy"`` or None
    :param gamma: γ in ``"teacher_value"``
    :param reward_coef: weight of r̂
    :param env_reward_coef: weight of the environment's own reward
    :param teacher_obs: puts the teacher's wrappers around an environment, or a key of its Dict observations, see
        :mod:`~sb3_distill.teachers.view`: around ``venv``, or, where that does not go, around what is beneath its wrappers
    :param reward_bound: as of :class:`TeacherReward`
    :raises ValueError: for unknown names, spaces that differ, a teacher without the value function that is asked for, or
        a ``VecNormalize`` inside; in a step, for a reward of the environment that has a weight and is not finite
    :raises TypeError: for what is no ``VecEnv``
    """

    def __init__(
        self,
        venv: VecEnv,
        teacher: Any,
        reward: str = "log_prob",
        shift: str | None = "teacher_entropy",
        gamma: float = 0.99,
        reward_coef: float = 1.0,
        env_reward_coef: float = 0.0,
        teacher_obs: Wrap | str | None = None,
        reward_bound: float | None = None,
    ) -> None:
        _check_names(reward, shift)
        check_vec_env("VecTeacherReward", venv)
        if is_vecenv_wrapped(venv, VecNormalize):
            raise ValueError(
                "VecTeacherReward is around a VecNormalize, whose observations the teacher cannot read: "
                "use VecNormalize(VecTeacherReward(env, teacher))."
            )
        teacher = _loaded(teacher)
        super().__init__(venv)
        self._view = _view(teacher, venv, teacher_obs)
        self._payer = _Payer(venv, teacher, reward, shift, gamma, reward_coef, env_reward_coef, reward_bound)
        self._monitored = is_monitored(venv)
        self._warned = self._said_no_mask = False
        self._has_masks = has_masks(venv)

    def reset(self) -> VecEnvObs:
        if self._view is None or self._view.env is self.venv:
            obs = self.venv.reset()
            seen = obs if self._view is None else self._view.reset(obs)
        else:  # beneath the wrappers, of whose observations nothing is needed
            with self._view.hearing(steps=False):
                obs = self.venv.reset()
            seen = self._view.obs
        self._payer.start(seen, self._masks())
        return copy_obs(obs)  # SB3 keeps it for a step, in which the environment may write over it

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = np.array(actions)
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        needs_next, view = NEXT_STATE in self._payer.reward.needs, self._view
        beneath = view is not None and view.env is not self.venv
        with (
            told_at_time_limits(self.venv) if self._has_masks and needs_next else nullcontext(),
            view.hearing(steps=True) if view is not None and beneath else nullcontext(),
        ):
            obs, env_rewards, dones, infos = self.venv.step_wait()
        env_rewards, dones = as_rewards(env_rewards), as_dones(dones)
        if view is None:
            seen, ends = obs, list(infos)
        else:
            seen, ends = (view.obs, view.infos) if beneath else view.step(obs, env_rewards, dones, infos)
        ended = np.flatnonzero(dones).tolist()
        truncated = {i: ends[i]["terminal_observation"] for i in ended if is_truncated(ends[i])}
        lost = sum(lost_its_state(infos[i]) for i in ended)
        if lost and not self._warned and needs_next:
            self._warned = True
            warn_of_lost_states(lost, len(ended), "in one step")
        end_masks = self._end_masks(truncated, infos) if self._has_masks and needs_next else {}
        masks = self._masks()
        rewards, injected = self._payer.pay(self._actions, env_rewards, seen, dones, truncated, masks, end_masks)
        own: list[dict[str, Any]] = []
        for info, paid in zip(infos, injected, strict=True):
            kind = Info if self._monitored or "episode" in info else dict
            own.append(kind(info, teacher_reward=float(paid)))
        return copy_obs(obs), rewards, dones, own

    def _masks(self) -> np.ndarray | None:
        if not self._has_masks:
            return None
        return masks_now(self.venv, f"after step {self._payer.n_steps} since it was wrapped")

    def _end_masks(self, truncated: Mapping[int, Any], infos: Any) -> dict[int, np.ndarray]:
        """Of the last states of episodes that a time limit has cut; the mask before stands in where nobody tells."""
        assert self._payer.masks is not None
        told = {i: mask_in(infos[i]) for i in truncated}
        unknown = [i for i, mask in told.items() if mask is None]
        if unknown and not self._said_no_mask:
            self._said_no_mask = True
            warnings.warn(
                f"Nobody tells which actions were allowed in the last states of {len(unknown)} episodes that time limits have cut in one "
                "step: the environment has begun the next ones. The mask of the state before stands in. Let step() put "
                "info['action_mask'] = action_masks().",
                stacklevel=2,
            )
        when = f"after step {self._payer.n_steps + 1} since it was wrapped, in its info"
        return {
            i: self._payer.masks[i] if mask is None else checked_masks([mask], self.action_space, when, first=i)[0]
            for i, mask in told.items()
        }


def _view(teacher: Teacher, venv: VecEnv, teacher_obs: Wrap | str | None) -> TeacherView | None:
    """What the teacher sees of an environment in its wrappers, or else beneath them, where a Dict may have what it reads."""
    try:
        return view_of(teacher, venv, venv, teacher_obs)
    except ValueError:
        base = innermost(venv)
        if teacher_obs is None or base is venv:
            raise
        try:
            return view_of(teacher, venv, base, teacher_obs)
        except ValueError:
            pass  # what is around it is what the user has in mind
        raise


class Info(dict[str, Any]):
    """
    What a monitored environment says of a step: a second ``Monitor``, around the rewards that the teacher pays, cannot say that their
    sum is the return of an episode.
    """

    def __setitem__(self, key: str, value: Any) -> None:
        if key != "episode":
            super().__setitem__(key, value)
            return
        warnings.warn(
            "A Monitor is around the teacher's reward: infos keep the environment's own return, as the Monitor within counts it, but "
            "the outer one's file and get_episode_rewards() have the sum of what the teacher pays. Put TeacherReward outside: "
            "make_vec_env(env_id, wrapper_class=TeacherReward, wrapper_kwargs={'teacher': teacher}).",
            stacklevel=2,
        )

    def copy(self) -> "Info":
        return Info(self)

    def __reduce__(self) -> Any:
        return Info, (dict(self),)


class LogTeacherReward(BaseCallback):
    """Logs ``distill/reward``, the mean of r̂ over a rollout, for an algorithm that knows nothing of distillation."""

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            self.logger.record_mean("distill/reward", info["teacher_reward"])
        return True
