"""Arguments that several verbs take, and how all of them speak."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML file of options; stronger than the code, weaker than SALVER_* variables.",
)
SETS = click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="NAME=VALUE",
    help="Override one option, for example num_replicas=2 or Tagger.max_batch_size=16; the strongest.",
)
ALLOW_CODE = click.option(
    "--allow-code",
    is_flag=True,
    help="Let a model that is served by its URI run code when it is loaded, as pickles do.",
)
ORIGINAL = click.option(
    "--original", is_flag=True, help="Leave the variant alone that salver optimize chose."
)
DETAILS = click.option(
    "--details",
    metavar="NAMES",
    help="What every answer carries beyond the result, with commas: confidence, novelty, abstained, "
    "truncated, version.",
)
RECORD = click.option(
    "--record",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="File of answers and true labels.",
)
FILL_DEFAULTS = click.option(
    "--fill-defaults", is_flag=True, help="Let columns be absent whose fields have a default."
)
TARGET = click.argument("target", metavar="TARGET")
ENGINE = click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where it runs: on this machine, or on Ray.",
)
ADDRESS = click.option(
    "--address",
    help="Ray cluster: auto, HOST:PORT or ray://HOST:PORT.  [default: one is started here]",
)
WORKING_DIR = click.option(
    "--working-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with the service's modules, sent to the nodes of the cluster at --address.",
)
RUNNING = click.option(
    "--address", default="auto", show_default=True, help="Ray cluster: auto, HOST:PORT or ray://..."
)
OUTPUT_FILE = click.Path(path_type=Path, dir_okay=False)
EXAMPLE = (
    "\n\nTARGET is MODULE:NAME of a Service, for example service:service, or FILE.py:NAME. Or it "
    "is a model: models:/NAME@ALIAS, models:/NAME/VERSION, runs:/ID/NAME, or a path."
)


def say(text: str) -> None:
    """Tells people on stderr, if anybody can read it; stdout is for results."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(text, err=True)


def overrides(
    sets: tuple[str, ...],
    allow_code: bool = False,
    original: bool = False,
    details: str | None = None,
) -> tuple[str, ...]:
    """All that the command line says of options."""
    flags = {
        "allow_code=true": allow_code,
        "original=true": original,
        f"details=[{details}]": details is not None,
    }
    return (*sets, *(option for option, is_given in flags.items() if is_given))
