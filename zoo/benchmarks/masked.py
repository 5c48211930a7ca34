"""Masked students: a game of 60 actions of which at most six are allowed, and how much of the teacher's return they have.

``python -m sb3_distill.zoo.benchmarks.masked``
    Trains what is asked for and has not been trained yet, and prints the table of all that is there: returns and shares of the teacher's
    return over random play, means over seeds with 95% intervals, and how many forbidden actions were taken by anybody, in training or in
    play. A student is two layers of 64 with its class's own defaults in eight environments. Each finished run is a line of the file
    ``--out``, which may be stopped and gone on with at any time.
``python -m sb3_distill.zoo.benchmarks.masked --table``
    Prints the table and trains nobody.
"""

import argparse
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from rich.console import Console
from rich.table import Table
from sb3_contrib import MaskablePPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_distill.agents.load import load_teacher
from sb3_distill.algorithms.maskable_ppo import DistillMaskablePPO
from sb3_distill.evaluation.episodes import EVALUATION_SEED, Heeding, episode_returns, greedy, random_play
from sb3_distill.teachers.teacher import Teacher
from sb3_distill.zoo.benchmarks.csv_lines import read, write

SUITS, RANKS, HAND = 5, 12, 6
METHODS = ("on_policy_distill", "n_distill", "teacher_distill", "expected_entropy")
#: those who are played and not trained here, and sb3-contrib's own algorithm without a teacher
TEACHER, RANDOM, SCRATCH = "teacher", "random play", "MaskablePPO alone"
N_ENVS, STEPS, EPISODES = 8, 16_384, 200
#: of the agent that teaches
TEACHER_STEPS = 65_536
#: of Student's t at 97.5%, by the number of seeds
_T = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


class Piles(gym.Env):
    """
    Five piles that grow: the cards have five suits of twelve ranks, a card goes on the pile of its suit if it is higher than what lies
    there, a new one is drawn from what is left, and the game is over when none of the hand goes anywhere. Each card pays 1.
    """

    #: taken by anybody so far
    n_forbidden = 0

    def __init__(self) -> None:
        self.action_space = spaces.Discrete(SUITS * RANKS)
        self.observation_space = spaces.Box(0.0, 1.0, (SUITS * RANKS + SUITS,), np.float32)

    def action_masks(self) -> np.ndarray:
        """:return: the cards of the hand that are higher than their piles"""
        return self.hand & (np.tile(np.arange(RANKS), SUITS) > np.repeat(self.tops, RANKS))

    def _obs(self) -> np.ndarray:
        return np.concatenate([self.hand, (self.tops + 1) / RANKS]).astype(np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.deck = list(self.np_random.permutation(SUITS * RANKS))
        self.tops = np.full(SUITS, -1)
        self.hand = np.zeros(SUITS * RANKS, dtype=bool)
        self.hand[[self.deck.pop() for _ in range(HAND)]] = True
        return self._obs(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        card = int(action)
        if not self.action_masks()[card]:
            Piles.n_forbidden += 1
            return self._obs(), 0.0, True, False, {}
        self.hand[card] = False
        self.tops[card // RANKS] = card % RANKS
        if self.deck:
            self.hand[self.deck.pop()] = True
        is_over = not self.action_masks().any()
        if is_over:  # whoever asks in a state that nobody acts in is told that all goes
            self.hand[:], self.tops[:] = True, -1
        return self._obs(), 1.0, is_over, False, {}


def lowest_step(obs: np.ndarray) -> np.ndarray:
    """
    :param obs: n observations of :class:`Piles`
    :return: for each card how little it skips on its pile, as logits; it looks at no hand
    """
    above = np.tile(np.arange(RANKS), (len(obs), SUITS)) + 1 - RANKS * np.repeat(obs[:, -SUITS:], RANKS, axis=1)
    return -2.0 * above


def made(n: int, seed: int | None = None) -> Any:
    """
    :param n: environments
    :param seed: of them
    :return: they
    """
    return make_vec_env(Piles, n, seed=seed)


@cache
def rule() -> Teacher:
    """:return: who knows what a card skips, and not what is allowed"""
    teacher = load_teacher(lowest_step, answers="logits", batched=True)
    env = Piles()
    teacher.meet(env.observation_space, env.action_space)
    return teacher


@cache
def agent() -> Teacher:
    """:return: a MaskablePPO of two layers of 256, trained here"""
    network = {"net_arch": [256, 256]}
    model = MaskablePPO(
        "MlpPolicy", made(N_ENVS, 0), n_steps=256, batch_size=256, seed=0, device="cpu", policy_kwargs=network
    )
    return load_teacher(model.learn(TEACHER_STEPS))


TEACHERS: dict[str, Callable[[], Teacher]] = {"rule": rule, "MaskablePPO": agent}


def played(act: Callable[..., np.ndarray]) -> float:
    """
    :param act: who plays
    :return: the mean return
    """
    return round(float(episode_returns(act, made, EPISODES, EVALUATION_SEED).mean()), 3)


def run(name: str, who: str, seed: int, steps: int) -> dict[str, Any]:
    """
    :param name: of the teacher
    :param who: a row, or one of those above
    :param seed: of the student and its environments
    :param steps: to learn for
    :return: a line of the file: mean returns of the most probable actions and of drawn ones
    """
    Piles.n_forbidden = 0
    teacher, seconds = TEACHERS[name](), 0.0
    th.manual_seed(seed)
    if who == RANDOM:
        steps, returns = 0, [played(random_play(teacher.action_space, EPISODES))] * 2
    elif who == TEACHER:

        def draw(obs: Any, masks: np.ndarray | None = None) -> np.ndarray:
            return teacher.distribution(obs, masks).sample().cpu().numpy()

        steps, returns = 0, [played(Heeding(act)) for act in (teacher.act, draw)]
    else:
        kwargs: dict[str, Any] = {"seed": seed, "device": "cpu", "policy_kwargs": {"net_arch": [64, 64]}}
        env = made(N_ENVS, seed)
        if who == SCRATCH:
            model: MaskablePPO = MaskablePPO("MlpPolicy", env, n_steps=2_048 // N_ENVS, **kwargs)
        else:
            model = DistillMaskablePPO("MlpPolicy", env, teacher=teacher, method=who, **kwargs)
        start = time.perf_counter()
        model.learn(steps)
        seconds = round(time.perf_counter() - start, 1)
        drawn = Heeding(lambda obs, masks=None: model.predict(obs, action_masks=masks)[0])
        returns = [played(greedy(model.predict)), played(drawn)]
    said = {"teacher": name, "who": who, "seed": seed, "steps": steps, "greedy": returns[0], "drawn": returns[1]}
    return said | {"forbidden": Piles.n_forbidden, "seconds": seconds}


def summary(lines: list[dict[str, str]]) -> Table:
    """
    :param lines: of the file
    :return: the table
    """
    table = Table(
        title=f"{SUITS * RANKS} actions, at most {HAND} allowed: mean return, share of the teacher's over random play; drawn"
    )
    for column in ("teacher", "who", "seeds", "steps", "return", "share", "drawn", "share", "forbidden", "seconds"):
        table.add_column(column, justify="left" if column in ("teacher", "who") else "right")
    for name in TEACHERS:
        mine = [line for line in lines if line["teacher"] == name]
        known = {line["who"]: line for line in mine}
        if not {TEACHER, RANDOM} <= set(known):
            continue
        for who in (TEACHER, RANDOM, *METHODS, SCRATCH):
            theirs = [line for line in mine if line["who"] == who]
            if not theirs:
                continue
            cells = []
            for kind in ("greedy", "drawn"):
                best, least = float(known[TEACHER][kind]), float(known[RANDOM][kind])
                values = [float(line[kind]) for line in theirs]
                shares = [(value - least) / (best - least) for value in values]
                mean, n = float(np.mean(shares)), len(shares)
                error = f" ± {_T[n] * np.std(shares, ddof=1) / n**0.5:.1%}" if n in _T else ""
                cells += [f"{np.mean(values):.2f}", f"{mean:.1%}{error}"]
            forbidden, seconds = (
                sum(int(line["forbidden"]) for line in theirs),
                np.mean([float(line["seconds"]) for line in theirs]),
            )
            table.add_row(name, who, str(len(theirs)), theirs[0]["steps"], *cells, str(forbidden), f"{seconds:.0f}")
        table.add_section()
    return table


def main(argv: list[str] | None = None) -> None:
    """:param argv: arguments, by default the command line's"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teachers", nargs="+", choices=list(TEACHERS), default=list(TEACHERS))
    parser.add_argument("--methods", nargs="+", choices=[*METHODS, SCRATCH], default=[*METHODS, SCRATCH])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of every student (default: {STEPS})")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("masked.csv"), help="the file of all runs")
    parser.add_argument("--table", action="store_true", help="train nobody")
    args = parser.parse_args(argv)
    th.set_num_threads(1)
    jobs = [(name, who, 0) for name in args.teachers for who in (TEACHER, RANDOM)]
    jobs += [(name, who, seed) for who in args.methods for name in args.teachers for seed in args.seeds]
    for name, who, seed in [] if args.table else jobs:
        if any((line["teacher"], line["who"], int(line["seed"])) == (name, who, seed) for line in read(args.out)):
            continue
        line = run(name, who, seed, args.steps)
        write(args.out, [line])
        print(*line.values(), flush=True)
    Console(width=160).print(summary(read(args.out)))


if __name__ == "__main__":
    main()
