"""The service: the whole of batch, online and in-process prediction in one file.

    salver serve madewithml.service:service
    salver predict madewithml.service:service projects.csv results/

Importing it loads no model and no torch: checkpoints are found and loaded by the engine.
"""

import asyncio
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from madewithml import __version__, locations
from madewithml.data import DataError, LabelledProject, read_projects
from madewithml.metrics import report
from madewithml.noise import OTHERWISE, THRESHOLD
from madewithml.tagger import Tagger
from salver import Service, Threshold, best_checkpoint, deployment
from salver.errors import UnsafePath
from salver.paths import safe_join

ROWS_AT_A_TIME = 32


class Project(BaseModel):
    """What a user submits."""

    title: str = ""
    description: str = ""


class Dataset(BaseModel):
    """Which labelled data to evaluate on: a path inside one of the configured folders."""

    dataset: str


app = FastAPI(
    title="Made With ML", description="Classify machine learning projects.", version=__version__
)
ServedTagger: Any = deployment(input=Project, policy=Threshold(THRESHOLD, otherwise=OTHERWISE))(
    Tagger
)
tagger = ServedTagger.bind(
    best_checkpoint(
        locations.EXPERIMENT,
        metric=locations.METRIC,
        mode=locations.MODE,
        tracking_uri=locations.tracking_uri(),
    )
)
service = Service(tagger, app=app)


@app.get("/")
async def health() -> dict[str, Any]:
    """Whether the service answers."""
    return {"message": "OK", "status-code": 200, "data": {}}


@app.get("/run_id/")
async def run_id() -> dict[str, str]:
    """The MLflow run whose checkpoint is being served."""
    state = service.status()["deployments"][tagger.name]
    if not state.get("checkpoints"):
        raise HTTPException(503, "The model is still being loaded. Try again soon.")
    return {"run_id": state["checkpoints"][0]["source"].removeprefix("runs:/").partition("/")[0]}


@app.post("/evaluate/")
async def evaluate(request: Dataset) -> dict[str, Any]:
    """Precision, recall and F1 of the served model on labelled data.

    `overall` and `per_class` are the model's own, as `madewithml.evaluate` gives them;
    `with_threshold` is what clients get, and `answered` the share of rows that the threshold lets
    pass.
    """
    projects = await asyncio.to_thread(read_dataset, request.dataset)
    rows = [{"title": project.title, "description": project.description} for project in projects]
    outcomes = []
    # A few at a time: a long data set must not fill the queue that live requests wait in.
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        outcomes += await tagger(rows[start : start + ROWS_AT_A_TIME])
    answered = [(p.tag, o) for p, o in zip(projects, outcomes, strict=True) if o.ok]
    if not answered:
        raise HTTPException(500, "Not one row could be predicted; the log says why.")
    truth = [tag for tag, _ in answered]
    model = [max(o["probabilities"], key=o["probabilities"].__getitem__) for _, o in answered]
    served = [o["prediction"] for _, o in answered]
    classes = sorted({*truth, *model, *served})
    return {
        **report(truth, model, classes),
        "with_threshold": report(truth, served, classes)["overall"],
        "answered": 1 - sum(o.abstained for _, o in answered) / len(answered),
        "failed_rows": len(projects) - len(answered),
    }


def read_dataset(name: str) -> list[LabelledProject]:
    """Read a data set from the configured folders, the first that has it.

    Raises:
        HTTPException: 422 for a path that leads out of the folders or a file that is no data set,
            404 if there is no such file. No message tells where the folders are.
    """
    try:
        found = [path for folder in locations.data_folders() if (path := _file(folder, name))]
    except UnsafePath as error:
        raise HTTPException(
            422, "The dataset must be a plain path inside the data folders, such as holdout.csv."
        ) from error
    if not found:
        raise HTTPException(404, f"There is no data set {name!r} in the data folders.")
    try:
        return read_projects(found[0])
    except DataError as error:
        raise HTTPException(422, str(error).replace(str(found[0]), name)) from error


def _file(folder: Path, name: str) -> Path | None:
    path = safe_join(folder, name)
    return path if path.is_file() else None
