"""The temperature of a Q-network, chosen by playing."""

import warnings

import numpy as np
import torch as th

from sb3_distill.common.user_code import first_line
from sb3_distill.evaluation.episodes import Heeding, episode_returns
from sb3_distill.rules.masking import allowed_values
from sb3_distill.rules.temperature import (
    ENOUGH_STATES,
    Choice,
    check_q_values,
    soften,
    softest_by_confidence,
    softest_by_loss,
    softest_by_return,
    spread,
)
from sb3_distill.teachers.limited_play import BoundedEnv, Clock, TooSlow, in_time
from sb3_distill.teachers.q_network import QTeacher
from sb3_distill.teachers.teacher import Observation


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

        def greedily(obs: Observation, masks: np.ndarray | None = None) -> np.ndarray:
            passed = clock.passed()
            if passed > share or (passed > _LOOK and len(met) < _LEAST * passed / share):
                raise TooSlow(f"{env.n_steps} steps took {passed:.2g} seconds")
            q_values = _among(teacher, obs, masks)
            met.append(q_values)
            return q_values.argmax(-1).cpu().numpy()

        greedy = episode_returns(Heeding(greedily), lambda n: env, n_episodes, seed, max_steps)
        once, took = env.n_steps, clock.passed()

        def play(temperature: float) -> np.ndarray | None:
            if env.n_steps + once > max(_MAX_STEPS, 2 * once) or clock.left() < took:
                return None
            generator = th.Generator(teacher.device).manual_seed(seed)

            def softly(obs: Observation, masks: np.ndarray | None = None) -> np.ndarray:
                probabilities = soften(_among(teacher, obs, masks), temperature).exp()
                return th.multinomial(probabilities, 1, generator=generator).squeeze(-1).cpu().numpy()

            try:
                return episode_returns(Heeding(softly), lambda n: env, n_episodes, seed, max_steps)
            except TooSlow:
                return None

        q_values = th.cat(met)
        unit = spread(q_values)
        if unit == 0:  # no state tells actions apart, and there is nothing to be found by play
            return softest_by_confidence(q_values)
        return softest_by_return(greedy, play, unit, softest_by_loss(q_values))
    finally:
        venv.close()


def _among(teacher: QTeacher, obs: Observation, masks: np.ndarray | None) -> th.Tensor:
    """The Q-values, with −inf for what is forbidden."""
    q_values = teacher.q_values(obs)
    check_q_values(q_values, teacher.name)
    return q_values if masks is None else allowed_values(q_values, masks)
