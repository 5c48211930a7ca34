"""What a memory of Atari takes and how fast it is read: ``python -m sb3_distill.zoo.benchmarks.memory``.

Records random play with an untrained network's answers, and prints the bytes of a step on disk and in RAM beside the 84 · 84 · 4
of its observation, and the states that are read in a second, stacks rebuilt, beside those that NatureCNN trains on: forwards,
backwards and a step of Adam, from one batch that is in RAM already.
"""

import argparse
import math
import tempfile
import time
from pathlib import Path

import numpy as np
import torch as th
from rich.table import Table
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.agents.load import load_teacher
from sb3_distill.algorithms.threads import torch_threads
from sb3_distill.envs.atari import make_atari_vec_env
from sb3_distill.evaluation.scores import show
from sb3_distill.memory.disk import DiskMemory
from sb3_distill.memory.recorder import record

N_ENVS, BATCH = 8, 256
#: batches that are trained on to time it, after as many to warm up
N_BATCHES = 40


def train_rate(env: VecEnv, n_threads: int) -> float:
    """
    :param env: of Atari
    :param n_threads: of PyTorch
    :return: states per second that NatureCNN trains on
    """
    q_net = untrained(env).q_net
    optimizer = th.optim.Adam(q_net.parameters())
    shape = (BATCH, *(env.observation_space.shape or ()))
    images = np.random.default_rng(0).integers(256, size=shape).astype(np.uint8)
    with torch_threads(n_threads):
        for k in range(2 * N_BATCHES):
            if k == N_BATCHES:
                start = time.perf_counter()
            loss = q_net(th.as_tensor(images)).log_softmax(-1).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds = time.perf_counter() - start
    return N_BATCHES * BATCH / seconds


def untrained(env: VecEnv) -> DQN:
    """:return: an agent of Atari, with the weights that it is born with"""
    return DQN("CnnPolicy", env, buffer_size=1, seed=0, device="cpu")


def read_rate(memory: DiskMemory, seed: int) -> float:
    """
    :param memory: to read
    :param seed: of the order
    :return: states per second of one pass
    """
    start = time.perf_counter()
    n = sum(len(batch.answers) for batch in memory.batches(BATCH, seed))
    return n / (time.perf_counter() - start)


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description="What a memory of Atari takes and how fast it is read.")
    parser.add_argument("--game", default="Pong", metavar="NAME", help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=100_000, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="of PyTorch (default: %(default)s)")
    args = parser.parse_args()
    env = make_atari_vec_env(args.game, N_ENVS)
    whole = math.prod(env.observation_space.shape or ())
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        memory = record(
            load_teacher(untrained(env), tune=False), env, args.steps, Path(folder), epsilon=1.0, progress_bar=True
        )
        seconds = time.perf_counter() - start
        on_disk = sum(file.stat().st_size for file in Path(folder).iterdir()) / len(memory)
        in_ram = memory.n_bytes / len(memory)
        first, later = read_rate(memory, 0), read_rate(memory, 1)
        streamed = read_rate(DiskMemory(folder, buffer_bytes=memory.n_bytes // 8), 0)
    trained = train_rate(env, args.threads)
    table = Table(title=f"{args.game}: {len(memory):,} states of {memory.n_episodes:,} episodes", title_justify="left")
    table.add_column()
    table.add_column("bytes", justify="right")
    table.add_column(f"of {whole:,}", justify="right")
    table.add_row("a step on disk", f"{on_disk:,.0f}", f"{on_disk / whole:.3f}")
    table.add_row("a step in RAM", f"{in_ram:,.0f}", f"{in_ram / whole:.3f}")
    show(table)
    table = Table()
    table.add_column()
    table.add_column("states per second", justify="right")
    table.add_column("of NatureCNN's", justify="right")
    table.add_row(f"recorded, {th.get_num_threads()} threads", f"{args.steps / seconds:,.0f}", "")
    table.add_row(f"NatureCNN trains on, {args.threads} threads", f"{trained:,.0f}", "1.0")
    for name, rate in (
        ("read, first pass, all into RAM", first),
        ("read, later passes, from RAM", later),
        ("read, an eighth in RAM at a time", streamed),
    ):
        table.add_row(name, f"{rate:,.0f}", f"{rate / trained:.1f}")
    show(table)


if __name__ == "__main__":
    main()
