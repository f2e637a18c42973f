# ruff: noqa: T201 (a command line speaks through print)
"""What the measurements need on disk: the models, request rows, reference answers.

    python -m bench.prepare [MODEL ...]

Everything is made once, under `bench/.artifacts`, and made anew when what it is made from changes.
It does not know how a model is exported, nor who uses it.
"""

import contextlib
import fcntl
import functools
import hashlib
import importlib.metadata
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

MODELS = ("constant", "minilm", "bert-base", "sklearn")
ARTIFACTS = Path(__file__).parent / ".artifacts"
CHECKPOINT = ARTIFACTS / "checkpoint"
ROWS_FILE = ARTIFACTS / "rows.json"
CHECKPOINT_VARIABLE = "BENCH_CHECKPOINT"
EXPECTED_ROWS = 64

_RECIPE_FILE = "recipe.json"
_ORDER_SEED = 11
# What decides the bytes of an artifact beside the source of bench/export.py.
_TOOLS = {
    "constant": (),
    "minilm": ("torch", "transformers", "onnx"),
    "bert-base": ("torch", "transformers", "onnx"),
    "sklearn": ("scikit-learn",),
}


class PreparationFailed(Exception):
    """Something that the measurements need could not be made; the message says what to do."""


def folder(model: str) -> Path:
    """The folder of a model's files, made if it is missing or out of date.

    `minilm` is exported from the checkpoint that BENCH_CHECKPOINT names. Without the variable, the
    one that was used last is kept; without any, the example's model is trained first, which takes
    ten minutes on two cores.

    Raises:
        PreparationFailed: If it cannot be made.
    """
    if model not in MODELS:
        raise PreparationFailed(f"model {model!r} is not known: choose one of {', '.join(MODELS)}")
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    wanted = ARTIFACTS / model
    rows()
    with (ARTIFACTS / f"{model}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be making the same one
        recipe = _recipe(model)
        if _recorded(wanted) != recipe:
            _make(model, wanted, recipe)
    return wanted


@functools.cache
def _all_rows() -> tuple[tuple[str, str], ...]:
    from madewithml.data import HOLDOUT_FILE, TRAIN_FILE, read_projects

    projects = [*read_projects(TRAIN_FILE), *read_projects(HOLDOUT_FILE)]
    # The files are grouped in places; a request's neighbours should be any.
    random.Random(_ORDER_SEED).shuffle(projects)
    return tuple((project.title, project.description) for project in projects)


def rows() -> list[dict[str, str]]:
    """Request rows: title and description of every project of the example, in a fixed mixed order.

    Also written to `ROWS_FILE`, for readers that cannot import the example.
    """
    found = [{"title": title, "description": description} for title, description in _all_rows()]
    text = json.dumps(found)
    if not ROWS_FILE.exists() or ROWS_FILE.read_text("utf-8") != text:
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=ARTIFACTS, delete=False) as new:
            new.write(text)
        Path(new.name).replace(ROWS_FILE)
    return found


def reference(model: str) -> np.ndarray:
    """Probabilities of the first n of `rows()`, shape (n, 4), from the model before its export."""
    from bench.export import REFERENCE_FILE

    found: np.ndarray = np.load(folder(model) / REFERENCE_FILE)
    return found


def expected(model: str) -> list[dict[str, object]]:
    """Reference answers of some rows: `{"row": {...}, "probabilities": [4 floats]}` each."""
    found = reference(model)[:EXPECTED_ROWS].tolist()
    return [{"row": row, "probabilities": p} for row, p in zip(rows(), found, strict=False)]


def origin(model: str) -> dict[str, str]:
    """What a model was made from, for the report."""
    recorded = _recorded(folder(model))
    assert recorded is not None  # folder() has just seen to it
    return recorded


def _recipe(model: str) -> dict[str, str]:
    """Whatever, when it changes, makes the files another model."""
    recipe = {
        "model": model,
        "export": digest_of([Path(__file__).with_name("export.py")]),
        "rows": hashlib.sha256(repr(_all_rows()).encode()).hexdigest(),
    }
    recipe |= {tool: _version(tool) for tool in _TOOLS[model]}
    if model == "minilm":
        recipe |= _checkpoint()
    return recipe


def _version(tool: str) -> str:
    try:
        return importlib.metadata.version(tool)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"  # the export, which needs it, says so


def _checkpoint() -> dict[str, str]:
    """Where the checkpoint under `CHECKPOINT` comes from, after it has been put there."""
    if given := os.environ.get(CHECKPOINT_VARIABLE):
        source = Path(given)
        if not (source / "manifest.json").is_file():
            raise PreparationFailed(
                f"{CHECKPOINT_VARIABLE} is {given}, which has no manifest.json: name the folder of "
                "a checkpoint of the example, or unset the variable to train one"
            )
        made_from = {"checkpoint": digest_of([source / "manifest.json"])}
    else:
        kept = _recorded(CHECKPOINT)
        made_from = {"example": digest_of(_example_files())}
        if kept is not None and ("checkpoint" in kept or kept == made_from):
            return kept
        source = _trained()
    if _recorded(CHECKPOINT) != made_from:
        with _replacing(CHECKPOINT) as folder:
            shutil.copytree(source, folder, dirs_exist_ok=True)
            _record(folder, made_from)
    return made_from


def _example_files() -> list[Path]:
    """What the example's training depends on."""
    import madewithml

    package = Path(madewithml.__file__).parent
    names = ("data", "fit", "model", "text", "tokens", "train")
    return [package / f"{name}.py" for name in names] + sorted(package.glob("datasets/*.csv"))


def _trained() -> Path:
    """The checkpoint of a new training, in a store of its own."""
    store = ARTIFACTS / "training"
    shutil.rmtree(store, ignore_errors=True)
    store.mkdir(parents=True)
    # SALVER_TRACKING_URI is the stronger of the example's two names for its store.
    printed = _run(
        ["-m", "madewithml.train"], {"SALVER_TRACKING_URI": f"sqlite:///{store / 'mlflow.db'}"}
    )
    run = json.loads(printed.splitlines()[-1])["run_id"]
    (found,) = store.glob(f"mlartifacts/*/{run}/artifacts/checkpoint")
    return found


def _make(model: str, wanted: Path, recipe: dict[str, str]) -> None:
    sys.stderr.write(f"making {model} under {wanted} ...\n")
    with _replacing(wanted) as folder:
        # A process of its own: torch would stay in this one for as long as it measures.
        _run(["-m", "bench.export", model, str(folder), str(ROWS_FILE), str(CHECKPOINT)])
        _record(folder, recipe)


def _run(arguments: Sequence[str], variables: Mapping[str, str] | None = None) -> str:
    """Runs Python from the repository's root and returns what it printed."""
    run = subprocess.run(
        [sys.executable, *arguments],
        cwd=Path(__file__).parents[1],
        env={**os.environ, **(variables or {})},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        raise PreparationFailed(
            f"`python {' '.join(arguments)}` ended with code {run.returncode}; its words are above"
        )
    return run.stdout


@contextlib.contextmanager
def _replacing(wanted: Path) -> Iterator[Path]:
    """A new folder that takes the place of `wanted` if the block ends well."""
    wanted.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=wanted.parent, prefix=f"{wanted.name}-") as scratch:
        new = Path(scratch) / wanted.name
        new.mkdir()
        yield new
        shutil.rmtree(wanted, ignore_errors=True)
        new.rename(wanted)


def _record(folder: Path, recipe: dict[str, str]) -> None:
    (folder / _RECIPE_FILE).write_text(json.dumps(recipe, indent=1), "utf-8")


def _recorded(folder: Path) -> dict[str, str] | None:
    """What a folder was made from; None if it is not there."""
    file = folder / _RECIPE_FILE
    recipe: dict[str, str] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return recipe or None


def digest_of(files: Iterable[Path]) -> str:
    """One digest of the contents of several files, in this order."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def main(models: Sequence[str]) -> int:
    """Makes the given models, or all; 1 if one cannot be made."""
    try:
        for model in models or MODELS:
            print(folder(model))
    except PreparationFailed as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
