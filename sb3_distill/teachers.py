"""What a teacher is: anything that answers, for a batch of observations, with an action distribution and a value.

One class per family of SB3 algorithms. A teacher wraps an SB3 *policy* (the network), never an algorithm, so it makes
no difference whether that came from a loaded model or from a checkpoint that SB3 itself cannot load.
"""

import warnings
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
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.dqn.policies import DQNPolicy

from sb3_distill.bounded_play import BoundedEnv, Clock, TooSlow, in_time
from sb3_distill.distributions import from_parameters, parameters
from sb3_distill.evaluation import episode_returns, make_plain_envs
from sb3_distill.questions import env_id_of
from sb3_distill.spaces import action_tensor, channels_last, check_spaces, env_actions, signature
from sb3_distill.temperature import (
    ENOUGH_STATES,
    Choice,
    check_q_values,
    check_softness,
    soften,
    softest_by_confidence,
    softest_by_loss,
    softest_by_return,
    spread,
)
from sb3_distill.user_code import first_line

Observation = np.ndarray | dict[str, np.ndarray]


class Answer(NamedTuple):
    """A teacher's answer for n states.

    :param parameters: of π(·|s), shape (n, columns), see :mod:`sb3_distill.distributions`
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


class Teacher(ABC):
    """
    A frozen policy that is asked, in batches and without gradients, what it would do and how good a state is.

    :param policy: the network, on the device where it shall answer
    :param normalize_obs: from the environment's observation to the one that the policy was trained on (VecNormalize)
    :param value_scale: what to multiply the critic's values with to get units of the environment's own reward
    :param env_id: where the policy was trained, if that is known
    :param name: for messages and tables
    :param make_env: makes n environments as the policy was trained in them; by default plain ones of ``env_id``
    :param vec_wrapper: what training put around the environments and their own wrappers, such as a stack of frames
    """

    #: whether the teacher has a value function
    has_value = True
    make_env: Callable[[int], VecEnv] | None = None
    vec_wrapper: Callable[[VecEnv], VecEnv] | None = None

    def __init__(
        self,
        policy: BasePolicy,
        normalize_obs: Callable[[Any], Any] | None = None,
        value_scale: float = 1.0,
        env_id: str | None = None,
        name: str | None = None,
        make_env: Callable[[int], VecEnv] | None = None,
        vec_wrapper: Callable[[VecEnv], VecEnv] | None = None,
    ) -> None:
        self.policy = policy
        self.normalize_obs = normalize_obs
        self.value_scale = value_scale
        self.env_id = env_id
        self.name = name or type(policy).__name__
        self.make_env = make_env
        self.vec_wrapper = vec_wrapper

    @property
    def observation_space(self) -> spaces.Space:
        """The space of the environment's observations, before any normalisation."""
        return self.policy.observation_space

    @property
    def action_space(self) -> spaces.Space:
        """The space of the actions."""
        return self.policy.action_space

    @property
    def device(self) -> th.device:
        """Where the answers live."""
        return self.policy.device

    @property
    def n_parameters(self) -> int:
        """How many numbers the network that picks the actions has."""
        return actor_size(self.policy)

    def prepare(self, obs: Observation) -> Any:
        """
        :param obs: n observations as the environment gives them
        :return: what the network takes: normalised as in its training, images channels first, tensors on its device
        """
        if self.normalize_obs is not None:
            obs = self.normalize_obs(obs)
        if self.policy.training:
            self.policy.set_training_mode(False)
        return channels_last(self.policy.obs_to_tensor(obs)[0])

    def answer(self, obs: Observation, with_value: bool = False) -> Answer:
        """
        Ask about a batch of states: one forward pass.

        :param obs: n observations as the environment gives them (arrays of shape (n, …), or a dict of such)
        :param with_value: whether V_π(s) is wanted too
        :return: the parameters of π(·|s) and, if wanted, the values
        """
        with th.no_grad():
            return self._answer(self.prepare(obs), with_value)

    def answer_in_chunks(self, obs: Any, with_value: bool = False, chunk: int | None = None) -> Answer:
        """
        :meth:`answer` for a batch of any size.

        :param obs: n observations as the environment gives them, or what makes them when it is sliced
        :param with_value: whether V_π(s) is wanted too
        :param chunk: about how many states a forward pass takes; by default as many as a cache holds the activations of
        :return: one answer
        """
        if chunk is None:
            chunk = int(np.clip(_CHUNK_NUMBERS // size_of(self.observation_space), 1, 1_024))
        n = len(next(iter(obs.values()))) if isinstance(obs, dict) else len(obs)
        parts = []
        size = -(-n // max(1, round(n / chunk)))  # no small remainder, whose pass would cost as much as a large one's
        for start in range(0, n, size):
            part = slice(start, start + size)
            obs_part = {key: value[part] for key, value in obs.items()} if isinstance(obs, dict) else obs[part]
            parts.append(self.answer(obs_part, with_value))
        return join_answers(parts)

    @abstractmethod
    def _answer(self, obs: Any, with_value: bool) -> Answer:
        """:meth:`answer` for what :meth:`prepare` returned."""

    def distribution(self, obs: Observation) -> Distribution:
        """
        The teacher's action distribution.

        :param obs: n observations as the environment gives them
        :return: a new SB3 distribution over a batch of n states
        """
        return from_parameters(self.action_space, self.answer(obs).parameters)

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

    def act(self, obs: Observation) -> np.ndarray:
        """
        The teacher's greedy actions, as SB3's ``predict(obs, deterministic=True)`` has them.

        :param obs: n observations as the environment gives them
        :return: n actions as the environment takes them
        """
        return env_actions(self.action_space, self.distribution(obs).mode())

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
        check_spaces(self.name, self.observation_space, self.action_space, env.observation_space, env.action_space)
        return self.view(env)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, {self.n_parameters:,} parameters)"


class ActorCriticTeacher(Teacher):
    """
    A teacher from PPO, A2C, TRPO or MaskablePPO: its own action distribution and its own critic.

    MaskablePPO's is asked without masks, which no observation tells.
    """

    policy: ActorCriticPolicy | MaskableActorCriticPolicy

    def _answer(self, obs: Any, with_value: bool) -> Answer:
        if not with_value:
            return Answer(parameters(self.policy.get_distribution(obs)), None)
        # One pass through a shared features extractor. forward() would do too, but it draws actions and so
        # would shift the global random state that the student's run depends on.
        n = len(next(iter(obs.values()))) if isinstance(obs, dict) else len(obs)
        actions = action_tensor(self.action_space, np.zeros((n, *(self.action_space.shape or ())))).to(self.device)
        values, _, _ = self.policy.evaluate_actions(obs, actions)
        return Answer(parameters(self.policy.action_dist), values.flatten() * self.value_scale)


class QTeacher(Teacher):
    """
    A teacher from DQN or QR-DQN: π(a|s) = (1−ε) softmax(Q(s,·)/τ) + ε/|A| and V_π(s) = Σ_a π(a|s) Q(s,a).

    For QR-DQN, Q is the mean over quantiles.

    :param policy: the Q-network
    :param temperature: τ > 0, in units of Q. None leaves it to be found from the first observations, see
        :func:`~sb3_distill.temperature.softest_by_confidence`. Where few come at a time, as with teacher control, it is found
        anew whenever their number has doubled, until there are 256
    :param epsilon: ε in [0, 1]; ε > 0 bounds log π from below by log(ε/|A|)
    :param kwargs: see :class:`Teacher`
    """

    policy: DQNPolicy | QRDQNPolicy
    action_space: spaces.Discrete

    def __init__(
        self, policy: DQNPolicy | QRDQNPolicy, temperature: float | None = None, epsilon: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(policy, **kwargs)
        check_softness(temperature, epsilon)
        self.temperature = temperature
        self.epsilon = epsilon
        #: what the temperature was chosen by and what it costs, for tables and logs
        self.temperature_report = "given" if temperature is not None else "not chosen yet"
        #: Q-values of the first observations, while they are too few to leave it at the temperature that they give
        self._first: list[th.Tensor] = []
        self._n_chosen_by = 0

    def q_values(self, obs: Observation) -> th.Tensor:
        """
        The action values.

        :param obs: n observations as the environment gives them
        :return: Q(s, ·), shape (n, |A|), in units of the environment's own reward
        """
        with th.no_grad():
            return self._q_values(self.prepare(obs))

    def _q_values(self, obs: Any) -> th.Tensor:
        if isinstance(self.policy, QRDQNPolicy):
            q_values = self.policy.quantile_net(obs).mean(dim=1)
        else:
            q_values = self.policy.q_net(obs)
        return q_values * self.value_scale

    def _answer(self, obs: Any, with_value: bool) -> Answer:
        q_values = self._q_values(obs)
        if self.temperature is None or self._first:
            self._choose(q_values)
        assert self.temperature is not None
        log_probs = soften(q_values, self.temperature, self.epsilon)
        if not with_value:
            return Answer(log_probs, None)
        # Σ π (Q − max Q) + max Q: the sum's rounding is one of differences, however large what all actions share.
        best = q_values.amax(-1)
        return Answer(log_probs, best + (log_probs.exp() * (q_values - best.unsqueeze(-1))).sum(-1))

    def choose_temperature(self, q_values: th.Tensor) -> None:
        """
        Set the temperature to the softest one that is sure of the greedy action, and say what it costs.

        :param q_values: Q(s, ·) of a batch of states, shape (n, |A|)
        :raises ValueError: if they are not finite
        """
        check_q_values(q_values, self.name)
        self.settle(softest_by_confidence(q_values))

    def settle(self, choice: Choice) -> None:
        """
        :param choice: of the temperature, from now on; a doubt about it is a warning
        """
        self.temperature, self.temperature_report = choice.temperature, choice.report
        self._first = []
        if choice.doubt is not None:
            warnings.warn(f"The temperature of {self.name} is doubtful: {choice.doubt}.", stacklevel=2)

    def _choose(self, q_values: th.Tensor) -> None:
        """From the first observations: the temperature is settled when there are enough."""
        self._first.append(q_values)
        n = sum(map(len, self._first))
        if n >= ENOUGH_STATES:
            self.choose_temperature(th.cat(self._first))
        elif n >= 2 * self._n_chosen_by:
            seen = th.cat(self._first)
            check_q_values(seen, self.name)
            self.temperature, self.temperature_report, _ = softest_by_confidence(seen)
            self._n_chosen_by = n

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, temperature={self.temperature}, epsilon={self.epsilon})"


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


def check_fits(teacher: Teacher, seen: spaces.Space, env: VecEnv) -> None:
    """
    :param teacher: who
    :param seen: the space of what it would read
    :param env: in which
    :raises ValueError: if it cannot read that or does other actions; both spaces are shown, and both environments if they are known
    """
    check_spaces(
        teacher.name,
        teacher.observation_space,
        teacher.action_space,
        seen,
        env.action_space,
        lambda: (teacher.env_id, env_id_of(env)),
    )


def tune_temperature(
    teacher: QTeacher, n_episodes: int, max_steps: int = 500, seed: int = 0, seconds: float = 10.0
) -> None:
    """
    Set a Q-teacher's temperature to the softest one that plays as the greedy policy does, and say what it costs.

    What fails, and what is too slow, is a warning. Then the states that greedy play has met decide, or if they are too few, the
    first observations that the teacher is asked about.

    :param teacher: changed in place; its own ε does not take part. Its environments are made, played and closed here
    :param n_episodes: for each temperature, side by side, with the same seeds
    :param max_steps: an episode that has not ended by then is cut
    :param seed: of everything random here; the global random state is left alone
    :param seconds: for all that is played; the environments may take 20 more to be made, which may import much
    """
    met: list[th.Tensor] = []
    what = f"the temperature of {teacher.name} by playing {teacher.env_id}"
    try:
        choice = in_time(
            lambda clock: _by_play(teacher, n_episodes, max_steps, seed, seconds, clock, met),
            _TO_MAKE,
            f"Choosing {what}, for at most {seconds:.3g} seconds …",
        )
    except Exception as error:  # somebody else's environment may raise anything at all
        seen = th.cat(met) if met else th.zeros(0, 1)
        by_states = len(seen) >= ENOUGH_STATES and bool(th.isfinite(seen).all())
        instead = (
            f"{len(seen)} states that it met there" if by_states else "the first observations that it is asked about"
        )
        warnings.warn(
            f"Not choosing {what} ({type(error).__name__}: {first_line(error)}): {instead} decide.", stacklevel=2
        )
        if by_states:
            teacher.choose_temperature(seen)
        return
    report = f"{choice.report} ({n_episodes} episodes of {teacher.env_id})"
    teacher.settle(choice._replace(report=report))


#: seconds to make the environments
_TO_MAKE = 20.0
#: of environment steps to choose a temperature, of all episodes together: greedy play and four more where episodes have 500
_MAX_STEPS = 15_000
#: the share of the time that greedy play may take; two more plays are the least that says something
_GREEDY_SHARE = 0.4
#: seconds after which a play that would not come to so many steps of each environment in time is given up
_LOOK, _LEAST = 0.25, 50


def _by_play(
    teacher: QTeacher, n_episodes: int, max_steps: int, seed: int, seconds: float, clock: Clock, met: list[th.Tensor]
) -> Choice:
    """
    :func:`tune_temperature` without its bounds.

    :param clock: to look at
    :param met: where the Q-values of greedy play go
    :return: the temperature
    """
    venv = teacher.training_env(n_episodes)
    try:
        clock.set(seconds)
        env = BoundedEnv(venv, clock)
        share = _GREEDY_SHARE * seconds

        def greedily(obs: Observation) -> np.ndarray:
            passed = clock.passed()
            if passed > share or (passed > _LOOK and len(met) < _LEAST * passed / share):
                raise TooSlow(f"{env.n_steps} steps took {passed:.2g} seconds")
            q_values = teacher.q_values(obs)
            check_q_values(q_values, teacher.name)
            met.append(q_values)
            return q_values.argmax(-1).cpu().numpy()

        greedy = episode_returns(greedily, lambda n: env, n_episodes, seed, max_steps)
        once, took = env.n_steps, clock.passed()

        def play(temperature: float) -> np.ndarray | None:
            if env.n_steps + once > max(_MAX_STEPS, 2 * once) or clock.left() < took:
                return None
            generator = th.Generator(teacher.device).manual_seed(seed)

            def softly(obs: Observation) -> np.ndarray:
                probabilities = soften(teacher.q_values(obs), temperature).exp()
                return th.multinomial(probabilities, 1, generator=generator).squeeze(-1).cpu().numpy()

            try:
                return episode_returns(softly, lambda n: env, n_episodes, seed, max_steps)
            except TooSlow:
                return None

        q_values = th.cat(met)
        unit = spread(q_values)
        if unit == 0:  # no state tells actions apart, and there is nothing to be found by play
            return softest_by_confidence(q_values)
        return softest_by_return(greedy, play, unit, softest_by_loss(q_values))
    finally:
        venv.close()


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
