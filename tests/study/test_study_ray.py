"""Runs as tasks of Ray: two nodes, one of which is lost, in a network namespace of their own, for Ray has no authentication."""

import socket
import sys

import pytest
from ray_namespace import run_inside

from sb3_distill import Study
from sb3_distill.cli import main
from sb3_distill.common.ray_connection import connected, gone_cluster

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


def test_a_cluster_that_is_gone_is_not_waited_for(tmp_path, monkeypatch):
    """Ray would try for minutes, at what its file of the last cluster says, or RAY_ADDRESS does."""
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert gone_cluster() is None
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1\n")
    assert "at 127.0.0.1:1 (Connection refused), which " in gone_cluster()
    with pytest.raises(ConnectionError, match=r"No Ray cluster answers at 127\.0\.0\.1:1"):
        connected("auto")
    with socket.create_server(("127.0.0.1", 0)) as server:
        (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{server.getsockname()[1]}")
        assert gone_cluster() is None
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:2")
    assert gone_cluster() is None
    with pytest.raises(ConnectionError, match=r"answers at 127.0.0.1:2 \(.*\), which RAY_ADDRESS names: unset it"):
        connected()
