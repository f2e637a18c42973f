"""What tests of trust share: a classifier made on the spot, rows of it, and a cache of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from processes import wait_until

from salver import Checkpoint

SERVICES = Path(__file__).parent / "services"
SERVICE = f"{SERVICES / 'topics.py'}:service"
PATIENCE_S = 120.0
PROMISES = "policy=[{Novelty: {share: 0.02, otherwise: unknown}}, {Precision: {precision: 0.9}}]"
JUNK = {"text": "xq7 zzkw 93jd"}


class Lab:
    """A classifier, held-out rows, rows of training, and a cache of its own."""

    def __init__(self, root: Path) -> None:
        sys.path.insert(0, str(SERVICES))
        import topics

        self.root = root
        self.folder = root / "topics"
        self.folder.mkdir()
        topics.make(self.folder)
        self.digest = Checkpoint.create(self.folder).digest
        self.held_out = self.written("heldout.jsonl", topics.rows(600, seed=1))
        self.train = self.written("train.jsonl", topics.rows(600, seed=2))
        self.new = self.written("new.jsonl", [*topics.rows(300, seed=3), JUNK])

    def written(self, name: str, rows: list[dict[str, str]]) -> Path:
        path = self.root / name
        path.write_text("\n".join(map(json.dumps, rows)))
        return path

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "TOPICS": str(self.folder),
            "SALVER_CACHE_DIR": str(self.root / "cache"),
        }

    def salver(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs one command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "salver.cli", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            env=self.environment,
        )

    @contextmanager
    def served(self, *options: str) -> Iterator[tuple[str, str]]:
        """The URL of the service, and what it said at start."""
        with self.started(*options) as (_, url, said):
            yield url, said

    @contextmanager
    def started(self, *options: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
        """The same with its process."""
        command = [sys.executable, "-m", "salver.cli", "serve", SERVICE, "--port", "0", *options]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=self.environment)
        try:
            assert process.stderr is not None
            lines: list[str] = []
            for line in process.stderr:
                lines.append(line)
                if line.startswith("Ready."):
                    break
            url = re.search(r"http://[\d.:]+", "".join(lines))
            assert url, lines
            yield process, url[0], "".join(lines)
        finally:
            process.terminate()
            wait_until(lambda: process.poll() is not None, "ended")
            assert process.stderr is not None
            process.stderr.close()


def posted(url: str, body: Any, headers: Mapping[str, str] = {}) -> Any:
    """What a POST of JSON is answered with."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"content-type": "application/json", **headers}
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def asked(url: str, rows: Any, query: str = "") -> list[dict[str, Any]]:
    """The results of rows."""
    found: list[dict[str, Any]] = posted(f"{url}/predict/{query}", rows)["results"]
    return found
