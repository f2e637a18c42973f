# ruff: noqa: T201 (a command line speaks through print)
"""Walk the whole lesson with the real commands, and check what they say.

    python -m madewithml.demo [--dataset PATH_OR_URL] [--retrain]

Ends with a non-zero exit code at the first step that is not as expected. Knows only what a user
knows: the command line and the HTTP routes.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from madewithml.data import CLASSES, HOLDOUT_FILE, read_projects
from madewithml.locations import EXPERIMENT, METRIC, MODE, tracking_uri
from madewithml.noise import OTHERWISE, THRESHOLD
from madewithml.train import LESSON_QUERY, finished_run

TARGET = "madewithml.service:service"
NOISE = {"title": " 65n7r5675", "description": ""}
START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 60


class Unexpected(Exception):
    """A step did not give what the lesson promises."""


def expect(holds: bool, message: str) -> None:
    """Raise `Unexpected` with the message unless the condition holds."""
    if not holds:
        raise Unexpected(message)


def step(number: int, title: str) -> None:
    """Announce a step."""
    print(f"\n{number}. {title}", flush=True)


def _environment() -> dict[str, str]:
    return {**os.environ, "MLFLOW_TRACKING_URI": tracking_uri()}


def _run(module: str, *arguments: str, shown_as: str) -> str:
    """Run a command, its stderr shown as it comes; returns its stdout."""
    print(f"   $ {shown_as} {' '.join(arguments)}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=_environment(), stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    expect(done.returncode == 0, f"{shown_as} ended with exit code {done.returncode}")
    return done.stdout.strip()


def train_or_reuse(dataset: str | None, retrain: bool) -> None:
    """Train, unless the experiment has a finished run already."""
    if not retrain and dataset is None and (found := finished_run(EXPERIMENT)):
        print(f"   reusing the runs of experiment {EXPERIMENT!r}, {found} among them")
        return
    options = ["--dataset", dataset] if dataset else []
    result = json.loads(
        _run("madewithml.train", *options, shown_as="python -m madewithml.train").splitlines()[-1]
    )
    overall = result["overall"]
    print(
        f"   precision {overall['precision']:.3f}, recall {overall['recall']:.3f}, "
        f"F1 {overall['f1']:.3f} on {overall['num_samples']} rows ({result['evaluated_on']})"
    )


def find_best_run() -> str:
    """The id of the best run, as `salver best-run` prints it."""
    run_id = _run(
        "salver.cli", "best-run", EXPERIMENT, "--metric", METRIC, "--mode", MODE, shown_as="salver"
    )
    expect(run_id.isalnum(), f"best-run printed {run_id!r}, which is no run id")
    print(f"   {run_id}")
    return run_id


def predict_file(folder: Path) -> None:
    """Predict the held-out file offline and show its first three rows."""
    import pyarrow.dataset

    out = folder / "predictions"
    _run("salver.cli", "predict", TARGET, str(HOLDOUT_FILE), str(out), shown_as="salver")
    parts = sorted(str(path) for path in out.rglob("*.parquet") if "quarantine" not in path.parts)
    rows = pyarrow.dataset.dataset(parts, format="parquet").to_table().to_pylist()
    projects = read_projects(HOLDOUT_FILE)
    expect(len(rows) == len(projects), f"{len(projects)} rows went in, {len(rows)} came out")
    print("   take(3):")
    for row in rows[:3]:
        print(f"     {row['title']!r}: {row['prediction']} (labelled {row['tag']})")
    answers = {row["prediction"] for row in rows}
    expect(answers <= set(CLASSES), f"predictions {answers} are not all among {CLASSES}")


@contextmanager
def serving() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A service in the background, ready; killed if the walk fails before it is stopped."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    print(f"   $ salver serve {TARGET} --port {port} &", flush=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "salver.cli", "serve", TARGET, "--port", str(port)],
        env=_environment(), stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        start = time.monotonic()
        while not _is_ready(address):
            expect(process.poll() is None, f"the service ended with code {process.returncode}")
            expect(
                time.monotonic() - start < START_TIMEOUT_S,
                f"the service was not ready within {START_TIMEOUT_S} s",
            )
            time.sleep(0.1)
        print(f"   ready at {address} after {time.monotonic() - start:.1f} s")
        yield address, process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/-/readyz", timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def ask(address: str, route: str, body: Any = None) -> Any:
    """GET a route, or POST JSON to it; the parsed answer."""
    request = urllib.request.Request(
        address + route,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)


def query(address: str) -> None:
    """The lesson's query must be answered natural-language-processing, and surely so."""
    print(f"   POST /predict/ {json.dumps(LESSON_QUERY)}")
    (result,) = ask(address, "/predict/", LESSON_QUERY)["results"]
    probability = result["probabilities"]["natural-language-processing"]
    print(f"   {result['prediction']}, probability {probability:.3f}")
    expect(
        result["prediction"] == "natural-language-processing" and probability > THRESHOLD,
        f"wanted natural-language-processing with a probability above {THRESHOLD}, got {result}",
    )


def query_noise(address: str) -> None:
    """Noise gets a class from the model alone, and `other` from the service."""
    print(f"   POST /predict/ {json.dumps(NOISE)}")
    (result,) = ask(address, "/predict/", NOISE)["results"]
    top, probability = max(result["probabilities"].items(), key=lambda item: item[1])
    print(f"   without the threshold: {top}, probability {probability:.3f}")
    print(f"   with the threshold {THRESHOLD}: {result['prediction']}")
    expect(result["prediction"] == OTHERWISE, f"wanted {OTHERWISE!r} for noise, got {result}")


def look_around(address: str, best: str) -> None:
    """The routes beside predictions: the run that is served, and evaluation."""
    served = ask(address, "/run_id/")["run_id"]
    print(f"   GET /run_id/ {served}")
    expect(served == best, f"the service serves run {served}, but the best is {best}")
    result = ask(address, "/evaluate/", {"dataset": HOLDOUT_FILE.name})
    print(f"   POST /evaluate/ {HOLDOUT_FILE.name}: {json.dumps(result['overall'])}")
    print(f"   the threshold lets {result['answered']:.0%} of the rows pass")


def shut_down(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM must end the service with exit code 0."""
    process.send_signal(signal.SIGTERM)
    code = process.wait(STOP_TIMEOUT_S)
    print(f"   exit code {code}")
    expect(code == 0, f"the service ended with exit code {code}")


def walk(dataset: str | None, retrain: bool) -> None:
    """All steps.

    Raises:
        Unexpected: a step did not give what the lesson promises.
    """
    step(1, "Train (or reuse what is trained)")
    train_or_reuse(dataset, retrain)
    step(2, "Find the best run")
    best = find_best_run()
    step(3, "Predict a file offline")
    with tempfile.TemporaryDirectory() as folder:
        predict_file(Path(folder))
    step(4, "Serve")
    with serving() as (address, process):
        step(5, "Ask: transfer learning")
        query(address)
        step(6, "Ask: noise")
        query_noise(address)
        step(7, "The other routes")
        look_around(address, best)
        step(8, "Shut down")
        shut_down(process)
    print("\nAll steps were as expected.")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 if every step was as expected, otherwise 1."""
    parser = argparse.ArgumentParser(prog="python -m madewithml.demo", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--dataset", help="CSV, path or URL to train on")
    parser.add_argument("--retrain", action="store_true", help="train even if there is a run")
    given = parser.parse_args(arguments)
    start = time.monotonic()
    try:
        walk(given.dataset, given.retrain)
    except (Unexpected, urllib.error.URLError, subprocess.TimeoutExpired) as error:
        print(f"\nNot as expected: {error}", file=sys.stderr)
        return 1
    print(f"{time.monotonic() - start:.0f} s in all.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
