"""Alive, ready, and the numbers: for probes and Prometheus."""

from flask import Blueprint, Response

from contracts.errors import NoReply, NotSent, Unavailable
from gateway.api.resource import answer
from gateway.services import Services

OK = "ok"
UNKNOWN = "unknown: it is asked through what fails above"


def blueprint(services: Services) -> Blueprint:
    """``/healthz``, ``/readyz`` and ``/metrics``."""
    pages = Blueprint("health", __name__)

    @pages.get("/healthz")
    def healthz() -> Response:
        return answer({"status": "alive"})

    @pages.get("/readyz")
    def readyz() -> Response:
        found = checks(services)
        failing = [name for name, state in found.items() if state != OK]
        if failing:
            raise Unavailable(f"Not ready: {', '.join(failing)}.", {"checks": found})
        return answer({"status": "ready", "checks": found})

    @pages.get("/metrics")
    def metrics() -> Response:
        return Response(services.metrics.text(), content_type="text/plain; version=0.0.4; charset=utf-8")

    return pages


def checks(services: Services) -> dict[str, str]:
    """What has to work before jobs can be taken, each ``ok`` or why it does not."""
    found = {"rabbitmq": services.ledger.broker_trouble or OK, "results_service": OK, "mongodb": OK}
    try:
        services.ledger.ping()
    except (NotSent, NoReply) as error:
        found |= {"results_service": error.detail, "mongodb": UNKNOWN}
    except Unavailable as error:
        found["mongodb"] = error.detail
    try:
        found["catalogue"] = OK if services.catalogue.offers().by_name else "no task was ever announced"
    except Unavailable as error:
        found["catalogue"] = error.detail
    return found
