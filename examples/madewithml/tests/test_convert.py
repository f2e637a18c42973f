import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from madewithml.convert import ConversionError, convert, main
from madewithml.tagger import Tagger
from madewithml.tokens import load_tokenizer
from salver import Checkpoint
from salver.errors import CheckpointCorrupt

CLASSES = {"computer-vision": 1, "mlops": 3, "natural-language-processing": 0, "other": 2}
TEXT = ("Image camera", "object detection")
CLEANED = "image camera object detection"


@pytest.fixture
def lesson(encoder: Path, tmp_path: Path) -> tuple[Path, Any]:
    """A folder as the lesson's trainer leaves it, and its logits computed by hand."""
    import torch
    from transformers import BertModel

    torch.manual_seed(1)
    llm = BertModel.from_pretrained(encoder).eval()
    fc1 = torch.nn.Linear(32, 4)
    folder = tmp_path / "lesson"
    folder.mkdir()
    state = {f"llm.{name}": tensor for name, tensor in llm.state_dict().items()}
    state |= {f"fc1.{name}": tensor for name, tensor in fc1.state_dict().items()}
    state["llm.embeddings.position_ids"] = torch.arange(128).unsqueeze(0)
    torch.save(state, folder / "model.pt")
    arguments = {"dropout_p": 0.5, "embedding_dim": 32, "num_classes": 4}
    (folder / "args.json").write_text(json.dumps(arguments))
    (folder / ".metadata.json").write_text(json.dumps({"class_to_index": CLASSES}))
    tokenizer = load_tokenizer(encoder)
    tokenizer.no_padding()
    ids = torch.tensor([tokenizer.encode(CLEANED).ids])
    with torch.no_grad():
        pooled = llm(input_ids=ids, attention_mask=torch.ones_like(ids)).pooler_output
        probabilities = torch.softmax(fc1(pooled), dim=1)
    return folder, probabilities.numpy()


def test_the_lessons_layout_gives_the_same_probabilities(
    lesson: tuple[Path, Any], encoder: Path, tmp_path: Path
) -> None:
    """A converted checkpoint answers what encoder, pooler and layer give by hand, cleaned first."""
    folder, expected = lesson
    made = convert(folder, encoder, tmp_path / "out")
    tagger = Tagger(Checkpoint.open(tmp_path / "out"))
    assert tagger.classes_ == made.classes == sorted(CLASSES, key=CLASSES.__getitem__)
    rows = {"title": np.array([TEXT[0]], object), "description": np.array([TEXT[1]], object)}
    assert tagger(rows)["probabilities"] == pytest.approx(expected, abs=1e-6)
    assert made.metadata["preprocessing"] == "clean_text"


def test_the_command_writes_a_checkpoint(
    lesson: tuple[Path, Any], encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints the digest, and refuses an output that exists."""
    arguments = [str(lesson[0]), "--encoder", str(encoder), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["digest"] == Checkpoint.open(tmp_path / "out").digest
    assert main(arguments) == 1
    assert "exists: give a new folder" in capsys.readouterr().err


def test_a_state_dict_that_would_run_code_is_refused(
    lesson: tuple[Path, Any], encoder: Path, tmp_path: Path
) -> None:
    """A pickle with anything but tensors in it is not loaded, and nothing of it is run."""
    import torch

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"llm.x": Evil()}, lesson[0] / "model.pt")
    with pytest.raises(ConversionError, match="holds more than tensors"):
        convert(lesson[0], encoder, tmp_path / "out")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("args.json", {"dropout_p": 0.5, "num_classes": 4}, "lacks embedding_dim"),
        (
            "args.json",
            {"dropout_p": 0.5, "embedding_dim": 768, "num_classes": 4},
            "embedding_dim = 768",
        ),
        (".metadata.json", {"class_to_index": {"a": 0, "b": 2}}, "each of 0 to k - 1 once"),
        (".metadata.json", {"class_to_index": {"a": 0, "b": 1}}, "num_classes = 4"),
    ],
)
def test_files_that_contradict_each_other_are_refused(
    lesson: tuple[Path, Any], encoder: Path, tmp_path: Path, file: str, content: Any, said: str
) -> None:
    """What does not belong together is named before any weight is read."""
    (lesson[0] / file).write_text(json.dumps(content))
    with pytest.raises(ConversionError, match=said):
        convert(lesson[0], encoder, tmp_path / "out")


def test_weights_of_another_shape_are_refused(
    lesson: tuple[Path, Any], encoder: Path, tmp_path: Path
) -> None:
    """A missing tensor or one of another model is an error that names it."""
    import torch

    state = torch.load(lesson[0] / "model.pt", weights_only=True)
    del state["fc1.bias"]
    torch.save(state, lesson[0] / "model.pt")
    with pytest.raises(ValueError, match=r"do not fit.*head\.bias"):
        convert(lesson[0], encoder, tmp_path / "out")


def test_a_flipped_byte_is_noticed(lesson: tuple[Path, Any], encoder: Path, tmp_path: Path) -> None:
    """A converted checkpoint with one changed byte does not open."""
    convert(lesson[0], encoder, tmp_path / "out")
    weights = tmp_path / "out" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointCorrupt):
        Checkpoint.open(tmp_path / "out")
