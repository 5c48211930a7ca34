"""Many runs as one thing: planned, run, and told in tables."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sb3_distill.common.folders import check_folder
from sb3_distill.study.axes import Reader
from sb3_distill.study.faults import Fault, StudyError
from sb3_distill.study.folders import TABLES, UNFINISHED, State, state_of
from sb3_distill.study.names import Run
from sb3_distill.study.planning import faults_of, runs_of
from sb3_distill.study.processes import Processes, cores
from sb3_distill.study.product import cells_of
from sb3_distill.study.schedule import Progress, carry_out
from sb3_distill.study.shards import shard_of
from sb3_distill.study.work import DISTIL, Task
from sb3_distill.study.yaml_file import Read, read_yaml


class Study:
    """
    Runs of :func:`~sb3_distill.distill`, by teachers × environments × methods × engines × students × seeds.

    >>> from sb3_distill import Study
    >>> study = Study({"environments": ["CartPole-v1"], "methods": ["n-distill", "teacher-distill"], "seeds": 2}, out="runs/two")
    >>> len(study.runs), study.runs[0].labels["methods"]
    (4, 'n-distill')

    :param source: a YAML file, or what such a file says
    :param out: the folder of the study; by default what the file says, or one in ``runs`` that is called as the file
    :raises StudyError: for whatever is wrong with it: all faults at once
    :raises OSError: if the file cannot be read
    """

    def __init__(self, source: str | Path | Mapping[str, Any], out: str | Path | None = None) -> None:
        if isinstance(source, Mapping):
            self.name, read = "study", Read(_plain(source), {})
        else:
            path = Path(source).expanduser()
            self.name, read = str(path), read_yaml(path)
        reader = Reader(read.lines)
        description = reader.read(read.data)
        cells, faults = cells_of(description)
        runs, more = runs_of(cells)
        # What is wrong with a value is wrong with all runs that have it, and told once.
        more = [fault for fault in more if not any(fault.text.endswith(known.text) for known in reader.faults)]
        if reader.faults or faults or more:
            raise StudyError(self.name, [*reader.faults, *faults, *more])
        self.title = description.title or Path(self.name).stem
        chosen = out if out is not None else description.out or Path("runs") / Path(self.name).stem
        self.out = Path(os.path.abspath(Path(chosen).expanduser()))
        self.resources = description.resources
        #: all of them, in the order of the axes
        self.runs: list[Run] = runs

    def state(self) -> State:
        """
        :return: what there is of its runs by now
        """
        return state_of(self.out, self.runs)

    def check(self, runs: "list[Run]", progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """
        Prepare one run of each setting that is to be run.

        :param runs: of the study
        :param progress: called with how many of how many have been prepared
        :raises StudyError: for whatever :func:`~sb3_distill.distill` would refuse
        """
        faults = faults_of(runs, progress)
        if faults:
            raise StudyError(self.name, faults)

    def unfinished(self, state: State, shard: tuple[int, int] | None = None) -> list[Run]:
        """
        :param state: of :meth:`state`
        :param shard: ``(k, n)``: the k-th of n parts, from 1
        :return: runs that are not whole. Those that have begun come first
        :raises StudyError: if something is in the way of a run
        """
        runs = shard_of(self.runs, shard)
        broken = [
            Fault(0, f"{self.out / name} is no whole run: {problem}. Move it away, and it is run again.")
            for name, problem in state.broken.items()
            if name in {run.name for run in runs}
        ]
        if broken:
            raise StudyError(self.name, broken)
        left = [run for run in runs if run.name not in state.finished]
        return sorted(left, key=lambda run: run.name not in state.begun)

    def run(
        self,
        jobs: int | None = None,
        *,
        ray: str | bool = False,
        shard: tuple[int, int] | None = None,
        show: Callable[[Progress], None] = lambda progress: None,
        work: str = DISTIL,
    ) -> Progress:
        """
        Do what is left to do. Runs that fail leave a traceback in their folder under ``unfinished``, and stop nothing.

        :param jobs: processes of this machine; by default as many as it has cores for this process
        :param ray: the address of a Ray cluster, or True for the one at hand, or a new one on this machine
        :param shard: ``(k, n)``: only the k-th of n parts, from 1
        :param show: called with how far it has come
        :param work: what a run is, as ``MODULE:FUNCTION`` of settings and folder
        :return: what came of it
        :raises StudyError: before any run, for what cannot be run
        :raises KeyboardInterrupt: after Ctrl-C, when the runs at work have written checkpoints
        """
        state = self.state()
        left = self.unfinished(state, shard)
        if work == DISTIL:
            self.check(left)
        return self.carry_out(left, state, jobs, ray=ray, show=show, work=work, shard=shard)

    def carry_out(
        self,
        left: list[Run],
        state: State,
        jobs: int | None = None,
        *,
        ray: str | bool = False,
        shard: tuple[int, int] | None = None,
        show: Callable[[Progress], None] = lambda progress: None,
        work: str = DISTIL,
    ) -> Progress:
        """
        The second half of :meth:`run`: nothing is checked any more.

        :param left: of :meth:`unfinished`
        :param state: of :meth:`state`
        :param jobs: as for :meth:`run`, as the others
        :return: what came of it
        """
        names = {run.name for run in shard_of(self.runs, shard)}
        before = frozenset(state.finished & names)
        here = os.getcwd()
        tasks = [Task(run.name, run.settings, run.about, str(self.out), here, work) for run in left]
        if not tasks:
            return carry_out(tasks, Processes(0), before, show)
        self.out.joinpath(UNFINISHED).mkdir(parents=True, exist_ok=True)
        with self._pool(len(tasks), jobs, ray) as pool:
            return carry_out(tasks, pool, before, show)

    def tables(self, reach: float = 0.95, figures: bool = False) -> str:
        """
        Tables of the runs that are whole, as ``tables.md`` and as CSV files beside it, under ``tables`` in the study's folder.

        :param reach: the share of the teacher's return over random play, the steps to which are told
        :param figures: whether ``scores.png``, ``profiles.png`` and ``curves.png`` are drawn as well
        :return: what ``tables.md`` says
        :raises ValueError: if no run is whole, and for files that cannot be read
        :raises OSError: if the disk is full
        """
        from sb3_distill.study.scores import scores_of
        from sb3_distill.study.tables import tables_of, write_tables

        if not 0 < reach <= 2:
            raise ValueError(f"reach must be a share of the teacher's return, such as 0.95, not {reach!r}.")
        state = self.state()
        self.unfinished(state)
        if not state.finished:
            raise ValueError(f"{self.out} has no run of {self.name} that is whole: run the study first.")
        check_folder(self.out / TABLES, "move it away, or choose another folder for the study with out: …, or --out")
        scores = scores_of(self.out, self.runs, state.finished)
        text = write_tables(self.out / TABLES, self.title, tables_of(scores, reach))
        if figures:
            from sb3_distill.study.figures import write_figures

            write_figures(self.out / TABLES, self.title, scores)
        return text

    def _pool(self, count: int, jobs: int | None, ray: str | bool) -> "Processes | Any":
        if ray is not False:
            from sb3_distill.study.ray_cluster import RayPool

            return RayPool(None if ray is True else ray, self.resources)
        return Processes(min(count, jobs or cores()))


def _plain(value: Any) -> Any:
    """What a file would say: Python's tuples and ranges are lists there."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple, range)) else value
