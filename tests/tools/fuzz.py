"""Loads corrupted checkpoints by the thousand: ``python -m tests.tools.fuzz``.

Each case is a real agent with one place of its files damaged, as an accident would, or somebody who wants to fill the memory,
hang the loader, or have code run: :mod:`tests.tools.corruptions`. It must load and answer, or be refused with a
``CheckpointError``. A worker loads, so that a crash or a hang is seen and not suffered.
"""

import argparse
import contextlib
import io
import multiprocessing
import os
import pickle
import re
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from stable_baselines3 import PPO
from stable_baselines3.common.envs import SimpleMultiObsEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from tqdm import tqdm

from sb3_distill.agents.errors import CheckpointError
from sb3_distill.agents.find import BUNDLED, find_agent
from sb3_distill.agents.load import load_teacher

from .corruptions import CANARY, CHECKED, CORRUPTIONS, MODULE, Files, Place, edit, places

#: what loading one checkpoint may take, beyond what the process has
MAX_SECONDS, MAX_MEMORY = 2.0, 1 << 30


class Case(NamedTuple):
    """A corrupted agent.

    :param kind: of corruption
    :param place: where
    :param files: the agent's
    :param original: the files as they were
    :param checked: whether a teacher from the files must answer as the original does
    """

    kind: str
    place: str
    files: Files
    original: Files
    checked: bool


def read_agents(roots: list[Path]) -> dict[str, Files]:
    """
    :param roots: folders with zips of SB3 anywhere in them
    :return: the files of each agent
    :raises FileNotFoundError: if there are none
    """
    agents: dict[str, Files] = {}
    for path in sorted(path for root in roots for path in root.rglob("*.zip")):
        agent = find_agent(path)
        paths = {
            "config.yml": agent.config,
            "args.yml": agent.args,
            "vecnormalize.pkl": next(iter(agent.vec_normalize), None),
        }
        there = {name: file.read_bytes() for name, file in paths.items() if file and file.is_file()}
        agents["/".join(path.parts[-4:])] = {"agent.zip": path.read_bytes(), **there}
    if not agents:
        raise FileNotFoundError(f"No checkpoints in {', '.join(map(str, roots))}.")
    return agents


def dict_agent() -> Files:
    """:return: the files of an agent with Dict observations, an image among them, some normalised: the zoo has none"""
    env = VecNormalize(DummyVecEnv([lambda: SimpleMultiObsEnv(random_start=False)]), norm_obs_keys=["vec"])
    kwargs: dict[str, Any] = {"net_arch": [8], "features_extractor_kwargs": {"cnn_output_dim": 8}}
    model = PPO("MultiInputPolicy", env, n_steps=2, batch_size=2, policy_kwargs=kwargs, seed=0, device="cpu")
    buffer = io.BytesIO()
    model.save(buffer)
    return {"agent.zip": buffer.getvalue(), "config.yml": b"normalize: true\n", "vecnormalize.pkl": pickle.dumps(env)}


def make_case(agents: dict[str, Files], seed: int, number: int) -> Case:
    """
    :param agents: what is corrupted
    :param seed: of all cases
    :param number: of this one
    :return: the case, the same whenever it is made
    """
    rng = Random(f"{seed}/{number}")
    kind = list(CORRUPTIONS)[number % len(CORRUPTIONS)]
    applies, corrupt = CORRUPTIONS[kind]
    found: dict[str, Place] = {}
    while not found:  # some agents have no settings
        name = rng.choice(list(agents))
        here = [place for place, content in places(agents[name]) if applies(place[-1], content)]
        # Of the many storages of weights, one stands for all.
        found = {re.sub(r"\d+", "#", place[-1]): place for place in rng.sample(here, len(here))}
    place = rng.choice(list(found.values()))
    theirs = dict(places(agents[rng.choice(list(agents))]))
    other = next((content for p, content in theirs.items() if p[-1] == place[-1]), rng.choice(list(theirs.values())))
    files = edit(agents[name], place, lambda content: corrupt(rng, content, other))
    checked = place == ("agent.zip",) and kind in CHECKED
    return Case(kind, f"{name}: {' / '.join(place)}", files, agents[name], checked)


def write_agent(folder: Path, files: Files) -> Path:
    """
    :param folder: where the last agent may still be
    :param files: of an agent
    :return: the agent's folder, in the zoo's layout, for an environment that there is not
    """
    agent = folder / "algo" / "Fuzz-v0_1"
    (agent / "Fuzz-v0").mkdir(parents=True, exist_ok=True)
    for name in ("agent.zip", "config.yml", "args.yml", "vecnormalize.pkl"):
        path = agent / "Fuzz-v0.zip" if name == "agent.zip" else agent / "Fuzz-v0" / name
        path.unlink(missing_ok=True)
        if name in files:
            path.write_bytes(files[name])
    return agent


def observations(space: spaces.Space, n: int = 8) -> Any:
    """
    :param space: of a teacher
    :param n: how many
    :return: a batch
    """
    if isinstance(space, spaces.Dict):
        return {key: observations(sub, n) for key, sub in space.spaces.items()}
    if isinstance(space, spaces.Box):  # sample() overflows where bounds are far apart
        return np.random.default_rng(0).normal(size=(n, *space.shape)).clip(space.low, space.high).astype(space.dtype)
    space.seed(0)
    return np.stack([np.asarray(space.sample()) for _ in range(n)])


def load_and_ask(folder: Path) -> np.ndarray:
    """
    :param folder: of an agent
    :return: what its teacher answers
    :raises CheckpointError: if it is refused
    """
    teacher = load_teacher(folder, device="cpu")
    obs = observations(teacher.observation_space)
    try:
        answer = teacher.answer(obs, with_value=teacher.has_value)
        teacher.act(obs)
    except ValueError:
        # Products or exponentials of weights that are too large are no numbers, and a word about that is all one can have.
        weights = teacher.policy.state_dict()
        if all(bool((weight.abs() < (80 if "log_std" in name else 1e15)).all()) for name, weight in weights.items()):
            raise
        return np.array(np.nan)
    return answer.parameters.numpy()


# --- a worker, and who watches it -------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What became of a case.

    :param result: "loaded", "refused", or what went wrong
    :param seconds: of loading
    :param memory: bytes beyond what the process had
    :param kind: of corruption
    :param place: where
    """

    result: str
    seconds: float = 0.0
    memory: int = 0
    kind: str = ""
    place: str = ""

    @property
    def failed(self) -> bool:
        """Whether something went wrong."""
        return self.result not in ("loaded", "refused")


def _peak_memory(reset: bool = False) -> int:
    """The most that this process ever had, or since a reset where the system knows such (Linux does)."""
    if reset:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _limit_memory() -> None:
    """Whoever asks for more gets a MemoryError, used or not. Addresses are not limited: torch reserves many. Linux only."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, StopIteration):
        status = Path("/proc/self/status").read_text().splitlines()
        used = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData"))
        resource.setrlimit(resource.RLIMIT_DATA, (used + MAX_MEMORY, resource.RLIM_INFINITY))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def attempt(load: Callable[[Path], np.ndarray], folder: Path, expected: np.ndarray | None = None) -> Outcome:
    """
    Load one agent, and see what that takes.

    :param load: loads a folder and returns answers
    :param folder: of the agent
    :param expected: the only answers that will do
    :return: what became of it
    """
    before, start = _peak_memory(reset=True), time.perf_counter()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            answers = load(folder)
        wrong = expected is not None and not np.array_equal(answers, expected, equal_nan=True)
        result = "other answers than the original's" if wrong else "loaded"
    except (CheckpointError, FileNotFoundError) as error:
        greedy = any(isinstance(e, MemoryError) or "allocate memory" in str(e) for e in _causes(error))
        result = "asked for more memory than there is" if greedy else "refused"
    except BaseException as error:
        result = f"{type(error).__name__}: {error}"
    seconds, memory = time.perf_counter() - start, _peak_memory() - before
    if Path(CANARY).exists():
        Path(CANARY).unlink()
        result = "code of the checkpoint was run"
    elif result in ("loaded", "refused") and memory > MAX_MEMORY:
        result = f"took more than {MAX_MEMORY >> 20} MiB"
    elif result in ("loaded", "refused") and seconds > MAX_SECONDS:
        result = f"took more than {MAX_SECONDS:g} s"
    return Outcome(result, seconds, memory)


#: cases whose agents are loaded before the clock starts
WARM_UP = 8


def work(connection: Any, make: Callable[[int], Case], load: Callable[[Path], np.ndarray]) -> None:
    """
    A worker: receives numbers, sends None when loading begins and an :class:`Outcome` when it is over.

    :param connection: a pipe's end
    :param make: from numbers to cases
    :param load: see :func:`attempt`
    """
    th.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        sys.path.insert(0, name)
        (folder / f"{MODULE}.py").write_text(f"open({CANARY!r}, 'w').close()\nclass Thing: pass\n")
        for number in range(WARM_UP):  # imports what is imported late
            attempt(load, write_agent(folder, make(number).original))
        _limit_memory()
        connection.send(None)
        for number in iter(connection.recv, None):
            case = make(number)
            expected = load(write_agent(folder, case.original)) if case.checked else None
            agent = write_agent(folder, case.files)
            connection.send(None)
            connection.send(attempt(load, agent, expected)._replace(kind=case.kind, place=case.place))
        os.chdir("/")


class Watch:
    """
    Runs cases in a worker that may crash or hang, and starts another one if it does.

    :param make: from numbers to cases
    :param load: see :func:`attempt`
    :param seconds: until the worker is taken to hang
    """

    def __init__(
        self,
        make: Callable[[int], Case],
        load: Callable[[Path], np.ndarray] = load_and_ask,
        seconds: float = 2 * MAX_SECONDS,
    ) -> None:
        self.make, self.load, self.seconds = make, load, seconds
        self.worker: Any = None

    def run(self, number: int) -> Outcome:
        """
        :param number: of a case
        :return: what became of it
        """
        if self.worker is None:
            context = multiprocessing.get_context("spawn")
            self.connection, end = context.Pipe()
            self.worker = context.Process(target=work, args=(end, self.make, self.load), daemon=True)
            self.worker.start()
            end.close()
            self.connection.recv()
        try:
            self.connection.send(number)
            self.connection.recv()
            if self.connection.poll(self.seconds):
                outcome: Outcome = self.connection.recv()
                if outcome.memory > MAX_MEMORY:
                    self.stop()
                return outcome
            result = f"hangs for more than {self.seconds:g} s"
        except (EOFError, ConnectionError):
            self.worker.join()
            result = f"the worker died of {self.worker.exitcode}"
        self.stop()
        case = self.make(number)
        return Outcome(result, self.seconds, 0, case.kind, case.place)

    def stop(self) -> None:
        """End the worker."""
        if self.worker is not None:
            self.worker.kill()
            self.worker.join()
            self.worker = None


def table(outcomes: list[Outcome], title: str) -> Table:
    """
    :param outcomes: of cases
    :param title: of the table
    :return: a row for each kind of corruption
    """
    found = Table(title=title)
    for column in ("corruption", "cases", "loaded", "refused", "failed", "worst s", "worst MiB"):
        found.add_column(column, justify="left" if column == "corruption" else "right")
    rows = [(kind, [outcome for outcome in outcomes if outcome.kind == kind]) for kind in CORRUPTIONS]
    for kind, row in [*rows, ("all", outcomes)]:
        if row:
            counts = [sum(outcome.result == result for outcome in row) for result in ("loaded", "refused")]
            worst = [f"{max(o.seconds for o in row):.2f}", f"{max(o.memory for o in row) / 2**20:.0f}"]
            found.add_row(kind, *(f"{n:,}" for n in (len(row), *counts, len(row) - sum(counts))), *worst)
    return found


def main(argv: list[str] | None = None) -> None:
    """:param argv: arguments, by default the command line's"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="with agents; by default all at hand")
    parser.add_argument("--count", type=int, default=10_000, help="of cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="K", help="case K alone")
    args = parser.parse_args(argv)
    at_hand = [BUNDLED, *(Path(p) for p in os.environ.get("RL_TRAINED_AGENTS", "").split(os.pathsep) if p)]
    agents = read_agents(args.folders or at_hand) | {"Dict observations": dict_agent()}
    watch = Watch(partial(make_case, agents, args.seed))
    numbers = range(args.count) if args.only is None else [args.only]
    outcomes = {number: watch.run(number) for number in tqdm(numbers, desc="cases", unit="")}
    watch.stop()
    console = Console(width=120)
    title = f"{len(outcomes):,} corruptions of {len(agents)} checkpoints, seed {args.seed}"
    console.print(table(list(outcomes.values()), title))
    failed = {number: outcome for number, outcome in outcomes.items() if outcome.failed}
    for number, outcome in failed.items():
        repeat = f"--seed {args.seed} --only {number}"
        console.print(escape(f"{repeat}: {outcome.kind}, {outcome.place}: {outcome.result[:300]}"))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
