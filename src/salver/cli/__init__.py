"""The command line: thin verbs over `salver.run`.

Nothing heavy is imported until a verb needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from inspect import cleandoc
from pathlib import Path
from typing import Any

import click

from salver import __version__
from salver.cli import on_ray
from salver.cli.account import feedback, report
from salver.cli.calibrate import calibrate
from salver.cli.optimize import optimize
from salver.cli.shared import (
    ADDRESS,
    ALLOW_CODE,
    CONFIG,
    DETAILS,
    ENGINE,
    EXAMPLE,
    FILL_DEFAULTS,
    ORIGINAL,
    SETS,
    TARGET,
    WORKING_DIR,
    overrides,
    say,
)
from salver.errors import SalverError


class _Verbs(click.Group):
    """Says what went wrong in words, without a traceback, for every error that Salver knows."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SalverError as error:
            say(f"salver: {error.message}")
            ctx.exit(1)
        except KeyboardInterrupt:
            say("salver: interrupted")
            ctx.exit(130)
        finally:
            _drop_what_nobody_reads()


def _drop_what_nobody_reads() -> None:
    """Lets what could not be written to stderr not become the exit code of the interpreter."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="salver")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
    help="What to log to stderr.",
)
def main(log_level: str) -> None:
    """Serve trained models: one plain class, offline over files and online over HTTP.

    \b
    salver serve service:service                       online, http://127.0.0.1:8000
    salver predict service:service in.parquet out/     offline, the same model and rules
    salver best-run EXPERIMENT --metric val_loss       which run of MLflow to serve
    salver parity service:service --on rows.csv        do both give the same answers?
    salver serve service:service --engine ray          the same file, on a Ray cluster
    salver serve models:/tagger@champion               a model of MLflow as it is
    salver optimize service:service --on heldout.csv   faster, if its answers stay the same
    salver calibrate service:service --on heldout.csv  what its confidence is worth
    salver report service:service --record answers.db  do its promises hold, are its inputs the same?
    """
    import logging

    logging.basicConfig(level=log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # a service in the current folder is found, as with python -m


@main.command()
@TARGET
@click.option("--host", help="Address to bind.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to bind; 0 picks a free one.  [default: 8000]")
@click.option("--insecure", is_flag=True, help="Allow other machines to ask without an API key.")
@click.option(
    "--record",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Keep answers in FILE and take true labels at /feedback/, for salver report.",
)
@click.option(
    "--optimize-for",
    type=click.Choice(["throughput", "latency"]),
    help="What replicas, threads and batch size are chosen for.  [default: throughput]",
)
@ENGINE
@ADDRESS
@WORKING_DIR
@CONFIG
@SETS
@ALLOW_CODE
@ORIGINAL
@DETAILS
def serve(  # noqa: PLR0913 - one for each option
    target: str,
    host: str | None,
    port: int | None,
    insecure: bool,
    record: str | None,
    optimize_for: str | None,
    engine: str,
    address: str | None,
    working_dir: Path | None,
    config: Path | None,
    sets: tuple[str, ...],
    allow_code: bool,
    original: bool,
    details: str | None,
) -> None:
    """Answers predictions over HTTP until Ctrl-C or SIGTERM, then drains.

    With --engine ray, each model is a deployment of Ray Serve. On the cluster at --address the
    service stays when this command ends; run it again to update it, `salver shutdown` to end it.
    """
    _refuse_ray_options(engine, address, working_dir)
    _prepare(engine, address, optimize_for)
    from salver.engine.targets import pinned_service
    from salver.run import serve_until_signalled
    from salver.session import Configuration

    given = {"host": host, "port": port, "insecure": insecure or None, "record": record}
    server = {name: value for name, value in given.items() if value is not None}
    if optimize_for is not None:
        sets = (*sets, f"optimize_for={optimize_for}")
    target, service = pinned_service(target)
    configuration = Configuration(config, overrides(sets, allow_code, original, details), server)
    if engine == "ray":
        from salver.cluster import life
        from salver.cluster.connection import Cluster

        life.serve(service, target, configuration, say, Cluster(address, working_dir))
        return
    serve_until_signalled(service, target, configuration, say)


@main.command()
@TARGET
@click.argument("input")
@click.argument("output")
@click.option("--deployment", help="Which one, when the service has several.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["parquet", "jsonl", "csv"]),
    default="parquet",
    show_default=True,
    help="Format of the output's parts.",
)
@click.option("--resume", is_flag=True, help="Go on with a job that was interrupted.")
@click.option("--overwrite", is_flag=True, help="Delete what an earlier job wrote to OUTPUT.")
@click.option(
    "--max-bad-rows", type=int, help="Stop when more rows than this fail.  [default: no limit]"
)
@click.option("--delimiter", help="Of CSV input.  [default: found in the header]")
@FILL_DEFAULTS
@ENGINE
@ADDRESS
@WORKING_DIR
@CONFIG
@SETS
@ALLOW_CODE
@ORIGINAL
@DETAILS
def predict(  # noqa: PLR0913 - one for each option
    target: str,
    input: str,
    output: str,
    deployment: str | None,
    engine: str,
    address: str | None,
    working_dir: Path | None,
    config: Path | None,
    sets: tuple[str, ...],
    allow_code: bool,
    original: bool,
    details: str | None,
    **options: Any,
) -> None:
    """Predicts every row of INPUT and writes OUTPUT, a folder.

    INPUT is a CSV, JSON Lines or Parquet file, a folder of them, a glob in quotes, or a URI such as
    s3://bucket/rows.parquet. A folder of images gives a row for each, in the model's only field of
    bytes. OUTPUT gets the input's columns and the results in input order; rows
    that fail go to OUTPUT/_quarantine with the reason. An interrupted job goes on with --resume.
    """
    _refuse_ray_options(engine, address, working_dir)
    _prepare(engine, address, "throughput")
    from salver.engine.targets import pinned_service
    from salver.run import predict_files
    from salver.session import Configuration

    options["format"] = options.pop("format_")
    run: Any = predict_files
    if engine == "ray":
        from salver.cluster import life
        from salver.cluster.connection import Cluster

        run = partial(life.predict_files, cluster=Cluster(address, working_dir))
    target, service = pinned_service(target)
    manifest = run(
        service,
        target,
        Configuration(config, overrides(sets, allow_code, original, details)),
        say,
        deployment=deployment,
        paths=(input, output),
        options=options,
    )
    totals = manifest["totals"]
    say(f"{totals['rows']} rows: {totals['ok']} in {output}, {totals['bad']} in quarantine.")


@main.command("best-run")
@click.argument("experiment")
@click.option("--metric", required=True, help="Metric that every candidate logged.")
@click.option(
    "--mode",
    type=click.Choice(["min", "max"]),
    default="min",
    show_default=True,
    help="Whether the smallest or the largest value wins.",
)
@click.option(
    "--tracking-uri", help="MLflow store.  [default: MLFLOW_TRACKING_URI, or ./mlflow.db]"
)
def best_run(experiment: str, metric: str, mode: Any, tracking_uri: str | None) -> None:
    """Prints the id of the best finished run of an MLflow EXPERIMENT."""
    from salver.models.tracking import best_run as find

    click.echo(find(experiment, metric=metric, mode=mode, tracking_uri=tracking_uri).run_id)


@main.command()
@TARGET
@click.option("--on", "rows", required=True, help="CSV, JSON Lines or Parquet file of rows.")
@click.option("--deployment", help="Which one, when the service has several.")
@FILL_DEFAULTS
@ENGINE
@CONFIG
@SETS
@ALLOW_CODE
@ORIGINAL
def parity(  # noqa: PLR0913 - one for each option
    target: str,
    rows: str,
    deployment: str | None,
    fill_defaults: bool,
    engine: str,
    config: Path | None,
    sets: tuple[str, ...],
    allow_code: bool,
    original: bool,
) -> None:
    """Compares the bare class, HTTP and the offline job on the same rows.

    Labels must be equal (but for ties under 1e-5) and probabilities within 1e-6 at the same batch
    composition; rejected rows must be rejected everywhere. Exit code 1 when they are not. With
    --engine ray, Ray Serve and Ray Data are compared too, on a Ray that is started for it.
    """
    from salver.parity import compare
    from salver.session import Configuration

    configuration = Configuration(config, overrides(sets, allow_code, original))
    report = compare(
        target, rows, deployment, configuration, fill_defaults=fill_defaults, on_ray=engine == "ray"
    )
    click.echo(report.text())
    if not report.equal:
        sys.exit(1)


def _refuse_ray_options(engine: str, address: str | None, working_dir: Path | None) -> None:
    if engine != "ray" and (address or working_dir):
        raise click.UsageError("--address and --working-dir are for --engine ray.")
    if working_dir and not address:
        raise click.UsageError("--working-dir is sent to the cluster at --address; name one.")


def _prepare(engine: str, address: str | None, optimize_for: str | None) -> None:
    """What has to happen before the service is imported, or had better."""
    if engine == "ray":
        from salver.cluster.connection import require_ray

        require_ray(on_loopback=address is None)  # the service may import Ray
        return
    from salver.engine import children
    from salver.settings import available_cores

    # The first replica's process, which imports while this one does.
    children.spawn_ahead(available_cores() if optimize_for == "latency" else 1)


for _verb in (serve, predict, parity):
    _verb.help = cleandoc(_verb.help or "") + EXAMPLE
for _verb in (
    optimize,
    calibrate,
    feedback,
    report,
    on_ray.status,
    on_ray.shutdown,
    on_ray.build,
    on_ray.simulate,
):
    main.add_command(_verb)
