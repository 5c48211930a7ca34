"""``python -m tests.tools.verify``: the agents of RL_TRAINED_AGENTS against SB3's own ``load``, and against their files.

For each agent: observations from its own environment, some greedy and some random steps; its greedy actions there, as our
loader has them and as SB3 has them; and the return of 100 episodes beside the one that its files report. SB3 runs the
pickles of these files, and needs the abandoned ``gym`` for it, so that part runs in a process of its own and only with
``--gym FOLDER``, where ``pip install --no-deps --target FOLDER gym==0.26.2 gym-notices`` has put it.
"""

import argparse
import os
import pickle
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from sb3_distill.agents.find import BUNDLED, find_agent
from sb3_distill.agents.inspection import checkpoints_in, inspect
from sb3_distill.agents.load import load_teacher
from sb3_distill.evaluation.episodes import EVALUATION_SEED, episode_returns, standard_error
from sb3_distill.teachers.teacher import Teacher

N_ENVS = 8


def observations(teacher: Teacher, n: int, seed: int = 0) -> Any:
    """
    :param teacher: with an environment that can be made
    :param n: how many
    :param seed: of the episodes and of the random half of the steps
    :return: raw observations of the teacher's environment, a batch of n
    """
    env = teacher.training_env(N_ENVS)
    env.action_space.seed(seed)
    random = np.random.default_rng(seed)
    env.seed(seed)
    obs: Any = env.reset()
    seen: list[Any] = []
    while len(seen) * N_ENVS < n:
        seen.append(np.array(obs))
        actions = teacher.act(obs)
        if random.random() < 0.5:
            actions = np.stack([env.action_space.sample() for _ in range(N_ENVS)])
        obs, _, _, _ = env.step(actions)
    env.close()
    return np.concatenate(seen)[:n]


def sb3_actions(algo: str, checkpoint: Path, vec_normalize: Path | None, obs: Any) -> np.ndarray:
    """
    SB3's answer, in a process that may run pickles.

    :param algo: as the zoo calls it
    :param checkpoint: the zip
    :param vec_normalize: its statistics, if it has some
    :param obs: a batch, raw
    :return: greedy actions
    """
    warnings.simplefilter("ignore")
    import sb3_contrib
    import stable_baselines3

    model_class = getattr(stable_baselines3, algo.upper(), None) or getattr(sb3_contrib, algo.upper())
    model = model_class.load(checkpoint, device="cpu")
    if vec_normalize is not None:
        with vec_normalize.open("rb") as file:
            obs = pickle.load(file).normalize_obs(obs)
    return model.predict(obs, deterministic=True)[0]  # type: ignore[no-any-return]


def compare(path: Path, n_obs: int, n_episodes: int, pool: Any) -> list[str]:
    """
    :param path: of the zip
    :param n_obs: observations to compare actions on
    :param n_episodes: to play
    :param pool: a process for SB3; None leaves it out
    :return: a line of the table
    """
    agent = find_agent(path)
    name = "/".join((path.parts[-3], path.stem))
    about = inspect(path)
    softness: Any = {"temperature": 1.0} if about.teacher == "QTeacher" else {}  # greedy play has none
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        teacher = load_teacher(path, device="cpu", **softness)
    same = "-"
    if pool is not None:
        obs = observations(teacher, n_obs)
        statistics = next(iter(agent.vec_normalize), None) if teacher.normalize_obs is not None else None
        theirs = pool.submit(sb3_actions, path.parts[-3], agent.checkpoint, statistics, obs).result()
        ours = teacher.act(obs)
        equal = np.isclose(ours, theirs, rtol=0, atol=1e-6).reshape(len(obs), -1).all(axis=1)
        same = f"{equal.sum():,} of {len(obs):,}"
    returns = episode_returns(teacher.act, teacher.training_env, n_episodes, EVALUATION_SEED)
    line = [name, same, f"{returns.mean():.1f} ± {1.96 * standard_error(returns):.1f}"]
    if about.reported is None:
        return [*line, "?", "?"]
    half = 1.96 * about.reported.std / np.sqrt(about.reported.n_episodes)
    difference = returns.mean() - about.reported.mean
    width = np.hypot(1.96 * standard_error(returns), half)
    verdict = "within" if abs(difference) <= width else "better" if difference > 0 else "worse"
    return [*line, f"{about.reported.mean:.1f} ± {half:.1f} ({about.reported.source})", verdict]


def main(argv: list[str] | None = None) -> None:
    """:param argv: arguments, by default the command line's"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gym", metavar="FOLDER", help="where gym 0.26 is; without it SB3's own load is left out")
    parser.add_argument("--observations", type=int, default=1_000)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--only", metavar="TEXT", default="", help="agents whose name has it")
    args = parser.parse_args(argv)
    th.set_num_threads(1)
    table = Table(title=f"{args.observations:,} observations, {args.episodes} episodes; ± is half a 95% interval")
    for column in ("agent", "same greedy action as SB3's", "return", "return that its files report", "the two"):
        table.add_column(column)
    roots = [Path(root) for root in os.environ.get("RL_TRAINED_AGENTS", "").split(os.pathsep) if root] or [BUNDLED]
    paths = [path for root in roots for path in checkpoints_in(root) if args.only in str(path)]
    pool = None
    if args.gym:
        sys.path.append(args.gym)  # which the process takes over, before it imports SB3
        pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    for path in tqdm(paths, unit="agent"):
        table.add_row(*compare(path, args.observations, args.episodes, pool))
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
