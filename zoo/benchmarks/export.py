"""What leaves as a file: how well it answers, and what it buys.

``python -m sb3_distill.zoo.benchmarks.export agents``
    Every agent in the folders that RL_TRAINED_AGENTS names, as ONNX: how its answers to 10,000 observations differ from SB3's
    ``predict``. What was measured is kept in ``--out`` and not repeated.
``python -m sb3_distill.zoo.benchmarks.export int8``
    The RL Zoo's four DQNs with weights of eight bits: their return against that of their own weights, in the same episodes.
``python -m sb3_distill.zoo.benchmarks.export buys AGENT …``
    Of each agent, in SB3, ONNX and C, in float and with eight bits: size, actions per second, and return; as a CSV file, with
    ``--figure`` drawn. Seconds are those of one thread's CPU time, so that other programs do not count.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from sb3_distill.agents.find import find_agent, zoo_roots
from sb3_distill.common.files import write_csv, write_figure, write_json
from sb3_distill.common.observations import observation_of
from sb3_distill.evaluation.episodes import EVALUATION_SEED, episode_returns, standard_error
from sb3_distill.exporting.agent import Exportable, cast
from sb3_distill.exporting.agreement import cut
from sb3_distill.exporting.c_file import c_prefix, compiler, run_c
from sb3_distill.exporting.environment import prepared
from sb3_distill.exporting.export import Exported, export
from sb3_distill.exporting.observations import asked
from sb3_distill.exporting.onnx_file import run_onnx
from sb3_distill.exporting.recipe import ACTION, Recipe
from sb3_distill.zoo.benchmarks.csv_lines import read

DQNS = ("CartPole-v1", "Acrobot-v1", "LunarLander-v2", "MountainCar-v0")
HEADER = ("agent", "as", "bytes", "actions_per_second_1", "actions_per_second_256", "return", "standard_error")
#: CPU seconds that a speed is measured for, and observations that are asked about in turn
SECONDS, N_OBS = 0.4, 256
#: of a return, and of a difference of two that is small
EPISODES, INT8_EPISODES = 100, 400


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    agents = commands.add_parser("agents", help="answers of files against SB3's")
    agents.add_argument("--out", default="runs/export", help="folder for what was measured")
    agents.add_argument("--to", default="onnx", help="the format")
    agents.set_defaults(run=lambda args: compare_agents(Path(args.out), args.to))
    int8 = commands.add_parser("int8", help="returns with weights of eight bits")
    int8.add_argument(
        "agents", nargs="*", default=[f"zoo:dqn/{env}" for env in DQNS], help="default: the zoo's four DQNs"
    )
    int8.add_argument("--episodes", type=int, default=INT8_EPISODES, help="(default: %(default)s)")
    int8.set_defaults(run=lambda args: compare_int8(args.agents, args.episodes))
    buys = commands.add_parser("buys", help="size, speed and return")
    buys.add_argument("agents", nargs="+", metavar="[LABEL=]AGENT", help="with the name that it has in the table")
    buys.add_argument("--out", default="runs/export/buys.csv", help="the table; rows that it has are kept")
    buys.add_argument("--figure", help="where to draw it")
    buys.add_argument("--episodes", type=int, default=EPISODES)
    buys.set_defaults(run=lambda args: what_it_buys(args.agents, Path(args.out), args.figure, args.episodes))
    args = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # environments that are called otherwise today, or are not installed
        args.run(args)


def say(line: str) -> None:
    """:param line: for stdout, at once"""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


# --- agents -----------------------------------------------------------------------------------------------------------


def compare_agents(out: Path, to: str) -> None:
    """
    :param out: where what was measured is kept
    :param to: a format
    """
    out.mkdir(parents=True, exist_ok=True)
    worst, others, ties, n = 0.0, 0, 0, 0
    for folder in agent_folders():
        name = f"{folder.parent.name}/{folder.name}"
        row = measured(folder, out / f"{name.replace('/', '-')}.{to}.json", to)
        n += 1
        worst = max(worst, row["max_difference"])
        others, ties = others + row["n_different"] - row["n_ties"], ties + row["n_ties"]
        actions = f"{row['n'] - row['n_different']:,} equal" if row["discrete"] else "continuous"
        tied = f", {row['n_ties']} tied" if row["n_ties"] else ""
        say(
            f"{name:38} {row['n']:,} observations, {row['n_met']:,} met  {actions + tied:22} "
            f"answers differ by at most {row['max_difference']:.1e}"
        )
    say(
        f"{n} agents as {to}: answers differ by at most {worst:.1e}; {others} greedy actions are others, and {ties} tied within rounding"
    )


def agent_folders() -> list[Path]:
    """
    :return: folders ``ALGO/ENV_1`` of all agents
    """
    return sorted(folder for root in zoo_roots()[0] for folder in root.glob("*/*_*") if folder.is_dir())


def measured(folder: Path, file: Path, to: str) -> dict[str, Any]:
    """
    :param folder: of an agent
    :param file: of what was measured
    :param to: a format
    :return: how well its file answers
    """
    if not file.exists():
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as temporary:
            done: Exported = export(folder, Path(temporary) / "agent", to, tolerance=float("inf"))
        assert done.agreement is not None
        write_json(file, done.agreement._asdict() | {"size": done.size, "seconds": time.monotonic() - start})
    return json.loads(file.read_text())  # type: ignore[no-any-return]


# --- returns ----------------------------------------------------------------------------------------------------------


def compare_int8(agents: list[str], n_episodes: int) -> None:
    """
    :param agents: names or paths
    :param n_episodes: with the same seeds for both
    """
    for name in agents:
        with tempfile.TemporaryDirectory() as temporary, prepared(name, None, None, None) as (agent, recipe, _):
            # It plays as predict does, and faster.
            whole = export(name, Path(temporary) / "whole.onnx", n_observations=1_000)
            own = returns(agent, recipe, run_onnx(whole.path), n_episodes)
            done = export(name, Path(temporary) / "agent.onnx", int8=True)
            rounded = returns(agent, recipe, run_onnx(done.path), n_episodes)
        assert done.agreement is not None
        lost = (rounded - own) / abs(own.mean())
        say(
            f"{name}: {own.mean():.1f} ± {standard_error(own):.1f} in float, {rounded.mean():.1f} ± {standard_error(rounded):.1f} with "
            f"eight bits, {100 * (1 + lost.mean()):.1f}% ± {100 * standard_error(lost):.1f} of it; "
            f"{100 * done.agreement.share_of_equal:.1f}% of actions equal, {done.size:,} bytes"
        )


def returns(agent: Exportable, recipe: Recipe, run: Any, n_episodes: int = EPISODES) -> np.ndarray:
    """
    :param agent: who plays, greedily
    :param recipe: of it
    :param run: its file; None for SB3's ``predict``
    :param n_episodes: with the same seeds for all
    :return: of the episodes
    """

    def act(obs: Any) -> np.ndarray:
        obs = cast(obs, agent.observation_space)
        if run is None:
            return agent.predict(obs)[0]
        return run(by_name(recipe, obs))[ACTION]  # type: ignore[no-any-return]

    assert agent.make_env is not None
    return episode_returns(act, agent.make_env, n_episodes, EVALUATION_SEED, 30_000)


def by_name(recipe: Recipe, obs: Any) -> dict[str, np.ndarray]:
    """:return: observations as a file takes them"""
    return {port.name: obs if port.key is None else obs[port.key] for port in recipe.observations}


# --- what it buys -----------------------------------------------------------------------------------------------------


def what_it_buys(agents: list[str], out: Path, figure: str | None, n_episodes: int) -> None:
    """
    :param agents: names or paths, with or without a label
    :param out: the table
    :param figure: where to draw it
    :param n_episodes: of the returns
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = [tuple(row.values()) for row in read(out)]
    for text in agents:
        label, _, name = text.rpartition("=")
        label = label or name
        if any(row[0] == label for row in rows):
            continue
        for row in rows_of(label, name, n_episodes):
            rows.append(tuple(map(str, row)))
            say("  ".join(rows[-1]))
        write_csv(out, HEADER, rows)
    if figure is not None:
        draw(rows, Path(figure))


def rows_of(label: str, name: str, n_episodes: int) -> list[tuple[Any, ...]]:
    """
    :param label: in the table
    :param name: of an agent
    :param n_episodes: of the returns
    :return: its rows
    """
    found = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        agent, recipe, env = stack.enter_context(prepared(name, None, None, None))
        questions = asked(agent, recipe, 2 * N_OBS, env)
        obs = observation_of(questions.observations, slice(N_OBS))
        inputs = {key: values[:N_OBS] for key, values in questions.inputs.items()}

        def predict(inputs: dict[str, np.ndarray]) -> Any:
            return agent.predict(obs if len(next(iter(inputs.values()))) > 1 else observation_of(obs, slice(1)))

        players: list[tuple[str, int, Any]] = [("SB3's predict", find_agent(name).checkpoint.stat().st_size, None)]
        for int8 in (False, True):
            path = export(name, folder / f"agent{int(int8)}.onnx", int8=int8, n_observations=1_000).path
            players.append((f"ONNX{', int8' if int8 else ''}", path.stat().st_size, run_onnx(path)))
        for int8 in (False, True):
            path = export(name, folder / f"agent{int(int8)}.h", int8=int8, n_observations=1_000).path
            players.append((f"C{', int8' if int8 else ''}", flash(path), run_c(path, recipe, c_prefix(path))))
        for kind, size, run in players:
            speeds = [speed(run or predict, cut(inputs, recipe, slice(n)), n, kind.startswith("C")) for n in (1, N_OBS)]
            got = returns(agent, recipe, run, n_episodes)
            found.append(
                (label, kind, size, *(f"{s:.0f}" for s in speeds), f"{got.mean():.2f}", f"{standard_error(got):.2f}")
            )
    return found


def flash(header: Path) -> int:
    """
    :param header: of an agent
    :return: bytes of code and constants of the object that ``cc -Os`` makes of it, as ``size`` counts them
    """
    with tempfile.TemporaryDirectory() as folder:
        name = c_prefix(header)
        text = header.read_text(encoding="utf-8").replace(f"static void {name}_act(", f"void {name}_act(")
        source = Path(folder) / "agent.c"
        source.write_text(text, encoding="utf-8")
        object_file = str(source.with_suffix(".o"))
        tool(str(compiler()), "-std=c99", "-Os", "-c", str(source), "-o", object_file)
        symbols = tool("nm", "-u", object_file)
        assert not {"malloc", "calloc", "realloc", "free"} & set(symbols.split()), symbols
        said = tool("size", object_file)
    code, data, *_ = map(int, said.splitlines()[1].split()[:3])
    return code + data


def tool(*words: str) -> str:
    """:return: what a program says"""
    command = [str(shutil.which(words[0])), *words[1:]]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603


def speed(run: Callable[[Any], Any], inputs: dict[str, np.ndarray], n: int, repeats: bool) -> float:
    """
    :param run: an agent
    :param inputs: n states
    :param n: how many
    :param repeats: whether it is C, which loops over states itself: a call from Python would cost more than all else
    :return: actions in a second of CPU time, the median of five
    """
    if repeats:
        inputs = {key: np.concatenate([values] * (4096 // n)) for key, values in inputs.items()}
        n = 4096
    rates = []
    for _ in range(5):
        calls, start = 0, time.process_time()
        while time.process_time() - start < SECONDS / 5:
            run(inputs)
            calls += 1
        rates.append(calls * n / (time.process_time() - start))
    return float(np.median(rates))


def draw(rows: list[tuple[str, ...]], path: Path) -> None:
    """
    :param rows: of the table
    :param path: of the figure
    """
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(row[0] for row in rows))
    kinds = list(dict.fromkeys(row[1] for row in rows))
    found = {row[:2]: [float(cell) for cell in row[2:]] for row in rows}
    drawing = Figure(figsize=(11, 6.5), layout="constrained")
    axes = drawing.subplots(2, 2).flatten()
    titles = ("bytes", "actions per second, one at a time", "actions per second, 256 at once", "return, % of predict's")
    for k, kind in enumerate(kinds):
        places = np.arange(len(labels)) + 0.16 * (k - (len(kinds) - 1) / 2)
        for axis, column in zip(axes[:3], range(3), strict=True):
            axis.bar(places, [found[label, kind][column] for label in labels], 0.16, label=kind)
        own, mean, error = (
            np.array([found[label, which][column] for label in labels])
            for which, column in ((kinds[0], 3), (kind, 3), (kind, 4))
        )
        share = 100 * (1 + (mean - own) / abs(own))
        axes[3].bar(places, share, 0.16, yerr=100 * error / abs(own), error_kw={"lw": 0.8}, capsize=2)
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xticks(range(len(labels)), [label.replace(" ", "\n") for label in labels], fontsize=8)
        axis.grid(axis="y", alpha=0.3)
        axis.set_axisbelow(True)
    for axis in axes[:3]:
        axis.set_yscale("log")
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(kinds), fontsize=8)
    write_figure(path, drawing)


if __name__ == "__main__":
    main()
