from __future__ import annotations

from typing import Any

import pytest

from salver.online.inference import infer


@pytest.mark.parametrize(
    ("values", "schema"),
    [
        ([], {}),
        (["a", "b"], {"type": "string"}),
        ([1, 2], {"type": "integer"}),
        ([1, 2.5], {"type": "number"}),
        ([True], {"type": "boolean"}),
        (["a", None], {"type": ["null", "string"]}),
        ([[1], [], [None]], {"type": "array", "items": {"type": ["integer", "null"]}}),
        ([[]], {"type": "array", "items": {}}),
        ([{}], {"type": "object", "properties": {}}),
        (
            [{"a": 1, "b": "x"}, {"a": 2.0}],
            {
                "type": "object",
                "properties": {"a": {"type": "number"}, "b": {"type": "string"}},
                "required": ["a"],
            },
        ),
    ],
)
def test_the_schema_admits_what_was_seen(values: list[Any], schema: dict[str, Any]) -> None:
    """Types are united, and what all mappings have is required."""
    assert infer(values) == schema


def test_what_is_no_json_is_refused() -> None:
    """A value that JSON does not know has no schema."""
    with pytest.raises(TypeError):
        infer([object()])
