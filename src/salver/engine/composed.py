"""Asks a composed function: plain Python over the rows of one request.

The function runs where requests arrive, awaits other deployments, and gives one result per row.
If it raises, its rows are halved like a batch of a model, so that a bad row stays alone.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from salver.definition import Deployment
from salver.errors import DeadlineExceeded, ServingError
from salver.outputs import BadModelOutput, plain_row
from salver.types import Batch, Failure, Outcome, RowFailed

log = logging.getLogger("salver.composed")


class ComposedHandle:
    """The handle of a composed function.

    Args:
        deployment: The function and what it is bound to; its parts must be connected.
    """

    def __init__(self, deployment: Deployment) -> None:
        self.loop = asyncio.get_running_loop()
        self._deployment = deployment
        self._timeout_s = deployment.options.request_timeout_s

    def ask(self, batch: Batch, timeout_s: float | None = None) -> asyncio.Future[list[Outcome]]:
        """See `salver.definition.Handle`."""
        return self.loop.create_task(self._ask(batch, timeout_s))

    async def _ask(self, batch: Batch, timeout_s: float | None) -> list[Outcome]:
        timeout = self._timeout_s if timeout_s is None else timeout_s
        rows = [dict(zip(self._deployment.schema.names, row, strict=True)) for row in batch.rows]
        try:
            async with asyncio.timeout(timeout):
                return await self._attempt(rows)
        except TimeoutError:  # ours: one of the function's own has failed its row alone
            raise DeadlineExceeded(
                f"{self._deployment.name} did not answer within {timeout:g} s. Try again later, or "
                "raise request_timeout_s."
            ) from None

    async def _attempt(self, rows: list[dict[str, Any]]) -> list[Outcome]:
        if not rows:
            return []
        bound = self._deployment
        try:
            return _outcomes(await bound.target(rows, *bound.args, **bound.kwargs), len(rows))
        except ServingError:
            raise  # a full queue or the deadline of a part concerns the whole request
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001
            raised = error  # the user's function may raise anything; it must not end the loop
        if len(rows) > 1:
            middle = len(rows) // 2
            return await self._attempt(rows[:middle]) + await self._attempt(rows[middle:])
        if isinstance(raised, RowFailed):
            return [Outcome(None, raised.failure)]  # the row failed in a part of the composition
        detail = "".join(traceback.format_exception(raised))
        log.error("%s raised:\n%s", bound.name, detail)
        if isinstance(raised, BadModelOutput):
            message = f"The output of {bound.name} is not usable: {raised}"
            return [Outcome(None, Failure("bad_model_output", message, detail))]
        message = f"{bound.name} raised {type(raised).__name__} on this row."
        return [Outcome(None, Failure("model_error", message, detail))]


def _outcomes(results: Any, n: int) -> list[Outcome]:
    if not isinstance(results, Sequence) or isinstance(results, str) or len(results) != n:
        size = len(results) if hasattr(results, "__len__") else "no"
        raise BadModelOutput(f"it has {size} results, expected a list of {n}, one per row.")
    return [_outcome(result) for result in results]


def _outcome(result: Any) -> Outcome:
    if isinstance(result, Outcome):
        return result
    if not isinstance(result, Mapping):
        result = {"prediction": result}
    value, failure = plain_row(result)
    return Outcome(None, failure) if failure else Outcome(value)
