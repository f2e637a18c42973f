"""Writing runs to MLflow: parameters, metrics by epoch, the checkpoint, a picture.

Knows nothing of models or training. MLflow is imported when a run is opened.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from madewithml.locations import CHECKPOINT_ARTIFACT, artifact_location

if TYPE_CHECKING:
    pass


@contextmanager
def _quiet() -> Iterator[None]:
    # The first contact makes the database, table by table, and logs each one.
    import logging

    logger = logging.getLogger("alembic")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


class Run:
    """One run of an experiment, finished or failed when its `with` block ends.

    Attributes:
        run_id: MLflow's id.
    """

    def __init__(self, experiment: str, name: str, tracking_uri: str) -> None:
        """Open a run; the experiment is made if it is missing."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        with _quiet():
            self._client: MlflowClient = MlflowClient(tracking_uri=tracking_uri)
            found = self._client.get_experiment_by_name(experiment)
            experiment_id = (
                found.experiment_id
                if found is not None
                else self._client.create_experiment(
                    experiment, artifact_location=artifact_location(tracking_uri)
                )
            )
        self.run_id: str = self._client.create_run(experiment_id, run_name=name).info.run_id

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.set_terminated(self.run_id, "FINISHED" if kind is None else "FAILED")

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log the settings of the run."""
        for name, value in params.items():
            self._client.log_param(self.run_id, name, value)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log one point of each curve."""
        for name, value in metrics.items():
            self._client.log_metric(self.run_id, name, value, step=step)

    def log_checkpoint(self, folder: Path) -> None:
        """Upload a checkpoint's folder as the artefact `checkpoint`."""
        self._client.log_artifacts(self.run_id, str(folder), CHECKPOINT_ARTIFACT)

    def log_picture(self, file: Path) -> None:
        """Upload a picture."""
        self._client.log_artifact(self.run_id, str(file))


def draw_confusion(matrix: np.ndarray, classes: list[str], file: Path, title: str) -> None:
    """Draw a confusion matrix: shades show the share of each true class, numbers the counts.

    Args:
        matrix: counts by (true class, predicted class), shape (k, k).
        classes: the k class names.
        file: PNG to write.
        title: what stands above it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = len(classes)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(3.2 + 1.1 * size, 2.4 + 0.9 * size), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(size), classes, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, fontsize=11)
    for row in range(size):
        for column in range(size):
            axes.text(
                column, row, str(matrix[row, column]), ha="center", va="center", fontsize=13,
                color="white" if shares[row, column] > 0.5 else "black",
            )  # fmt: skip
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    figure.savefig(file)
