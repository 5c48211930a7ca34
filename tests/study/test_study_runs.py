"""Runs of a study: done once, whoever does them; skipped, continued, failed, and lost, and nothing half-written."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from study_works import FAKE, write_finished

from sb3_distill import Study
from sb3_distill.cli import main
from sb3_distill.study import claims, folders, schedule, work
from sb3_distill.study.faults import StudyError
from sb3_distill.study.processes import Death, Processes
from sb3_distill.study.shards import parse_shard, shard_of, slurm_shard
from sb3_distill.study.work import HELD, Report, Task


def study_of(out, seeds=3, does="", **more):
    return Study({"seeds": seeds, "fixed": {"tensorboard_log": does} if does else {}, **more}, out)


def files_of(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))


def test_what_fails_stops_nothing_and_what_dies_is_given_again(tmp_path):
    study = study_of(tmp_path, 4, does="fail 1")
    shown = []
    progress = study.run(2, work=FAKE, show=shown.append)
    assert progress.done == 3 and [(r.name, r.text) for r in progress.failed] == [
        (study.runs[1].name, "RuntimeError: a run that fails")
    ]
    folder = tmp_path / folders.UNFINISHED / study.runs[1].name
    assert "in fake" in (folder / folders.TRACEBACK).read_text()
    assert (folder / folders.OUTPUT).read_text() == "something was printed\n"
    assert shown[-1].done == 3 and max(len(one.running) for one in shown) == 2
    # What is done is not done again, a study that has changed adds, and what failed is tried again.
    begun = {run.name: (tmp_path / run.name / "begun").read_text() for run in study.runs[::3]}
    progress = study_of(tmp_path, 6, does="die-once 5").run(2, work=FAKE)
    assert progress.done == 6 and not progress.failed and len(progress.reports) == 3
    assert begun == {name: (tmp_path / name / "begun").read_text() for name in begun}
    assert not (tmp_path / study.runs[1].name / folders.TRACEBACK).exists()
    assert files_of(tmp_path / folders.UNFINISHED) == []
    # A process that always dies is a run that fails.
    progress = study_of(tmp_path, 7, does="die 6").run(1, work=FAKE)
    assert "ended by SIGKILL, as it is where memory is short, 3 times" in progress.failed[0].text
    folder = tmp_path / folders.UNFINISHED / progress.failed[0].name
    assert (folder / folders.TRACEBACK).read_text() == f"{progress.failed[0].text}\n"


def test_a_worker_that_dies_with_nothing_to_do_is_replaced(tmp_path):
    tasks = [Task(f"run {k}", {}, {}, str(tmp_path), str(tmp_path), FAKE) for k in range(2)]
    with Processes(2) as pool:
        for task in tasks:
            pool.submit(task)
        for worker in pool._workers:
            worker.task = None  # as after its run
            os.kill(worker._process.pid, signal.SIGKILL)
        end = time.monotonic() + 20
        while pool._workers and time.monotonic() < end:
            assert pool.wait(0.1) == []
        assert pool.free == 2


def test_a_run_that_waited_for_another_process_may_fail(tmp_path, monkeypatch):
    """It is not waited for any more."""
    monkeypatch.setattr(schedule, "AGAIN", 0.0)
    ends = [Report("", HELD, text="somebody"), *(Death("it died") for _ in range(schedule.DEATHS))]

    class Pool:
        free, slots = 1, 1

        def __init__(self):
            self.tasks = []

        @property
        def running(self):
            return [task.name for task in self.tasks]

        def submit(self, task):
            self.tasks.append(task)

        def wait(self, seconds):
            return [(self.tasks.pop(), ends.pop(0))] if self.tasks else pytest.fail("nobody is at work, and it waits")

    progress = schedule.carry_out([Task("a", {}, {}, "", "", FAKE)], Pool(), frozenset())
    assert not ends and [(r.name, r.text) for r in progress.failed] == [("a", f"it died, {schedule.DEATHS} times")]


def test_a_full_disk_ends_it_with_what_was_done(tmp_path):
    progress = study_of(tmp_path, 4, does="full 1").run(1, work=FAKE)
    assert progress.disk_full and progress.done == 1 and len(progress.reports) == 2


def test_two_processes_do_not_do_one_run_twice(tmp_path):
    """The second one waits for what the first one has, and both end with all of it."""
    code = "import sys; from sb3_distill import Study\n"
    code += "s = Study({'seeds': 4, 'fixed': {'tensorboard_log': 'sleep 0.3'}}, sys.argv[1]); p = s.run(1, work='study_works:fake')\n"
    code += "print(p.done, len(p.reports), len(p.failed))"
    path = os.pathsep.join(filter(None, sys.path))
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        for _ in range(2)
    ]
    ends = [process.communicate(timeout=120)[0].split() for process in both]
    assert [end[0] for end in ends] == ["4", "4"] and [end[2] for end in ends] == ["0", "0"]
    for run in study_of(tmp_path, 4).runs:
        assert len((tmp_path / run.name / "begun").read_text().split()) == 1


def test_a_claim_is_of_one_and_a_dead_processs_is_none(tmp_path, monkeypatch):
    path = tmp_path / "a.lock"
    with claims.claimed(path):
        with pytest.raises(claims.HeldError, match=f"process {os.getpid()} on"), claims.claimed(path):
            pass
    with claims.claimed(path):
        pass
    # Of another machine, which is alive, and then is not.
    path.write_text(json.dumps({"host": "another", "pid": 1, "started": "0"}))
    with pytest.raises(claims.HeldError, match="process 1 on another"), claims.claimed(path):
        pass
    os.utime(path, (time.time() - 2 * claims.STALE,) * 2)
    with claims.claimed(path):
        pass


def test_where_there_are_no_locks_the_file_says_who_holds_it(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "_lock", lambda handle, path: False)
    path = tmp_path / "a.lock"
    started = claims._started(os.getppid())
    host = claims.socket.gethostname()
    path.write_text(json.dumps({"host": host, "pid": os.getppid(), "started": started}))
    with pytest.raises(claims.HeldError), claims.claimed(path):
        pass
    # Another process with the number of one that is dead.
    path.write_text(json.dumps({"host": host, "pid": os.getppid(), "started": "another"}))
    with claims.claimed(path):
        pass
    for damaged in ("[1]", "{", '{"host": 3, "pid": "x"}'):
        path.write_text(damaged)
        os.utime(path, (0, 0))
        with claims.claimed(path):
            pass


def test_what_is_there_is_looked_at(tmp_path, capsys, monkeypatch):
    study = study_of(tmp_path / "out", 3)
    write_finished(study)
    assert study.state().finished == {run.name for run in study.runs}
    # Another version's run of the same settings, one that the study does not have, and one that is not whole.
    about = json.loads((study.out / study.runs[0].name / folders.ABOUT).read_text())
    old = {**about, "versions": {**about["versions"], "torch": "1.0"}}
    folder = study.out / f"{study.runs[0].name.rpartition('-')[0]}-0123456789ab"
    folder.mkdir()
    (folder / folders.ABOUT).write_text(json.dumps(old))
    (study.out / "something").mkdir()
    state = study.state()
    assert list(state.other_versions) == [folder.name] and "torch 1.0, not" in state.other_versions[folder.name]
    assert state.others == 1 and state.others_begun == 0
    (study.out / folders.UNFINISHED / folder.name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yml").write_text("seeds: 3\n")
    assert main(["study", "study.yml", "--out", "out"]) == 0
    said = capsys.readouterr().out
    assert "1 folders under unfinished are of such runs, or of other versions" in said
    assert "3 done; 0 to run" in said and f"{folder.name} is of other versions (torch 1.0, not" in said
    results = study.out / study.runs[1].name / "results.json"
    results.write_text(results.read_text()[:-20])
    with pytest.raises(StudyError, match=r"is no whole run: its results\.json cannot be read"):
        study.run(1)


def test_a_run_that_was_whole_but_not_yet_in_its_place_goes_there(tmp_path):
    study = study_of(tmp_path, 1, environments=["CartPole-v1"])
    (run,) = study.runs
    settings = {**run.settings, "steps": 64, "n_envs": 2, "net_arch": [4], "eval_episodes": 2, "temperature": 0.01}
    study = Study({"seeds": 1, "fixed": {k: v for k, v in settings.items() if k != "seed"}}, tmp_path)
    (run,) = study.runs
    task = work.Task(run.name, run.settings, run.about, str(tmp_path), os.getcwd())
    work._work(task, tmp_path)
    os.rename(tmp_path / run.name, tmp_path / folders.UNFINISHED / run.name)
    before = (tmp_path / folders.UNFINISHED / run.name / "student.zip").stat().st_mtime_ns
    assert study.state().finished == frozenset()
    assert work.do(task).state == work.DONE
    assert (tmp_path / run.name / "student.zip").stat().st_mtime_ns == before
    assert study.state().finished == {run.name}


def test_parts_are_disjoint_and_all_of_it():
    items = list(range(17))
    for n in (1, 2, 5, 20):
        parts = [shard_of(items, (k, n)) for k in range(1, n + 1)]
        assert sorted(item for part in parts for item in part) == items
    assert parse_shard("2/3") == (2, 3)
    for bad in ("0/3", "4/3", "a/b", "1", "1/3/4", "-1/2"):
        with pytest.raises(ValueError, match="A part must be K/N"):
            parse_shard(bad)
    assert slurm_shard({}) is None
    array = {"SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "2", "SLURM_ARRAY_TASK_STEP": "2"}
    assert [slurm_shard({**array, "SLURM_ARRAY_TASK_ID": str(i)}) for i in (2, 4, 6)] == [(1, 3), (2, 3), (3, 3)]
    for bad in ("3", "8", "x"):
        with pytest.raises(ValueError, match="do not say which part"):
            slurm_shard({**array, "SLURM_ARRAY_TASK_ID": bad})


def test_the_command_tells_what_failed_and_its_exit_code_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yml").write_text("seeds: 2\nfixed: {steps: 64}\n")
    assert main(["study", "study.yml", "--plan"]) == 0
    assert "2 runs in runs/study, 0 done; 2 to run" in capsys.readouterr().out
    (tmp_path / "one.yml").write_text("seeds: 1\nfixed: {steps: 64}\n")
    assert main(["study", "one.yml", "--plan"]) == 0
    assert "1 run in runs/one, 0 done; 1 to run" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    assert main(["study", "study.yml", "--shard", "3/2"]) == 2
    assert main(["study", "nothing.yml"]) == 2
    (tmp_path / "study.yml").write_text("seeds: x\nmethods: [n-distil]\n")
    capsys.readouterr()
    assert main(["study", "study.yml"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line[:19] for line in lines[:2]] == ["study.yml: line 1: ", "study.yml: line 2: "]
    assert lines[2:] == ["sb3-distill: error: study.yml has 2 faults, and nothing was run."]


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def said(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def student(**values):
    return lambda data: data["players"]["student"].update(values)


@pytest.mark.parametrize(
    ("name", "spoil", "part"),
    [
        ("learning_curve.csv", Path.unlink, "No such file"),
        ("learning_curve.csv", cut, "it is cut off"),
        ("learning_curve.csv", lambda path: path.write_text("nonsense\n"), "it has no points"),
        ("learning_curve.csv", lambda path: path.write_bytes(b"\xff\n\xff\n"), "cannot be read"),
        ("learning_curve.csv", lambda path: path.write_text("steps,mean_return\n0,nan\n"), "is no number"),
        ("student.zip", lambda path: path.write_bytes(b"PK\3\4"), "is not whole"),
        ("results.json", lambda path: said(path, lambda data: data["settings"].update(seed=7)), "another run (seed 7, not 0)"),
        ("results.json", lambda path: said(path, student(mean_return=float("nan"))), "nan is no return of student"),
        ("results.json", lambda path: said(path, student(mean_return="12")), "'12' is no return of student"),
        ("results.json", lambda path: said(path, student(mean_return=True, returns=[1.0])), "True is no return"),
        ("results.json", lambda path: said(path, student(mean_return=1.0)), "is not that of its 2 returns"),
    ],
)  # fmt: skip
def test_a_run_of_which_a_file_is_not_whole_is_not_done(tmp_path, name, spoil, part):
    study = study_of(tmp_path, 1)
    write_finished(study)
    run = study.runs[0].name
    spoil(tmp_path / run / name)
    state = study.state()
    assert state.finished == frozenset() and part in state.broken[run] and f"its {name}" in state.broken[run]
    with pytest.raises(StudyError, match="is no whole run"):
        study.tables()
    # And one that ends like that has failed: it does not come to lie in the way of the study.
    (tmp_path / folders.UNFINISHED).mkdir()
    os.rename(tmp_path / run, tmp_path / folders.UNFINISHED / run)
    task = Task(run, study.runs[0].settings, study.runs[0].about, str(tmp_path), os.getcwd(), "builtins:print")
    report = work.do(task)
    assert report.state == work.FAILED and "It has ended and is not whole" in report.text
    assert (tmp_path / folders.UNFINISHED / run).is_dir()
