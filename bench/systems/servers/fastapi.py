"""The model behind plain FastAPI: a synchronous route, which FastAPI runs in its thread pool.

See https://fastapi.tiangolo.com/async/: a blocking call belongs into `def`, not `async def`.
"""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from bench.predictors import answer, from_environment


class Project(BaseModel):
    """The request."""

    title: str
    description: str


app = FastAPI()
predictor = from_environment()


@app.post("/predict")
def predict(project: Project) -> dict[str, Any]:
    """One forward pass for one request."""
    return answer(predictor([project.title], [project.description])[0])
