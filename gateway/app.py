"""`create_app`: wires the gateway. Served by gunicorn: ``gunicorn -c python:gateway.gunicorn_conf``."""

import time

from flask import Flask, Response, redirect, request

from contracts import logs
from contracts.clock import SystemClock
from contracts.settings import load
from gateway import deadline
from gateway.api import health, problem_pages
from gateway.api.routes import Api, PidConverter
from gateway.catalogue import TaskCatalogue
from gateway.ledger import Ledger
from gateway.links import PREFIX, Links
from gateway.metrics import Metrics
from gateway.problems import Problems
from gateway.rpc_ledger import RpcLedger
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.swagger import SwaggerDocument

ARRIVED = "coatcheck.arrived"
CLOSERS = "coatcheck.closers"


def create_app(settings: GatewaySettings | None = None, ledger: Ledger | None = None) -> Flask:
    """The gateway as a WSGI application.

    Without *settings* they come from the environment. Without *ledger* it connects to RabbitMQ and
    starts threads, so it has to be called after the fork; end them with `close`.
    """
    settings = settings or load(GatewaySettings)
    metrics = Metrics()
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes + 1
    closers = app.extensions[CLOSERS] = []
    if ledger is None:
        logs.configure(level=settings.log_level, fmt=settings.log_format, service="gateway")
        rpc_ledger = RpcLedger(settings, metrics)
        catalogue = _catalogue(rpc_ledger, settings)
        catalogue.start()
        rpc_ledger.start(on_catalogue_changed=catalogue.changed)
        closers += [rpc_ledger.close, catalogue.close]
        ledger = rpc_ledger
    else:
        catalogue = _catalogue(ledger, settings)
    links = Links(settings.base_url)
    services = Services(
        ledger=ledger,
        catalogue=catalogue,
        links=links,
        metrics=metrics,
        document=SwaggerDocument(catalogue, settings.base_url),
        max_body_bytes=settings.max_body_bytes,
    )
    app.url_map.converters["pid"] = PidConverter
    Api(app, services, Problems(links))
    app.register_blueprint(health.blueprint(services))
    app.register_blueprint(problem_pages.blueprint())
    app.add_url_rule("/", "home", lambda: redirect(f"{PREFIX}/"))
    _watch_requests(app, metrics, settings.rpc_timeout_seconds)
    return app


def close(app: Flask) -> None:
    """End what `create_app` started."""
    for closer in app.extensions[CLOSERS]:
        closer()


def _catalogue(ledger: Ledger, settings: GatewaySettings) -> TaskCatalogue:
    return TaskCatalogue(ledger.catalogue, clock=SystemClock(), refresh_seconds=settings.catalogue_refresh_seconds)


def _watch_requests(app: Flask, metrics: Metrics, limit: float) -> None:
    """Give every request its deadline, its measurement and its security headers."""

    @app.before_request
    def begin() -> None:
        request.environ[ARRIVED] = time.monotonic()
        deadline.begin(limit)

    @app.after_request
    def end(response: Response) -> Response:
        rule = request.url_rule
        seconds = time.monotonic() - request.environ[ARRIVED]
        metrics.request(request.method, "unmatched" if rule is None else rule.rule, response.status_code, seconds)
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response
