"""The whole of `salver report`: from the account of a service to figures, a page and alarms.

It does not know what the page looks like, nor how a figure is found.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from salver.account.about import NOTHING, About
from salver.account.evaluation import RECENT, evaluated
from salver.account.reading import about, latest
from salver.account.results import Report
from salver.account.store import Recorded, Store
from salver.account.windows import answered_of, novel_of, parts, precision_of, windows
from salver.engine.targets import pinned_service
from salver.errors import ConfigError, MissingExtra
from salver.session import Configuration

MAX_ROWS = 100_000  # that a report looks at


@dataclass(frozen=True, slots=True)
class Request:
    """What `salver report` was asked for.

    Attributes:
        deployment: Name; null when the service exposes one.
        version: The first characters of a version; null for the one that answered last.
        since: Leave out rows before, in seconds since 1970 (UTC); null takes all.
        recent: How many of the latest rows are compared with the reference.
    """

    deployment: str | None = None
    version: str | None = None
    since: float | None = None
    recent: int = RECENT


def run(target: str, configuration: Configuration, request: Request) -> tuple[Report, Path]:
    """Judges what a service has answered.

    Args:
        target: Service or model.
        configuration: Options given outside the code; `record` says where the account is.
        request: What is asked for.

    Returns:
        What was found, and the path of the account.

    Raises:
        ConfigError: If nothing says where the account is, or it has no rows of this deployment.
        AccountError: If there is no account, or it cannot be read.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtra("matplotlib", "salver report", "calibrate")
    _, service = pinned_service(target)
    name = service.chosen(request.deployment).name
    path = _account(configuration.record(configuration.overrides(service)))
    with Store.existing(path) as store:
        return reported(store, name, request, str(path)), path


def written(report: Report, account: Path, page: Path | None) -> Path:
    """Writes the page of a report, for its owner alone, as it may show what was asked.

    Args:
        report: To show.
        account: Path of the account.
        page: Where to write it; null for beside the account.

    Raises:
        ConfigError: If it cannot be written.
    """
    from salver.monitoring.page import html

    stem = account.stem if account.suffix in (".db", ".sqlite") else account.name
    path = page or account.with_name(f"{stem}.{report.deployment}.html")
    try:
        with open(path, "w", encoding="utf-8", opener=_for_the_owner) as file:
            file.write(html(report))
    except OSError as error:
        raise ConfigError(
            f"The page cannot be written to {path}: {error.strerror}. Name another place with --page."
        ) from error
    return path


def _for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _account(record: str | None) -> Path:
    if record is None:
        raise ConfigError(
            "Nothing says where answers are kept. Give --record FILE, as with salver serve, or set "
            "SALVER_RECORD or `record:` in the configuration."
        )
    return Path(record)


def reported(store: Store, deployment: str, request: Request, path: str) -> Report:
    """All that a report shows.

    Raises:
        ConfigError: If the account has no rows to report.
    """
    version, on_record, others = _version(store, deployment, request)
    told = about(store, deployment, version)
    known = told or NOTHING
    rows, labelled, inputs = latest(
        store, deployment, version, MAX_ROWS, classes=known.classes, since=request.since
    )
    if not len(rows):
        since = dt.datetime.fromtimestamp(request.since or 0, dt.UTC)
        raise ConfigError(
            f"{path} has no rows of {deployment} since {since:%Y-%m-%d %H:%M} UTC. Ask for an "
            "earlier time with --since."
        )
    worst, seen = parts(labelled, inputs)
    withheld = Counter(one for one in rows.withheld_by.tolist() if one is not None)
    return Report(
        deployment=deployment,
        version=version,
        policies=None if told is None else known.policies,
        store=path,
        start=float(rows.at[0]),
        end=float(rows.at[-1]),
        known=on_record,
        others=others,
        reference=_reference(known),
        precision=precision_of(labelled),
        answered=answered_of(rows),
        novel=novel_of(rows),
        failed=int(rows.failed.sum()),
        reasons=dict(withheld.most_common()),
        findings=evaluated(rows, labelled, known, request.recent),
        windows=windows(rows, known.reference),
        parts=worst,
        parts_seen=seen,
        with_inputs=any(one is not None for one in inputs),
        made_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )


def _version(store: Store, deployment: str, request: Request) -> tuple[str, int, int]:
    """The version that is asked for, and how many rows there are of it and of others."""
    found: list[Recorded] = store.versions(deployment)
    if not found:
        kept = ", ".join(store.deployments()) or "none"
        raise ConfigError(
            f"The account has no rows of {deployment}; it has rows of: {kept}. Name one with "
            "--deployment, or ask the service first."
        )
    wanted = request.version or ""
    chosen = [one for one in found if one.version.startswith(wanted)]
    if not chosen or (wanted and len(chosen) > 1):
        versions = ", ".join(one.version[:12] or "(unknown)" for one in found)
        raise ConfigError(
            f"--version was given {wanted!r}, which begins {len(chosen)} versions; there are: "
            f"{versions}."
        )
    mine = chosen[0].rows
    return chosen[0].version, mine, sum(one.rows for one in found) - mine


def _reference(known: About) -> str:
    if known.reference is None:
        return ""
    return f"{len(known.reference):,} held-out rows of its calibration"
