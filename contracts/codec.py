"""The one JSON codec: strict in (RFC 8259, no NaN, no duplicate names), compact out."""

import json
from collections.abc import Iterable
from datetime import datetime
from functools import singledispatch
from typing import Any, NoReturn

from contracts.clock import rfc3339


def dumps(value: object) -> bytes:
    """*value* as compact UTF-8 JSON; datetimes become RFC 3339 text.

    Raises `ValueError` for NaN and infinities, `TypeError` for what JSON cannot say.
    """
    return _ENCODER.encode(value).encode()


def loads(data: bytes | str) -> Any:
    """Parse JSON; raises `ValueError` with a sentence for a person when it is none."""
    try:
        return _DECODER.decode(data if isinstance(data, str) else data.decode("utf-8"))
    except UnicodeDecodeError as error:
        msg = f"not UTF-8: {error.reason} at byte {error.start}"
        raise ValueError(msg) from None
    except RecursionError:
        msg = "nested too deeply"
        raise ValueError(msg) from None


@singledispatch
def encode(value: object) -> Any:
    """What JSON says for *value*, where JSON has no type of its own; services may register more."""
    msg = f"{type(value).__name__} is not JSON"
    raise TypeError(msg)


@encode.register
def _(value: datetime) -> str:
    return rfc3339(value)


def _refuse_constant(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def _unique_names(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            msg = f"the name {name!r} stands twice in one object"
            raise ValueError(msg)
        members[name] = value
    return members


_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=True, separators=(",", ":"), default=encode)
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique_names)
