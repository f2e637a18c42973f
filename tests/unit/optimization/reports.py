"""Reports made by hand: a text classifier with a faithful, a refused and a failed candidate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from salver.optimization.fidelity import GATES, Fidelity, Quality
from salver.optimization.results import Candidate, Report, Speed

ROWS = 1000
REFERENCE = Quality(0.912, 0.894, (0.871, 0.915), 0.031)
WORSE = Quality(0.871, 0.842, (0.815, 0.866), 0.052)


def fidelity(scale: float, seed: int = 1, **given: Any) -> Fidelity:
    """A candidate whose differences are log-normal around `scale`; none at all for 0."""
    differences = scale * np.random.default_rng(seed).lognormal(0, 1.2, ROWS)
    found = Fidelity(
        rows=ROWS,
        agreement=1.0,
        mean=float(differences.mean()) / 4,
        p99=float(np.quantile(differences, 0.99)),
        largest=float(differences.max()),
        flips=(),
        decisions=0.0,
        failures=0,
        mates=0.0,
        mates_flips=0,
        differences=differences,
    )
    return replace(found, **given)


def judged(name: str, batched: float, single: float, found: Fidelity) -> Candidate:
    """A candidate that runs, refused for what the gate "lossless" says of it."""
    speed = Speed(45.1 * single, 83.2 * batched, 22.2 / single, 6.53, 978.4)
    return Candidate(
        name=name,
        precision=name.split("-")[1],
        digest="c0ffee" * 8,
        refused=tuple(found.refused(GATES["lossless"])),
        speed=speed,
        single_ratio=single,
        batched_ratio=batched,
        beside=83.2,
        fidelity=found,
    )


FP32 = judged("openvino-fp32", 1.18, 1.31, fidelity(4e-7, seed=2, mates=2.4e-7))
BF16 = judged("openvino-bf16", 2.41, 1.87, fidelity(4e-4, seed=3, agreement=0.999, flips=(0.02,),
                                                   decisions=0.001, mates=3.1e-3, mates_flips=1))  # fmt: skip
INT8 = judged("onnxruntime-int8-dynamic", 1.52, 1.66, fidelity(2e-2, seed=4, agreement=0.957,
              flips=(0.62, 0.31, 0.12, 0.04), decisions=0.031, mates=0.121, mates_flips=9))  # fmt: skip
FAILED = Candidate("openvino-int8", trouble="nncf not installed: pip install 'salver[optimize]'")


def report(*candidates: Candidate, **given: Any) -> Report:
    """A report on these candidates; on one of each kind if none is given."""
    found = Report(
        target="models:/tagger/3@sha256:" + "0123456789abcdef" * 4,
        deployment="Tagger",
        checkpoint="models:/tagger@champion",
        digest="0123456789abcdef" * 4,
        gate=GATES["lossless"],
        gate_rows=ROWS,
        unfit=0,
        calibration_rows=128,
        label="",
        original=Speed(45.1, 83.2, 22.17, 3.21, 1234.5),
        steady=fidelity(0.0, mates=2.1e-7),
        control=1.01,
        batch_size=16,
        candidates=candidates or (FP32, BF16, INT8, FAILED),
        chosen="openvino-bf16",
        stays="",
        machine={"processor": "Some CPU @ 2.5 GHz", "cores": "8", "openvino": "2025.3.0"},
        made_at="2026-01-02T03:04:05+00:00",
    )
    return replace(found, **given)


def with_labels() -> Report:
    """The same where the truth is known; one candidate is less often right."""
    qualities = (REFERENCE, Quality(0.911, 0.893, (0.870, 0.914), 0.030), WORSE)
    candidates = []
    for one, quality in zip((FP32, BF16, INT8), qualities, strict=True):
        assert one.fidelity
        found = replace(one.fidelity, quality=quality, reference=REFERENCE)
        refused = tuple(found.refused(GATES["lossless"]))
        candidates.append(replace(one, fidelity=found, refused=refused))
    return report(*candidates, FAILED, label="tag")
