"""Loading: from a reference to a pipeline that has answered its golden examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from policies.held_out import held_out
from salver import Checkpoint, Threshold, checkpoint, deployment
from salver.definition import Deployment
from salver.engine.loading import CALIBRATION, Loaded, load, references, version_of
from salver.errors import CheckpointCorrupt, ConfigError, ReplicaStartFailed
from salver.testing import StubModel
from salver.trust.fitted import Fitted
from salver.trust.novelty import Layers


class Text(BaseModel):
    text: str


def bound(*args: Any, **options: Any) -> Deployment:
    return deployment(input=Text, **options)(type("Stub", (StubModel,), {})).bind(*args)


def loaded(one: Deployment, resolved: Any = None) -> Loaded:
    return load(one, resolved or {}, lambda _text: None)


def test_a_model_says_where_its_tokenizer_is(tmp_path: Path) -> None:
    """By its attribute, or by a checkpoint that holds one; a model without one has none."""
    (tmp_path / "tokenizer.json").write_text("{}")
    kept = Checkpoint.create(tmp_path, {})
    resolved = {"0": {"path": str(tmp_path), "digest": kept.digest}}

    class Reader(StubModel):
        def __init__(self, said: Any) -> None:
            super().__init__()
            if isinstance(said, str):
                self.tokenizer_file_ = said

    one = deployment(input=Text)(Reader)
    assert str(tmp_path / "tokenizer.json") == loaded(one.bind("x"), resolved).tokenizer_file
    assert "/a/b.json" == loaded(one.bind("/a/b.json")).tokenizer_file
    assert loaded(one.bind(None)).tokenizer_file is None


def test_a_tokenizer_that_is_no_path_is_an_error() -> None:
    """It says what was given and what is wanted."""

    class Reader(StubModel):
        tokenizer_file_ = 3

    with pytest.raises(ReplicaStartFailed, match="tokenizer_file_ is 3; it takes the path"):
        loaded(deployment(input=Text)(Reader).bind())


def test_golden_examples_are_answered_at_load() -> None:
    """Each is given back with the output as a client will see it, after the policies."""
    one = bound(
        policy=Threshold(0.9, otherwise="other"),
        examples=[{"text": "aaa"}, {"input": {"text": "ab"}, "prediction": "yes"}],
    )

    examples = loaded(one).examples

    assert [{"text": "aaa"}, {"text": "ab"}] == [e["input"] for e in examples]
    assert ["yes", "other"] == [e["output"]["prediction"] for e in examples]
    assert {"yes": 0.5, "no": 0.5} == examples[1]["output"]["probabilities"]


@pytest.mark.parametrize(
    ("example", "error", "says"),
    [
        (
            {"input": {"text": "aaa"}, "prediction": "no"},
            ReplicaStartFailed,
            "'yes'.*recorded was 'no'",
        ),
        ({"text": "!raise"}, ReplicaStartFailed, "the text holds"),
        ({"title": "x"}, ConfigError, "does not fit.*text"),
        ("just a text", ConfigError, "it takes a row"),
    ],
)
def test_a_golden_example_that_fails_stops_the_start(
    example: Any, error: type[Exception], says: str
) -> None:
    """A model that answers otherwise than recorded must not serve."""
    with pytest.raises(error, match=says):
        loaded(bound(examples=[example]))


class Encoder(StubModel):
    """Gives hidden states of one layer."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def __call__(self, batch: Any) -> Any:
        n = len(batch["text"])
        return {"prediction": ["x"] * n, "hidden_states": np.zeros((n, self.size), np.float32)}


def calibrated_on(layers: int, size: int, folder: Path) -> dict[str, Any]:
    """A calibration whose novelty is of hidden states of this shape."""
    folder.mkdir()
    whitenings = np.tile(np.eye(size, dtype=np.float32), (layers, 1, 1))
    score = Layers(np.zeros((layers, size), np.float32), whitenings, (1.0,) * layers)
    Fitted(None, score, held_out(60)).save(folder)
    return {CALIBRATION: {"path": str(folder), "digest": Checkpoint.create(folder).digest}}


def test_hidden_states_of_another_shape_than_those_calibrated_stop_the_start(
    tmp_path: Path,
) -> None:
    """The first golden example shows it, and the message is one line with what to do."""
    one = deployment(input=Text, examples=[{"text": "a"}])(Encoder).bind(5)
    loaded(one, calibrated_on(1, 5, tmp_path / "same"))
    for layers, size in ((1, 6), (2, 5)):
        resolved = calibrated_on(layers, size, tmp_path / f"{layers} of {size}")
        with pytest.raises(ReplicaStartFailed) as refused:
            loaded(one, resolved)
        (line,) = refused.value.message.splitlines()
        assert line.startswith("Encoder failed on its golden example {'text': 'a'}: ")
        assert f"(rows, {layers}, {size}), but the model gave shape (1, 1, 5)" in line
        assert line.endswith("Run salver calibrate again.")


def make_checkpoint(path: Path, **metadata: Any) -> dict[str, Any]:
    path.mkdir()
    (path / "weights.bin").write_bytes(b"0123456789")
    created = Checkpoint.create(path, metadata)
    return {"path": str(path), "digest": created.digest, "source": str(path)}


class Reader:
    """A model that reads its checkpoint."""

    def __init__(self, weights: Any, scale: int = 1) -> None:
        self.size = weights.file("weights.bin").stat().st_size * scale

    def __call__(self, batch: Any) -> Any:
        return [self.size] * len(batch["text"])


def reader(path: str, **kwargs: Any) -> Deployment:
    return deployment(input=Text)(type("Reader", (Reader,), {})).bind(checkpoint(path), **kwargs)


def test_references_become_verified_checkpoints(tmp_path: Path) -> None:
    """The model gets an open checkpoint in the reference's place, and its examples are run."""
    resolved = make_checkpoint(
        tmp_path / "c", examples=[{"input": {"text": "x"}, "prediction": 20}]
    )
    one = reader(resolved["path"], scale=2)

    assert ["0"] == list(references(one))
    examples = loaded(one, {"0": resolved}).examples
    assert [{"prediction": 20}] == [e["output"] for e in examples]


def test_a_checkpoint_that_changed_is_refused(tmp_path: Path) -> None:
    """One flipped byte stops the load, whatever the digest on disk says."""
    resolved = make_checkpoint(tmp_path / "c")
    (tmp_path / "c" / "weights.bin").write_bytes(b"0123456780")

    with pytest.raises(CheckpointCorrupt, match=r"weights.bin"):
        loaded(reader(resolved["path"]), {"0": resolved})


def test_another_checkpoint_than_the_one_resolved_is_refused(tmp_path: Path) -> None:
    """All replicas of a start load the version that was pinned, also after a change on disk."""
    resolved = make_checkpoint(tmp_path / "c")
    (tmp_path / "c" / "weights.bin").write_bytes(b"new")
    Checkpoint.create(tmp_path / "c")

    with pytest.raises(CheckpointCorrupt, match=str(resolved["digest"])):
        loaded(reader(resolved["path"]), {"0": resolved})


def test_the_version_names_all_that_decides_an_answer(tmp_path: Path) -> None:
    """Checkpoint, arguments and policies change it; how it is served does not."""
    resolved = make_checkpoint(tmp_path / "c")
    one = reader(resolved["path"])

    def version(d: Deployment, digest: str = resolved["digest"]) -> str:
        return version_of(d, {"0": {**resolved, "digest": digest}})

    def served(**options: Any) -> Deployment:
        return one.with_options(one.options.replace(options, "here"))

    assert version(one) == version(served(num_replicas=3, max_batch_size=2))
    versions = {
        version(one),
        version(one, "another"),
        version(served(policy=Threshold(0.9))),
        version(served(policy=Threshold(0.8))),
        version(served(batch_format="pandas")),
        version(reader(resolved["path"], scale=2)),
    }
    assert 6 == len(versions)


def test_the_version_of_arguments_that_are_no_plain_values_is_stable() -> None:
    """Objects count by their type, never by their address."""
    assert version_of(bound(object()), {}) == version_of(bound(object()), {})
    assert version_of(bound(object()), {}) != version_of(bound(1), {})


class Configurable(StubModel):
    def reconfigure(self, config: dict[str, Any]) -> None:
        self.classes_ = config["classes"]


def test_the_configuration_of_the_user_is_given_to_the_model() -> None:
    """After it was made, and before it is asked anything."""
    one = deployment(input=Text, user_config={"classes": ["up", "down"]}, examples=[{"text": "a"}])(
        type("Stub", (Configurable,), {})
    ).bind()
    (example,) = loaded(one).examples
    assert {"up", "down"} == set(example["output"]["probabilities"])


def test_a_configuration_that_no_method_takes_is_refused() -> None:
    """It would have no effect."""
    with pytest.raises(ConfigError, match=r"no method reconfigure\(self, config\)"):
        loaded(bound(user_config={"classes": []}))


def test_another_configuration_is_another_version() -> None:
    """It decides answers as an argument does; without one the version is what it was."""
    stub = deployment(input=Text)(type("Stub", (Configurable,), {}))
    versions = {
        version_of(stub.options(user_config=config).bind(), {})
        for config in (None, {"classes": ["a", "b"]}, {"classes": ["a", "c"]})
    }
    assert 3 == len(versions)
