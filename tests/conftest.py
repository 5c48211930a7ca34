"""What the tests share."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch as th

SHARED = Path(__file__).parents[2] / "shared"
NAMED = [Path(text) for text in os.environ.get("RL_TRAINED_AGENTS", "").split(os.pathsep) if text]
ZOO = (NAMED or [SHARED / "rl-trained-agents"])[0]
#: the zoo's agents of MuJoCo, in a folder that RL_TRAINED_AGENTS names, too, or beside the zoo's others
MUJOCO = next(
    (
        path
        for path in (*NAMED, ZOO.parent / "mujoco-agents", SHARED / "mujoco-agents")
        if (path / "sac" / "Hopper-v3_1").is_dir()
    ),
    SHARED / "mujoco-agents",
)

# Networks are tiny here: threads only get into each other's way.
th.set_num_threads(1)


def pytest_configure(config):
    """Whatever asks for a temporary folder gets it in one of this run's own: SB3's logger makes one for every model that learns."""
    if not hasattr(config, "workerinput"):  # a worker of pytest-xdist has the run's environment
        config.temporary = tempfile.mkdtemp(prefix="sb3-distill-tests-")
        os.environ["TMPDIR"] = config.temporary
        tempfile.tempdir = None


def pytest_sessionfinish(session, exitstatus):
    session.config.failed = exitstatus not in (0, 5)


def pytest_unconfigure(config):
    """Nothing stays in the temporary folder, but for a run that has failed."""
    if hasattr(config, "temporary"):
        if getattr(config, "failed", True):
            print(f"\nTemporary files of this run: {config.temporary}")
        else:
            shutil.rmtree(config.temporary, ignore_errors=True)


def pytest_collection_modifyitems(items):
    """Tests marked ``zoo``, ``mujoco_zoo`` or ``cuda`` skip, with the reason, without checkpoints or a GPU; without checkpoints CI ends."""
    if not th.cuda.is_available():
        skip = pytest.mark.skip(reason="no GPU that PyTorch can use")
        for item in items:
            if "cuda" in item.keywords:
                item.add_marker(skip)
    for marker, folder in (("zoo", ZOO), ("mujoco_zoo", MUJOCO)):
        if folder.is_dir():
            continue
        if os.environ.get("SB3_DISTILL_REQUIRE_ZOO"):
            raise pytest.UsageError(f"SB3_DISTILL_REQUIRE_ZOO is set, and there are no zoo checkpoints at {folder}")
        skip = pytest.mark.skip(reason=f"no zoo checkpoints at {folder}: set RL_TRAINED_AGENTS")
        for item in items:
            if marker in item.keywords:
                item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def brief_likeness():
    """A run's student and teacher are compared on a twentieth of the states."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sb3_distill.experiment.outcome.COMPARED_STATES", 100)
        yield


@pytest.fixture
def zoo(monkeypatch):
    """The folder of the zoo's checkpoints, and the environment variable that names it."""
    monkeypatch.setenv("RL_TRAINED_AGENTS", str(ZOO))
    return ZOO


@pytest.fixture
def mujoco_zoo(monkeypatch):
    """The folder of the zoo's agents of MuJoCo, and both folders in the environment variable."""
    monkeypatch.setenv("RL_TRAINED_AGENTS", f"{ZOO}{os.pathsep}{MUJOCO}")
    return MUJOCO
