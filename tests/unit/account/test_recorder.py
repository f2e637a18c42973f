"""Tests of `salver.account.recorder`."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from salver.account.recorder import GATHER_S, MOST_ROWS, Recorder
from salver.account.records import Label, Record
from salver.account.store import Store
from salver.errors import AccountError, QueueFull

PATIENCE_S = 60.0


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Observed(Store):
    """A real store that remembers how many rows each transaction wrote."""

    def __init__(self, path: Path, max_records: int | None) -> None:
        super().__init__(path, max_records)
        self.transactions: list[int] = []

    def add(self, records: Sequence[Record]) -> None:
        super().add(records)
        self.transactions.append(len(records))


class Telling(Store):
    """A real store that tells when it has written."""

    def __init__(self, path: Path, written: threading.Event) -> None:
        Store.open(path).close()
        super().__init__(path, None)
        self._written = written

    def add(self, records: Sequence[Record]) -> None:
        super().add(records)
        self._written.set()


class Gate:
    """Holds the recorder's thread in a request until it is opened."""

    def __init__(self, recorder: Recorder) -> None:
        self.open = threading.Event()
        self._reached = threading.Event()
        recorder.put(self._make, 0)
        recorder.label([])  # so that it is taken at once
        assert self._reached.wait(PATIENCE_S)

    def _make(self) -> list[Record]:
        self._reached.set()
        assert self.open.wait(PATIENCE_S)
        return []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "account.db"


@pytest.fixture
def store(path: Path) -> Observed:
    made = Observed.open(path)
    assert isinstance(made, Observed)
    return made


@pytest.fixture
def recorder(store: Observed) -> Iterator[Recorder]:
    made = Recorder(store, max_waiting=1000)
    yield made
    made.close(PATIENCE_S)


def request(number: int, rows: int) -> Callable[[], list[Record]]:
    """Makes the records of a request."""
    return lambda: [Record(f"r-{number}", row, "Tagger", "v1", number) for row in range(rows)]


def kept(path: Path) -> int:
    with Store.existing(path) as reader:
        return reader.count("Tagger", "v1")


def caught_up(recorder: Recorder) -> None:
    """Waits until everything that was put before has been dealt with."""
    recorder.label([]).result(PATIENCE_S)


def test_rows_are_written_in_the_background(recorder: Recorder, path: Path) -> None:
    """Records are made on another thread, and are in the file before a label that follows is done."""
    makers: list[threading.Thread] = []

    def make() -> list[Record]:
        makers.append(threading.current_thread())
        return request(1, 3)()

    recorder.put(make, 3)
    labels = [Label("r-1", 2, "nlp", 9.0), Label("r-2", 0, "cv", 9.0)]
    assert recorder.label(labels).result(PATIENCE_S) == 1
    assert kept(path) == recorder.written == 3
    assert [thread.name for thread in makers] == ["salver-recorder"]
    assert recorder.dropped == 0


def test_rows_are_written_although_nobody_asks_further(path: Path) -> None:
    """A request that is followed by none is written once its time to wait is over."""
    written = threading.Event()
    recorder = Recorder(Telling(path, written))
    recorder.put(request(1, 2), 2)
    assert written.wait(PATIENCE_S)
    assert kept(path) == 2
    recorder.close(PATIENCE_S)


def test_requests_are_written_together(recorder: Recorder, store: Observed) -> None:
    """Up to 500 rows make a transaction, and a larger request makes one by itself."""
    gate = Gate(recorder)
    for number, rows in enumerate([200, 200, 150, 50, 350]):
        recorder.put(request(number, rows), rows)
    gate.open.set()
    caught_up(recorder)
    recorder.put(request(9, MOST_ROWS + 100), MOST_ROWS + 100)
    caught_up(recorder)
    assert store.transactions == [400, 200, 350, 600]


def test_few_rows_wait_for_others(store: Observed) -> None:
    """They are written when their time is over, or when there are enough, and not before."""
    clock = Clock()
    recorder = Recorder(store, clock=clock)
    recorder.put(request(1, 1), 1)
    clock.now = GATHER_S - 0.01
    recorder.put(request(2, 1), 1)
    assert recorder._pause() == pytest.approx(0.01)
    clock.now = GATHER_S
    assert recorder._pause() == 0.0
    caught_up(recorder)
    assert recorder._pause() is None
    recorder.put(request(3, MOST_ROWS), MOST_ROWS)
    recorder.close(PATIENCE_S)
    assert sum(store.transactions) == recorder.written == MOST_ROWS + 2


def test_many_rows_do_not_wait_for_others(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once there are enough for a transaction they are written, however long few would wait."""
    monkeypatch.setattr("salver.account.recorder.GATHER_S", 1e6)
    written = threading.Event()
    recorder = Recorder(Telling(path, written))
    recorder.put(request(1, 1), 1)
    recorder.put(request(2, MOST_ROWS - 1), MOST_ROWS - 1)
    assert written.wait(PATIENCE_S)
    recorder.close(PATIENCE_S)
    assert kept(path) == MOST_ROWS


def test_what_finds_no_room_is_dropped_and_counted(recorder: Recorder, path: Path) -> None:
    """Rows beyond the bound are not made, labels beyond it are refused, and what waits is written."""
    gate = Gate(recorder)
    recorder.put(request(1, 990), 990)
    recorder.put(request(2, 11), 11)
    recorder.put(request(3, 10), 10)
    recorder.put(request(4, 1), 1)
    with pytest.raises(QueueFull, match="1000 rows wait") as raised:
        recorder.label([Label("r-1", 0, "nlp", 9.0)])
    assert raised.value.retry_after_s == 1
    assert recorder.dropped == 12
    gate.open.set()
    caught_up(recorder)
    assert kept(path) == recorder.written == 1000
    recorder.put(request(5, 1000), 1000)
    caught_up(recorder)
    assert (recorder.written, recorder.dropped) == (2000, 12)


def test_labels_count_as_waiting(recorder: Recorder) -> None:
    """Labels that wait take the room of rows."""
    gate = Gate(recorder)
    asked = recorder.label([Label("r-1", row, "nlp", 9.0) for row in range(999)])
    recorder.put(request(1, 2), 2)
    recorder.put(request(1, 1), 1)
    assert recorder.dropped == 2
    gate.open.set()
    assert asked.result(PATIENCE_S) == 0


def test_a_label_cannot_be_cancelled(recorder: Recorder, path: Path) -> None:
    """Who told it and left is served all the same."""
    gate = Gate(recorder)
    recorder.put(request(1, 1), 1)
    asked = recorder.label([Label("r-1", 0, "nlp", 9.0)])
    assert not asked.cancel()
    gate.open.set()
    assert asked.result(PATIENCE_S) == 1


def test_a_request_that_cannot_be_recorded_takes_no_other_with_it(
    recorder: Recorder, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One that cannot be made or kept is dropped and counted, its neighbours are written."""

    def broken() -> list[Record]:
        raise LookupError("no such column")

    gate = Gate(recorder)
    recorder.put(request(1, 2), 2)
    recorder.put(lambda: [Record("r-2", 0, "Tagger", "v1", 2.0, prediction="\ud800")], 1)
    recorder.put(broken, 4)
    recorder.put(request(3, 2), 2)
    asked = recorder.label([Label("r-3", 0, "\ud800", 9.0)])
    gate.open.set()
    with pytest.raises(ValueError, match="surrogates"):
        asked.result(PATIENCE_S)
    assert (recorder.written, recorder.dropped) == (4, 5)
    assert kept(path) == 4
    (line,) = caplog.messages  # the second failure follows within the minute
    assert "4 rows could not be recorded" in line
    assert "no such column" in line


def test_failures_are_logged_once_a_minute(
    store: Observed, caplog: pytest.LogCaptureFixture
) -> None:
    """Each line says how many rows were dropped so far."""
    clock = Clock()
    recorder = Recorder(store, clock=clock)
    store.close()
    for now in (0.0, 59.0, 60.0, 100.0, 120.0):
        clock.now = now
        recorder.put(request(1, 3), 3)
        with pytest.raises(AccountError, match="is closed"):
            recorder.label([]).result(PATIENCE_S)
    recorder.close(PATIENCE_S)
    assert recorder.dropped == 15
    assert [line.partition(" dropped")[0] for line in caplog.messages] == [
        "3 rows could not be recorded (3",
        "3 rows could not be recorded (9",
        "3 rows could not be recorded (15",
    ]


def test_a_full_disk_does_not_end_the_thread(path: Path) -> None:
    """Rows that do not fit are dropped and labels fail, and all is written once there is room."""
    code = """
    import json, resource, sys
    from pathlib import Path
    from salver.account.records import Label, Record
    from salver.account.recorder import Recorder
    from salver.account.store import Store
    from salver.errors import AccountError

    def put(number):
        recorder.put(lambda: [Record(f"{number}-{r}", 0, "T", "v1", r, own="x" * 500)
                              for r in range(400)], 400)
        try:
            return recorder.label([Label(f"{number}-0", 0, "y" * 500, 1.0)]).result(60)
        except AccountError as error:
            return error.message

    recorder = Recorder(Store.open(Path(sys.argv[1])))
    answers = [put(1)]
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    answers += [put(2), put(3)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    answers += [put(4)]
    recorder.close(60)
    print(json.dumps([answers, recorder.written, recorder.dropped]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    answers, written, dropped = json.loads(done.stdout)
    assert (answers[0], answers[3]) == (1, 1)
    assert all(str(path) in answer and "disk" in answer for answer in answers[1:3])
    assert (written, dropped) == (800, 800)
    assert done.stderr.count("400 rows could not be recorded") == 1
    with Store.existing(path) as store:
        assert store.count("T", "v1") == 800


def test_the_watch_is_called_from_time_to_time(
    store: Observed, caplog: pytest.LogCaptureFixture
) -> None:
    """Not before its time nor without end, on the recorder's thread; its failures end nothing."""
    clock = Clock()
    calls: list[tuple[float, str]] = []

    def watch() -> None:
        calls.append((clock.now, threading.current_thread().name))
        clock.now += 5.0  # it takes its time, which does not count
        raise RuntimeError("no reference")

    recorder = Recorder(store, watch=watch, watch_s=10.0, clock=clock)
    for now in (0.0, 9.0, 10.0, 24.0, 25.0, 39.0):
        clock.now = now
        caught_up(recorder)
        caught_up(recorder)  # the watch comes behind the first, and before the second
    assert calls == [(10.0, "salver-recorder"), (25.0, "salver-recorder")]
    assert [r.levelno for r in caplog.records] == [logging.ERROR] * 2
    recorder.close(PATIENCE_S)


def test_the_watch_needs_no_rows(store: Observed) -> None:
    """It is called while nobody asks anything."""
    called = threading.Event()
    recorder = Recorder(store, watch=called.set, watch_s=0.01)
    assert called.wait(PATIENCE_S)
    recorder.close(PATIENCE_S)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_thread_that_ended(store: Observed) -> None:
    """Should the thread end before its time, labels that wait fail and rows are dropped."""
    asked = []

    def watch() -> None:
        recorder.put(request(1, 3), 3)
        asked.append(recorder.label([]))
        called.set()
        raise SystemExit

    called = threading.Event()
    recorder = Recorder(store, watch=watch, watch_s=0.01)
    assert called.wait(PATIENCE_S)
    with pytest.raises(AccountError, match="closed"):
        asked[0].result(PATIENCE_S)
    recorder.put(request(2, 4), 4)
    recorder.close(PATIENCE_S)
    assert (recorder.written, recorder.dropped) == (0, 7)


def test_closing_writes_what_waits(store: Observed, path: Path) -> None:
    """The store is closed after it, and what comes later is dropped or refused."""
    recorder = Recorder(store)
    gate = Gate(recorder)
    for number in range(10):
        recorder.put(request(number, 90), 90)
    asked = recorder.label([Label("r-1", 0, "nlp", 9.0)])
    gate.open.set()
    recorder.close(PATIENCE_S)
    assert asked.result(0) == 1
    assert kept(path) == recorder.written == 900
    recorder.put(request(1, 7), 7)
    assert recorder.dropped == 7
    with pytest.raises(AccountError, match="closed"):
        recorder.label([])
    with pytest.raises(AccountError, match="closed"):
        store.deployments()
    recorder.close(PATIENCE_S)


def test_closing_does_not_wait_for_ever(store: Observed, path: Path) -> None:
    """What is not written in time is counted as dropped, its labels fail, and the thread ends."""
    recorder = Recorder(store)
    gate = Gate(recorder)
    recorder.put(request(1, 3), 3)
    asked = recorder.label([Label("r-1", 0, "nlp", 9.0)])
    recorder.close(0.01)
    assert recorder.dropped == 3
    with pytest.raises(AccountError, match="closed"):
        asked.result(0)
    gate.open.set()
    recorder.close(PATIENCE_S)
    assert kept(path) == 0
    with pytest.raises(AccountError, match="closed"):
        store.deployments()


def test_many_threads_put_at_once(store: Observed, path: Path) -> None:
    """Each row is either written or counted as dropped."""
    recorder = Recorder(store, max_waiting=50)
    together = threading.Barrier(4)

    def ask(first: int) -> None:
        together.wait()
        for number in range(first, first + 300):
            recorder.put(request(number, 3), 3)

    threads = [threading.Thread(target=ask, args=(n * 1000,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.close(PATIENCE_S)
    assert recorder.written + recorder.dropped == 4 * 300 * 3
    assert kept(path) == recorder.written > 0
