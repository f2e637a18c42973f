"""The route that takes true labels: what turned out to be true of rows that were answered.

It does not know where labels are kept, nor whether one is a class of the model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Annotated, NamedTuple, Protocol

import orjson
from pydantic import BaseModel, ConfigDict, Field

from salver.errors import AccountError, NotReady, TooManyRows
from salver.online.exchange import Exchange, log
from salver.online.predict import check_media_type, read_body
from salver.options import ServerSettings
from salver.schema import Schema
from salver.types import Batch, Outcome

PATH = "/feedback/"
MAX_LABEL = 256  # characters
PATIENCE_S = 10.0  # for labels to be written
RETRY_AFTER_S = 5


class Told(NamedTuple):
    """What turned out to be true of one row.

    Attributes:
        request_id: Of the request that the row came with.
        row: Its position in that request, from 0.
        label: The true class.
        deployment: Whose answer it is about; empty for all that the id stands for.
    """

    request_id: str
    row: int
    label: str | bool | int
    deployment: str = ""


class Recording(Protocol):
    """What keeps an account of answered rows and of labels."""

    def answered(
        self, deployment: str, request_id: bytes, batch: Batch, outcomes: Sequence[Outcome]
    ) -> None:
        """Takes note of a request that is answered; must neither wait nor raise."""
        ...

    def told(self, labels: Sequence[Told]) -> Future[int]:
        """Keeps labels; the result says how many are of rows that are known.

        Raises:
            QueueFull: If too much waits.
        """
        ...


class Feedback(BaseModel):
    """What turned out to be true of one row that was answered."""

    model_config = ConfigDict(extra="forbid")

    request_id: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9._-]{1,64}$",
            description="Of the request, as in the header `x-request-id` of its answer.",
            examples=["order-4711"],
        ),
    ]
    label: Annotated[
        Annotated[str, Field(min_length=1, max_length=MAX_LABEL)] | bool | int,
        Field(description="The true class."),
    ]
    row: Annotated[
        int,
        Field(ge=0, le=10_000_000, description="Position in a request of several rows, from 0."),
    ] = 0
    deployment: Annotated[
        str,
        Field(max_length=MAX_LABEL, description="Whose answer, where one id stands for several."),
    ] = ""


class FeedbackRoute:
    """Takes labels.

    Args:
        recording: Where they are kept.
        settings: Largest body and list.
    """

    schema = Schema(Feedback)

    def __init__(self, recording: Recording, settings: ServerSettings) -> None:
        self._recording = recording
        self._max_body = settings.max_body_bytes
        self._max_rows = settings.max_rows

    async def __call__(self, exchange: Exchange) -> None:
        """Answers once all labels of a request are kept.

        Raises:
            RequestError: If the body is refused; none of its labels is kept then.
            ServingError: If they cannot be kept now.
        """
        check_media_type(exchange.headers)
        body = await read_body(exchange, self._max_body)
        try:
            batch = self.schema.parse_json(body, self._max_rows)
        except TooManyRows as error:
            raise TooManyRows(
                f"One request may carry {self._max_rows} labels. Send several requests, or use "
                "`salver feedback` for files."
            ) from error
        labels = [Told(one, row, label, to) for one, label, row, to in batch.rows]
        matched = await self._kept(labels)
        answer = {"stored": len(labels), "matched": matched}
        await exchange.answer(200, orjson.dumps(answer))

    async def _kept(self, labels: Sequence[Told]) -> int:
        """How many labels are of rows that are known, once all are kept.

        Raises:
            QueueFull: If too much waits.
            NotReady: If the file cannot be written, or not soon.
        """
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await asyncio.wrap_future(self._recording.told(labels))
        except TimeoutError as error:
            message = "The labels were not kept in time. Send them again, which does no harm."
            raise NotReady(message, RETRY_AFTER_S) from error
        except AccountError as error:
            log.error("Labels cannot be kept: %s", error)
            raise NotReady("Labels cannot be kept now: see the log.", RETRY_AFTER_S) from error
