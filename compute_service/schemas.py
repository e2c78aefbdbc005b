"""JSON Schema 2020-12 of parameters and results, closed: unknown members are refused all the way down."""

from collections.abc import Iterator
from typing import Any

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_MAPS = ("properties", "$defs", "patternProperties", "dependentSchemas")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLES = ("items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else")


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """*schema* with its dialect named and every object that lists its members closed.

    A map (``dict[str, int]``) lists none and stays as it is. Raises `ValueError` for an object that
    says it takes any member: what it takes could not be validated or shown in a form.
    """
    for node in _nodes(schema):
        if "properties" not in node:
            continue
        if node.get("additionalProperties") not in (None, False):
            msg = f"{node.get('title', 'an object')} takes members that it does not declare (extra='allow')"
            raise ValueError(msg)
        node["additionalProperties"] = False
    return {"$schema": DIALECT, **schema}


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(schema, dict):
        return
    yield schema
    for keyword in _MAPS:
        for member in schema.get(keyword, {}).values():
            yield from _nodes(member)
    for keyword in _LISTS:
        for member in schema.get(keyword, []):
            yield from _nodes(member)
    for keyword in _SINGLES:
        yield from _nodes(schema.get(keyword))
