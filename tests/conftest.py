"""What every test starts from."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# The same examples on every machine, however slow it is: a red test is a bug in what changed.
settings.register_profile("salver", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile("salver")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the options, tracking server or cache of whoever runs it."""
    for name in list(os.environ):
        if name.startswith(("SALVER_", "MLFLOW_")):
            monkeypatch.delenv(name)
