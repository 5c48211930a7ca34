"""What becomes of a study when its processes are killed: ``python -m tests.tools.study_kills``.

The same small runs are done four times: undisturbed, by two processes, in four parts, and on two Ray nodes of which workers, nodes and
the driver are killed at random moments. Then no run that had ended may have been done twice, none may be missing, and the tables must be
the same to the byte. Ray has no authentication and would listen on this machine's own address: the command goes into a network namespace
of its own.

``python -m tests.tools.study_kills speed`` measures what the engine itself takes: planning of 10,000 runs that are done, and the share of
the processes' time that runs of some seconds have.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from sb3_distill.study.study import Study
from tests.tools.loopback import begin_inside

TINY, SLEEPY = "tests.tools.study_kills:tiny", "tests.tools.study_kills:sleepy"
METHODS = (
    "n-distill",
    "teacher-distill",
    "on-policy-distill",
    "entropy-regularised",
    "expected-entropy",
    "teacher-v-reward",
)


def tiny(settings: Mapping[str, Any], folder: Path) -> None:
    """
    A run as ``distill`` does it, of which less is measured, that says in the study's folder when it begins and ends.

    :param settings: of it
    :param folder: of it
    """
    from sb3_distill.experiment import outcome, run
    from sb3_distill.study.work import distil

    run.CURVE_POINTS, run.CURVE_EPISODES, outcome.COMPARED_STATES = 4, 2, 50
    _say(folder, "begins")
    distil(settings, folder)
    _say(folder, "ends")


def sleepy(settings: Mapping[str, Any], folder: Path) -> None:
    """
    A run that takes a millisecond a step and no CPU.

    :param settings: of it
    :param folder: of it
    """
    time.sleep(settings["steps"] / 1000)
    write_empty(folder)


def write_empty(folder: Path) -> None:
    """:param folder: of a run, which gets the least that a whole one has"""
    players = {name: {"mean_return": mean} for name, mean in (("teacher", 1.0), ("student", 0.5), ("random play", 0.0))}
    (folder / "student.zip").write_bytes(b"PK\5\6" + bytes(18))  # a zip with nothing in it
    (folder / "learning_curve.csv").write_text("environment_steps,mean_return\n0,0.0\n")
    (folder / "results.json").write_text(json.dumps({"players": players}))


def _say(folder: Path, what: str) -> None:
    with (folder.parents[1] / "log.txt").open("a") as file:
        file.write(f"{what} {folder.name} {os.getpid()}\n")


def study_of(out: Path, runs: int) -> Study:
    """
    :param out: its folder
    :param runs: about how many, at least 12 · 3
    :return: six methods on two engines, on three tasks
    """
    task = {"env": "CartPole-v1", "teacher": "zoo:dqn/CartPole-v1"}
    data = {
        "title": "kills",
        "environments": [
            {**task, "env_kwargs": {"max_episode_steps": length}, "name": f"CartPole of {length} steps"}
            for length in (20, 40, 60)
        ],
        "methods": list(METHODS),
        "engines": ["ppo", "a2c"],
        "students": [[4]],
        "seeds": max(1, runs // 36),
        "fixed": {"steps": 256, "n_envs": 2, "eval_episodes": 3, "temperature": 0.01},
    }
    return Study(data, out)


def tables_of(study: Study) -> str:
    """:return: a digest of all bytes of a study's tables"""
    study.tables()
    digest = hashlib.sha256()
    for path in sorted((study.out / "tables").iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


# --- Ray, with kills ---------------------------------------------------------------------------------------------------


def drive(out: Path, runs: int, address: str) -> None:
    """The driver: a process of its own, that may be killed."""
    progress = study_of(out, runs).run(ray=address, work=TINY)
    print(f"driver: {progress.done} done, {len(progress.failed)} failed", flush=True)
    os._exit(0 if not progress.failed else 1)


def kill_on_ray(out: Path, runs: int, kills: int, seed: int, seconds: float) -> list[str]:
    """
    :param out: the study's folder
    :param runs: about how many
    :param kills: how many
    :param seed: of the moments
    :param seconds: that the study takes undisturbed, over which the moments are spread
    :return: what was killed
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    dice = np.random.default_rng(seed)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    # Each is killed once at least.
    victims = ["worker", "node", "driver", *dice.choice(["worker", "node", "driver"], max(0, kills - 3))][:kills]
    moments = np.sort(dice.uniform(0.05, 0.9, kills)) * seconds
    killed: list[str] = []
    what = ["drive", "--out", str(out), "--runs", str(runs), "--address", cluster.address]
    command = [sys.executable, "-m", "tests.tools.study_kills", *what]
    start = time.monotonic()
    driver = subprocess.Popen(command)
    while True:
        code = driver.poll()
        if code is not None and code >= 0:
            assert code == 0, f"the driver ended with {code}"
            break
        if code is not None:
            driver = subprocess.Popen(command)
        if len(killed) < kills and time.monotonic() - start > moments[len(killed)]:
            victim = str(victims[len(killed)])
            if victim == "driver":
                driver.kill()
                driver.wait()
            elif victim == "node":
                node = nodes.pop(int(dice.integers(len(nodes))))
                cluster.remove_node(node, allow_graceful=False)
                nodes.append(cluster.add_node(num_cpus=1))
            elif not kill_a_worker(dice):
                time.sleep(0.2)
                continue
            killed.append(f"{victim} after {time.monotonic() - start:.0f} s")
            print(f"killed: {killed[-1]}", flush=True)
        time.sleep(0.1)
    return killed


def kill_a_worker(dice: np.random.Generator) -> bool:
    """
    :param dice: choose
    :return: whether one was at work, and is dead now
    """
    at_work = [
        process
        for process in psutil.Process().children(recursive=True)
        if process.is_running() and any("ray::remote_do" in word for word in _words(process))
    ]
    if not at_work:
        return False
    at_work[int(dice.integers(len(at_work)))].send_signal(signal.SIGKILL)
    return True


def _words(process: "psutil.Process") -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def check(study: Study) -> list[str]:
    """
    :param study: that was run
    :return: what is wrong: runs that had ended and were done again, and runs that are missing
    """
    problems = []
    state = study.state()
    missing = [run.name for run in study.runs if run.name not in state.finished]
    if missing:
        problems.append(f"{len(missing)} runs are missing: {missing[0]} …")
    ended: set[str] = set()
    for line in (study.out / "log.txt").read_text().splitlines():
        what, name, _ = line.split()
        if what == "begins" and name in ended:
            # Killed between its end and its renaming: distill reads what is there and trains nothing.
            problems.append(f"{name} had ended, and was begun again")
        if what == "ends":
            ended.add(name)
    left = [path.name for path in (study.out / "unfinished").iterdir()]
    if left:
        problems.append(f"left under unfinished: {left[:3]}")
    return problems


def kills(args: argparse.Namespace) -> int:
    """:return: exit code"""
    folder = Path(args.out)
    digests: dict[str, str] = {}
    seconds: dict[str, float] = {}

    def done(name: str, start: float) -> None:
        study = study_of(folder / name, args.runs)
        seconds[name] = time.monotonic() - start
        digests[name] = tables_of(study)
        again = check(study)
        counts = [line.split()[0] for line in (study.out / "log.txt").read_text().splitlines()]
        print(
            f"{name}: {len(study.runs)} runs in {seconds[name]:.0f} s, begun {counts.count('begins')} times, ended "
            f"{counts.count('ends')} times, {again or 'nothing wrong'}, tables {digests[name][:12]}",
            flush=True,
        )
        if again:
            digests[name] = f"wrong {again}"

    for name in args.ways:
        shutil.rmtree(folder / name, ignore_errors=True)
        start = time.monotonic()
        if name == "ray":
            print(
                kill_on_ray(
                    folder / name, args.runs, args.kills, args.seed, args.seconds or max(seconds.values(), default=60.0)
                )
            )
        elif name == "shards":
            code = f"import sys; from tests.tools.study_kills import *; study_of(Path({str(folder / name)!r}), {args.runs})"
            code += ".run(1, shard=(int(sys.argv[1]), 4), work=TINY)"
            parts = [subprocess.Popen([sys.executable, "-c", code, str(k)]) for k in (1, 2, 3, 4)]
            assert [part.wait() for part in parts] == [0] * 4
        else:
            jobs = {"one": 1, "jobs": 2}[name]
            progress = study_of(folder / name, args.runs).run(jobs, work=TINY)
            assert not progress.failed, progress.failed[0]
        done(name, start)
    good = len(set(digests.values())) == 1 and not any(digest.startswith("wrong") for digest in digests.values())
    print("the same bytes" if good else "NOT THE SAME")
    return 0 if good else 1


def speed(args: argparse.Namespace) -> int:
    """:return: exit code"""
    folder = Path(args.out)
    shutil.rmtree(folder, ignore_errors=True)
    data = {"methods": list(METHODS), "students": [[k] for k in range(1, 51)], "seeds": -(-10_000 // 300)}
    study = Study(data, folder / "many")
    for run in study.runs:
        (study.out / run.name).mkdir(parents=True)
        (study.out / run.name / "run.json").write_text(
            json.dumps({"format": "sb3-distill run of a study", **run.about})
        )
        write_empty(study.out / run.name)
    cpu, start = time.process_time(), time.monotonic()
    study = Study(data, folder / "many")
    left = study.unfinished(study.state())
    took, cpu = time.monotonic() - start, time.process_time() - cpu
    print(f"{len(study.runs):,} runs planned and found complete in {took:.1f} s, {cpu:.1f} s of CPU; {len(left)} left")
    jobs, n = 2, 20
    study = Study({"seeds": n, "fixed": {"steps": round(1000 * args.sleep)}}, folder / "sleepy")
    start = time.monotonic()
    progress = study.run(jobs, work=SLEEPY)
    took, asleep = time.monotonic() - start, n * args.sleep / jobs
    print(
        f"{n} runs of {args.sleep:g} s by {jobs} processes: {took:.1f} s, {asleep / took:.0%} of it in runs; {took - asleep:.1f} s are the "
        "engine's, most of it PyTorch's import, once a process"
    )
    assert progress.done == n
    return 0


def main(argv: list[str]) -> int:
    """
    :param argv: arguments
    :return: exit code
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["kills", "speed", "drive"], default="kills")
    parser.add_argument("--runs", type=int, default=540)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--seconds", type=float, help="over which the kills are spread (default: what the other ways took)"
    )
    parser.add_argument(
        "--ways", nargs="+", choices=["one", "jobs", "shards", "ray"], default=["one", "jobs", "shards", "ray"]
    )
    parser.add_argument("--sleep", type=float, default=30.0, help="seconds of a run of speed")
    parser.add_argument("--out", default="/tmp/study_kills")
    parser.add_argument("--address")
    args = parser.parse_args(argv)
    if args.what == "drive":
        drive(Path(args.out), args.runs, args.address)
    if args.what == "speed":
        return speed(args)
    begin_inside("tests.tools.study_kills", argv)
    return kills(args)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
