"""Ray of these tests listens on loopback too; it reads that when it is imported."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Workers find the modules of these tests.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder start Ray, or load it."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("cluster")
