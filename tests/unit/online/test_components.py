from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from salver.online.components import Components
from salver.schema import Schema


class Leaf(BaseModel):
    n: int


class Tree(BaseModel):
    leaf: Leaf


def test_equal_schemas_are_shared() -> None:
    """Adding a model twice changes nothing."""
    components: dict[str, Any] = {}
    named = Components(components)
    first, second = (named.add_model(Schema(Tree), owner) for owner in ("A", "B"))
    assert first == second == {"$ref": "#/components/schemas/Tree"}
    assert set(components["schemas"]) == {"Tree", "Leaf"}


def test_an_unequal_schema_gets_another_name_everywhere() -> None:
    """When a part of a model clashes, what refers to it follows."""
    components: dict[str, Any] = {"schemas": {"Leaf": {"type": "string"}}}
    reference = Components(components).add_model(Schema(Tree), "A")
    schemas = components["schemas"]
    assert reference == {"$ref": "#/components/schemas/Tree"}
    assert schemas["Leaf"] == {"type": "string"}
    assert schemas["Tree"]["properties"]["leaf"] == {"$ref": "#/components/schemas/A_Leaf"}
    assert schemas["A_Leaf"]["properties"].keys() == {"n"}


def test_an_equal_schema_that_refers_to_an_unequal_one_is_not_shared() -> None:
    """Two texts may be equal and mean different parts; both live on."""
    other = {**Schema(Tree).json_schema()}
    other.pop("$defs")
    components: dict[str, Any] = {"schemas": {"Leaf": {"type": "string"}, "Tree": other}}
    reference = Components(components).add_model(Schema(Tree), "A")
    assert reference == {"$ref": "#/components/schemas/A_Tree"}
    assert components["schemas"]["A_Tree"]["properties"]["leaf"] == {
        "$ref": "#/components/schemas/A_Leaf"
    }


def test_a_plain_schema_finds_a_free_name() -> None:
    """A schema of its own gets a name that is not taken by another."""
    components: dict[str, Any] = {"schemas": {"Error": {"type": "string"}}}
    reference = Components(components).add_schema("Error", {"type": "object"})
    assert reference == {"$ref": "#/components/schemas/Error_"}
