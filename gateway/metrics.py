"""What Prometheus reads: requests by route and status, RPCs by method and outcome."""

from prometheus_client import (
    CollectorRegistry,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

disable_created_metrics()  # type: ignore[no-untyped-call]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
"""Other methods are counted together, so that a client cannot make series without end."""


class Metrics:
    """One registry per application; the histograms count as well as time."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Histogram(
            "coatcheck_http_request_seconds",
            "Seconds from a request's arrival in the application to its answer.",
            ("method", "route", "status"),
            registry=self.registry,
            buckets=SECONDS,
        )
        self._rpcs = Histogram(
            "coatcheck_rpc_seconds",
            "Seconds that calls of the results service took.",
            ("method", "outcome"),
            registry=self.registry,
            buckets=SECONDS,
        )
        self._request_series: dict[tuple[str, str, int], Histogram] = {}
        self._rpc_series: dict[tuple[str, str], Histogram] = {}

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        key = (method, route, status)
        series = self._request_series.get(key)
        if series is None:
            series = self._requests.labels(method if method in METHODS else "other", route, str(status))
            if method in METHODS:
                self._request_series[key] = series
        series.observe(seconds)

    def rpc(self, method: str, outcome: str, seconds: float) -> None:
        """Count one call; *outcome* is ``ok``, ``error``, ``no_reply`` or ``not_sent``."""
        series = self._rpc_series.get((method, outcome))
        if series is None:
            series = self._rpc_series[method, outcome] = self._rpcs.labels(method, outcome)
        series.observe(seconds)

    def text(self) -> bytes:
        """Everything in the text format of Prometheus."""
        return generate_latest(self.registry)
