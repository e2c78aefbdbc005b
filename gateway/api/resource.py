"""What all JSON resources share: how they get their services, and how they read and answer."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import flask_restx
from flask import Response, request
from werkzeug.datastructures import Headers

from contracts import codec
from contracts.errors import NotAcceptable, TooLarge, UnsupportedMediaType
from gateway.services import Services

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

JSON = "application/json"
NO_STORE = "no-store"
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Resource(flask_restx.Resource):
    """One object per application serves every request, so there is no state in it."""

    init_every_request = False

    def __init__(self, api: flask_restx.Api, services: Services) -> None:
        super().__init__(api)
        self.services = services

    def dispatch_request(self, **arguments: str) -> Response:
        """Refuse what could not be answered (406), then go on."""
        ensure_json_is_acceptable()
        response: Response = super().dispatch_request(**arguments)
        return response

    def json_body(self) -> bytes:
        """The request's body; raises `UnsupportedMediaType` or `TooLarge`."""
        if request.mimetype != JSON:
            raise UnsupportedMediaType
        # Of a body without a length Flask hands out no more than its own limit, which is one byte above ours.
        body = request.get_data(cache=False)
        if len(body) > self.services.max_body_bytes:
            raise TooLarge(f"The body is larger than {self.services.max_body_bytes} bytes.")
        return body


def ensure_json_is_acceptable() -> None:
    """Raise `NotAcceptable` if the Accept header surely excludes JSON (RFC 9110, section 12.5.1)."""
    accept = request.environ.get("HTTP_ACCEPT")
    if accept in {None, "", "*/*", JSON}:
        return
    if "/" in accept and not request.accept_mimetypes.quality(JSON):
        raise NotAcceptable("The answer is JSON, which the Accept header excludes.")


class Answer(Response):
    """A response whose headers are complete: spares what Werkzeug would do to make them so."""

    def get_wsgi_headers(self, environ: "WSGIEnvironment") -> Headers:  # noqa: ARG002 -- Werkzeug's signature
        """The headers as they are."""
        return self.headers


def answer(value: Any, status: int = HTTPStatus.OK, headers: Mapping[str, str] = NO_HEADERS) -> Response:
    """A JSON answer about jobs: nobody on the way may keep it."""
    body = codec.dumps(value)
    complete = {"Content-Type": JSON, "Content-Length": str(len(body)), "Cache-Control": NO_STORE, **headers}
    return Answer(body, status=status, headers=complete)
