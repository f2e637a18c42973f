from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from salver.errors import InvalidInput
from salver.flat import flat_reader
from salver.schema import Schema


class Plain(BaseModel):
    """A project and its numbers."""

    title: str
    stars: int = 0
    score: float = 0.5
    open: bool = False
    note: str | None = None
    rank: int | None = 7


class Twin(Plain):
    """The same fields with a rule that holds for all, so that the validator is asked."""

    @model_validator(mode="after")
    def nothing(self) -> Twin:
        return self


PLAIN, TWIN = Schema(Plain), Schema(Twin)
read = flat_reader(Plain)
assert read is not None

texts = st.text() | st.sampled_from([":", "a: b", "\\", '"', "\x00", "é", "\U0001f600", ""])
numbers = st.integers(-(2**65), 2**65) | st.floats(allow_nan=False, allow_infinity=False)
values = texts | numbers | st.booleans() | st.none() | st.lists(st.integers(), max_size=2)
rows = st.dictionaries(st.sampled_from([*Plain.model_fields, "other"]), values)
good_rows = st.fixed_dictionaries(
    {"title": texts},
    optional={
        "stars": st.integers(-(2**63), 2**63 - 1),
        "score": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60),
        "open": st.booleans(),
        "note": texts | st.none(),
        "rank": st.integers(-5, 5) | st.none(),
    },
)


def outcome(schema: Schema, body: bytes) -> Any:
    try:
        return [[(type(v), v) for v in row] for row in schema.parse_json(body).rows]
    except InvalidInput as error:
        return error.problems


def body_of(value: Any) -> bytes | None:
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits, a lone surrogate
        return None


@given(rows | good_rows | st.lists(rows | good_rows, max_size=3))
def test_a_body_means_the_same_with_and_without_the_validator(value):
    """Rows, their exact types and refusals are those of a model that needs the validator."""
    body = body_of(value)
    if body is not None:
        assert outcome(PLAIN, body) == outcome(TWIN, body)


@given(good_rows)
def test_a_row_of_the_right_types_needs_no_validator(row):
    """Every row that fits is read here, so that the usual request is quick."""
    data = orjson.loads(orjson.dumps(row))
    assert read(data) == PLAIN.check_rows([row]).batch.rows[0]


@pytest.mark.parametrize(
    "body",
    [
        b'{"title": "a", "title": "b"}',
        b'{"title": "a:", "title": "b"}',
        b'{"title": "a", "title": "\\u003a"}',
        b'{"title": "a:b", "title": "\\u003a\\u003ax"}',
        b'[{"title": "a"}, {"title": "b", "title": "c"}]',
    ],
)
def test_a_key_that_stands_twice_is_found(body):
    """Colons in texts, escaped or not, do not hide that a key was lost."""
    with pytest.raises(InvalidInput, match="stands twice"):
        PLAIN.parse_json(body)


class Renamed(BaseModel):
    title: str = Field(alias="t")


class Bounded(BaseModel):
    stars: int = Field(ge=0)


class Checked(BaseModel):
    title: str

    @field_validator("title")
    def shout(cls, value: str) -> str:
        return value.upper()


class Strips(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True)
    title: str


class Forbids(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: str


class Constructs(BaseModel):
    title: str

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)


class Ends(BaseModel):
    title: str

    def model_post_init(self, _context: Any) -> None:
        self.title += "!"


class Makes(BaseModel):
    title: str = Field(default_factory=str)


class Odd(BaseModel):
    title: str = Field(default=["not", "a", "text"])  # type: ignore[assignment]


class Narrow(BaseModel):
    title: Annotated[str, Field(max_length=3)] | None = None


class Listed(BaseModel):
    title: Literal["a", "b"]


class Dated(BaseModel):
    day: date


class Inner(BaseModel):
    title: str


class Outer(BaseModel):
    inner: Inner


@pytest.mark.parametrize(
    "model",
    [
        *(Renamed, Bounded, Checked, Strips, Forbids, Constructs, Ends, Makes, Odd, Narrow),
        *(Listed, Dated, Outer, Twin),
    ],
)
def test_a_model_with_a_rule_of_its_own_is_left_to_the_validator(model):
    """Whatever goes beyond the types of plain fields is not judged here."""
    assert flat_reader(model) is None


def test_a_key_that_the_model_does_not_know_is_left_to_the_validator():
    """An unknown key may hold anything, however deep."""
    assert read({"title": "a", "other": 1}) is None
    assert PLAIN.parse_json(b'{"title": "a", "other": [1]}').rows[0][0] == "a"


odd_values = values | st.floats() | st.sampled_from(["\ud800", 2**70, b"x", float("nan")])
odd_rows = st.dictionaries(st.sampled_from(list(Plain.model_fields)), odd_values)


@given(st.lists(odd_rows | good_rows, max_size=3), st.booleans())
def test_given_rows_mean_the_same_with_and_without_the_validator(given_rows, text):
    """Also values that JSON does not know, and texts of a CSV file, pass or fail alike."""
    if text:
        given_rows = [{k: str(v) for k, v in row.items()} for row in given_rows]
    plain, twin = (schema.check_rows(given_rows, text=text) for schema in (PLAIN, TWIN))
    assert plain.positions == twin.positions
    assert plain.rejected == twin.rejected
    for mine, other in zip(plain.batch.rows, twin.batch.rows, strict=True):
        assert [(type(v), v) for v in mine] == [(type(v), v) for v in other]
