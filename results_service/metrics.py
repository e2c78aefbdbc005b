"""What Prometheus reads of a results service: how attempts ended, as this process stored it."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    ProcessCollector,
    disable_created_metrics,
)

from contracts.job import JobError
from contracts.status import ErrorKind, Outcome

disable_created_metrics()  # type: ignore[no-untyped-call]


class LedgerMetrics:
    """One registry per ledger. Every series is there from the start, so that a first failure is a rise."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        attempts = Counter(
            "coatcheck_attempts",
            "Attempts that ended, by outcome and, for those that failed, by kind of error.",
            ("outcome", "kind"),
            registry=self.registry,
        )
        keys: list[tuple[str, str]] = [(outcome, "") for outcome in Outcome if outcome is not Outcome.FAILED]
        keys += [(Outcome.FAILED, kind) for kind in ErrorKind]
        self._attempts = {key: attempts.labels(*key) for key in keys}

    def attempt_ended(self, outcome: Outcome, error: JobError | None) -> None:
        """Count one attempt whose end is stored."""
        kind = error.kind if error is not None and outcome is Outcome.FAILED else ""
        if series := self._attempts.get((outcome, kind)):
            series.inc()
