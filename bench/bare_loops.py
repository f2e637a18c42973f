"""The bare model in a loop, as processes of their own: what no server can exceed.

Both ways to use the cores are run, one process with all of them and one process on each, since
which is faster depends on the model (one that holds the GIL needs processes). It does not know
what `bench.bare` does in its loop.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import prepare
from bench.plan import LOOP_S, Loops
from bench.processes import clean_environment
from bench.results import Loop

# Rows of a batch, sorted by length: on a CPU, larger ones make a transformer slower. scikit-learn
# gains by larger ones; 32 is what 64 connections can fill on two cores.
BATCHES = {"minilm": (8,), "bert-base": (8,), "sklearn": (8, 32)}
LIMIT_S = 120.0


class LoopFailed(Exception):
    """A bare loop ended without a result; the message is the reason."""


def measure(step: Loops, cores: int) -> list[Loop]:
    """The loops of one model in one round."""
    found = []
    for batch in BATCHES[step.model]:
        for processes, threads in dict.fromkeys(((1, cores), (cores, 1))):
            loop = Loop(step.round, step.model, processes, threads, batch)
            try:
                found.append(together(loop, _run(loop)))
            except LoopFailed as failure:
                found.append(replace(loop, refused=str(failure)))
    return found


def together(loop: Loop, said: list[dict[str, Any]]) -> Loop:
    """Adds up what the processes of one loop said."""
    return replace(
        loop,
        rows_per_s=sum(one["rows_per_s"] for one in said),
        p50_ms=max(one["p50_ms"] for one in said),
        load_s=max(one["load_s"] for one in said),
        idle_mb=sum(one["idle_mb"] for one in said),
        rss_mb=sum(one["rss_mb"] for one in said),
    )


def _run(loop: Loop) -> list[dict[str, Any]]:
    python, threads = Path(sys.executable), loop.threads
    command = [str(python), "-m", "bench.bare", "--model", loop.model, "--threads", str(threads)]
    command += ["--batch", str(loop.batch), "--seconds", str(LOOP_S)]
    env = clean_environment(python) | {
        "BENCH_FOLDER": str(prepare.folder(loop.model)),
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)),
    }
    running = [
        subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(loop.processes)
    ]
    try:
        return [_said(one) for one in running]
    finally:
        for one in running:
            one.kill()
            one.wait()


def _said(process: "subprocess.Popen[str]") -> dict[str, Any]:
    try:
        out, complaints = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        raise LoopFailed(f"the bare loop took longer than {LIMIT_S:g} s") from None
    lines = [line for line in out.splitlines() if line.startswith("{")]
    if process.returncode != 0 or not lines:
        said = (complaints.strip() or "nothing").splitlines()[-1]
        raise LoopFailed(f"the bare loop ended with code {process.returncode}: {said}")
    result: dict[str, Any] = json.loads(lines[-1])
    return result
