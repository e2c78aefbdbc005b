"""The one generator of ids."""

import re

import uuid_utils

_PID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")


def new_id() -> str:
    """A UUIDv7 (RFC 9562, section 5.7) in its canonical text form: sorts by time of creation."""
    return str(uuid_utils.uuid7())


def is_pid(text: str) -> bool:
    """Whether *text* has the form of a ``pid``; says nothing about whether the job exists."""
    return _PID.match(text) is not None
