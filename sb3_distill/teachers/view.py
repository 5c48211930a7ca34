"""What the teacher sees of the student's environment.

Student and teacher need not see the same. The teacher may have been trained on a stack of frames, on a memory of the
episode, or on a state that is kept from the student. So an environment is listened to beneath what the student alone needs,
and what it says is repeated to a second chain of wrappers, the teacher's:

.. code-block:: text

    environment ──┬── VecFrameStack(2), VecNormalize …  ── student
                  └── Echo ── VecFrameStack(4) …        ── teacher

``teacher_obs`` is the function that puts the teacher's wrappers around an environment, e.g.
``lambda venv: VecFrameStack(venv, 4)``, or a key of its Dict observations, ``"state"``. Without it, the teacher reads what the
environment says beneath a ``VecNormalize``, if that is what it was trained on, or else what its own training wrapped around the
environment.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_distill.common.layers import Layer
from sb3_distill.common.observations import copy_obs
from sb3_distill.common.questions import as_dones, as_rewards
from sb3_distill.common.replaced import replaced
from sb3_distill.common.spaces import same_kind, signature
from sb3_distill.common.user_code import first_line, users_frame
from sb3_distill.envs.parts import VecParts
from sb3_distill.teachers.teacher import Teacher, check_fits

Wrap = Callable[[VecEnv], VecEnv]


class Echo(Layer):
    """
    Repeats what an environment has said, for wrappers that are not in the chain which plays.

    :param venv: the environment that plays; it is never stepped from here
    """

    def say(self, obs: VecEnvObs, rewards: Any, dones: Any, infos: Sequence[dict[str, Any]]) -> None:
        """:param obs: what a step returned, as the three others"""
        # Wrappers write terminal observations of their own into the infos, and these are the student's.
        own = list(infos)
        for i, info in enumerate(infos):
            if "terminal_observation" in info:
                own[i] = dict(info)
                if info["terminal_observation"] is None:  # SB3 asks for its value, its wrappers for the key
                    del own[i]["terminal_observation"]
                else:  # a stack of Dict frames is written into the dict itself
                    own[i]["terminal_observation"] = copy_obs(info["terminal_observation"])
        self.said: VecEnvStepReturn = (obs, as_rewards(rewards), as_dones(dones), own)

    def begin(self, obs: VecEnvObs) -> None:
        """:param obs: what a reset returned"""
        self.first = obs

    def reset(self) -> VecEnvObs:
        return self.first

    def step_async(self, actions: np.ndarray) -> None:
        pass

    def step_wait(self) -> VecEnvStepReturn:
        return self.said


class TeacherView:
    """
    The teacher's observations of an environment that others step.

    :param env: where to listen
    :param wrap: the teacher's wrappers
    """

    def __init__(self, env: VecEnv, wrap: Wrap) -> None:
        self.env = env
        self._echo = Echo(env)
        self._venv = wrap(self._echo)
        self.observation_space = self._venv.observation_space
        #: what the teacher sees now; None before the first reset
        self.obs: Any = None
        #: of the last step, with the teacher's ``terminal_observation``
        self.infos: list[dict[str, Any]] = []

    def reset(self, obs: VecEnvObs) -> Any:
        """
        :param obs: the environment's, of n new episodes
        :return: the teacher's
        """
        self._echo.begin(obs)
        self.obs = self._venv.reset()
        return self.obs

    def step(
        self, obs: VecEnvObs, rewards: np.ndarray, dones: np.ndarray, infos: list[dict[str, Any]]
    ) -> tuple[Any, list[dict[str, Any]]]:
        """
        :param obs: the environment's, as the three others
        :param rewards: of the step
        :param dones: where episodes ended
        :param infos: of which nothing is changed
        :return: the teacher's observations, and infos with the teacher's ``terminal_observation``
        """
        self._echo.say(obs, rewards, dones, infos)
        self.obs, _, _, self.infos = self._venv.step_wait()
        return self.obs, self.infos

    @contextmanager
    def hearing(self, steps: bool) -> Iterator[None]:
        """
        A context in which a reset of the environment is one of the view, too, whoever makes it.

        :param steps: whether a step is, too; else :meth:`step` is to be called
        """
        reset, step_wait = self.env.reset, self.env.step_wait

        def heard_reset() -> VecEnvObs:
            obs = reset()
            self.reset(obs)
            return obs

        def heard_step() -> VecEnvStepReturn:
            step = step_wait()
            self.step(*step)
            return step

        with replaced(self.env, "reset", heard_reset), ExitStack() as stack:
            if steps:
                stack.enter_context(replaced(self.env, "step_wait", heard_step))
            yield


def view_of(teacher: Teacher, env: VecEnv, base: VecEnv, teacher_obs: Wrap | str | None) -> TeacherView | None:
    """
    How a teacher sees an environment.

    :param teacher: who
    :param env: what the teacher reads if it was trained on such observations
    :param base: what the teacher's wrappers are put around if not
    :param teacher_obs: those wrappers, or a key, see the module's docstring
    :return: a view; None if the teacher reads the observations of ``env`` as they are
    :raises ValueError: if no view gives the teacher the observations that it was trained on
    """
    where = env
    wrap: Wrap = identity
    if teacher_obs is not None:
        where, wrap = base, as_wrap(teacher_obs)
    elif teacher.vec_wrapper is not None and signature(env.observation_space) != signature(teacher.observation_space):
        where, wrap = base, teacher.vec_wrapper
    seen = _wrapped(wrap, where).observation_space
    try:
        check_fits(teacher, seen, env)
    except ValueError as error:
        parts = fitting(teacher, base) if teacher_obs is None else []
        if not parts:
            raise
        raise ValueError(f"{error} It can read this: teacher_obs={parts[0]!r}.") from error
    if wrap is identity and not teacher.reads_a_view:
        return None
    return TeacherView(where, lambda echo: teacher.view(wrap(echo)))


def fitting(teacher: Teacher, env: VecEnv) -> list[str]:
    """
    :param teacher: who
    :param env: an environment
    :return: the keys of its Dict observations that the teacher can read
    """
    parts = env.observation_space.spaces if isinstance(env.observation_space, spaces.Dict) else {}
    return [key for key, part in parts.items() if same_kind(part, teacher.observation_space)]


def _wrapped(wrap: Wrap, env: VecEnv) -> VecEnv:
    try:
        return wrap(Echo(env))
    except (AssertionError, KeyError) as error:  # of SB3's wrappers, around what they are not made for
        if users_frame(error) is not None:
            raise
        space = env.observation_space
        keys = f", whose keys are {', '.join(map(repr, space.spaces))}" if isinstance(space, spaces.Dict) else ""
        raise ValueError(
            f"The wrappers of teacher_obs do not go around this environment, which shows {space}{keys} "
            f"({type(error).__name__}: {first_line(error)}): give a function that does, or a key of Dict observations."
        ) from error


def as_wrap(teacher_obs: Any) -> Wrap:
    """
    :param teacher_obs: as it was given: a function from an environment to one in wrappers, or a key of its Dict observations
    :return: the function
    :raises ValueError: for what is neither
    """
    if isinstance(teacher_obs, str):
        return lambda env: VecParts(env, teacher_obs)
    if not callable(teacher_obs):
        raise ValueError(
            "teacher_obs must be a function that puts wrappers around a VecEnv, or a key of its Dict observations, such as 'state', not "
            f"{type(teacher_obs).__name__}."
        )
    return teacher_obs  # type: ignore[no-any-return]


def identity(env: VecEnv) -> VecEnv:
    """:return: the environment"""
    return env
