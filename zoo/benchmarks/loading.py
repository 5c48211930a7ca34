"""How long a teacher takes to load, with the choice of its temperature; and the file of the temperatures that are known.

``python -m sb3_distill.zoo.benchmarks.loading load``
    Seconds that ``load_teacher`` takes for each Q-network at hand, where its temperature is known and where it is looked for.
``python -m sb3_distill.zoo.benchmarks.loading temperatures``
    Looks for these temperatures and writes ``zoo/agents/temperatures.json``, which ``load_teacher`` reads: after an agent was added.
"""

import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch as th
from rich.console import Console
from rich.table import Table
from stable_baselines3 import DQN

from sb3_distill.agents import load
from sb3_distill.agents.find import BUNDLED, zoo_roots
from sb3_distill.agents.known_temperatures import FILE, key_of
from sb3_distill.agents.load import EPISODES, load_teacher
from sb3_distill.common.files import write_json
from sb3_distill.teachers.q_network import QTeacher
from sb3_distill.teachers.tuning import tune_temperature


class Slow(gym.Wrapper):
    """
    An environment whose steps take time.

    :param env: the environment
    :param seconds: of a step
    """

    def __init__(self, env: gym.Env, seconds: float) -> None:
        super().__init__(env)
        self.seconds = seconds

    def step(self, action: Any) -> Any:
        time.sleep(self.seconds)
        return self.env.step(action)


def q_agents() -> dict[str, Path]:
    """:return: the folders of the DQN and QR-DQN agents at hand, bundled or in RL_TRAINED_AGENTS, by a name each"""
    found = {}
    for root, name in [(BUNDLED, "bundled"), *((root, "the zoo's") for root in zoo_roots()[0])]:
        for folder in sorted([*root.glob("dqn/*"), *root.glob("qrdqn/*")]):
            if folder.is_dir():
                found[f"{name} {folder.parent.name}/{folder.name}"] = folder
    return found


def write_temperatures() -> Table:
    """
    Look for the temperature of each agent at hand, without a limit of seconds, and write down what was found.

    :return: the same as a table
    """
    th.set_num_threads(1)
    known: dict[str, Any] = {}
    table = Table(title=f"Written to {FILE}")
    for column in ("agent", "temperature"):
        table.add_column(column)
    for name, folder in q_agents().items():
        teacher = searched(folder)
        key = key_of(teacher)
        if key is None or teacher.temperature is None:
            continue
        table.add_row(name, teacher.temperature_report)
        known[key[0]] = {
            "agent": teacher.name,
            "environment": key[1],
            "temperature": teacher.temperature,
            "report": teacher.temperature_report,
        }
    write_json(FILE, known)
    return table


def searched(folder: Path) -> QTeacher:
    """
    :param folder: of an agent
    :return: it, at the temperature that a search finds now; None if it finds none without a doubt
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        teacher: Any = load_teacher(folder, tune=False, device="cpu")
        warnings.simplefilter("error", UserWarning)
        try:
            tune_temperature(teacher, EPISODES, seconds=600.0)
        except UserWarning:
            teacher.temperature = None
    return teacher  # type: ignore[no-any-return]


def load_table() -> Table:
    """:return: how long :func:`~sb3_distill.load_teacher` takes, with a known temperature and where it is looked for"""
    th.set_num_threads(1)
    make_slow: Any = lambda seconds: Slow(gym.make("CartPole-v1"), seconds)  # noqa: E731
    gym.register("Slow-v0", entry_point=make_slow)
    kwargs: dict[str, Any] = {"learning_starts": 50, "buffer_size": 1_000, "device": "cpu", "seed": 0}
    table = Table(title="Seconds of load_teacher")
    for column in ("teacher", "seconds", "if looked for", "temperature"):
        table.add_column(column, justify="right" if column in ("seconds", "if looked for") else "left")
    with tempfile.TemporaryDirectory() as folder:
        live = DQN("MlpPolicy", gym.make("Slow-v0", seconds=0.02), **kwargs).learn(300)
        live.save(f"{folder}/agent.zip")
        new = DQN("MlpPolicy", gym.make("Slow-v0", seconds=0.02), **kwargs)
        sources: dict[str, Any] = {
            "a loaded DQN, 20 ms a step": live,
            "the same, nothing in its replay buffer": new,
            "its zip": f"{folder}/agent.zip",
        }
        load_teacher("zoo:dqn/CartPole-v1")  # imports are no part of it
        for name, source in sources.items():
            teacher, seconds = _timed(source)
            table.add_row(name, f"{seconds:.2f}", "", teacher.temperature_report)
    for name, path in q_agents().items():
        teacher, seconds = _timed(path)
        table.add_row(name, f"{seconds:.2f}", f"{_timed(path, known=False)[1]:.2f}", teacher.temperature_report)
    return table


def _timed(source: Any, known: bool = True) -> tuple[Any, float]:
    """A teacher, and the seconds that it took."""
    look_up = load.known_choice
    if not known:
        load.known_choice = lambda teacher: None
    try:
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load_teacher(source), time.perf_counter() - start
    finally:
        load.known_choice = look_up


if __name__ == "__main__":
    Console(width=200).print({"load": load_table, "temperatures": write_temperatures}[sys.argv[1]]())
