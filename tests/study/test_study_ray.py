"""Runs as tasks of Ray: two nodes, one of which is lost, in a network namespace of their own, for Ray has no authentication."""

import sys

import pytest
from ray_namespace import run_inside

from sb3_distill import Study
from sb3_distill.cli import main

SCRIPT = """
import os, sys, threading, time
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
from ray.cluster_utils import Cluster
from sb3_distill import Study
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
node = cluster.add_node(num_cpus=1)
study = Study({"seeds": 6, "fixed": {"tensorboard_log": "sleep 0.5"}}, sys.argv[1])
begun = []
def show(progress):
    if progress.done and not begun:
        begun.append(progress.slots)
        cluster.remove_node(node, allow_graceful=False)
progress = study.run(ray=cluster.address, work="study_works:fake", show=show)
print("RESULT", progress.done, len(progress.failed), begun, flush=True)
os._exit(0)
"""


def test_two_nodes_do_a_study_and_one_is_lost(tmp_path):
    done = run_inside("-c", SCRIPT, str(tmp_path))
    assert "RESULT 6 0 [2]" in done.stdout, done.stdout[-500:] + done.stderr[-2000:]
    study = Study({"seeds": 6}, tmp_path)
    assert study.state().finished == {run.name for run in study.runs}


def test_without_ray_and_without_a_cluster_it_is_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yml").write_text("seeds: 2\n")
    for address, said in (
        ("nonsense", "is no address of Ray"),
        ("127.0.0.1:1", "No Ray cluster answers at 127.0.0.1:1"),
    ):
        pytest.importorskip("ray")
        assert main(["study", "study.yml", "--ray", address]) == 2
        assert said in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["study", "study.yml", "--ray"]) == 2
    assert "pip install 'sb3-distill[ray]'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
