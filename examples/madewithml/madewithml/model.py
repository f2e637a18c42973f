"""The classifier: a BERT-type encoder, pooling, dropout, one linear layer. Needs torch.

Knows where its own four files are in a folder, and nothing of MLflow, datasets or serving.
Nothing that it loads is unpickled: weights are safetensors.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from madewithml.text import PREPROCESSING
from madewithml.tokens import TextTokenizer

POOLINGS = ("mean", "cls", "pooler")
SPEC_FILE = "tagger.json"
CONFIG_FILE = "encoder.json"
TOKENIZER_FILE = "tokenizer.json"
WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed beside weights, encoder configuration and tokenizer to use a model.

    Attributes:
        classes: class names, in the order of the model's outputs.
        pooling: "mean" over the tokens, "cls" (the first token), or the encoder's own "pooler".
        preprocessing: "none" or "clean_text".
        max_length: longest input in tokens, special tokens included.
    """

    classes: tuple[str, ...]
    pooling: str = "mean"
    dropout: float = 0.1
    preprocessing: str = "none"
    max_length: int = 128

    def __post_init__(self) -> None:
        for name, value, known in (
            ("pooling", self.pooling, POOLINGS),
            ("preprocessing", self.preprocessing, PREPROCESSING),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}: choose one of {', '.join(known)}")
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes are {self.classes}: wanted two or more different names")


class Output(NamedTuple):
    """What a model says to n texts.

    Attributes:
        logits: float32 of shape (n, k).
        hidden_states: float32 of shape (n, 2, d): mean over the tokens of the encoder's middle and
            last layer, which tell texts that are like those of training from others.
    """

    logits: Any
    hidden_states: Any


class TextClassifier(nn.Module):
    """encoder -> pooling -> dropout -> linear."""

    def __init__(self, encoder: nn.Module, hidden_size: int, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = encoder
        self.dropout = nn.Dropout(spec.dropout)
        self.head = nn.Linear(hidden_size, len(spec.classes))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> Output:
        """Tensors from token ids and mask, int64 of shape (n, length)."""
        output = self.encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        weights = mask.unsqueeze(-1).to(output.last_hidden_state.dtype)
        weights = weights / weights.sum(1, keepdim=True)
        layers = output.hidden_states  # the embeddings first
        middle, last = ((one * weights).sum(1) for one in (layers[len(layers) // 2], layers[-1]))
        pooled = last
        if self.spec.pooling == "pooler":
            pooled = output.pooler_output
        elif self.spec.pooling == "cls":
            pooled = output.last_hidden_state[:, 0]
        return Output(self.head(self.dropout(pooled)), torch.stack([middle, last], dim=1))


def device() -> torch.device:
    """The first GPU that this process may see, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build(config: dict[str, Any], spec: ModelSpec) -> TextClassifier:
    """A model with untrained weights, from an encoder's configuration (its `config.json`)."""
    from transformers import AutoConfig, AutoModel

    settings = dict(config)
    encoder_config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    # A pooler that nothing reads would be dead weight in memory and in the checkpoint.
    options = {"add_pooling_layer": False} if spec.pooling != "pooler" else {}
    encoder = AutoModel.from_config(encoder_config, **options)
    return TextClassifier(encoder, encoder_config.hidden_size, spec)


def from_encoder(folder: Path, spec: ModelSpec) -> tuple[TextClassifier, dict[str, Any]]:
    """A model on a pretrained encoder, its linear layer new; and the encoder's configuration."""
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # it reports at length that a pooler nobody reads was left out
    options = {"add_pooling_layer": False} if spec.pooling != "pooler" else {}
    encoder = AutoModel.from_pretrained(folder, use_safetensors=True, **options)
    model = TextClassifier(encoder, encoder.config.hidden_size, spec)
    return model, json.loads((folder / "config.json").read_text("utf-8"))


def save(folder: Path, model: TextClassifier, config: dict[str, Any], tokenizer_json: str) -> None:
    """Write the model's four files into a folder, which is made if it is missing."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    save_file(state, folder / WEIGHTS_FILE)
    (folder / SPEC_FILE).write_text(json.dumps(asdict(model.spec), indent=2), "utf-8")
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2), "utf-8")
    (folder / TOKENIZER_FILE).write_text(tokenizer_json, "utf-8")


def load(folder: str | os.PathLike[str]) -> tuple[TextClassifier, TextTokenizer]:
    """A saved model in evaluation mode, on this process's device, and its tokenizer.

    Raises:
        FileNotFoundError: one of the four files is missing.
        ValueError: the files do not fit each other.
    """
    from safetensors.torch import load_file

    path = Path(os.fspath(folder))
    spec_values = json.loads((path / SPEC_FILE).read_text("utf-8"))
    spec = ModelSpec(**(spec_values | {"classes": tuple(spec_values["classes"])}))
    model = build(json.loads((path / CONFIG_FILE).read_text("utf-8")), spec)
    load_weights(model, load_file(path / WEIGHTS_FILE))
    tokenizer = TextTokenizer((path / TOKENIZER_FILE).read_text("utf-8"), spec.max_length)
    return model.to(device()).eval(), tokenizer


def load_weights(model: TextClassifier, state: dict[str, torch.Tensor]) -> None:
    """Put named tensors into the model; every one must fit and none may be missing.

    Raises:
        ValueError: the names or shapes differ from what the model wants.
    """
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"the weights do not fit the encoder's configuration and the classes: {reason}"
        ) from error


def batches(lengths: Sequence[int] | np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Indices in batches of texts of similar length: little padding, so little lost work."""
    order = np.argsort(np.asarray(lengths), kind="stable")
    for start in range(0, len(order), size):
        yield order[start : start + size]


@torch.inference_mode()
def predict(
    model: TextClassifier,
    tokenizer: TextTokenizer,
    encodings: Sequence[Sequence[int]],
    batch_size: int = 8,
) -> Output:
    """What a model says to encoded texts, as arrays in the order given."""
    n = len(encodings)
    logits = np.zeros((n, len(model.spec.classes)), dtype=np.float32)
    hidden = np.zeros((n, 2, model.encoder.config.hidden_size), dtype=np.float32)
    where = next(model.parameters()).device
    for chosen in batches([len(encoding) for encoding in encodings], batch_size):
        ids, mask = tokenizer.pad([encodings[i] for i in chosen])
        output = model(torch.from_numpy(ids).to(where), torch.from_numpy(mask).to(where))
        logits[chosen] = output.logits.float().cpu().numpy()
        hidden[chosen] = output.hidden_states.float().cpu().numpy()
    return Output(logits, hidden)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, float32 of the same shape (n, k)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: np.ndarray = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities.astype(np.float32)
