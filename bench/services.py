"""The four models as Salver services, for ``bench/systems/salver.py`` and the offline jobs.

The same ``bench.predictors`` as in every other system. It does not know the harness: the model's
folder comes from BENCH_FOLDER.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from salver import Service, deployment


class Project(BaseModel):
    """The request."""

    title: str
    description: str


class Classifier:
    """A plain class around the shared predictor.

    Attributes:
        classes_: The classes, in the order of the columns of `probabilities`.
        tokenizer_file_: What cuts the texts, so that Salver groups them by their tokens.
    """

    def __init__(self, model: str) -> None:
        from bench.predictors import CLASSES, TOKENIZER_FILE, load

        # OMP_NUM_THREADS is the replica's share of the cores, as Salver sets it.
        threads = int(os.environ["OMP_NUM_THREADS"])
        self._predict = load(model, os.environ["BENCH_FOLDER"], threads)
        self.classes_ = list(CLASSES)
        if model in ("minilm", "bert-base"):
            self.tokenizer_file_ = Path(os.environ["BENCH_FOLDER"]) / TOKENIZER_FILE

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"probabilities": self._predict(list(batch["title"]), list(batch["description"]))}


Served: Any = deployment(input=Project)(Classifier)

# Replicas, threads and batch sizes are left to Salver's automatic choice.
constant = Service(Served.bind("constant"))
minilm = Service(Served.bind("minilm"))
bert_base = Service(Served.bind("bert-base"))
sklearn = Service(Served.bind("sklearn"))
