from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from salver import Checkpoint, checkpoint
from salver.models.resolve import answer


def run(text: str) -> subprocess.CompletedProcess[str]:
    """Runs the entry with `text` on stdin."""
    return subprocess.run(
        [sys.executable, "-m", "salver.models.resolve"],
        input=text,
        text=True,
        capture_output=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint."""
    path = tmp_path / "checkpoint"
    path.mkdir()
    (path / "model.pt").write_bytes(b"weights")
    Checkpoint.create(path)
    return path


def test_each_reference_gets_its_own_answer(folder: Path) -> None:
    """Results come in order, and a bad reference does not cost the others theirs."""
    good = checkpoint(str(folder)).to_json()
    asked = [good, {"kind": "uri", "uri": "s3://x"}, "nonsense", good]

    done = run(json.dumps(asked))
    first, second, third, fourth = json.loads(done.stdout)

    assert done.returncode == 0
    assert first == fourth
    assert {
        "path": str(folder),
        "digest": Checkpoint.open(folder).digest,
        "source": str(folder),
        "stale": False,
    } == first
    assert second["error"]["code"] == "config_error"
    assert "s3" in second["error"]["message"]
    assert third["error"]["code"] == "config_error"


@pytest.mark.parametrize("text", ["", "{}", "null", "[", '{"kind": "uri"}'])
def test_an_input_that_is_no_list_is_refused(text: str) -> None:
    """Exit code 2, the reason on stderr, and nothing on stdout."""
    done = run(text)

    assert (done.returncode, done.stdout) == (2, "")
    assert "JSON list of references" in done.stderr


def test_nothing_else_reaches_stdout(folder: Path) -> None:
    """Prints of libraries, from Python or from C, go to stderr."""
    code = (
        "import os, sys, salver.models.resolve as r\n"
        "real = r.answer\n"
        "def noisy(x):\n"
        "    print('from python', flush=True); os.write(1, b'from c'); return real(x)\n"
        "r.answer = noisy\n"
        "sys.exit(r.main())"
    )
    asked = json.dumps([checkpoint(str(folder)).to_json()])
    done = subprocess.run(
        [sys.executable, "-c", code], input=asked, text=True, capture_output=True, check=True
    )

    assert [str(folder)] == [result["path"] for result in json.loads(done.stdout)]
    assert "from python" in done.stderr
    assert "from c" in done.stderr


def test_a_failing_disk_is_an_answer_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system refuses is reported like any other error."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("salver.models.resolve.resolve", refuse)

    error = answer(checkpoint(str(folder)).to_json())["error"]
    assert error["code"] == "checkpoint_error"
    assert "Input/output error" in error["message"]
