"""What leaves as a file: how well it answers, and what it buys.

``python -m sb3_distill.zoo.benchmarks.export agents``
    Every agent in the folders that RL_TRAINED_AGENTS names, as ONNX: how its answers to 10,000 observations differ from SB3's
    ``predict``. What was measured is kept in ``--out`` and not repeated.
"""

import argparse
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

from sb3_distill.common.files import write_json
from sb3_distill.exporting.export import Exported, export


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    agents = commands.add_parser("agents", help="answers of ONNX files against SB3's")
    agents.add_argument("--out", default="runs/export", help="folder for what was measured")
    agents.add_argument("--to", default="onnx", help="the format")
    agents.set_defaults(run=lambda args: compare_agents(Path(args.out), args.to))
    args = parser.parse_args()
    args.run(args)


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
        sys.stdout.write(
            f"{name:38} {row['n']:,} observations, {row['n_met']:,} met  {actions + tied:22} "
            f"answers differ by at most {row['max_difference']:.1e}\n"
        )
        sys.stdout.flush()
    sys.stdout.write(
        f"{n} agents as {to}: answers differ by at most {worst:.1e}; {others} greedy actions are others, and {ties} tied within rounding\n"
    )


def agent_folders() -> list[Path]:
    """
    :return: folders ``ALGO/ENV_1`` of all agents
    """
    roots = [Path(root).expanduser() for root in os.environ["RL_TRAINED_AGENTS"].split(os.pathsep) if root]
    return sorted(folder for root in roots for folder in root.glob("*/*_*") if folder.is_dir())


def measured(folder: Path, file: Path, to: str) -> dict[str, float]:
    """
    :param folder: of an agent
    :param file: of what was measured
    :param to: a format
    :return: how well its file answers
    """
    import json

    if not file.exists():
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # environments that are called otherwise today, or are not installed
            done: Exported = export(folder, Path(temporary) / "agent", to, tolerance=float("inf"))
        assert done.agreement is not None
        write_json(file, done.agreement._asdict() | {"size": done.size, "seconds": time.monotonic() - start})
    return json.loads(file.read_text())  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
