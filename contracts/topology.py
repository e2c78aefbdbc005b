"""The names of exchanges, queues and routing keys: the whole wiring of the broker on one page."""

from typing import Any

RPC_EXCHANGE = "nameko-rpc"
"""Topic, durable. Requests under ``service.method``; replies under the name of the reply queue."""

EVENTS_EXCHANGE = "results.events"
"""Topic, durable. Nameko's exchange for events of the service ``results``."""

DOORBELL_EXCHANGE = "coatcheck.doorbell"
"""Direct, durable. Routing key: the pool."""

LEDGER_SERVICE = "ledger"
"""The hot methods of the results service, served in batches."""
LEDGER_METHODS = ("register", "settle", "heartbeat", "get")
"""Their names."""

RESULTS_SERVICE = "results"
"""The other methods of the results service, plain Nameko RPC."""
RESULTS_QUEUE = f"rpc-{RESULTS_SERVICE}"
"""Their queue; Nameko names it."""
COMPUTE_QUEUE = "rpc-compute"
"""The queue of requests to compute services; Nameko names it."""
NOTIFIER_QUEUE = f"evt-{RESULTS_SERVICE}-notification_due--notifier.on_notification_due"
"""The queue that wakes the notifier; Nameko names it."""

EXCHANGES = ((RPC_EXCHANGE, "topic"), (EVENTS_EXCHANGE, "topic"), (DOORBELL_EXCHANGE, "direct"))

NOTIFICATION_DUE = "notification_due"
"""Event: a job has mail that is due."""
JOBS_CHANGED = "jobs_changed"
"""Event: jobs are in another state now."""
CATALOGUE_CHANGED = "catalogue_changed"
"""Event: a task appeared, changed or went."""

PROBE = "probe"
"""Event: nothing has happened; its confirm says that the broker works."""

DOORBELL_BOUND = 64
"""Bells that wait in a pool's queue; the oldest is dropped, since one bell says as much as ten."""

DEAD_LETTERS = "coatcheck.dead-letters"
"""The queue of messages that could not be read. Nobody consumes it."""
DEAD_LETTER_BOUND = 1000
"""Messages that it keeps; the oldest is dropped."""
DEAD_LETTER_BYTES = 64 * 1024 * 1024
"""Bytes that it keeps."""


def dead_letter_arguments() -> dict[str, Any]:
    """The arguments of the dead-letter queue; everybody who feeds it declares the same."""
    return {"x-max-length": DEAD_LETTER_BOUND, "x-max-length-bytes": DEAD_LETTER_BYTES, "x-overflow": "drop-head"}


def doorbell_queue(pool: str) -> str:
    """The queue that wakes the workers of *pool*."""
    return f"coatcheck.pool.{pool}"


def doorbell_arguments() -> dict[str, Any]:
    """The arguments of a doorbell queue; publisher and consumer declare the same."""
    return {"x-max-length": DOORBELL_BOUND, "x-overflow": "drop-head"}


def worker_key(worker_id: str) -> str:
    """Routing key of the event that tells one worker to stop a job."""
    return f"stop.{worker_id}"


def ledger_queue(method: str) -> str:
    """The queue of one hot method."""
    return f"rpc-{LEDGER_SERVICE}.{method}"


def service_queues() -> tuple[str, ...]:
    """The queues at which the services themselves take requests and events."""
    return (*map(ledger_queue, LEDGER_METHODS), RESULTS_QUEUE, COMPUTE_QUEUE, NOTIFIER_QUEUE)
