"""The report on a model's confidence as one HTML file: the terminal's numbers, and pictures.

This module does not know how anything was fitted or judged, nor where the file will lie.
"""

from __future__ import annotations

from salver.calibration.pictures import pictures
from salver.calibration.results import Report
from salver.calibration.table import (
    IN_USE,
    attempts,
    conclusion,
    honesty,
    introduction,
    novelties,
    policies,
    said_of_honesty,
    said_of_novelty,
    said_of_policies,
)
from salver.reports.document import page, pairs, paragraphs, table_of
from salver.reports.terminal import plain

INTERVAL = {
    "95% interval": "Of honesty: from rows drawn again (Efron 1979). Of shares: exact for counts "
    "(Clopper & Pearson 1934). Of bars and curves in pictures: Wilson (1927).",
}
HONESTY = {
    "before, after": "Of the model's own probabilities, and of the calibrated ones. Each row is "
    "calibrated by a calibrator that was not fitted on it.",
    "calibration error": "Mean difference of confidence and share of right answers, over ten equal "
    "bins of confidence (Naeini et al. 2015). At 0.05, a confidence of 0.9 stands for about "
    "0.85 or 0.95. It is never negative, so chance alone lifts it, and its interval lies too high: an "
    "interval above 0 is no evidence of a fault.",
    "Brier score": "Squared distance of the probabilities from the truth, summed over the classes "
    "(Brier 1950): 0 is best, 2 is worst. It falls if probabilities are more honest or tell rows "
    "better apart.",
    "log loss, nats": "Minus the logarithm of the true class's probability, on average. It punishes "
    "most what was sure and wrong.",
    "accuracy": "Share of rows of which the likeliest class is the true one.",
}
ATTEMPTS = {
    "gain, nats": "By how much the calibrator lowers the log loss of a row that it was not fitted "
    "on, on average. Each end of its interval is one-sided at 99%.",
    "error before, after": "The calibration error without and with it.",
    "verdict": "A calibrator is used only if it is certain to help: the interval of its gain is "
    "above 0, the calibration error is not above its interval before, and an honest model would not look as "
    "much improved in more than 1 of 100 cases. Of several, the one that gains most is in use.",
}
POLICIES = {
    "policy": "As it is written in the options. Limits are chosen on all held-out rows but a part and "
    "judged on that part, one part after the other: these rows are as new as those to come. A part "
    "of which no limit on the others keeps the promise counts as withheld.",
    "answered": "Share of rows that get the model's own answer; all others are withheld.",
}
RIGHT = {
    "right": "Share of right ones among the answers that are given: what a promise of precision is "
    "about.",
    "right of given": "The same as counts of rows.",
}
SETS = {
    "in the set": "Share of rows whose set of labels holds the true one: what ConformalSet promises.",
    "set size": "How many labels such a set holds, on average. 1 says nothing is in doubt.",
}
NOVELTY = {
    "novelty": "How unlike the training data a row is. 1 is the 95% quantile of ordinary rows, so "
    "about 5% of the held-out rows are above 1.",
    "median to largest": "Half, 95% and 99% of the rows are no more novel, and all of them. Held-out rows score as "
    "unseen rows would.",
}
STRANGE = {
    "random strings": "Rows of random letters and digits. They mean nothing, so a model cannot be "
    "right about them. Other kinds of rows come from the files of --against.",
    "AUROC": "Area under the ROC curve: the probability that a row of another kind scores above a "
    "held-out row. 1 tells all apart, 0.5 none, and below 0.5 they look more ordinary than rows "
    "do. Of the largest probability, low ones count as strange (Hendrycks & Gimpel 2017).",
    "withheld": "Share of such rows that get no answer of the model's own from the deployment's "
    "policies, all together.",
}
_CSS = """
tbody th:first-child { white-space: normal; min-width: 13rem; }
@media (max-width: 40rem) { tbody th:first-child { min-width: 9rem; } }
"""  # names of policies are long


def html(report: Report) -> str:
    """The report as a page that stands alone."""
    sections = [
        (
            "How honest its confidence is",
            table_of(honesty(report))
            + paragraphs([said_of_honesty(report)])
            + table_of(attempts(report), used=(IN_USE,))
            + paragraphs([plain(report.note)] if report.note else []),
        ),
        (
            "What policies do",
            table_of(policies(report)) + paragraphs(said_of_policies(report)),
        ),
        (
            "How novel rows are",
            table_of(novelties(report)) + paragraphs(said_of_novelty(report)),
        ),
        ("Pictures", pictures(report)),
        ("What the columns mean", pairs(meanings(report).items())),
    ]
    footer = (
        f"Made by salver calibrate at {report.made_at}. Digest of the checkpoint: {report.digest}."
    )
    title = f"How far to believe {plain(report.deployment)}"
    return page(title, conclusion(report), introduction(report), sections, footer, _CSS)


def meanings(report: Report) -> dict[str, str]:
    """What each number of this report says, by its name."""
    found = dict(INTERVAL) if report.before or report.policies else {}
    if report.before:
        found |= HONESTY
    if report.attempts:
        found |= ATTEMPTS
    if report.policies:
        found |= POLICIES
        found |= RIGHT if report.label else {}
        found |= SETS if any(one.sets for one in report.policies) else {}
    if len(report.novelties):
        found |= NOVELTY
    if report.strange:
        found |= STRANGE
    return found
