from typing import Any

import pytest

from gateway.schema_downgrade import Downgrade


def convert(schema: dict[str, Any]):
    return Downgrade(schema, "t.", {}).convert(schema)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": "string", "x-nullable": True}),
        ({"type": ["string", "null"]}, {"type": "string", "x-nullable": True}),
        ({"enum": ["a", None]}, {"enum": ["a"], "x-nullable": True}),
        ({"const": "a"}, {"enum": ["a"]}),
        ({"type": "number", "exclusiveMinimum": 0}, {"type": "number", "minimum": 0, "exclusiveMinimum": True}),
        (
            {"type": "number", "minimum": 5, "exclusiveMinimum": 0, "maximum": 9, "exclusiveMaximum": 9},
            {"type": "number", "minimum": 5, "maximum": 9, "exclusiveMaximum": True},
        ),
        ({"type": "integer"}, {"type": "integer", "format": "int64"}),
        ({"examples": ["x", "y"]}, {"example": "x"}),
        ({"type": "array"}, {"type": "array", "items": {}}),
        (
            {"type": "array", "prefixItems": [{"type": "string"}, {"type": "string"}], "items": False},
            {"type": "array", "items": {"type": "string"}},
        ),
        ({"type": "array", "prefixItems": [{"type": "string"}, {"type": "boolean"}]}, {"type": "array", "items": {}}),
        ({"default": None, "anyOf": [{"type": "boolean"}, {"type": "null"}]}, {"type": "boolean", "x-nullable": True}),
        ({"additionalProperties": {"type": "string"}}, {"additionalProperties": {"type": "string"}}),
        (
            {"additionalProperties": False, "patternProperties": {"^x": {}}},
            {"additionalProperties": True},
        ),
        ({"properties": {"anything": True}}, {"properties": {"anything": {}}}),
        (
            {"properties": {"a_b": {"title": "A B"}, "c": {"title": "Sea"}}},
            {"properties": {"a_b": {}, "c": {"title": "Sea"}}},
        ),
        ({"$schema": "x", "$comment": "y", "deprecated": True, "if": {}, "unevaluatedProperties": False}, {}),
    ],
)
def test_words(schema: dict[str, Any], expected: dict[str, Any]):
    """Each word of 2020-12 becomes what Swagger 2.0 has for it, or is left out."""
    assert convert(schema) == expected


def test_a_choice_keeps_what_its_branches_share():
    """Swagger 2.0 knows no anyOf: the common type stays, the branches are told in words."""
    number = convert({"anyOf": [{"type": "integer"}, {"type": "number", "title": "Ratio"}]})
    assert (number["type"], number["description"]) == ("number", "One of: integer (int64); Ratio.".replace(";", ","))
    assert "type" not in convert({"oneOf": [{"type": "integer"}, {"type": "string"}]})
    assert convert({"anyOf": [{"const": "a", "type": "string"}, {"enum": ["b"], "type": "string"}]})["enum"] == [
        "a",
        "b",
    ]


def test_references_become_definitions():
    """What $ref names becomes a definition under the prefix, also if it refers to itself."""
    definitions = {}
    schema = {
        "type": "object",
        "properties": {"head": {"$ref": "#/$defs/Node", "description": "First."}, "other": {"$ref": "#/$defs/Node"}},
        "$defs": {
            "Node": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}}}
        },
    }
    converted = Downgrade(schema, "t.", definitions).convert(schema)
    node = {"$ref": "#/definitions/t.Node"}
    assert converted["properties"]["head"] == {"description": "First.", "allOf": [node]}
    assert converted["properties"]["other"] == node
    assert definitions == {
        "t.Node": {"type": "object", "properties": {"next": {"x-nullable": True, "allOf": [node]}}},
    }


def test_a_document_may_refer_to_its_root():
    """A recursive schema at the top does not go round in circles."""
    definitions = {}
    schema = {"type": "object", "properties": {"child": {"$ref": "#"}}}
    converted = Downgrade(schema, "t.", definitions).convert(schema)
    assert converted["properties"]["child"]["$ref"].removeprefix("#/definitions/") in definitions
