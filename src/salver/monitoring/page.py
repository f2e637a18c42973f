"""The live account as one HTML file: the terminal's numbers, what they mean, and pictures.

This module does not know how anything was counted or judged, nor where the file will lie.
"""

from __future__ import annotations

from salver.account.evaluation import LEAST
from salver.account.results import Report
from salver.monitoring.pictures import pictures
from salver.monitoring.table import (
    ALARMING,
    answers,
    conclusion,
    drifts,
    honesty,
    introduction,
    parts,
    promises,
    said_of_answers,
    said_of_drift,
    said_of_honesty,
    said_of_parts,
    said_of_promises,
    shares,
    windows,
)
from salver.reports.document import page, pairs, paragraphs, table_of
from salver.reports.terminal import plain

INTERVAL = {
    "95% interval": "Of shares: exact for counts (Clopper & Pearson 1934). Of the calibration error: "
    "from rows drawn again (Efron 1979). Of bars in the reliability diagram: Wilson (1927).",
}
PROMISES = {
    "promised": "The share that the policy promises. Precision: of labelled answers that are right. "
    "Coverage: of rows that are answered. ConformalSet: of labelled rows whose set holds the true "
    "class. Novelty: of rows that are withheld as novel, at most.",
    "all rows, latest": "What was observed of all rows that count, and of the latest of them.",
    "of rows": "How many rows count: labelled answers for Precision, rows that reach the policy for "
    "others.",
    "verdict of a promise": "Broken: what was seen is all but impossible if the promise is kept (exact "
    "binomial test; promises on average over held-out rows after Vovk 2012). Holds: of "
    f"{LEAST} rows or more the share is as promised, of all and of the latest. Not known yet: fewer "
    "rows, or a miss that may be chance.",
    "alarms": "All tests of promises, drift and calibration together are corrected by Holm (1979), so "
    "that one judgement gives a false alarm in at most 1 of 1,000 cases.",
}
ANSWERS = {
    "right, of labelled answers": "Answers that are the true class, among answers whose true class "
    "is known. Withheld rows do not count.",
    "answered": "Rows with the model's own answer, of those with a result.",
    "withheld as novel": "Rows with a result that the policy Novelty withheld.",
}
HONESTY = {
    "mean": "Mean confidence of the labelled rows: the calibrated probability of the likeliest class.",
    "right": "Of confidence: rows whose likeliest class is the true one, withheld ones among them. In "
    "other tables: of labelled answers.",
    "gap, reference gap": "Mean confidence minus right, and the same in the reference. Above 0 the "
    "model is too sure of itself.",
    "calibration error": "Mean difference of confidence and share of right answers, over ten equal "
    "bins of confidence (Naeini et al. 2015). It is never negative, so chance alone lifts it, and "
    "its interval lies too high.",
    "verdict of confidence": "Alarm: the gap differs from that of the reference beyond chance, and by "
    "0.05 or more.",
}
DRIFT = {
    "PSI": "Population stability index, in nats: both Kullback-Leibler divergences of the shares in the "
    "latest rows and in the reference, added. Rule of thumb (Siddiqi 2006): below 0.1 they are "
    "alike, from 0.1 to 0.25 something has changed, above much has.",
    "Jensen-Shannon": "Jensen-Shannon distance (Lin 1991): 0 if the shares are the same, 1 if nothing is in "
    "both.",
    "chance": "How likely so large a difference is if nothing has changed. Of drift: chi-square test of "
    "homogeneity. Of confidence: z-test of both gaps. Of parts: below.",
    "verdict of drift": "Alarm: PSI is 0.1 or more, and the difference is beyond chance.",
    "change, points": "The latest share minus the reference's, in percentage points.",
}
WINDOWS = {
    "from, UTC": "Time of the first row of a window. All windows have as many rows, but for one.",
    "confidence": "Mean confidence of all rows that have one, withheld ones among them.",
    "novel": "Rows with a result that were withheld as novel.",
}
PARTS = {
    "part": "Rows that share a value of a column, or lie in a range of it. Text length, in characters, "
    "and answer, the class that was answered, are known of all rows.",
    "others": "Share of right ones among all other labelled answers.",
    "chance of a part": "How likely it falls so far below the others by chance: exact hypergeometric "
    "test, corrected for all parts that were looked at by Benjamini & Yekutieli (2001).",
    "verdict of a part": "Real: of what is called so, at most 5% is chance, on average.",
}
_CSS = """
.conclusion { white-space: pre-line; }
tbody th:first-child { white-space: normal; min-width: 10rem; }
@media (max-width: 40rem) { tbody th:first-child { min-width: 9rem; } }
section > .wide + .wide { margin-top: 1.2rem; }
"""  # each alarm has a line; names of policies are long
_ALARMED = ".conclusion { border-left: .5rem solid #D55E00; }"


def html(report: Report) -> str:
    """The report as a page that stands alone; alarms stand at its top."""
    sections = [
        (
            "What was promised",
            table_of(promises(report), used=ALARMING) + paragraphs(said_of_promises(report)),
        ),
        (
            "Answers and their confidence",
            table_of(answers(report))
            + paragraphs(said_of_answers(report))
            + table_of(honesty(report), used=ALARMING)
            + paragraphs(said_of_honesty(report)),
        ),
        (
            "How far rows have drifted",
            table_of(drifts(report), used=ALARMING)
            + paragraphs(said_of_drift(report))
            + "".join(table_of(one) for one in shares(report)),
        ),
        (
            "Where answers are wrong",
            table_of(parts(report), used=ALARMING) + paragraphs(said_of_parts(report)),
        ),
        ("Pictures", pictures(report)),
        ("Over time", table_of(windows(report))),
        ("What the columns mean", pairs(meanings(report).items())),
    ]
    footer = (
        f"Made by salver report at {plain(report.made_at)} from {plain(report.store)}. "
        f"Version: {plain(report.version) or 'not known'}."
    )
    style = _CSS + (_ALARMED if report.findings.alarms else "")
    said = "\n".join(conclusion(report))
    title = f"The live account of {plain(report.deployment)}"
    return page(title, said, introduction(report), sections, footer, style)


def meanings(report: Report) -> dict[str, str]:
    """What each number of this report says, by its name."""
    given = (
        (promises(report), PROMISES),
        (answers(report), ANSWERS),
        (honesty(report), HONESTY),
        (drifts(report), DRIFT),
        (windows(report), WINDOWS),
        (parts(report), PARTS),
    )
    found: dict[str, str] = {}
    for shown, explained in given:
        found |= explained if shown else {}
    return INTERVAL | found if found else {}
