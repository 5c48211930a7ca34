"""Networks in the forked road: what students of the library end at, beside what :mod:`sb3_distill.tabular.imitation_gap` says.

The teacher is a function of one's own, the exact softmax(Q*/τ) of the state, which the student does not see (``teacher_obs``). What a
network does is not sampled: it is asked in every state, with what it remembers there, and its return is a linear solve.
"""

import hashlib
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv, VecExtractDictObs

from sb3_distill.agents.load import load_teacher
from sb3_distill.algorithms.ppo import DistillPPO
from sb3_distill.algorithms.recurrent_ppo import DistillRecurrentPPO
from sb3_distill.algorithms.threads import torch_threads
from sb3_distill.envs import forked_road
from sb3_distill.envs.forked_road import ForkedRoad
from sb3_distill.rules.methods import get_method
from sb3_distill.tabular.imitation_gap import Aliased, Road, settle, takes_the_detour, with_env_reward
from sb3_distill.tabular.simulation import in_chunks
from sb3_distill.teachers.teacher import Teacher

N_ENVS = 16
#: the row's own update, unscaled: the advantage is that of r̂ itself, over the whole episode
AS_STATED: dict[str, Any] = {
    "gamma": 1.0,
    "gae_lambda": 1.0,
    "normalize_advantage": False,
    "loss_coef": 1.0,
    "reward_coef": 1.0,
    "n_steps": 64,
    "batch_size": 256,
    "n_epochs": 4,
    "max_grad_norm": 5.0,
    "averaging": 0.5,
}
#: Student's t at 97.5%, by the number of seeds less 1
T = (float("nan"), 12.71, 4.30, 3.18, 2.78)


class Student(NamedTuple):
    """
    A network and how it learns.

    :param label: in the figure
    :param row: of the table of methods, its name
    :param env_weight: of the environment's reward
    :param road: what it learns in
    :param remembers: whether it has an LSTM
    :param gamma: γ that the exact analysis has
    :param defaults: whether it learns by the settings of the class, and not by the update as it is stated
    """

    label: str
    row: str
    env_weight: float = 0.0
    road: Road = Road()
    remembers: bool = False
    gamma: float = 1.0
    defaults: bool = False

    def exact(self) -> tuple[float, float]:
        """:return: how likely the row's end takes the detour, and its return"""
        world = self.road.world(self.remembers)
        probs = settle(world, with_env_reward(get_method(self.row), self.env_weight), self.gamma).probs
        return takes_the_detour(world, probs).item(), world.expected_return(probs).item()

    def settings(self) -> dict[str, Any]:
        """:return: arguments of the class"""
        if self.defaults:
            return {}
        row = get_method(self.row)
        settings = AS_STATED | {"env_reward_coef": self.env_weight}
        if row.loss is None:
            settings["loss_coef"] = 0.0
        if row.reward is None:
            settings["reward_coef"] = 0.0
        return settings


CUED = Road(cue=True)
STUDENTS = (
    Student("teacher distill", "teacher_distill"),
    Student("on-policy distill", "on_policy_distill"),
    Student("N-distill", "n_distill"),
    Student("entropy regularised", "entropy_regularised"),
    Student("expected entropy", "expected_entropy"),
    Student("teacher V reward", "teacher_v_reward"),
    Student("on-policy distill + R", "on_policy_distill", 1.0),
    Student("on-policy distill + 4 R", "on_policy_distill", 4.0),
    Student("N-distill + R", "n_distill", 1.0),
    Student("expected entropy + R", "expected_entropy", 1.0),
    Student("on-policy distill, cue", "on_policy_distill", road=CUED),
    Student("on-policy distill, cue, LSTM", "on_policy_distill", road=CUED, remembers=True),
    Student("N-distill, cue, LSTM", "n_distill", road=CUED, remembers=True),
    Student("expected entropy, cue, LSTM", "expected_entropy", road=CUED, remembers=True),
    Student("N-distill, defaults", "n_distill", gamma=0.9, defaults=True),
    Student("expected entropy, defaults", "expected_entropy", gamma=0.5, defaults=True),
    Student("entropy regularised, defaults", "entropy_regularised", gamma=0.5, defaults=True),
)


class Found(NamedTuple):
    """
    What networks of some seeds do.

    :param student: which
    :param detour: how likely each takes the detour, shape (seeds,)
    :param value: its return, shape (seeds,)
    """

    student: Student
    detour: np.ndarray
    value: np.ndarray

    @staticmethod
    def interval(values: np.ndarray) -> tuple[float, float]:
        """
        :param values: of seeds
        :return: their mean, and half the width of its 95% confidence interval
        """
        return float(values.mean()), float(T[len(values) - 1] * values.std(ddof=1) / np.sqrt(len(values)))


def teacher_of(world: Aliased) -> Teacher:
    """
    :param world: a forked road
    :return: its teacher, a function of the number of the state
    """
    logits = world.mdp.teacher_logits.log_softmax(-1).float().numpy()
    value = world.mdp.teacher_value(1.0).float().numpy()
    return load_teacher(lambda state: logits[state], answers="logits", batched=True, value=lambda state: value[state])


def states_of(env: VecEnv) -> VecEnv:
    """What the teacher sees."""
    return VecExtractDictObs(env, "state")


def learnt(student: Student, n_steps: int, seed: int) -> Any:
    """
    :param student: who
    :param n_steps: environment steps
    :param seed: of everything random
    :return: the trained model
    """
    road = student.road._asdict()
    del road["temperature"]
    env = VecExtractDictObs(make_vec_env(ForkedRoad, N_ENVS, seed=seed, env_kwargs=road), "seen")
    settings = student.settings() | {"method": student.row, "seed": seed, "device": "cpu"}
    settings |= {"teacher": teacher_of(student.road.world()), "teacher_obs": states_of}
    if student.remembers:
        lstm = {"net_arch": [32], "lstm_hidden_size": 32}
        model: Any = DistillRecurrentPPO("MlpLstmPolicy", env, policy_kwargs=lstm, **settings)
    else:
        model = DistillPPO("MlpPolicy", env, policy_kwargs={"net_arch": [64]}, **settings)
    model.set_logger(Logger(None, []))
    with torch_threads(1):
        return model.learn(n_steps)


@th.no_grad()
def policy_of(model: Any, road: Road) -> th.Tensor:
    """
    What a network does in each state of the forked road, with what it remembers when it comes there.

    :param model: trained
    :param road: where
    :return: π_θ(a|s), shape (S, A)
    """
    world = road.world()
    if not hasattr(model.policy, "lstm_actor"):
        return model.policy.get_distribution(world.seen).distribution.probs.double()
    n_places = 1 + road.length + road.forks
    probs = th.full((world.mdp.n_states, 2), 0.5, dtype=th.float64)
    memory = None
    for place in range(n_places):  # of both episodes that there are, by the hidden bit
        here = th.tensor([place, n_places + place])
        if memory is None:
            shape = (model.policy.lstm_actor.num_layers, 2, model.policy.lstm_actor.hidden_size)
            memory = (th.zeros(shape), th.zeros(shape))
        distribution, memory = model.policy.get_distribution(
            world.seen[here], memory, th.tensor([float(place == 0)] * 2)
        )
        probs[here] = distribution.distribution.probs.double()
    return probs


def networks(students: tuple[Student, ...], n_seeds: int, n_steps: int, seed: int, folder: Path) -> list[Found]:
    """
    :param students: who learns
    :param n_seeds: of each, 2 to 5
    :param n_steps: environment steps of each
    :param seed: of the run
    :param folder: where finished runs are kept
    :return: what they do
    """
    found = []
    for student in students:
        work = partial(_work, student, n_steps, seed)
        arrays = in_chunks(work, n_seeds, 1, folder, (source_digest(), student, n_steps, seed), f"fig8 {student.label}")
        found.append(Found(student, arrays["detour"], arrays["value"]))
    return found


def _work(student: Student, n_steps: int, seed: int, first: int, count: int) -> dict[str, np.ndarray]:
    world = student.road.world()
    probs = th.stack(
        [policy_of(learnt(student, n_steps, 1_000 * seed + first + k), student.road) for k in range(count)]
    )
    states = Aliased(world.mdp, th.arange(world.mdp.n_states))
    return {"detour": takes_the_detour(states, probs).numpy(), "value": states.expected_return(probs).numpy()}


@cache
def source_digest() -> str:
    """:return: a digest of the code of the task: runs of other code are not used"""
    files = [Path(str(forked_road.__file__)), Path(__file__)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
