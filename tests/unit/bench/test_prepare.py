"""Artifacts are made once, and anew when what they are made from changes."""

import json
from pathlib import Path

import numpy as np
import pytest

from bench import prepare


@pytest.fixture
def artifacts(tmp_path, monkeypatch):
    """An empty folder of artifacts, and no checkpoint named."""
    for name, path in (("ARTIFACTS", ""), ("ROWS_FILE", "rows.json"), ("CHECKPOINT", "checkpoint")):
        monkeypatch.setattr(prepare, name, tmp_path / path)
    monkeypatch.delenv(prepare.CHECKPOINT_VARIABLE, raising=False)
    return tmp_path


@pytest.fixture
def made(monkeypatch):
    """Which models were exported, instead of exporting them."""
    exported = []

    def run(arguments, variables=None):
        _, _, model, folder, *_ = arguments
        exported.append(model)
        np.save(Path(folder) / "reference.npy", np.full((100, 4), 0.25))
        return ""

    monkeypatch.setattr(prepare, "_run", run)
    return exported


def checkpoint(folder, content):
    """A folder that passes for a checkpoint."""
    folder.mkdir()
    (folder / "manifest.json").write_text(content)
    return folder


def test_the_rows_are_all_projects_of_the_example_mixed_and_always_the_same(artifacts):
    """Varied texts, in one order, also as a file."""
    rows = prepare.rows()
    assert len(rows) > 1400
    assert len({row["description"] for row in rows}) > 1200
    assert rows == prepare.rows() == json.loads((artifacts / "rows.json").read_text())


def test_a_model_is_made_once(artifacts, made):
    """The second time its files are there."""
    assert prepare.folder("constant") == prepare.folder("constant") == artifacts / "constant"
    assert made == ["constant"]


def test_a_model_is_made_anew_when_its_recipe_changes(artifacts, made):
    """Files made by another export are not used."""
    file = prepare.folder("constant") / "recipe.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"export": "older"}))
    prepare.folder("constant")
    assert made == ["constant", "constant"]


def test_a_checkpoint_that_was_named_once_is_kept(artifacts, made, monkeypatch):
    """Without the variable nothing is trained as long as there is a checkpoint; another replaces it."""
    one = checkpoint(artifacts / "one", "1")
    monkeypatch.setenv(prepare.CHECKPOINT_VARIABLE, str(one))
    prepare.folder("minilm")
    monkeypatch.delenv(prepare.CHECKPOINT_VARIABLE)
    prepare.folder("minilm")
    assert made == ["minilm"]
    monkeypatch.setenv(prepare.CHECKPOINT_VARIABLE, str(checkpoint(artifacts / "two", "2")))
    prepare.folder("minilm")
    assert made == ["minilm", "minilm"]


def test_a_folder_that_is_no_checkpoint_is_refused(artifacts, made, monkeypatch):
    """The error says what was given and what to do."""
    monkeypatch.setenv(prepare.CHECKPOINT_VARIABLE, str(artifacts / "nothing"))
    with pytest.raises(prepare.PreparationFailed, match=r"nothing.*no manifest\.json.*unset"):
        prepare.folder("minilm")


def test_an_export_that_fails_leaves_nothing_behind(artifacts, monkeypatch):
    """What is half made is never taken for made."""

    def run(arguments, variables=None):
        raise prepare.PreparationFailed("no")

    monkeypatch.setattr(prepare, "_run", run)
    with pytest.raises(prepare.PreparationFailed):
        prepare.folder("constant")
    assert {path.name for path in artifacts.iterdir()} == {"rows.json", "constant.lock"}


def test_an_unknown_model_is_refused(artifacts):
    """The error names the models."""
    with pytest.raises(prepare.PreparationFailed, match="choose one of constant, minilm"):
        prepare.folder("gpt")


def test_expected_answers_are_a_sample_of_the_reference(artifacts, made):
    """Each is a request row with its four probabilities."""
    expected = prepare.expected("constant")
    assert len(expected) == prepare.EXPECTED_ROWS
    assert expected[5] == {"row": prepare.rows()[5], "probabilities": [0.25] * 4}


def test_without_a_checkpoint_the_example_is_trained_once(artifacts, monkeypatch):
    """Into a store of its own; its best run is exported, and kept."""
    commands = []

    def run(arguments, variables=None):
        commands.append(arguments[1])
        if arguments[1] == "madewithml.train":
            store = Path(variables["SALVER_TRACKING_URI"].removeprefix("sqlite:///")).parent
            made = store / "mlartifacts" / "madewithml" / "7" / "artifacts"
            made.mkdir(parents=True)
            checkpoint(made / "checkpoint", "trained")
            return 'progress\n{"run_id": "7"}\n'
        assert (Path(arguments[-1]) / "manifest.json").read_text() == "trained"
        return ""

    monkeypatch.setattr(prepare, "_run", run)
    prepare.folder("minilm")
    prepare.folder("minilm")
    assert commands == ["madewithml.train", "bench.export"]
