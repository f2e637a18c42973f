# ruff: noqa: T201 (a command line speaks through print)
"""The model in a loop, without any server: the limit that every server is held against.

    python -m bench.bare --model minilm --threads 2 --batch 8 --seconds 5

prints one JSON line. The rows are those that the servers get; each is turned into tokens when its
turn comes, as a server must. It does not know about servers, nor about other processes.
"""

import argparse
import json
import os
import random
import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from statistics import median

from bench import predictors

Row = dict[str, str]

WARM_UP_BATCHES = 20
# Of the seconds for batches, how many more are spent on single rows.
SINGLE_SHARE = 1 / 3
_ORDER_SEED = 5


def batches(
    rows: Sequence[Row], lengths: Sequence[int], size: int
) -> list[tuple[list[str], list[str]]]:
    """Batches of rows of similar length, as (titles, descriptions), in a fixed mixed order.

    Mixed, since a loop that is cut off by the clock would otherwise see the short ones only.
    """
    order = sorted(range(len(rows)), key=lengths.__getitem__)
    cut = [order[at : at + size] for at in range(0, len(order), size)]
    random.Random(_ORDER_SEED).shuffle(cut)
    return [
        ([rows[i]["title"] for i in batch], [rows[i]["description"] for i in batch])
        for batch in cut
    ]


def lengths_of(predict: predictors.Predictor, rows: Sequence[Row]) -> list[int]:
    """The length of each row as the model counts it: tokens where it has some, else characters."""
    titles, descriptions = [r["title"] for r in rows], [r["description"] for r in rows]
    if isinstance(predict, predictors.Transformer):
        return [len(encoding) for encoding in predict.encode(titles, descriptions)]
    return [len(t) + len(d) for t, d in zip(titles, descriptions, strict=True)]


def measure(
    predict: predictors.Predictor, rows: Sequence[Row], batch: int, seconds: float
) -> dict[str, float]:
    """Rows/s in batches sorted by length, and the median latency of single rows."""
    mixed = batches(rows, lengths_of(predict, rows), batch)
    for _ in _calls(predict, mixed[:WARM_UP_BATCHES], repeat=False):
        pass
    done, start = 0, time.perf_counter()
    for count, _ in _calls(predict, mixed):
        done += count
        if (elapsed := time.perf_counter() - start) >= seconds:
            break
    single, latencies = batches(rows, range(len(rows)), 1), []
    limit = time.perf_counter() + seconds * SINGLE_SHARE
    for _, latency in _calls(predict, single):
        latencies.append(latency)
        if time.perf_counter() >= limit:
            break
    return {"rows_per_s": done / elapsed, "p50_ms": median(latencies) * 1000}


def _calls(
    predict: predictors.Predictor,
    some: Sequence[tuple[list[str], list[str]]],
    repeat: bool = True,
) -> Iterator[tuple[int, float]]:
    """Rows and seconds of each call."""
    for titles, descriptions in cycle(some) if repeat else some:
        start = time.perf_counter()
        predict(titles, descriptions)
        yield len(titles), time.perf_counter() - start


def memory_mb() -> float:
    """Proportional set size of this process."""
    rollup = Path("/proc/self/smaps_rollup").read_text("ascii")
    (pages,) = (line for line in rollup.splitlines() if line.startswith("Pss:"))
    return int(pages.split()[1]) * 1024 / 1e6


def age_s() -> float:
    """Seconds since this process was started, to a hundredth."""
    # The name, in parentheses, may hold anything; the start is the 20th field after it.
    fields = Path("/proc/self/stat").read_text("ascii").rpartition(")")[2].split()
    uptime = float(Path("/proc/uptime").read_text("ascii").split()[0])
    return uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Loads, answers once, loops, and prints what that took."""
    parser = argparse.ArgumentParser(prog="python -m bench.bare", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--model", required=True, help="constant, minilm, bert-base or sklearn")
    parser.add_argument("--threads", type=int, default=1, help="math threads (default: 1)")
    parser.add_argument("--batch", type=int, default=8, help="rows of a batch (default: 8)")
    parser.add_argument("--seconds", type=float, default=5, help="of the batches (default: 5)")
    given = parser.parse_args()
    folder = os.environ.get("BENCH_FOLDER")
    if folder is None:
        from bench import prepare  # only here: it would count as the model's memory

        folder = str(prepare.folder(given.model))
    rows: list[Row] = json.loads((Path(folder).parent / "rows.json").read_text("utf-8"))
    predict = predictors.load(given.model, folder, given.threads)
    predict([rows[0]["title"]], [rows[0]["description"]])
    loaded = {"load_s": age_s(), "idle_mb": memory_mb()}
    measured = measure(predict, rows, given.batch, given.seconds)
    print(json.dumps(vars(given) | measured | loaded | {"rss_mb": memory_mb()}))


if __name__ == "__main__":
    main()
