"""Tests of `salver.account.store`."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from salver.account.records import Label, Labelled, Record
from salver.account.store import SPARE_VERSIONS, Recorded, Store
from salver.errors import AccountError

FULL = Record(
    request_id="r-1",
    row=2,
    deployment="Tagger",
    version="v1",
    at=1_700_000_000.25,
    prediction="other",
    own="nlp",
    confidence=0.125,
    novelty=3.5,
    withheld_by="Precision",
    prediction_set=["nlp", "cv"],
    failed="model_error",
    length=17,
    inputs={"title": "Übersicht\n\0", "stars": 3, "share": 0.1, "new": True, "none": None},
)


def record(number: int, version: str = "v1", deployment: str = "Tagger") -> Record:
    """A row of a request of its own; its time grows with its number."""
    return Record(f"r-{number}", 0, deployment, version, float(number))


def label(number: int, text: str = "nlp") -> Label:
    return Label(f"r-{number}", 0, text, 99.0)


def numbers(found: list[Labelled]) -> list[int]:
    return [int(one.record.request_id.removeprefix("r-")) for one in found]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "account.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(path) as opened:
        yield opened


@contextlib.contextmanager
def child(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses the store."""
    names = (
        "from salver.account.records import Label, Record\nfrom salver.account.store import Store\n"
    )
    begun = "import sys\nfrom pathlib import Path\n" + names
    started = subprocess.Popen(
        [sys.executable, "-c", begun + textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with started:
        try:
            yield started
        finally:
            started.kill()


def test_a_record_is_read_as_it_was_written(path: Path) -> None:
    """Every attribute comes back, also those that are null, after the file was closed."""
    bare = replace(record(7), row=1)
    with Store.open(path) as store:
        store.add([FULL, bare])
    with Store.existing(path) as store:
        assert store.latest("Tagger", "v1", 10) == [Labelled(bare, None), Labelled(FULL, None)]


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """The file and the log beside it have mode 0600; missing folders above it are made."""
    path = tmp_path / "a" / "b" / "account?#%.db"
    with Store.open(path) as store:
        store.add([FULL])
        files = sorted(path.parent.iterdir())
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert [file.name for file in files] == [path.name, f"{path.name}-shm", f"{path.name}-wal"]
    assert list(path.parent.iterdir()) == [path]


def test_the_same_row_again_replaces_its_record(store: Store) -> None:
    """What is written last counts, and the label stays."""
    store.add([FULL, record(5)])
    store.label([Label("r-1", 2, "cv", 99.0)])
    again = replace(FULL, version="v2", at=9.0, prediction="nlp", inputs=None, failed=None)
    store.add([replace(again, own="cv"), again])
    assert store.latest("Tagger", "v2", 10) == [Labelled(again, "cv")]
    assert store.count("Tagger", "v1") == 1


def test_a_label_is_not_true_of_another_question(store: Store) -> None:
    """Where an id comes again with a text of another length, its label goes."""
    store.add([FULL])
    store.label([Label(FULL.request_id, FULL.row, "cv", 99.0)])
    other = replace(FULL, length=FULL.length + 1)
    store.add([other])
    assert store.latest("Tagger", "v1", 10) == [Labelled(other, None)]


@pytest.mark.parametrize(
    "wrong",
    [
        replace(FULL, prediction="\ud800"),
        replace(FULL, inputs={"text": "\ud800"}),
        replace(FULL, inputs={"image": b"png"}),
        replace(FULL, confidence=1 + 2j),
        replace(FULL, row=2**64),
        replace(FULL, deployment=None),
    ],
)
def test_a_record_that_cannot_be_kept_is_refused(store: Store, wrong: Record) -> None:
    """Nothing of its transaction is written, and the store goes on."""
    with pytest.raises(ValueError, match=r"."):
        store.add([record(1), wrong])
    assert store.deployments() == []
    store.add([record(1)])
    assert store.count("Tagger", "v1") == 1


def test_the_latest_come_in_the_order_of_time(store: Store) -> None:
    """Whatever the order in which they were written, the latest are taken, the oldest of them first."""
    store.add([record(n) for n in (5, 1, 4, 2, 3)])
    assert numbers(store.latest("Tagger", "v1", 3)) == [3, 4, 5]
    assert numbers(store.latest("Tagger", "v1", 10)) == [1, 2, 3, 4, 5]
    assert numbers(store.latest("Tagger", "v1", 10, since=4.0)) == [4, 5]
    assert numbers(store.latest("Tagger", "v1", 1, since=4.0)) == [5]
    assert store.latest("Tagger", "v2", 10) == store.latest("Other", "v1", 10) == []


def test_rows_of_one_time_come_in_the_order_of_writing(store: Store) -> None:
    """The rows of a request keep their order, although they have one time."""
    rows = [Record("r-1", row, "Tagger", "v1", 5.0) for row in range(5)]
    store.add(rows)
    assert [one.record for one in store.latest("Tagger", "v1", 3)] == rows[2:]


def test_the_latest_that_have_a_label_are_found(store: Store) -> None:
    """They are counted by the time of their records, not of their labels."""
    store.add([record(n) for n in range(100)])
    assert store.label([label(n, str(n)) for n in (80, 3, 40)]) == 3
    found = store.latest("Tagger", "v1", 2, labelled=True)
    assert [(one.record.request_id, one.label) for one in found] == [("r-40", "40"), ("r-80", "80")]
    assert numbers(store.latest("Tagger", "v1", 9, labelled=True, since=41.0)) == [80]


def test_the_label_that_is_written_last_counts(store: Store) -> None:
    """Also within one call, whether its record came before or after it."""
    store.add([record(1)])
    assert store.label([label(1, "a"), label(1, "b"), label(2, "a"), label(2, "b")]) == 2
    store.add([record(2)])
    assert [one.label for one in store.latest("Tagger", "v1", 9)] == ["b", "b"]
    assert store.label([label(1, "c")]) == 1
    assert [one.label for one in store.latest("Tagger", "v1", 9)] == ["c", "b"]


def test_the_time_of_a_label_is_kept(path: Path, store: Store) -> None:
    """It stands beside the label, whichever came first."""
    store.label([label(1)])
    store.add([record(1), record(2)])
    store.label([label(2)])
    with contextlib.closing(sqlite3.connect(path)) as reader:
        assert reader.execute("SELECT label_at FROM records").fetchall() == [(99.0,), (99.0,)]


def test_a_label_waits_for_its_record(store: Store) -> None:
    """It is not counted as known, and is joined to the record once that comes."""
    assert store.label([label(1), label(2), Label("r-1", 1, "cv", 9.0)]) == 0
    store.add([record(1), record(3)])
    assert [one.label for one in store.latest("Tagger", "v1", 9)] == ["nlp", None]
    store.add([record(2), replace(record(1), row=1)])
    found = {(o.record.request_id, o.record.row): o.label for o in store.latest("Tagger", "v1", 9)}
    assert found == {("r-1", 0): "nlp", ("r-1", 1): "cv", ("r-2", 0): "nlp", ("r-3", 0): None}


@pytest.mark.parametrize(("most", "fewest", "step"), [(10, 10, 7), (1000, 990, 49)])
def test_the_oldest_records_go(path: Path, most: int, fewest: int, step: int) -> None:
    """Never more than the bound are kept, nor much fewer, and the latest are among them."""
    sizes = []
    with Store.open(path, max_records=most) as store:
        for start in range(0, 3 * most, step):
            end = start + step
            store.add([record(n) for n in range(start, end)])
            store.add([record(start)])  # a replaced record is not counted twice
            kept = numbers(store.latest("Tagger", "v1", 10 * most))
            assert kept == list(range(end - len(kept), end))
            assert len(kept) == end or fewest <= len(kept) <= most
            sizes.append(len(kept))
    assert min(sizes[most // step + 1 :]) == fewest  # they go several at a time


def test_labels_go_with_their_records(path: Path) -> None:
    """A record that comes again after it was dropped has no label of old."""
    with Store.open(path, max_records=5) as store:
        store.label([label(2)])
        store.add([record(1), record(2)])
        store.label([label(1)])
        store.add([record(n) for n in range(10, 15)])
        assert store.latest("Tagger", "v1", 9, labelled=True) == []
        store.add([record(1), record(2)])
        assert store.latest("Tagger", "v1", 9, labelled=True) == []


def test_the_oldest_labels_that_wait_go(path: Path) -> None:
    """Labels of records that never come do not fill the disk; one that is told again is not old."""
    with Store.open(path, max_records=4) as store:
        store.label([label(n) for n in range(3)])
        store.label([label(0), label(3), label(4)])
        store.add([record(n) for n in range(3)])
        assert numbers(store.latest("Tagger", "v1", 9, labelled=True)) == [0, 2]


def test_the_bound_holds_for_who_opens_an_existing_account(path: Path) -> None:
    """It is the one that the account was last opened with."""
    Store.open(path, max_records=9).close()
    Store.open(path, max_records=3).close()
    with Store.existing(path) as store:
        store.add([record(n) for n in range(8)])
        assert numbers(store.latest("Tagger", "v1", 9)) == [5, 6, 7]


def test_versions_and_deployments_with_records_are_listed(store: Store) -> None:
    """With their number and latest time, the version that answered last first."""
    store.note_version("Silent", "v1", {})
    store.note_version("Tagger", "v0", {})
    assert store.deployments() == []
    store.add([record(1, "v2"), record(4, "v1"), record(3, "v2"), record(2, "", "Urgency")])
    assert store.deployments() == ["Tagger", "Urgency"]
    assert store.versions("Tagger") == [Recorded("v1", 1, 4.0), Recorded("v2", 2, 3.0)]
    assert store.versions("Urgency") == [Recorded("", 1, 2.0)]
    assert store.versions("Silent") == []
    assert (store.count("Tagger", "v2"), store.count("Tagger", "v0")) == (2, 0)


def test_a_description_of_a_version_is_kept(path: Path) -> None:
    """What was noted last is read back, before and after the version has records; it is packed."""
    large = {"policies": ["Novelty(0.01)"], "reference": [[0.5, None, "ü"]] * 100_000}
    with Store.open(path) as store:
        assert store.version("Tagger", "v1") is None
        store.note_version("Tagger", "v1", {"policies": []})
        store.add([record(1), record(2, "v2")])
        store.note_version("Tagger", "v1", large)
        assert store.version("Tagger", "v1") == large
        assert store.version("Tagger", "v2") is None
        assert store.count("Tagger", "v1") == 1
    assert path.stat().st_size < 200_000


def test_descriptions_of_versions_without_records_go(store: Store) -> None:
    """Those that were noted last stay, as does any that has records."""
    store.add([record(1, "v0")])
    for number in range(SPARE_VERSIONS + 3):
        store.note_version("Tagger", f"v{number}", {"number": number})
        store.note_version("Tagger", "v1", {"number": 1})
        store.note_version("Other", "v1", {})
    noted = [n for n in range(SPARE_VERSIONS + 3) if store.version("Tagger", f"v{n}")]
    assert noted == [0, 1, *range(4, SPARE_VERSIONS + 3)]
    assert store.version("Other", "v1") == {}


def test_threads_use_one_store_at_once(store: Store) -> None:
    """Nothing is lost, and readers find whole transactions only."""
    together = threading.Barrier(4)
    odd: list[int] = []

    def write(start: int) -> None:
        together.wait()
        for n in range(start, start + 5000, 500):
            store.add([record(i) for i in range(n, n + 500)])

    def read() -> None:
        together.wait()
        while any(writer.is_alive() for writer in threads[:3]):
            odd.extend(n for _ in range(5) if (n := store.count("Tagger", "v1")) % 500)

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 10_000, 20_000)]
    threads.append(threading.Thread(target=read))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.count("Tagger", "v1") == 15_000
    assert odd == []


def test_processes_write_at_once(path: Path) -> None:
    """Each makes or opens the file and writes, and nothing of any is lost."""
    code = """
    print("ready", flush=True)
    sys.stdin.readline()
    with Store.open(Path(sys.argv[1])) as store:
        for n in range(200):
            rows = [Record(f"{sys.argv[2]}-{n}", r, "Tagger", sys.argv[2], n) for r in range(10)]
            store.add(rows)
            store.label([Label(f"{sys.argv[2]}-{n}", 0, "nlp", n)])
    """
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(child(code, path, name)) for name in ("a", "b", "c")]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    with Store.existing(path) as store:
        for name in ("a", "b", "c"):
            assert store.count("Tagger", name) == 2000
            assert len(store.latest("Tagger", name, 9999, labelled=True)) == 200
    assert list(path.parent.iterdir()) == [path]


def test_what_was_written_survives_a_kill(path: Path) -> None:
    """Every row that a process reported as written is there after SIGKILL, and it can be added to."""
    code = """
    store = Store.open(Path(sys.argv[1]))
    for n in range(1_000_000):
        store.add([Record(f"r-{n}", row, "Tagger", "v1", n) for row in range(3)])
        print(n, flush=True)
    """
    with child(code, path) as writer:
        assert writer.stdout is not None
        for _ in range(50):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.wait(60)
        told = 49 + len([line for line in writer.stdout if line.endswith("\n")])
    with Store.open(path) as store:
        kept = {(o.record.request_id, o.record.row) for o in store.latest("Tagger", "v1", 10**7)}
        assert kept >= {(f"r-{n}", row) for n in range(told + 1) for row in range(3)}
        assert len(kept) % 3 == 0
        store.add([replace(FULL, version="v2")])
        assert store.count("Tagger", "v2") == 1


def test_an_account_that_does_not_exist_is_not_made_by_who_reads(path: Path) -> None:
    """The message says how to make one."""
    with pytest.raises(AccountError, match=r"salver serve --record .*account\.db"):
        Store.existing(path)
    with pytest.raises(AccountError, match="Name a file in a folder"):
        Store(path, None)  # as if it went away right after it was looked for
    assert not path.exists()


def overwritten(path: Path, start: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


def other_format(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")


def other_program(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE runs (id); PRAGMA user_version = 1;")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "advice"),
    [
        (lambda path: path.write_text("a,b\n" * 1000), "move it away"),
        (lambda path: path.write_bytes(b""), "Name another file"),
        (lambda path: overwritten(path, 0, b"\0" * 100), "move it away"),
        (lambda path: overwritten(path, 4096, b"\xff" * 4096 * 20), "move it away"),
        (lambda path: os.truncate(path, 8192), "move it away"),
        (other_format, "its format is 2, not 1"),
        (other_program, "Name another file"),
        (folder, "Name a file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(path: Path, damage: Any, advice: str) -> None:
    """A damaged or foreign file gives an error with its path and what to do, and is left alone."""
    with Store.open(path) as store:
        store.add([replace(FULL, request_id=f"r-{n}") for n in range(500)])
    damage(path)
    before = None if path.is_dir() else path.read_bytes()
    for opened in (Store.open, Store.existing):
        with pytest.raises(AccountError) as raised, opened(path) as store:
            store.latest("Tagger", "v1", 1000)
        assert str(path) in raised.value.message
        assert advice in raised.value.message
    assert before is None or path.read_bytes() == before


def test_a_log_without_its_file_is_refused(path: Path) -> None:
    """It would be played into a new account, since SQLite cannot tell that it is of another."""
    with Store.open(path) as store:
        store.add([FULL])
        path.rename(path.with_name("moved"))
        with pytest.raises(AccountError, match=r"remove .*account\.db-wal"):
            Store.open(path)
    assert not path.exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """Where a file stands in the way, the error says what is wanted."""
    (tmp_path / "file").touch()
    with pytest.raises(AccountError, match="Name a file in a folder of a local disk"):
        Store.open(tmp_path / "file" / "account.db")


def test_a_lock_that_is_held_for_too_long_is_told(
    path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that waited in vain gets an error, and readers do not wait at all."""
    monkeypatch.setattr("salver.account.store._LOCK_TIMEOUT_S", 0.01)
    store.add([record(1)])
    with Store.existing(path) as other:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises(AccountError, match="Look who uses the file"):
                other.add([record(2)])
            assert other.count("Tagger", "v1") == 1
        other.add([record(2)])
        assert store.count("Tagger", "v1") == 2


def test_a_closed_store_says_so(store: Store) -> None:
    """It can be closed twice, and is not used after that."""
    store.close()
    store.close()
    with pytest.raises(AccountError, match="is closed"):
        store.add([FULL])
    with pytest.raises(AccountError, match="is closed"):
        store.deployments()


def test_one_id_may_stand_for_answers_of_several_deployments(store: Store) -> None:
    """Each keeps its own row; a label is for all of them, or for the one that it names."""
    for deployment in ("Tagger", "Ranker"):
        store.add([Record("r-1", 0, deployment, "v1", 1.0, prediction="cv")])
    assert store.label([Label("r-1", 0, "cv", 2.0)]) == 1
    assert store.label([Label("r-1", 0, "nlp", 3.0, "Ranker")]) == 1
    assert store.label([Label("r-1", 0, "nlp", 3.0, "Nobody")]) == 0
    found = {name: store.latest(name, "v1", 10) for name in ("Tagger", "Ranker")}
    assert {name: [one.label for one in rows] for name, rows in found.items()} == {
        "Tagger": ["cv"],
        "Ranker": ["nlp"],
    }


def test_a_label_that_waits_for_one_deployment_goes_to_no_other(store: Store) -> None:
    """One that names its deployment goes before one for all."""
    store.label([Label("r-1", 0, "cv", 2.0), Label("r-1", 0, "nlp", 3.0, "Ranker")])
    for deployment in ("Ranker", "Tagger"):
        store.add([Record("r-1", 0, deployment, "v1", 1.0)])
    assert store.latest("Ranker", "v1", 10)[0].label == "nlp"


def test_an_account_that_was_removed_is_not_read_on(tmp_path: Path) -> None:
    """Who only reads is told that the file is gone."""
    with Store.open(tmp_path / "a.db") as writer, Store.existing(tmp_path / "a.db") as reader:
        writer.add([Record("r-1", 0, "Tagger", "v1", 1.0)])
        (tmp_path / "a.db").rename(tmp_path / "b.db")
        with pytest.raises(AccountError, match="moved or removed"):
            reader.count("Tagger", "v1")
