"""Speed and memory of two versions, in one run: ``python -m tests.tools.before_after REVISION`` compares it with the working tree.

Each version is installed into a folder of its own; their runs take turns, each in a process with one thread. CPU seconds are compared and
not the clock's, so that somebody else's work on the machine counts as little as possible.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: prints CPU seconds of ``learn`` and the peak of memory in MiB; it has to run in both versions
PROGRAM = """
import json, resource, sys, time, warnings
warnings.simplefilter("ignore")
import torch as th
th.set_num_threads(1)
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env
import sb3_distill
name, world, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
if world == "Pong":
    from sb3_distill.envs.atari import make_atari_vec_env
    env = make_atari_vec_env("Pong", 8, seed=0)
    teacher = sb3_distill.load_teacher(DQN("CnnPolicy", env, buffer_size=1, device="cpu", seed=0), temperature=0.1)
    settings = dict(policy="CnnPolicy", n_steps=128, batch_size=256, n_epochs=4)
else:
    env = make_vec_env(world, 8, seed=0)
    agent = {"CartPole-v1": "zoo:dqn/CartPole-v1", "LunarLander-v3": "zoo:dqn/LunarLander-v2"}[world]
    teacher = sb3_distill.load_teacher(agent, temperature=0.1)
    settings = dict(policy="MlpPolicy")
model = getattr(sb3_distill, name)(env=env, teacher=teacher, seed=0, device="cpu", **settings)
model.learn(1024)
start = time.process_time()
model.learn(steps)
print(json.dumps([time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""

ROWS = ("NDistill", "OnPolicyDistill", "TeacherVRewardA2C")
RUNS = [
    *((row, world, 16_384) for world in ("CartPole-v1", "LunarLander-v3") for row in ROWS),
    ("PolicyDistillation", "CartPole-v1", 16_384),
    ("NDistill", "Pong", 2_048),
]


def install(source: Path, target: Path) -> None:
    """
    :param source: a checkout
    :param target: the folder that the package is installed into, without what it depends on
    """
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(target),
        str(source),
    ]
    subprocess.run(command, check=True)


def run(target: Path, *program: str) -> str:
    """
    :param target: where a version is installed
    :param program: arguments of Python
    :return: the last line that it prints
    """
    env = os.environ | {"PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *program], env=env, cwd=target, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.splitlines()[-1]


def seconds_of_help(target: Path) -> float:
    """
    :param target: where a version is installed
    :return: CPU seconds of ``sb3-distill --help``, of user and system
    """
    code = "import os, sys\nfrom sb3_distill.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\nprint(sum(os.times()[:2]))"
    return float(run(target, "-c", code))


def compare(before: Path, after: Path, repeats: int) -> None:
    """
    :param before: where the one version is installed
    :param after: and where the other
    :param repeats: of each run; the least counts, which the rest of the machine has disturbed least
    """
    print(f"CPU seconds and peak memory (MiB), the least of {repeats} runs: before, after, ratio")
    for row in RUNS:
        results: dict[Path, list[tuple[float, float]]] = {before: [], after: []}
        for _ in range(repeats):
            for target, found in results.items():
                found.append(tuple(json.loads(run(target, "-c", PROGRAM, *map(str, row)))))
        (old_s, old_mib), (new_s, new_mib) = (map(min, zip(*found, strict=True)) for found in results.values())
        print(
            f"{row[0]:<20}{row[1]:<16}{row[2]:>7} steps  {old_s:6.2f} {new_s:6.2f} {new_s / old_s:5.2f}"
            f"   {old_mib:6.0f} {new_mib:6.0f} {new_mib / old_mib:5.2f}",
            flush=True,
        )
    helps = [statistics.median(seconds_of_help(target) for _ in range(2 * repeats + 1)) for target in (before, after)]
    print(f"{'--help':<20}{'':<30}{helps[0]:6.2f} {helps[1]:6.2f} {helps[1] / helps[0]:5.2f}")


def main() -> None:
    """Compare a revision with the working tree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("revision", help="of git: what it was before")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        old, before, after = (Path(folder) / name for name in ("checkout", "before", "after"))
        subprocess.run(["git", "worktree", "add", "-q", "--detach", old, args.revision], cwd=ROOT, check=True)
        try:
            install(old, before)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", old], cwd=ROOT, check=True)
        install(ROOT, after)
        compare(before, after, args.repeats)


if __name__ == "__main__":
    main()
