"""What can go wrong between a program and Coatcheck, under one base."""

from typing import Any, ClassVar


class ClientError(Exception):
    """Something went wrong on the way to Coatcheck, or there."""


class Unreachable(ClientError):
    """Nobody answers at the base URL."""


class WaitTimeout(ClientError):
    """The job did not end within the time given; it goes on."""


class NotFinished(ClientError):
    """The job has no result yet. `job` is where it stands."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        super().__init__(f"job {job['pid']} is {job['status']}")


class ApiError(ClientError):
    """A problem document (RFC 9457), or an answer that is none."""

    problem: ClassVar[str] = ""
    """The last part of the problem's type."""

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        self.status = status
        """The HTTP status."""
        self.document = document
        """All members of the problem document."""
        self.errors: list[dict[str, str]] = document.get("errors") or []
        """For a validation error: ``[{pointer, detail}]``."""
        sentence = document.get("detail") or document.get("title") or f"HTTP status {status}"
        super().__init__("\n".join([str(sentence), *(f"  {e.get('pointer')}: {e.get('detail')}" for e in self.errors)]))


class ValidationFailed(ApiError):
    """The submission is not what the task or the API understands."""

    problem = "validation"


class NotFound(ApiError):
    """There is no such job or task."""

    problem = "not-found"


class Conflict(ApiError):
    """Another job is in the way."""

    problem = "conflict"


class JobFailed(ApiError):
    """The job failed; ``document["error"]`` says why."""

    problem = "job-failed"


class JobCancelled(ApiError):
    """The job was cancelled."""

    problem = "job-cancelled"


class NotCancellable(ApiError):
    """The job had ended already."""

    problem = "not-cancellable"


class NotRetryable(ApiError):
    """The job is active or has succeeded; only one that failed or was cancelled runs again."""

    problem = "not-retryable"


class TooLarge(ApiError):
    """The body is larger than the service takes."""

    problem = "too-large"


class IdempotencyMismatch(ApiError):
    """The idempotency key belongs to another submission."""

    problem = "idempotency-mismatch"


class Unavailable(ApiError):
    """The service is not available, and was not within the time for retries."""

    problem = "unavailable"


_BY_PROBLEM = {kind.problem: kind for kind in ApiError.__subclasses__()}


def from_answer(status: int, document: dict[str, Any]) -> ApiError:
    """The error that a problem document stands for."""
    problem = str(document.get("type", "")).rpartition("/")[2]
    return _BY_PROBLEM.get(problem, ApiError)(status, document)
