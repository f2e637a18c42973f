"""Writes the account of predictions on a thread of its own, so that nobody who answers waits for it.

What waits is bounded: rows beyond that are dropped and counted. It does not know where answers come
from, nor what the periodic call looks at. The thread does not survive a fork: make a recorder in the
process that uses it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from salver.account.records import Label, Record
from salver.account.store import Store
from salver.errors import AccountError, QueueFull

MAX_WAITING = 10_000  # rows
MOST_ROWS = 500  # of one transaction; a larger request is written whole
GATHER_S = 0.5  # how long rows wait for others to be written with
QUIET_S = 60.0  # between two log lines about rows that were lost

log = logging.getLogger("salver.account")


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of one request."""

    make: Callable[[], Sequence[Record]]
    rows: int


@dataclass(frozen=True, slots=True)
class _Labels:
    """Labels, and who waits for them."""

    labels: Sequence[Label]
    written: Future[int]

    @property
    def rows(self) -> int:
        return len(self.labels)


class Recorder:
    """Writes to a store, in the order in which it is asked to.

    Args:
        store: Belongs to the recorder from here on, which closes it.
        max_waiting: Rows and labels that may wait to be written.
        watch: A call that is made on the same thread from time to time; may raise.
        watch_s: Seconds between two such calls, and before the first.
        clock: Seconds that only grow.

    Attributes:
        written: Rows that were written.
        dropped: Rows that were not: there was no room, or they could not be made or written.
        labelled: Labels that were written.
    """

    def __init__(
        self,
        store: Store,
        *,
        max_waiting: int = MAX_WAITING,
        watch: Callable[[], None] | None = None,
        watch_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.written = 0
        self.dropped = 0
        self.labelled = 0
        self._store = store
        self._max_waiting = max_waiting
        self._watch = watch
        self._watch_s = watch_s
        self._clock = clock
        self._next_watch = clock() + watch_s
        self._next_line = clock()
        self._changed = threading.Condition()
        self._queue: deque[_Rows | _Labels] = deque()
        self._waiting = 0  # rows and labels in the queue
        self._due = 0.0  # when the queue is to be written, once it holds anything
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="salver-recorder", daemon=True)
        self._thread.start()

    def put(self, make: Callable[[], Sequence[Record]], rows: int) -> None:
        """Has rows written; neither waits nor raises.

        Args:
            make: Gives the records; called on the thread of the recorder.
            rows: How many they are.
        """
        with self._changed:
            if self._closing or self._is_full(rows):
                self.dropped += rows
            else:
                self._append(_Rows(make, rows), self._clock() + GATHER_S)

    def label(self, labels: Sequence[Label]) -> Future[int]:
        """Has labels written, all or none, behind everything that was put before.

        Returns:
            Done once they are written: how many of them belong to a record that is known. It cannot
            be cancelled, and fails with AccountError if the store cannot be written, or with
            ValueError if it cannot hold them.

        Raises:
            QueueFull: If there is no room for them.
            AccountError: If the recorder is closed.
        """
        asked = _Labels(labels, Future())
        asked.written.set_running_or_notify_cancel()
        with self._changed:
            if self._closing:
                raise _closed()
            if self._is_full(asked.rows):
                raise QueueFull(
                    f"{asked.rows} labels were given while {self._waiting} rows wait to be recorded, "
                    f"of at most {self._max_waiting}. Try again in 1 s, or give fewer at once.",
                    retry_after_s=1,
                )
            self._append(asked, self._clock())  # somebody waits
        return asked.written

    def close(self, timeout_s: float) -> None:
        """Writes what waits, ends the thread and closes the store.

        What is not written in time is dropped: its rows are counted, its labels fail. A call that
        hangs by then is left behind, and the store is closed when it returns.

        Args:
            timeout_s: How long that may take.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        self._abandon()

    def _is_full(self, more: int) -> bool:
        """Whether there is no room; there is for any one request where nothing waits."""
        return self._waiting > 0 and self._waiting + more > self._max_waiting

    def _append(self, one: _Rows | _Labels, due: float) -> None:
        before = self._due if self._queue else float("inf")
        self._due = min(before, due)
        self._queue.append(one)
        self._waiting += one.rows
        # The thread is woken only if it has another reason to, which is cheaper for who answers.
        if self._due < before or self._waiting >= MOST_ROWS:
            self._changed.notify()

    def _work(self) -> None:
        try:
            while self._turn():
                pass
        finally:
            self._abandon()
            try:
                self._store.close()
            except AccountError as error:
                log.error("The account could not be closed: %s", error)

    def _abandon(self) -> None:
        """Drops what still waits, so that nobody waits for it; nothing after an orderly end."""
        with self._changed:
            self._closing = True
            left = self._take(self._waiting)
        for one in left:
            if isinstance(one, _Labels):
                one.written.set_exception(_closed())
            else:
                self._lost(one.rows, _closed())

    def _turn(self) -> bool:
        """Waits for something to do and does it; false if there will be nothing any more."""
        with self._changed:
            while (pause := self._pause()) != 0.0:
                self._changed.wait(pause)
            taken = self._take(MOST_ROWS) if self._is_due() else []
            if not taken and self._closing:
                return False
        self._write(taken)
        if self._watch is not None and self._clock() >= self._next_watch:
            try:
                self._watch()
            except Exception:
                log.exception("The watch over the account failed.")
            self._next_watch = self._clock() + self._watch_s
        return True

    def _pause(self) -> float | None:
        """Seconds until there is something to do, 0 at once; null if nothing is in sight."""
        if self._closing or self._is_due():
            return 0.0
        times = [self._due] if self._queue else []
        times += [self._next_watch] if self._watch is not None else []
        return max(0.0, min(times) - self._clock()) if times else None

    def _is_due(self) -> bool:
        if not self._queue:
            return False
        return self._closing or self._waiting >= MOST_ROWS or self._clock() >= self._due

    def _take(self, most: int) -> list[_Rows | _Labels]:
        """The first of the queue, and those behind it up to so many rows."""
        taken: list[_Rows | _Labels] = []
        rows = 0
        while self._queue and (not taken or rows + self._queue[0].rows <= most):
            taken.append(self._queue.popleft())
            rows += taken[-1].rows
        self._waiting -= rows
        return taken

    def _write(self, taken: Sequence[_Rows | _Labels]) -> None:
        made: list[Sequence[Record]] = []
        for one in taken:
            if isinstance(one, _Labels):
                self._add(made)
                made = []
                self._label(one)
                continue
            try:
                made.append(one.make())
            except Exception as error:  # noqa: BLE001 - any row may be lost, the thread may not
                self._lost(one.rows, error)
        self._add(made)

    def _add(self, made: Sequence[Sequence[Record]]) -> None:
        """Writes the records of several requests together."""
        records = [record for some in made for record in some]
        if not records:
            return
        try:
            self._store.add(records)
        except Exception as error:  # noqa: BLE001 - any row may be lost, the thread may not
            if isinstance(error, AccountError) or len(made) == 1:
                self._lost(len(records), error)
                return
            for some in made:  # a record that cannot be kept takes no other request with it
                self._add([some])
        else:
            with self._changed:
                self.written += len(records)

    def _label(self, asked: _Labels) -> None:
        try:
            known = self._store.label(asked.labels)
        except Exception as error:  # noqa: BLE001 - it belongs to who asked
            asked.written.set_exception(error)
        else:
            self.labelled += asked.rows
            asked.written.set_result(known)

    def _lost(self, rows: int, error: Exception) -> None:
        with self._changed:
            self.dropped += rows
            now, dropped = self._clock(), self.dropped
            if now < self._next_line:
                return
            self._next_line = now + QUIET_S
        log.error(
            "%d rows could not be recorded (%d dropped so far; said once a minute at most): %s",
            rows,
            dropped,
            error,
        )


def _closed() -> AccountError:
    return AccountError("The recorder of the account is closed. Ask again once the service runs.")
