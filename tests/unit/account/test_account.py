from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from worlds import World, about

from salver.account.about import About
from salver.account.account import Account
from salver.account.metrics import ALARMS
from salver.account.store import Store
from salver.errors import AccountError
from salver.online.feedback import Told
from salver.types import Batch, Field, Outcome

HELD_OUT = World().drawn(1000, np.random.default_rng(0))
FIELDS = (Field("text", "string"),)


class Lived:
    """An account of a service that answers in this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.registry = CollectorRegistry()
        self.version = "v1"
        self.told = self.fails = 0
        self.account = Account(
            path,
            version=lambda _name: self.version,
            tells=self._tells,
            registry=self.registry,
            with_inputs=False,
            max_records=100_000,
        )

    def _tells(self, _name: str) -> About:
        if self.fails:
            self.fails -= 1
            raise OSError("the disk is full")
        self.told += 1
        return about(*HELD_OUT)

    def answer(self, n: int, prefix: str, prediction: str = "chess") -> None:
        probabilities = {"cooking": 0.0, "sailing": 0.05, "chess": 0.95}
        for i in range(n):
            outcome = Outcome({"prediction": prediction, "probabilities": probabilities})
            batch = Batch(FIELDS, [("a text",)])
            self.account.answered("Topics", f"{prefix}-{i}".encode(), batch, [outcome])

    def tell(self, n: int, prefix: str, label: str) -> int:
        labels = [Told(f"{prefix}-{i}", 0, label) for i in range(n)]
        return self.account.told(labels).result(60)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {"deployment": "Topics", **labels})


@pytest.fixture
def lived(tmp_path: Path) -> Iterator[Lived]:
    one = Lived(tmp_path / "answers.db")
    yield one
    one.account.close()


def test_what_a_version_promises_is_written_down_once(lived: Lived) -> None:
    """Its promises and its reference stand in the file beside its rows, and those of the next too."""
    lived.answer(3, "a")
    lived.tell(3, "a", "chess")
    lived.version = "v2"
    lived.answer(2, "b")
    lived.tell(2, "b", "chess")
    assert lived.told == 2
    with Store.existing(lived.path) as store:
        assert {one.version: one.rows for one in store.versions("Topics")} == {"v1": 3, "v2": 2}
        described = store.version("Topics", "v2")
    assert described is not None
    assert About.from_json(described).promises[1].share == 0.9


def test_answers_are_kept_when_nobody_knows_what_they_promise(tmp_path: Path) -> None:
    """A calibration that cannot be read costs no row."""

    def tells(_name: str) -> About:
        raise OSError("the cache is gone")

    account = Account(
        tmp_path / "answers.db",
        version=lambda _name: None,
        tells=tells,
        registry=CollectorRegistry(),
        with_inputs=False,
        max_records=1000,
    )
    account.answered("Topics", b"a", Batch(FIELDS, [("a",)]), [Outcome({"prediction": "chess"})])
    assert account.told([Told("a", 0, "chess")]).result(60) == 1
    account.close()
    with Store.existing(tmp_path / "answers.db") as store:
        assert store.count("Topics", "") == 1


def test_promises_that_could_not_be_written_down_are_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One failure, such as a full disk, does not cost a version its promises."""
    monkeypatch.setattr("salver.account.account.TRY_AGAIN_S", 0.0)
    lived = Lived(tmp_path / "answers.db")
    lived.fails = 1
    lived.answer(1, "a")
    lived.tell(1, "a", "chess")
    with Store.existing(lived.path) as store:
        assert store.version("Topics", "v1") is None
    lived.answer(1, "b")
    lived.tell(1, "b", "chess")
    lived.account.close()
    with Store.existing(lived.path) as store:
        assert store.version("Topics", "v1") is not None
        assert store.count("Topics", "v1") == 2


def test_a_file_that_is_taken_away_is_made_anew(lived: Lived) -> None:
    """Answers go on in a new file at the same place, with what they promise."""
    lived.answer(2, "a")
    lived.tell(2, "a", "chess")
    for path in lived.path.parent.glob("answers.db*"):
        path.rename(path.with_name(f"old-{path.name}"))
    lived.answer(3, "b")
    assert lived.tell(3, "b", "chess") == 3
    with Store.existing(lived.path) as store:
        assert store.count("Topics", "v1") == 3
        assert store.version("Topics", "v1") is not None


def test_judgements_are_metrics(lived: Lived) -> None:
    """Each alarm has a number, promised and observed shares too; a broken promise is 1."""
    lived.answer(300, "a")
    lived.tell(300, "a", "cooking")
    lived.account.judge()
    promise = "Precision(0.9, otherwise='unsure')"
    assert lived.metric("salver_promised_share", promise=promise) == 0.9
    assert lived.metric("salver_observed_share", promise=promise) == 0.0
    assert lived.metric("salver_account_labelled_rows") == 300
    for alarm in ALARMS:
        assert lived.metric("salver_alarm", alarm=alarm) in (0, 1)
    assert lived.metric("salver_alarm", alarm="precision") == 1
    assert lived.metric("salver_alarm", alarm="coverage") == 0
    assert lived.registry.get_sample_value("salver_account_rows_total") == 300
    assert lived.registry.get_sample_value("salver_account_labels_total") == 300


def test_every_alarm_that_can_be_raised_has_a_metric() -> None:
    """Whatever name a judgement gives an alarm, it is among those that are shown."""
    from worlds import answered

    from salver.account.evaluation import evaluated

    world: Any = World(
        shares=(0.1, 0.1, 0.8), hardness=0.3, overconfidence=0.3, novelty=2, length=300
    )
    rows = answered(*world.drawn(1000, np.random.default_rng(1)), HELD_OUT[0])
    names = {one.name for one in evaluated(rows, rows, about(*HELD_OUT)).alarms}
    assert len(names) >= 6
    assert names <= set(ALARMS)


def test_a_file_that_is_no_account_is_refused(tmp_path: Path) -> None:
    """Nothing of somebody else's file is touched."""
    (tmp_path / "notes.txt").write_text("dear diary")
    with pytest.raises(AccountError, match=r"notes\.txt"):
        Lived(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "dear diary"
