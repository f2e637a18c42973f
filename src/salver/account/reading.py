"""Reads the rows of one version from the account: the latest, and the latest that have labels.

It does not know what they are read for.
"""

from __future__ import annotations

from salver.account.about import NOTHING, About
from salver.account.records import Labelled
from salver.account.store import Store


def latest(
    store: Store, deployment: str, version: str, limit: int, since: float | None = None
) -> list[Labelled]:
    """Rows in the order of time: the latest, and the latest of those whose label is known.

    Labels come late, so that the latest rows alone may have none.

    Args:
        store: The account.
        deployment: Who answered.
        version: Of all that decided the answers.
        limit: Most rows of either kind.
        since: Leave out rows before, in seconds since 1970 (UTC).
    """
    found = {
        (one.record.request_id, one.record.row): one
        for is_labelled in (True, False)
        for one in store.latest(deployment, version, limit, labelled=is_labelled, since=since)
    }
    return sorted(found.values(), key=lambda one: one.record.at)


def about(store: Store, deployment: str, version: str) -> About:
    """What was promised by a version, as it was written down when it began to answer."""
    described = store.version(deployment, version)
    return NOTHING if described is None else About.from_json(described)
