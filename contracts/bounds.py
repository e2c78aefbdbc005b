"""What a JSON value may be before it enters the ledger, as parameters or as a result."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_JSON_BYTES = 256 * 1024
MAX_NESTING = 64
MAX_LOCKS = 256
MAX_LOCK_BYTES = 256
"""Of one key, in UTF-8."""
INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One thing that is wrong, and where: an RFC 6901 pointer and a sentence."""

    pointer: str
    detail: str


def faults(value: Any, pointer: str = "", depth: int = 0) -> Iterator[Fault]:
    """Everything in *value* that the ledger refuses: depth, integers over 64 bits, NUL, surrogates."""
    if depth > MAX_NESTING:
        yield Fault(pointer=pointer, detail=f"nested deeper than {MAX_NESTING} levels")
    elif isinstance(value, dict):
        for name, member in value.items():
            here = f"{pointer}/{escape(name)}"
            if fault := _text_fault(name):
                yield Fault(pointer=here, detail=f"its name {fault}")
            yield from faults(member, here, depth + 1)
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from faults(member, f"{pointer}/{index}", depth + 1)
    elif fault := _scalar_fault(value):
        yield Fault(pointer=pointer, detail=fault)


def escape(name: str) -> str:
    """One member name as a reference token (RFC 6901, section 3)."""
    return name.replace("~", "~0").replace("/", "~1")


def _scalar_fault(value: Any) -> str | None:
    if isinstance(value, str):
        return _text_fault(value)
    if isinstance(value, int) and value not in INT64:  # a bool is an int, and fits
        return "does not fit into a 64-bit integer"
    if isinstance(value, float) and not math.isfinite(value):
        return "is not a finite number"
    return None


def _text_fault(text: str) -> str | None:
    if text.isascii():
        return "contains a NUL character" if "\0" in text else None
    if "\0" in text:
        return "contains a NUL character"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "contains a lone surrogate"
    return None
