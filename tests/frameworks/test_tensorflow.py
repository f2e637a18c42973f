"""TensorFlow and Keras: what they say themselves is what a model by URI answers."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import keras
import mlflow.keras
import mlflow.tensorflow
import numpy as np
import pytest
import tensorflow as tf
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import Schema, TensorSpec

from frameworks.asking import Asker
from frameworks.in_process import answers, asked, described_of, loaded
from frameworks.tensorflow_models import (
    FLOAT,
    NUMBERS,
    Spelling,
    Sum,
    classifier,
    sequential,
    several,
    with_vocabulary,
)
from salver.errors import CheckpointError

# What is served


def test_a_classifier_logged_to_mlflow_by_alias(asker: Asker) -> None:
    """The last layer is a softmax: its probabilities, and the class with the largest."""
    model = classifier()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(NUMBERS, NUMBERS[:, :3].argmax(1), epochs=5, verbose=0)
    mlflow.tensorflow.log_model(
        model, name="model", pip_requirements=[], signature=infer_signature(NUMBERS),
        registered_model_name="kinds",
    )  # fmt: skip
    mlflow.MlflowClient().set_registered_model_alias("kinds", "champion", "1")
    expected = model.predict(NUMBERS, verbose=0)
    asker.agree(
        "models:/kinds@champion",
        [{"input": row} for row in NUMBERS.tolist()],
        {"prediction": expected.argmax(1), "probabilities": expected},
    )


def test_a_bare_keras_file_with_several_inputs(asker: Asker, tmp_path: Path) -> None:
    """Names, types and shapes are the model's; lists may differ in length from row to row."""
    model = several()
    model.save(tmp_path / "price.keras")
    rows = [
        {"tokens": list(range(1, 2 + i % 3)), "numbers": row, "city": [["Ulm", "Graz"][i % 2]]}
        for i, row in enumerate(NUMBERS[:12].tolist())
    ]
    said = [
        model(
            [
                tf.constant([row["tokens"]], tf.int32),
                tf.constant([row["numbers"]]),
                tf.constant([row["city"]]),
            ]
        )
        for row in rows
    ]
    expected = {
        "price": np.array([price[0, 0] for price, _ in said]),
        "kind": np.concatenate([kind for _, kind in said]),
    }
    asker.agree(str(tmp_path / "price.keras"), rows, expected)


def test_a_bare_saved_model(asker: Asker, tmp_path: Path) -> None:
    """Inputs and outputs by the names of the serving signature, texts in Unicode."""
    module, texts = Spelling(), ["a", "b", "ü"]
    tf.saved_model.save(module, tmp_path / "saved_model")
    said = module(tf.constant(NUMBERS[:3, :2]), tf.constant(texts))
    asker.agree(
        str(tmp_path / "saved_model"),
        [{"x": x, "s": s} for x, s in zip(NUMBERS[:3, :2].tolist(), texts, strict=True)],
        {"sum": said["sum"].numpy()[:, 0], "said": ["aß", "bß", "üß"]},
    )


def test_a_module_logged_to_mlflow(tmp_path: Path) -> None:
    """MLflow keeps it as a SavedModel, and its only input has no name."""
    where = tmp_path / "model"
    module = Sum()
    signature = infer_signature(NUMBERS.astype("float64"))
    mlflow.tensorflow.save_model(module, where, pip_requirements=[], signature=signature)
    found = answers(where, {"input": NUMBERS.tolist()})
    np.testing.assert_allclose(found["prediction"], module(NUMBERS).numpy(), 1e-6)
    assert () == described_of(where).code


@pytest.mark.parametrize("exported", [False, True])
def test_mlflows_keras_flavour(tmp_path: Path, exported: bool) -> None:
    """As a .keras file, and exported as a SavedModel, where nobody knows that they are classes."""
    model, where = classifier(), tmp_path / "model"
    mlflow.keras.save_model(
        model,
        str(where),
        save_exported_model=exported,
        pip_requirements=[],
        signature=infer_signature(NUMBERS),
    )
    found = answers(where, {"input": NUMBERS.tolist()})
    expected = model.predict(NUMBERS, verbose=0)
    name = "prediction" if exported else "probabilities"
    np.testing.assert_allclose(found[name], expected, 1e-5, 1e-6)
    assert [name] == list(found)


def test_inputs_of_a_model_without_a_signature(tmp_path: Path) -> None:
    """Types and shapes of one row; the exported model says the same."""
    model = several()
    model.save(tmp_path / "model.keras")
    model.export(tmp_path / "exported", verbose=False)
    expected = {
        "tokens": ("int32", (-1,)),
        "numbers": ("float32", (4,)),
        "city": ("str", (1,)),
    }
    for source in ("model.keras", "exported"):
        columns = described_of(tmp_path / source).signature.columns
        assert expected == {column.name: (column.dtype, column.shape) for column in columns}


@pytest.mark.parametrize(
    ("last", "shape"),
    [
        ([keras.layers.Dense(1)], (40,)),
        ([keras.layers.Dense(2, activation="sigmoid")], (40, 2)),
        ([keras.layers.Dense(1, activation="softmax")], (40,)),
        ([keras.layers.Dense(3, activation="softmax"), keras.layers.Rescaling(2.0)], (40, 3)),
    ],
    ids=["number", "sigmoid", "softmax of one", "scaled softmax"],
)
def test_what_may_be_no_probabilities_is_a_prediction(
    tmp_path: Path, last: list[Any], shape: tuple[int, ...]
) -> None:
    """Only a softmax at the very end is certain; one number per row is a number."""
    model = sequential(*last)
    model.save(tmp_path / "model.keras")
    found = answers(tmp_path / "model.keras", {"numbers": NUMBERS.tolist()})
    expected = model.predict(NUMBERS, verbose=0).reshape(shape)
    np.testing.assert_allclose(found["prediction"], expected, 1e-5, 1e-6)


@pytest.mark.parametrize("form", ["nested", "layer", "functional"])
def test_softmax_in_other_forms(tmp_path: Path, form: str) -> None:
    """A layer of its own, a model in a model, a model of one named output."""
    inputs = keras.Input((4,), name="numbers")
    model = {
        "nested": lambda: keras.Sequential([inputs, classifier()]),
        "layer": lambda: sequential(keras.layers.Dense(3), keras.layers.Softmax()),
        "functional": lambda: keras.Model({"numbers": inputs}, {"kind": classifier()(inputs)}),
    }[form]()
    model.save(tmp_path / "model.keras")
    served = loaded(tmp_path / "model.keras")
    found = asked(served, {"numbers": NUMBERS})
    said = model({"numbers": NUMBERS})["kind"] if form == "functional" else model(NUMBERS)
    assert [0, 1, 2] == served.classes_
    np.testing.assert_allclose(found["probabilities"], said, 1e-5, 1e-6)


def test_answers_do_not_depend_on_the_size_of_the_batch(tmp_path: Path) -> None:
    """One trace serves them all."""
    model = classifier()
    model.save(tmp_path / "model.keras")
    served = loaded(tmp_path / "model.keras")
    whole = asked(served, {"numbers": NUMBERS})["probabilities"]
    for size in (1, 3, 8):
        slices = [NUMBERS[i : i + size] for i in range(0, 40, size)]
        parts = [asked(served, {"numbers": rows})["probabilities"] for rows in slices]
        np.testing.assert_allclose(np.concatenate(parts), whole, 1e-6, 1e-7)


def test_a_model_of_one_row_at_a_time(tmp_path: Path) -> None:
    """It is asked row by row; one of three rows at a time is refused at start."""
    for size in (1, 3):
        inputs = keras.Input(batch_shape=(size, 4), name="numbers")
        model = keras.Model(inputs, keras.layers.Dense(2, name="out")(inputs))
        model.save(tmp_path / f"model{size}.keras")
        if size == 1:
            expected = NUMBERS @ model.get_weights()[0]
    found = answers(tmp_path / "model1.keras", {"numbers": NUMBERS.tolist()})
    np.testing.assert_allclose(np.array(found["prediction"]), expected, 1e-4, 1e-5)
    with pytest.raises(CheckpointError, match="takes 3 rows at once"):
        loaded(tmp_path / "model3.keras")


def test_a_traced_function_without_a_signature(tmp_path: Path) -> None:
    """The trace for any number of rows is used; without one, the error says what to add."""

    class Plain(tf.Module):
        @tf.function
        def __call__(self, x: Any) -> Any:
            return 2 * x

    module = Plain()
    module(tf.ones((3, 2)))
    tf.saved_model.save(module, tmp_path / "fixed")
    with pytest.raises(CheckpointError, match="takes 3 rows at once"):
        loaded(tmp_path / "fixed")
    module.__call__.get_concrete_function(FLOAT)
    tf.saved_model.save(module, tmp_path / "open")
    found = answers(tmp_path / "open", {"x": NUMBERS[:, :2].tolist()})
    np.testing.assert_array_equal(found["prediction"], 2 * NUMBERS[:, :2])


def test_a_vocabulary_in_an_asset(tmp_path: Path) -> None:
    """A table may be filled from a file of the model's own."""
    saved = with_vocabulary(tmp_path)
    (tmp_path / "words").unlink()
    assert () == described_of(saved).code
    assert [1, 0, 2] == answers(saved, {"s": ["b", "a", "?"]})["prediction"].tolist()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (TensorSpec(np.dtype("float32"), (-1, 5), "numbers"), r"shape \(5,\)"),
        (TensorSpec(np.dtype("float32"), (-1, 4, 1), "numbers"), r"shape \(4, 1\)"),
        (TensorSpec(np.dtype("str"), (-1, 4), "numbers"), "is str"),
        (TensorSpec(np.dtype("complex64"), (-1, 4), "numbers"), "complex64"),
    ],
)
def test_a_signature_that_does_not_fit_fails_at_start(
    tmp_path: Path, spec: TensorSpec, said: str
) -> None:
    """With what was logged and what the model takes."""
    where = tmp_path / "model"
    signature = ModelSignature(Schema([spec]))
    mlflow.tensorflow.save_model(classifier(), where, pip_requirements=[], signature=signature)
    with pytest.raises(CheckpointError, match=said):
        loaded(where)


def test_a_signature_of_other_inputs_fails_at_start(tmp_path: Path) -> None:
    """Fractions for integers too: they would be cut off without a word."""
    where = tmp_path / "model"
    columns = [
        TensorSpec(np.dtype("float32"), (-1, -1), "tokens"),
        TensorSpec(np.dtype("float32"), (-1, 4), "numbers"),
    ]
    for names, said in ((["city"], "tokens' is float32"), (["town"], "names the inputs")):
        texts = [TensorSpec(np.dtype("str"), (-1, 1), name) for name in names]
        signature = ModelSignature(Schema([*columns, *texts]))
        folder = where / names[0]
        mlflow.tensorflow.save_model(several(), folder, pip_requirements=[], signature=signature)
        with pytest.raises(CheckpointError, match=said):
            loaded(folder)


def test_no_file_that_tensorflow_reads(tmp_path: Path) -> None:
    """A damaged file is named, whatever is damaged in it."""
    (tmp_path / "zip.keras").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"zip.keras is no readable .keras file"):
        described_of(tmp_path / "zip.keras")
    classifier().save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        config = archive.read("config.json")
    with zipfile.ZipFile(tmp_path / "empty.keras", "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(CheckpointError, match=r"empty.keras is no model that TensorFlow loads"):
        described_of(tmp_path / "empty.keras")
    folder = tmp_path / "saved_model"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"\x12\xff\x01")
    with pytest.raises(CheckpointError, match=r"saved_model.pb is no readable SavedModel"):
        described_of(folder)


# What is allowed by the user


@keras.saving.register_keras_serializable("tests")
class Doubled(keras.layers.Layer):
    """A layer of a user's own."""

    def call(self, inputs: Any) -> Any:
        return 2 * inputs


def test_a_layer_of_ones_own_takes_permission(tmp_path: Path) -> None:
    """MLflow keeps its class as a pickle, which is read then."""
    model, where = sequential(Doubled()), tmp_path / "model"
    signature = infer_signature(NUMBERS)
    mlflow.tensorflow.save_model(model, where, pip_requirements=[], signature=signature)
    (reason,) = described_of(where).code
    assert "Doubled" in reason
    found = answers(where, {"input": NUMBERS.tolist()})
    np.testing.assert_allclose(found["prediction"], model.predict(NUMBERS, verbose=0), 1e-5, 1e-6)


def test_pickles_that_no_layer_needs_take_none(tmp_path: Path) -> None:
    """MLflow writes them for whatever is registered in the process."""
    where = tmp_path / "model"
    signature = infer_signature(NUMBERS)
    mlflow.tensorflow.save_model(classifier(), where, pip_requirements=[], signature=signature)
    assert (where / "data" / "global_custom_objects.cloudpickle").exists()
    (where / "data" / "global_custom_objects.cloudpickle").write_bytes(b"never read")
    assert () == described_of(where).code
    assert (40, 3) == answers(where, {"input": NUMBERS.tolist()})["probabilities"].shape


def test_hdf5_takes_permission(tmp_path: Path) -> None:
    """Keras' older format is not looked through."""
    model, where = classifier(), tmp_path / "model"
    signature = infer_signature(NUMBERS)
    mlflow.tensorflow.save_model(model, where, pip_requirements=[], signature=signature)
    (where / "data" / "model.keras").unlink()
    model.save(where / "data" / "model.h5")
    (reason,) = described_of(where).code
    assert "model.h5 is of Keras' older format" in reason
    found = answers(where, {"input": NUMBERS.tolist()})
    np.testing.assert_allclose(found["probabilities"], model(NUMBERS), 1e-5, 1e-6)


def test_looking_imports_nothing(tmp_path: Path) -> None:
    """Neither TensorFlow nor Keras is there to run anything."""
    classifier().save(tmp_path / "model.keras")
    tf.saved_model.save(Sum(), tmp_path / "model")
    code = (
        "import sys; from pathlib import Path\n"
        "from salver.models.description import Artifact\n"
        "from salver.models.frameworks.tensorflow import code_in\n"
        "from salver.paths import walk\n"
        "for where in ('model.keras', 'model/'):\n"
        "    names = tuple(n for n, _ in walk(Path.cwd()) if n.startswith(where))\n"
        "    assert [] == code_in(Artifact(Path.cwd(), names, {})), names\n"
        "assert not {'tensorflow', 'keras', 'h5py', 'google.protobuf'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)
