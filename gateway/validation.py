"""A task's params against its JSON Schema 2020-12, with every fault and where it is."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import jsonschema_rs

from contracts.bounds import Fault, escape

MAX_FAULTS = 50
"""Faults that one answer names."""
MAX_DETAIL_CHARACTERS = 300
"""A fault quotes the value it is about; more than this of it helps nobody."""


class ParamsValidator:
    """A compiled schema; raises `ValueError` when it is none, or refers to other documents."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema
        try:
            self._compiled = jsonschema_rs.Draft202012Validator(schema, validate_formats=True, offline=True)
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
            raise ValueError(str(error)) from error

    def faults(self, params: dict[str, Any], pointer: str) -> list[Fault]:
        """What is wrong with *params*, which stand at *pointer* in the body; at most `MAX_FAULTS`."""
        if self._compiled.is_valid(params):
            return []
        found = (fault for error in self._compiled.iter_errors(params) for fault in _describe(error, pointer))
        return list(islice(found, MAX_FAULTS))


def shorten(detail: str) -> str:
    """*detail*, cut where it gets too long to read."""
    return detail if len(detail) <= MAX_DETAIL_CHARACTERS else f"{detail[: MAX_DETAIL_CHARACTERS - 1]}…"


def _describe(error: jsonschema_rs.ValidationError, pointer: str) -> Iterator[Fault]:
    here = pointer + "".join(f"/{escape(str(token))}" for token in error.instance_path)
    kind = error.kind
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        yield Fault(pointer=f"{here}/{escape(kind.property)}", detail="is required")
    elif isinstance(kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
        for name in kind.unexpected:
            yield Fault(pointer=f"{here}/{escape(name)}", detail="is not a known field")
    elif isinstance(kind, jsonschema_rs.ValidationErrorKind.AnyOf | jsonschema_rs.ValidationErrorKind.OneOfNotValid):
        choices = dict.fromkeys(branch[0].message for branch in kind.context if branch)
        yield Fault(pointer=here, detail=shorten("; and ".join(choices) or error.message))
    else:
        yield Fault(pointer=here, detail=shorten(error.message))
