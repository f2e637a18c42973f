"""``python -m bench``: the command line of the measurements; it measures nothing itself."""

import signal
import sys
from pathlib import Path

import click
from rich.console import Console

from bench import online, plan, report
from bench.prepare import PreparationFailed
from bench.systems import MODELS, SYSTEMS

HERE = Path(__file__).parent
PARTS = ("online", "offline", "report")
QUICK_CONNECTIONS = (1, 64)
QUICK_MODELS = ("constant", "minilm")

EPILOG = f"""
\b
Examples:
  python -m bench                                   all of it, about two hours
  python -m bench online --quick                    a look in a few minutes
  python -m bench online --only salver,litserve     against one rival (and the bare limits)
  python -m bench online --models minilm --connections 64
  python -m bench report                            the report again, from the saved results

\b
Systems: {", ".join(SYSTEMS)}
Models:  {", ".join(MODELS)}

Each rival gets a virtual environment of its own under bench/.venvs, each model its files under
bench/.artifacts; both are made the first time. wrk has to be installed. Do nothing else on the
machine meanwhile: every run measures Salver against itself, and says how small a difference it can
see.
"""


def _names(_context: click.Context, _parameter: click.Parameter, text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _counts(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
    names = _names(context, parameter, text)
    if wrong := [name for name in names if not name.isdecimal() or int(name) < 1]:
        raise click.BadParameter(f"{wrong[0]!r} is no number of connections; give 1,16,64 or so")
    return tuple(map(int, names))


@click.command(
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.argument("parts", nargs=-1, type=click.Choice(PARTS), metavar="[online] [offline] [report]")
@click.option(
    "--only",
    default="",
    callback=_names,
    help="Servers to measure, with commas; `offline` is left out then, unless it is named too.",
)
@click.option("--models", default="", callback=_names, help="Models to serve, with commas.")
@click.option(
    "--connections", default="", callback=_counts, help="Numbers of connections, with commas."
)
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="Rounds.")
@click.option(
    "--seconds",
    type=click.FloatRange(1),
    help="Seconds of each online measurement; by default 2 to 9, by model and connections.",
)
@click.option("--quick", is_flag=True, help="Two rounds, two models, 1 and 64 connections.")
@click.option("--skip-online", is_flag=True, help="Leave the servers out.")
@click.option("--skip-offline", is_flag=True, help="Leave the files out.")
@click.option(
    "--results",
    type=click.Path(dir_okay=False, path_type=Path),
    default=HERE / "results" / "latest.json",
    help="Where the measurements are kept.  [default: bench/results/latest.json]",
)
@click.option(
    "--docs",
    type=click.Path(file_okay=False, path_type=Path),
    default=HERE.parent / "docs",
    help="Where benchmarks.md and its pictures go.  [default: docs]",
)
def main(  # noqa: PLR0913 (one for each option)
    parts: tuple[str, ...],
    only: tuple[str, ...],
    models: tuple[str, ...],
    connections: tuple[int, ...],
    rounds: int,
    seconds: float | None,
    quick: bool,
    skip_online: bool,
    skip_offline: bool,
    results: Path,
    docs: Path,
) -> None:
    """Measures Salver, its rivals and the bare limits, in alternating rounds on this machine.

    Without a part, all of them: `online` (servers under load), `offline` (a file to a file), and
    `report`, which writes docs/benchmarks.md and its pictures from what the others saved.
    """
    console = Console(stderr=True)
    # Ended from outside, it stops what it has started and keeps what it has measured, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    skipped = {"online": skip_online, "offline": skip_offline or bool(only and not parts)}
    wanted = [part for part in PARTS if part in (parts or PARTS) and not skipped.get(part)]
    if quick:
        models, connections = models or QUICK_MODELS, connections or QUICK_CONNECTIONS
        rounds, seconds = 2, seconds or 2.0
    try:
        if "online" in wanted:
            online.run(plan.make(only, models, connections, rounds, seconds), results, console)
        if "offline" in wanted:
            from bench import offline

            offline.run(rounds, results, console)
        if "report" in wanted:
            console.print(f"written: {report.write(results, docs)}")
    except (plan.UnknownName, PreparationFailed, report.NothingToReport) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        console.print("interrupted; `python -m bench report` reports what was measured")
        sys.exit(130)


if __name__ == "__main__":
    main(prog_name="python -m bench")
