"""From a query string to a `JobQuery`, and the opaque cursor of a list."""

import base64
import re
import uuid
from datetime import datetime
from typing import Any

from werkzeug.datastructures import MultiDict

from contracts.errors import ValidationFailed
from contracts.messages import JobQuery
from contracts.status import JobStatus
from gateway.moments import moment

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
MAX_LENGTHS = {"task": 63, "tag": 64, "reference": 128}
LIST_PARAMETERS = frozenset({"status", "created_after", "created_before", "limit", "cursor", *MAX_LENGTHS})
LATEST_PARAMETERS = frozenset({"status", "task"})

CURSOR_FORM = "^[A-Za-z0-9_-]{21}[AQgw]$"
"""16 bytes in base64url (RFC 4648, section 5) without padding."""
_CURSOR = re.compile(CURSOR_FORM, re.ASCII)


def job_query(args: "MultiDict[str, str]", *, allowed: frozenset[str], owner: str) -> JobQuery:
    """The query that *args* ask for; raises `ValidationFailed` naming the parameter."""
    fields: dict[str, Any] = {}
    for name, values in args.lists():
        if name not in allowed:
            raise refused(name, f"is not known; known are {', '.join(sorted(allowed))}")
        if name == "status":
            fields["status"] = _statuses(values)
            continue
        if len(values) > 1:
            raise refused(name, "is given more than once")
        value = values[0]
        if name in MAX_LENGTHS:
            if not 1 <= len(value) <= MAX_LENGTHS[name]:
                raise refused(name, f"has to be 1 to {MAX_LENGTHS[name]} characters long")
            fields[name] = value
        elif name == "limit":
            fields["limit"] = _limit(value)
        elif name == "cursor":
            fields["after_pid"] = decode_cursor(value)
        else:
            fields[name] = _moment(name, value)
    return JobQuery(owner=owner, **{"limit": DEFAULT_LIMIT, **fields})


def encode_cursor(pid: str) -> str:
    """A cursor that goes on after *pid*; clients pass it back as it is."""
    return base64.urlsafe_b64encode(uuid.UUID(pid).bytes).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """The pid in a cursor; raises `ValidationFailed` if it was never one of ours."""
    if not _CURSOR.fullmatch(cursor):
        raise refused("cursor", "is not one that a list answered with as `next`")
    return str(uuid.UUID(bytes=base64.urlsafe_b64decode(f"{cursor}==")))


def refused(parameter: str, detail: str) -> ValidationFailed:
    """The error for a query parameter, by name."""
    fault = {"parameter": parameter, "detail": detail}
    return ValidationFailed(f"The query parameter {parameter[:64]!r} {detail}.", {"errors": [fault]})


def _statuses(values: list[str]) -> list[JobStatus]:
    try:
        return [JobStatus(value) for value in dict.fromkeys(values)]
    except ValueError:
        raise refused("status", f"has to be out of {', '.join(JobStatus)}") from None


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_LIMIT)) and 1 <= int(text) <= MAX_LIMIT):
        raise refused("limit", f"has to be a whole number from 1 to {MAX_LIMIT}")
    return int(text)


def _moment(name: str, text: str) -> datetime:
    try:
        # A plus sign that was not escaped arrives as a space.
        return moment(text.replace(" ", "+"))
    except ValueError as error:
        raise refused(name, str(error)) from None
