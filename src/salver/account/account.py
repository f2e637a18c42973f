"""The live account of a running service: keeps what is answered and judges it over and over.

It does not know HTTP, nor where a deployment runs: it is told who answers, and with which version.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Protocol

from prometheus_client import CollectorRegistry

from salver.account.about import NOTHING, About
from salver.account.evaluation import evaluated
from salver.account.metrics import AccountMetrics
from salver.account.noting import records_of, seen_of
from salver.account.reading import about, latest
from salver.account.recorder import Recorder
from salver.account.records import Label, Record, class_text
from salver.account.store import Store
from salver.types import Batch, Outcome

log = logging.getLogger("salver.account")

WATCH_S = 5.0  # between two judgements at least
REST = 100  # times as long as a judgement takes passes before the next: 1 % of one core at most
WATCHED_ROWS = 10_000  # latest rows that alarms are about
TRY_AGAIN_S = 10.0  # after what a version promises could not be written down
CLOSE_S = 10.0  # that writing what waits may take at the end


class Told(Protocol):
    """A true class that came in, see `salver.online.feedback.Told`."""

    @property
    def request_id(self) -> str:
        """Of the request that the row came with."""
        ...

    @property
    def row(self) -> int:
        """Its position in that request, from 0."""
        ...

    @property
    def label(self) -> str | bool | int:
        """The true class."""
        ...

    @property
    def deployment(self) -> str:
        """Whose answer it is about; empty for all that the id stands for."""
        ...


class Account:
    """Keeps an account in a file while a service runs.

    Args:
        path: Of the file, made if there is none.
        version: Tells which version of a deployment answers; null if that is not known.
        tells: Tells what a deployment promises; called on another thread.
        registry: Where metrics of the account are added.
        with_inputs: Whether to keep the rows that were asked, too.
        max_records: Most rows that are kept.

    Raises:
        AccountError: If the file cannot be used.
    """

    def __init__(
        self,
        path: Path,
        *,
        version: Callable[[str], str | None],
        tells: Callable[[str], About],
        registry: CollectorRegistry,
        with_inputs: bool,
        max_records: int,
    ) -> None:
        self._store = Store.open(path, max_records=max_records)
        self._recorder = Recorder(self._store, watch=self._watch, watch_s=WATCH_S)
        self._metrics = AccountMetrics(registry, self._recorder)
        self._version = version
        self._tells = tells
        self._with_inputs = with_inputs
        self._answering: dict[str, str] = {}  # the version that answers, by deployment
        self._begun: dict[str, tuple[str, int]] = {}  # the one whose promises are in which file
        self._policies: dict[str, list[str]] = {}  # names, by deployment
        self._is_informed = False  # of who answered before
        self._try_again = 0.0
        self._judged: tuple[int, int] | None = None  # what the file was when it was last judged
        self._rest_until = 0.0

    def answered(
        self, deployment: str, request_id: bytes, batch: Batch, outcomes: Sequence[Outcome]
    ) -> None:
        """Takes note of a request that is answered; neither waits nor raises."""
        version = self._version(deployment) or ""
        made = partial(
            records_of,
            seen_of(batch, self._with_inputs),
            outcomes,
            request_id=request_id.decode(),
            deployment=deployment,
            version=version,
            at=time.time(),
        )
        self._recorder.put(partial(self._made, deployment, version, made), len(batch))

    def told(self, labels: Sequence[Told]) -> Future[int]:
        """Keeps true classes; the result says how many are of rows that are on record.

        Raises:
            QueueFull: If too much waits.
        """
        at = time.time()
        return self._recorder.label(
            [
                Label(o.request_id, o.row, class_text(o.label) or "", at, o.deployment)
                for o in labels
            ]
        )

    def close(self) -> None:
        """Writes what waits, and closes the file."""
        self._recorder.close(CLOSE_S)

    def _made(
        self, deployment: str, version: str, records: Callable[..., Sequence[Record]]
    ) -> Sequence[Record]:
        """Records, before the first of which what their version promises is written down."""
        self._answering[deployment] = version
        if time.monotonic() >= self._try_again:
            try:
                self._begin(deployment, version)
            except Exception:
                log.exception("What %s promises cannot be kept yet; its answers are.", deployment)
                self._try_again = time.monotonic() + TRY_AGAIN_S
        return records(policies=self._policies.get(deployment, ()))

    def _begin(self, deployment: str, version: str) -> None:
        begun = (version, self._store.made)
        if self._begun.get(deployment) != begun:
            tells = self._tells(deployment)
            self._policies[deployment] = [one.partition("(")[0] for one in tells.policies]
            self._store.note_version(deployment, version, tells.as_json())
            self._begun[deployment] = begun

    def _watch(self) -> None:
        """Judges now and then, if there is anything new."""
        mark, started = self._store.mark(), time.monotonic()
        if mark == self._judged or started < self._rest_until:
            return
        try:
            self.judge()
        finally:
            self._judged = mark
            now = time.monotonic()
            self._rest_until = now + REST * (now - started)

    def judge(self) -> None:
        """Judges the latest rows of each deployment that has answered, for the metrics.

        Also of those that had answered before the service was started: an alarm outlasts a restart.
        """
        if not self._is_informed:
            for name in self._store.deployments():
                self._answering.setdefault(name, self._store.versions(name)[0].version)
            self._is_informed = True
        for deployment, version in list(self._answering.items()):
            known = about(self._store, deployment, version) or NOTHING
            rows, labelled, _ = latest(
                self._store, deployment, version, WATCHED_ROWS, classes=known.classes
            )
            if len(rows):
                self._metrics.findings[deployment] = evaluated(rows, labelled, known)
