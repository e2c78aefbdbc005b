"""The lock keys of a submission: those it names, and those that its task's templates make of the params."""

import json
import re
from collections.abc import Iterator
from itertools import islice, product
from typing import Any

from contracts.bounds import MAX_LOCK_BYTES, MAX_LOCKS, Fault
from contracts.catalogue import CatalogueEntry

_FIELD = re.compile(r"\{\{|\}\}|\{(\w+)\}")


def lock_keys(entry: CatalogueEntry, params: dict[str, Any], asked: list[str]) -> tuple[list[str], list[Fault]]:
    """All keys, sorted, and what is wrong with them.

    A template's ``{name}`` stands for the param of that name, or its default; a list makes one key per
    member. A template that names a param without a value makes no key.
    """
    defaults = {name: schema.get("default") for name, schema in entry.params_schema.get("properties", {}).items()}
    keys = {key for template in entry.locks for key in _render(template, defaults | params)}
    faults = [
        Fault(pointer="/params", detail=f"makes a lock key of more than {MAX_LOCK_BYTES} bytes: {key[:40]}…")
        for key in sorted(keys)
        if len(key.encode()) > MAX_LOCK_BYTES
    ]
    keys.update(asked)
    if len(keys) > MAX_LOCKS:
        faults.append(Fault(pointer="/locks", detail=f"there are more than {MAX_LOCKS} lock keys"))
    return sorted(keys), faults


def _render(template: str, values: dict[str, Any]) -> Iterator[str]:
    names = list(dict.fromkeys(name for name in _FIELD.findall(template) if name))
    members = [_members(values.get(name)) for name in names]
    for combination in islice(product(*members), MAX_LOCKS + 1):
        texts = dict(zip(names, combination, strict=True))
        yield _FIELD.sub(lambda match, texts=texts: texts[match[1]] if match[1] else match[0][0], template)  # type: ignore[misc]


def _members(value: Any) -> list[str]:
    if value is None:
        return []
    return [_text(member) for member in islice(value, MAX_LOCKS + 1)] if isinstance(value, list) else [_text(value)]


def _text(value: Any) -> str:
    """As in JSON, but without quotes around a text."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
