"""Times as clients write them (RFC 3339, section 5.6)."""

import re
from datetime import UTC, datetime

_FORM = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def moment(text: str) -> datetime:
    """*text* as an aware datetime in UTC, cut to milliseconds; raises `ValueError` with a clause."""
    if not _FORM.fullmatch(text):
        msg = "has to be a time with an offset such as 2030-01-31T08:00:00Z (RFC 3339)"
        raise ValueError(msg)
    try:
        found = datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        msg = "is not a time that exists"
        raise ValueError(msg) from None
    return found.replace(microsecond=found.microsecond // 1000 * 1000)
