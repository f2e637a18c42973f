"""What was found out about a model and its candidates. Plain values: no file, no format, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from salver.optimization.fidelity import Fidelity, Limits

NOISY = 1.3  # times slower than at its fastest, from which on the original was disturbed


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a replica with all cores answers, and what it costs.

    Attributes:
        single: Rows per second, one row at a time.
        batched: Rows per second, in batches of rows of similar length.
        p50_ms: Median time of a single row, milliseconds.
        load_s: Seconds from the start of its process to its golden examples.
        resident_mb: Memory of its process after the rows, 10^6 bytes.
    """

    single: float
    batched: float
    p50_ms: float
    load_s: float
    resident_mb: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate.

    Attributes:
        name: Such as "openvino-bf16".
        precision: What it computes in; empty if it was not made.
        digest: Of its checkpoint; empty if it was not made.
        trouble: Why it was not made or does not run; empty if it does.
        refused: Why it does not pass the gate; empty if it does.
        speed: Null if it does not run.
        single_ratio: Its rows per second over the original's, one row at a time: median of
            alternating rounds.
        batched_ratio: The same in batches.
        beside: Rows per second of the original meanwhile, in batches; 0 if it does not run.
        fidelity: Null if it does not run.
    """

    name: str
    precision: str = ""
    digest: str = ""
    trouble: str = ""
    refused: tuple[str, ...] = ()
    speed: Speed | None = None
    single_ratio: float = 0.0
    batched_ratio: float = 0.0
    beside: float = 0.0
    fidelity: Fidelity | None = None

    @property
    def passed(self) -> bool:
        """Whether it runs and is faithful."""
        return not self.trouble and not self.refused and self.fidelity is not None


@dataclass(frozen=True, slots=True)
class Report:
    """All of it.

    Attributes:
        target: As pinned.
        deployment: Name.
        checkpoint: Source of the model, for people.
        digest: Of its checkpoint.
        gate: What a candidate must not exceed.
        gate_rows: Rows on which candidates were judged.
        unfit: Rows of the file of held-out rows that do not fit the input, and were left out.
        calibration_rows: Rows that int8 candidates were calibrated on; none of the others.
        label: Column with the true classes; empty if there is none.
        original: Speed of the model as it is.
        steady: The original against itself with rows put together in other ways: whether its
            answers depend on batch size, batch mates or padding.
        control: Ratio of the original's batched speed to its own, alternating in the same way:
            how far noise reaches.
        batch_size: Rows in a batch.
        candidates: In the order in which they were tried.
        chosen: Name of the one in use from now on; null for the original.
        stays: Name of one that an earlier run chose and that stays in use, for this run chose none
            and did not measure it; empty if there is none.
        machine: Processor, cores, instruction sets and versions of libraries, by name.
        made_at: ISO 8601 time in UTC.
    """

    target: str
    deployment: str
    checkpoint: str
    digest: str
    gate: Limits
    gate_rows: int
    unfit: int
    calibration_rows: int
    label: str
    original: Speed
    steady: Fidelity
    control: float
    batch_size: int
    candidates: tuple[Candidate, ...]
    chosen: str | None
    stays: str
    machine: Mapping[str, str]
    made_at: str

    @property
    def noisy(self) -> tuple[str, ...]:
        """Names of those beside which the original was much slower than at its fastest.

        The machine was busy with other things then, so that ratios say little; "original" is among
        them if that was so when it was measured alone.
        """
        beside = {"original": self.original.batched}
        beside |= {one.name: one.beside for one in self.candidates if one.fidelity is not None}
        usual = max(beside.values())
        return tuple(name for name, rate in beside.items() if rate < usual / NOISY)
