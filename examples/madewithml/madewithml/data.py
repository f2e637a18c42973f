"""Labelled projects: reading a CSV, splitting it, and finding near-duplicates.

Knows nothing of models. Standard library only, so that the serving front may import it.
"""

import csv
import io
import random
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

COLUMNS = ("id", "created_on", "title", "description", "tag")
DATASETS = Path(__file__).parent / "datasets"
TRAIN_FILE = DATASETS / "train.csv"
HOLDOUT_FILE = DATASETS / "holdout.csv"
CLASSES = ("computer-vision", "mlops", "natural-language-processing", "other")

_NAMED_ROWS = 10
_DOWNLOAD_TIMEOUT_S = 60


class DataError(Exception):
    """A data set that cannot be used; the message says where and why."""


@dataclass(frozen=True)
class LabelledProject:
    """One row of a data set."""

    id: str
    created_on: str
    title: str
    description: str
    tag: str


def read_projects(
    location: str | Path, *, tags: Collection[str] | None = None
) -> list[LabelledProject]:
    """Read a comma-separated file with the columns id, created_on, title, description, tag.

    Args:
        location: a path, or an http, https or file URL. UTF-8, with or without a BOM; columns in
            any order, other columns ignored.
        tags: the tags that may occur; any by default.

    Raises:
        DataError: the location cannot be read, columns are missing, there is no row, or rows are
            bad (named by line).
    """
    text = _read_text(str(location))
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    projects: list[LabelledProject] = []
    problems: list[str] = []
    try:
        header = [name.strip() for name in reader.fieldnames or []]
        if missing := [name for name in COLUMNS if name not in header]:
            raise DataError(
                f"{location} lacks the columns {', '.join(missing)}: its first line gives "
                f"{header}; wanted a comma-separated file with {', '.join(COLUMNS)}"
            )
        reader.fieldnames = header
        for row in reader:
            if problem := _problem(row, tags):
                problems.append(f"line {reader.line_num}: {problem}")
            else:
                projects.append(LabelledProject(**{name: row[name] for name in COLUMNS}))
    except csv.Error as error:
        problems.append(f"line {reader.line_num} or after: {error}")
    if problems:
        more = len(problems) - _NAMED_ROWS
        named = "; ".join(problems[:_NAMED_ROWS]) + (f"; and {more} more" if more > 0 else "")
        raise DataError(f"{location} has {len(problems)} bad rows: {named}")
    if not projects:
        raise DataError(f"{location} has a header but no rows")
    return projects


def _read_text(location: str) -> str:
    try:
        if urlsplit(location).scheme in ("http", "https", "file"):
            with urlopen(location, timeout=_DOWNLOAD_TIMEOUT_S) as response:
                content: bytes = response.read()
        else:
            content = Path(location).read_bytes()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{location} is not UTF-8 text: byte {error.start} does not fit") from error
    except OSError as error:
        raise DataError(f"cannot read {location}: {error}") from error


def _problem(row: dict[str, str], tags: Collection[str] | None) -> str | None:
    if None in row:
        return "more fields than the header; quote fields that hold a comma"
    if any(row[name] is None for name in COLUMNS):
        return "fewer fields than the header"
    if not row["tag"].strip():
        return "the tag is empty"
    if not (row["title"].strip() or row["description"].strip()):
        return "title and description are both empty"
    if tags is not None and row["tag"] not in tags:
        return f"the tag {row['tag']!r} is not one of {', '.join(sorted(tags))}"
    return None


def check_tags(projects: Sequence[LabelledProject], *, at_least: int) -> tuple[str, ...]:
    """The tags of a training set, sorted.

    Raises:
        DataError: fewer than two tags, or one with fewer rows than `at_least`.
    """
    counts = Counter(project.tag for project in projects)
    if len(counts) < 2:
        raise DataError(f"all rows have the tag {', '.join(counts)}: training wants two or more")
    if rare := {tag: n for tag, n in sorted(counts.items()) if n < at_least}:
        raise DataError(
            f"too few rows of {', '.join(f'{tag} ({n})' for tag, n in rare.items())}: wanted at "
            f"least {at_least} of each tag; add rows or leave the tag out"
        )
    return tuple(sorted(counts))


def _by_tag(projects: Sequence[LabelledProject], seed: int) -> list[list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for index, project in enumerate(projects):
        groups[project.tag].append(index)
    generator = random.Random(seed)
    for tag in sorted(groups):
        generator.shuffle(groups[tag])
    return [groups[tag] for tag in sorted(groups)]


def stratified_split(
    projects: Sequence[LabelledProject], *, fraction: float, seed: int
) -> tuple[list[LabelledProject], list[LabelledProject]]:
    """Split off about `fraction` of each tag's rows, at least one and never all.

    Returns:
        The rest and the part split off, each in the order given. The same rows and seed give the
        same split.

    Raises:
        DataError: a tag has a single row, so that it cannot be on both sides.
    """
    check_tags(projects, at_least=2)
    chosen: set[int] = set()
    for group in _by_tag(projects, seed):
        chosen.update(group[: min(max(1, round(fraction * len(group))), len(group) - 1)])
    rest = [project for i, project in enumerate(projects) if i not in chosen]
    return rest, [project for i, project in enumerate(projects) if i in chosen]


def stratified_folds(
    projects: Sequence[LabelledProject], *, folds: int, seed: int
) -> list[tuple[list[LabelledProject], list[LabelledProject]]]:
    """(training rows, test rows) per fold; every row is tested once, tags spread evenly.

    Raises:
        DataError: fewer than two folds, or a tag with fewer rows than folds.
    """
    if folds < 2:
        raise DataError(f"cross-validation wants two folds or more, not {folds}")
    check_tags(projects, at_least=folds)
    fold_of: dict[int, int] = {}
    for group in _by_tag(projects, seed):
        # Continue where the last tag stopped: folds differ by one row at most.
        fold_of.update({row: (len(fold_of) + k) % folds for k, row in enumerate(group)})
    return [
        (
            [project for i, project in enumerate(projects) if fold_of[i] != fold],
            [project for i, project in enumerate(projects) if fold_of[i] == fold],
        )
        for fold in range(folds)
    ]


def normalised_title(title: str) -> str:
    """A title's words in lower case: equal for titles that differ in punctuation or spacing."""
    return " ".join(re.findall(r"\w+", title.lower()))


@dataclass(frozen=True)
class NearDuplicate:
    """Two rows that say almost the same: ids, and the Jaccard similarity of their texts."""

    train_id: str
    holdout_id: str
    similarity: float


def near_duplicates(
    train: Sequence[LabelledProject],
    holdout: Sequence[LabelledProject],
    *,
    threshold: float = 0.4,
) -> list[NearDuplicate]:
    """Pairs across two splits that a model could answer by memory.

    Two rows are near-duplicates if their titles are the same words, or if the sets of word pairs
    of their titles and descriptions have a Jaccard similarity of `threshold` or more. Exact (no
    hashing): an index from word pairs to rows keeps it fast.
    """
    titles: dict[str, list[int]] = defaultdict(list)
    index: dict[tuple[str, str], list[int]] = defaultdict(list)
    sizes: list[int] = []
    for row, project in enumerate(train):
        pairs = _word_pairs(project)
        sizes.append(len(pairs))
        titles[normalised_title(project.title)].append(row)
        for pair in pairs:
            index[pair].append(row)
    titles.pop("", None)
    found = []
    for project in holdout:
        pairs = _word_pairs(project)
        shared = Counter(row for pair in pairs for row in index.get(pair, ()))
        similarities = {row: n / (sizes[row] + len(pairs) - n) for row, n in shared.items()}
        same_title = set(titles.get(normalised_title(project.title), ()))
        close = {row for row, similarity in similarities.items() if similarity >= threshold}
        found += [
            NearDuplicate(train[row].id, project.id, similarities.get(row, 0.0))
            for row in sorted(close | same_title)
        ]
    return found


def _word_pairs(project: LabelledProject) -> set[tuple[str, str]]:
    words = normalised_title(f"{project.title} {project.description}").split()
    return set(pairwise(words))
