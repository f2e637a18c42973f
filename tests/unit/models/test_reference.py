from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest

from salver import best_checkpoint, checkpoint
from salver.errors import ConfigError, InvalidOption
from salver.models.reference import (
    CheckpointReference,
    LocalFolder,
    ModelVersion,
    RunArtifact,
    hide_password,
    parse_uri,
)

REFERENCES = [
    best_checkpoint("madewithml", metric="val_loss", mode="min"),
    best_checkpoint("exp", metric="f1", mode="max", artifact="a/b", tracking_uri="sqlite:///x.db"),
    checkpoint("runs:/abc123/checkpoint"),
    checkpoint("models:/tagger@champion", tracking_uri="http://127.0.0.1:5000"),
    checkpoint("./models/tagger"),
]


@pytest.mark.parametrize("reference", REFERENCES, ids=repr)
def test_a_reference_is_plain_immutable_data(reference: CheckpointReference) -> None:
    """A reference survives JSON, can be hashed, and cannot be changed."""
    again = CheckpointReference.from_json(json.loads(json.dumps(reference.to_json())))

    assert reference == again
    assert len({reference, again}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        reference.tracking_uri = "other"  # type: ignore[misc]


def test_a_reference_reads_like_the_call_that_made_it() -> None:
    """The repr is what the user wrote, without defaults and without passwords."""
    shown = [repr(reference) for reference in REFERENCES[:3]]

    assert shown[0] == "best_checkpoint('madewithml', metric='val_loss', mode='min')"
    assert (
        shown[1] == "best_checkpoint('exp', metric='f1', mode='max', artifact='a/b', "
        "tracking_uri='sqlite:///x.db')"
    )
    assert shown[2] == "checkpoint('runs:/abc123/checkpoint')"
    secret = checkpoint("models:/m/1", tracking_uri="https://me:hunter2@mlflow.test")
    assert "hunter2" not in repr(secret)
    assert "***@mlflow.test" in repr(secret)


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("runs:/abc/checkpoint", RunArtifact("abc", "checkpoint")),
        ("runs:/abc/models/best", RunArtifact("abc", "models/best")),
        ("models:/tagger@champion", ModelVersion("tagger", None, "champion")),
        ("models:/tagger/12", ModelVersion("tagger", 12, None)),
        ("models:/my model.v2/3", ModelVersion("my model.v2", 3, None)),
        ("models:/a@b@c", ModelVersion("a@b", None, "c")),
        ("file:///srv/my%20models/x", LocalFolder("/srv/my models/x")),
        ("file:/srv/x", LocalFolder("/srv/x")),
        ("file://localhost/srv/x", LocalFolder("/srv/x")),
        ("/srv/x", LocalFolder("/srv/x")),
        ("models/tagger", LocalFolder("models/tagger")),
        ("./a:b", LocalFolder("./a:b")),
    ],
)
def test_each_form_of_a_uri_is_understood(uri: str, target: Any) -> None:
    """All documented forms name what they say."""
    assert target == parse_uri(uri)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("", "Write 'runs:/<run id>/checkpoint'"),
        ("  ", "Write"),
        (None, "Write"),
        (7, "Write"),
        ("s3://bucket/x", "scheme 's3'"),
        ("model:/tagger@champion", "Did you mean 'models'"),
        ("run:/abc/checkpoint", "Did you mean 'runs'"),
        ("runs:/abc", "Write 'runs:/abc/checkpoint'"),
        ("runs:/abc/", "Write 'runs:/abc/checkpoint'"),
        ("runs://host/abc/x", "run id"),
        ("runs:abc/x", "run id"),
        ("runs:/../x", "run id"),
        ("runs:/abc/../x", "leaves the folder"),
        ("runs:/abc//etc/passwd", "absolute"),
        ("models:/tagger", "models:/tagger@champion"),
        ("models:/tagger/latest", "'latest' are not taken"),
        ("models:/tagger/Production", "stages"),
        ("models:/tagger@", "alias"),
        ("models:/@champion", "alias"),
        ("models:/a/b/3", "alias"),
        ("models:/tagger/²", "version"),
        ("models:/m-0123/x/y", "registered model"),
        ("file://other-host/srv/x", "not a folder of this machine"),
        ("file:", "not a folder of this machine"),
    ],
)
def test_a_uri_of_another_form_says_what_to_write(uri: Any, says: str) -> None:
    """A wrong URI fails where it is written, with the right form in the message."""
    with pytest.raises(ConfigError) as caught:
        checkpoint(uri)
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"mode": "lowest"}, "'mode' was given 'lowest'; it takes 'min' (for a loss) or 'max'"),
        ({"mode": None}, "'mode'"),
        ({"experiment": ""}, "'experiment'"),
        ({"experiment": 3}, "'experiment'"),
        ({"metric": " "}, "'metric'"),
        ({"metric": None}, "'metric'"),
        ({"artifact": "../x"}, "'artifact'"),
        ({"artifact": ""}, "'artifact'"),
        ({"artifact": None}, "'artifact'"),
        ({"tracking_uri": "mlflow.db"}, "write 'sqlite:///mlflow.db'"),
        ({"tracking_uri": ""}, "'tracking_uri'"),
        ({"tracking_uri": 1}, "'tracking_uri'"),
    ],
)
def test_arguments_are_checked_at_once(arguments: dict[str, Any], says: str) -> None:
    """A wrong argument fails where it is written, not at the next start."""
    given = {"experiment": "exp", "metric": "val_loss", "mode": "min", **arguments}
    with pytest.raises(InvalidOption) as caught:
        best_checkpoint(given.pop("experiment"), **given)
    assert says in caught.value.message


@pytest.mark.parametrize(
    "data",
    [{}, {"kind": "worst"}, {"kind": []}, {"kind": "uri"}, {"kind": "uri", "uri": 3},
     {"kind": "uri", "uri": "models:/m/1", "experiment": "x"}, {"kind": "best", "metric": "x"}],
)  # fmt: skip
def test_json_of_another_form_is_refused(data: dict[str, Any]) -> None:
    """What is no reference in JSON is an error of ours, too."""
    with pytest.raises(ConfigError):
        CheckpointReference.from_json(data)


def test_making_a_reference_imports_no_mlflow() -> None:
    """A service module that only refers to checkpoints stays light."""
    code = (
        "import sys; from salver import best_checkpoint, Checkpoint\n"
        "import salver.models.tracking\n"
        "best_checkpoint('e', metric='m')\n"
        "heavy = {'mlflow', 'sqlalchemy', 'numpy', 'pandas', 'requests'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:secret@host/x", "http://***@host/x"),
        ("postgresql://me@host/x and http://a:b@c", "postgresql://***@host/x and http://***@c"),
        ("sqlite:////tmp/a@b.db", "sqlite:////tmp/a@b.db"),
        ("models:/m@champion", "models:/m@champion"),
    ],
)
def test_passwords_are_hidden(uri: str, shown: str) -> None:
    """What stands before the @ of an address is not shown, and nothing else is touched."""
    assert shown == hide_password(uri)
