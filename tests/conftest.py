"""What the tests share."""

import os
from pathlib import Path

import pytest
import torch as th

ZOO = Path(os.environ.get("RL_TRAINED_AGENTS") or Path(__file__).parents[2] / "shared" / "rl-trained-agents")

# Networks are tiny here: threads only get into each other's way.
th.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """Tests marked ``zoo`` skip, with the reason, where there are no checkpoints; in CI that is an error."""
    if not ZOO.is_dir():
        if os.environ.get("SB3_DISTILL_REQUIRE_ZOO"):
            raise pytest.UsageError(f"SB3_DISTILL_REQUIRE_ZOO is set, and there are no zoo checkpoints at {ZOO}")
        skip = pytest.mark.skip(reason=f"no zoo checkpoints at {ZOO}: set RL_TRAINED_AGENTS")
        for item in items:
            if "zoo" in item.keywords:
                item.add_marker(skip)


@pytest.fixture
def zoo(monkeypatch):
    """The folder of the zoo's checkpoints, and the environment variable that names it."""
    monkeypatch.setenv("RL_TRAINED_AGENTS", str(ZOO))
    return ZOO
