"""Teachers that are made of teachers: an ensemble, one for each environment, the best of several in each state."""

import math
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_distill.common.layers import Layer
from sb3_distill.common.observations import each_part, length, observation_of
from sb3_distill.common.questions import as_dones
from sb3_distill.common.spaces import same_actions, same_kind
from sb3_distill.rules.masking import masked
from sb3_distill.teachers.fingerprint import fingerprint_of
from sb3_distill.teachers.teacher import Answer, Teacher, join_answers, masks_if_any
from sb3_distill.teachers.view import TeacherView

#: how an ensemble averages
AVERAGES = ("probabilities", "logits")
#: where a batch says of which environment each state is
_WHERE = "environment"


class _Together(Teacher):
    """
    What they share: each member reads what it reads alone, and who of them remembers the episode is heard in a view of its own.

    :param teachers: members, or what :func:`~sb3_distill.load_teacher` has made of them
    :param numbered: whether it matters of which environment a state is
    """

    def __init__(self, teachers: Sequence[Teacher], numbered: bool = False) -> None:
        if isinstance(teachers, Teacher):
            raise TypeError(
                f"{type(self).__name__} is made of several teachers: give a list of them, not {teachers.name}."
            )
        teachers = list(teachers)
        if not teachers:
            raise ValueError(f"{type(self).__name__} needs teachers, and there are none.")
        for teacher in teachers:
            if not isinstance(teacher, Teacher):
                raise TypeError(
                    f"{type(self).__name__} is made of teachers, not of {type(teacher).__name__}: give load_teacher(…) of each."
                )
        first = teachers[0]
        names = ", ".join(dict.fromkeys(teacher.name for teacher in teachers))
        super().__init__(env_id=first.env_id, name=f"{type(self).__name__} of {names}", vec_wrapper=first.vec_wrapper)
        self.make_env = first.make_env
        self.gamma = first.gamma if len({teacher.gamma for teacher in teachers}) == 1 else None
        self.teachers = teachers
        self.has_value = all(teacher.has_value for teacher in teachers)
        #: each once, whoever is named several times
        self._members = list({id(teacher): teacher for teacher in teachers}.values())
        self._numbered = numbered
        self._check_spaces()

    @property
    def discounts(self) -> str | None:
        """Of the members; None if they are of one, as far as that is known."""
        gammas = [(teacher.gamma, teacher.name) for teacher in self._members if teacher.gamma is not None]
        if len({gamma for gamma, _ in gammas}) < 2:
            return None
        return ", ".join(f"{gamma:g} for {name}" for gamma, name in gammas)

    def _check_spaces(self) -> None:
        known = [t for t in self._members if t.knows_spaces]
        for other in known[1:]:
            for kind, fits in (("observation_space", same_kind), ("action_space", same_actions)):
                mine, theirs = getattr(known[0], kind), getattr(other, kind)
                if not fits(mine, theirs):
                    raise ValueError(
                        f"{known[0].name} and {other.name} cannot teach together: the {kind} of the one is {mine}, of the other {theirs}."
                    )
        if known and len(known) < len(self._members):
            self.meet(known[0].observation_space, known[0].action_space)

    @property
    def observation_space(self) -> spaces.Space:
        return self._members[0].observation_space

    @property
    def action_space(self) -> spaces.Space:
        return self._members[0].action_space

    @property
    def knows_spaces(self) -> bool:
        return self._members[0].knows_spaces

    def meet(
        self, observation_space: spaces.Space, action_space: spaces.Space, given: spaces.Space | None = None
    ) -> None:
        for teacher in self._members:
            teacher.meet(observation_space, action_space, given)

    @property
    def device(self) -> th.device:
        return self._members[0].device

    @property
    def n_parameters(self) -> int:
        """Of all members together."""
        return sum(teacher.n_parameters for teacher in self._members)

    def weights(self) -> dict[str, Any]:
        """Of all members, and how they are put together."""
        known = {f"{k} {name}": w for k, teacher in enumerate(self._members) for name, w in teacher.weights().items()}
        for k, teacher in enumerate(self._members):
            known |= {f"{k} times": th.tensor(teacher.value_scale)} | {
                f"{k} {name}": th.tensor(float(vars(teacher)[name]))
                for name in ("temperature", "epsilon", "action_std")
                if isinstance(vars(teacher).get(name), (int, float))
            }
            if teacher.noise or teacher.normalize_obs is not None:
                known[f"{k} is {fingerprint_of(teacher)}"] = th.zeros(0)
        return known | self._own_weights()

    def _own_weights(self) -> dict[str, Any]:
        order = [self._members.index(teacher) for teacher in self.teachers]
        return {type(self).__name__: th.tensor(order)}

    # --- what they read -----------------------------------------------------------------------------------------------

    @property
    def reads_a_view(self) -> bool:
        """Whether a member does, or it matters of which environment a state is."""
        return self._numbered or any(teacher.reads_a_view for teacher in self._members)

    def check_number(self, n_envs: int) -> None:
        """
        :param n_envs: side by side
        :raises ValueError: if it is made for another number of them
        """

    def view(self, env: VecEnv) -> VecEnv:
        return Together(env, self) if self.reads_a_view else env

    def at_start(self, obs: Any) -> Any:
        if not self.reads_a_view:
            return obs
        return self.pack(
            np.arange(length(obs)), obs, [t.at_start(obs) if t.reads_a_view else None for t in self._members]
        )

    def pack(self, where: np.ndarray, obs: Any, seen: Sequence[Any]) -> dict[str, Any]:
        """
        :param where: of which environment each state is
        :param obs: n observations as the environment gives them
        :param seen: by each member; None for who reads ``obs``
        :return: all in one dict of arrays, which is an observation to all else
        """
        parts = {"": obs} if any(one is None for one in seen) else {}
        parts |= {f"{k} ": one for k, one in enumerate(seen) if one is not None}
        packed: dict[str, Any] = {_WHERE: where}
        for name, part in parts.items():
            packed |= (
                {f"{name}of {key}": v for key, v in part.items()} if isinstance(part, dict) else {f"{name}all": part}
            )
        return packed

    def unpack(self, obs: Any, k: int) -> Any:
        """
        :param obs: what the teacher reads
        :param k: of which member
        :return: what that one reads
        """
        if not self.reads_a_view:
            return obs
        if not isinstance(obs, dict) or _WHERE not in obs:
            raise ValueError(
                f"{self.name} has to know of which environment and episode a state is: ask it about the observations of "
                "teacher.view(env), or of teacher.at_start(obs)."
            )
        name = f"{k} " if self._members[k].reads_a_view else ""
        if f"{name}all" in obs:
            return obs[f"{name}all"]
        return {key.removeprefix(f"{name}of "): v for key, v in obs.items() if key.startswith(f"{name}of ")}

    def prepare(self, obs: Any) -> Any:
        """:return: the same: each member prepares it for itself"""
        return obs

    def _answers(self, obs: Any, with_value: bool, masks: np.ndarray | None) -> list[Answer]:
        """Of each member for all states."""
        return [
            teacher.answer(self.unpack(obs, k), with_value, **masks_if_any(masks))
            for k, teacher in enumerate(self._members)
        ]

    def _answer(self, obs: Any, with_value: bool) -> Answer:
        return self._put_together(obs, with_value, None)

    def _masked_answer(self, obs: Any, with_value: bool, masks: np.ndarray) -> Answer:
        answer = self._put_together(obs, with_value, masks)
        return answer._replace(parameters=masked(self.action_space, answer.parameters, masks))

    @abstractmethod
    def _put_together(self, obs: Any, with_value: bool, masks: np.ndarray | None) -> Answer:
        """What the members say, each of the actions that are allowed."""


class Together(Layer):
    """
    An environment whose observations are what several teachers read.

    :param venv: the environment
    :param teacher: made of them
    """

    def __init__(self, venv: VecEnv, teacher: _Together) -> None:
        teacher.check_number(venv.num_envs)
        self.views = [TeacherView(venv, t.view) if t.reads_a_view else None for t in teacher._members]
        super().__init__(venv, spaces.Dict({_WHERE: spaces.Discrete(venv.num_envs)}))
        self.teacher = teacher
        self.where = np.arange(venv.num_envs)

    def reset(self) -> VecEnvObs:
        obs = self.venv.reset()
        return self.teacher.pack(self.where, obs, [None if view is None else view.reset(obs) for view in self.views])

    def step_wait(self) -> VecEnvStepReturn:
        obs, rewards, dones, infos = self.venv.step_wait()
        steps = [None if view is None else view.step(obs, rewards, dones, infos) for view in self.views]
        told = list(infos)
        for i in map(int, np.flatnonzero(as_dones(dones))):
            last = infos[i].get("terminal_observation")
            if last is not None:
                seen = [None if step is None else _one(step[1][i]["terminal_observation"]) for step in steps]
                packed = self.teacher.pack(self.where[i : i + 1], _one(last), seen)
                told[i] = infos[i] | {"terminal_observation": observation_of(packed, 0)}
        packed = self.teacher.pack(self.where, obs, [None if step is None else step[0] for step in steps])
        return packed, rewards, dones, told


def _one(obs: Any) -> Any:
    """A batch of one observation."""
    return each_part(obs, lambda values: np.asarray(values)[None])


class EnsembleTeacher(_Together):
    """
    The mean of several teachers (Hinton et al. 2015).

    * ``average="probabilities"``: Σ_i w_i π_i(a|s), exactly; of ``MultiDiscrete`` and ``MultiBinary`` each factor by itself, of a
      ``Box`` the Gaussian with the mean and the variance of the mixture.
    * ``average="logits"``: what is proportional to Π_i π_i(a|s)^{w_i}, exactly: the softmax of the mean logits, and of Gaussians the one
      whose precision is the mean of theirs.

    A mixture of Gaussians is no Gaussian, and one of products is no product. H×(π‖π_θ), the loss of teacher and on-policy distill, depends
    on π through these moments and marginals only, so that it loses nothing; the other losses are of their π. V is Σ_i w_i V_i.

    :param teachers: of one kind of observation and action
    :param weights: w_i ≥ 0, of which only the ratios count; by default all the same
    :param average: ``"probabilities"`` or ``"logits"``
    :raises ValueError: for weights that are no weights, teachers with other spaces, and no teachers
    """

    def __init__(
        self, teachers: Sequence[Teacher], weights: Sequence[float] | None = None, average: str = "probabilities"
    ) -> None:
        super().__init__(teachers)
        if average not in AVERAGES:
            raise ValueError(f"Unknown average={average!r}: choose one of {', '.join(map(repr, AVERAGES))}.")
        given = [1.0] * len(self.teachers) if weights is None else list(weights)
        if len(given) != len(self.teachers):
            raise ValueError(f"There are {len(given)} weights for {len(self.teachers)} teachers.")
        if not all(isinstance(w, Real) and 0 <= w < math.inf for w in given) or sum(given) == 0:
            raise ValueError(f"weights must be numbers of at least 0, and not all 0, not {given}.")
        self.average = average
        #: of each member, with a sum of 1
        self.shares = [
            sum(w for w, t in zip(given, self.teachers, strict=True) if t is member) / sum(given)
            for member in self._members
        ]

    def _own_weights(self) -> dict[str, Any]:
        return {self.average: th.tensor(self.shares, dtype=th.float64)}

    def _put_together(self, obs: Any, with_value: bool, masks: np.ndarray | None) -> Answer:
        answers = self._answers(obs, with_value, masks)
        params = th.stack([answer.parameters.to(self.device) for answer in answers])
        shares = th.tensor(self.shares, dtype=params.dtype, device=params.device)
        value = None
        if with_value:
            value = (shares[:, None] * th.stack([_value(answer).to(params) for answer in answers])).sum(0)
        return Answer(AVERAGING[self.average](self.action_space, params, shares), value)


def mixture(action_space: spaces.Space, params: th.Tensor, shares: th.Tensor) -> th.Tensor:
    """
    :param action_space: of one environment
    :param params: of k policies, shape (k, n, columns), see :mod:`sb3_distill.rules.distributions`
    :param shares: w_i, shape (k,), with a sum of 1
    :return: parameters of Σ_i w_i π_i, shape (n, columns): its marginals; of Gaussians, its mean and variance
    """
    w = shares[:, None, None]
    if isinstance(action_space, spaces.Box):
        mean, log_std = params.chunk(2, dim=-1)
        middle = (w * mean).sum(0)
        # Of logarithms: the square of a small standard deviation is 0 in float32.
        squares = th.stack([2 * log_std, 2 * (mean - middle).abs().log()])
        return th.cat([middle, th.logsumexp(w.log() + squares, dim=(0, 1)) / 2], dim=-1)
    if isinstance(action_space, spaces.MultiBinary):
        functional = th.nn.functional
        yes = th.logsumexp(w.log() + functional.logsigmoid(params), dim=0)
        return yes - th.logsumexp(w.log() + functional.logsigmoid(-params), dim=0)
    return th.logsumexp(w.log() + _log_probs(action_space, params), dim=0)


def product(action_space: spaces.Space, params: th.Tensor, shares: th.Tensor) -> th.Tensor:
    """
    :param action_space: as for :func:`mixture`, like the others
    :param params: of k policies
    :param shares: w_i
    :return: parameters of Π_i π_i^{w_i} over what that sums to
    """
    w = shares[:, None, None]
    if isinstance(action_space, spaces.Box):
        mean, log_std = params.chunk(2, dim=-1)
        precision = w.log() - 2 * log_std  # its logarithm: of a small standard deviation it is infinite
        return th.cat([(precision.softmax(0) * mean).sum(0), -th.logsumexp(precision, dim=0) / 2], dim=-1)
    if isinstance(action_space, spaces.MultiBinary):
        return (w * params).sum(0)
    return _log_probs(action_space, (w * _log_probs(action_space, params)).sum(0))


AVERAGING = {"probabilities": mixture, "logits": product}


def _log_probs(action_space: spaces.Space, params: th.Tensor) -> th.Tensor:
    """Normalised, each factor by itself."""
    sizes = [params.shape[-1]]
    if isinstance(action_space, spaces.MultiDiscrete):
        sizes = np.asarray(action_space.nvec).flatten().tolist()
    return th.cat([part.log_softmax(-1) for part in params.split(sizes, dim=-1)], dim=-1)


class BestTeacher(_Together):
    """
    In each state the teacher that has the highest V there, and its V. It is as good as the critics are, which have to be of one
    discount and of the environment's own reward to be compared.

    :param teachers: with values
    :raises ValueError: if one has none, and as :class:`EnsembleTeacher` does
    """

    def __init__(self, teachers: Sequence[Teacher]) -> None:
        super().__init__(teachers)
        for teacher in self._members:
            if not teacher.has_value:
                raise ValueError(
                    f"BestTeacher compares values, and {teacher.name} has no value function: leave it out, or give load_teacher value=…."
                )
        if self.discounts is not None:
            warnings.warn(
                f"BestTeacher compares values of several discounts ({self.discounts}): of two that are as good, the one that "
                "looks further ahead is taken to be better.",
                stacklevel=2,
            )

    def _put_together(self, obs: Any, with_value: bool, masks: np.ndarray | None) -> Answer:
        answers = self._answers(obs, True, masks)
        values = th.stack([_value(answer).to(self.device) for answer in answers])
        which, rows = values.argmax(0), th.arange(values.shape[1])
        params = th.stack([answer.parameters.to(self.device) for answer in answers])[which, rows]
        return Answer(params, values[which, rows] if with_value else None)


class PerEnvTeacher(_Together):
    """
    A teacher for each environment of a ``VecEnv``, whose copies differ: terrain, opponent, goal.

    :param teachers: of the environments, in their order; one may be named several times
    :raises ValueError: as :class:`EnsembleTeacher` does; and in an environment of which there are more or fewer
    """

    def __init__(self, teachers: Sequence[Teacher]) -> None:
        super().__init__(teachers, numbered=True)
        self._of = np.array([self._members.index(teacher) for teacher in self.teachers])

    @property
    def n_envs(self) -> int:
        """In how many environments side by side it plays, no more and no fewer."""
        return len(self.teachers)

    def check_number(self, n_envs: int) -> None:
        if n_envs != len(self.teachers):
            raise ValueError(
                f"PerEnvTeacher has {len(self.teachers)} teachers, and there are {n_envs} environments: give one for each, of whom one "
                "may be named several times."
            )

    def at_start(self, obs: Any) -> Any:
        self.check_number(length(obs))
        return super().at_start(obs)

    def _put_together(self, obs: Any, with_value: bool, masks: np.ndarray | None) -> Answer:
        self.unpack(obs, 0)  # or it says what is missing
        which = self._of[np.asarray(obs[_WHERE]).astype(int)]
        parts, order = [], []
        for k in np.unique(which):
            rows = np.flatnonzero(which == k)
            own = each_part(self.unpack(obs, int(k)), lambda part, rows=rows: part[rows])  # type: ignore[misc]
            more = masks_if_any(masks if masks is None else masks[rows])
            answer = self._members[k].answer(own, with_value, **more)
            parts.append(Answer(*(None if x is None else x.to(self.device) for x in answer)))  # type: ignore[arg-type]
            order.append(rows)
        back = th.from_numpy(np.argsort(np.concatenate(order)))
        whole = join_answers(parts)
        return Answer(whole.parameters[back], None if whole.value is None else whole.value[back])


def _value(answer: Answer) -> th.Tensor:
    assert answer.value is not None
    return answer.value
