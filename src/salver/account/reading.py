"""Reads the rows of one version from the account: the latest, and the latest that have labels.

It does not know what they are read for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from salver.account.about import About
from salver.account.rows import Rows
from salver.account.store import Store


class Latest(NamedTuple):
    """The latest rows of one version, each kind in the order of time.

    Attributes:
        rows: Of all; what needs no label is counted in these.
        labelled: Of those whose label is known, which may be older, for labels come late.
        inputs: What was asked with each of `labelled`; null where that was not kept.
    """

    rows: Rows
    labelled: Rows
    inputs: list[Mapping[str, Any] | None]


def latest(
    store: Store,
    deployment: str,
    version: str,
    limit: int,
    *,
    classes: Collection[str],
    since: float | None = None,
) -> Latest:
    """Reads the latest rows.

    Args:
        store: The account.
        deployment: Who answered.
        version: Of all that decided the answers.
        limit: Most rows of either kind.
        classes: Of the model, as texts; empty if they are not known.
        since: Leave out rows before, in seconds since 1970 (UTC).
    """
    # Who labels chooses: rows that were read for their labels say nothing of how many are withheld.
    rows = store.latest(deployment, version, limit, since=since)
    told = store.latest(deployment, version, limit, labelled=True, since=since)
    return Latest(
        Rows.of(rows, classes), Rows.of(told, classes), [one.record.inputs for one in told]
    )


def about(store: Store, deployment: str, version: str) -> About | None:
    """What was promised by a version, as it was written down when it began to answer.

    Null if that could not be written down.
    """
    described = store.version(deployment, version)
    return None if described is None else About.from_json(described)
