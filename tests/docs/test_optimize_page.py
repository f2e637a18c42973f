"""What docs/optimize.md shows is executed, with its own words."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from salver import Checkpoint
from salver.optimization.fidelity import GATES
from salver.optimization.optimize import WORTH
from salver.optimization.recipes import RECIPES
from salver.optimization.rows import MOST

TEXT = (Path(__file__).parents[2] / "docs" / "optimize.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
(SERVICE,) = [block for _, block in BLOCKS if block.startswith("# service.py")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint for the page's service, untrained, and rows."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    root = tmp_path_factory.mktemp("docs")
    (root / "service.py").write_text(SERVICE)
    torch.manual_seed(0)
    steps = (torch.nn.Linear(64, 64), torch.nn.LayerNorm(64), torch.nn.ReLU())
    layers = [
        type(s)(*((64, 64) if i == 0 else (64,))) if i < 2 else s
        for _ in range(24)
        for i, s in enumerate(steps)
    ]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(64, 10))
    (root / "digits").mkdir()
    save_file(network.state_dict(), root / "digits" / "model.safetensors")
    Checkpoint.create(root / "digits")
    rows = np.random.default_rng(0).random((240, 64)).tolist()
    lines = "\n".join(json.dumps({"pixels": row}) for row in rows)
    (root / "heldout.jsonl").write_text(lines)
    return root


def test_the_commands_do_what_the_page_says(folder: Path) -> None:
    """The service of the page gets a variant, which its next start would use."""
    command = re.search(r"^salver (optimize service:service .*--only.*)$", TEXT, re.MULTILINE)
    assert command
    for _ in range(3):  # where other work has the cores, nothing may look faster
        ended = subprocess.run(
            [sys.executable, "-m", "salver.cli", *command[1].split()],
            cwd=folder,
            env={**os.environ, "SALVER_CACHE_DIR": str(folder / "cache")},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert 0 == ended.returncode, ended.stdout + ended.stderr
        if "From now on" in ended.stdout:
            break
    assert "From now on Digits uses onnxruntime-fp32" in ended.stdout
    page = ended.stdout.split()[-1]
    assert Path(page).is_file()


def test_the_table_of_candidates_is_the_one_in_force() -> None:
    """Every name, and no other."""
    named = re.findall(r"^\| `([\w-]+)` \|", TEXT, re.MULTILINE)
    assert [recipe.name for recipe in RECIPES] == named


def test_the_limits_are_the_ones_in_force() -> None:
    """Those of the three gates, and the other numbers of the page."""
    rows = {
        line.split("|")[1].strip(): line.split("|")[2:5]
        for line in TEXT.splitlines()
        if "|" in line
    }
    gates = [GATES[name] for name in ("exact", "lossless", "close")]
    cells = [value.strip() for value in rows["mean difference of a probability"]]
    assert [gate.mean for gate in gates] == [float(cell) for cell in cells]
    cells = [v.strip() for v in rows["99th percentile of the largest difference in a row"]]
    assert [gate.p99 for gate in gates] == [float(cell) for cell in cells]
    cells = [v.strip(" %") for v in rows["rows that get another answer after the policy"]]
    assert [gate.decisions for gate in gates] == pytest.approx([float(c) / 100 for c in cells])
    assert f"up to {MOST:,} are judged on" in TEXT
    assert f"at least {WORTH:g} times as fast" in TEXT


def test_the_extra_of_the_page_exists() -> None:
    """With what the candidates need."""
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r"^optimize = \[", project, re.MULTILINE)
    assert importlib.util.find_spec("openvino")
