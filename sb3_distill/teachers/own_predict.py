"""Whether a live teacher does what it teaches.

A student learns from what a network says: Q-values, or the parameters of a distribution. A model of a user's own may do something
else with them: a policy class that has its own ``_predict``, or an algorithm that has its own ``predict``, masks actions or filters
unsafe ones. No network tells that, so its greedy answers are compared with ``predict(obs, deterministic=True)``: once when it is
loaded, and once more in the first states that it is asked about. The comparison draws no random number, steps no environment, and
where it fails there is none.
"""

import copy
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from sb3_distill.common.observations import observation_of
from sb3_distill.common.sampled import sampled
from sb3_distill.common.spaces import action_tensor
from sb3_distill.common.torch_draws import same_draws
from sb3_distill.rules.distributions import from_parameters, parameter_size
from sb3_distill.teachers.q_network import QTeacher
from sb3_distill.teachers.recent_states import recent_states
from sb3_distill.teachers.teacher import Teacher, size_of

#: states in a comparison, at most, and how many numbers they may hold together
N_STATES, N_NUMBERS = 256, 500_000

#: by how much of an action's range, or of its log-probability, two answers may differ by rounding
_ROUNDING = 1e-3

Predict = Callable[[Any], Any]

#: of the teachers that have not been compared in play yet, the policy that they had when they were loaded, and what they do
_TO_COMPARE: "WeakKeyDictionary[Teacher, tuple[BasePolicy, Predict]]" = WeakKeyDictionary()

#: what a model's ``predict`` has no need of: a robot, gigabytes
_NOT_ASKED = ("env", "replay_buffer", "rollout_buffer", "_last_obs", "_last_original_obs")


def compare_at_load(teacher: Teacher, source: BaseAlgorithm | BasePolicy) -> None:
    """
    Warn if a teacher does something else than it teaches, in states of its replay buffer, or if there are none, in observations
    that are sampled from its space; else it is compared again when :func:`compare_in_play` is called.

    :param teacher: made of ``source``
    :param source: a live model or policy
    """
    obs, where = None, "of its replay buffer"
    with _unseen(teacher):
        obs = (recent_states(source) or [None])[0] if isinstance(source, BaseAlgorithm) else None
        obs = None if obs is None else observation_of(obs, slice(_n_states(teacher.observation_space)))
    if obs is None:
        where = "sampled from its observation space"
        with _unseen(teacher):
            obs = sampled(teacher.observation_space, _n_states(teacher.observation_space))
    predict = _predict_of(source)
    if obs is None or predict is None or _warn_of_others(teacher, predict, obs, where):
        return
    _TO_COMPARE[teacher] = teacher.policy, predict


def compare_in_play(teacher: Teacher, observations: Callable[[], Any]) -> None:
    """
    :func:`compare_at_load`, in states that a student learns from; only the first call for a teacher compares.

    :param teacher: any
    :param observations: returns some as ``teacher.answer`` takes them, or what makes them when it is sliced
    """
    if teacher not in _TO_COMPARE:
        return
    policy, predict = _TO_COMPARE.pop(teacher)
    # A copy of the policy stands still while the model learns; and who remembers the episode reads what it has made of it.
    if teacher.policy is not policy or teacher.reads_a_view:
        return
    seen = None
    with _unseen(teacher):
        seen = observation_of(observations(), slice(_n_states(teacher.observation_space)))
    if seen is not None:
        _warn_of_others(teacher, predict, seen, "of the student's play")


def _predict_of(source: BaseAlgorithm | BasePolicy) -> Predict | None:
    """What it does. A shallow copy without an environment is asked: what its ``predict`` counts, and whom it steps, is its own."""
    try:
        player = copy.copy(source)
        if isinstance(player, BaseAlgorithm):
            vars(player).update({name: None for name in _NOT_ASKED if name in vars(player)})
    except Exception:
        return None
    return lambda obs: player.predict(obs, deterministic=True)[0]


def _warn_of_others(teacher: Teacher, predict: Predict, obs: Any, where: str) -> bool:
    """Compare, and say in how many states it does something else; whether that was said."""
    others = None
    with _unseen(teacher):
        normalised = obs if teacher.normalize_obs is None else teacher.normalize_obs(obs)
        others = other_actions(teacher, obs, np.asarray(predict(normalised)))
    if others is None or not others.any():
        return False
    says = "Q-values" if isinstance(teacher, QTeacher) else "action distribution"
    warnings.warn(
        f"{teacher.name} does not do what its network says: in {int(others.sum())} of {len(others)} states {where}, "
        f"predict(obs, deterministic=True) has another action than its {says}. The {says} teach, and not what predict does: a mask "
        "or a filter of actions in a predict or _predict of its own is not learnt. To teach it, too, give a Teacher of your own (a "
        "subclass of sb3_distill.teachers.teacher.Teacher).",
        stacklevel=2,
    )
    return True


def other_actions(teacher: Teacher, obs: Any, actions: np.ndarray) -> np.ndarray:
    """
    :param teacher: any
    :param obs: n observations as the environment gives them
    :param actions: done there, as the environment takes them
    :return: in which of the states they are others than what the teacher teaches, but for ties and rounding; shape (n,)
    """
    seen = teacher.at_start(obs)
    space = teacher.action_space
    if isinstance(space, spaces.Box):
        taught = teacher.greedy(seen)
        size = np.where(np.isfinite(space.high - space.low), space.high - space.low, np.maximum(np.abs(taught), 1.0))
        far = np.abs(actions.reshape(taught.shape) - taught) > _ROUNDING * size
        return far.reshape(len(taught), -1).any(axis=1)
    tensor = action_tensor(space, actions)
    if isinstance(teacher, QTeacher):
        q_values = teacher.q_values(seen).cpu()
        least = 1e-5 * q_values.abs().amax(-1)
        behind = q_values.amax(-1) - q_values.gather(-1, tensor[:, None]).squeeze(-1)
    else:
        params = teacher.answer(seen).parameters.cpu()
        assert params.shape[1] == parameter_size(space)
        distribution = from_parameters(space, params)
        least = th.tensor(_ROUNDING)
        behind = distribution.log_prob(distribution.mode()) - distribution.log_prob(tensor)
    return (behind > least).numpy()


def _n_states(space: spaces.Space) -> int:
    return int(np.clip(N_NUMBERS // size_of(space), 8, N_STATES))


@contextmanager
def _unseen(teacher: Teacher) -> Iterator[None]:
    """A context that nobody notices: without errors and warnings, and with the random states as they are."""
    own, numbers = random.getstate(), np.random.get_state()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"), same_draws(teacher.device):
            warnings.simplefilter("ignore")
            yield
    except Exception:  # noqa: S110 - whatever a policy of a user's own does: there is no comparison
        pass
    finally:
        random.setstate(own)
        np.random.set_state(numbers)
