"""One readable page per problem type: where the ``type`` of a problem document leads."""

from html import escape

from flask import Blueprint, Response

from contracts import errors
from contracts.errors import CoatcheckError

WHAT_TO_DO: dict[type[CoatcheckError], str] = {
    CoatcheckError: "Tell the operator the correlation id: the log knows the rest. Trying again may work.",
    errors.ValidationFailed: "Each entry of errors points at one fault; correct them and send the request again.",
    errors.NotFound: "Check the address. A job that was deleted is not found either.",
    errors.Conflict: "blocking names the jobs that hold the keys; wait for them or cancel them.",
    errors.JobFailed: "error says why. Submit the job again once the cause is gone.",
    errors.JobCancelled: "Submit the job again if you want its result after all.",
    errors.NotCancellable: "Nothing: the job has its outcome already. Read it at the job's own address.",
    errors.NotRetryable: "Only a job that failed or was cancelled can be run again.",
    errors.MethodNotAllowed: "The Allow header names the methods that the address knows.",
    errors.NotAcceptable: "Send Accept: application/json, or no Accept header at all.",
    errors.TooLarge: "Send less. detail names the limit where it is about the params.",
    errors.UnsupportedMediaType: "Send JSON with Content-Type: application/json.",
    errors.IdempotencyMismatch: "Use a new Idempotency-Key for each different submission.",
    errors.Unavailable: (
        "Try again after the seconds in Retry-After. If the problem names a pid, it is unknown whether that job was "
        "stored: ask for it, or repeat the request with the same Idempotency-Key."
    ),
}
PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>body {{ font: 1.1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem }}</style>
</head>
<body>
<h1>{title}</h1>
<p>Problem type <code>{name}</code>, HTTP status {status}.</p>
<p>{meaning}</p>
<h2>What to do</h2>
<p>{advice}</p>
</body>
</html>
"""


def blueprint() -> Blueprint:
    """``/problems/<name>``."""
    pages = Blueprint("problems", __name__)
    written = {kind.problem: _write(kind, advice) for kind, advice in WHAT_TO_DO.items()}

    @pages.get("/problems/<name>")
    def problem(name: str) -> Response:
        if name not in written:
            raise errors.NotFound("There is no such problem type.")
        return Response(written[name], content_type="text/html; charset=utf-8")

    return pages


def _write(kind: type[CoatcheckError], advice: str) -> str:
    meaning = (kind.__doc__ or "").partition("\n")[0]
    return PAGE.format(
        title=escape(kind.title), name=kind.problem, status=kind.status, meaning=escape(meaning), advice=escape(advice)
    )
