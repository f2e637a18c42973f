"""Reports made by hand: a classifier of texts that is too sure of itself, and what mends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from salver.calibration.results import Kept, Report, Strange
from salver.trust.calibration import Attempt
from salver.trust.quality import Estimate, Honesty, reliability

ROWS = 600
NOTE = (
    "Temperature: on rows that it was not fitted on, log loss falls by 0.061 (99 % certain: by "
    "0.024 or more), and the calibration error goes from 0.082 to 0.027."
)


def estimate(value: float, reach: float) -> Estimate:
    """A number with an interval of the same reach to both sides."""
    return Estimate(value, value - reach, value + reach)


BEFORE = Honesty(
    estimate(0.082, 0.021), estimate(0.241, 0.03), estimate(0.452, 0.07), estimate(0.842, 0.029)
)
AFTER = Honesty(
    estimate(0.027, 0.012), estimate(0.222, 0.025), estimate(0.391, 0.05), estimate(0.842, 0.029)
)
ATTEMPTS = (
    Attempt("temperature", estimate(0.061, 0.037), BEFORE, AFTER, True),
    Attempt("vector_scaling", estimate(0.058, 0.044), BEFORE, AFTER, True),
    Attempt("isotonic", estimate(-0.013, 0.052), BEFORE, AFTER, False),
)
PRECISION = Kept(
    "Precision(precision=0.95, otherwise=None, per_class=False, confidence=0.9, uses='confidence')",
    answered=Estimate(0.635, 0.595, 0.674),
    precision=Estimate(0.966, 0.942, 0.982),
    right=368,
    given=381,
)
SETS = Kept(
    "ConformalSet(coverage=0.9)",
    answered=Estimate(1.0, 0.994, 1.0),
    precision=Estimate(0.842, 0.81, 0.87),
    right=505,
    given=600,
    sets=Estimate(0.903, 0.877, 0.926),
    set_size=1.37,
)
NOVELTY = Kept(
    "Novelty(share=0.01, otherwise=None)",
    answered=Estimate(0.988, 0.976, 0.995),
    precision=Estimate(0.845, 0.814, 0.873),
    right=501,
    given=593,
)
TOGETHER = replace(PRECISION, name="all of them", answered=Estimate(0.63, 0.59, 0.669), right=365,
                   given=378)  # fmt: skip
FIXED = Kept(
    "Threshold(0.9)",
    answered=Estimate(0.822, 0.789, 0.852),
    precision=Estimate(0.911, 0.883, 0.934),
    right=449,
    given=493,
)
BROKEN = Kept(
    "Precision(precision=0.999, otherwise=None)",
    trouble="No limit keeps a precision of 0.999: of the surest 50 rows 1 is wrong.",
)


def confident(seed: int = 1) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Honest confidence of each row, and whether the model is right."""
    random = np.random.default_rng(seed)
    sure = np.sort(1 - 0.65 * random.beta(0.6, 1.6, ROWS))
    return sure, random.random(ROWS) < sure


def report(**given: Any) -> Report:
    """All that there can be, but for what is given."""
    sure, right = confident()
    too_sure = 1 - (1 - sure) ** 1.9
    random = np.random.default_rng(2)
    found = Report(
        target="models:/tagger/3@sha256:" + "0123456789abcdef" * 4,
        deployment="Tagger",
        checkpoint="models:/tagger@champion",
        digest="0123456789abcdef" * 4,
        variant="",
        rows=ROWS,
        failed=3,
        unfit=0,
        training_rows=2400,
        training_unfit=0,
        label="tag",
        calibrator="temperature",
        note=NOTE,
        attempts=ATTEMPTS,
        before=BEFORE,
        after=AFTER,
        reliability_before=reliability(too_sure, right),
        reliability_after=reliability(sure, right),
        confidences=sure.tolist(),
        rights=right.tolist(),
        policies=(PRECISION, SETS, NOVELTY, TOGETHER, FIXED),
        novelty="layers",
        novelties=np.sort(0.62 * random.lognormal(0, 0.29, ROWS)).tolist(),
        strange=(noise(np.sort(6 * random.lognormal(0, 0.5, 1000)).tolist()),),
        made_at="2026-01-02T03:04:05+00:00",
    )
    return replace(found, **given)


def noise(novelties: Sequence[float]) -> Strange:
    """Random strings, of which most are withheld."""
    return Strange("random strings", 1000, 0.973, 0.998, 0.712, novelties)


def without_labels() -> Report:
    """The same where no truth is known."""
    policies = tuple(replace(one, precision=None, right=0) for one in (NOVELTY,))
    return report(
        label="",
        calibrator="identity",
        note="",
        attempts=(),
        before=None,
        after=None,
        reliability_before=(),
        reliability_after=(),
        confidences=(),
        rights=(),
        policies=policies,
    )


def without_probabilities() -> Report:
    """A model that names a class and no more."""
    return replace(
        without_labels(),
        label="tag",
        calibrator="",
        policies=(NOVELTY,),
        strange=(replace(noise([3.0]), probability=None),),
    )


def without_texts() -> Report:
    """A model of a table, for which there is no random string."""
    return report(novelty="table", strange=())


def unmended() -> Report:
    """A model whose own probabilities stay."""
    attempts = tuple(replace(one, is_certain=False) for one in ATTEMPTS)
    return report(
        calibrator="identity",
        note="Probabilities stay as they are: of 600 rows, it is not certain that any calibration "
        "helps (temperature is the nearest: ...).",
        attempts=attempts,
        after=BEFORE,
        reliability_after=report().reliability_before,
    )
