from __future__ import annotations

import datetime
import json
import time
import types
from collections.abc import Callable
from enum import Enum
from typing import Any, Literal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    computed_field,
    field_validator,
    model_validator,
)

from salver.columns import MAX_DEPTH
from salver.errors import ConfigError, InvalidInput, TooManyRows
from salver.schema import MAX_PROBLEMS, MAX_VALUES, Schema
from salver.types import Failure


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    x: float
    tags: list[str] = []


class Project(BaseModel):
    title: str = ""
    description: str = ""


class Everything(BaseModel):
    """A field of each kind, so that random rows meet every branch."""

    text: str
    maybe_text: str | None = None
    n: int = 0
    maybe_n: int | None = None
    x: float = 0.0
    flag: bool = False
    kind: Literal["a", "b"] = "a"
    level: Literal[1, 2] = 1
    colour: Colour = Colour.RED
    day: datetime.date | None = None
    inner: Inner | None = None
    numbers: list[float] = []
    anything: Any = None


EVERYTHING = Schema(Everything)
PROJECT = Schema(Project)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["a", "red", "2024-02-29", 1, 2]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
# Mostly rows that pass, so that a strange value is seen beside good ones.
GOOD = {
    "maybe_text": st.none() | st.text(),
    "n": st.integers(-(2**63), 2**63 - 1),
    "maybe_n": st.none() | st.integers(0, 9),
    "x": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70),
    "flag": st.booleans(),
    "kind": st.sampled_from(["a", "b"]),
    "level": st.sampled_from([1, 2]),
    "colour": st.sampled_from(["red", "blue"]),
    "day": st.dates().map(str),
    "inner": st.fixed_dictionaries({"x": st.floats(0, 1)}, optional={"tags": st.just(["t"])}),
    "numbers": st.lists(st.floats(0, 1), max_size=2),
    "anything": json_values,
    "unknown": json_values,
}
rows = st.builds(
    lambda row, strange: {**row, **strange},
    st.fixed_dictionaries({"text": st.text()}, optional=GOOD),
    st.just({}) | st.dictionaries(st.sampled_from(["text", *GOOD]), json_values, max_size=1),
)


def as_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


# --- what a schema is made from


@pytest.mark.parametrize("model", [dict, None, Project(), "Project", RootModel[dict[str, int]]])
def test_a_schema_takes_a_pydantic_model(model):
    """Anything but a model of one row with fields is refused with an example of one."""
    with pytest.raises(ConfigError, match="class Project"):
        Schema(model)


def test_a_model_needs_fields():
    """A model without fields describes no row."""

    class Empty(BaseModel):
        pass

    with pytest.raises(ConfigError, match="Empty has no fields"):
        Schema(Empty)


def test_names_are_those_of_the_input():
    """Names and required names are spelt as rows spell them, fields as the model's code does."""

    class M(BaseModel):
        own: int = Field(alias="Given")
        other: int = 0

    schema = Schema(M)
    assert schema.names == ("Given", "other")
    assert schema.required == ("Given",)
    assert [f.name for f in schema.fields] == ["own", "other"]
    assert set(schema.json_schema()["properties"]) == {"Given", "other"}


# --- bodies


def test_a_body_is_one_object_or_a_list():
    """Both give a batch, and the schema remembers which it was; defaults fill what is missing."""
    one = PROJECT.parse_json(b'{"title": "a", "unknown": 1}')
    many = PROJECT.parse_json(b'[{"title": "a"}, {"description": "b"}]')
    assert one.rows == [("a", "")]
    assert many.rows == [("a", ""), ("", "b")]
    assert PROJECT.parse_json(b"[]").rows == []


BAD_BODIES = [
    # body, path and type of the first problem
    (b"", [], "malformed_json"),
    (b"   ", [], "malformed_json"),
    (b"{", [], "malformed_json"),
    (b'{"title": "a"} x', [], "malformed_json"),
    (b"\xef\xbb\xbf{}", [], "malformed_json"),
    (b'{"title": "\xff"}', [], "malformed_json"),
    (b'{"title": "\\ud800"}', [], "malformed_json"),
    (b'{"title": "\xed\xa0\x80"}', [], "malformed_json"),
    (b'{"title": NaN}', [], "malformed_json"),
    (b'{"unknown": Infinity}', [], "malformed_json"),
    (b'{"unknown": 1e400}', [], "malformed_json"),
    (b'{"unknown": ' + b"9" * 5000 + b"}", [], "malformed_json"),
    ("{}".encode("utf-16"), [], "malformed_json"),
    (b"[" * 10_000 + b"]" * 10_000, [], "malformed_json"),
    (b'{"unknown": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", [], "malformed_json"),
    (b'{"unknown": ' + b"[" * 100 + b"]" * 100 + b"}", [], "too_deep"),
    (b"null", [], "json_type"),
    (b"true", [], "json_type"),
    (b"5", [], "json_type"),
    (b'"text"', [], "json_type"),
    (b'{"title": 5}', ["title"], "string_type"),
    (b'{"title": null}', ["title"], "string_type"),
    (b'[{"title": "a"}, null]', [1], "model_type"),
    (b"[[]]", [0], "model_type"),
    (b'[{"title": "a"}, {"title": ["a"]}]', [1, "title"], "string_type"),
    (b'{"title": "a", "title": "b"}', ["title"], "duplicate_key"),
    (b'{"\\u0074itle": "a", "title": "b"}', ["title"], "duplicate_key"),
    (b'[{"title": "a", "unknown": {"k": 1, "k": 2}}]', ["k"], "duplicate_key"),
]


@pytest.mark.parametrize(("body", "path", "kind"), BAD_BODIES, ids=range(len(BAD_BODIES)))
def test_a_bad_body_is_refused_with_a_path(body, path, kind):
    """Whatever is wrong with a body, the first problem says where and what."""
    with pytest.raises(InvalidInput) as caught:
        PROJECT.parse_json(body)
    assert caught.value.problems[0]["path"] == path
    assert caught.value.problems[0]["type"] == kind


def test_a_row_is_as_deep_in_a_list_as_alone():
    """The bound on nesting counts from the row, so that a list refuses no row that passes alone."""
    for levels, passes in ((MAX_DEPTH, True), (MAX_DEPTH + 1, False)):
        row = b'{"unknown": ' + b"[" * levels + b"]" * levels + b"}"
        for body in (row, b"[" + row + b"]"):
            if passes:
                assert len(PROJECT.parse_json(body)) == 1
            else:
                with pytest.raises(InvalidInput, match=f"more than {MAX_DEPTH} levels"):
                    PROJECT.parse_json(body)


@pytest.mark.parametrize("levels", [100, 900, 1020])
def test_nesting_cannot_hide_behind_a_duplicate_key(levels):
    """A deep value that a second one of the same key replaces is refused, and nothing overflows."""
    body = b'{"k": ' + b"[" * levels + b"]" * levels + b', "k": 1}'
    with pytest.raises(InvalidInput):
        PROJECT.parse_json(body)


def test_a_list_has_a_largest_length():
    """A list of more than `max_rows` is refused with the way to predict files."""
    assert len(PROJECT.parse_json(b"[{},{}]", max_rows=2)) == 2
    with pytest.raises(TooManyRows, match=r"3 rows.*salver predict"):
        PROJECT.parse_json(b"[{},{},{}]", max_rows=2)


def test_every_bad_row_of_a_list_is_named():
    """The message names all bad rows; the problems name their fields up to a bound."""
    body = as_bytes([{"title": 1} if i % 2 else {"title": "a"} for i in range(500)])
    with pytest.raises(InvalidInput) as caught:
        PROJECT.parse_json(body)
    assert caught.value.message.startswith("250 of 500 rows were refused: 1, 3, 5, ")
    assert "497, 499." in caught.value.message
    paths = [p["path"] for p in caught.value.problems]
    assert paths == [[i, "title"] for i in range(1, 2 * MAX_PROBLEMS, 2)]


class Heavy(BaseModel, extra="forbid"):
    numbers: list[int] = []
    days: list[datetime.date] = []
    anything: Any = None


HEAVY = Schema(Heavy)
MANY = [MAX_VALUES - 10, 2_700_000]  # what just fits, and a body of 8 MB


def answered(ask: Callable[[], Any]) -> Any:
    """What `ask` gives or raises, which may not take much time of the processor."""
    start = time.process_time()
    try:
        result = ask()
    except InvalidInput as error:
        result = error
    assert time.process_time() - start < 6  # to name all of them takes minutes
    return result


@pytest.mark.parametrize("n", MANY)
@pytest.mark.parametrize(
    ("before", "part", "after"),
    [
        (b'{"anything":[0', b",[]", b']}{"'),
        (b'{"unknown":[0', b",[]", b"]}"),
        (b'{"numbers":[""', b',""', b"]}"),
        (b'{"0":0', b',"%d":0', b"}"),
        (b"[0", b",0", b"]"),
        (b'[{"numbers":[""', b',""', b"]}, {}]"),
    ],
    ids=["broken", "unknown", "numbers", "keys", "rows", "list"],
)
def test_a_large_bad_body_is_refused_at_once(before, part, after, n):
    """However many values a body holds, its refusal is quick and short."""
    parts = b"".join(part % i for i in range(n)) if b"%" in part else part * n
    error = answered(lambda: HEAVY.parse_json(before + parts + after))
    assert isinstance(error, InvalidInput)
    assert error.status == 422
    assert 0 < len(error.problems) <= MAX_PROBLEMS
    if n > MAX_VALUES:
        assert error.problems[0]["type"] == "too_many_values"


def test_a_large_text_is_not_many_values():
    """A body of 8 MB of prose passes."""
    prose = "One sentence, of the usual length and with a comma: here it ends. " * 120_000
    assert len(PROJECT.parse_json(as_bytes({"title": prose}))) == 1


def test_a_row_with_too_many_bad_values_is_summed_up():
    """A row with more bad fields than are named has one problem; its neighbours keep theirs."""
    bad = {"numbers": [""] * (MAX_PROBLEMS + 1)}
    with pytest.raises(InvalidInput) as caught:
        HEAVY.parse_json(as_bytes([{}, bad, {"numbers": [""]}]))
    summary, other = caught.value.problems
    assert summary["path"] == [1]
    assert f"{MAX_PROBLEMS + 1} values" in summary["message"]
    assert other["path"] == [2, "numbers", 0]


def test_a_large_bad_row_of_python_is_rejected_at_once():
    """A row given as Python is protected alike, and only the bad row is rejected."""
    n = 100_000
    rows = [{}, {"numbers": [""] * n}, {str(i): 0 for i in range(n)}, {"numbers": [1]}]
    checked = answered(lambda: HEAVY.check_rows(rows))
    assert checked.positions == [0, 3]
    assert all(len(failure.message) < 200 for failure in checked.rejected.values())


def test_many_values_that_only_json_spells_so_still_pass():
    """Many dates as texts are taken among Python values as in a body."""
    rows = [{"days": ["2024-01-01"] * (MAX_PROBLEMS + 1)}]
    assert HEAVY.check_rows(rows).batch.rows == HEAVY.parse_json(as_bytes(rows)).rows


def test_all_bad_fields_of_a_row_are_named():
    """Wrong types and numbers out of range are listed together, each row by itself."""

    class M(BaseModel):
        a: int = 0
        b: int = 0
        c: float = 0

    body = b'[{"a": 99999999999999999999, "b": -99999999999999999999}, {"a": "x", "c": "y"}, {}]'
    with pytest.raises(InvalidInput) as caught:
        Schema(M).parse_json(body)
    assert [p["path"] for p in caught.value.problems] == [[0, "a"], [0, "b"], [1, "a"], [1, "c"]]
    assert caught.value.message.startswith("2 of 3 rows were refused: 0, 1.")


@given(json_values)
def test_any_json_value_gives_a_batch_or_a_refusal(value):
    """Nothing but a batch, InvalidInput or TooManyRows comes from a body; a refusal has problems."""
    try:
        parsed = EVERYTHING.parse_json(as_bytes(value), max_rows=2)
    except InvalidInput as error:
        assert error.problems
    except TooManyRows:
        assert len(value) > 2
    else:
        assert len(parsed) == (len(value) if isinstance(value, list) else 1)
        assert set(parsed.columns()) == set(Everything.model_fields)


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_give_a_batch_or_a_refusal(body):
    """No body, however broken, raises anything else."""
    try:
        EVERYTHING.parse_json(body)
    except InvalidInput as error:
        assert error.problems


@given(st.lists(rows, min_size=1, max_size=6))
def test_all_ways_in_judge_rows_alike(given_rows):
    """Bodies, lines and Python rows give the same batch, and refuse the same rows."""
    checked = EVERYTHING.check_rows(given_rows)
    lines = [EVERYTHING.check_json_line(as_bytes(row))[1] for row in given_rows]
    assert [i for i, line in enumerate(lines) if isinstance(line, Failure)] == [*checked.rejected]
    assert [line for line in lines if not isinstance(line, Failure)] == checked.batch.rows
    assert checked.positions == [i for i in range(len(lines)) if i not in checked.rejected]
    for i, failure in checked.rejected.items():
        assert failure.path[0] == lines[i].path[0]
        with pytest.raises(InvalidInput) as caught:
            EVERYTHING.parse_json(as_bytes(given_rows[i]))
        assert caught.value.problems[0]["path"] == [*failure.path]
    if checked.rejected:
        with pytest.raises(InvalidInput) as caught:
            EVERYTHING.parse_json(as_bytes(given_rows))
        assert list(dict.fromkeys(p["path"][0] for p in caught.value.problems)) == [
            *checked.rejected
        ]
    else:
        assert EVERYTHING.parse_json(as_bytes(given_rows)).rows == checked.batch.rows


@given(st.lists(rows, min_size=1, max_size=6))
def test_whatever_passes_can_be_sent_on_as_json(given_rows):
    """Rows of a batch hold plain values that JSON writes and reads back unchanged."""
    batch = EVERYTHING.check_rows(given_rows).batch
    assert [tuple(row) for row in orjson.loads(orjson.dumps(batch.rows))] == batch.rows
    batch.columns()


def escaped(key: str, positions: set[int]) -> str:
    return "".join(
        f"\\u{ord(c):04x}" if i in positions and ord(c) < 0x10000 else json.dumps(c)[1:-1]
        for i, c in enumerate(key)
    )


@given(
    st.text(min_size=1),
    st.sets(st.integers(0, 5)),
    st.sets(st.integers(0, 5)),
    st.lists(st.text().map(lambda text: text + ":"), max_size=3),
    st.integers(0, 3),
)
def test_a_duplicate_key_is_always_found(key, first, second, others, depth):
    """A key given twice is found at any depth, however it is escaped, whatever else has colons."""
    pairs = [f'"{escaped(key, first)}": 1', *(f'"+{json.dumps(o)[1:]}: 2' for o in set(others))]
    pairs.append(f'"{escaped(key, second)}": {{"::": ":"}}')
    body = "{" + ", ".join(pairs) + "}"
    for _ in range(depth):
        body = f'{{"text": "a", "unknown": [{body}]}}'
    if f"{key}" in {f"+{o}" for o in others}:
        return
    with pytest.raises(InvalidInput) as caught:
        EVERYTHING.parse_json(body.encode())
    assert caught.value.problems == [
        {"path": [key], "message": "duplicate key", "type": "duplicate_key"}
    ]


# --- lines


def test_a_line_gives_the_object_and_its_row():
    """What was read comes back beside the row, or beside the reason why there is none."""
    assert PROJECT.check_json_line(b'{"title": "a", "id": 7}') == (
        {"title": "a", "id": 7},
        ("a", ""),
    )
    data, failure = PROJECT.check_json_line(b'{"title": 5, "id": 7}')
    assert data == {"title": 5, "id": 7}
    assert failure == Failure(
        "invalid_input", "title: Input should be a valid string", path=("title",)
    )


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"null", b'{"title": "a", "title": "b"}'])
def test_a_line_that_is_no_object_is_a_failure(line):
    """Nothing was read from such a line, and nothing is raised."""
    data, failure = PROJECT.check_json_line(line)
    assert data is None
    assert isinstance(failure, Failure)
    assert failure.code == "invalid_input"


# --- Python rows


@pytest.mark.parametrize("row", [None, 5, "text", [], [("title", "a")], b"{}", object()])
@pytest.mark.parametrize("text", [False, True])
def test_what_is_no_row_hurts_no_neighbour(row, text):
    """Something that is no mapping is rejected at its position."""
    checked = PROJECT.check_rows([{"title": "a"}, row, {"title": "b"}], text=text)
    assert checked.batch.rows == [("a", ""), ("b", "")]
    assert checked.positions == [0, 2]
    assert list(checked.rejected) == [1]


def test_any_mapping_is_a_row():
    """A row need not be a dict, and rows need not be a list."""
    mapping = types.MappingProxyType({"title": "a"})
    assert PROJECT.check_rows(iter([mapping])).batch.rows == [("a", "")]


@pytest.mark.parametrize(
    ("name", "value", "plain"),
    [
        ("colour", "blue", "blue"),
        ("colour", Colour.BLUE, "blue"),
        ("day", "2024-02-29", "2024-02-29"),
        ("day", datetime.date(2024, 2, 29), "2024-02-29"),
        ("inner", {"x": 1}, {"x": 1.0, "tags": []}),
        ("inner", Inner(x=1), {"x": 1.0, "tags": []}),
        ("numbers", [1, 2], [1.0, 2.0]),
        ("anything", (1, {"a": datetime.date(2024, 2, 29)}), [1, {"a": "2024-02-29"}]),
    ],
)
def test_python_values_and_json_values_are_both_taken(name, value, plain):
    """A date may come as a date (Parquet) or as text (JSON), an enum as member or value."""
    row = {"text": "t", name: value, "day": datetime.date(2020, 1, 1)} | {name: value}
    batch = EVERYTHING.check_rows([row]).batch
    assert batch.rows[0][batch.names.index(name)] == plain


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text", "\ud800"),
        ("text", datetime.date(2024, 2, 29)),
        ("text", b"bytes"),
        ("n", True),
        ("n", "5"),
        ("n", 5.0),
        ("n", 2**63),
        ("n", 10**5000),
        ("x", float("nan")),
        ("x", 10**400),
        ("flag", 1),
        ("level", 3),
        ("colour", "green"),
        ("day", "2024-02-30"),
        ("inner", {"x": "1"}),
        ("numbers", [float("inf")]),
        ("anything", float("nan")),
        ("anything", "\udfff"),
        ("anything", object()),
        ("anything", b"\xff"),
    ],
    ids=range(20),
)
def test_a_bad_value_is_rejected_at_its_position(name, value):
    """Values that JSON could not have brought are refused like those that it could."""
    checked = EVERYTHING.check_rows([{"text": "a"}, {"text": "t", name: value}, {"text": "b"}])
    assert checked.positions == [0, 2]
    assert checked.rejected[1].code == "invalid_input"
    assert checked.rejected[1].path[0] == name


def test_a_value_nested_without_end_is_rejected():
    """A list of 10,000 levels, or one that holds itself, is refused and nothing overflows."""
    deep: Any = []
    for _ in range(10_000):
        deep = [deep]
    loop: list[Any] = []
    loop.append(loop)
    given_rows = [{"text": "t", name: v} for v in (deep, loop) for name in ("anything", "n")]
    checked = EVERYTHING.check_rows([{"text": "a"}, *given_rows])
    assert checked.positions == [0]
    assert sorted(checked.rejected) == [1, 2, 3, 4]


def test_an_instance_of_a_model_is_checked_like_any_row():
    """An instance that was made without validation does not slip through."""
    good, bad = Project(title="a"), Project.model_construct(title=5)
    checked = PROJECT.check_rows([good, bad])
    assert checked.batch.rows == [("a", "")]
    assert checked.rejected[1].path == ("title",)


# --- models of all kinds


def test_aliases_are_the_names_in_rows():
    """JSON, Python rows, texts and instances meet a field under its alias; paths name it so."""

    class M(BaseModel):
        n: int = Field(alias="N")
        m: int = Field(0, validation_alias=AliasChoices("m1", "m2"))

    schema = Schema(M)
    wanted = [(1, 2)]
    assert schema.parse_json(b'{"N": 1, "m2": 2}').rows == wanted
    assert schema.check_rows([{"N": 1, "m1": 2}]).batch.rows == wanted
    assert schema.check_rows([{"N": "1", "m2": "2"}], text=True).batch.rows == wanted
    assert schema.check_rows([M(N=1, m1=2)]).batch.rows == wanted
    assert schema.check_rows([{"N": 2**63}]).rejected[0].path == ("N",)
    assert schema.check_rows([{"n": 1}]).rejected[0].path == ("N",)


def test_names_beside_aliases_are_taken_where_the_model_takes_them():
    """With populate_by_name a row may use either spelling, texts too."""

    class M(BaseModel):
        model_config = ConfigDict(populate_by_name=True)
        n: int = Field(alias="N")

    for row in ({"N": "1"}, {"n": "1"}):
        assert Schema(M).check_rows([row], text=True).batch.rows == [(1,)]
    assert Schema(M).check_rows([{"n": 1}]).batch.rows == [(1,)]


def test_unknown_columns_are_refused_where_the_model_forbids_them():
    """extra="forbid" holds for bodies, Python rows, instances and texts alike."""

    class M(BaseModel):
        model_config = ConfigDict(extra="forbid")
        n: int = 0

        @computed_field
        def double(self) -> int:
            return 2 * self.n

    schema = Schema(M)
    with pytest.raises(InvalidInput):
        schema.parse_json(b'{"n": 1, "extra": 2}')
    assert schema.check_rows([{"n": 1, "extra": 2}]).rejected[0].path == ("extra",)
    assert schema.check_rows([{"n": "1", "extra": ""}], text=True).rejected[0].path == ("extra",)
    assert schema.check_rows([{"n": "1"}], text=True).batch.rows == [(1,)]
    assert schema.check_rows([M(n=1)]).batch.rows == [(1,)]


def test_constraints_and_validators_decide():
    """Bounds, field validators and model validators refuse rows on every way in."""

    class M(BaseModel):
        low: int = Field(0, ge=0)
        high: int = Field(9, le=9)
        word: str = ""
        _seen: int = PrivateAttr(0)

        @field_validator("word")
        @classmethod
        def quiet(cls, value: str) -> str:
            if value.isupper():
                raise ValueError("do not shout")
            return value.strip()

        @model_validator(mode="after")
        def ordered(self) -> M:
            if self.low > self.high:
                raise ValueError("low is above high")
            return self

    schema = Schema(M)
    table = [
        ({"low": 1, "word": " a "}, None),
        ({"low": -1}, "low: Input should be greater than or equal to 0"),
        ({"word": "LOUD"}, "word: Value error, do not shout"),
        ({"low": 5, "high": 4}, "row: Value error, low is above high"),
        ({"low": -1, "high": 10}, "low: Input should be greater than or equal to 0; high: "),
    ]
    given_rows = [row for row, _ in table]
    texts = [{k: str(v) for k, v in row.items()} for row in given_rows]
    lines = [schema.check_json_line(as_bytes(row))[1] for row in given_rows]
    for checked in (schema.check_rows(given_rows), schema.check_rows(texts, text=True)):
        assert checked.batch.rows == [(1, 9, "a")] == lines[:1]
        for i, (_, message) in enumerate(table[1:], start=1):
            assert checked.rejected[i].message.startswith(message)
            assert checked.rejected[i] == lines[i]


def test_default_values_fill_columns():
    """A default of None makes room for null in the column of a number."""

    class M(BaseModel):
        n: int = None  # type: ignore[assignment]
        names: list[str] = Field(default_factory=list)

    parsed = Schema(M).parse_json(b"[{}, {}]")
    assert parsed.columns()["n"].tolist() == [None, None]
    assert parsed.columns()["names"].tolist() == [[], []]


# --- texts, as in a CSV file


class Cells(BaseModel):
    text: str = "default"
    maybe: str | None = None
    n: int = 7
    required: int | None
    x: float = 0.5
    flag: bool = False
    level: Literal[1, 2] = 1
    colour: Colour = Colour.RED
    day: datetime.date | None = None
    tags: list[str] = []


TEXTS = [
    # column, text, value in the batch (or null where it is refused)
    ("text", "", ""),
    ("text", "5", "5"),
    ("text", None, "default"),
    ("text", "\ud800", None),
    ("maybe", "", ""),
    ("n", "5", 5),
    ("n", "", 7),
    ("n", None, 7),
    ("n", "-5", -5),
    ("n", "five", None),
    ("n", "5.5", None),
    ("n", "9" * 30, None),
    ("n", "9" * 5000, None),
    ("required", "", ...),
    ("x", "1e3", 1000.0),
    ("x", "5", 5.0),
    ("x", "nan", None),
    ("x", "inf", None),
    ("x", "1e400", None),
    ("flag", "true", True),
    ("flag", "0", False),
    ("flag", "perhaps", None),
    ("level", "2", 2),
    ("level", "3", None),
    ("colour", "blue", "blue"),
    ("colour", "green", None),
    ("day", "2024-02-29", "2024-02-29"),
    ("day", "2024-02-30", None),
    ("day", "", ...),
    ("tags", "[]", []),
    ("tags", "[1]", None),
    ("tags", "[", None),
    ("unknown", "5", "no matter"),
    (None, ["more", "cells"], "no matter"),
]


@pytest.mark.parametrize(("name", "text", "value"), TEXTS, ids=range(len(TEXTS)))
def test_a_text_is_what_its_column_says(name, text, value):
    """A cell is read by the type of its column; an empty one is missing, but for texts."""
    schema = Schema(Cells)
    checked = schema.check_rows([{"required": "1"}, {"required": "2", name: text}], text=True)
    if value is None:
        assert checked.positions == [0]
        assert list(checked.rejected) == [1]
        return
    assert checked.positions == [0, 1]
    if name in schema.names:
        found = checked.batch.rows[1][schema.names.index(name)]
        assert found == (None if value is ... else value)


@given(st.lists(st.tuples(st.text(), st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=6))
def test_texts_and_values_give_the_same_batch(pairs):
    """A table read as texts gives the batch that its values give."""

    class M(BaseModel):
        text: str
        n: int

    schema = Schema(M)
    values = schema.check_rows([{"text": t, "n": n} for t, n in pairs])
    texts = schema.check_rows([{"text": t, "n": str(n)} for t, n in pairs], text=True)
    assert values == texts
