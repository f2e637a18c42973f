"""PyTorch: what a module itself says is what a model by URI answers; archives that would run code."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlflow.pytorch
import numpy as np
import pytest
import torch
from mlflow.models import infer_signature
from safetensors.torch import save_file
from torch.export import Dim

from frameworks.asking import Asker
from salver.errors import CheckpointError, CodeRefused
from salver.models import frameworks
from salver.models.adoption import described
from salver.models.checkpoint import Checkpoint
from salver.models.description import METADATA, Artifact, Description
from salver.models.frameworks import pytorch
from salver.models.served import ServedModel
from salver.models.signature import Signature

NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.first, self.last = torch.nn.Linear(4, 8), torch.nn.Linear(8, classes)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, x):
        return self.last(self.drop(torch.nn.functional.gelu(self.first(x))))
"""
ROWS = torch.randn(33, 4, generator=torch.Generator().manual_seed(0))


class Pair(torch.nn.Module):
    """Two inputs of different dtypes, two named outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(10, 3)

    def forward(self, ids: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self.table(ids).mean(1) * scale
        return {"found": found, "largest": found.amax(1, keepdim=True)}


class Dropping(torch.nn.Module):
    """Answers by chance while it is trained."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(x, 0.5, self.training)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A module whose class stands in a file on the path of this process and of its children."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "nets_of_a_test.py").write_text(NET)
    sys.path.insert(0, str(folder))
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder)] + ([before] if before else []))
    from nets_of_a_test import Net

    torch.manual_seed(0)
    yield Net(classes=3).eval()
    sys.path.remove(str(folder))
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def exported(module: torch.nn.Module, inputs: Any, path: Path, **dynamic: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shapes = {"dynamic_shapes": dynamic} if dynamic else {}
    torch.export.save(torch.export.export(module.eval(), inputs, **shapes), path)
    return path


def adopted(folder: Path) -> ServedModel:
    """The model as a replica loads it."""
    return ServedModel(Checkpoint.create(folder, described(folder, str(folder))))


def loaded(folder: Path, inputs: list[Mapping[str, Any]]) -> ServedModel:
    """The same for one that runs code, which its user has allowed."""
    names = tuple(sorted(path.name for path in folder.iterdir()))
    code = tuple(pytorch.code_in(Artifact(folder, names, {})))
    found = Description("pytorch", {}, Signature.load(inputs, "a test"), code, "model")
    return ServedModel(Checkpoint.create(folder, {METADATA: found.dump()}))


def asked(module: torch.nn.Module, *inputs: torch.Tensor) -> Any:
    with torch.inference_mode():
        return module(*inputs)


def matrix(size: int = 4) -> list[dict[str, Any]]:
    return [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, size]}}]


def objects(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """A column of lists, as the engine gives it."""
    column = np.empty(len(tensor), dtype=object)
    column[:] = tensor.tolist()
    return column


# --- programs of torch.export


def test_mlflows_default_format_needs_no_code(asker: Asker, net: Any) -> None:
    """MLflow logs a program, with the signature of its tensor."""
    example = ROWS.numpy()
    with mlflow.start_run() as run:
        mlflow.pytorch.log_model(net, name="model", pip_requirements=[], input_example=example)
    asker.agree(
        f"runs:/{run.info.run_id}/model",
        [{"input": row} for row in ROWS.tolist()],
        {"prediction": asked(net, ROWS).numpy()},
        tolerance=1e-4,
    )


def test_a_lone_program_says_what_it_takes(asker: Asker, tmp_path: Path) -> None:
    """Inputs by the names of forward(), outputs by the keys of its dict."""
    module = Pair()
    ids, scale = torch.randint(0, 10, (6, 5)), torch.rand(6, 1)
    n = Dim("n")
    path = exported(module, (ids, scale), tmp_path / "pair.pt2", ids={0: n}, scale={0: n})
    expected = asked(module, ids, scale)
    rows = [{"ids": i, "scale": s} for i, s in zip(ids.tolist(), scale.tolist(), strict=True)]
    asker.agree(
        str(path),
        rows,
        {"found": expected["found"].numpy(), "largest": expected["largest"][:, 0].numpy()},
        tolerance=1e-4,
    )


@pytest.mark.parametrize("example", [1, 4])
@pytest.mark.parametrize("rows", [1, 3, 4, 9])
def test_a_program_for_a_fixed_number_of_rows(
    tmp_path: Path, net: Any, example: int, rows: int
) -> None:
    """Rows are asked so many at once, the last of them filled up."""
    exported(net, (ROWS[:example],), tmp_path / "fixed" / "net.pt2")
    model = adopted(tmp_path / "fixed")
    found = model({"x": objects(ROWS[:rows])})["prediction"]
    np.testing.assert_allclose(found, asked(net, ROWS[:rows]), 1e-5, 1e-5)


def test_a_program_for_a_range_of_rows(tmp_path: Path, net: Any) -> None:
    """Neither fewer nor more rows than its bounds reach it."""
    n = Dim("n", min=4, max=8)
    exported(net, (ROWS[:5],), tmp_path / "range" / "net.pt2", x={0: n})
    model = adopted(tmp_path / "range")
    for rows in (1, 8, 9, 33):
        found = model({"x": objects(ROWS[:rows])})["prediction"]
        np.testing.assert_allclose(found, asked(net, ROWS[:rows]), 1e-5, 1e-5)


def test_rows_of_different_shapes(tmp_path: Path) -> None:
    """Each is asked by itself."""
    module = Pair()
    t = Dim("t", max=20)
    ids, scale = torch.randint(0, 10, (6, 5)), torch.rand(6, 1)
    path = tmp_path / "pair" / "pair.pt2"
    exported(module, (ids, scale), path, ids={0: Dim.AUTO, 1: t}, scale={0: Dim.AUTO})
    column = np.empty(2, dtype=object)
    column[:] = [[1, 2, 3], [4, 5, 6, 7, 8]]
    found = adopted(path.parent)({"ids": column, "scale": objects(scale[:2])})["found"]
    for i, row in enumerate(column):
        alone = asked(module, torch.tensor([row]), scale[i : i + 1])["found"][0]
        np.testing.assert_allclose(found[i], alone, 1e-5, 1e-5)


def test_a_program_in_training_mode_is_refused(tmp_path: Path) -> None:
    """Its dropout would make answers depend on chance."""
    (tmp_path / "model").mkdir()
    program = torch.export.export(Dropping().train(), (ROWS,))
    torch.export.save(program, tmp_path / "model" / "net.pt2")
    with pytest.raises(CheckpointError, match=r"training mode.*model\.eval\(\)"):
        adopted(tmp_path / "model")


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (matrix(5), r"shape \(5,\), and the program takes \(4,\)"),
        ([{"type": "string", "name": "x"}], "no number"),
        ([{**matrix()[0], "name": name} for name in ("a", "b")], r"\['a', 'b'\].*\['x'\]"),
    ],
)
def test_a_signature_that_is_not_the_programs(
    tmp_path: Path, net: Any, inputs: Any, said: str
) -> None:
    """It fails when it is loaded, not at the first request."""
    exported(net, (ROWS,), tmp_path / "model" / "net.pt2", x={0: Dim("n")})
    with pytest.raises(CheckpointError, match=said):
        loaded(tmp_path / "model", inputs)


# --- archives that would run code


def of_json(change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        content = json.loads(data)
        change(content)
        return json.dumps(content).encode()

    return changed


class Payload:
    """Makes the canary when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self.canary,)


def expression(content: Any, canary: Path) -> None:
    size = content["graph_module"]["graph"]["tensor_values"]["x"]["sizes"][0]
    size["as_expr"]["expr_str"] = f"__import__('os').open({str(canary)!r}, 64)"


def guard(content: Any, canary: Path) -> None:
    content["guards_code"] = [f"__import__('os').open({str(canary)!r}, 64) == 0"]


def name(content: Any, canary: Path) -> None:
    node = content["graph_module"]["graph"]["nodes"][0]
    node["name"] = f"a = __import__('os').open({str(canary)!r}, 64); b"


def operator(content: Any, canary: Path) -> None:
    graph = content["graph_module"]["graph"]
    node = json.loads(json.dumps(graph["nodes"][0]))
    given = [("filename", {"as_string": str(canary)}), ("shared", {"as_bool": True})]
    given += [("size", {"as_int": 10})]
    node["inputs"] = [{"name": n, "arg": a, "kind": 1} for n, a in given]
    node |= {"target": "torch.ops.aten.from_file.default", "name": "file"}
    node["outputs"] = [{"as_tensor": {"name": "file"}}]
    graph["tensor_values"]["file"] = next(iter(graph["tensor_values"].values()))
    graph["nodes"].insert(0, node)


def attribute(content: Any, canary: Path) -> None:
    node = content["graph_module"]["graph"]["nodes"][0]
    argument = {"as_string": f"touch {canary}"}
    node["target"] = "torch.os.system"
    node["inputs"] = [{"name": "command", "arg": argument, "kind": 1}]


def context(content: Any, canary: Path) -> None:
    (canary.parent / "imported_by_a_context.py").write_text(f"open({str(canary)!r}, 'w')")
    called = content["graph_module"]["module_call_graph"][0]["signature"]
    keys = json.dumps([{"__enum__": True, "fqn": "imported_by_a_context:E", "name": "a"}])
    spec = {"type": "builtins.dict", "context": keys, "children_spec": []}
    called["out_spec"] = json.dumps([1, spec])


def pickled_weight(content: Any, canary: Path) -> None:
    next(iter(content["config"].values()))["use_pickle"] = True


PROGRAM, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"
TAMPERED: dict[str, tuple[str, Callable[[Any, Path], None], str]] = {
    "expression": (PROGRAM, expression, "expr_str"),
    "name": (PROGRAM, name, "name"),
    "operator": (PROGRAM, operator, "aten.from_file"),
    "attribute": (PROGRAM, attribute, "torch.os.system"),
    "context": (PROGRAM, context, "out_spec"),
    "weight": (WEIGHTS, pickled_weight, "is a pickle"),
}


def tampered(path: Path, record: str, change: Callable[[bytes], bytes]) -> None:
    with zipfile.ZipFile(path) as archive:
        records = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for found, data in records.items():
            archive.writestr(found, change(data) if found.endswith(record) else data)


def record_of(path: Path, record: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(n for n in archive.namelist() if n.endswith(record)))


@pytest.fixture
def program(tmp_path: Path, net: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return exported(net, (ROWS,), tmp_path / "model" / "net.pt2", x={0: Dim("n")})


@pytest.mark.parametrize("which", TAMPERED)
def test_what_an_archive_would_run_is_named(program: Path, tmp_path: Path, which: str) -> None:
    """Each of them is refused without code, whatever PyTorch itself would do with it."""
    record, change, said = TAMPERED[which]
    canary = tmp_path / "canary"
    tampered(program, record, of_json(lambda content: change(content, canary)))
    with pytest.raises(CodeRefused, match=said) as refused:
        described(program.parent, "a model")
    assert "--allow-code" in str(refused.value)
    assert not canary.exists()


@pytest.mark.parametrize("which", ["expression", "operator", "context"])
def test_pytorch_itself_runs_it(program: Path, tmp_path: Path, which: str) -> None:
    """Else the refusals above would refuse nothing."""
    record, change, _ = TAMPERED[which]
    canary = tmp_path / "canary"
    tampered(program, record, of_json(lambda content: change(content, canary)))
    with contextlib.suppress(Exception):  # it is spoilt, but runs first
        torch.export.load(program).module()(ROWS)
    assert canary.exists()


def test_sample_inputs_are_not_unpickled(program: Path, tmp_path: Path) -> None:
    """Every archive has them, as a pickle; one that calls anything but tensors is refused."""
    canary = tmp_path / "canary"
    samples = io.BytesIO()
    torch.save(((Payload(canary),), {}), samples)
    tampered(program, "data/sample_inputs/model.pt", lambda _: samples.getvalue())
    with pytest.raises(CodeRefused, match="sample inputs are a pickle"):
        described(program.parent, "a model")
    assert not canary.exists()


def test_guards_are_not_compiled(program: Path, tmp_path: Path) -> None:
    """They are Python source in the archive, which PyTorch compiles; the answers need none."""
    canary = tmp_path / "canary"
    tampered(program, PROGRAM, of_json(lambda content: guard(content, canary)))
    assert len(ROWS) == len(adopted(program.parent)({"x": objects(ROWS)})["prediction"])
    assert not canary.exists()


def test_an_archive_that_only_pytorch_finds(program: Path, tmp_path: Path) -> None:
    """Python reads the second of two archives in one file, PyTorch the first: both are judged."""
    canary = tmp_path / "canary"
    spoilt = tmp_path / "spoilt.pt2"
    shutil.copy(program, spoilt)
    tampered(spoilt, PROGRAM, of_json(lambda content: expression(content, canary)))
    size = len(record_of(spoilt, PROGRAM))
    # Of the same layout, so that the directory of one stands where the other says.
    tampered(program, PROGRAM, lambda data: data.ljust(size))
    tampered(spoilt, PROGRAM, lambda data: data.ljust(len(record_of(program, PROGRAM))))
    program.write_bytes(spoilt.read_bytes() + program.read_bytes())
    with pytest.raises(CheckpointError, match=r"differs by who reads it.*expr_str"):
        loaded(program.parent, matrix())
    assert not canary.exists()
    with contextlib.suppress(Exception):
        torch.export.load(program)
    assert canary.exists()


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    """A pickle under the name of an archive is a pickle."""
    canary = tmp_path / "canary"
    (tmp_path / "model").mkdir()
    torch.save(Payload(canary), tmp_path / "model" / "net.pt2")
    with pytest.raises(CodeRefused, match=r"net\.pt2.*pickle"):
        described(tmp_path / "model", "a model")
    assert not canary.exists()


# --- classes, TorchScript and pickles


def test_a_pickled_module_is_served_where_code_is_allowed(
    asker: Asker, net: Any, tmp_path: Path
) -> None:
    """And refused where not, with the file and the option that allows it."""
    where = tmp_path / "model"
    mlflow.pytorch.save_model(
        net,
        where,
        pip_requirements=[],
        signature=infer_signature(ROWS.numpy()),
        serialization_format="pickle",
    )
    refused = asker.run("serve", str(where), "--port", "0")
    assert 1 == refused.returncode
    assert "data/model.pth is a pickle" in refused.stderr
    assert "--allow-code" in refused.stderr
    asker.agree(
        str(where),
        [{"input": row} for row in ROWS.tolist()],
        {"prediction": asked(net, ROWS).numpy()},
        "--allow-code",
        tolerance=1e-4,
    )


@pytest.mark.parametrize("weights", ["model.safetensors", "state_dict.pt"])
def test_weights_with_the_class_that_takes_them(net: Any, tmp_path: Path, weights: str) -> None:
    """The class is imported from the user's path; columns of numbers make up one matrix."""
    reference = {"module": "nets_of_a_test:Net", "kwargs": {"classes": 3}, "inputs": matrix()}
    (tmp_path / "module.json").write_text(json.dumps(reference))
    save = save_file if weights.endswith("safetensors") else torch.save
    save(net.state_dict(), tmp_path / weights)
    assert "pytorch" == frameworks.by_names(("module.json", weights))
    artifact = Artifact(tmp_path, ("module.json", weights), {})
    assert [
        "module.json names 'nets_of_a_test:Net', which would be imported and called"
    ] == pytorch.code_in(artifact)
    assert matrix() == [
        {k: column[k] for k in ("type", "tensor-spec")}
        for column in pytorch.signature_of(artifact).dump()
    ]
    expected = asked(net, ROWS).numpy()
    found = loaded(tmp_path, matrix())({"input": objects(ROWS)})["prediction"]
    np.testing.assert_allclose(found, expected, 1e-6, 1e-6)
    scalars = [{"type": "double", "name": letter} for letter in "abcd"]
    columns = {letter: ROWS[:, i].double().numpy() for i, letter in enumerate("abcd")}
    found = loaded(tmp_path, scalars)(columns)["prediction"]
    np.testing.assert_allclose(found, expected, 1e-6, 1e-6)


def test_weights_are_never_unpickled(tmp_path: Path, net: Any) -> None:
    """Not even where the class may be imported."""
    canary = tmp_path / "canary"
    folder = tmp_path / "model"
    folder.mkdir()
    reference = {"module": "nets_of_a_test:Net", "kwargs": {"classes": 3}, "inputs": matrix()}
    (folder / "module.json").write_text(json.dumps(reference))
    torch.save({"first.weight": Payload(canary)}, folder / "state_dict.pt")
    with pytest.raises(CheckpointError, match="not weights of nets_of_a_test:Net"):
        loaded(folder, matrix())
    assert not canary.exists()


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ({"module": "no_such_package:Net"}, "no_such_package"),
        ({"module": "nets_of_a_test:Net", "kwargs": {"clases": 3}}, "clases"),
        ({"module": "nets_of_a_test:Net", "kwargs": {"classes": 4}}, "size mismatch"),
        ({"module": "json:JSONDecoder"}, "must make a Module"),
        ({"class": "Net"}, "takes an object with 'module'"),
    ],
)
def test_a_reference_that_does_not_fit(net: Any, tmp_path: Path, reference: Any, said: str) -> None:
    """The error says what was named and what is wrong with it."""
    (tmp_path / "module.json").write_text(json.dumps(reference))
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=said):
        loaded(tmp_path, matrix())


def test_inputs_that_the_module_does_not_take(net: Any, tmp_path: Path) -> None:
    """A row of zeros is tried when it is loaded."""
    reference = {"module": "nets_of_a_test:Net", "kwargs": {"classes": 3}}
    (tmp_path / "module.json").write_text(json.dumps(reference))
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"row of zeros.*signature"):
        loaded(tmp_path, matrix(5))


def test_torchscript_is_code(net: Any, tmp_path: Path) -> None:
    """Its operations can write files; where it is allowed, it answers as the module does."""
    torch.jit.script(Pair().eval()).save(tmp_path / "pair.torchscript")
    artifact = Artifact(tmp_path, ("pair.torchscript",), {})
    assert "TorchScript" in pytorch.code_in(artifact)[0]
    ids, scale = torch.randint(0, 10, (6, 5)), torch.rand(6, 1)
    inputs = [
        {"name": "ids", "type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1, 5]}},
        {"name": "scale", "type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 1]}},
    ]
    model = loaded(tmp_path, inputs)
    expected = asked(torch.jit.load(tmp_path / "pair.torchscript"), ids, scale)["found"]
    found = model({"ids": objects(ids), "scale": objects(scale)})["found"]
    np.testing.assert_allclose(found, expected, 1e-6, 1e-6)
