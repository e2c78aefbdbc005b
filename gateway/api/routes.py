"""Which resource answers where, on Flask-RESTX; errors and the document are our own."""

from importlib.resources import files
from typing import Any

import flask_restx
from flask import Flask, Response, redirect
from werkzeug.routing import BaseConverter

from gateway.api.jobs import Job, JobCancellation, JobResult, JobRetry, Jobs, LatestJob
from gateway.api.queues import Queues
from gateway.api.resource import JSON, Resource
from gateway.api.tasks import Task, TaskJobs, Tasks
from gateway.links import PREFIX
from gateway.problems import Problems
from gateway.services import Services

ROUTES: tuple[tuple[type[Resource], str], ...] = (
    (Tasks, "/tasks"),
    (Task, "/tasks/<task>"),
    (TaskJobs, "/tasks/<task>/jobs"),
    (Jobs, "/jobs"),
    (LatestJob, "/jobs/latest"),
    (Job, "/jobs/<pid:pid>"),
    (JobResult, "/jobs/<pid:pid>/result"),
    (JobCancellation, "/jobs/<pid:pid>/cancel"),
    (Queues, "/queues"),
    (JobRetry, "/jobs/<pid:pid>/retry"),
)


class PidConverter(BaseConverter):
    """A pid, or what somebody took for one; but not the name of another resource at its place."""

    regex = r"(?!latest(?:/|$))[^/]+"


class Document(Resource):
    """``/swagger.json``."""

    def get(self) -> Response:
        """The document behind Swagger UI."""
        response = Response(self.services.document.current(), content_type=JSON)
        response.headers["Cache-Control"] = "no-cache"
        return response


class Api(flask_restx.Api):
    """Flask-RESTX with its errors, its root and its document replaced."""

    def __init__(self, app: Flask, services: Services, problems: Problems) -> None:
        self._services = services
        self._problems = problems
        self._page = files("gateway.api").joinpath("swagger_ui.html").read_text(encoding="utf-8")
        super().__init__(app, title="Coatcheck", prefix=PREFIX, doc=f"{PREFIX}/")
        for resource, rule in ROUTES:
            self.add_resource(resource, rule, resource_class_args=(services,))

    def error_router(self, _original_handler: Any, error: Exception) -> Response:
        """Every error of the whole application, API or not, becomes a problem document."""
        return self._problems.respond(error)

    def handle_error(self, error: Exception) -> Response:
        """See `error_router`."""
        return self._problems.respond(error)

    def render_doc(self) -> Response:
        """Swagger UI, from the assets that Flask-RESTX brings along."""
        return Response(self._page, content_type="text/html; charset=utf-8")

    def render_root(self) -> Any:
        """The base of the API leads to its documentation."""
        return redirect(f"{PREFIX}/")

    def _register_specs(self, app: Flask) -> None:
        self._register_view(
            app,
            Document,
            self.default_namespace,
            "/swagger.json",
            endpoint="specs",
            resource_class_args=(self._services,),
        )
        self.endpoints.add("specs")
