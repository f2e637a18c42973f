"""Rows made up from input models."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator

from salver.engine.samples import TEXT_WORDS, sample_rows
from salver.schema import Schema


class Project(BaseModel):
    title: str = ""
    description: str


class Kind(enum.Enum):
    NEW = "new"
    OLD = "old"


class Part(BaseModel):
    name: str
    parts: list[Part] = []


class Everything(BaseModel):
    model_config = ConfigDict(extra="forbid")

    short: str = Field(max_length=5)
    long: str = Field(min_length=400)
    kind: Kind
    size: Literal["s", "m"]
    one: Literal[7]
    maybe: str | None = None
    either: int | str
    number: int
    rating: int = Field(ge=3, le=5)
    even: int = Field(multiple_of=2, gt=4)
    below: float = Field(lt=0)
    share: float = Field(gt=0, lt=1)
    narrow: Annotated[float, Field(gt=0.2, lt=0.3)]
    big: float = Field(ge=10)
    flag: bool
    day: dt.date
    moment: dt.datetime
    time: dt.time
    span: dt.timedelta
    id: uuid.UUID
    tags: list[str]
    pair: tuple[int, str]
    three: list[int] = Field(min_length=3)
    nested: Part
    scores: dict[str, float]
    anything: Any
    price: Decimal
    code: str = Field(default="AB12", pattern="^[A-Z]{2}[0-9]{2}$")
    told: str = Field(examples=["as told"])
    called: int = Field(validation_alias=AliasChoices("calledSo", "called_so"))


def test_texts_are_as_long_as_usual_ones_and_all_different() -> None:
    """A model that remembers texts would otherwise look quicker than it is."""
    batch = sample_rows(Schema(Project), [], 20)
    assert batch is not None
    assert 20 == len(batch)
    texts = [row[1] for row in batch.rows]
    assert {TEXT_WORDS} == {len(text.split()) for text in texts}
    assert 20 == len(set(texts))


def test_every_kind_of_field_can_be_made_up() -> None:
    """Bounds, enums, nested and optional values, formats and aliases are kept."""
    batch = sample_rows(Schema(Everything), [], 3)
    assert batch is not None
    row = dict(zip(batch.names, batch.rows[1], strict=True))
    assert ("new", "s", 7, "as told", "AB12") == tuple(
        row[name] for name in ("kind", "size", "one", "told", "code")
    )
    assert 0.2 < row["narrow"] < 0.3
    assert (5, 400) == (len(row["short"]), max(400, len(row["long"])))
    assert isinstance(row["maybe"], str)


def test_examples_are_repeated() -> None:
    """Golden examples are real rows, so they are used as they are."""
    given = [{"description": "a"}, {"description": "b"}]
    batch = sample_rows(Schema(Project), given, 5)
    assert batch is not None
    assert ["a", "b", "a", "b", "a"] == [row[1] for row in batch.rows]


def test_a_model_that_refuses_invention_gets_no_rows() -> None:
    """A pattern or a rule of the user's own cannot be guessed."""

    class Coded(BaseModel):
        code: str = Field(pattern="^[A-Z]{2}[0-9]{2}$")

    class Ruled(BaseModel):
        text: str

        @field_validator("text")
        @classmethod
        def is_known(cls, text: str) -> str:
            if text != "known":
                raise ValueError("unknown")
            return text

    assert sample_rows(Schema(Coded), [], 3) is None
    assert sample_rows(Schema(Ruled), [], 3) is None
    assert sample_rows(Schema(Ruled), [{"text": "known"}], 3) is not None


def test_what_may_be_absent_is_left_out_when_it_cannot_be_made() -> None:
    """Required fields alone are a row too."""

    class Optional(BaseModel):
        text: str
        code: str | None = Field(default=None, pattern="^[0-9]{4}$")

    batch = sample_rows(Schema(Optional), [], 2)
    assert batch is not None
    assert batch.rows[0][1] is None


@pytest.mark.parametrize(
    "bounds",
    [
        {"ge": 5},
        {"gt": 5},
        {"le": -5},
        {"lt": -5},
        {"ge": 7, "le": 7},
        {"gt": 6, "lt": 8},
        {"multiple_of": 25},
        {"multiple_of": 10, "ge": 95, "le": 105},
        {"multiple_of": 3, "lt": -1},
        {},
    ],
)
@pytest.mark.parametrize("kind", [int, float])
def test_numbers_stay_within_their_bounds(kind: Any, bounds: dict[str, Any]) -> None:
    """Whatever the bounds, if a whole number fits."""

    class Counted(BaseModel):
        n: kind = Field(**bounds)

    assert sample_rows(Schema(Counted), [], 1) is not None
