"""`salver serve --record`, `salver feedback` and `salver report` end to end."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import wait_until
from topics_lab import PROMISES, SERVICE, Lab, asked, posted

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

OPTIONS = ("--set", PROMISES)
PER_REQUEST = 100


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One calibrated classifier for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith(("SALVER_", "MLFLOW_"))]:
            patch.delenv(name)
        lab = Lab(tmp_path_factory.mktemp("live"))
        given = ("--on", str(lab.held_out), "--train", str(lab.train), *OPTIONS)
        ended = lab.salver("calibrate", SERVICE, *given)
        assert ended.returncode == 0, ended.stderr
        yield lab


class Ledger:
    """What a client of the service knows: its questions, the answers, and the truth."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.rows: list[dict[str, Any]] = []

    def ask(self, rows: list[dict[str, str]], prefix: str) -> list[dict[str, Any]]:
        """Asks rows in requests of a hundred; returns their labels as a file would hold them."""
        labels = []
        for start in range(0, len(rows), PER_REQUEST):
            part, request_id = rows[start : start + PER_REQUEST], f"{prefix}-{start}"
            results = posted(
                f"{self.url}/predict/?details=abstained",
                [{"text": row["text"]} for row in part],
                {"x-request-id": request_id},
            )["results"]
            for position, (row, result) in enumerate(zip(part, results, strict=True)):
                self.rows.append({"truth": row["topic"], **result})
                label = {"request_id": request_id, "row": position, "label": row["topic"]}
                labels.append(label)
        return labels

    @property
    def precision(self) -> tuple[int, int]:
        """Right ones among the answers that were given, and these."""
        given = [row for row in self.rows if row["abstained"] is None]
        return sum(row["prediction"] == row["truth"] for row in given), len(given)

    @property
    def withheld(self) -> int:
        """Rows without the model's own answer."""
        return sum(row["abstained"] is not None for row in self.rows)


def shifted(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Rows of a world in which people speak of one topic with the words of another."""
    named = {"cooking": "sailing", "sailing": "chess", "chess": "cooking"}
    return [{**row, "topic": named[row["topic"]]} if at % 2 else row for at, row in enumerate(rows)]


def as_csv(labels: list[dict[str, Any]], path: Path) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["request_id", "row", "label"])
        writer.writeheader()
        writer.writerows(labels)
    return path


def metrics(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/metrics") as response:
        lines = response.read().decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def test_five_thousand_answers_then_a_shift(lab: Lab, tmp_path: Path) -> None:
    """With labels that come later both figures are those of the client's ledger; the shift alarms."""
    import topics

    record = tmp_path / "answers.db"
    alarm = 'salver_alarm{alarm="precision",deployment="Topics"}'
    with lab.served("--record", str(record), *OPTIONS) as (url, _):
        ledger = Ledger(url)
        labels = ledger.ask(topics.rows(5000, seed=11), "usual")
        before = ledger.precision
        told = posted(f"{url}/feedback/", labels[:1000])
        assert told == {"stored": 1000, "matched": 1000}
        file = as_csv(labels[1000:], tmp_path / "labels.csv")
        ended = lab.salver("feedback", str(file), "--record", str(record))
        assert ended.returncode == 0, ended.stderr
        assert "4,000 labels kept, 4,000 of them of answers that are on record." in ended.stderr
        usual = lab.salver("report", SERVICE, "--record", str(record))
        assert usual.returncode == 0, usual.stdout + usual.stderr
        assert f"{before[0]:,} of {before[1]:,}" in usual.stdout

        wait_until(lambda: alarm in metrics(url), "judged")
        assert metrics(url)[alarm] == 0
        labels = ledger.ask(shifted(topics.rows(1500, seed=12)), "shifted")
        file = tmp_path / "labels.jsonl"
        file.write_text("\n".join(map(json.dumps, labels)))
        ended = lab.salver("feedback", str(file), "--url", url)
        assert ended.returncode == 0, ended.stderr
        wait_until(lambda: metrics(url)[alarm] == 1, "alarmed")
        assert metrics(url)["salver_account_rows_total"] == 6500
        assert metrics(url)["salver_account_dropped_rows_total"] == 0
    after = lab.salver("report", SERVICE, "--record", str(record))
    assert after.returncode == 3, after.stdout + after.stderr
    whole = ledger.precision
    assert f"{whole[0]:,} of {whole[1]:,}" in after.stdout
    assert "broken" in after.stdout
    path = Path(after.stdout.strip().splitlines()[-1])
    assert path.stat().st_mode & 0o777 == 0o600
    page = path.read_text("utf-8")
    assert "<svg" in page
    assert f"{whole[0]:,} of {whole[1]:,}" in page


def test_nothing_is_kept_until_it_is_asked_for(lab: Lab, tmp_path: Path) -> None:
    """Without --record there is no file and no route for labels."""
    with lab.served(*OPTIONS) as (url, _):
        asked(url, {"text": "the pan and the oven"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            posted(f"{url}/feedback/", {"request_id": "a", "label": "cooking"})
        assert refused.value.code == 404
        refused.value.close()
        labels = tmp_path / "labels.csv"
        labels.write_text("request_id,label\na,cooking\n")
        ended = lab.salver("feedback", str(labels), "--url", url)
        assert ended.returncode == 1
        assert "--record FILE" in ended.stderr
    ended = lab.salver("report", SERVICE)
    assert ended.returncode == 1
    assert "--record FILE" in ended.stderr
    ended = lab.salver("report", SERVICE, "--record", str(tmp_path / "none.db"))
    assert ended.returncode == 1
    assert str(tmp_path / "none.db") in ended.stderr


def test_inputs_are_kept_only_where_that_is_allowed(lab: Lab, tmp_path: Path) -> None:
    """Texts stand in the file with record_inputs, and nowhere in it without."""
    secret = "the butter of Mrs Longstocking"
    for allowed in (False, True):
        record = tmp_path / f"{allowed}.db"
        given = ("--set", f"record_inputs={str(allowed).lower()}")
        with lab.served("--record", str(record), *given, *OPTIONS) as (url, _):
            asked(url, {"text": secret})
        assert record.stat().st_mode & 0o777 == 0o600
        files = b"".join(path.read_bytes() for path in tmp_path.glob(f"{allowed}.db*"))
        assert (b"Longstocking" in files) is allowed


def test_what_was_kept_survives_a_killed_service(lab: Lab, tmp_path: Path) -> None:
    """After SIGKILL every row that the service had reported as kept is in the report."""
    import topics

    record = tmp_path / "answers.db"
    with lab.started("--record", str(record), *OPTIONS) as (process, url, _):
        ledger = Ledger(url)
        posted(f"{url}/feedback/", ledger.ask(topics.rows(300, seed=13), "killed"))
        process.send_signal(signal.SIGKILL)
        wait_until(lambda: process.poll() is not None, "killed")
    ended = lab.salver("report", SERVICE, "--record", str(record))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    right, given = ledger.precision
    assert f"{right:,} of {given:,}" in ended.stdout
    with lab.served("--record", str(record), *OPTIONS) as (url, _):  # and it goes on
        ledger.url = url
        posted(f"{url}/feedback/", ledger.ask(topics.rows(100, seed=14), "again"))
    ended = lab.salver("report", SERVICE, "--record", str(record))
    right, given = ledger.precision
    assert f"{right:,} of {given:,}" in ended.stdout


def test_one_row_asked_in_the_usual_way_is_on_record(lab: Lab, tmp_path: Path) -> None:
    """The id in the header of an answer is the one that its label needs."""
    record = tmp_path / "answers.db"
    with lab.served("--record", str(record), *OPTIONS) as (url, _):
        body, kind = b'{"text": "the rook and the pawn"}', {"content-type": "application/json"}
        request = urllib.request.Request(f"{url}/predict/", body, kind)
        with urllib.request.urlopen(request) as response:
            request_id = response.headers["x-request-id"]
        told = posted(f"{url}/feedback/", {"request_id": request_id, "label": "chess"})
        assert told == {"stored": 1, "matched": 1}
        unknown = posted(f"{url}/feedback/", {"request_id": "nobody", "label": "chess"})
        assert unknown == {"stored": 1, "matched": 0}
    with sqlite3.connect(record) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_mistakes_are_told_as_such(lab: Lab, tmp_path: Path) -> None:
    """A wrong file, column, time or place is named, with what to do."""
    labels = tmp_path / "labels.csv"
    labels.write_text("id,truth\na,chess\n")
    record = tmp_path / "answers.db"
    with lab.served("--record", str(record), *OPTIONS) as (url, _):
        asked(url, {"text": "the rook"})
    named = ("--id", "id", "--label", "truth")
    for arguments, words in (
        (("feedback", str(labels), "--record", str(record)), "request_id"),
        (("feedback", str(labels)), "--record FILE or --url URL"),
        (("feedback", str(labels), "--record", str(tmp_path / "no.db"), *named), "no.db"),
        (("report", SERVICE, "--record", str(record), "--since", "soon"), "7d"),
        (("report", SERVICE, "--record", str(record), "--version", "zz"), "--version"),
        (("report", SERVICE, "--record", str(labels)), "labels.csv"),
        (("report", SERVICE, "--record", str(record), "--page", "/no/such/x.html"), "--page"),
        (("report", SERVICE, "--record", str(record), "--since", f"{10**400}w"), "7d"),
        (("feedback", str(labels), "--url", "nowhere", *named), "http://"),
    ):
        ended = lab.salver(*arguments)
        assert ended.returncode in (1, 2), arguments
        assert words in ended.stderr, (arguments, ended.stderr)
        assert "Traceback" not in ended.stderr
    assert lab.salver("feedback", str(labels), "--record", str(record), *named).returncode == 0
    assert re.search(r"1 row", lab.salver("report", SERVICE, "--record", str(record)).stdout)


def test_on_ray_the_account_says_the_same(lab: Lab, tmp_path: Path) -> None:
    """Answers and labels that come through Ray Serve are in the report with their promises."""
    pytest.importorskip("ray")
    import topics

    record = tmp_path / "answers.db"
    on_ray = ("--engine", "ray", "--set", "num_cpus=0.2", "--set", "num_replicas=1")
    with lab.served("--record", str(record), *on_ray, *OPTIONS) as (url, _):
        ledger = Ledger(url)
        labels = ledger.ask(topics.rows(300, seed=15), "ray")
        # Each ingress writes a moment after it has answered, so that not all may be on record yet.
        assert posted(f"{url}/feedback/", labels)["stored"] == 300
    ended = lab.salver("report", SERVICE, "--record", str(record))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    right, given = ledger.precision
    assert f"{right:,} of {given:,}" in ended.stdout
    assert "Precision(0.9)" in ended.stdout
    assert "600 held-out rows" in ended.stdout
