"""`salver optimize` end to end: a network trained here, its candidates, and what is served then."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import wait_until

from salver import Checkpoint

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("openvino")

SERVICES = Path(__file__).parent / "services"
SERVICE = f"{SERVICES / 'digits.py'}:service"
PATIENCE_S = 240.0


class Lab:
    """A trained network, held-out rows, and a cache of its own."""

    def __init__(self, root: Path) -> None:
        from safetensors.torch import save_file
        from sklearn.datasets import load_digits

        self.root = root
        self.rows = root / "heldout.jsonl"
        self.folder = root / "digits"
        self.folder.mkdir()
        sys.path.insert(0, str(SERVICES))
        from digits import network

        torch.manual_seed(0)
        torch.set_num_threads(1)  # other work shares the machine
        images, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(images))
        images, labels = (images[order] / 16).astype(np.float32), labels[order]
        self.network = network().train()
        x, y = torch.from_numpy(images[:900]), torch.from_numpy(labels[:900])
        optimiser = torch.optim.Adam(self.network.parameters(), 1e-3)
        for _ in range(80):
            loss = torch.nn.functional.cross_entropy(self.network(x), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        self.network.eval()
        save_file(self.network.state_dict(), self.folder / "model.safetensors")
        self.digest = Checkpoint.create(self.folder).digest
        pairs = zip(images[900:1500].tolist(), labels[900:1500].tolist(), strict=True)
        lines = [json.dumps({"pixels": pixels, "digit": digit}) for pixels, digit in pairs]
        self.rows.write_text("\n".join(lines))

    def environment(self, cache: str = "cache") -> dict[str, str]:
        return {
            **os.environ,
            "DIGITS": str(self.folder),
            "GOMP_SPINCOUNT": "0",  # or threads wait by spinning where other work has the cores
            "SALVER_CACHE_DIR": str(self.root / cache),
        }

    def salver(self, *arguments: str, cache: str = "cache") -> subprocess.CompletedProcess[str]:
        """Runs one command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "salver.cli", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            env=self.environment(cache),
        )

    def served(self, *options: str) -> dict[str, Any]:
        """What `/-/readyz` says of the deployment, and what it answers to the first row."""
        command = [sys.executable, "-m", "salver.cli", "serve", SERVICE, "--port", "0", *options]
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=self.environment()
        )
        try:
            assert process.stderr is not None
            lines: list[str] = []
            for line in process.stderr:
                lines.append(line)
                if line.startswith("Ready."):
                    break
            url = re.search(r"http://[\d.:]+", "".join(lines))
            assert url, lines
            with urllib.request.urlopen(f"{url[0]}/-/readyz") as response:
                ready = json.load(response)["deployments"]["Digits"]
            row = json.loads(self.rows.read_text().splitlines()[0])
            body = json.dumps({"pixels": row["pixels"]}).encode()
            request = urllib.request.Request(
                f"{url[0]}/predict/", body, {"content-type": "application/json"}
            )
            with urllib.request.urlopen(request) as response:
                (answer,) = json.load(response)["results"]
            return {**ready, "answer": answer, "log": "".join(lines)}
        finally:
            process.terminate()
            wait_until(lambda: process.poll() is not None, "ended")
            process.stderr.close()

    def graph(self, path: Path) -> Path:
        """The network as ONNX, as a user would export it."""
        example = torch.zeros(2, 64)
        names = {"input_names": ["x"], "output_names": ["y"]}
        axes = {"x": {0: "n"}, "y": {0: "n"}}
        torch.onnx.export(
            self.network, (example,), str(path), dynamo=False, dynamic_axes=axes, **names
        )
        return path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One network for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith(("SALVER_", "MLFLOW_"))]:
            patch.delenv(name)
        yield Lab(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def optimised(lab: Lab) -> Lab:
    """After a run with two candidates."""
    names = ("onnxruntime-fp32", "openvino-fp32")
    only = [part for name in names for part in ("--only", name)]
    given = ["--on", str(lab.rows), "--optimize-for", "latency", *only]
    ended = lab.salver("optimize", SERVICE, *given)
    assert 0 == ended.returncode, ended.stderr
    assert "From now on Digits uses" in ended.stdout, ended.stdout
    return lab


def test_the_fastest_that_passes_answers_from_then_on(optimised: Lab) -> None:
    """`serve` says which and why; its version is another one; `--original` turns it off."""
    after = optimised.served()
    assert after["optimized"]["variant"] in ("onnxruntime-fp32", "openvino-fp32")
    assert "batch mates move a number by at most" in after["log"].lower()
    before = optimised.served("--original")
    assert before["optimized"] is None
    assert before["version"] != after["version"]
    assert before["answer"]["prediction"] == after["answer"]["prediction"]
    for name, p in before["answer"]["probabilities"].items():
        assert pytest.approx(p, abs=1e-5) == after["answer"]["probabilities"][name]


def test_all_paths_give_the_answers_of_the_variant(optimised: Lab) -> None:
    """The bare class, HTTP and a job, with the policy."""
    ended = optimised.salver("parity", SERVICE, "--on", str(optimised.rows))
    assert 0 == ended.returncode, ended.stdout + ended.stderr


def test_a_report_lies_beside_the_checkpoint(optimised: Lab) -> None:
    """By the digest of the checkpoint; and the labels were found by themselves."""
    folder = optimised.root / "cache" / "attachments" / optimised.digest / "optimized"
    (page,) = folder.glob("*.html")
    text = page.read_text()
    assert "openvino-fp32" in text
    assert "macro F1" in text
    assert "<svg" in text


def test_a_candidate_is_made_once(optimised: Lab) -> None:
    """A second run measures it again, and makes nothing."""
    given = ["--on", str(optimised.rows), "--optimize-for", "latency"]
    ended = optimised.salver("optimize", SERVICE, *given, "--only", "onnxruntime-fp32")
    assert 0 == ended.returncode, ended.stderr
    assert "Making" not in ended.stderr
    assert "Measuring onnxruntime-fp32" in ended.stderr


def test_a_spoilt_candidate_is_refused(lab: Lab, tmp_path: Path) -> None:
    """Noise in its weights leaves more than 99 % of the labels as they were, and is found."""
    model = onnx.load(lab.graph(tmp_path / "network.onnx"))
    random = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        weights = onnx.numpy_helper.to_array(tensor)
        if weights.ndim > 1:
            noise = random.normal(0, 0.02 * weights.std(), weights.shape)
            spoilt = (weights + noise).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(spoilt, tensor.name))
    onnx.save(model, tmp_path / "spoilt.onnx")
    own = ["--candidate", f"spoilt={tmp_path / 'spoilt.onnx'}"]
    beside = {"save_as_external_data": True, "size_threshold": 0, "location": "weights"}
    onnx.save(onnx.load(tmp_path / "network.onnx"), tmp_path / "large.onnx", **beside)
    faithful = ["--candidate", f"my/own={tmp_path / 'large.onnx'}"]
    given = ["--on", str(lab.rows), "--only", "onnxruntime-fp32", *own, *faithful]
    ended = lab.salver("optimize", SERVICE, *given, cache="another cache")
    assert 0 == ended.returncode, ended.stderr
    lines: dict[str, str] = {}
    for line in ended.stdout.splitlines():  # of a name, the first is that of the table
        lines.setdefault(line.split(" ")[0], line)
    agreement = re.search(r"(\d+(\.\d+)?)%", lines["own:spoilt"])
    assert agreement, ended.stdout
    assert float(agreement[1]) > 99
    assert lines["own:spoilt"].endswith("refused")
    assert "own:spoilt: refused: " in ended.stdout
    assert not lines["own:my/own"].endswith(("refused", "failed"))


def test_what_cannot_be_loaded_any_more_falls_back(optimised: Lab, tmp_path: Path) -> None:
    """The original answers, and readiness says so."""
    cache = optimised.root / "cache"
    saved = tmp_path / "saved"
    shutil.copytree(cache, saved)
    try:
        for graph in (cache / "checkpoints").rglob("model.*"):
            graph.write_bytes(b"damaged")
        found = optimised.served()
        assert found["optimized"]["variant"] is None
        assert "the original runs" in found["optimized"]["note"]
        assert "failed at start" in found["log"]
        assert str(cache) not in json.dumps(found["optimized"])
        assert found["ready"]
        assert "prediction" in found["answer"]
    finally:
        shutil.rmtree(cache)
        shutil.copytree(saved, cache)


def test_other_rules_need_another_judgement(optimised: Lab) -> None:
    """A variant was judged with the policy, so another policy is served by the original."""
    found = optimised.served("--set", "policy={Threshold: {p: 0.5}}")
    assert found["optimized"]["variant"] is None
    assert "run salver optimize again" in found["optimized"]["note"]


def test_too_few_rows_are_refused(lab: Lab, tmp_path: Path) -> None:
    """Before anything is measured, with what to do."""
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(lab.rows.read_text().splitlines()[:60]))
    ended = lab.salver("optimize", SERVICE, "--on", str(few))
    assert 1 == ended.returncode
    assert "at least 100" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_columns_with_a_default_may_be_absent_if_that_is_said(lab: Lab, tmp_path: Path) -> None:
    """From the rows for calibration, too; rows that do not fit are counted in each file."""
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join([*lab.rows.read_text().splitlines()[:60], '{"pixels": [1]}']))
    given = ["optimize", f"{SERVICES / 'digits.py'}:noted", "--on", str(few)]
    refused = lab.salver(*given)
    assert 1 == refused.returncode
    assert "--fill-defaults" in refused.stderr
    filled = lab.salver(*given, "--calibrate-on", str(few), "--fill-defaults")
    assert "rows are left to judge candidates on" in filled.stderr
    assert 2 == filled.stderr.count(f"1 of 61 rows of {few} do not fit the input of NotedDigits")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "onnxruntime-fp8"], "There is no candidate 'onnxruntime-fp8'"),
        (["--candidate", "mine"], "NAME=FILE.onnx"),
        (["--label", "number"], "There is no column 'number'"),
        (["--label", "pixels"], "is a class of Digits"),
    ],
)
def test_mistakes_are_named(lab: Lab, arguments: list[str], said: str) -> None:
    """With what would be right."""
    ended = lab.salver("optimize", SERVICE, "--on", str(lab.rows), *arguments)
    assert 1 == ended.returncode
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_model_by_its_uri(lab: Lab, tmp_path: Path) -> None:
    """A forest that MLflow has logged answers from a graph, without any code of the user's own."""
    import mlflow
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.datasets import load_wine
    from sklearn.ensemble import RandomForestClassifier

    pytest.importorskip("skl2onnx")
    table, labels = load_wine(return_X_y=True, as_frame=True)
    table = pd.concat([table, table * 1.01], ignore_index=True)  # rows enough to judge on
    model = RandomForestClassifier(100, random_state=0).fit(table[:178], labels)
    signature = infer_signature(table)
    mlflow.sklearn.save_model(
        model,
        tmp_path / "forest",
        signature=signature,
        pip_requirements=[],
        serialization_format="skops",
        skops_trusted_types=["sklearn.tree._tree.Tree"],
    )
    table.to_parquet(tmp_path / "rows.parquet")
    arguments = ["--on", str(tmp_path / "rows.parquet"), "--optimize-for", "latency"]
    ended = lab.salver("optimize", str(tmp_path / "forest"), *arguments)
    assert 0 == ended.returncode, ended.stderr
    assert "From now on forest uses onnxruntime-fp32" in ended.stdout, ended.stdout
    parity = lab.salver("parity", str(tmp_path / "forest"), "--on", str(tmp_path / "rows.parquet"))
    assert 0 == parity.returncode, parity.stdout + parity.stderr
