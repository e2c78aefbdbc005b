"""JSON Schema 2020-12 as Swagger 2.0 can say it.

Swagger 2.0 knows a part of JSON Schema draft 4 and a few words of its own. What it cannot say is
left out, so the result accepts at least what the original accepts: bodies are validated against the
original, never against this.
"""

import re
from typing import Any

Schema = dict[str, Any]

KEPT = frozenset(
    {
        "title", "description", "default", "format", "multipleOf", "maximum", "minimum", "maxLength", "minLength",
        "pattern", "maxItems", "minItems", "uniqueItems", "maxProperties", "minProperties", "required", "enum",
        "example", "readOnly",
    }
)  # fmt: skip
NULL = {"type": "null"}
NULLABLE = "x-nullable"


class Downgrade:
    """Converts one document's schemas; what ``$ref`` points at becomes an entry of *definitions*.

    Their names begin with *prefix*, so several documents can share one *definitions*.
    """

    def __init__(self, document: Schema, prefix: str, definitions: dict[str, Schema]) -> None:
        self._document = document
        self._prefix = prefix
        self._definitions = definitions

    def convert(self, schema: Schema | bool) -> Schema:  # noqa: FBT001 -- a schema may be true or false
        """*schema*, a part of the document, in the words of Swagger 2.0."""
        if isinstance(schema, bool):
            return {}
        found: Schema = {word: schema[word] for word in KEPT if word in schema}
        if "examples" in schema and "example" not in found and schema["examples"]:
            found["example"] = schema["examples"][0]
        self._type(schema, found)
        self._bounds(schema, found)
        self._members(schema, found)
        if "$ref" in schema:
            _put(found, {"$ref": f"#/definitions/{self._define(schema['$ref'])}"})
        for word in ("anyOf", "oneOf"):
            if word in schema:
                self._choice(schema[word], found)
        if "allOf" in schema:
            found.setdefault("allOf", []).extend(self.convert(part) for part in schema["allOf"])
        if found.get("default", ...) is None:
            del found["default"]
        if list(found) == ["allOf"] and len(found["allOf"]) == 1:
            return dict(found["allOf"][0])
        return found

    def _type(self, schema: Schema, found: Schema) -> None:
        names = schema.get("type", [])
        names = [names] if isinstance(names, str) else list(names)
        if "const" in schema:
            found["enum"] = [schema["const"]]
        if "enum" in found and None in found["enum"]:
            found["enum"] = [value for value in found["enum"] if value is not None]
            found[NULLABLE] = True
        if "null" in names:
            names.remove("null")
            found[NULLABLE] = True
        if len(names) == 1:
            found["type"] = names[0]
            if names[0] == "integer":
                found.setdefault("format", "int64")  # what the ledger keeps
        elif names:
            _say(found, f"One of: {', '.join(names)}.")

    def _bounds(self, schema: Schema, found: Schema) -> None:
        for word, exclusive, tighter in (
            ("minimum", "exclusiveMinimum", max),
            ("maximum", "exclusiveMaximum", min),
        ):
            limit = schema.get(exclusive)
            if limit is None or isinstance(limit, bool):
                continue
            if word not in schema or tighter(limit, schema[word]) == limit:
                found[word], found[exclusive] = limit, True

    def _members(self, schema: Schema, found: Schema) -> None:
        if "properties" in schema:
            found["properties"] = {
                name: _untitled(name, self.convert(member)) for name, member in schema["properties"].items()
            }
        if "additionalProperties" in schema:
            others = schema["additionalProperties"]
            found["additionalProperties"] = others if isinstance(others, bool) else self.convert(others)
        if "patternProperties" in schema and not found.get("additionalProperties", True):
            found["additionalProperties"] = True
        if found.get("type") == "array":
            found["items"] = self._items(schema)

    def _items(self, schema: Schema) -> Schema:
        if "prefixItems" not in schema:
            return self.convert(schema.get("items", True))
        places = [self.convert(place) for place in schema["prefixItems"]]
        rest = schema.get("items", True)
        if rest is not False and len(places) < schema.get("maxItems", len(places) + 1):
            places.append(self.convert(rest))
        return places[0] if all(place == places[0] for place in places) else _loosest(places)

    def _choice(self, choices: list[Schema | bool], found: Schema) -> None:
        real = [choice for choice in choices if choice != NULL]
        if len(real) < len(choices):
            found[NULLABLE] = True
        converted = [self.convert(choice) for choice in real]
        if len(converted) == 1:
            _put(found, converted[0])
            return
        for word, value in _loosest(converted).items():
            found.setdefault(word, value)
        _say(found, f"One of: {', '.join(_name(choice) for choice in converted)}.")
        found["x-anyOf"] = converted

    def _define(self, reference: str) -> str:
        name = self._prefix + re.sub(r"[^A-Za-z0-9_.-]", "_", reference.lstrip("#").rpartition("/")[2] or "Root")
        if name not in self._definitions:
            self._definitions[name] = {}  # a schema may refer to itself
            self._definitions[name] = self.convert(self._resolve(reference))
        return name

    def _resolve(self, reference: str) -> Schema:
        place: Any = self._document
        for token in reference.removeprefix("#").split("/")[1:]:
            place = place[token.replace("~1", "/").replace("~0", "~")]
        return place if isinstance(place, dict) else {}


def _put(found: Schema, only: Schema) -> None:
    """Let *found* be *only*, with what it says already; beside a ``$ref`` Swagger 2.0 reads nothing."""
    if "$ref" in only:
        found.setdefault("allOf", []).append(only)
        return
    for word, value in only.items():
        found.setdefault(word, value)


def _loosest(choices: list[Schema]) -> Schema:
    """What all *choices* have in common, of type and enum."""
    types = {choice.get("type") for choice in choices}
    if types == {"integer", "number"}:
        return {"type": "number"}
    if len(types) != 1 or None in types:
        return {}
    found: Schema = {"type": types.pop()}
    if found["type"] == "array":
        found["items"] = {}
    if all("enum" in choice for choice in choices):
        found["enum"] = [value for choice in choices for value in choice["enum"]]
    return found


def _name(choice: Schema) -> str:
    if "$ref" in choice:
        return str(choice["$ref"]).rpartition("/")[2].rpartition(".")[2]
    words = [str(choice.get("title") or choice.get("type") or "any")]
    return " ".join([*words, f"({choice['format']})"] if "format" in choice else words)


def _untitled(name: str, schema: Schema) -> Schema:
    """*schema* without a title that only repeats its member's *name*, as pydantic writes them."""
    if schema.get("title") == name.replace("_", " ").title():
        del schema["title"]
    return schema


def _say(found: Schema, sentence: str) -> None:
    found["description"] = f"{found['description']} {sentence}" if found.get("description") else sentence
