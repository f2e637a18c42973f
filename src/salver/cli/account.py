"""The verbs about answers that were given: true labels for them, and a report of what they show."""

from __future__ import annotations

import datetime as dt
import re
import sys
import time
from inspect import cleandoc
from pathlib import Path

import click

from salver.cli.shared import CONFIG, EXAMPLE, RECORD, SETS, TARGET, say

ALARM = 3  # exit code: 1 is an error, 2 a wrong argument
_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


class _Since(click.ParamType[float]):
    """A time, or how long ago."""

    name = "time"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds since 1970 (UTC)."""
        if found := re.fullmatch(r"(\d{1,6})([mhdw])", value):
            return time.time() - int(found[1]) * _UNITS[found[2]]
        try:
            given = dt.datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                f"{value!r} is no time: write 90m, 12h, 7d or 4w for so long ago, or a date such as "
                "2026-05-17 or 2026-05-17T09:30 (UTC).",
                param,
                ctx,
            )
        return (given if given.tzinfo else given.replace(tzinfo=dt.UTC)).timestamp()


@click.command()
@click.argument("file")
@RECORD
@click.option("--url", help="Of a running service that keeps answers; SALVER_API_KEY is its key.")
@click.option(
    "--id", "id_column", default="request_id", show_default=True, help="Column of the request's id."
)
@click.option("--label", default="label", show_default=True, help="Column of the true class.")
@click.option(
    "--row",
    "row_column",
    default="row",
    show_default=True,
    help="Column of the position in a request of several rows; may be missing.",
)
@click.option("--deployment", default="", help="Whose answers, where one id stands for several.")
def feedback(
    file: str,
    record: str | None,
    url: str | None,
    id_column: str,
    label: str,
    row_column: str,
    deployment: str,
) -> None:
    """Tells what turned out to be true: joins the labels in FILE to answers that were recorded.

    FILE is a CSV, JSON Lines or Parquet file with a row for each label. Label rows that were chosen by
    chance: promises are judged by the rows that have labels. Each answer names the id of its
    request in the header x-request-id; clients may choose it by sending that header.

    \b
    salver feedback labels.csv --record answers.db           beside the service
    salver feedback labels.csv --url http://127.0.0.1:8000   over HTTP
    """
    from salver.monitoring.feedback import Columns, labels_in, post, store
    from salver.settings import api_key

    if (record is None) == (url is None):
        raise click.UsageError("Say where the answers are: either --record FILE or --url URL.")
    found = labels_in(file, Columns(id_column, label, row_column), deployment)
    for note in found.notes:
        say(note)
    if record is not None:
        matched = store(found.labels, Path(record))
    else:
        assert url is not None
        matched = post(found.labels, url, api_key())
    total = len(found.labels)
    some = "label" if total == 1 else "labels"
    say(f"{total:,} {some} kept, {matched:,} of them of answers that are on record.")
    if matched < total:
        say("The others are kept, too, in case their answers are still to come.")


@click.command()
@TARGET
@RECORD
@click.option("--deployment", help="Which one, when the service has several.")
@click.option(
    "--since",
    type=_Since(),
    help="Leave out what is older: 90m, 12h, 7d or 4w, or a date in UTC.  [default: nothing]",
)
@click.option(
    "--recent",
    type=click.IntRange(min=50),
    default=1000,
    show_default=True,
    help="How many of the latest rows are compared with the held-out ones.",
)
@click.option(
    "--version",
    metavar="DIGEST",
    help="Of which version, by its first characters.  [default: the one that answered last]",
)
@click.option(
    "--page",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write the page.  [default: beside the record]",
)
@CONFIG
@SETS
def report(  # noqa: PLR0913 - one for each option
    target: str,
    record: str | None,
    deployment: str | None,
    since: float | None,
    recent: int,
    version: str | None,
    page: Path | None,
    config: Path | None,
    sets: tuple[str, ...],
) -> None:
    """Shows whether promises hold, on answers that were given and labels that came in since.

    Promised against observed precision, coverage and calibration, with intervals; classes, confidence,
    novelty and length of text against the held-out rows of salver calibrate; how all of it changed
    over time; and which parts of the rows are answered worst. Printed, and written as a page.

    Exit code 3 when there is an alarm: a promise is broken, or rows have drifted, beyond chance. Once
    it is mended, --since leaves out what is older.
    A running service says the same to Prometheus as salver_alarm.

    \b
    salver serve service:service --record answers.db      keep answers
    salver feedback labels.csv --record answers.db        tell what turned out to be true
    salver report service:service --record answers.db     see what it shows
    """
    from salver.monitoring import table
    from salver.monitoring.run import Request, run, written
    from salver.session import Configuration

    given = {} if record is None else {"record": record}
    configuration = Configuration(config, sets, given)
    found, account = run(target, configuration, Request(deployment, version, since, recent))
    click.echo(table.text(found))
    click.echo(f"\n{written(found, account, page)}")
    if found.findings.alarms:
        sys.exit(ALARM)


report.help = cleandoc(report.help or "") + EXAMPLE
