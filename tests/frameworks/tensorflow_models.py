"""Small models of Keras and TensorFlow for the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

RNG = np.random.default_rng(0)
NUMBERS = RNG.normal(size=(40, 4)).astype("float32")
FLOAT = tf.TensorSpec((None, 2), tf.float32, name="x")
TEXT = tf.TensorSpec((None,), tf.string, name="s")


def sequential(*last: Any) -> keras.Sequential:
    layers = [keras.Input((4,), name="numbers"), keras.layers.Dense(8, "relu"), *last]
    return keras.Sequential(layers)


def classifier() -> keras.Sequential:
    return sequential(keras.layers.Dense(3, activation="softmax"))


def several() -> keras.Model:
    """Of numbers, a text and a list of any length; a price and a kind."""
    numbers = keras.Input((4,), name="numbers")
    city = keras.Input((1,), dtype="string", name="city")
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    known = keras.layers.StringLookup(vocabulary=["Ulm", "Köln"], output_mode="one_hot")(city)
    read = keras.layers.LSTM(3)(keras.layers.Embedding(10, 4, mask_zero=True)(tokens))
    both = keras.ops.relu(keras.layers.Concatenate()([numbers, known, read])) * 2
    price = keras.layers.Dense(1, name="price")(both)
    kind = keras.layers.Dense(2, activation="sigmoid", name="kind")(both)
    return keras.Model([tokens, numbers, city], [price, kind])


class Spelling(tf.Module):
    """Of two inputs by name: a number of each, and a text."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable([[1.5], [2.5]])
        keys = tf.lookup.KeyValueTensorInitializer(["a"], [1.0])
        self.table = tf.lookup.StaticHashTable(keys, -1.0)

    @tf.function(input_signature=[FLOAT, TEXT])
    def __call__(self, x: Any, s: Any) -> Any:
        said = tf.strings.join([s, "ß"])
        return {"sum": x @ self.weights + self.table.lookup(s)[:, None], "said": said}


class Sum(tf.Module):
    """As MLflow takes it: one input without a name."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(tf.ones((4, 2)))

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32)])
    def __call__(self, x: Any) -> Any:
        return x @ self.weights


def with_vocabulary(tmp_path: Path) -> Path:
    (tmp_path / "words").write_text("a\nb\n")

    class Reads(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            index = tf.lookup.TextFileIndex
            lines = tf.lookup.TextFileInitializer(
                str(tmp_path / "words"), tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER
            )
            self.table = tf.lookup.StaticVocabularyTable(lines, 1)

        @tf.function(input_signature=[TEXT])
        def __call__(self, s: Any) -> Any:
            return self.table.lookup(s)

    tf.saved_model.save(Reads(), tmp_path / "reads")
    return tmp_path / "reads"
