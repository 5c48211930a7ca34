"""SB3's ``VecEnv`` whose environments are on other machines, or in other processes of this one, by Ray."""

import pickle
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from sb3_distill.common.ray_connection import connected
from sb3_distill.envs.ray_actor import EnvActor

#: actors that are lost one after another, without a step in between, before it is an error
MAX_LOSSES = 3
#: seconds: until somebody is told that actors wait for CPUs; until that is an error; for a lost one's CPU; for environments to close
TELL, GIVE_UP, FOR_A_LOST_ONE, CLOSING = 30.0, 300.0, 60.0, 30.0


class RayVecEnv(VecEnv):
    """
    Environments in Ray actors, k in each, that are spread over the nodes of a cluster.

    It is SB3's ``SubprocVecEnv`` in all that can be seen, to the bit under a seed, and has one message to and from each actor in a
    step: it pays for environments of two milliseconds a step and more, and where there is more than one machine. An actor that is
    lost (its process was killed, its node is gone) comes back: its episodes end as truncated ones, with reward 0 and the last
    observation that was seen as ``terminal_observation``, and a warning says which they were. What ``set_attr`` has set is set
    again; what ``env_method`` has done is not. Where no CPU is left for it, it shares those of the others.

    All nodes need the same Python, this package, and what the environments import. The functions travel by cloudpickle; a teacher
    or a student does not. Without a token (``RAY_AUTH_MODE=token``) Ray has no authentication: whoever reaches its ports runs code
    as you.

    >>> from stable_baselines3.common.env_util import make_vec_env
    >>> from sb3_distill.envs import RayVecEnv
    >>> env = make_vec_env("CartPole-v1", 8, seed=0, vec_env_cls=RayVecEnv, vec_env_kwargs={"envs_per_actor": 4})  # doctest: +SKIP

    :param env_fns: each makes an environment
    :param envs_per_actor: k. By default the environments are shared out evenly among the CPUs that are free
    :param address: of a cluster, ``"HOST:6379"`` as ``ray start --head`` prints it, or ``"ray://HOST:10001"``. By default the one
        that this process is connected to, or the one at hand, or a new one of this machine
    :param num_cpus: of an actor, as Ray counts them; 0 shares them with others, for evaluation say
    :raises ImportError: if Ray is not installed
    :raises ConnectionError: if no cluster answers at the address
    :raises ValueError: without functions, for numbers out of range, and if the cluster has fewer CPUs than the actors need
    :raises TypeError: for what is no function
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], gym.Env]],
        envs_per_actor: int | None = None,
        address: str | None = None,
        num_cpus: float = 1.0,
    ) -> None:
        self.closed = True
        env_fns = _checked(env_fns, envs_per_actor, num_cpus)
        self._ray = connected(address)
        k = envs_per_actor or self._share(len(env_fns), num_cpus)
        starts = range(0, len(env_fns), k)
        self._check_cpus(len(starts), len(env_fns), num_cpus)
        self._parts = [slice(start, min(start + k, len(env_fns))) for start in starts]
        self._functions = [cloudpickle.dumps(env_fns[part]) for part in self._parts]
        self._num_cpus = num_cpus
        self._actors = [self._actor(j, num_cpus) for j in range(len(self._parts))]
        self.closed = False
        self._steps: dict[int, Any] | None = None
        #: what each actor has shown last, how long its episodes are, and what they are told: for when it is lost
        self._last: list[Any] = [None] * len(self._parts)
        self._reward: np.ndarray = np.zeros(1)
        self._lengths = np.zeros(len(env_fns), dtype=np.int64)
        self._first_seeds: list[int | None] = [None] * len(env_fns)
        self._set: list[dict[str, Any]] = [{} for _ in env_fns]
        #: losses so far, and in a row; of actors that came back between two steps, what the next step says
        self.losses = 0
        self._in_a_row = [0] * len(self._parts)
        self._came_back: dict[int, tuple] = {}
        try:
            made = self._begin()
            super().__init__(len(env_fns), *made[0])
        except BaseException:
            self.close()
            raise

    # -- actors -------------------------------------------------------------------------------------------------------------

    def _share(self, n: int, num_cpus: float) -> int:
        """How many environments an actor has, where they are shared out evenly among the CPUs that are free."""
        free = self._ray.available_resources().get("CPU", 0.0) / num_cpus if num_cpus else n
        return -(-n // max(1, min(n, int(free))))

    def _check_cpus(self, n_actors: int, n_envs: int, num_cpus: float) -> None:
        has = self._ray.cluster_resources().get("CPU", 0.0)
        if n_actors * num_cpus > has:
            fitting = int(has / num_cpus)
            how = f"envs_per_actor={-(-n_envs // fitting)}, or " if fitting else ""
            raise ValueError(
                f"{n_actors} actors of {num_cpus:g} CPUs are more than the {has:g} CPUs of the Ray cluster: take {how}num_cpus=0, "
                "which shares them."
            )

    def _actor(self, j: int, num_cpus: float) -> Any:
        options = {"num_cpus": num_cpus, "max_restarts": 0, "max_task_retries": 0, "scheduling_strategy": "SPREAD"}
        return self._ray.remote(**options)(EnvActor).remote(self._parts[j].start)

    def _begin(self) -> list[Any]:
        """Spaces, from all actors; it is said if they have to wait for CPUs."""
        calls = [self._send(j, "make", functions) for j, functions in enumerate(self._functions)]
        for seconds in (TELL, GIVE_UP - TELL):
            _, waiting = self._ray.wait(calls, num_returns=len(calls), timeout=seconds)
            if not waiting:
                break
            free = self._ray.available_resources().get("CPU", 0.0)
            has = self._ray.cluster_resources().get("CPU", 0.0)
            said = (
                f"{len(waiting)} of {len(calls)} actors of {self._num_cpus:g} CPUs have not begun after {seconds:.0f} seconds. Of the "
                f"cluster's {has:g} CPUs {free:g} are free: if others hold them, close those, or take num_cpus=0, which shares CPUs; "
                "else the nodes are slow to start processes."
            )
            if seconds != TELL:
                raise TimeoutError(said)
            warnings.warn(said)
        answers = []
        for j, call in enumerate(calls):
            try:
                answers.append(_told(self._ray.get(call)))
            except self._ray.exceptions.RayError as error:
                raise RuntimeError(
                    f"Actor {j} could not begin ({_line(error)}): does its node have this package?"
                ) from error
        return answers

    def _send(self, j: int, name: str, *args: Any) -> Any:
        # Actions are arrays, and there is one message of them a step; anything else may be of a class that a script defines.
        pack = pickle.dumps if name == "step" else cloudpickle.dumps
        return self._actors[j].call.remote(pack((name, args)))

    def _receive(self, calls: dict[int, Any]) -> dict[int, Any]:
        """
        :param calls: one of each actor
        :return: their answers; a :class:`_Lost` for those that are lost
        :raises Exception: of an environment, when all have answered
        """
        try:
            raw = dict(zip(calls, self._ray.get(list(calls.values())), strict=True))
        except self._ray.exceptions.RayError:
            raw = {j: self._one(call) for j, call in calls.items()}
        return {j: message if isinstance(message, _Lost) else _told(message) for j, message in raw.items()}

    def _one(self, call: Any) -> Any:
        exceptions = self._ray.exceptions
        try:
            return self._ray.get(call)
        except exceptions.RayTaskError:
            raise
        except (exceptions.RaySystemError, exceptions.RpcError) as error:
            raise ConnectionError(f"The Ray cluster is gone: {_line(error)}") from error
        except exceptions.RayError as error:
            return _Lost(_line(error))

    def _ask(self, messages: dict[int, tuple]) -> dict[int, Any]:
        """Answers of actors; one that is lost comes back, and is asked once more."""
        if self.closed:
            raise RuntimeError("This RayVecEnv is closed: make a new one.")
        answers = {}
        while messages:
            got = self._receive({j: self._send(j, *message) for j, message in messages.items()})
            for j, answer in got.items():
                if isinstance(answer, _Lost):
                    self._bring_back(j, answer)
                else:
                    answers[j] = answer
            messages = {j: message for j, message in messages.items() if j not in answers}
        return answers

    def _bring_back(self, j: int, lost: "_Lost") -> None:
        """A new actor for one that is lost, whose episodes begin anew; the next step says so."""
        part, shares, playing = self._parts[j], False, self._last[j] is not None
        n = part.stop - part.start
        self.losses += 1
        self._in_a_row[j] += 1
        which = f"Actor {j} (environments {part.start} to {part.stop - 1})"
        if self._in_a_row[j] > MAX_LOSSES:
            raise RuntimeError(
                f"{which} was lost {self._in_a_row[j]} times without a step in between ({lost.why}): does an environment end its "
                "process, or need more memory than there is?"
            )
        with suppress(Exception):
            self._ray.kill(self._actors[j])  # it may be cut off and alive
        self._actors[j] = self._actor(j, self._num_cpus)
        made = self._send(j, "make", self._functions[j])
        if not self._ray.wait([made], timeout=FOR_A_LOST_ONE)[0]:
            self._ray.kill(self._actors[j])
            shares = True
            self._actors[j] = self._actor(j, 0)
            made = self._send(j, "make", self._functions[j])
        lengths = ", ".join(map(str, self._lengths[part].tolist()))
        ends = (
            f"its {n} episodes end as truncated, after {lengths} steps, and begin anew" if playing else "it begins anew"
        )
        shared = f", which shares CPUs, for it had none after {FOR_A_LOST_ONE:.0f} seconds" if shares else ""
        warnings.warn(
            f"{which} was lost ({lost.why}): {ends} in a new process{shared}. "
            f"It is loss {self.losses} of this RayVecEnv."
        )
        seeds = [None if seed is None else _seed_after(seed, self.losses) for seed in self._first_seeds[part]]
        calls = [made]
        for i, attributes in enumerate(self._set[part]):
            calls += [self._send(j, "each", "set", [i], item) for item in attributes.items()]
        if playing:
            calls.append(self._send(j, "reset", seeds, [{}] * n))
        answers = [self._one(call) for call in calls]
        again = next((answer for answer in answers if isinstance(answer, _Lost)), None)
        if again is not None:
            return self._bring_back(j, again)
        first = [_told(answer) for answer in answers][-1]
        if playing:
            self._came_back[j] = first
        return None

    def _truncated(self, j: int) -> tuple:
        """What a step is for environments whose actor was lost: as :meth:`EnvActor.step` has it."""
        part = self._parts[j]
        n = part.stop - part.start
        obs, reset_infos = self._came_back.pop(j)
        infos = [
            {"TimeLimit.truncated": True, "terminal_observation": _each_part(self._last[j], partial(_copy_of, i))}
            for i in range(n)
        ]
        rewards = np.zeros((n, *self._reward.shape[1:]), dtype=self._reward.dtype)
        return obs, rewards, np.ones(n, dtype=bool), infos, dict(enumerate(reset_infos))

    # -- SB3's VecEnv -------------------------------------------------------------------------------------------------------

    def reset(self) -> VecEnvObs:
        self._steps = None
        self._first_seeds = [
            new if new is not None else old for new, old in zip(self._seeds, self._first_seeds, strict=True)
        ]
        for j in range(len(self._parts)):
            self._last[j] = None  # an actor that is lost now has no episodes to end
        self._came_back.clear()
        answers = self._ask(
            {j: ("reset", self._seeds[part], self._options[part]) for j, part in enumerate(self._parts)}
        )
        parts = [answers[j] for j in range(len(self._parts))]
        self._last = [obs for obs, _ in parts]
        self._lengths[:] = 0
        self.reset_infos = [info for _, infos in parts for info in infos]
        # Each is used once.
        self._reset_seeds()
        self._reset_options()
        return _joined(self._last)

    def step_async(self, actions: np.ndarray) -> None:
        if self.closed:
            raise RuntimeError("This RayVecEnv is closed: make a new one.")
        if len(actions) != self.num_envs:
            raise ValueError(f"{len(actions)} actions are not one for each of {self.num_envs} environments.")
        self._steps = {
            j: self._send(j, "step", actions[part]) for j, part in enumerate(self._parts) if j not in self._came_back
        }

    def step_wait(self) -> VecEnvStepReturn:
        if self._steps is None:
            raise RuntimeError("step_wait() follows step_async().")
        calls, self._steps = self._steps, None
        answers = self._receive(calls)
        for j, answer in answers.items():
            if isinstance(answer, _Lost):
                if self._last[j] is None:
                    raise RuntimeError(f"Actor {j} was lost before the first reset() ({answer.why}).")
                if j not in self._came_back:  # and has not been missed by somebody else since step_async
                    self._bring_back(j, answer)
            else:
                self._in_a_row[j] = 0
                self._reward = answer[1]
        steps = [self._truncated(j) if j in self._came_back else answers[j] for j in range(len(self._parts))]
        all_obs, rewards, dones, infos, reset_infos = zip(*steps, strict=True)
        self._last = list(all_obs)
        for part, resets in zip(self._parts, reset_infos, strict=True):
            for i, info in resets.items():
                self.reset_infos[part.start + i] = info
        done = np.concatenate(dones)
        self._lengths = np.where(done, 0, self._lengths + 1)
        return _joined(self._last), np.concatenate(rewards), done, [info for part in infos for info in part]

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._steps = None
        with suppress(Exception):  # of environments that cannot close, and of actors and clusters that are gone
            calls = [self._send(j, "close") for j in range(len(self._actors))]
            self._ray.wait(calls, num_returns=len(calls), timeout=CLOSING)
        for actor in self._actors:
            with suppress(Exception):
                self._ray.kill(actor)

    def _each(self, what: str, *args: Any, indices: VecEnvIndices = None) -> list[Any]:
        """
        :param what: of :data:`~sb3_distill.envs.ray_actor.ASKED`
        :param args: of it
        :param indices: of environments, in any order
        :return: an answer for each
        """
        wanted = self._numbers(indices)
        places: dict[int, list[int]] = {}
        for i in wanted:
            places.setdefault(self._home(i), []).append(i - self._parts[self._home(i)].start)
        answers = {
            j: iter(got) for j, got in self._ask({j: ("each", what, at, args) for j, at in places.items()}).items()
        }
        return [next(answers[self._home(i)]) for i in wanted]

    def _numbers(self, indices: VecEnvIndices) -> list[int]:
        chosen: Iterable[int] = self._get_indices(indices)
        return [range(self.num_envs)[int(i)] for i in chosen]

    def _home(self, i: int) -> int:
        return i // (self._parts[0].stop - self._parts[0].start)

    def get_images(self) -> Sequence[np.ndarray | None]:
        if self.render_mode != "rgb_array":
            warnings.warn(
                f"Images need environments of render_mode='rgb_array', not {self.render_mode!r}: there are none."
            )
            return [None] * self.num_envs
        return self._each("render")

    def has_attr(self, attr_name: str) -> bool:
        return all(self._each("has", attr_name))

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        return self._each("get", attr_name, indices=indices)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        self._each("set", attr_name, value, indices=indices)
        for i in self._numbers(indices):
            self._set[i][attr_name] = value

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        return self._each("call", method_name, method_args, method_kwargs, indices=indices)

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        return self._each("is_wrapped", wrapper_class, indices=indices)


class _Lost:
    """
    In place of an answer.

    :param why: Ray's reason, one line
    """

    def __init__(self, why: str) -> None:
        self.why = why


class InActor(Exception):
    """The cause of an environment's error: its traceback, where it was raised."""


def _told(message: bytes) -> Any:
    """
    :param message: of an actor
    :return: what it says
    :raises Exception: the error of an environment
    """
    is_well, *said = cloudpickle.loads(message)
    if is_well:
        return said[0]
    error, where = said
    raise error from InActor(where)


def _line(error: BaseException) -> str:
    """An error of Ray's in one line: its texts have pages."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__


def _seed_after(seed: int, losses: int) -> int:
    """A seed for an environment that begins anew: not the one that it has had, or it would play the same episodes again."""
    return int(np.random.SeedSequence([seed, losses]).generate_state(1)[0])


def _each_part(obs: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(obs, dict):
        return {key: change(value) for key, value in obs.items()}
    return tuple(map(change, obs)) if isinstance(obs, tuple) else change(obs)


def _copy_of(i: int, values: np.ndarray) -> Any:
    return values[i].copy()


def _joined(parts: list[Any]) -> Any:
    """Observations of all actors as one batch."""
    if isinstance(parts[0], dict):
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    if isinstance(parts[0], tuple):
        return tuple(map(np.concatenate, zip(*parts, strict=True)))
    return np.concatenate(parts)


def _checked(env_fns: Any, envs_per_actor: Any, num_cpus: Any) -> list[Callable[[], gym.Env]]:
    """:raises ValueError, TypeError: for arguments that cannot be"""
    if callable(env_fns) or isinstance(env_fns, str):
        raise TypeError(
            f"env_fns is a list of functions that make an environment each, not {env_fns!r}: [make_one] * 8."
        )
    functions = list(env_fns)
    if not functions:
        raise ValueError("env_fns is empty: give at least one function that makes an environment.")
    for i, function in enumerate(functions):
        if not callable(function):
            raise TypeError(
                f"env_fns[{i}] is no function that makes an environment, but {type(function).__name__}: write lambda: make_one()."
            )
    is_number = isinstance(envs_per_actor, (int, np.integer)) and not isinstance(envs_per_actor, bool)
    if envs_per_actor is not None and not (is_number and envs_per_actor >= 1):
        raise ValueError(f"envs_per_actor must be a whole number of at least 1, not {envs_per_actor!r}.")
    if isinstance(num_cpus, bool) or not isinstance(num_cpus, (int, float)) or not 0 <= num_cpus < float("inf"):
        raise ValueError(f"num_cpus must be a number of at least 0, not {num_cpus!r}.")
    return functions
