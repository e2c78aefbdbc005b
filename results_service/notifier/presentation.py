"""Makes values from outside (parameters, results, errors) readable and harmless in a mail."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import DBRef

MAX_ROWS = 40
"""Members of a result shown one by one."""
MAX_TEXT_LENGTH = 8_000
"""Characters of one value."""
MAX_TOTAL_LENGTH = 20_000
"""Characters of all values of one table."""
MAX_LABEL_LENGTH = 64
INLINE_LENGTH = 100
"""A longer value, or one of several lines, gets a block of its own."""
SHORTENED = " … (shortened)"

_DIRECTION_MARKS = dict.fromkeys([*range(0x200E, 0x2010), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")
_BREAKS = {0x85: "\n", 0x2028: "\n", 0x2029: "\n"}
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "\ufffd")
_ALLOWED = {ord("\n"): "\n", ord("\t"): "\t", ord("\r"): ""}
_CLEAN = _CONTROLS | _DIRECTION_MARKS | _BREAKS | _ALLOWED


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One labelled value."""

    label: str
    text: str

    @property
    def block(self) -> bool:
        """Whether it needs lines of its own."""
        return "\n" in self.text or len(self.text) > INLINE_LENGTH

    @property
    def wide(self) -> bool:
        """Whether its line breaks matter, as in an alignment: shown as it is, not wrapped."""
        return "\n" in self.text


def clean(text: str) -> str:
    """*text* without control characters and without marks that turn the direction of reading."""
    return text.encode(errors="replace").decode().translate(_CLEAN)


def one_line(text: str, limit: int) -> str:
    """*text* on one line of at most *limit* characters, safe in a header."""
    text = "".join(character if character.isprintable() else " " for character in clean(text[: 4 * limit]))
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def bounded(text: str, limit: int = MAX_TEXT_LENGTH) -> str:
    """*text*, cleaned, of at most *limit* characters and a remark that the rest is missing."""
    return clean(text) if len(text) <= limit else clean(text[:limit]) + SHORTENED


def as_text(value: Any) -> str:
    """A JSON value for a person: text as it is, what is short as JSON, the rest as an indented outline."""
    lines: list[str] = []
    left = MAX_TEXT_LENGTH + 1
    for line in _outline(_stored_form(value)):
        lines.append(line)
        left -= len(line) + 1
        if left < 0:
            break  # `bounded` says that something is missing
    return bounded("\n".join(lines)).rstrip()


def _outline(value: Any) -> Iterator[str]:
    """Lines: ``name: value``, ``- item``, deeper levels indented, text of several lines as it is."""
    short = _short(value)
    if short is not None:
        yield short
    elif isinstance(value, str):
        yield from value.splitlines()
    else:
        for name, member in value.items() if isinstance(value, dict) else (("-", item) for item in value):
            label = name if name == "-" else f"{one_line(name, MAX_LABEL_LENGTH)}:"
            short = _short(member)
            if short is not None:
                yield f"{label} {short}"
            elif name == "-":
                for index, line in enumerate(_outline(member)):
                    yield f"{'  ' if index else '- '}{line}"
            else:
                yield label
                yield from (f"  {line}" for line in _outline(member))


def _short(value: Any) -> str | None:
    """*value* on one line, if it fits on one."""
    if isinstance(value, str):
        return value if len(value) <= INLINE_LENGTH and "\n" not in value else None
    if isinstance(value, dict | list) and any(
        isinstance(item, dict | list) or (isinstance(item, str) and "\n" in item) for item in _items(value)
    ):
        return None
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= INLINE_LENGTH or not isinstance(value, dict | list) else None


def _items(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def rows(value: Any, label: str) -> list[Row]:
    """A result or parameters as a table: one row per member of an object, else one row called *label*."""
    value = _stored_form(value)
    if not isinstance(value, dict) or not value:
        return [Row(label=label, text=as_text(value))]
    table: list[Row] = []
    left = MAX_TOTAL_LENGTH
    for name, member in value.items():
        if len(table) == MAX_ROWS or left <= 0:
            table.append(Row(label="…", text=f"{len(value) - len(table)} more, not shown"))
            break
        text = as_text(member)
        text = text if len(text) <= left else text[:left] + SHORTENED
        left -= len(text)
        table.append(Row(label=one_line(str(name), MAX_LABEL_LENGTH) or "(no name)", text=text))
    return table


def moment(value: datetime) -> str:
    """A time in UTC, to the second."""
    return value.strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(seconds: float) -> str:
    """Seconds for a person: ``3.2 s``, ``4 min 05 s``, ``2 h 10 min``, ``3 d 4 h``."""
    if seconds < 60:  # noqa: PLR2004 -- the clock's own numbers
        return f"{max(seconds, 0):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:  # noqa: PLR2004
        return f"{hours} h {minutes:02} min"
    return f"{hours // 24} d {hours % 24} h"


def _stored_form(value: Any) -> Any:
    """*value* as the JSON it was; MongoDB's client reads an object with a member ``$ref`` as a ``DBRef``."""
    if isinstance(value, DBRef):
        value = value.as_doc()
    if isinstance(value, Mapping):
        return {name: _stored_form(member) for name, member in value.items()}
    return [_stored_form(item) for item in value] if isinstance(value, list) else value
