"""The same model beside a FastAPI app of the user's."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from salver import Service
from services.chaos import echo

app = FastAPI()


@app.get("/hello/")
async def hello() -> dict[str, Any]:
    """A route of the user's that asks the deployment."""
    outcome = await echo({"text": "hello"})
    return {"said": outcome["prediction"]}


service = Service(echo, app=app)
