"""`python -m bench.trust`: what confidence, novelty and promises cost, in CPU time per row.

The example's model with all of it against the same model without, in alternating rounds of one
process and one thread; the model without against itself tells how far noise reaches. It needs a
model that is trained and calibrated (`make calibrate`).
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import click

RESULTS = Path(__file__).parent / "results" / "trust.json"
ROWS, BATCH, ROUNDS = 160, 8, 15


@click.command()
def main() -> None:
    """Measure the share of CPU time that trust adds, and write bench/results/trust.json."""
    os.environ["OMP_NUM_THREADS"] = "1"  # before anything is imported that computes
    import torch

    torch.set_num_threads(1)
    bare, whole, batches = _pipelines()
    rounds: list[tuple[float, float, float]] = []
    for _ in range(ROUNDS + 1):
        before, taken, after = (_seconds(one, batches) for one in (bare, whole, bare))
        rounds.append((before, taken, after))
    del rounds[0]  # warms up
    found = {
        "with trust / without": statistics.median(2 * t / (b + a) for b, t, a in rounds),
        "without / without (A/A)": statistics.median(a / b for b, _, a in rounds),
        "rows": ROWS,
        "rounds": ROUNDS,
    }
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    click.echo(json.dumps(found, indent=2))


def _seconds(pipeline: Any, batches: list[Any]) -> float:
    start = time.process_time()
    for batch in batches:
        pipeline.run(batch)
    return time.process_time() - start


def _pipelines() -> tuple[Any, Any, list[Any]]:
    """The model without and with what was calibrated, and batches of rows of similar length."""
    from madewithml.data import HOLDOUT_FILE
    from madewithml.service import tagger
    from salver import Novelty, Precision
    from salver.engine.calibrations import with_calibrations
    from salver.engine.loading import ATTACHED, CALIBRATION, instantiate, trust_of
    from salver.engine.resolution import resolve_all
    from salver.models.checkpoint import Checkpoint
    from salver.offline.labelled import read
    from salver.pipeline import Pipeline

    found = asyncio.run(resolve_all([tagger]))
    resolved = with_calibrations([tagger], found)[0][tagger.name]
    if CALIBRATION not in resolved:
        raise click.ClickException("The example is not calibrated. Run make calibrate.")
    opened = {place: Checkpoint.open(one["path"], one["digest"]) for place, one in resolved.items()}
    own = {place: one for place, one in opened.items() if place not in ATTACHED}
    policies: list[Any] = [Novelty(0.01, otherwise="other"), Precision(0.9, otherwise="other")]
    whole = Pipeline(instantiate(tagger, own), policies, trust=trust_of(opened))
    bare = Pipeline(_without_hidden_states(instantiate(tagger, own)))
    rows = read(str(HOLDOUT_FILE), tagger).batch
    order = sorted(range(len(rows)), key=lambda i: len(rows.rows[i][1]))[:ROWS]
    groups = (order[at : at + BATCH] for at in range(0, ROWS, BATCH))
    return bare, whole, [rows.take(group) for group in groups]


def _without_hidden_states(model: Any) -> Any:
    """The tagger as it would be if nobody asked it for more than probabilities."""
    import torch

    from madewithml.model import Output

    network = model._model
    nothing = torch.zeros(BATCH, 2, network.encoder.config.hidden_size)

    def forward(ids: torch.Tensor, mask: torch.Tensor) -> Output:
        output = network.encoder(input_ids=ids, attention_mask=mask)
        weights = mask.unsqueeze(-1).to(output.last_hidden_state.dtype)
        pooled = (output.last_hidden_state * weights).sum(1) / weights.sum(1)
        return Output(network.head(network.dropout(pooled)), nothing[: len(ids)])

    if network.spec.pooling != "mean":
        raise click.ClickException("The best run does not pool by the mean, as is measured here.")
    network.forward = forward
    return model


if __name__ == "__main__":
    main()
