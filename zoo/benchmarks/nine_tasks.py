"""The nine tasks of the policy-distillation experiments: MinAtar's five games, and the RL Zoo's four DQN agents of other kinds.

What each has: a teacher with a score, a memory of it on disk, and students of a given share of its parameters.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

import sb3_distill.common.env_ids  # noqa: F401 - registers MinAtar's games
from sb3_distill.agents.load import load_teacher
from sb3_distill.evaluation.episodes import EVALUATION_SEED, episode_returns, random_play
from sb3_distill.memory import DiskMemory, record
from sb3_distill.students.features import min_atar_student
from sb3_distill.teachers.teacher import Teacher
from sb3_distill.zoo.benchmarks.relative_scores import Reference, measured

#: of students, relative to the teacher (Rusu et al. 2015)
SHARES = ("25%", "7%", "4%")
#: episodes of a teacher and of random play; a student plays ``EPISODES``
TEACHER_EPISODES, EPISODES = 400, 100
#: how much longer small students of MinAtar's games learn: they go on gaining
LONGER = {"7%": 2, "4%": 2}
#: a player that is stuck must not stop a run for good
MAX_STEPS = 20_000
#: environments side by side while a teacher is played, and the paper's share of random actions in it
PLAY_ENVS, EPSILON = 32, 0.05


class Task(NamedTuple):
    """
    One of the nine.

    :param env_id: of Gymnasium
    :param n_steps: of a student's training, in all environments together; see :meth:`steps_for`
    :param n_race: the same, where it counts how few are needed
    """

    env_id: str
    n_steps: int
    n_race: int

    @property
    def is_min_atar(self) -> bool:
        """Whether it is a game of MinAtar."""
        return self.env_id.startswith("MinAtar/")

    def steps_for(self, share: str) -> int:
        """
        :param share: of ``SHARES``
        :return: how many steps a student of that share learns from
        """
        return self.n_steps * (LONGER.get(share, 1) if self.is_min_atar else 1)


TASKS = {
    "CartPole": Task("CartPole-v1", 40_000, 8_192),
    "Acrobot": Task("Acrobot-v1", 80_000, 16_384),
    "MountainCar": Task("MountainCar-v0", 120_000, 65_536),
    "LunarLander": Task("LunarLander-v3", 120_000, 65_536),
    **{
        game: Task(f"MinAtar/{game}-v1", 320_000, 131_072)
        for game in ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")
    },
}


def teacher_of(task: Task, temperature: float = 1.0, epsilon: float = 0.0) -> Teacher:
    """
    :param task: which
    :param temperature: of its policy, on which its Q-values and its greedy play do not depend
    :param epsilon: of its policy
    :return: its teacher
    :raises FileNotFoundError: if the agent is not here, with what to do
    """
    options: dict[str, Any] = {"temperature": temperature, "epsilon": epsilon, "device": "cpu"}
    name = task.env_id.replace("LunarLander-v3", "LunarLander-v2")  # as the RL Zoo has it
    return load_teacher(f"zoo:dqn/{name}", **options)


def memory_of(task: Task, out: Path, n_states: int, progress_bar: bool = False) -> DiskMemory:
    """
    :param task: which
    :param out: folder of memories; what is there is taken from there, or gone on with
    :param n_states: of the memory
    :param progress_bar: whether to show one
    :return: what its teacher has met, ε-greedily
    """
    env = make_vec_env(task.env_id, PLAY_ENVS)
    try:
        path = out / task.env_id.replace("/", "-")
        return record(teacher_of(task), env, n_states, path, EPSILON, 0, progress_bar)
    finally:
        env.close()


def student_arch(task: Task, share: str, n_teacher: int) -> dict[str, Any]:
    """
    :param task: which
    :param share: of ``SHARES``
    :param n_teacher: the teacher's parameters
    :return: ``policy_kwargs`` of a student of at most that share of them
    """
    if task.is_min_atar:
        return min_atar_student(share)
    env = gym.make(task.env_id)
    n_in, n_out = spaces.flatdim(env.observation_space), spaces.flatdim(env.action_space)
    n = hidden_units(int(share.rstrip("%")) * n_teacher // 100, n_in, n_out)
    return {"net_arch": [n, n], "activation_fn": nn.ReLU}


def hidden_units(n_parameters: int, n_in: int, n_out: int) -> int:
    """
    :param n_parameters: to be had
    :param n_in: inputs
    :param n_out: outputs
    :return: units of each of two hidden layers, as many as the parameters allow
    """
    # n² + (n_in + n_out + 2) n + n_out of them
    b = n_in + n_out + 2
    return int((math.sqrt(b * b + 4 * (n_parameters - n_out)) - b) / 2)


def reference(task: Task) -> Reference:
    """
    :param task: which
    :return: its teacher's and random play's scores
    """
    teacher = teacher_of(task)
    returns = episode_returns(teacher.act, task.env_id, TEACHER_EPISODES, EVALUATION_SEED, MAX_STEPS)
    play = random_play(teacher.action_space, TEACHER_EPISODES)
    randoms = episode_returns(play, task.env_id, TEACHER_EPISODES, EVALUATION_SEED, MAX_STEPS)
    return measured(returns, randoms, teacher.n_parameters)
