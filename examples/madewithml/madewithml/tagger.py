"""The predictor: a plain class that maps a batch of projects to class probabilities.

Knows nothing of Salver, HTTP or MLflow: it is given a folder and used like a function. Importing
this module is cheap; torch is imported when a `Tagger` is made, which happens in the replica.
"""

import os
from collections.abc import Mapping
from typing import Any

from madewithml.text import project_text


class Tagger:
    """Tags projects with one of the checkpoint's classes.

    Attributes:
        classes_: the class names, in the order of the columns of `probabilities`.
    """

    def __init__(self, checkpoint: str | os.PathLike[str]) -> None:
        """Load a checkpoint's folder, as `madewithml.train` or `madewithml.convert` wrote it.

        Raises:
            FileNotFoundError: a file of the model is missing.
            ValueError: the files do not fit each other.
        """
        from madewithml.model import load

        self._model, self._tokenizer = load(checkpoint)
        self.classes_ = list(self._model.spec.classes)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Probabilities of a batch, and what is known beside them.

        Args:
            batch: columns `title` and `description`, texts, n each: a dict of arrays or a pandas
                frame.

        Returns:
            `probabilities`: float32 of shape (n, k). They depend on the rest of the batch by
            rounding only (about 1e-7).
            `hidden_states`: float32 of shape (n, 2, d), by which texts unlike those of training are
            known.
            `truncated`: where a text was longer than the model reads, tokens kept of how many.
        """
        from madewithml.model import predict, softmax

        preprocessing = self._model.spec.preprocessing
        texts = [
            project_text(title, description, preprocessing)
            for title, description in zip(batch["title"], batch["description"], strict=True)
        ]
        encodings = self._tokenizer.encode(texts)
        output = predict(self._model, self._tokenizer, encodings)
        return {
            "probabilities": softmax(output.logits),
            "hidden_states": output.hidden_states,
            "truncated": self._tokenizer.truncated(texts, encodings),
        }
