"""The models that every system serves, in the same code.

Runs in any rival's environment: needs numpy and what the one model needs (onnxruntime and
tokenizers; scikit-learn and joblib; nothing for `constant`), imported when a model is loaded. It
does not know who calls it, nor how many processes or threads the caller has: one call is one
forward pass over the rows given.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

CLASSES = ("computer-vision", "mlops", "natural-language-processing", "other")
CONSTANT_ROW = (0.1, 0.2, 0.3, 0.4)

MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"
SETTINGS_FILE = "settings.json"
SKLEARN_FILE = "model.joblib"


class Predictor(Protocol):
    """A loaded model."""

    def __call__(self, titles: Sequence[str], descriptions: Sequence[str]) -> np.ndarray:
        """Probabilities of n rows, float of shape (n, 4), columns in the order of `CLASSES`."""


def load(model: str, folder: str | os.PathLike[str], threads: int) -> Predictor:
    """Loads a model from the folder that `bench.prepare` made for it.

    Args:
        model: `constant`, `minilm`, `bert-base` or `sklearn`.
        folder: its artifacts; not read for `constant`.
        threads: math threads of one forward pass.

    Raises:
        ValueError: The model is not one of the four.
    """
    if model == "constant":
        return Constant()
    if model in ("minilm", "bert-base"):
        return Transformer(Path(folder), threads)
    if model == "sklearn":
        return Sklearn(Path(folder), threads)
    raise ValueError(f"model {model!r} is not known: choose constant, minilm, bert-base or sklearn")


def from_environment() -> Predictor:
    """The model that the harness asks a server for: BENCH_MODEL, BENCH_FOLDER, BENCH_THREADS."""
    names = ("BENCH_MODEL", "BENCH_FOLDER", "BENCH_THREADS")
    if missing := [name for name in names if name not in os.environ]:
        raise RuntimeError(
            f"{', '.join(missing)} not set: start this server through `python -m bench`, or give it "
            "a model, its folder under bench/.artifacts and a number of threads"
        )
    model, folder, threads = (os.environ[name] for name in names)
    return load(model, folder, int(threads))


def answer(probabilities: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """The answer to one row, the same in every system.

    Args:
        probabilities: of one row, in the order of `CLASSES`.
    """
    values = list(map(float, probabilities))
    return {
        "prediction": CLASSES[values.index(max(values))],
        "probabilities": dict(zip(CLASSES, values, strict=True)),
    }


class Constant:
    """No model: what it takes to serve this is the server's own cost."""

    def __init__(self) -> None:
        self._rows = np.tile(np.array(CONSTANT_ROW), (1024, 1))

    def __call__(self, titles: Sequence[str], descriptions: Sequence[str]) -> np.ndarray:
        rows = len(titles)
        # A view: no work however many rows there are.
        return self._rows[:rows] if rows <= 1024 else np.broadcast_to(self._rows[0], (rows, 4))


class Transformer:
    """Tokenizer and ONNX model; `encode` and `forward` are its two halves, for bare loops."""

    def __init__(self, folder: Path, threads: int) -> None:
        # One row is encoded in 0.05 ms: a second thread pool would only fight the model's own.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        import onnxruntime
        from tokenizers import Tokenizer

        settings = json.loads((folder / SETTINGS_FILE).read_text("utf-8"))
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
        # The file of a sentence encoder may pad every text to a fixed length.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length=settings["max_length"])
        self._padding_id: int = settings["padding_id"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Idle threads that spin take the cores from the server and from other workers.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(folder / MODEL_FILE), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, titles: Sequence[str], descriptions: Sequence[str]) -> np.ndarray:
        return self.forward(self.encode(titles, descriptions))

    def encode(self, titles: Sequence[str], descriptions: Sequence[str]) -> list[list[int]]:
        """Token ids of each row."""
        texts = [f"{t} {d}" for t, d in zip(titles, descriptions, strict=True)]
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]

    def forward(self, encodings: Sequence[Sequence[int]]) -> np.ndarray:
        """Probabilities of encoded rows, padded to the longest of them: float32 of shape (n, 4)."""
        longest = max(map(len, encodings))
        ids = np.full((len(encodings), longest), self._padding_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding)] = encoding
            mask[row, : len(encoding)] = 1
        probabilities: np.ndarray = self._session.run(
            ["probabilities"], {"input_ids": ids, "attention_mask": mask}
        )[0]
        return probabilities


class Sklearn:
    """TF-IDF and logistic regression: mostly Python, so it holds the GIL."""

    def __init__(self, folder: Path, threads: int) -> None:
        import joblib
        from threadpoolctl import threadpool_limits

        self._pipeline = joblib.load(folder / SKLEARN_FILE)
        threadpool_limits(threads)

    def __call__(self, titles: Sequence[str], descriptions: Sequence[str]) -> np.ndarray:
        texts = [f"{t} {d}" for t, d in zip(titles, descriptions, strict=True)]
        probabilities: np.ndarray = self._pipeline.predict_proba(texts)
        return probabilities
