"""Business rules: pure functions from scored rows to decided rows.

A policy runs in the replica right after the model, on every path, so that a rule cannot exist
online only. It may change `prediction` and add columns; a model's probabilities stay as they
are. Policies import no clock, thread, socket or logger and do not know where a row came from.
"""

from salver.policies.promises import ConformalSet, Coverage, Novelty, Precision
from salver.policies.reading import POLICIES, as_policies
from salver.policies.scored import HeldOut, Policy, Promise, Scored, described, kept
from salver.policies.threshold import Threshold

__all__ = [
    "POLICIES",
    "ConformalSet",
    "Coverage",
    "HeldOut",
    "Novelty",
    "Policy",
    "Precision",
    "Promise",
    "Scored",
    "Threshold",
    "as_policies",
    "described",
    "kept",
]
