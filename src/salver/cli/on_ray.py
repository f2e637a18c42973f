"""Verbs that are about Ray alone: its state, its end, its files, its autoscaling."""

from __future__ import annotations

import sys
from inspect import cleandoc
from pathlib import Path

import click

from salver.cli.shared import (
    ALLOW_CODE,
    CONFIG,
    EXAMPLE,
    OUTPUT_FILE,
    RUNNING,
    SETS,
    TARGET,
    overrides,
    say,
)


@click.command()
@RUNNING
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(address: str, as_json: bool) -> None:
    """Shows the service on a Ray cluster: deployments, replicas, queues, versions.

    Exit code 1 when there is none, or when it is not running.
    """
    import json

    from salver.cluster import life

    state = life.status(address)
    if as_json:
        click.echo(json.dumps(state, indent=2))
    else:
        click.echo(life.shown(state))
    if state is None or state["status"] != "RUNNING":
        sys.exit(1)


@click.command()
@RUNNING
def shutdown(address: str) -> None:
    """Ends the service on a Ray cluster; the cluster goes on."""
    from salver.cluster import life

    ended = life.shutdown(address)
    say("The service has ended." if ended else "No service of Salver runs there.")


@click.command()
@TARGET
@click.option("-o", "--output", type=OUTPUT_FILE, help="File to write.  [default: standard output]")
@click.option("--kubernetes", is_flag=True, help="A RayService for KubeRay, with its cluster.")
@click.option(
    "--predict",
    "paths",
    nargs=2,
    metavar="INPUT OUTPUT",
    help="A RayJob for an offline run instead.",
)
@click.option("--deployment", help="Which one --predict runs, when the service has several.")
@click.option("--image", help="Container image with the service, Salver and Ray.")
@click.option("--name", default="salver", show_default=True, help="Of the Kubernetes object.")
@click.option("--memory", default="4Gi", show_default=True, help="Of a worker.")
@click.option("--host", help="Address that Ray's proxies bind.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port that they bind.  [default: 8000]")
@click.option("--insecure", is_flag=True, help="Allow other machines to ask without an API key.")
@CONFIG
@SETS
@ALLOW_CODE
def build(  # noqa: PLR0913 - one for each option
    target: str,
    output: Path | None,
    kubernetes: bool,
    paths: tuple[str, str] | None,
    deployment: str | None,
    image: str | None,
    name: str,
    memory: str,
    host: str | None,
    port: int | None,
    insecure: bool,
    config: Path | None,
    sets: tuple[str, ...],
    allow_code: bool,
) -> None:
    """Writes the YAML that puts a service on a cluster.

    \b
    salver build service:service -o serve.yaml            then: serve deploy serve.yaml
    salver build service:service --kubernetes --image IMAGE -o rayservice.yaml
    salver build service:service --kubernetes --image IMAGE --predict IN OUT -o rayjob.yaml

    Checkpoints are pinned to the versions they have now (a RayJob resolves them when it runs, and
    needs a volume where IN and OUT are). An API key is never written: the replicas
    read SALVER_API_KEY (on Kubernetes from the secret salver, key api-key).
    """
    from salver.cluster import beforehand
    from salver.engine.targets import pinned_service
    from salver.session import Configuration

    if kubernetes and not image:
        raise click.UsageError("--kubernetes needs --image, a container with the service and Ray.")
    if paths and not kubernetes:
        raise click.UsageError("--predict makes a job for Kubernetes; say --kubernetes too.")
    given = {"host": host, "port": port, "insecure": insecure or None}
    server = {option: value for option, value in given.items() if value is not None}
    target, service = pinned_service(target)
    configuration = Configuration(config, overrides(sets, allow_code), server)
    pods = {"name": name, "image": image, "memory": memory} if kubernetes else None
    if paths and pods:
        text = beforehand.build_job(
            service, target, configuration, pods, deployment=deployment, paths=paths
        )
    else:
        text = beforehand.build(service, target, configuration, pods)
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")


@click.command()
@TARGET
@click.option(
    "--trace",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="CSV file with the columns second and requests_per_s.",
)
@click.option("--deployment", help="Which model, when the service has several.")
@click.option("-o", "--output", type=OUTPUT_FILE, help="Picture to draw, .png or .svg.")
@click.option(
    "--start-s", type=float, help="Seconds until a new replica answers.  [default: load time + 3]"
)
@CONFIG
@SETS
@ALLOW_CODE
def simulate(
    target: str,
    trace: Path,
    deployment: str | None,
    output: Path | None,
    start_s: float | None,
    config: Path | None,
    sets: tuple[str, ...],
    allow_code: bool,
) -> None:
    """Shows what Ray's autoscaling will do with a trace of requests, before it is trusted.

    One replica is started and measured on this machine; arrivals, batches and queues are simulated,
    and Ray's own policy decides. Network and Ray's own cost of a request are left out.
    """
    from salver.cluster import beforehand
    from salver.engine.targets import pinned_service
    from salver.session import Configuration

    target, service = pinned_service(target)
    seconds = beforehand.simulate(
        service,
        target,
        Configuration(config, overrides(sets, allow_code)),
        say,
        deployment=deployment,
        trace=trace,
        picture=output,
        start_s=start_s,
    )
    click.echo("second,requests,replicas,target,queued,p99_ms")
    for at, second in enumerate(seconds):
        p99 = "" if second.p99_s is None else f"{second.p99_s * 1e3:.1f}"
        click.echo(f"{at},{second.rate},{second.replicas},{second.target},{second.queued},{p99}")


for _verb in (build, simulate):
    _verb.help = cleandoc(_verb.help or "") + EXAMPLE
