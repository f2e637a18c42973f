from collections import Counter
from pathlib import Path

import pytest

from madewithml.data import (
    CLASSES,
    HOLDOUT_FILE,
    TRAIN_FILE,
    DataError,
    LabelledProject,
    check_tags,
    near_duplicates,
    read_projects,
    stratified_folds,
    stratified_split,
)

HEADER = "id,created_on,title,description,tag\n"


def write(folder: Path, text: str) -> Path:
    file = folder / "rows.csv"
    file.write_text(text, "utf-8")
    return file


def project(id: str, title: str, description: str = "", tag: str = "other") -> LabelledProject:
    return LabelledProject(id, "2026-01-01", title, description, tag)


def test_bom_extra_columns_and_quoted_line_breaks_are_read(tmp_path: Path) -> None:
    """A BOM, columns in another order, one too many and a line break in a field are fine."""
    file = write(
        tmp_path, '\ufefftag,title,id,stars,created_on,description\nother,T,7,5,today,"a\nb, c"\n'
    )
    assert read_projects(file) == [LabelledProject("7", "today", "T", "a\nb, c", "other")]


def test_a_file_url_is_read(tmp_path: Path) -> None:
    """A location may be a URL."""
    file = write(tmp_path, HEADER + "1,x,T,D,other\n")
    assert read_projects(file.as_uri()) == read_projects(file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,title,description\n1,T,D\n", "lacks the columns created_on, tag"),
        ("id;created_on;title;description;tag\n1;x;T;D;other\n", "wanted a comma-separated file"),
        (HEADER, "no rows"),
        ("", "lacks the columns"),
        (HEADER + "1,x,T,D,other\n2,x,T\n", "line 3: fewer fields than the header"),
        (HEADER + "1,x,T,D,other,more\n", "line 2: more fields"),
        (HEADER + "1,x,T,D,\n", "line 2: the tag is empty"),
        (HEADER + '1,x," ",,other\n', "line 2: title and description are both empty"),
        (HEADER + "1,x,T,D,music\n", "line 2: the tag 'music' is not one of"),
        (HEADER + '1,x,"T,D,other\n', "line 1 or after: unexpected end of data"),
    ],
)
def test_a_bad_file_is_refused_with_its_fault(tmp_path: Path, text: str, said: str) -> None:
    """Every kind of bad file is refused by an error that names the fault and the line."""
    with pytest.raises(DataError, match=said):
        read_projects(write(tmp_path, text), tags=CLASSES)


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    """A file in another encoding is refused."""
    file = tmp_path / "latin.csv"
    file.write_bytes(HEADER.encode() + b"1,x,caf\xe9,D,other\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read_projects(file)


def test_many_bad_rows_are_counted(tmp_path: Path) -> None:
    """At most ten bad rows are named, all are counted."""
    with pytest.raises(DataError, match=r"has 30 bad rows: line 2.*and 20 more"):
        read_projects(write(tmp_path, HEADER + "1,x,T,D,\n" * 30))


def test_too_few_rows_of_a_tag_are_refused(projects: list[LabelledProject]) -> None:
    """Training needs two tags, and some rows of each."""
    assert check_tags(projects, at_least=12) == CLASSES
    with pytest.raises(DataError, match=r"too few rows of other \(1\)"):
        check_tags([*projects[:12], projects[-1]], at_least=2)
    with pytest.raises(DataError, match="all rows have the tag"):
        check_tags(projects[:5], at_least=1)


def test_a_split_is_stratified_and_repeatable(projects: list[LabelledProject]) -> None:
    """A quarter of each tag is split off, the same rows for the same seed, others for another."""
    rest, part = stratified_split(projects, fraction=0.25, seed=1)
    assert Counter(p.tag for p in part) == dict.fromkeys(CLASSES, 3)
    assert sorted(rest + part, key=lambda p: int(p.id)) == projects
    assert stratified_split(projects, fraction=0.25, seed=1) == (rest, part)
    assert stratified_split(projects, fraction=0.25, seed=2)[1] != part


def test_folds_test_each_row_once(projects: list[LabelledProject]) -> None:
    """Over all folds each row is tested once and never trained on in the same fold."""
    folds = stratified_folds(projects, folds=5, seed=1)
    assert Counter(p.id for _, test in folds for p in test) == {p.id: 1 for p in projects}
    assert all(not {p.id for p in rest} & {p.id for p in test} for rest, test in folds)
    with pytest.raises(DataError, match="two folds or more"):
        stratified_folds(projects, folds=1, seed=1)


def test_near_duplicates_are_found_by_title_and_by_text() -> None:
    """The same title in other spelling counts, and so does nearly the same text."""
    text = "a small library that finds faces in blurry pictures taken at night"
    train = [project("1", "Face Finder", text), project("2", "Graph Nets", "message passing")]
    holdout = [
        project("3", "face-finder!", "something else"),
        project("4", "Finder of faces", text + " or day"),
        project("5", "Graphs", "no passing of messages"),
    ]
    found = [(pair.train_id, pair.holdout_id) for pair in near_duplicates(train, holdout)]
    assert found == [("1", "3"), ("1", "4")]


def test_the_shipped_data_are_as_promised() -> None:
    """The data set has 800 rows and more, 120 and more of each tag, and no near-duplicates."""
    train = read_projects(TRAIN_FILE, tags=CLASSES)
    holdout = read_projects(HOLDOUT_FILE, tags=CLASSES)
    counts = Counter(p.tag for p in train + holdout)
    assert sum(counts.values()) >= 800
    assert all(counts[tag] >= 120 for tag in CLASSES)
    assert len({p.id for p in train + holdout}) == len(train + holdout)
    assert near_duplicates(train, holdout) == []
    within = [p for p in near_duplicates(train, train) if p.train_id < p.holdout_id]
    assert within == []
