# ruff: noqa: T201 (its progress goes to the terminal)
"""Makes the files that `bench.predictors` loads, and the reference answers that go with them.

    python -m bench.export MODEL FOLDER ROWS_FILE CHECKPOINT

Needs torch and the example, so `bench.prepare` runs it as a process of its own. It does not know
where artifacts are kept, nor when they are out of date.
"""

import json
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench import predictors

if TYPE_CHECKING:
    import torch

    from madewithml.model import TextClassifier
    from madewithml.tokens import TextTokenizer

Row = dict[str, str]

REFERENCE_FILE = "reference.npy"
TOLERANCE = 1e-5  # between torch and ONNX Runtime, absolute on probabilities
OPSET = 17
SEED = 20
# Enough to tell one row's answer from another's; bert-base takes a tenth of a second for each.
BERT_BASE_ROWS = 64


class ExportFailed(Exception):
    """A model could not be made; the message says why."""


def make(model: str, folder: Path, rows: Sequence[Row], checkpoint: Path) -> None:
    """Writes a model's files, and `reference.npy`: probabilities of the first rows.

    Args:
        model: which.
        folder: an empty folder.
        rows: what is asked of it, in the order of the reference.
        checkpoint: a folder that `madewithml.train` wrote; read for `minilm` only.

    Raises:
        ExportFailed: If the model or its export is not what the benchmark wants.
    """
    if model == "constant":
        reference = np.tile(np.array(predictors.CONSTANT_ROW), (len(rows), 1))
    elif model == "sklearn":
        reference = _make_sklearn(folder, rows)
    elif model == "bert-base":
        reference = _make_bert_base(folder, rows[:BERT_BASE_ROWS])
    else:
        reference = _make_minilm(folder, rows, checkpoint)
    np.save(folder / REFERENCE_FILE, reference)


def _make_sklearn(folder: Path, rows: Sequence[Row]) -> np.ndarray:
    import joblib
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from madewithml.data import TRAIN_FILE, read_projects

    projects = read_projects(TRAIN_FILE)
    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10, max_iter=1000)
    )
    pipeline.fit([f"{p.title} {p.description}" for p in projects], [p.tag for p in projects])
    if tuple(pipeline.classes_) != predictors.CLASSES:
        raise ExportFailed(f"the classes are {pipeline.classes_}, wanted {predictors.CLASSES}")
    joblib.dump(pipeline, folder / predictors.SKLEARN_FILE)
    reference: np.ndarray = pipeline.predict_proba([_text(row) for row in rows])
    _check(predictors.load("sklearn", folder, 1), rows, reference)
    return reference


def _make_minilm(folder: Path, rows: Sequence[Row], checkpoint: Path) -> np.ndarray:
    from madewithml.model import load

    model, tokenizer = load(checkpoint)
    spec = model.spec
    if spec.preprocessing != "none" or tuple(spec.classes) != predictors.CLASSES:
        raise ExportFailed(
            f"{checkpoint} has preprocessing {spec.preprocessing!r} and the classes "
            f"{spec.classes}; wanted 'none' and {predictors.CLASSES}"
        )
    shutil.copy(checkpoint / "tokenizer.json", folder / predictors.TOKENIZER_FILE)
    return _export("minilm", model.cpu(), tokenizer, folder, rows)


def _make_bert_base(folder: Path, rows: Sequence[Row]) -> np.ndarray:
    """The shape of bert-base-uncased: what it answers means nothing, its cost is the real one."""
    import torch

    from madewithml.locations import encoder_folder
    from madewithml.model import ModelSpec, build
    from madewithml.tokens import TextTokenizer, load_tokenizer

    torch.manual_seed(SEED)
    # The defaults of transformers' BertConfig: 12 layers of 768, 12 heads, 30,522 words.
    model = build({"model_type": "bert"}, ModelSpec(predictors.CLASSES))
    definition = load_tokenizer(encoder_folder()).to_str()
    (folder / predictors.TOKENIZER_FILE).write_text(definition, "utf-8")
    tokenizer = TextTokenizer(definition, model.spec.max_length)
    # An untrained head gives every row nearly the same answer, and a server that mixes rows up
    # would pass for right: wide weights, and a bias that leaves no class the favourite.
    torch.nn.init.normal_(model.head.weight, std=0.5)
    with torch.inference_mode():
        logits = torch.cat([model.eval()(*_inputs(tokenizer, [row])) for row in rows[::4]])
        model.head.bias -= logits.mean(dim=0)
    return _export("bert-base", model, tokenizer, folder, rows)


def _export(
    name: str,
    model: "TextClassifier",
    tokenizer: "TextTokenizer",
    folder: Path,
    rows: Sequence[Row],
) -> np.ndarray:
    """Writes ONNX fp32 and its settings; returns what torch answers."""
    import torch

    from madewithml.model import predict, softmax

    encodings = tokenizer.encode([_text(row) for row in rows])
    reference: np.ndarray = softmax(predict(model, tokenizer, encodings).logits)
    with torch.inference_mode():
        _write_onnx(model, _inputs(tokenizer, rows[:2]), folder / predictors.MODEL_FILE)
    settings = {"max_length": tokenizer.max_length, "padding_id": tokenizer.pad_id}
    (folder / predictors.SETTINGS_FILE).write_text(json.dumps(settings), "utf-8")
    _check(predictors.load(name, folder, 1), rows, reference)
    return reference


def _inputs(
    tokenizer: "TextTokenizer", rows: Sequence[Row]
) -> tuple["torch.Tensor", "torch.Tensor"]:
    import torch

    ids, mask = tokenizer.pad(tokenizer.encode([_text(row) for row in rows]))
    return torch.from_numpy(ids), torch.from_numpy(mask)


def _write_onnx(model: "TextClassifier", example: tuple["torch.Tensor", ...], file: Path) -> None:
    import torch

    class Probabilities(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return torch.softmax(self.model(ids, mask).logits, dim=-1)

    # Attention spelled out in the graph, for ONNX Runtime to fuse as it sees fit.
    model.encoder.config._attn_implementation = "eager"
    free = {0: "rows", 1: "length"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, about itself and the constants it folds
        torch.onnx.export(
            Probabilities().eval(),
            example,
            str(file),
            dynamo=False,
            opset_version=OPSET,
            input_names=["input_ids", "attention_mask"],
            output_names=["probabilities"],
            dynamic_axes={
                "input_ids": free,
                "attention_mask": free,
                "probabilities": {0: "rows"},
            },
        )


def _check(predict: predictors.Predictor, rows: Sequence[Row], reference: np.ndarray) -> None:
    """Holds the exported model against the reference, single rows and mixed batches."""
    for size, sample in ((1, range(0, len(rows), 30)), (7, range(min(len(rows), 70)))):
        chosen = list(sample)
        given = np.concatenate(
            [
                _ask(predict, [rows[i] for i in chosen[at : at + size]])
                for at in range(0, len(chosen), size)
            ]
        )
        off = float(np.abs(given - reference[chosen]).max())
        print(f"{len(chosen)} rows in batches of {size}: off by {off:.1e}", file=sys.stderr)
        if not off <= TOLERANCE:  # NaN is wrong too
            raise ExportFailed(
                f"the exported model is off by {off:.1e} in batches of {size}, wanted at most "
                f"{TOLERANCE:.0e}"
            )


def _ask(predict: predictors.Predictor, rows: Sequence[Row]) -> np.ndarray:
    return predict([row["title"] for row in rows], [row["description"] for row in rows])


def _text(row: Row) -> str:
    return f"{row['title']} {row['description']}"


if __name__ == "__main__":
    name, folder_, rows_file, checkpoint_ = sys.argv[1:]
    try:
        make(name, Path(folder_), json.loads(Path(rows_file).read_text()), Path(checkpoint_))
    except ExportFailed as error:
        sys.exit(f"error: {error}")
