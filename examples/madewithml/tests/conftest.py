"""Tiny encoders and data, made on the spot: no test needs a download or the default encoder."""

import json
from pathlib import Path

import pytest

from madewithml.data import LabelledProject

WORDS = {
    "computer-vision": "image pixel camera object detection segmentation face photo video scene",
    "mlops": "deploy pipeline monitor serve version kubernetes container registry drift latency",
    "natural-language-processing": "text word sentence language translation token grammar speech",
    "other": "graph reward agent policy forecast audio theory recommend market molecule",
}
CONFIG = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random BERT with pooler; its tokenizer pads to a fixed length, as some do."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import AutoConfig, BertModel

    folder = tmp_path_factory.mktemp("encoder")
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,-!"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary += list(letters) + [f"##{letter}" for letter in letters]
    vocabulary += sorted({word for words in WORDS.values() for word in words.split()})
    (folder / "vocab.txt").write_text("\n".join(vocabulary), "utf-8")
    tokenizer = BertWordPieceTokenizer(str(folder / "vocab.txt"))
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = CONFIG | {"vocab_size": len(vocabulary)}
    torch.manual_seed(0)
    model = BertModel(AutoConfig.for_model(**config))
    model.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


@pytest.fixture(scope="session")
def checkpoint(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tagger with random weights."""
    from madewithml.model import ModelSpec, from_encoder, save
    from madewithml.tokens import load_tokenizer

    model, config = from_encoder(encoder, ModelSpec(classes=tuple(sorted(WORDS)), max_length=32))
    folder = tmp_path_factory.mktemp("tagger")
    save(folder, model, config, load_tokenizer(encoder).to_str())
    return folder


@pytest.fixture(scope="session")
def projects() -> list[LabelledProject]:
    """Twelve easy projects of each class, no two alike."""
    made = []
    for tag, words in WORDS.items():
        known = words.split()
        for i in range(12):
            title = " ".join(known[(i + j) % len(known)] for j in (0, 1, 3))
            description = " ".join(known[(i * j + 2) % len(known)] for j in (1, 3, 5, 7))
            made.append(
                LabelledProject(str(len(made)), "2026-01-01 00:00:00", title, description, tag)
            )
    return made


@pytest.fixture(scope="session")
def dataset(projects: list[LabelledProject], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same projects as a CSV."""
    import csv

    file = tmp_path_factory.mktemp("data") / "projects.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["id", "created_on", "title", "description", "tag"])
        writer.writerows([p.id, p.created_on, p.title, p.description, p.tag] for p in projects)
    return file


@pytest.fixture(scope="session")
def trained(
    dataset: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A store with two short runs, and what training said on stdout."""
    import contextlib
    import io

    from madewithml import train

    folder = tmp_path_factory.mktemp("store")
    arguments = ["--dataset", str(dataset), "--encoder", str(encoder), "--epochs", "1"]
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        patch.setenv("SALVER_CACHE_DIR", str(folder / "cache"))
        assert train.main([*arguments, "--recipes", "mean", "cls"]) == 0
    return folder, out.getvalue()


@pytest.fixture
def store(trained: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of that store, which everything asks while the test runs."""
    folder = trained[0]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    monkeypatch.setenv("SALVER_CACHE_DIR", str(folder / "cache"))
    return folder
