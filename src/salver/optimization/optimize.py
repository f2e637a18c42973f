"""The whole of `salver optimize`: from a target and held-out rows to a variant in use, or none.

The original is measured first, then candidates are made in a process of their own, and each is
asked the same rows as the original, in a replica as it would serve. The fastest that passes the
gate is put in force.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib.util
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from salver.definition import Deployment
from salver.engine.calibrations import digests_of, with_calibrations
from salver.engine.frames import fields_as_message
from salver.engine.loading import ATTACHED, Resolved, allowed_code, version_of
from salver.engine.planning import DEFAULT_BATCH_SIZE
from salver.engine.replica import Birth
from salver.errors import (
    MissingExtra,
    ReplicaDied,
    ReplicaStartFailed,
    SalverError,
    last_line,
)
from salver.lengths import lengths_by
from salver.models import choices
from salver.models.choices import Choice
from salver.models.variants import PLACE
from salver.models.variants.provenance import versions
from salver.models.variants.runtimes import EXTRA, instructions
from salver.offline.labelled import Labelled, chosen_label, read
from salver.optimization.answers import Answers
from salver.optimization.builder import Builder, Built
from salver.optimization.fidelity import GATES, SURE, Fidelity, Limits
from salver.optimization.fidelity import compared as compared_answers
from salver.optimization.measuring import Asked, Compared, Subject, compared
from salver.optimization.results import NOISY, Candidate, Report
from salver.optimization.rows import divided
from salver.schema import Schema
from salver.session import Configuration
from salver.settings import available_cores
from salver.subject import checkpoints_of, subject

PATIENCE = 3  # times that a candidate is measured while the machine is busy
WORTH = 1.1  # times the original's speed; less is not worth another runtime
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What `salver optimize` was asked for.

    Attributes:
        on: File of held-out rows.
        calibrate_on: File of rows for calibration; null takes some of the held-out.
        label: Column with the true class; null finds it.
        gate: Name of the limits, see `salver.optimization.fidelity.GATES`.
        goal: "throughput" or "latency": what the fastest is fastest at.
        only: Names of candidates; empty tries all.
        own: ONNX files of the user's own, by name.
        fill_defaults: Whether files may lack columns whose fields have a default.
    """

    on: str
    calibrate_on: str | None = None
    label: str | None = None
    gate: str = "lossless"
    goal: str = "throughput"
    only: tuple[str, ...] = ()
    own: Mapping[str, Path] | None = None
    fill_defaults: bool = False


def run(
    target: str, name: str | None, configuration: Configuration, request: Request, say: Say
) -> tuple[Report, Path]:
    """Makes, measures and judges candidates, and puts the best that passes in force.

    Args:
        target: Service or model.
        name: Deployment; may be null when the service exposes one.
        configuration: Options given outside the code.
        request: What is asked for.
        say: Tells what is going on.

    Returns:
        What was found, and the path of the page that shows it.

    Raises:
        ConfigError: If there are too few rows, or the deployment is no model of a checkpoint.
        SalverError: If the original does not start or the rows cannot be read.
    """
    for library in ("matplotlib", "onnx"):  # all others are of candidates, and named there
        if importlib.util.find_spec(library) is None:
            raise MissingExtra(library, "salver optimize", EXTRA)
    target, deployment, overrides = subject(target, name, configuration)
    rows_of = partial(read, form=deployment, fill_defaults=request.fill_defaults, say=say)
    held_out = rows_of(request.on)
    others = rows_of(request.calibrate_on) if request.calibrate_on else None
    judged, calibration = divided(held_out, others)
    resolved = with_calibrations([deployment], checkpoints_of(deployment))[0][deployment.name]
    allowed_code(deployment, resolved)
    work = _Run(target, deployment, overrides, resolved, request, say)
    report = asyncio.run(work.report(judged, calibration))
    return report, work.keep(report)


class _Run:
    """One run for one deployment."""

    def __init__(
        self,
        target: str,
        deployment: Deployment,
        overrides: Mapping[str, Any],
        resolved: Resolved,
        request: Request,
        say: Say,
    ) -> None:
        self._target = target
        self._deployment = deployment
        self._overrides = overrides
        self._resolved = resolved
        self._request = request
        self._say = say
        own = {place: one for place, one in resolved.items() if place not in ATTACHED}
        self._version = version_of(deployment, own)
        self._digests = digests_of(own)
        self._before = choices.read(choices.OPTIMIZED, self._digests, self._version)
        self._gate: Limits = GATES[request.gate]
        self._usual = 0.0  # rows per second of the original in batches, at its fastest so far
        self._size = deployment.options.max_batch_size or DEFAULT_BATCH_SIZE

    def keep(self, report: Report) -> Path:
        """Puts the choice in force for this version, and returns the path of the page."""
        best = next((c for c in report.candidates if c.name == report.chosen), None)
        note = "" if best is None else _note(best, report)
        digest = "" if best is None else best.digest
        choice = Choice(self._deployment.name, report.chosen, digest, note, report.made_at)
        if report.stays and self._before:
            choice = self._before
        from salver.optimization import page  # draws, with a library of the extra

        return choices.write(
            choices.OPTIMIZED, self._digests, self._version, choice, page.html(report)
        )

    async def report(self, judged: Labelled, calibration: Labelled) -> Report:
        """Measures the original and all candidates."""
        self._say(f"Measuring {self._deployment.name} as it is, on {len(judged.given)} rows ...")
        async with self._subject({}) as original:
            lengths = lengths_by(original.tokenizer_file, self._deployment.name)
            asked = Asked.of(judged.batch, self._size, lengths)
            said = await original.answers(asked)
            label = chosen_label(
                judged,
                self._request.label,
                self._request.on,
                self._deployment,
                said[0].classes,
            )
            labels = judged.labels(label) if label else None
            alone = await self._compared(original, original, asked)
            built = await self._build(
                calibration, golden(self._deployment.schema, judged, original, said[0]), lengths
            )
            tried = [
                await self._try(one, at, built, original, asked, said, labels)
                for at, one in enumerate(built, start=1)
            ]
        return self._reported(
            judged, calibration, label, alone, compared_answers(said[1], said), tried
        )

    async def _compared(self, original: Subject, other: Subject, asked: Asked) -> Compared:
        """Again while the machine is busy, as far as the original's speed tells."""
        for _ in range(PATIENCE):
            found = await compared(original, other, asked)
            self._usual = max(self._usual, found.original)
            if found.original >= self._usual / NOISY:
                break
            self._say("The machine is busy with other things; measuring again ...")
        return found

    def _subject(self, variant: Mapping[str, Any]) -> Subject:
        resolved = {**self._resolved, **({PLACE: variant} if variant else {})}
        name, threads = self._deployment.name, available_cores()
        birth = Birth(self._target, name, self._overrides, resolved, threads)
        return Subject(birth, self._deployment)

    async def _build(
        self, calibration: Labelled, golden_rows: list[dict[str, Any]], lengths: Any
    ) -> list[Built]:
        batch = calibration.batch
        groups = Asked.of(batch, self._size, lengths).ways["batched"]
        # Single and odd batches show which sizes are open.
        batches = [batch[:1], batch[:3], *(batch.take(group) for group in groups)]
        question = {
            "target": self._target,
            "deployment": self._deployment.name,
            "overrides": dict(self._overrides),
            "resolved": {place: dict(one) for place, one in self._resolved.items()},
            "fields": fields_as_message(batch.fields),
            "batches": [[list(row) for row in one.rows] for one in batches],
            "golden": golden_rows,
        }
        builder = Builder(question, self._version, self._say)
        return await builder.build(self._request.only, self._request.own or {})

    async def _try(
        self,
        one: Built,
        at: int,
        built: Sequence[Built],
        original: Subject,
        asked: Asked,
        said: Sequence[Answers],
        labels: Sequence[str] | None,
    ) -> Candidate:
        if one.trouble:
            return Candidate(one.name, trouble=one.trouble)
        self._say(f"[{at}/{len(built)}] Measuring {one.name} ...")
        found = Candidate(one.name, one.precision, one.checkpoint["digest"])
        try:
            async with self._subject(one.checkpoint) as subject:
                answers = await subject.answers(asked)
                speeds = await self._compared(original, subject, asked)
        except (ReplicaStartFailed, ReplicaDied) as error:
            if original.has_ended():
                raise  # nothing is known of the candidate then
            return replace(found, trouble=_reason(error))
        fidelity = compared_answers(said[1], answers, labels)
        return replace(
            found,
            refused=tuple(fidelity.refused(self._gate)),
            speed=speeds.speed,
            single_ratio=speeds.single,
            batched_ratio=speeds.batched,
            beside=speeds.original,
            fidelity=fidelity,
        )

    def _reported(
        self,
        judged: Labelled,
        calibration: Labelled,
        label: str,
        alone: Compared,
        steady: Fidelity,
        tried: Sequence[Candidate],
    ) -> Report:
        (first, *_) = self._resolved.values()
        chosen = best_of(tried, self._request.goal, alone.batched)
        return Report(
            target=self._target,
            deployment=self._deployment.name,
            checkpoint=first.get("source") or first["path"],
            digest=first["digest"],
            gate=self._gate,
            gate_rows=len(judged.given),
            unfit=judged.unfit,
            calibration_rows=len(calibration.given),
            label=label,
            original=alone.speed,
            steady=steady,
            control=alone.batched,
            batch_size=self._size,
            candidates=tuple(tried),
            chosen=chosen,
            stays=staying(self._before, chosen, tried),
            machine=_machine(),
            made_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        )


def best_of(candidates: Sequence[Candidate], goal: str, control: float = 1.0) -> str | None:
    """The fastest that passes, if it is worth it; null for the original.

    Args:
        candidates: All of them.
        goal: "throughput" for batches, "latency" for single rows.
        control: Of the report: noise alone gives that much.
    """
    least = WORTH * max(control, 1 / control)

    def ratio(one: Candidate) -> float:
        return one.batched_ratio if goal == "throughput" else one.single_ratio

    passed = [one for one in candidates if one.passed and ratio(one) >= least]
    return max(passed, key=ratio).name if passed else None


def staying(before: Choice | None, chosen: str | None, candidates: Sequence[Candidate]) -> str:
    """Name of the variant in force that stays, for this run knows nothing better and nothing new.

    Args:
        before: What was in force.
        chosen: By this run.
        candidates: What it tried.
    """
    measured = {one.name for one in candidates if one.fidelity is not None}
    is_kept = not chosen and before is not None and before.name not in {None, *measured}
    return (before.name or "") if before is not None and is_kept else ""


def golden(
    schema: Schema, rows: Labelled, original: Subject, said: Answers
) -> list[dict[str, Any]]:
    """Rows that every later start of a variant must answer as the original.

    Of each class the one that the original is surest of, if it is sure at all: the gate lets ties
    flip, and so must a start. They hold the input alone, for they become part of the variant.

    Args:
        schema: Of the input.
        rows: Those that were judged on.
        original: After it was asked them.
        said: What it said.
    """
    if not said.probabilities:
        return []
    best, margins = said.labels, said.margins
    chosen = []
    for k, name in enumerate(said.classes):
        mine = np.flatnonzero((best == k) & ~said.failed & (margins > SURE))
        if not len(mine):
            continue
        at = int(mine[margins[mine].argmax()])
        row = {key: value for key, value in rows.given[at].items() if key in schema.names}
        row = orjson.loads(orjson.dumps(row, default=str))  # metadata are JSON: dates are texts
        value = original.first[at] or {}
        is_whole = not schema.check_rows([row]).rejected
        if is_whole and str(value.get("prediction")) == name:
            chosen.append({"input": row, "prediction": value["prediction"]})
    return chosen


def _reason(error: SalverError) -> str:
    """The last line, which says what went wrong; the child's traceback is above it."""
    return re.sub(r"^salver\.errors\.\w+: ", "", last_line(error))


def _note(best: Candidate, report: Report) -> str:
    assert best.fidelity is not None
    found = best.fidelity
    return (
        f"{best.name} answers instead of the original ({best.batched_ratio:.1f} times as fast in "
        f"batches, {best.single_ratio:.1f} in single rows; judged {report.gate.name} on "
        f"{report.gate_rows} rows). Batch mates move a number by at most {found.mates:.1g} and "
        f"turn {found.mates_flips} labels. --original turns it off"
    )


def _machine() -> dict[str, str]:
    return {
        "processor": _processor(),
        "cores": str(available_cores()),
        "instructions": ", ".join(instructions()),
        "Python": platform.python_version(),
        **versions(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
