"""Asks models of texts: a tokenizer and a network of transformers.

It does not know how they were loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from salver.errors import CheckpointError
from salver.models.description import Inputs

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Pooling:
    """How states of tokens become one embedding.

    Attributes:
        modes: "cls", "max" or "mean"; several are laid side by side.
        is_normalized: Whether an embedding gets length 1.
        longest: Tokens of a text, where it is less than the network takes.
    """

    modes: tuple[str, ...] = ("mean",)
    is_normalized: bool = False
    longest: int | None = None


def longest(network: Any, tokenizer: Any) -> int | None:
    """The most tokens that a model takes; null if there is no bound."""
    bounds = [tokenizer.model_max_length]
    positions = getattr(network.config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        # RoBERTa and its like count positions from behind the one of padding.
        tables = (m for n, m in network.named_modules() if n.endswith("position_embeddings"))
        padding = getattr(next(tables, None), "padding_idx", None)
        bounds.append(positions - (0 if padding is None else padding + 1))
    found = min(bounds)
    return found if found < 1e9 else None  # tokenizers without a bound say 10^30


class _Texts:
    """What all of them share.

    Args:
        network: Of transformers, ready to be asked.
        tokenizer: Its tokenizer.
        limit: Where texts are cut.
        tokenizer_file: By which the engine counts tokens, if there is one.
    """

    def __init__(
        self, network: Any, tokenizer: Any, limit: int | None, tokenizer_file: Path | None
    ) -> None:
        self._network = network
        self._tokenizer = tokenizer
        self._limit = limit
        if network.config.pad_token_id is None:  # by which some find the last token of a text
            network.config.pad_token_id = tokenizer.pad_token_id
        if tokenizer_file is not None:
            self.tokenizer_file_ = tokenizer_file

    def _asked(self, texts: list[str]) -> tuple[Any, Any]:
        """The output of the network, and which tokens are texts and not padding."""
        import torch

        encoded = self._tokenizer(
            texts,
            padding=len(texts) > 1,
            truncation=self._limit is not None,
            max_length=self._limit,
            return_tensors="pt",
        ).to(self._network.device)
        with torch.inference_mode():
            return self._network(**encoded), encoded["attention_mask"]

    def _batches(self, inputs: Inputs) -> list[list[str]]:
        """All texts at once, or one by one where nothing can be padded with."""
        texts = next(iter(inputs.values())).tolist()
        return [texts] if self._tokenizer.pad_token is not None else [[text] for text in texts]


class Classifier(_Texts):
    """Classes of texts; numbers where there is one label."""

    def __init__(self, network: Any, *others: Any) -> None:
        super().__init__(network, *others)
        config = network.config
        self._problem = config.problem_type
        self._is_one = config.num_labels == 1
        if self._problem != "regression" and not self._is_one:
            self.classes_ = [config.id2label[i] for i in range(config.num_labels)]

    def __call__(self, inputs: Inputs) -> dict[str, Array]:
        """One entry per row."""
        import torch

        logits = torch.cat([self._asked(texts)[0].logits for texts in self._batches(inputs)])
        logits = logits.float()
        if self._problem == "regression":
            return {"prediction": (logits[:, 0] if self._is_one else logits).cpu().numpy()}
        if self._is_one:
            return {"prediction": logits.sigmoid()[:, 0].cpu().numpy()}
        is_multiple = self._problem == "multi_label_classification"
        found = logits.sigmoid() if is_multiple else logits.softmax(dim=-1)
        return {"probabilities": found.cpu().numpy()}


class Tagger(_Texts):
    """Named entities, through the pipeline of transformers."""

    def __init__(self, network: Any, tokenizer: Any, limit: int | None, *others: Any) -> None:
        super().__init__(network, tokenizer, limit, *others)
        import transformers

        if limit is not None:
            tokenizer.model_max_length = limit  # where the pipeline cuts
        make: Any = transformers.TokenClassificationPipeline
        self._pipeline = make(model=network, tokenizer=tokenizer, aggregation_strategy="simple")

    def __call__(self, inputs: Inputs) -> dict[str, list[Any]]:
        """One list of entities per row."""
        found: list[Any] = []
        for texts in self._batches(inputs):
            found += self._pipeline(texts, batch_size=len(texts))
        return {"entities": [[_plain(entity) for entity in row] for row in found]}


class Embedder(_Texts):
    """One embedding per text.

    Raises:
        CheckpointError: If the network has no encoder's states.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        limit: int | None,
        tokenizer_file: Path | None,
        pooling: Pooling,
    ) -> None:
        bounds = [n for n in (limit, pooling.longest) if n is not None]
        super().__init__(network, tokenizer, min(bounds, default=None), tokenizer_file)
        if network.config.is_encoder_decoder:
            raise CheckpointError(
                f"{type(network).__name__} is no encoder, so it gives no embeddings of texts."
            )
        self._pooling = pooling

    def __call__(self, inputs: Inputs) -> dict[str, Array]:
        """One entry per row."""
        import torch

        parts = []
        for texts in self._batches(inputs):
            output, mask = self._asked(texts)
            parts.append(self._pooled(output.last_hidden_state.float(), mask))
        found = torch.cat(parts)
        if self._pooling.is_normalized:
            found = torch.nn.functional.normalize(found, dim=1)
        return {"embedding": found.cpu().numpy()}

    def _pooled(self, states: Any, mask: Any) -> Any:
        import torch

        is_text = mask[:, :, None].to(states.dtype)
        rows = torch.arange(len(mask), device=mask.device)
        ways = {
            # The first that is no padding, on whichever side that stands.
            "cls": lambda: states[rows, mask.argmax(dim=1)],
            "max": lambda: states.masked_fill(is_text == 0, -1e9).amax(dim=1),
            "mean": lambda: (states * is_text).sum(dim=1) / is_text.sum(dim=1).clamp(min=1e-9),
        }
        return torch.cat([ways[mode]() for mode in self._pooling.modes], dim=1)


def _plain(entity: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in entity.items()}
