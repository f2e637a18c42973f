"""The verb that makes a model faster: its arguments, and what it prints."""

from __future__ import annotations

import sys
from inspect import cleandoc
from pathlib import Path

import click

from salver.cli.shared import (
    ALLOW_CODE,
    CONFIG,
    EXAMPLE,
    FILL_DEFAULTS,
    SETS,
    TARGET,
    overrides,
    say,
)
from salver.errors import ConfigError


@click.command()
@TARGET
@click.option("--on", required=True, help="Rows that the model was not trained on: at least 150.")
@click.option("--label", help="Column of the true class.  [default: the only one that fits]")
@click.option(
    "--calibrate-on",
    help="Rows to calibrate int8 candidates on, such as those of training.  [default: a third of "
    "the rows of --on, which are not judged on then]",
)
@click.option("--deployment", help="Which one, when the service has several.")
@click.option(
    "--gate",
    type=click.Choice(["exact", "lossless", "close"]),
    default="lossless",
    show_default=True,
    help="How near a candidate's answers must be to the original's.",
)
@click.option(
    "--optimize-for",
    "goal",
    type=click.Choice(["throughput", "latency"]),
    default="throughput",
    show_default=True,
    help="Whether the fastest in batches or in single rows is chosen.",
)
@click.option("--only", multiple=True, metavar="NAME", help="Try these candidates alone.")
@click.option(
    "--candidate",
    "own",
    multiple=True,
    metavar="NAME=FILE.onnx",
    help="A graph of your own, judged beside the others; its inputs in the order of the model's.",
)
@FILL_DEFAULTS
@CONFIG
@SETS
@ALLOW_CODE
def optimize(  # noqa: PLR0913 - one for each option
    target: str,
    on: str,
    label: str | None,
    calibrate_on: str | None,
    deployment: str | None,
    gate: str,
    goal: str,
    only: tuple[str, ...],
    own: tuple[str, ...],
    fill_defaults: bool,
    config: Path | None,
    sets: tuple[str, ...],
    allow_code: bool,
) -> None:
    """Makes a model faster, and uses what is faster only if its answers stay the same.

    The part of the model that computes (a network of PyTorch, a session of ONNX Runtime, an
    estimator of scikit-learn, a booster) is turned into candidates for ONNX Runtime and OpenVINO. Each is
    asked the rows of --on as it would be served, and compared with the model as it is. The fastest
    that passes the gate answers from then on: serve and predict find it by themselves, --original
    turns it off. What was found is printed, and kept as a page beside the checkpoint.

    \b
    exact     mean difference of a probability <= 0.00001, 99th percentile <= 0.0001
    lossless  mean <= 0.0005, 99th percentile <= 0.02
    close     mean <= 0.003, 99th percentile <= 0.1: for int8

    At each gate, no label may flip of which the model was sure (margin above 0.1), few decisions
    of the policy may change, and F1 must stay within its confidence interval.
    """
    from salver.optimization import table
    from salver.optimization.optimize import Request, run
    from salver.session import Configuration

    candidates = dict(map(_named, own))
    request = Request(on, calibrate_on, label, gate, goal, only, candidates, fill_defaults)
    configuration = Configuration(config, overrides(sets, allow_code))
    report, path = run(target, deployment, configuration, request, say)
    click.echo(table.text(report))
    click.echo(f"\n{path}")
    if not any(one.fidelity for one in report.candidates):
        sys.exit(1)


def _named(given: str) -> tuple[str, Path]:
    name, equals, path = given.partition("=")
    if not equals or not name or not Path(path).is_file():
        raise ConfigError(f"--candidate was given {given!r}; it takes NAME=FILE.onnx.")
    return name, Path(path)


optimize.help = cleandoc(optimize.help or "") + EXAMPLE
