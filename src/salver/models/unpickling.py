"""The one place that reads pickles, which run what they hold.

It is called for models whose code somebody has allowed, and in their own process. It does not know
who asked: that it was allowed is seen to before (`salver.engine.loading.allowed_code`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def with_joblib(path: Path) -> Any:
    """What joblib or plain pickle has written, compressed or not."""
    import joblib

    return joblib.load(path)


def with_cloudpickle(path: Path) -> Any:
    """What cloudpickle has written."""
    import cloudpickle

    with path.open("rb") as file:
        return cloudpickle.load(file)


def with_torch(path: Path) -> Any:
    """What torch.save has written, on the CPU."""
    import torch

    return torch.load(path, map_location="cpu", weights_only=False)
