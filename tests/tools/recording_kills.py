"""Recordings that are killed: ``python -m tests.tools.recording_kills``.

Records a memory without interruption, and then the same one again and again, in processes that SIGKILL ends at random
moments: one that begins it, and one that goes on with it. After each kill the memory is opened, and has to hold every episode
that had ended by then. A third process finishes it, and it has to equal the one that was not interrupted, array by array.
"""

import hashlib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_distill.agents.load import load_teacher
from sb3_distill.evaluation.episodes import make_plain_envs
from sb3_distill.evaluation.scores import show
from sb3_distill.memory.disk import DiskMemory
from sb3_distill.memory.folder import METADATA
from sb3_distill.memory.recorder import record

from . import killing

N_ENVS = 8
#: so random a player that its episodes are short, and a good part of the time goes into writing them
EPSILON = 0.5


class Result(NamedTuple):
    """Of one recording.

    :param n_kills: how often it was killed
    :param n_writing: how many of the kills met it as it wrote a file
    :param n_opened: after how many of the kills it could be opened
    :param n_kept: episodes that it had after its kills
    :param n_lost: episodes that had ended before a kill, and were not there after it
    :param equal: whether it equals the one that was not interrupted
    """

    n_kills: int
    n_writing: int
    n_opened: int
    n_kept: int
    n_lost: int
    equal: bool


class _Counting(VecEnvWrapper):
    """Keeps in a file how many episodes have ended, as of when the next step begins: by then they are to be on disk."""

    def __init__(self, venv: VecEnv, path: Path) -> None:
        super().__init__(venv)
        self.file = os.open(path, os.O_RDWR | os.O_CREAT)
        self.n_ended = 0

    def reset(self) -> VecEnvObs:
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        os.pwrite(self.file, self.n_ended.to_bytes(8, "little"), 0)
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        obs, rewards, dones, infos = self.venv.step_wait()
        self.n_ended += int(dones.sum())
        return obs, rewards, dones, infos


def record_cartpole(path: Path, count: Path, n_steps: int) -> None:
    """
    The recording: of the bundled CartPole-v1 agent.

    :param path: of the memory
    :param count: of a file that keeps the number of episodes that have ended
    :param n_steps: to record, a multiple of :data:`N_ENVS`
    """
    teacher = load_teacher("zoo:dqn/CartPole-v1", temperature=1.0)
    record(teacher, _Counting(make_plain_envs("CartPole-v1", N_ENVS), count), n_steps, path, epsilon=EPSILON, seed=1)


def content(memory: DiskMemory) -> str:
    """
    :param memory: any
    :return: SHA-256 of all its arrays, episode by episode
    """
    digest = hashlib.sha256()
    for episode in memory.episodes():
        for value in (*episode.observations.values(), *(part for part in episode if not isinstance(part, dict))):
            array = np.asarray(value)
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


class Killer(killing.Killer):
    """
    Starts recordings and kills them.

    :param folder: where they go
    :param n_steps: of each
    :param seed: of the moments
    """

    def __init__(self, folder: Path, n_steps: int, seed: int) -> None:
        super().__init__(folder, n_steps, seed, "sb3_distill.memory.recorder")
        self.start("whole").join()
        memory = DiskMemory(folder / "whole")
        self.n_episodes = memory.n_episodes
        self.whole = content(memory)

    def start(self, name: str) -> Any:
        """
        :param name: of a memory, which is recorded from where it was
        :return: the process
        """
        self._count(name).unlink(missing_ok=True)
        return self.begin(record_cartpole, self.folder / name, self._count(name), self.n_steps)

    def _count(self, name: str) -> Path:
        return self.folder / f"{name}.count"

    def _n_ended(self, name: str) -> int:
        """How many episodes have ended in the process that was started last."""
        count = self._count(name)
        return int.from_bytes(count.read_bytes(), "little") if count.exists() else 0

    def run(self, name: str) -> Result:
        """
        :param name: of a memory that is not there yet
        :return: what two kills did to it
        """
        path, total = self.folder / name, Result(0, 0, 0, 0, 0, False)
        for _ in range(2):
            process = self.start(name)
            # A moment in the course of the recording, which the computer's other work makes longer or shorter.
            moment = self.dice.uniform(0, self.n_episodes)
            while process.is_alive() and (self._n_ended(name) < moment or not (path / METADATA).exists()):
                time.sleep(1e-3)
            time.sleep(self.dice.uniform(0, 0.02))
            killed = process.is_alive()
            process.kill()
            process.join()
            total = self._after_kill(name, total) if killed else total
        process = self.start(name)
        process.join()
        return total._replace(equal=process.exitcode == 0 and content(DiskMemory(path)) == self.whole)

    def _after_kill(self, name: str, total: Result) -> Result:
        path = self.folder / name
        writing = any(path.glob(".*.tmp.*"))
        ended = self._n_ended(name)
        total = total._replace(n_kills=total.n_kills + 1, n_writing=total.n_writing + writing)
        try:
            n_kept = DiskMemory(path).n_episodes
        except (ValueError, OSError):
            return total._replace(n_lost=total.n_lost + ended)
        return total._replace(
            n_opened=total.n_opened + 1, n_kept=total.n_kept + n_kept, n_lost=total.n_lost + max(0, ended - n_kept)
        )


def main(argv: list[str] | None = None) -> int:
    """
    Print what the kills did.

    :param argv: arguments, by default those of the process
    :return: 0 if nothing was lost and all is equal, else 1
    """
    args = killing.parser_of("Kill recordings and see what is left of them.", "recordings", 20_000).parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        killer = Killer(Path(folder), args.steps // N_ENVS * N_ENVS, args.seed)
        results = killing.until(args.recordings, lambda n: killer.run(f"memory_{n}"), lambda result: result.n_kills)
    kills = sum(result.n_kills for result in results)
    opened = sum(result.n_opened for result in results)
    equal = sum(result.equal for result in results)
    lost = sum(result.n_lost for result in results)
    table = Table(title=f"{len(results)} recordings of {args.steps:,} steps", title_justify="left", show_header=False)
    table.add_row("episodes of each", f"{killer.n_episodes}")
    table.add_row("recordings that were killed, once or twice", f"{sum(result.n_kills > 0 for result in results)}")
    table.add_row(
        "kills, of which in the middle of writing a file", f"{kills}, {sum(result.n_writing for result in results)}"
    )
    table.add_row("kills after which the memory opened", f"{opened}")
    table.add_row("episodes that were there then", f"{sum(result.n_kept for result in results):,}")
    table.add_row("episodes that had ended and were not", f"{lost}")
    table.add_row("recordings that ended equal to the whole one", f"{equal}")
    show(table)
    return 0 if opened == kills and equal == len(results) and lost == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
