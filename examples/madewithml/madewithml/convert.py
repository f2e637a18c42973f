"""Turn a checkpoint in the lesson's own layout into a Salver checkpoint.

    python -m madewithml.convert FOLDER --encoder ENCODER --out DIRECTORY

The lesson saves `args.json` (dropout_p, embedding_dim, num_classes) and `model.pt`, a state dict
with the keys `llm.*` (a BERT with its pooler) and `fc1.*`. The class names stand in the metadata
that its trainer attaches (`.metadata.json`), or in a `class_to_index.json`. The encoder's
configuration and tokenizer are read from the encoder it was trained on.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from madewithml.locations import encoder_folder

if TYPE_CHECKING:
    from madewithml.model import TextClassifier
    from salver import Checkpoint

_CLASS_FILES = (".metadata.json", "class_to_index.json")
_PREFIXES = {"llm.": "encoder.", "fc1.": "head."}


class ConversionError(Exception):
    """A folder that is not in the lesson's layout; the message says what is missing."""


def class_to_index(folder: Path) -> dict[str, int]:
    """The class indices of a folder in the lesson's layout.

    Raises:
        ConversionError: no file tells them, or they are not 0 to k - 1.
    """
    for name in _CLASS_FILES:
        if (folder / name).is_file():
            content = json.loads((folder / name).read_text("utf-8"))
            indices = content.get("class_to_index", content)
            values = list(indices.values())
            if not all(type(i) is int for i in values) or sorted(values) != list(
                range(len(values))
            ):
                raise ConversionError(
                    f"{folder / name} gives the class indices {indices}; wanted each of 0 to "
                    "k - 1 once"
                )
            return dict(indices)
    raise ConversionError(
        f"{folder} does not name its classes: write class_to_index.json into it, such as "
        '{"mlops": 0, "other": 1}'
    )


def _arguments(folder: Path) -> dict[str, Any]:
    if not (folder / "args.json").is_file() or not (folder / "model.pt").is_file():
        raise ConversionError(f"{folder} is not in the lesson's layout: wanted args.json, model.pt")
    arguments: dict[str, Any] = json.loads((folder / "args.json").read_text("utf-8"))
    if missing := {"dropout_p", "embedding_dim", "num_classes"} - set(arguments):
        raise ConversionError(f"{folder / 'args.json'} lacks {', '.join(sorted(missing))}")
    return arguments


def load_lesson_model(
    folder: Path, encoder: Path, *, preprocessing: str = "clean_text"
) -> tuple["TextClassifier", dict[str, Any]]:
    """The model of a folder in the lesson's layout, and its encoder's configuration.

    Args:
        folder: holds args.json, model.pt and the class names.
        encoder: folder of the encoder it was trained on: config.json and the tokenizer.
        preprocessing: what the model was trained on; the lesson cleans its texts.

    Raises:
        ConversionError: the folder is not in the lesson's layout or contradicts itself.
        ValueError: the weights do not fit the encoder.
    """
    import pickle

    import torch

    from madewithml.model import ModelSpec, build, load_weights

    arguments = _arguments(folder)
    indices = class_to_index(folder)
    config = json.loads((encoder / "config.json").read_text("utf-8"))
    for name, stated, found in (
        ("num_classes", arguments["num_classes"], len(indices)),
        ("embedding_dim", arguments["embedding_dim"], config["hidden_size"]),
    ):
        if stated != found:
            raise ConversionError(
                f"args.json of {folder} says {name} = {stated}, but the class names and the "
                f"encoder {encoder} give {found}: they do not belong together"
            )
    spec = ModelSpec(
        classes=tuple(sorted(indices, key=indices.__getitem__)),
        pooling="pooler",
        dropout=arguments["dropout_p"],
        preprocessing=preprocessing,
        # The lesson does not truncate; the encoder's own limit is all there is.
        max_length=config.get("max_position_embeddings", 512),
    )
    try:
        state = torch.load(folder / "model.pt", map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConversionError(
            f"{folder / 'model.pt'} holds more than tensors, and nothing else is loaded: save the "
            "model's state_dict()"
        ) from error
    model = build(config, spec)
    load_weights(model, _renamed(state))
    return model.eval(), config


def _renamed(state: Mapping[str, Any]) -> dict[str, Any]:
    renamed = {}
    for name, tensor in state.items():
        prefix = next((p for p in _PREFIXES if name.startswith(p)), None)
        if prefix is None:
            raise ConversionError(
                f"model.pt holds {name!r}; wanted names that begin with llm. or fc1."
            )
        # Older versions of transformers save this constant too.
        if not name.endswith("embeddings.position_ids"):
            renamed[_PREFIXES[prefix] + name.removeprefix(prefix)] = tensor
    return renamed


def convert(
    folder: Path, encoder: Path, out: Path, *, preprocessing: str = "clean_text"
) -> "Checkpoint":
    """Write a Salver checkpoint of a folder in the lesson's layout.

    Raises:
        ConversionError: as `load_lesson_model`, or `out` exists.
    """
    from madewithml.model import save
    from madewithml.tokens import load_tokenizer
    from salver import Checkpoint

    if out.exists():
        raise ConversionError(f"{out} exists: give a new folder, or remove it")
    model, config = load_lesson_model(folder, encoder, preprocessing=preprocessing)
    save(out, model, config, load_tokenizer(encoder).to_str())
    return Checkpoint.create(
        out,
        {
            "class_to_index": {name: i for i, name in enumerate(model.spec.classes)},
            "params": _arguments(folder),
            "preprocessing": preprocessing,
        },
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 when the checkpoint was written, 1 when it could not be."""
    parser = argparse.ArgumentParser(prog="python -m madewithml.convert", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("folder", type=Path, help="checkpoint in the lesson's layout")
    parser.add_argument("--encoder", required=True, help="folder (or hub name) of its encoder")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the checkpoint")
    parser.add_argument("--preprocessing", choices=("clean_text", "none"), default="clean_text")
    given = parser.parse_args(arguments)
    try:
        made = convert(
            given.folder,
            encoder_folder(given.encoder),
            given.out,
            preprocessing=given.preprocessing,
        )
    except (ConversionError, OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(json.dumps({"checkpoint": str(made.path), "digest": made.digest}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
