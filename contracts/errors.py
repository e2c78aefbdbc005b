"""Every error that one part of Coatcheck tells another, under one base.

An error crosses the broker as its class name, a sentence, and members for the problem document
(RFC 9457), and is raised again on the other side as the same class.
"""

from typing import Any, ClassVar


class CoatcheckError(Exception):
    """Something went wrong in Coatcheck."""

    problem: ClassVar[str] = "internal"
    """The last part of the problem type, ``/problems/<name>``."""
    status: ClassVar[int] = 500
    """The HTTP status."""
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str | None = None, members: dict[str, Any] | None = None) -> None:
        self.detail = detail or (type(self).__doc__ or "").partition("\n")[0]
        self.members = members or {}
        super().__init__(self.detail, self.members)

    def __str__(self) -> str:
        return self.detail


class ValidationFailed(CoatcheckError):
    """The request is not what the service understands."""

    problem = "validation"
    status = 400
    title = "The request is not valid"


class NotFound(CoatcheckError):
    """There is no such thing."""

    problem = "not-found"
    status = 404
    title = "Not found"


class Conflict(CoatcheckError):
    """Another active job holds a lock that this one asks for."""

    problem = "conflict"
    status = 409
    title = "Another job is in the way"


class JobFailed(CoatcheckError):
    """The job failed, so there is no result."""

    problem = "job-failed"
    status = 409
    title = "The job failed"


class JobCancelled(CoatcheckError):
    """The job was cancelled, so there is no result."""

    problem = "job-cancelled"
    status = 409
    title = "The job was cancelled"


class NotCancellable(CoatcheckError):
    """The job has already ended."""

    problem = "not-cancellable"
    status = 409
    title = "The job has already ended"


class NotRetryable(CoatcheckError):
    """Only a job that failed or was cancelled can be run again."""

    problem = "not-retryable"
    status = 409
    title = "The job cannot be run again"


class MethodNotAllowed(CoatcheckError):
    """The resource does not know this method."""

    problem = "method-not-allowed"
    status = 405
    title = "Method not allowed"


class NotAcceptable(CoatcheckError):
    """None of the acceptable representations exist."""

    problem = "not-acceptable"
    status = 406
    title = "Not acceptable"


class TooLarge(CoatcheckError):
    """The body is larger than the service takes."""

    problem = "too-large"
    status = 413
    title = "Too large"


class UnsupportedMediaType(CoatcheckError):
    """The body has to be JSON, sent as ``application/json``."""

    problem = "unsupported-media-type"
    status = 415
    title = "Unsupported media type"


class IdempotencyMismatch(CoatcheckError):
    """The idempotency key belongs to a submission with another payload."""

    problem = "idempotency-mismatch"
    status = 422
    title = "The idempotency key was used for something else"


class Unavailable(CoatcheckError):
    """A part of the service is away; try again shortly."""

    problem = "unavailable"
    status = 503
    title = "The service is not available right now"


class NotSent(Unavailable):
    """The broker is away, so nothing was sent and nothing changed; try again shortly."""


class NoReply(Unavailable):
    """No answer came in time, so it is unknown whether the request took effect."""


def _subclasses(base: type[CoatcheckError]) -> dict[str, type[CoatcheckError]]:
    return {base.__name__: base} | {
        name: found for child in base.__subclasses__() for name, found in _subclasses(child).items()
    }


def to_wire(error: Exception) -> dict[str, Any]:
    """*error* in the form of Nameko's RPC reply; what is not ours loses its text."""
    if not isinstance(error, CoatcheckError):
        error = CoatcheckError(f"{type(error).__name__} in the results service; its log has the rest.")
    return {
        "exc_type": type(error).__name__,
        "exc_path": f"{type(error).__module__}.{type(error).__name__}",
        "exc_args": [error.detail, error.members],
        "value": error.detail,
    }


def from_wire(error: dict[str, Any]) -> CoatcheckError:
    """The error that the other side raised; an unknown kind becomes the base class."""
    kind = _subclasses(CoatcheckError).get(str(error.get("exc_type")))
    args = error.get("exc_args") or []
    if kind is None:
        return CoatcheckError(f"{error.get('exc_type')}: {error.get('value')}")
    detail = args[0] if args and isinstance(args[0], str) else None
    members = args[1] if len(args) > 1 and isinstance(args[1], dict) else None
    return kind(detail, members)
