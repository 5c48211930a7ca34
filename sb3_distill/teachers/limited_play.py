"""Playing in environments that nobody here knows, for a number of steps and of seconds and not longer."""

import math
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

Result = TypeVar("Result")

#: seconds after which work that goes on says what it is
QUIET = 1.5


class TooSlow(Exception):
    """What was to be played takes more time than it may."""


def in_time(work: Callable[["Clock"], Result], seconds: float, notice: str) -> Result:
    """
    Do some work in a thread, and wait for so long and not longer: a constructor that waits for a simulator does not return, and no
    other way leaves it without an end of the whole process.

    :param work: called with a clock that it is to look at
    :param seconds: for all of it, unless the work sets the clock anew. What does not look at the clock is left to itself a second
        later
    :param notice: a line for stderr, if it takes more than a moment
    :return: what the work returned
    :raises TooSlow: if it is not done in time
    :raises Exception: whatever the work raised; what is no ``Exception``, such as ``SystemExit``, as a ``RuntimeError``
    """
    clock = Clock(seconds)
    outcome: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work(clock))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name="sb3-distill: bounded play")
    thread.start()
    try:
        thread.join(min(QUIET, seconds + 1))
        if thread.is_alive():
            print(notice, file=sys.stderr, flush=True)
            while thread.is_alive() and clock.left() > -1:
                thread.join(clock.left() + 1)
    finally:
        clock.stop()
    if outcome:
        return outcome[0]
    if not errors:
        raise TooSlow(f"it does not answer within {clock.seconds:.3g} seconds")
    if isinstance(errors[0], Exception):
        raise errors[0]
    raise RuntimeError(f"{type(errors[0]).__name__}: {errors[0]}") from errors[0]


class Clock:
    """
    How much time is left.

    :param seconds: from now
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._start = time.monotonic()
        self._stopped = False

    def set(self, seconds: float) -> None:
        """:param seconds: from now; what has passed does not count"""
        self._start, self.seconds = time.monotonic(), seconds

    def left(self) -> float:
        """:return: seconds, less than 0 where the time is up or nobody waits any more"""
        return -math.inf if self._stopped else self.seconds - self.passed()

    def passed(self) -> float:
        """:return: seconds since the start"""
        return time.monotonic() - self._start

    def stop(self) -> None:
        """Nobody waits any more."""
        self._stopped = True


class BoundedEnv(VecEnvWrapper):
    """
    Environments in which several plays share a number of steps and a clock.

    :param venv: the environments; ``close`` leaves them open for the next play
    :param clock: looked at before every step
    """

    def __init__(self, venv: VecEnv, clock: Clock) -> None:
        super().__init__(venv)
        self.clock = clock
        #: of all environments together, so far
        self.n_steps = 0

    def reset(self) -> VecEnvObs:
        self._check()
        return self.venv.reset()

    def step_async(self, actions: Any) -> None:
        self._check()
        self.n_steps += self.num_envs
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        return self.venv.step_wait()

    def close(self) -> None:
        """Nothing: whoever made the environments closes them."""

    def _check(self) -> None:
        if self.clock.left() < 0:
            raise TooSlow(f"{self.n_steps} steps took {self.clock.passed():.1f} seconds, and more are needed")
