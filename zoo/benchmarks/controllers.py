"""Controllers as teachers: PPO students of a regulator of CartPole, one of Pendulum and the heuristic that Gymnasium has for LunarLander.

``python -m sb3_distill.zoo.benchmarks.controllers [--out FILE] [--seeds 5]``
    trains the students that FILE, a CSV, does not have yet, and prints how many play as well as their controller, within 3% of the
    magnitude of its return, over the same 100 episodes.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch as th
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.env_util import make_vec_env

from sb3_distill.agents.load import load_teacher
from sb3_distill.algorithms.ppo import OnPolicyDistill
from sb3_distill.common.phases import phase
from sb3_distill.evaluation.episodes import EVALUATION_SEED, episode_returns, greedy, random_play, standard_error
from sb3_distill.zoo.benchmarks.csv_lines import read, write

N_ENVS, EPISODES, SHARE = 8, 100, 0.97


def lqr(a: np.ndarray, b: np.ndarray, q: np.ndarray, r: float) -> np.ndarray:
    """
    The gain K of u = −K x that costs the least Σ xᵀ Q x + r u², where x' = A x + B u; the Riccati equation, iterated.

    :param a: A, shape (n, n)
    :param b: B, shape (n, 1)
    :param q: Q, shape (n, n)
    :param r: of the action
    :return: shape (n,)
    """
    p = q
    for _ in range(2_000):
        k = np.linalg.solve(r + b.T @ p @ b, b.T @ p @ a)
        p = q + a.T @ p @ (a - b @ k)
    return k[0]


def cart_pole() -> Callable[[np.ndarray], int]:
    """
    :return: a regulator of CartPole's position, whose force is 10 to one side or the other
    """
    # Gymnasium's: cart 1 kg, pole 0.1 kg and half a metre to its middle, 20 ms a step; linear about the upright state.
    gravity, cart, pole, half, step = 9.8, 1.0, 0.1, 0.5, 0.02
    total = cart + pole
    turn = half * (4 / 3 - pole / total)
    a = np.eye(4) + step * np.array(
        [[0, 1, 0, 0], [0, 0, -pole * half * gravity / turn / total, 0], [0, 0, 0, 1], [0, 0, gravity / turn, 0]]
    )
    b = step * np.array([[0], [(1 + pole * half / turn / total) / total], [0], [-1 / turn / total]])
    gain = lqr(a, b, np.diag([1.0, 0.1, 1.0, 0.1]), 0.1)
    return lambda state: int(-gain @ state > 0)


class PendulumPID:
    """Pendulum's: swings it up by its energy, and holds it there by proportion, rate and integral of its angle, which it remembers."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """An episode begins."""
        self.integral = 0.0

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """
        :param obs: cos θ, sin θ and the rate of θ
        :return: a torque
        """
        cos, sin, rate = obs
        if cos < 0.8:
            self.integral = 0.0
            energy = rate**2 / 2 + 15 * (cos - 1)  # 0 at rest above: the rate's own is 15 sin θ + 3 u
            return np.array([-2 * np.sign(energy) * (np.sign(rate) or 1.0)])
        angle = np.arctan2(sin, cos)
        self.integral += 0.05 * angle
        return np.clip(np.array([-(15 * angle + 4 * rate + 0.5 * self.integral)]), -2, 2)


def lunar_lander() -> Callable[[np.ndarray], int]:
    """
    :return: the heuristic of Gymnasium, which looks at the state alone
    """
    from gymnasium.envs.box2d.lunar_lander import heuristic

    env: Any = SimpleNamespace(unwrapped=SimpleNamespace(continuous=False))
    return lambda state: int(heuristic(env, state))


#: from environments to what makes their controller, and steps of its students
TASKS: dict[str, tuple[Callable[[], Callable[..., Any]], int]] = {
    "CartPole-v1": (cart_pole, 16_384),
    "Pendulum-v1": (PendulumPID, 65_536),
    "LunarLander-v3": (lunar_lander, 65_536),
}
FIELDS = ("env", "seed", "steps", "student", "student_error", "teacher", "teacher_error", "random", "seconds")


def distil(env_id: str, seed: int) -> dict[str, Any]:
    """
    :param env_id: one of ``TASKS``
    :param seed: of everything random in training
    :return: a line of the CSV
    """
    make, steps = TASKS[env_id]
    teacher = load_teacher(make(), env=env_id)
    env = make_vec_env(env_id, N_ENVS, seed=seed)
    student = OnPolicyDistill(
        "MlpPolicy", env, teacher=teacher, seed=seed, device="cpu", policy_kwargs={"net_arch": [64, 64]}
    )
    start = time.perf_counter()
    student.learn(steps)
    seconds = time.perf_counter() - start

    def returns(act: Any, view: Any = lambda env: env) -> np.ndarray:
        return episode_returns(act, lambda n: view(make_vec_env(env_id, n)), EPISODES, EVALUATION_SEED)

    theirs = returns(teacher.act, teacher.view)
    ours = returns(greedy(student.predict))
    chance = returns(random_play(env.action_space, EPISODES))
    numbers = (ours.mean(), standard_error(ours), theirs.mean(), standard_error(theirs), chance.mean(), seconds)
    return dict(zip(FIELDS, (env_id, seed, steps, *(round(float(x), 3) for x in numbers)), strict=True))


def table(lines: list[dict[str, str]]) -> Table:
    """
    :param lines: of the CSV
    :return: for people
    """
    made = Table(title=f"PPO students of controllers, {EPISODES} episodes each", title_justify="left")
    for column in ("environment", "steps", "controller", "students", f"at {SHARE:.0%}", "random play", "seconds"):
        made.add_column(column, justify="right" if column != "environment" else "left")
    for env_id in TASKS:
        of_env = [line for line in lines if line["env"] == env_id]
        if not of_env:
            continue
        theirs, ours = float(of_env[0]["teacher"]), [float(line["student"]) for line in of_env]
        enough = sum(our >= theirs - (1 - SHARE) * abs(theirs) for our in ours)
        made.add_row(
            env_id,
            f"{int(of_env[0]['steps']):,}",
            f"{theirs:.1f} ± {float(of_env[0]['teacher_error']):.1f}",
            ", ".join(f"{our:.1f}" for our in ours),
            f"{enough}/{len(ours)}",
            f"{float(of_env[0]['random']):.1f}",
            f"{np.mean([float(line['seconds']) for line in of_env]):.0f}",
        )
    return made


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", default="runs/controllers.csv", type=Path)
    parser.add_argument("--seeds", default=5, type=int)
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    th.set_num_threads(1)
    for seed in range(args.seeds):
        for env_id in TASKS:
            if not any(line["env"] == env_id and int(line["seed"]) == seed for line in read(args.out)):
                with phase(f"{env_id}, seed {seed}"):
                    write(args.out, [distil(env_id, seed)])
    Console(width=140).print(table(read(args.out)))


if __name__ == "__main__":
    main()
