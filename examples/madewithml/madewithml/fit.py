"""Fine-tuning: the training loop and its settings. Needs torch.

Knows nothing of files or MLflow: it takes encoded texts and reports each epoch to a callback.
"""

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from madewithml.metrics import report
from madewithml.model import TextClassifier, batches, predict
from madewithml.tokens import TextTokenizer

_PROBE_STEPS = 60
_PROBE_L2 = 1e-3


@dataclass(frozen=True)
class Settings:
    """What one run may vary. Learning rates are for AdamW.

    Attributes:
        label_smoothing: share of the target spread evenly over all classes.
        token_dropout: share of a training text's tokens left out, different ones in each epoch.
        averaging: decay per step of the running average of the weights, which is what is
            validated and kept.
        epochs: passes over all weights, after the linear layer alone has been fitted; 0 leaves
            the encoder as it is.
        patience: epochs of a clearly higher validation loss after which training stops.
        warm_up: share of all steps in which the learning rate rises; it then falls linearly to 0.
        clip_norm: largest norm of the gradient.
        max_length: longest text in tokens.
    """

    pooling: str = "mean"
    preprocessing: str = "none"
    encoder_lr: float = 1e-4
    head_lr: float = 1e-3
    weight_decay: float = 0.01
    dropout: float = 0.3
    label_smoothing: float = 0.05
    token_dropout: float = 0.15
    averaging: float = 0.97
    batch_size: int = 16
    epochs: int = 3
    patience: int = 2
    warm_up: float = 0.1
    clip_norm: float = 1.0
    max_length: int = 128
    seed: int = 1234


@dataclass(frozen=True)
class Encoded:
    """Texts as token ids, with the index of each one's class: int64 of shape (n,)."""

    encodings: list[list[int]]
    labels: np.ndarray


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave. Losses are plain cross-entropy, comparable between settings.

    Attributes:
        val_loss_error: standard error of `val_loss`, from the spread over the rows.
    """

    number: int
    train_loss: float
    val_loss: float
    val_loss_error: float
    val_f1: float
    val_macro_f1: float


OnEpoch = Callable[[Epoch], None]
OnStep = Callable[[int, int, int], None]  # epoch, steps per epoch, step


def seed_everything(seed: int) -> None:
    """Fix every generator that training draws from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def class_weights(labels: np.ndarray, classes: int) -> torch.Tensor:
    """Square root of the inverse class frequency, mean 1: rare classes count more, mildly."""
    weights = np.sqrt(len(labels) / np.maximum(np.bincount(labels, minlength=classes), 1))
    return torch.tensor(weights / weights.mean(), dtype=torch.float32)


def validate(
    model: TextClassifier, tokenizer: TextTokenizer, data: Encoded, number: int, train_loss: float
) -> Epoch:
    """Loss and metrics of an epoch's weights on encoded data, in evaluation mode."""
    model.eval()
    logits = predict(model, tokenizer, data.encodings).logits
    losses = functional.cross_entropy(
        torch.from_numpy(logits), torch.from_numpy(data.labels), reduction="none"
    ).numpy()
    classes = model.spec.classes
    overall = report(
        [classes[i] for i in data.labels], [classes[i] for i in logits.argmax(1)], classes
    )["overall"]
    return Epoch(
        number,
        train_loss,
        val_loss=float(losses.mean()),
        val_loss_error=float(losses.std() / np.sqrt(len(losses))),
        val_f1=overall["f1"],
        val_macro_f1=overall["macro_f1"],
    )


def fit_head(model: TextClassifier, tokenizer: TextTokenizer, data: Encoded) -> float:
    """Fit the linear layer alone on the encoder's features; returns the training loss.

    Fine-tuning that starts from a random layer first distorts the pretrained features (Kumar et
    al. 2022, "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution").
    """
    head, where = model.head, next(model.parameters()).device
    model.eval()
    model.head = cast(nn.Linear, nn.Identity())
    features = np.zeros((len(data.labels), head.in_features), dtype=np.float32)
    with torch.no_grad():
        for chosen in batches([len(encoding) for encoding in data.encodings], 8):
            ids, mask = tokenizer.pad([data.encodings[i] for i in chosen])
            output = model(torch.from_numpy(ids).to(where), torch.from_numpy(mask).to(where))
            features[chosen] = output.logits.cpu().numpy()
    model.head = head
    inputs, labels = torch.from_numpy(features).to(where), torch.from_numpy(data.labels).to(where)
    weights = class_weights(data.labels, head.out_features).to(where)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimiser = torch.optim.LBFGS(
        head.parameters(), max_iter=_PROBE_STEPS, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = functional.cross_entropy(head(inputs), labels, weight=weights)
        loss = loss + _PROBE_L2 * head.weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        return float(functional.cross_entropy(head(inputs), labels))


def _shuffled_batches(
    lengths: Sequence[int], size: int, generator: np.random.Generator
) -> list[np.ndarray]:
    """Batches of similar length whose members and order change from epoch to epoch."""
    jittered = np.asarray(lengths) * generator.uniform(0.85, 1.15, len(lengths))
    chosen = list(batches(jittered, size))
    return [chosen[i] for i in generator.permutation(len(chosen))]


class _Trainer:
    """Optimiser, schedule and running average of one run."""

    def __init__(self, model: TextClassifier, train: Encoded, settings: Settings) -> None:
        self._model, self._train, self._settings = model, train, settings
        self._where = next(model.parameters()).device
        self._weights = class_weights(train.labels, len(model.spec.classes)).to(self._where)
        self._generator = np.random.default_rng(settings.seed)
        self.steps = -(-len(train.labels) // settings.batch_size)
        total = self.steps * settings.epochs
        rising = max(1, round(settings.warm_up * total))
        self._optimiser = torch.optim.AdamW(
            [
                {"params": model.encoder.parameters(), "lr": settings.encoder_lr},
                {"params": model.head.parameters(), "lr": settings.head_lr},
            ],
            weight_decay=settings.weight_decay,
            fused=True,  # without it the optimiser takes a third of the time of a step
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimiser,
            lambda step: min((step + 1) / rising, (total - step) / max(1, total - rising)),
        )
        self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.averaging))

    def _thinned(self, encoding: list[int]) -> list[int]:
        """The encoding without a random part of its tokens; the first and the last stay."""
        kept = self._generator.random(len(encoding)) >= self._settings.token_dropout
        kept[0] = kept[-1] = True
        return [token for token, keep in zip(encoding, kept, strict=True) if keep]

    def epoch(self, tokenizer: TextTokenizer, on_step: Callable[[int], None]) -> float:
        """One pass over the training data; returns its mean cross-entropy."""
        model, data = self._model, self._train
        model.train()
        loss_sum = 0.0
        lengths = [len(encoding) for encoding in data.encodings]
        order = _shuffled_batches(lengths, self._settings.batch_size, self._generator)
        for step, chosen in enumerate(order, start=1):
            ids, mask = tokenizer.pad([self._thinned(data.encodings[i]) for i in chosen])
            labels = torch.from_numpy(data.labels[chosen]).to(self._where)
            output = model(
                torch.from_numpy(ids).to(self._where), torch.from_numpy(mask).to(self._where)
            )
            loss = functional.cross_entropy(
                output.logits,
                labels,
                weight=self._weights,
                label_smoothing=self._settings.label_smoothing,
            )
            self._optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), self._settings.clip_norm)
            self._optimiser.step()
            self._schedule.step()
            self.averaged.update_parameters(model)
            loss_sum += float(functional.cross_entropy(output.logits.detach(), labels)) * len(
                chosen
            )
            on_step(step)
        return loss_sum / len(lengths)


def fit(
    model: TextClassifier,
    tokenizer: TextTokenizer,
    train: Encoded,
    validation: Encoded,
    settings: Settings,
    on_epoch: OnEpoch,
    on_step: OnStep = lambda epoch, steps, step: None,
) -> Epoch:
    """Fit the linear layer, then fine-tune all weights; early stopping on the validation loss.

    The model ends with the weights of the last epoch whose validation loss is within one standard
    error of the least (the rule of Breiman et al. 1984, "Classification and Regression Trees",
    section 3.4.3, which takes losses that near for equal): on a hundred rows the least loss alone
    is often that of an epoch that has learnt less. Epoch 0, the linear layer on the encoder as it
    was, is kept only if no other was asked for.

    Returns:
        The epoch whose weights were kept.
    """
    train_loss = fit_head(model, tokenizer, train)
    kept = least = validate(model, tokenizer, validation, 0, train_loss)
    kept_state = copy.deepcopy(model.state_dict())
    on_epoch(kept)
    trainer = _Trainer(model, train, settings)
    for number in range(1, settings.epochs + 1):
        train_loss = trainer.epoch(tokenizer, partial(on_step, number, trainer.steps))
        candidate = trainer.averaged.module
        epoch = validate(candidate, tokenizer, validation, number, train_loss)
        on_epoch(epoch)
        if least.number == 0 or epoch.val_loss < least.val_loss:
            least = epoch
        if epoch.val_loss <= least.val_loss + least.val_loss_error:
            kept, kept_state = epoch, copy.deepcopy(candidate.state_dict())
        elif epoch.number - kept.number >= settings.patience:
            break
    model.load_state_dict(kept_state)
    model.eval()
    return kept
