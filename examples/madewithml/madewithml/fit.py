"""Fine-tuning: the training loop and its settings. Needs torch.

Knows nothing of files or MLflow: it takes encoded texts and reports each epoch to a callback.
"""

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from madewithml.metrics import report
from madewithml.model import TextClassifier, batches, predict_logits
from madewithml.tokens import TextTokenizer


@dataclass(frozen=True)
class Settings:
    """What one run may vary. Learning rates are for AdamW.

    Attributes:
        label_smoothing: share of the target spread evenly over all classes.
        patience: epochs without a lower validation loss after which training stops.
    """

    pooling: str = "mean"
    preprocessing: str = "none"
    encoder_lr: float = 1e-4
    head_lr: float = 2e-3
    weight_decay: float = 0.01
    dropout: float = 0.1
    label_smoothing: float = 0.0
    batch_size: int = 16
    epochs: int = 4
    patience: int = 2
    warm_up: float = 0.1
    clip_norm: float = 1.0
    max_length: int = 128
    seed: int = 1234


@dataclass(frozen=True)
class Encoded:
    """Texts as token ids, with the index of each one's class."""

    encodings: list[list[int]]
    labels: np.ndarray


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave. Losses are plain cross-entropy, comparable between settings."""

    number: int
    train_loss: float
    val_loss: float
    val_f1: float
    val_macro_f1: float


def seed_everything(seed: int) -> None:
    """Fix every generator that training draws from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def class_weights(labels: np.ndarray, classes: int) -> torch.Tensor:
    """Square root of the inverse class frequency, mean 1: rare classes count more, mildly."""
    counts = np.bincount(labels, minlength=classes)
    weights = np.sqrt(len(labels) / np.maximum(counts, 1))
    return torch.tensor(weights / weights.mean(), dtype=torch.float32)


def _shuffled_batches(
    lengths: Sequence[int], size: int, generator: np.random.Generator
) -> list[np.ndarray]:
    """Batches of similar length whose members and order change from epoch to epoch."""
    jittered = np.asarray(lengths) * generator.uniform(0.85, 1.15, len(lengths))
    return [chosen for _, chosen in sorted(
        zip(generator.permutation(-(-len(lengths) // size)), batches(jittered, size), strict=True),
        key=lambda pair: pair[0],
    )]


def evaluate(
    model: TextClassifier, tokenizer: TextTokenizer, data: Encoded
) -> tuple[float, dict[str, float]]:
    """Cross-entropy and overall metrics on encoded data, in evaluation mode."""
    model.eval()
    logits = predict_logits(model, tokenizer, data.encodings)
    loss = functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(data.labels))
    classes = model.spec.classes
    overall = report(
        [classes[i] for i in data.labels], [classes[i] for i in logits.argmax(1)], classes
    )["overall"]
    return float(loss), overall


def fit(
    model: TextClassifier,
    tokenizer: TextTokenizer,
    train: Encoded,
    validation: Encoded,
    settings: Settings,
    on_epoch: Callable[[Epoch], None],
) -> Epoch:
    """Fine-tune all weights; the model ends with those of the epoch of least validation loss.

    AdamW with warm-up then linear decay, gradient clipping, class weights, batches of similar
    length, early stopping.

    Returns:
        The epoch whose weights were kept.
    """
    generator = np.random.default_rng(settings.seed)
    where = next(model.parameters()).device
    weights = class_weights(train.labels, len(model.spec.classes)).to(where)
    steps = -(-len(train.labels) // settings.batch_size) * settings.epochs
    warm_up = max(1, round(settings.warm_up * steps))
    optimiser = torch.optim.AdamW(
        [
            {"params": model.encoder.parameters(), "lr": settings.encoder_lr},
            {"params": model.head.parameters(), "lr": settings.head_lr},
        ],
        weight_decay=settings.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min((step + 1) / warm_up, (steps - step) / max(1, steps - warm_up)),
    )
    best: Epoch | None = None
    best_state: dict[str, torch.Tensor] = {}
    lengths = [len(encoding) for encoding in train.encodings]
    for number in range(1, settings.epochs + 1):
        model.train()
        total = 0.0
        for chosen in _shuffled_batches(lengths, settings.batch_size, generator):
            ids, mask = tokenizer.pad([train.encodings[i] for i in chosen])
            labels = torch.from_numpy(train.labels[chosen]).to(where)
            logits = model(torch.from_numpy(ids).to(where), torch.from_numpy(mask).to(where))
            loss = functional.cross_entropy(
                logits, labels, weight=weights, label_smoothing=settings.label_smoothing
            )
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                total += float(functional.cross_entropy(logits, labels)) * len(chosen)
        val_loss, overall = evaluate(model, tokenizer, validation)
        epoch = Epoch(
            number, total / len(lengths), val_loss, overall["f1"], overall["macro_f1"]
        )
        on_epoch(epoch)
        if best is None or epoch.val_loss < best.val_loss:
            best, best_state = epoch, copy.deepcopy(model.state_dict())
        elif epoch.number - best.number >= settings.patience:
            break
    assert best is not None  # settings.epochs is at least 1
    model.load_state_dict(best_state)
    model.eval()
    return best
