"""A small network of PyTorch for scikit-learn's digits, as a user would serve it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field

from salver import Service, Threshold, checkpoint, deployment


class Digit(BaseModel):
    """Sixty-four grey pixels."""

    pixels: Annotated[list[float], Field(min_length=64, max_length=64)]


def network() -> Any:
    """Untrained: many small layers, of which PyTorch calls one after the other."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.linear = nn.LayerNorm(64), nn.Linear(64, 64)

        def forward(self, x: Any) -> Any:
            return x + nn.functional.gelu(self.linear(self.norm(x)))

    return nn.Sequential(*(Block() for _ in range(24)), nn.LayerNorm(64), nn.Linear(64, 10))


class Digits:
    """Ten classes."""

    def __init__(self, folder: Any) -> None:
        from safetensors.torch import load_file

        self.network = network()
        self.network.load_state_dict(load_file(Path(folder) / "model.safetensors"))
        self.network.eval()
        self.classes_ = list(range(10))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        import torch

        pixels = np.array(batch["pixels"].tolist(), dtype=np.float32)
        with torch.inference_mode():
            return {"probabilities": self.network(torch.from_numpy(pixels)).softmax(1).numpy()}


class Noted(Digit):
    """The same with what few files have."""

    note: str = ""


digits: Any = deployment(input=Digit, max_batch_size=32, policy=Threshold(0.8))(Digits)
service = Service(digits.bind(checkpoint(os.environ.get("DIGITS", "digits"))))
noted_digits: Any = deployment(input=Noted)(type("NotedDigits", (Digits,), {}))
noted = Service(noted_digits.bind(checkpoint(os.environ.get("DIGITS", "digits"))))
