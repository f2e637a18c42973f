"""The rows that candidates are judged and calibrated on: never the same ones.

It does not know what a candidate is.
"""

from __future__ import annotations

import numpy as np

from salver.errors import ConfigError
from salver.offline.labelled import Labelled

LEAST = 100  # to judge on: of fewer rows, the 99th percentile is simply the largest
MOST = 1000  # that are judged on; more would take long and say little more
CALIBRATION = 320  # more made int8 graphs no better where it was measured
SHARE = 1 / 3  # of one file, for calibration


def divided(held_out: Labelled, others: Labelled | None) -> tuple[Labelled, Labelled]:
    """Rows to judge on, and rows to calibrate on; none, and no equal of one, is in both.

    Args:
        held_out: Rows that the model was not trained on.
        others: Rows for calibration, such as those of training; null takes some of the held-out.

    Raises:
        ConfigError: If too few are left to judge on.
    """
    order = np.random.default_rng(0).permutation(len(held_out.given)).tolist()
    if others is None:
        few = min(CALIBRATION, int(len(order) * SHARE))
        calibration, order = held_out.take(order[:few]), order[few:]
    else:
        chosen = np.random.default_rng(1).permutation(len(others.given))[:CALIBRATION]
        calibration = others.take(chosen.tolist())
    used = {repr(row) for row in calibration.batch.rows}
    left = [i for i in order if repr(held_out.batch.rows[i]) not in used]
    if len(left) < LEAST:
        raise ConfigError(
            f"{len(left)} rows are left to judge candidates on, and it takes at least {LEAST}: of "
            "fewer, nothing can be said of the 99th percentile. Give more held-out rows with --on"
            + ("." if others else ", or rows for calibration of their own with --calibrate-on.")
        )
    return held_out.take(left[:MOST]), calibration
