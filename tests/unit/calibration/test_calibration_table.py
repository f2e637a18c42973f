"""The report on confidence for a terminal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from calibration.calibration_reports import (
    BROKEN,
    FIXED,
    NOVELTY,
    PRECISION,
    noise,
    report,
    unmended,
    without_labels,
    without_probabilities,
    without_texts,
)
from salver.calibration.results import Report, Strange
from salver.calibration.table import text
from salver.reports.terminal import WIDTH
from salver.trust.quality import Estimate


def flowing(found: str) -> str:
    """The report without its line ends, in which sentences can be looked for."""
    return " ".join(found.split())


def cells_of(name: str, found: str) -> str:
    """The cells of the first line that begins so, without the name."""
    line = next(line for line in found.splitlines() if line.startswith(name))
    return flowing(line.removeprefix(name))


def below(name: str, found: str) -> str:
    """The cells of the line after the one that begins so: of a name too long for its column."""
    lines = found.splitlines()
    return flowing(lines[next(i for i, line in enumerate(lines) if line.startswith(name)) + 1])


def test_the_head_says_what_was_asked() -> None:
    """Rows, failed ones, the label, and rows of training."""
    found = flowing(text(report(failed=1234)))
    assert "(deployment Tagger, checkpoint models:/tagger@champion) answered 600" in found
    assert (
        "answered 600 held-out rows; it failed at 1,234 more. True classes stand in 'tag'." in found
    )
    assert "2,400 rows of training were asked, too" in found


def test_the_head_counts_rows_that_do_not_fit_the_input() -> None:
    """Of the held-out file and of that of training, each beside its rows."""
    found = flowing(text(report(failed=3, unfit=1234, training_unfit=5)))
    assert (
        "answered 600 held-out rows; it failed at 3 more; 1,234 more do not fit its input. True"
        in found
    )
    assert "2,400 rows of training were asked, too, for the novelty score; 5 more do not" in found
    assert "do not fit" not in text(report())


def test_the_head_leaves_out_what_there_was_not() -> None:
    """No failure, no rows of training, no label; a variant and a digest that the target has not."""
    given = replace(
        without_labels(), failed=0, training_rows=0, variant="openvino-bf16", target="a:b"
    )
    found = flowing(text(given))
    assert "answered 600 held-out rows. Their true classes are not known." in found
    assert "No rows of training were given, so the novelty score is fitted on the held-out" in found
    assert "variant openvino-bf16, digest 0123456789ab)" in found


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("calibration error", "0.082 0.061 to 0.103 0.027 0.015 to 0.039"),
        ("Brier score", "0.241 0.211 to 0.271 0.222 0.197 to 0.247"),
        ("log loss, nats", "0.452 0.382 to 0.522 0.391 0.341 to 0.441"),
        ("accuracy", "0.842 0.813 to 0.871 0.842 0.813 to 0.871"),
    ],
)
def test_honesty_is_shown_before_and_after(name: str, cells: str) -> None:
    """Each number with its interval."""
    assert cells == cells_of(name, text(report()))


def test_what_was_tried_is_shown_with_what_became_of_it() -> None:
    """Gain, interval, errors, and whether it helps; the reason for the choice stands below."""
    found = text(report())
    assert "0.061 0.024 to 0.098 0.082 0.027 in use" == cells_of("temperature", found)
    assert cells_of("vector scaling", found).endswith("0.027 helps")
    assert "-0.013 -0.065 to 0.039 0.082 0.027 not certain to help" == (cells_of("isotonic", found))
    assert "Temperature: on rows that it was not fitted on, log loss falls by 0.061" in flowing(
        found
    )


def test_where_nothing_is_calibrated_there_is_no_after() -> None:
    """The same figures twice would look like a result."""
    found = text(unmended())
    assert "0.082 0.061 to 0.103" == cells_of("calibration error", found)
    assert "As nothing is calibrated, there are no figures after it." in flowing(found)
    assert "Probabilities stay as they are: of 600 rows, it is not certain" in flowing(found)
    assert "in use" not in found.split("policy ")[0]


def test_each_policy_has_its_numbers() -> None:
    """Answered, right, counts and sets; a dash where a policy makes no sets."""
    found = text(report())
    assert "63.5% 59.5% to 67.4% 96.6% 94.2% to 98.2% 368 of 381 - - -" == below(
        "1. Precision(precision=0.95", found
    )
    assert "100% 99.4% to 100% 84.2% 81.0% to 87.0% 505 of 600 90.3% 87.7% to 92.6% 1.37" == (
        below("2. ConformalSet(coverage=0.9)", found)
    )
    assert cells_of("4. all of them", found).startswith("63.0% 59.0%")


def test_without_sets_there_are_no_columns_of_sets() -> None:
    """The table is narrower."""
    found = text(report(policies=(FIXED,)))
    assert "set size" not in found
    assert "82.2% 78.9% to 85.2% 91.1% 88.3% to 93.4% 449 of 493" == cells_of(
        "1. Threshold(0.9)", found
    )


def test_a_promise_that_cannot_be_kept_says_why() -> None:
    """By its number in the table, where it has no figures."""
    found = text(report(policies=(FIXED, BROKEN)))
    assert "- - - - -" == cells_of("2. Precision(precision=0.999, otherwise=None)", found)
    assert "2. cannot be promised on these rows: No limit keeps a precision of 0.999" in flowing(
        found
    )
    assert "does not load" in found
    assert "cannot be promised" not in text(report())


def test_a_policy_that_answers_nothing_has_no_precision() -> None:
    """Nothing of nothing is right."""
    silent = replace(FIXED, answered=Estimate(0.0, 0.0, 0.006), precision=None, right=0, given=0)
    found = text(report(policies=(silent,)))
    assert "0% 0% to 0.6% - - 0 of 0" == cells_of("1. Threshold(0.9)", found)


def test_novelty_is_told_for_rows_and_for_random_strings() -> None:
    """Quantiles of both, areas of both scores, and what is withheld."""
    values = [i / 100 for i in range(1, 101)]
    found = text(report(novelties=values, strange=(noise([1234.5, 5.0, 0.5, 1.5]),)))
    assert "100 0.50 0.95 0.99 1.00 0%" == cells_of("held-out rows", found)
    assert "4 1.50 1,234 1,234 1,234 75.0%" == cells_of("random strings", found)
    said = flowing(found)
    assert "97.3% of 1,000 random strings are withheld by the policies of the deployment" in said
    assert (
        "AUROC of 0.998, the largest probability with 0.712. AUROC: 1 tells all apart, 0.5 none."
        in said
    )
    assert "made of the model's hidden states" in said


@pytest.mark.parametrize(
    ("strange", "said", "unsaid"),
    [
        (
            Strange("junk", 9, 0.0, 0.9, None, ()),
            "Novelty tells them",
            "the largest probability with",
        ),
        (
            Strange("junk", 9, 0.0, None, 0.7, ()),
            "The largest probability tells them",
            "Novelty tells them",
        ),
        (Strange("junk", 9, 0.0, None, None, ()), "0% of 9 rows of junk", "AUROC"),
    ],
)
def test_only_scores_that_there_are_tell_strings_apart(
    strange: Strange, said: str, unsaid: str
) -> None:
    """A model without probabilities has one score, another may have none."""
    found = flowing(text(report(strange=(strange,))))
    assert said in found
    assert unsaid not in found


@pytest.mark.parametrize(
    ("given", "why", "absent"),
    [
        (without_labels(), "The rows have no true classes (--label), so nothing is known of how honest",
         ("Brier", "right of given", "isotonic")),
        (without_labels(), "How many of the answers are right is not known", ("449 of",)),
        (without_probabilities(), "The model gives no probabilities that say how sure it is, so it has no",
         ("Brier", "log loss", "the largest probability")),
        (without_texts(), "Random strings were not asked, for the input is not of texts alone",
         ("AUROC", "random strings 1,000")),
        (report(novelty="", novelties=(), strange=()),
         "There is no novelty score", ("median",)),
        (replace(without_labels(), policies=()), "No policy was judged: the deployment has none",
         ("answered   95%", "one part after")),
    ],
)  # fmt: skip
def test_what_has_no_data_is_left_out_with_a_reason(
    given: Report, why: str, absent: tuple[str, ...]
) -> None:
    """One sentence stands in its place."""
    found = flowing(text(given))
    assert 1 == found.count(why)
    assert not [word for word in absent if word in found]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            report(),
            "its confidence is calibrated by temperature, novelty is from the model's hidden",
        ),
        (report(calibrator="vector_scaling"), "its confidence is calibrated by vector scaling"),
        (unmended(), "its confidence is its own probability"),
        (without_probabilities(), "it has no confidence, novelty is from"),
        (
            without_texts(),
            "novelty is from the columns of the input, and policies take their limits",
        ),
        (report(novelty="", novelties=()), "there is no novelty score"),
    ],
)
def test_the_last_paragraph_says_what_is_in_use(given: Report, said: str) -> None:
    """Confidence, novelty, and what policies take their limits from."""
    last = flowing(text(given).split("\n\n")[-1])
    assert last.startswith("In use from now on for Tagger: ")
    assert said in last
    assert last.endswith("from these 600 rows.")


def test_the_last_paragraph_names_promises_that_cannot_be_kept() -> None:
    """By their numbers, for they are not in use."""
    found = flowing(text(report(policies=(BROKEN, FIXED, BROKEN))))
    assert found.endswith("from these 600 rows, but not 1, 3, which cannot be promised.")


@pytest.mark.parametrize("name", ["a", "x" * 55, "x" * 300, PRECISION.name, NOVELTY.name])
def test_no_line_is_wider_than_the_terminal(name: str) -> None:
    """Whatever policies, models and reasons are called."""
    policies = (
        replace(PRECISION, name=name),
        replace(BROKEN, trouble="no " * 300),
        *report().policies,
    )
    found = text(report(policies=policies, target=name * 3, note=name * 3, label=name))
    assert WIDTH >= max(map(len, found.splitlines()))


def test_names_cannot_steer_the_terminal_whatever_they_hold() -> None:
    """Colours and line ends of others are taken out."""
    evil = "\x1b[31m\nred\x1b[0m"
    found = text(
        report(
            target=evil,
            deployment=evil,
            checkpoint=evil,
            variant=evil,
            label=evil,
            calibrator=evil,
            note=evil,
            novelty=evil,
            policies=(replace(FIXED, name=evil), replace(BROKEN, name=evil, trouble=evil)),
            attempts=(replace(report().attempts[0], name=evil),),
        )
    )
    assert "\x1b" not in found
    assert "1. [31m red [0m" in found
