"""torch's exporter, quicker."""

from functools import cache

import pytest


@pytest.fixture(autouse=True, scope="session")
def quick_onnx():
    """torch reads the sources of its 500 operators for every file, which takes longer than all else."""
    from torch.onnx._internal.exporter import _registration

    patch = pytest.MonkeyPatch()
    original = _registration.ONNXRegistry.from_torchlib
    patch.setattr(_registration.ONNXRegistry, "from_torchlib", staticmethod(cache(original)))
    yield
    patch.undo()
