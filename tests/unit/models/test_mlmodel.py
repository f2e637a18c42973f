"""MLmodel files are text: what they say is read, and nothing that they name is touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from salver.errors import CheckpointError
from salver.models.mlmodel import EXAMPLE, example_rows, read_mlmodel
from salver.models.signature import Column, Signature, scalar

NUMBERS = Signature((Column("x", scalar("float64")), Column("y", scalar("int64"))))
LONE = Signature((Column("input", scalar("str")),))


def written(folder: Path, text: str) -> Path:
    (folder / "MLmodel").write_text(text)
    return folder


def test_flavors_and_inputs_are_read(tmp_path: Path) -> None:
    """As MLflow writes them."""
    text = """
flavors:
  onnx: {data: model.onnx}
signature: {inputs: '[{"type": "float", "name": "a", "required": true}]', outputs: null}
"""
    found = read_mlmodel(written(tmp_path, text), "here")
    assert {"onnx": {"data": "model.onnx"}} == found.flavors
    assert found.inputs == Signature((Column("a", {"type": "float"}),))


def test_a_model_without_a_signature_has_no_inputs(tmp_path: Path) -> None:
    """So that its framework may be asked."""
    assert read_mlmodel(written(tmp_path, "flavors: {onnx: {}}"), "here").inputs is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("flavors: {", "not valid YAML"),
        ("flavors: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("[1, 2]", "lists no flavors"),
        ("flavors: {onnx: 3}", "lists no flavors"),
        ("flavors: {onnx: {}}\nsignature: {inputs: '[{'}", "signature of here is not valid JSON"),
        ("flavors: {onnx: {}}\nsignature: {inputs: '[]'}", "names no inputs"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str, says: str) -> None:
    """With what is wrong; a tag of YAML that would call something is not even read."""
    with pytest.raises(CheckpointError, match=says):
        read_mlmodel(written(tmp_path, text), "here")


@pytest.mark.parametrize(
    ("content", "signature", "expected"),
    [
        (
            {"dataframe_split": {"columns": ["x", "y"], "data": [[1, 2], [3, 4]]}},
            NUMBERS,
            [{"x": 1, "y": 2}],
        ),
        ({"inputs": {"x": [1, 2], "y": [3, 4]}}, NUMBERS, [{"x": 1, "y": 3}]),
        ({"inputs": [{"x": 1, "y": 3}]}, NUMBERS, [{"x": 1, "y": 3}]),
        ({"inputs": ["a", "b"]}, LONE, [{"input": "a"}]),
        ({"inputs": []}, LONE, []),
        ({"something": "else"}, LONE, []),
        ([1], LONE, []),
    ],
)
def test_the_first_row_of_an_example_is_taken(
    tmp_path: Path, content: Any, signature: Signature, expected: list[Any]
) -> None:
    """In each of the forms that MLflow writes; what is no example is none."""
    (tmp_path / EXAMPLE).write_text(json.dumps(content))
    assert expected == example_rows(tmp_path, (EXAMPLE,), signature)


def test_without_an_example_there_is_none(tmp_path: Path) -> None:
    """Its file need not be there."""
    assert [] == example_rows(tmp_path, (), NUMBERS)
