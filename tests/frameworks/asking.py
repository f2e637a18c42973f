"""Asks a model as users do: by URI, over HTTP and over a file, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np

SALVER = [sys.executable, "-m", "salver.cli"]
PATIENCE_S = 180.0


class Asker:
    """Serves and predicts with a cache and an MLflow store of its own.

    Args:
        root: A folder for all of them.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tracking_uri = f"sqlite:///{root}/mlflow.db"
        self._jobs = 0

    @property
    def environment(self) -> dict[str, str]:
        """Of the processes."""
        given = {"SALVER_CACHE_DIR": f"{self.root}/cache", "SALVER_TRACKING_URI": self.tracking_uri}
        return {**os.environ, **given}

    def online(self, target: str, rows: Sequence[Any], *options: str) -> list[Any]:
        """The answers of `salver serve` to one list of rows."""
        process = subprocess.Popen(
            [*SALVER, "serve", target, "--port", "0", *options],
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.root,
            env=self.environment,
        )
        said: list[str] = []
        try:
            assert process.stderr is not None
            for line in process.stderr:
                said.append(line)
                if line.startswith("Ready."):
                    break
            else:
                raise AssertionError(f"it ended with {process.wait()}: {''.join(said)}")
            url = line.split()[-1].removesuffix("/docs")
            answer = httpx.post(f"{url}/predict/", json=list(rows), timeout=PATIENCE_S)
            assert 200 == answer.status_code, answer.text
            results: list[Any] = answer.json()["results"]
            return results
        finally:
            process.terminate()
            process.communicate(timeout=60)

    def offline(self, target: str, rows: Sequence[Mapping[str, Any]], *options: str) -> list[Any]:
        """The result columns that `salver predict` writes for a file of the rows."""
        self._jobs += 1
        given, out = self.root / f"rows{self._jobs}.jsonl", self.root / f"out{self._jobs}"
        given.write_text("".join(json.dumps(row) + "\n" for row in rows))
        ended = self.run("predict", target, str(given), str(out), "--format", "jsonl", *options)
        assert 0 == ended.returncode, ended.stderr
        parts = sorted(out.glob("*.jsonl"))
        lines = [json.loads(line) for part in parts for line in part.read_text().splitlines()]
        return [{k: v for k, v in line.items() if k not in rows[0]} for line in lines]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Any command, to its end."""
        return subprocess.run(
            [*SALVER, *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            cwd=self.root,
            env=self.environment,
            check=False,
        )

    def agree(
        self,
        target: str,
        rows: Sequence[Mapping[str, Any]],
        expected: Mapping[str, Any],
        *options: str,
        tolerance: float = 1e-6,
    ) -> None:
        """Online and offline give what the framework itself says.

        Args:
            target: Of the model.
            rows: What is asked.
            expected: By output column; `probabilities` are an (n, k) array in the order of the
                classes. Numbers may differ by `tolerance`, all else must be equal.
            options: For both commands.
            tolerance: Absolute, and relative for numbers above 1.
        """
        for given in (
            self.online(target, rows, *options),
            self.offline(target, rows, *options),
        ):
            assert len(rows) == len(given)
            for name, values in expected.items():
                found = [row[name] for row in given]
                if name == "probabilities":
                    found = [list(row.values()) if isinstance(row, dict) else row for row in found]
                same(values, found, tolerance)


def same(expected: Any, found: list[Any], tolerance: float) -> None:
    """Numbers are near, all else is equal."""
    array = np.asarray(expected)
    if array.dtype.kind == "f":
        np.testing.assert_allclose(np.asarray(found, float), array, tolerance, tolerance)
    else:
        assert array.tolist() == found
