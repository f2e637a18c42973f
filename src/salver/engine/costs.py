"""What a batch of one model takes, learned from the batches that it has answered.

A batch of texts of different lengths is usually padded to the longest, so that a short row beside a
long one costs as much as a long one; for other models padding costs nothing. Which it is shows in
the times of real batches. This module has no clock and does not know rows, only their lengths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

MEMORY = 0.99  # weight of what was known, after one more batch: some 100 batches count
LEAST = 3  # batches before anything is said
SOLVE_EVERY = 8
# How strongly padding is taken to cost what text costs, where batches do not show otherwise.
PRIOR = 0.01
WORTH = 0.5  # of the fixed cost of a batch: rows that are worth one of their own
NEGLIGIBLE = 0.1  # of the fixed cost of a batch: padding that is not worth a thought


class Costs:
    """Seconds of a batch = fixed + rate x (text + share x padding), by weighted least squares.

    Errors count relative to the time of the batch, and older batches less and less: recursive
    least squares with exponential forgetting (Haykin, Adaptive Filter Theory, chapter on RLS).

    Attributes:
        fixed: Cost of any batch, in units of length.
        fixed_s: The same in seconds.
        share: What a unit of padding costs beside a unit of text, from 0 to 1.
    """

    def __init__(self) -> None:
        self.fixed = 0.0
        self.fixed_s = 0.0
        self.share = 1.0
        # Upper half of the normal equations, by rows, and their right side. Plain numbers: for
        # three unknowns numpy would take longer to be called than to compute.
        self._squares = [0.0] * 6
        self._products = [0.0] * 3
        self._seen = 0

    @property
    def is_known(self) -> bool:
        """Whether there is anything to go by."""
        return self._seen >= LEAST

    def observe(self, lengths: Sequence[int], seconds: float) -> None:
        """Learns from one batch.

        Args:
            lengths: Of its rows, in any unit.
            seconds: From asking to the answer.
        """
        text = sum(lengths) or len(lengths)  # rows without text are all alike
        if seconds <= 0:
            return
        padding = len(lengths) * (max(lengths) or 1) - text
        one, t, p = 1 / seconds, text / seconds, padding / seconds
        new = (one * one, one * t, one * p, t * t, t * p, p * p)
        self._squares = [MEMORY * old + x for old, x in zip(self._squares, new, strict=True)]
        self._products = [
            MEMORY * old + x for old, x in zip(self._products, (one, t, p), strict=True)
        ]
        self._seen += 1
        if self._seen <= SOLVE_EVERY or not self._seen % SOLVE_EVERY:
            self._solve()

    def _solve(self) -> None:
        oo, ot, op, tt, tp, pp = self._squares
        # What batches do not show is drawn to "padding costs what text costs".
        pull = PRIOR * tt
        squares = np.array(((oo, ot, op), (ot, tt + pull, tp - pull), (op, tp - pull, pp + pull)))
        fixed, text, padding = np.linalg.lstsq(squares, np.array(self._products), rcond=None)[0]
        self.fixed_s = max(0.0, float(fixed))
        if text <= 0:  # rows cost the same however long they are
            self.fixed, self.share = math.inf, 0.0
            return
        self.fixed = max(0.0, float(fixed / text))
        self.share = min(1.0, max(0.0, float(padding / text)))

    def is_worth_sorting(self, lengths: Sequence[int]) -> bool:
        """Whether padding in a batch of all these rows would cost anything to speak of."""
        if not self.is_known or not self.share or len(lengths) < 2:
            return False
        padding = len(lengths) * max(lengths) - sum(lengths)
        return self.share * padding > NEGLIGIBLE * self.fixed

    def is_worth_a_batch(self, lengths: Sequence[int]) -> bool:
        """Whether these rows would take as long as the batch itself, roughly."""
        text = sum(lengths) or len(lengths)
        return not self.is_known or text >= WORTH * self.fixed

    def best_run(self, lengths: Sequence[int], must: int, most: int) -> tuple[int, int]:
        """The neighbours in length that a row goes with at the least cost per unit of text.

        Starting from the one row, the cheaper neighbour is added again and again, and the best of
        the runs so made is kept.

        Args:
            lengths: Of all rows, shortest first.
            must: Position of the row.
            most: Rows of a batch.

        Returns:
            First position, and the position after the last.
        """
        first, last, text = must, must, max(1, lengths[must])
        best = (self._per_text(text, 1, lengths[must]), first, last)
        for rows in range(2, min(most, len(lengths)) + 1):
            steps = []
            if first > 0:
                more = text + lengths[first - 1]
                steps.append((self._per_text(more, rows, lengths[last]), first - 1, last, more))
            if last + 1 < len(lengths):
                more = text + lengths[last + 1]
                steps.append((self._per_text(more, rows, lengths[last + 1]), first, last + 1, more))
            cost, first, last, text = min(steps)
            if cost <= best[0]:
                best = (cost, first, last)
        return best[1], best[2] + 1

    def _per_text(self, text: int, rows: int, longest: int) -> float:
        return (self.fixed + text + self.share * (rows * longest - text)) / text
