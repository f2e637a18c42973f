from __future__ import annotations

import datetime
import decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import AliasChoices, AliasPath, Base64Bytes, BaseModel, Field

from salver.columns import (
    MAX_DEPTH,
    Unfit,
    extractor,
    fault,
    field_of,
    spellings_of,
    text_reader,
)
from salver.types import Field as Column


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Word(str, Enum):  # noqa: UP042 - unlike a StrEnum its str() is not its value
    YES = "yes"


class Level(IntEnum):
    LOW = 1


class Mixed(Enum):
    ONE = 1
    TWO = "two"


class Inner(BaseModel):
    n: int = 0


ANNOTATIONS = [
    (str, "string", False),
    (str | None, "string", True),
    (int, "int64", False),
    (Annotated[int, Field(ge=0)], "int64", False),
    (Annotated[int, Field(ge=0)] | None, "int64", True),
    (float, "float64", False),
    (bool, "bool", False),
    (bool | None, "bool", True),
    (Literal["a", "b"], "string", False),
    (Literal[1, 2], "int64", False),
    (Literal[True], "bool", False),
    (Literal["a", 1], "object", False),
    (Literal["a", None], "string", True),
    (Literal[Colour.RED], "string", False),
    (Colour, "string", False),
    (Colour | None, "string", True),
    (Word, "string", False),
    (Level, "int64", False),
    (Mixed, "object", False),
    (int | float, "object", False),
    (list[float], "object", False),
    (dict[str, int], "object", False),
    (datetime.date | None, "object", True),
    (Inner, "object", False),
    (Any, "object", False),
]


@pytest.mark.parametrize(("annotation", "dtype", "nullable"), ANNOTATIONS)
def test_a_type_decides_the_column(annotation, dtype, nullable):
    """Texts, numbers and booleans, in any dress, have columns of their own; the rest is object."""
    model = type("M", (BaseModel,), {"__annotations__": {"x": annotation}})
    assert field_of("x", model.model_fields["x"]) == Column("x", dtype, nullable)


def test_a_default_of_none_makes_a_column_nullable():
    """`n: int = None` gives None for a missing value, so its column must hold it."""

    class M(BaseModel):
        n: int = None  # type: ignore[assignment]

    assert field_of("n", M.model_fields["n"]) == Column("n", "int64", True)


class Aliased(BaseModel):
    plain: int = 0
    alias: int = Field(0, alias="a")
    validation: int = Field(0, validation_alias="v")
    writing: int = Field(0, serialization_alias="s")
    choices: int = Field(0, validation_alias=AliasChoices("c1", AliasPath("c2", "deep")))
    path: int = Field(0, validation_alias=AliasPath("p", 0))


@pytest.mark.parametrize(
    ("name", "spellings"),
    [
        ("plain", ("plain",)),
        ("alias", ("a",)),
        ("validation", ("v",)),
        ("writing", ("writing",)),
        ("choices", ("c1", "c2")),
        ("path", ("p",)),
    ],
)
def test_a_field_is_found_under_its_aliases(name, spellings):
    """A row holds a field under the aliases that pydantic reads, and under its name if allowed."""
    info = Aliased.model_fields[name]
    assert spellings_of(name, info, False) == spellings
    assert spellings_of(name, info, True) == tuple(dict.fromkeys([*spellings, name]))


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


FAULTS = [
    # value, a word of what is wrong with it
    (None, None),
    (True, None),
    ("text", None),
    ("\0 é 🙂 שלום", None),
    (2**63 - 1, None),
    (-(2**63), None),
    (1.5, None),
    ([1, {"a": [None, "b"]}], None),
    (nested(MAX_DEPTH), None),
    (nested(MAX_DEPTH + 1), "nested"),
    (nested(10_000), "nested"),
    ("\ud800", "Unicode"),
    (2**63, "64-bit"),
    (-(2**63) - 1, "64-bit"),
    (10**5000, "64-bit"),
    (float("nan"), "finite"),
    (float("-inf"), "finite"),
    ([0, [float("inf")]], "finite"),
    ({"a": {"b": 2**70}}, "64-bit"),
    ({"\udfff": 1}, "Unicode"),
    ({1, 2}, "JSON"),
    (b"bytes", "JSON"),
    (object(), "JSON"),
]


@pytest.mark.parametrize(("value", "word"), FAULTS, ids=range(len(FAULTS)))
def test_a_column_holds_json_values_within_bounds(value, word):
    """Integers of 64 bits, finite numbers, valid Unicode, bounded nesting; each fault has words."""
    found = fault(value)
    assert (found is None) if word is None else (found is not None and word in found)


@pytest.mark.parametrize(
    ("annotation", "value", "plain"),
    [
        (str, "a", "a"),
        (Colour, Colour.RED, "red"),
        (Colour | None, None, None),
        (Literal[Colour.RED], Colour.RED, "red"),
        (Level, Level.LOW, 1),
        (datetime.date, datetime.date(2024, 2, 29), "2024-02-29"),
        (tuple[int, ...], (1, 2), [1, 2]),
        (Inner, Inner(n=3), {"n": 3}),
        (decimal.Decimal, decimal.Decimal("1.50"), "1.50"),
        (Any, {"a": (1,)}, {"a": [1]}),
        (Base64Bytes, b"\xff\xef", "/+8="),
        (Base64Bytes | None, b"\xff\xef", "/+8="),
    ],
)
def test_values_reach_a_model_as_plain_json_values(annotation, value, plain):
    """Enums, dates, nested models and tuples are given to a model as JSON writes them."""
    model = type("M", (BaseModel,), {"__annotations__": {"x": annotation}})
    field = field_of("x", model.model_fields["x"])
    extracted = extractor(field, "x", annotation)({"x": value})
    assert extracted == plain
    assert type(extracted) is type(plain)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (str, "\ud800"),
        (int, 2**63),
        (float, float("nan")),
        (Any, object()),
        (Any, b"\xff"),
        (Any, nested(10_000)),
        (list[float], [float("inf")]),
    ],
    ids=range(7),
)
def test_a_value_that_fits_no_column_is_named_by_its_key(annotation, value):
    """Unfit carries the key as rows spell it, whatever the reason is."""
    model = type("M", (BaseModel,), {"__annotations__": {"x": annotation}})
    with pytest.raises(Unfit) as caught:
        extractor(field_of("x", model.model_fields["x"]), "X", annotation)({"x": value})
    (problem,) = caught.value.problems
    assert problem["path"] == ["X"]
    assert problem["type"] == "range"
    assert problem["message"].startswith("Input should")


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (str, "5", "5"),
        (str | None, "x", "x"),
        (int, "5", 5),
        (int, "5.5", "5.5"),
        (int, "9" * 5000, "9" * 5000),
        (int | None, "-5", -5),
        (Literal[1, 2], "2", 2),
        (Level, "1", 1),
        (float, "1e3", 1000.0),
        (float, "x", "x"),
        (bool, "true", True),
        (bool, "2", "2"),
        (datetime.date, "2024-02-29", "2024-02-29"),
        (datetime.datetime, "2024-02-29 10:00", "2024-02-29T10:00:00"),
        (datetime.date, "2024-02-30", "2024-02-30"),
        (list[int], "[1]", [1]),
        (list[int], "[1", "[1"),
        (int | str, "[1]", "[1]"),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (Inner, "x", "x"),
        (Any, "5", "5"),
        (int | str, "5", 5),
        (int | float, "5", 5),
        (int, None, None),
        (int, 7, 7),
    ],
)
def test_a_text_is_read_as_its_field_wants_it(annotation, text, value):
    """What cannot be read stays as it is, for the check to refuse."""
    model = type("M", (BaseModel,), {"__annotations__": {"x": annotation}})
    read = text_reader(field_of("x", model.model_fields["x"]), annotation)
    assert read(text) == value
    assert type(read(text)) is type(value)
