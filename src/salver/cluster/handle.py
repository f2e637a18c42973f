"""Asks a deployment on Ray Serve, as every other handle does.

Ray routes; this adds a deadline, Salver's errors, and another try when a replica ended while it
held the rows. It does not know what is asked, nor who answers.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
)
from ray.serve.handle import DeploymentHandle

from salver.cluster.replica import Refusal
from salver.definition import Deployment
from salver.errors import DeadlineExceeded, NotReady, QueueFull
from salver.types import Batch, Outcome

log = logging.getLogger("salver.cluster")

# A replica that ended is replaced within 7 to 10 s on a busy machine, model not counted.
RETRY_BUDGET_S = 20.0
FIRST_RETRY_S = 0.02
LONGEST_RETRY_S = 0.5


# A replica or its node ended: before it answered, or before its answer was fetched.
LOST = (RayActorError, ReplicaUnavailableError, ObjectLostError, NodeDiedError)


class RayHandle:
    """The handle of a model that runs as a deployment of Ray Serve.

    Rows that a replica held when it ended are asked again, so a row may be predicted twice; it is
    answered once.

    Args:
        deployment: What is asked.
        remote: Ray's handle of it.

    Attributes:
        under_way: Rows that were asked and not answered yet.
    """

    def __init__(self, deployment: Deployment, remote: DeploymentHandle[Any]) -> None:
        self.loop = asyncio.get_running_loop()
        self._name = deployment.name
        self._timeout_s = deployment.options.request_timeout_s
        self._remote = remote
        self.under_way = 0

    def ask(self, batch: Batch, timeout_s: float | None = None) -> asyncio.Future[list[Outcome]]:
        """See `salver.definition.Handle`."""
        return self.loop.create_task(self._ask(batch, timeout_s))

    async def _ask(self, batch: Batch, timeout_s: float | None) -> list[Outcome]:
        timeout = self._timeout_s if timeout_s is None else timeout_s
        end = self.loop.time() + timeout
        self.under_way += len(batch)
        try:
            async with asyncio.timeout_at(end):
                return await self._answered(list(batch.rows), end)
        except TimeoutError:
            raise DeadlineExceeded(
                f"No answer within {timeout:g} s. Try again later, or raise request_timeout_s."
            ) from None
        finally:
            self.under_way -= len(batch)

    async def _answered(self, rows: list[tuple[Any, ...]], end: float) -> list[Outcome]:
        give_up = min(end, self.loop.time() + RETRY_BUDGET_S)
        pause = FIRST_RETRY_S
        while True:
            try:
                return await self._once(rows, end - self.loop.time())
            except LOST as error:
                if self.loop.time() > give_up:
                    raise NotReady(
                        f"{self._name} has lost its replicas. Try again in 5 s.", 5
                    ) from error
                log.warning("%s: a replica ended while it held rows; asking again.", self._name)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_RETRY_S)

    async def _once(self, rows: list[tuple[Any, ...]], timeout_s: float) -> list[Outcome]:
        response = self._remote.ask.remote(rows, timeout_s)
        try:
            answer: list[Outcome] | Refusal = await response
        except asyncio.CancelledError:
            response.cancel()  # nobody waits: the rows are dropped before they cost a prediction
            raise
        except BackPressureError:
            raise QueueFull(f"The queue of {self._name} is full. Try again in 1 s.", 1) from None
        except DeploymentUnavailableError:
            raise NotReady(f"{self._name} could not be deployed. Its state says why.") from None
        if isinstance(answer, Refusal):
            raise answer.error()
        return answer
