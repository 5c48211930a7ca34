"""What a teacher is: anything that answers, for a batch of observations, with an action distribution and a value.

One class per family of SB3 algorithms. A teacher wraps an SB3 *policy* (the network), never an algorithm, so it makes
no difference whether that came from a loaded model or from a checkpoint that SB3 itself cannot load.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecTransposeImage
from stable_baselines3.dqn.policies import DQNPolicy

from sb3_distill.common.layers import raw_env
from sb3_distill.common.observations import length, observation_of
from sb3_distill.common.questions import env_id_of
from sb3_distill.common.spaces import channels_last, check_spaces, env_actions, signature
from sb3_distill.evaluation.episodes import Heeding, make_plain_envs
from sb3_distill.rules.distributions import from_parameters
from sb3_distill.rules.masking import masked
from sb3_distill.teachers.noise import noisy_actions, with_noise

Observation = np.ndarray | dict[str, np.ndarray]


class Answer(NamedTuple):
    """A teacher's answer for n states.

    :param parameters: of π(·|s), shape (n, columns), see :mod:`sb3_distill.rules.distributions`
    :param value: V_π(s), shape (n,), in units of the environment's own reward; None if it was not asked for
    """

    parameters: th.Tensor
    value: th.Tensor | None


def join_answers(answers: list[Answer]) -> Answer:
    """
    :param answers: at least one, all with values or all without
    :return: one answer for all their states
    """
    values = [answer.value for answer in answers if answer.value is not None]
    return Answer(th.cat([answer.parameters for answer in answers]), th.cat(values) if values else None)


def masks_if_any(masks: np.ndarray | None) -> dict[str, Any]:
    """
    :param masks: of states, or None
    :return: arguments for ``answer`` and ``act``: a teacher of a user's own that knows of no masks need not take them where there are none
    """
    return {} if masks is None else {"masks": masks}


class Teacher(ABC):
    """
    A frozen policy that is asked, in batches and without gradients, what it would do and how good a state is.

    One of your own that wraps no policy of SB3 is a subclass with a method, which is given n observations as the environment gives
    them and says the parameters of π, see :mod:`sb3_distill.rules.distributions`, and V_π if it is asked for that:

    >>> import torch as th
    >>> from sb3_distill.teachers.teacher import Answer, Teacher
    >>> class Upright(Teacher):
    ...     has_value = False
    ...
    ...     def _answer(self, obs, with_value):
    ...         push_right = th.as_tensor(obs[:, 2] + obs[:, 3])
    ...         return Answer(th.stack([-push_right, push_right], dim=1).log_softmax(1), None)
    >>> Upright()
    Upright(Upright, 0 parameters)

    :param policy: the network, on the device where it shall answer; None for a teacher that is no agent of SB3's
    :param normalize_obs: from the environment's observation to the one that the policy was trained on (VecNormalize)
    :param value_scale: what to multiply the critic's values with to get units of the environment's own reward
    :param env_id: where the policy was trained, if that is known
    :param name: for messages and tables
    :param make_env: makes n environments as the policy was trained in them; by default plain ones of ``env_id``
    :param vec_wrapper: what training put around the environments and their own wrappers, such as a stack of frames
    :param observation_space: of a teacher without a policy; None for that of the environment where it is asked first
    :param action_space: likewise
    :param gamma: the discount of the returns that its value function is of, if that is known
    """

    policy: Any = None
    normalize_obs: Callable[[Any], Any] | None = None
    value_scale: float = 1.0
    env_id: str | None = None
    _observation_space: spaces.Space | None = None
    _action_space: spaces.Space | None = None
    #: whether the teacher has a value function
    has_value = True
    #: the share of its actions that is uniform, and what draws them where it plays; see :mod:`~sb3_distill.teachers.noise`
    noise: float = 0.0
    noise_rng: np.random.Generator
    make_env: Callable[[int], VecEnv] | None = None
    vec_wrapper: Callable[[VecEnv], VecEnv] | None = None
    gamma: float | None = None

    def __init__(
        self,
        policy: BasePolicy | None = None,
        normalize_obs: Callable[[Any], Any] | None = None,
        value_scale: float = 1.0,
        env_id: str | None = None,
        name: str | None = None,
        make_env: Callable[[int], VecEnv] | None = None,
        vec_wrapper: Callable[[VecEnv], VecEnv] | None = None,
        observation_space: spaces.Space | None = None,
        action_space: spaces.Space | None = None,
        gamma: float | None = None,
    ) -> None:
        self.policy = policy
        self.normalize_obs = normalize_obs
        self.value_scale = value_scale
        self.env_id = env_id
        self.name = name or type(self if policy is None else policy).__name__
        self.make_env = make_env
        self.vec_wrapper = vec_wrapper
        self._observation_space = observation_space
        self._action_space = action_space
        self.gamma = gamma

    @property
    def discounts(self) -> str | None:
        """Which γ its values are of, for messages, if they are of several: of teachers that are made of teachers."""
        return None

    @property
    def observation_space(self) -> spaces.Space:
        """The space of the environment's observations, before any normalisation."""
        return self._known(self._observation_space) if self.policy is None else self.policy.observation_space

    @property
    def action_space(self) -> spaces.Space:
        """The space of the actions."""
        return self._known(self._action_space) if self.policy is None else self.policy.action_space

    def _known(self, space: spaces.Space | None) -> spaces.Space:
        if space is None:
            raise ValueError(
                f"{self.name} has met no environment yet, and has no spaces before: give load_teacher env=…, or observation_space=… and "
                "action_space=…."
            )
        return space

    @property
    def knows_spaces(self) -> bool:
        """Whether it has spaces, or is to take those of the first environment that it meets."""
        return self.policy is not None or None not in (self._observation_space, self._action_space)

    def meet(
        self, observation_space: spaces.Space, action_space: spaces.Space, given: spaces.Space | None = None
    ) -> None:
        """
        Take an environment's spaces, for a teacher that has none of its own; it keeps them.

        :param observation_space: of what it is going to read
        :param action_space: of the environment
        :param given: of the same as the environment gives it, before SB3 lays images out for a student's network, where it has
        """
        if self.policy is None:
            self._observation_space = self._observation_space or observation_space
            self._action_space = self._action_space or action_space

    @property
    def device(self) -> th.device:
        """Where the answers live."""
        return th.device("cpu") if self.policy is None else self.policy.device

    @property
    def n_parameters(self) -> int:
        """How many numbers the network that picks the actions has; 0 where there is none."""
        return 0 if self.policy is None else actor_size(self.policy)

    def weights(self) -> dict[str, Any]:
        """
        What tells this teacher from others, besides what normalises its observations.

        :return: tensors by name, and things that are not looked at
        """
        return {} if self.policy is None else self.policy.state_dict()

    def prepare(self, obs: Observation) -> Any:
        """
        :param obs: n observations as the environment gives them
        :return: what the network takes: normalised as in its training, images channels first, tensors on its device
        """
        if self.normalize_obs is not None:
            obs = self.normalize_obs(obs)
        if self.policy is None:
            return obs
        if self.policy.training:
            self.policy.set_training_mode(False)
        return channels_last(self.policy.obs_to_tensor(obs)[0])

    def answer(self, obs: Observation, with_value: bool = False, masks: np.ndarray | None = None) -> Answer:
        """
        Ask about a batch of states: one forward pass.

        :param obs: n observations as the environment gives them (arrays of shape (n, …), or a dict of such)
        :param with_value: whether V_π(s) is wanted too
        :param masks: which actions are allowed there, of booleans, see :mod:`sb3_distill.common.masks`: π is among these alone
        :return: the parameters of π(·|s) and, if wanted, the values
        """
        with th.no_grad():
            prepared = self.prepare(obs)
            if masks is None:
                answer = self._answer(prepared, with_value)
            else:
                answer = self._masked_answer(prepared, with_value, masks)
            if not self.noise:
                return answer
            return answer._replace(parameters=with_noise(answer.parameters, self.noise, masks))

    def answer_in_chunks(
        self, obs: Any, with_value: bool = False, chunk: int | None = None, masks: np.ndarray | None = None
    ) -> Answer:
        """
        :meth:`answer` for a batch of any size.

        :param obs: n observations as the environment gives them, or what makes them when it is sliced
        :param with_value: whether V_π(s) is wanted too
        :param chunk: about how many states a forward pass takes; by default as many as a cache holds the activations of
        :param masks: of the n states, as for :meth:`answer`
        :return: one answer
        """
        if chunk is None:
            chunk = int(np.clip(_CHUNK_NUMBERS // size_of(self.observation_space), 1, 1_024))
        n = length(obs)
        parts = []
        size = -(-n // max(1, round(n / chunk)))  # no small remainder, whose pass would cost as much as a large one's
        for start in range(0, n, size):
            part = slice(start, start + size)
            more = masks_if_any(None if masks is None else masks[part])
            parts.append(self.answer(observation_of(obs, part), with_value, **more))
        return join_answers(parts)

    @abstractmethod
    def _answer(self, obs: Any, with_value: bool) -> Answer:
        """:meth:`answer` for what :meth:`prepare` returned: of a teacher without a policy, the observations."""

    def _masked_answer(self, obs: Any, with_value: bool, masks: np.ndarray) -> Answer:
        """:meth:`_answer` among the actions that are allowed; V_π is what it is, for one that does not depend on them."""
        answer = self._answer(obs, with_value)
        return answer._replace(parameters=masked(self.action_space, answer.parameters, masks))

    def distribution(self, obs: Observation, masks: np.ndarray | None = None) -> Distribution:
        """
        The teacher's action distribution.

        :param obs: n observations as the environment gives them
        :param masks: as for :meth:`answer`
        :return: a new SB3 distribution over a batch of n states
        """
        return from_parameters(self.action_space, self.answer(obs, **masks_if_any(masks)).parameters)

    def value(self, obs: Observation) -> th.Tensor:
        """
        The teacher's value function V_π.

        :param obs: n observations as the environment gives them
        :return: shape (n,), in units of the environment's own reward
        :raises ValueError: if the teacher has none
        """
        if not self.has_value:
            raise ValueError(
                f"The teacher {self.name} has no value function: use a teacher with a critic or a Q-network."
            )
        value = self.answer(obs, with_value=True).value
        assert value is not None
        return value

    def act(self, obs: Observation, masks: np.ndarray | None = None) -> np.ndarray:
        """
        The teacher's greedy actions, as SB3's ``predict(obs, deterministic=True)`` has them; with ``noise``, that share of them is
        uniform.

        :param obs: n observations as the environment gives them
        :param masks: as for :meth:`answer`
        :return: n actions as the environment takes them
        """
        actions = env_actions(self.action_space, self.distribution(obs, masks).mode())
        n = getattr(self.action_space, "n", 0)
        return noisy_actions(actions, self.noise, int(n), self.noise_rng, masks) if self.noise else actions

    def greedy(self, obs: Observation) -> np.ndarray:
        """
        The likeliest actions of what is taught, whatever ``predict`` does.

        :param obs: n observations as :meth:`answer` takes them
        :return: n actions as the environment takes them
        """
        return env_actions(self.action_space, self.distribution(obs).mode())

    def at_start(self, obs: Observation) -> Any:
        """
        :param obs: n observations as the environment gives them, each the first of an episode
        :return: what :meth:`answer` takes
        """
        return obs

    def view(self, env: VecEnv) -> VecEnv:
        """
        What the teacher reads of an environment that has the observations it was trained on: by default those.

        :param env: whose observations are in ``observation_space``
        :return: the environment, or a wrapper around it whose observations :meth:`answer` takes
        """
        return env

    @property
    def n_envs(self) -> int | None:
        """In how many environments side by side it plays, no more and no fewer; None for any number."""
        return None

    @property
    def reads_a_view(self) -> bool:
        """Whether it reads something else than an environment says: what :meth:`view` makes of it, as one who remembers does."""
        return type(self).view is not Teacher.view

    def seated(self, env: VecEnv) -> tuple[Callable[..., np.ndarray], VecEnv]:
        """
        Who plays, for :func:`~sb3_distill.evaluation.episodes.play_episodes`: with ``act``, among the actions that are allowed.

        :param env: any stack of wrappers; what it says beneath a ``VecNormalize`` is read, as everywhere
        :return: the player, and the environment as this teacher reads it, which remembers the episode for one that does
        :raises ValueError: if the teacher cannot read its observations or does other actions; both spaces are shown
        """
        layer = env
        while isinstance(layer, VecEnvWrapper):
            if getattr(layer, "teacher", None) is self:  # of training_env, or of view
                return Heeding(self.act), env
            layer = layer.venv
        return Heeding(self.act), self.view(as_teacher_reads(self, raw_env(env)[0]))

    def training_env(self, n_envs: int) -> VecEnv:
        """
        The environments that the teacher was trained in, as :meth:`answer` reads them.

        :param n_envs: how many
        :return: they; rewards are not normalised
        :raises ValueError: if nothing says what they were, or they cannot be made, or have other spaces than the teacher
        """
        if self.env_id is None:
            raise ValueError(f"Nothing says where {self.name} was trained: give load_teacher an env_id.")
        try:
            env = self.make_env(n_envs) if self.make_env is not None else make_plain_envs(self.env_id, n_envs)
        except (gym.error.Error, ImportError) as error:
            raise ValueError(f"Environment {self.env_id!r} of {self.name} cannot be made here: {error}") from error
        self.meet(env.observation_space, env.action_space)
        mine, theirs = (self.observation_space, self.action_space), (env.observation_space, env.action_space)
        check_spaces(self.name, *mine, *theirs, lambda: (self.env_id, self.env_id))
        return self.view(env)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, {self.n_parameters:,} parameters)"


def check_fits(teacher: Teacher, seen: spaces.Space, env: VecEnv) -> None:
    """
    :param teacher: who
    :param seen: the space of what it would read
    :param env: in which
    :raises ValueError: if it cannot read that or does other actions; both spaces are shown, and both environments if they are known
    """
    teacher.meet(seen, env.action_space, _as_given(seen, env))
    check_spaces(
        teacher.name,
        teacher.observation_space,
        teacher.action_space,
        seen,
        env.action_space,
        lambda: (teacher.env_id, env_id_of(env)),
    )


def _as_given(seen: spaces.Space, env: VecEnv) -> spaces.Space:
    """A space of observations before SB3's ``VecTransposeImage``, where that is around the environment."""
    while isinstance(env, VecEnvWrapper):
        if isinstance(env, VecTransposeImage) and signature(env.observation_space) == signature(seen):
            return env.venv.observation_space
        env = env.venv
    return seen


def as_teacher_reads(teacher: Teacher, env: VecEnv) -> VecEnv:
    """
    :param teacher: who
    :param env: the environments, without a ``VecNormalize``
    :return: they, with what the teacher's training put around its own if they lack it
    :raises ValueError: if the teacher cannot read their observations or does other actions; both spaces are shown
    """
    if teacher.vec_wrapper is not None and signature(env.observation_space) != signature(teacher.observation_space):
        env = teacher.vec_wrapper(env)
    check_fits(teacher, env.observation_space, env)
    return env


#: how many numbers a batch of observations should hold at most: 256 stacks of four 84 × 84 frames
_CHUNK_NUMBERS = 256 * 4 * 84 * 84


def size_of(space: spaces.Space) -> int:
    """
    :param space: of observations
    :return: how many numbers one of them holds; the keys' together, for ``Dict``
    """
    if isinstance(space, spaces.Dict):
        return sum(size_of(sub) for sub in space.spaces.values())
    return int(np.prod(space.shape or (1,)))


def actor_size(policy: BasePolicy) -> int:
    """
    How many parameters take part in picking an action: the Q-network, or the actor without the critic.

    :param policy: of any of SB3's algorithms
    :return: a number of parameters
    """
    if isinstance(policy, DQNPolicy):
        modules: list[th.nn.Module] = [policy.q_net]
    elif isinstance(policy, QRDQNPolicy):
        modules = [policy.quantile_net]
    elif isinstance(policy, (ActorCriticPolicy, MaskableActorCriticPolicy)):
        modules = [policy.pi_features_extractor, _actor_of(policy.mlp_extractor), policy.action_net]
        modules += [policy.lstm_actor] if isinstance(policy, RecurrentActorCriticPolicy) else []
    else:
        modules = [getattr(policy, "actor", policy)]
    return sum(p.numel() for module in modules for p in module.parameters())


def _actor_of(extractor: th.nn.Module) -> th.nn.Module:
    """What of a custom policy's network picks actions: what SB3 calls ``policy_net``, or else all that is not ``value_net``."""
    actor = getattr(extractor, "policy_net", None)
    if isinstance(actor, th.nn.Module):
        return actor
    return th.nn.ModuleList(part for name, part in extractor.named_children() if name != "value_net")
