"""Teachers that are no agents of SB3's: a controller, a rule, a network of another library.

A function is asked, and its answers become a policy by what they are, see :mod:`~sb3_distill.teachers.answer_kinds`. Who remembers the
episode, an object with a ``reset()``, is copied for each environment, and asked as the steps come: :class:`Controllers`.
"""

import warnings
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_distill.common.layers import Layer
from sb3_distill.common.masks import forbidden
from sb3_distill.common.observations import as_laid_out, each_part, length, observation_of
from sb3_distill.common.questions import as_dones
from sb3_distill.common.sampled import sampled
from sb3_distill.common.user_code import innermost, said_by
from sb3_distill.teachers.answer_kinds import (
    AnswerError,
    FunctionError,
    beyond,
    check_options,
    check_serves,
    least_std,
    parameters_of,
    width,
)
from sb3_distill.teachers.asked import Asked, shapes
from sb3_distill.teachers.bounded import MIN_STD
from sb3_distill.teachers.q_network import QTeacher
from sb3_distill.teachers.teacher import Answer, Observation, Teacher

#: observations that a teacher is tried on
TRIED = 8
#: observations that tell one teacher from another: of one that remembers a whole episode of them
TOLD_BY = 32


class OwnTeacher(Teacher):
    """
    What all of them share.

    :param asked: the function
    :param value: V_π of states, if it is known
    :param tried: observations to try it on; by default, some that are sampled from the space
    :param kwargs: see :class:`~sb3_distill.Teacher`
    """

    def __init__(self, asked: Asked, value: Asked | None = None, tried: Any = None, **kwargs: Any) -> None:
        kwargs.setdefault("name", asked.name)
        super().__init__(None, **kwargs)
        self.asked, self.value_of = asked, value
        self.has_value = value is not None
        self._tried, self._is_tried = tried, False
        self._told_clipping = self._told_forbidden = self._told_narrow = False
        if self._observation_space is not None and self._action_space is not None:
            self._try()

    @property
    def n_parameters(self) -> int:
        """Of a network; 0 of a rule."""
        owner = self.asked.owner
        return sum(p.numel() for p in owner.parameters()) if isinstance(owner, th.nn.Module) else 0

    def weights(self) -> dict[str, Any]:
        """Its weights if it is a network; of a rule, its answers for sampled observations, which are an episode to one that remembers."""
        owner = self.asked.owner
        known = owner.state_dict() if callable(getattr(owner, "state_dict", None)) else None
        if isinstance(known, dict):
            return {f"{self.asked.answers} {name}": value for name, value in known.items()}
        if not self.knows_spaces:
            return {self.name: th.zeros(0)}
        obs = sampled(self.observation_space, TOLD_BY if self.asked.remembers else TRIED)
        say = self._along if self.asked.remembers else self._first_rows
        try:
            answers = say(obs)
            same = np.array_equal(answers, say(obs))
        except Exception:  # in states that it never comes to, it may do what it likes
            return {}
        return {self.asked.answers: th.from_numpy(answers).float()} if same else {}

    def meet(
        self, observation_space: spaces.Space, action_space: spaces.Space, given: spaces.Space | None = None
    ) -> None:
        super().meet(observation_space if given is None else given, action_space)
        if not self._is_tried:
            self._try()

    def try_on(self, obs: Any) -> None:
        """:param obs: observations to try it on when it meets its environment, in place of some that are sampled from the space"""
        self._tried = obs

    @property
    def reads_a_view(self) -> bool:
        """Whether it remembers the episode."""
        return self.asked.remembers

    def view(self, env: VecEnv) -> VecEnv:
        return Controllers(env, self) if self.asked.remembers else env

    def at_start(self, obs: Any) -> Any:
        if not self.asked.remembers:
            return obs
        return np.concatenate(
            [self.first(observation_of(obs, slice(i, i + 1)), self.asked.begun()) for i in range(length(obs))]
        )

    @property
    def row_size(self) -> int:
        """How many numbers :class:`Controllers` says of a state."""
        return width(self.asked.answers, self.action_space) + (self.value_of is not None)

    def first(self, obs: Any, asked: Asked) -> np.ndarray:
        """
        :param obs: n observations as the environment gives them
        :param asked: who is asked about them
        :return: answers, and values if there are any, shape (n, :attr:`row_size`)
        """
        obs = self._seen(obs)
        rows = self._clipped(asked.rows(obs, self.action_space))
        if self.value_of is None:
            return rows
        return np.concatenate([rows, self.value_of.rows(obs, self.action_space)], axis=1)

    def _seen(self, obs: Any) -> Any:
        """
        Observations as the function takes them: normalised, and images laid out as in its own space, wherever a student's network has
        their channels. To networks their channels come first, as to SB3's.
        """
        space = self.observation_space
        if isinstance(space, spaces.Dict):
            obs = {key: as_laid_out(np.asarray(obs[key]), self._layout(sub), 1) for key, sub in space.items()}
        else:
            obs = as_laid_out(np.asarray(obs), self._layout(space), 1)
        return obs if self.normalize_obs is None else self.normalize_obs(obs)

    def _layout(self, space: spaces.Space) -> tuple[int, ...]:
        """The shape in which one observation of a space is given to the function."""
        shape = tuple(space.shape or ())
        is_network = isinstance(self.asked.owner, th.nn.Module)
        is_image = isinstance(space, spaces.Box) and is_image_space(space)
        if not is_network or not is_image or is_image_space_channels_first(space):  # type: ignore[arg-type]
            return shape
        return shape[2], *shape[:2]

    def prepare(self, obs: Observation) -> th.Tensor:
        if self.asked.remembers:
            if isinstance(obs, dict) or np.shape(obs)[1:] != (self.row_size,):
                raise ValueError(
                    f"{self.name} remembers the episode: ask it about the observations of teacher.view(env), of shape "
                    f"(n, {self.row_size}), or of teacher.at_start(obs), not of shape {shapes(obs)}."
                )
            rows = np.asarray(obs)
        else:
            rows = self._clipped(self.asked.rows(self._seen(obs), self.action_space))
        return th.from_numpy(rows).float()

    def answer(self, obs: Observation, with_value: bool = False, masks: np.ndarray | None = None) -> Answer:
        answer = super().answer(obs, with_value and self.value_of is None, masks)
        if not with_value or self.value_of is None:
            return answer
        if self.asked.remembers:
            values = np.asarray(obs)[:, -1]
        else:
            values = self.value_of.rows(self._seen(obs), self.action_space)[:, 0]
        return answer._replace(value=th.from_numpy(values).float() * self.value_scale)

    def _clipped(self, rows: np.ndarray) -> np.ndarray:
        """Actions of a ``Box`` as the environment gets them; said once."""
        if self.asked.answers != "action" or not isinstance(self.action_space, spaces.Box):
            return rows
        out = beyond(self.action_space, rows)
        if out.any():
            if self._is_tried and not self._told_clipping:  # those that it was tried on may be no states at all
                self._told_clipping = True
                warnings.warn(
                    f"{self.name} answers with actions outside {self.action_space}, in {int((out > 0).sum())} of {len(out)} states, by up "
                    f"to {out.max():.3g}: they are clipped, as SB3 clips an agent's.",
                    stacklevel=2,
                )
            rows = np.clip(rows, self.action_space.low.flatten(), self.action_space.high.flatten())
        return rows

    def _try(self) -> None:
        """Ask about a few observations."""
        check_serves(self.asked.answers, self.action_space, self.name)
        if np.any(getattr(self.action_space, "start", 0)):
            warnings.warn(
                f"The actions of {self.action_space} are counted from 0 by SB3, whatever start says, and so must {self.name} count them.",
                stacklevel=2,
            )
        if self._tried is None:
            obs, where = sampled(self.observation_space, TRIED), "sampled from its observation space"
        else:
            obs, where = self._tried, "that its environment begins with"
        try:
            rows = self._first_rows(obs)
        except FunctionError as raised:
            error = raised.__cause__ or raised
            n = self._n_failing(obs) or length(obs)  # a batch of one may be another matter
            if n == length(obs) or self._tried is not None:
                raise AnswerError(self._raised(error, obs, n, where)) from error
            warnings.warn(self._raised(error, obs, n, where), stacklevel=2)  # there may be no such states
        else:
            others = int((rows != self._first_rows(obs)).any(axis=1).sum())
            if others:
                warnings.warn(
                    f"{self.name} answers otherwise when it is asked again: for {others} of {len(rows)} observations {where}. If it draws, "
                    "say what from (answers='probabilities' or 'mean_and_std'); if it remembers the episode, give an object that has a "
                    "reset() and takes one observation at a time.",
                    stacklevel=2,
                )
        self._is_tried = True

    def _first_rows(self, obs: Any) -> np.ndarray:
        """What it says of the first states of episodes."""
        if self.asked.remembers:
            return np.asarray(self.at_start(obs))
        return self.first(obs, self.asked)

    def _along(self, obs: Any) -> np.ndarray:
        """What one that remembers says of an episode with these states."""
        asked = self.asked.begun()
        return np.concatenate([self.first(observation_of(obs, slice(i, i + 1)), asked) for i in range(length(obs))])

    def _n_failing(self, obs: Any) -> int:
        """For how many of the observations it raises."""
        n = 0
        for i in range(length(obs)):
            try:
                self._first_rows(observation_of(obs, slice(i, i + 1)))
            except FunctionError:
                n += 1
        return n

    def _raised(self, error: BaseException, obs: Any, n: int, where: str) -> str:
        shape = shapes(obs if self.asked.batched else observation_of(obs, 0))
        asked = "a batch of observations" if self.asked.batched else "one observation"
        place, hints = innermost(error), []
        if self.asked.batched:
            hints.append("if it takes one at a time, give batched=False")
        else:
            hints.append("if it takes a batch, give batched=True")
        if not isinstance(self.asked.function, th.nn.Module):
            hints.append("they come as arrays of NumPy")
        if self._tried is None:
            hints.append("if there is no such state, give env='ID', whose first observations it is asked about instead")
        said = f"{said_by(error)}{f' in {place}' if place else ''}"
        return (
            f"{self.name} raises {said} when it is asked about {asked} of shape {shape}, for {n} of {length(obs)} {where} "
            f"({'; '.join(hints)})."
        )


class RuleTeacher(OwnTeacher):
    """
    Answers with actions, logits, probabilities, or means and standard deviations.

    :param asked: the function
    :param epsilon: ε of discrete actions: 0.01 by default, and 0 of logits
    :param action_std: of the Gaussian around an action, in units of half the action's range; by default 0.1
    :param kwargs: see :class:`OwnTeacher`
    """

    def __init__(
        self, asked: Asked, *, epsilon: float | None = None, action_std: float | None = None, **kwargs: Any
    ) -> None:
        self._given = {"epsilon": epsilon, "action_std": action_std}
        self.epsilon = (0.0 if asked.answers == "logits" else 0.01) if epsilon is None else epsilon
        self.action_std = 0.1 if action_std is None else action_std
        check_options(asked.answers, None, self._given, asked.name)
        super().__init__(asked, **kwargs)

    def _try(self) -> None:
        check_options(self.asked.answers, self.action_space, self._given, self.name)
        super()._try()

    def _answer(self, obs: th.Tensor, with_value: bool) -> Answer:
        rows = obs[:, : width(self.asked.answers, self.action_space)]
        if isinstance(self.action_space, spaces.Box) and not self._told_narrow:
            self._tell_narrow(self.action_space, rows)
        return Answer(parameters_of(self.asked.answers, self.action_space, rows, self.epsilon, self.action_std), None)

    def _tell_narrow(self, action_space: spaces.Box, rows: th.Tensor) -> None:
        """That a Gaussian is taken as wider than it is; once."""
        least = self.action_std
        if self.asked.answers == "mean_and_std":
            stds = rows.chunk(2, dim=-1)[1].double()
            least = float((stds / least_std(action_space)).min()) * MIN_STD if len(stds) else MIN_STD
        if least < MIN_STD * (1 - 1e-6):  # no matter of rounding
            self._told_narrow = True
            warnings.warn(
                f"The standard deviation of {self.name} is {least:.3g} of half an action's range, and is taken as {MIN_STD:g}, the least "
                "that a teacher of Box actions has.",
                stacklevel=2,
            )

    def _masked_answer(self, obs: th.Tensor, with_value: bool, masks: np.ndarray) -> Answer:
        if self.asked.answers == "action" and not self._told_forbidden:
            actions = obs[:, : width("action", self.action_space)].numpy()
            n = int(forbidden(self.action_space, masks, actions).sum())
            if n:
                self._told_forbidden = True
                warnings.warn(
                    f"{self.name} answers with an action that the environment forbids in {n} of {len(masks)} states: there it says nothing "
                    "of the others, and those that are allowed are equally likely. Let it answer with one that is allowed, or with logits.",
                    stacklevel=2,
                )
        return super()._masked_answer(obs, with_value, masks)


class OwnQTeacher(OwnTeacher, QTeacher):
    """
    Answers with Q-values: a :class:`~sb3_distill.teachers.q_network.QTeacher` of another make.

    :param asked: the function
    :param temperature: τ, None to have it found
    :param epsilon: ε
    :param kwargs: see :class:`OwnTeacher`
    """

    def __init__(self, asked: Asked, *, temperature: float | None = None, epsilon: float = 0.01, **kwargs: Any) -> None:
        super().__init__(asked, temperature=temperature, epsilon=epsilon, **kwargs)
        self.has_value = True

    def _q_values(self, obs: th.Tensor) -> th.Tensor:
        return obs * self.value_scale


class Controllers(Layer):
    """
    An environment whose observations are what a teacher with a memory says of the episode so far, as its copies answer it.

    :param venv: the environment as the teacher reads it
    :param teacher: whose copies play one environment each
    """

    def __init__(self, venv: VecEnv, teacher: OwnTeacher) -> None:
        super().__init__(venv, spaces.Box(-np.inf, np.inf, (teacher.row_size,)))
        self.teacher = teacher
        self.copies = [teacher.asked.begun() for _ in range(venv.num_envs)]
        #: in its episode, of each environment
        self.steps = [0] * venv.num_envs

    def reset(self) -> VecEnvObs:
        obs = self.venv.reset()
        self.steps = [0] * self.num_envs
        for i in range(self.num_envs):
            self.copies[i].owner.reset()
        return self._all(obs)

    def step_wait(self) -> VecEnvStepReturn:
        obs, rewards, dones, infos = self.venv.step_wait()
        dones, told = as_dones(dones), list(infos)
        self.steps = [step + 1 for step in self.steps]
        for i in map(int, np.flatnonzero(dones)):
            last = infos[i].get("terminal_observation")
            if last is not None:
                row = self._one(each_part(last, lambda values: np.asarray(values)[None]), i)
                told[i] = infos[i] | {"terminal_observation": row}
            self.copies[i].owner.reset()
            self.steps[i] = 0
        return self._all(obs), rewards, dones, told

    def _all(self, obs: Any) -> np.ndarray:
        return np.stack([self._one(observation_of(obs, slice(i, i + 1)), i) for i in range(self.num_envs)])

    def _one(self, obs: Any, i: int) -> np.ndarray:
        try:
            return self.teacher.first(obs, self.copies[i])[0]
        except AnswerError as error:
            where = f"environment {i}, step {self.steps[i]} of its episode"
            raise type(error)(f"{error} That is in {where}.") from error.__cause__
