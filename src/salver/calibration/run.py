"""The whole of `salver calibrate`: from a target and held-out rows to a calibration in use.

The model is asked in this process; what it says is judged on rows that nothing was fitted on. It
does not know what the page looks like.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from salver.calibration.fitting import Rows, fitted
from salver.calibration.hearing import Heard, Progress, heard
from salver.calibration.judging import judged
from salver.calibration.results import Report
from salver.definition import Deployment
from salver.engine.calibrations import choice_for, digests_of, model_version, readable
from salver.engine.loading import Resolved, allowed_code, instantiate, tokenizer_file
from salver.engine.planning import DEFAULT_BATCH_SIZE
from salver.engine.variants import with_variants
from salver.errors import MissingExtra
from salver.lengths import Lengths, lengths_by
from salver.models import choices
from salver.models.cache import CheckpointCache
from salver.models.checkpoint import Checkpoint
from salver.models.choices import Choice
from salver.models.manifest import Manifest
from salver.models.variants import PLACE as VARIANT
from salver.offline.labelled import Labelled, chosen_label, read
from salver.pipeline import Pipeline
from salver.session import Configuration
from salver.settings import cache_dir
from salver.subject import checkpoints_of, subject
from salver.trust.fitted import Fitted
from salver.types import Batch

EXTRA = "calibrate"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What `salver calibrate` was asked for.

    Attributes:
        on: File of held-out rows.
        train: File of rows that the model was trained on; null fits novelty on the held-out ones.
        label: Column with the true class; null finds it.
        against: Files of rows that are unlike those of training.
        fill_defaults: Whether files may lack columns whose fields have a default.
    """

    on: str
    train: str | None = None
    label: str | None = None
    against: tuple[str, ...] = ()
    fill_defaults: bool = False


def run(
    target: str,
    name: str | None,
    configuration: Configuration,
    request: Request,
    say: Say,
    tell: Progress,
) -> tuple[Report, Path]:
    """Fits a calibration, judges it, and puts it in force.

    Args:
        target: Service or model.
        name: Deployment; may be null when the service exposes one.
        configuration: Options given outside the code.
        request: What is asked for.
        say: Tells what is going on.
        tell: Told how many rows of how many are done.

    Returns:
        What was found, and the path of the page that shows it.

    Raises:
        ConfigError: If there are too few rows, or the deployment is no model of a checkpoint.
        SalverError: If the model does not load or the rows cannot be read.
    """
    for library in ("scipy", "sklearn", "matplotlib"):
        if importlib.util.find_spec(library) is None:
            raise MissingExtra(library, "salver calibrate", EXTRA)
    target, deployment, _ = subject(target, name, configuration)
    rows_of = partial(read, form=deployment, fill_defaults=request.fill_defaults, say=say)
    held_out = rows_of(request.on)
    train = rows_of(request.train) if request.train else None
    stems = Counter(Path(path).stem for path in request.against)
    others = {
        Path(path).stem if stems[Path(path).stem] == 1 else path: rows_of(path).batch
        for path in request.against
    }
    held_out = _once(held_out, train, say)
    resolved = _resolved(deployment)
    say(f"Loading {deployment.name} ...")
    model = _Model(deployment, resolved)
    say(f"Asking it {len(held_out.given):,} held-out rows ...")
    answered = model.heard(held_out.batch, tell)
    label = chosen_label(
        held_out, request.label, request.on, deployment, tuple(map(str, answered.scored.classes))
    )
    rows = Rows.of(held_out, answered, label)
    if label and (unknown := sum(not one for one in held_out.labels(label))):
        say(f"{unknown:,} rows have no {label}, and are left out.")
        rows = rows.labelled(held_out.take(answered.rows.tolist()).labels(label))
    known = None
    if train is not None:
        say(f"Asking it {len(train.given):,} rows of training ...")
        known = Rows.of(train, model.heard(train.batch, tell), "")
    say("Fitting ...")
    made, choice = fitted(rows, known)
    say("Judging ...")
    report = Report(
        target=target,
        deployment=deployment.name,
        digest=digests_of(resolved)[0],
        checkpoint=_source(resolved),
        variant=(resolved[VARIANT].get("source") or "").removeprefix("variant ")
        if VARIANT in resolved
        else "",
        failed=len(held_out.given) - len(answered.rows),
        unfit=held_out.unfit,
        training_rows=0 if known is None else len(known),
        training_unfit=0 if train is None else train.unfit,
        label=label,
        made_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        **judged(deployment, made, choice, model.answers_to, others),
    )
    return report, _kept(deployment, resolved, made, report)


def in_force(target: str, name: str | None, configuration: Configuration) -> str:
    """What a model is calibrated with, in a sentence; empty if it is not.

    Args:
        target: Service or model.
        name: Deployment; may be null when the service exposes one.
        configuration: Options given outside the code.

    Raises:
        SalverError: If the deployment is no model of a checkpoint, or that is not found.
    """
    _, deployment, _ = subject(target, name, configuration)
    choice = choice_for(deployment, _resolved(deployment))
    is_there = choice is not None and readable(choice) is not None
    return f"{deployment.name}: {choice.note} at {choice.made_at}" if choice and is_there else ""


def _once(held_out: Labelled, train: Labelled | None, say: Say) -> Labelled:
    """The rows that are in no other place: one that was trained on is ordinary beyond all others."""
    seen = set() if train is None else set(map(repr, train.batch.rows))
    kept = []
    for i, row in enumerate(map(repr, held_out.batch.rows)):
        if row not in seen:
            kept.append(i)
        seen.add(row)
    if len(kept) < len(held_out.given):
        say(
            f"{len(held_out.given) - len(kept):,} rows of --on are there twice, or in --train, and "
            "are left out."
        )
    return held_out.take(kept)


class _Model:
    """The model in this process, without policies."""

    def __init__(self, deployment: Deployment, resolved: Resolved) -> None:
        allowed_code(deployment, resolved)
        checkpoints = {
            place: Checkpoint.open(one["path"], one["digest"], one.get("source"))
            for place, one in resolved.items()
        }
        options = deployment.options
        self._pipeline = Pipeline(instantiate(deployment, checkpoints), (), options.batch_format)
        self._size = options.max_batch_size or DEFAULT_BATCH_SIZE
        self._lengths: Lengths = lengths_by(
            tokenizer_file(self._pipeline.model, checkpoints), deployment.name
        )

    def heard(self, batch: Batch, tell: Progress) -> Heard:
        """See `salver.calibration.hearing.heard`."""
        return heard(self._pipeline, batch, self._size, self._lengths, tell)

    def answers_to(self, batch: Batch) -> Rows:
        """What it says to rows without labels."""
        return Rows.of(
            Labelled(batch, [{} for _ in batch.rows]),
            self.heard(batch, lambda _done, _of: None),
            "",
        )


def _resolved(deployment: Deployment) -> Resolved:
    """The checkpoints of a deployment, with its variant."""
    return with_variants([deployment], checkpoints_of(deployment))[0][deployment.name]


def _source(resolved: Resolved) -> str:
    (first, *_) = resolved.values()
    return str(first.get("source") or first["path"])


def _kept(deployment: Deployment, resolved: Resolved, made: Fitted, report: Report) -> Path:
    """Stores what was fitted, puts it in force, and returns the path of the page."""
    from salver.calibration import page  # draws, with a library of the extra

    cache = CheckpointCache(cache_dir())
    with tempfile.TemporaryDirectory(prefix="salver-") as scratch:
        folder = Path(scratch)
        made.save(folder)
        whole = Checkpoint.create(folder)

        def copy(file: str, destination: Path, _size: int) -> None:
            shutil.copyfile(folder / file, destination)

        kept = cache.put(Manifest(whole.files, whole.metadata), copy, "calibration")
    choice = Choice(
        deployment.name, report.calibrator or "novelty", kept.digest, _note(report), report.made_at
    )
    version = model_version(deployment, resolved)
    digests = digests_of(resolved)
    return choices.write(choices.CALIBRATED, digests, version, choice, page.html(report))


def _note(report: Report) -> str:
    what = {"": "novelty alone", "identity": "its own confidence"}
    calibrator = what.get(report.calibrator, f"confidence by {report.calibrator}")
    return f"calibrated on {report.rows:,} held-out rows ({calibrator})"
