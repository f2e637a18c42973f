"""The verb that finds out what a model's confidence is worth: its arguments, and what it prints."""

from __future__ import annotations

from inspect import cleandoc
from pathlib import Path

import click

from salver.cli.shared import (
    ALLOW_CODE,
    CONFIG,
    EXAMPLE,
    FILL_DEFAULTS,
    ORIGINAL,
    SETS,
    TARGET,
    overrides,
    say,
)


@click.command()
@TARGET
@click.option("--on", required=True, help="Rows that the model was not trained on: at least 50.")
@click.option("--label", help="Column of the true class.  [default: the only one that fits]")
@click.option(
    "--train",
    help="Rows that the model was trained on, for the novelty score.  [default: the rows of --on]",
)
@click.option(
    "--against",
    multiple=True,
    metavar="FILE",
    help="Rows unlike those of training, such as junk or neighbouring fields: how well novelty tells "
    "them from the rows of --on.",
)
@click.option("--deployment", help="Which one, when the service has several.")
@click.option("--if-missing", is_flag=True, help="Do nothing if this model is calibrated already.")
@FILL_DEFAULTS
@CONFIG
@SETS
@ALLOW_CODE
@ORIGINAL
def calibrate(  # noqa: PLR0913 - one for each option
    target: str,
    on: str,
    label: str | None,
    train: str | None,
    against: tuple[str, ...],
    deployment: str | None,
    if_missing: bool,
    fill_defaults: bool,
    config: Path | None,
    sets: tuple[str, ...],
    allow_code: bool,
    original: bool,
) -> None:
    """Finds out what a model's confidence is worth, and limits that keep promises.

    The model is asked the rows of --on. A calibrator of its probabilities is fitted, and used only
    if it is certain to help; a score of how unlike the training data a row is, too. Policies that
    state a promise get their limits from these rows:

    \b
    Precision(0.95)     answers only where at least 95 % of the answers are right
    Coverage(0.90)      answers the surest rows, at least 90 % of all
    ConformalSet(0.95)  adds a set of labels that holds the true one for 95 % of the rows
    Novelty(0.01)       withholds what is more novel than all but 1 % of ordinary rows

    serve, predict and Ray find the result by themselves. What was found is printed, and kept as a
    page beside the checkpoint. Run it again after salver optimize, to calibrate what is served.
    """
    from rich.console import Console
    from rich.progress import Progress

    from salver.calibration import table
    from salver.calibration.run import Request, in_force, run
    from salver.session import Configuration

    configuration = Configuration(config, overrides(sets, allow_code, original))
    request = Request(on, train, label, against, fill_defaults)
    if if_missing and (known := in_force(target, deployment, configuration)):
        say(known)
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Asked")

        def tell(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of)

        report, path = run(target, deployment, configuration, request, say, tell)
    click.echo(table.text(report))
    click.echo(f"\n{path}")


calibrate.help = cleandoc(calibrate.help or "") + EXAMPLE
