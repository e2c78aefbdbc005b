"""The one place where an error becomes an answer: problem details of RFC 9457."""

import uuid
from http import HTTPStatus
from typing import Any

from flask import Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from contracts import codec, errors
from contracts.errors import CoatcheckError
from contracts.logs import logger
from gateway.links import Links

log = logger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = {errors.Unavailable.problem: 1, errors.Conflict.problem: 5}
"""What goes away by itself, and when it is worth another try."""
FROM_FLASK: dict[int, tuple[type[CoatcheckError], str]] = {
    400: (errors.ValidationFailed, "The request is malformed."),
    404: (errors.NotFound, "There is nothing at this address."),
    405: (errors.MethodNotAllowed, "This resource does not know the method."),
    406: (errors.NotAcceptable, "The answer is JSON, which the Accept header excludes."),
    413: (errors.TooLarge, "The body is larger than the service takes."),
    415: (errors.UnsupportedMediaType, "The body has to be JSON, sent as application/json."),
}


class Problems:
    """Turns exceptions into responses."""

    def __init__(self, links: Links) -> None:
        self._links = links

    def respond(self, error: Exception) -> Response:
        """The answer for *error*: ours, Flask's, or one that nobody foresaw (500, logged, no internals)."""
        if isinstance(error, HTTPException):
            return self._from_flask(error)
        if isinstance(error, CoatcheckError) and error.status != HTTPStatus.INTERNAL_SERVER_ERROR:
            return self._answer(error)
        return self._unforeseen(error)

    def _answer(self, error: CoatcheckError) -> Response:
        response = self._document(
            error.status, error.title, error.detail, error.members, type_url=self._links.problem(error.problem)
        )
        if (seconds := RETRY_AFTER_SECONDS.get(error.problem)) is not None:
            response.headers["Retry-After"] = str(seconds)
        return response

    def _from_flask(self, error: HTTPException) -> Response:
        status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
        if status < HTTPStatus.BAD_REQUEST:
            return Response(headers=error.get_headers(), status=status, response=error.get_body())
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            return self._unforeseen(error)
        if known := FROM_FLASK.get(status):
            kind, detail = known
            response = self._answer(kind(detail))
        else:
            response = self._document(status, HTTPStatus(status).phrase, error.description or "", {}, "about:blank")
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response

    def _unforeseen(self, error: Exception) -> Response:
        correlation_id = uuid.uuid4().hex
        log.error(
            "A request ended in an error that nobody foresaw.",
            action="request_failed",
            correlation_id=correlation_id,
            method=request.method,
            path=request.path,
            exc_info=error,
        )
        return self._document(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            CoatcheckError.title,
            "Something went wrong on our side. The log knows more under the correlation id.",
            {"correlation_id": correlation_id},
            type_url=self._links.problem(CoatcheckError.problem),
        )

    def _document(self, status: int, title: str, detail: str, members: dict[str, Any], type_url: str) -> Response:
        document = {"type": type_url, "title": title, "status": int(status), "detail": detail}
        response = Response(codec.dumps(document | members | document), status=status, content_type=MEDIA_TYPE)
        response.headers["Cache-Control"] = "no-store"
        return response
