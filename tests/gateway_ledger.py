"""An in-memory results service for the gateway's tests: as a port, and over the wire."""

from collections.abc import Callable, Sequence
from typing import Any

from pika.spec import BasicProperties

from contracts import codec, topology
from contracts.broker import BrokerClient, Delivery, Subscription
from contracts.catalogue import CatalogueEntry
from contracts.clock import SystemClock, rfc3339
from contracts.errors import IdempotencyMismatch, NotCancellable, NotFound, NotRetryable, Unavailable, to_wire
from contracts.inspection import QueueState
from contracts.job import Job, JobError
from contracts.messages import Catalogue, GetJob, JobPage, JobQuery, NewJob, Order, PoolLoad, Ticket
from contracts.status import RETRYABLE, ErrorKind, JobStatus

BMI = CatalogueEntry(
    name="bmi",
    version="1",
    title="Body mass index",
    description="From weight and height.",
    params_schema={
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 200},
            "weight_kg": {"type": "number", "exclusiveMinimum": 0, "maximum": 700},
            "height_cm": {"type": "number", "minimum": 30, "maximum": 300},
            "delay_seconds": {"type": "number", "minimum": 0, "maximum": 3600, "default": 0},
        },
        "required": ["name", "weight_kg", "height_cm"],
        "additionalProperties": False,
    },
    result_schema={"type": "object"},
    example={"name": "Ada", "weight_kg": 61.5, "height_cm": 168},
    pool="default",
    time_limit=60,
    memory_limit_mb=None,
    max_attempts=3,
    serving=True,
)
MEETING = CatalogueEntry(
    name="meeting",
    version="1",
    title="A meeting",
    description="Shows what schemas can say.",
    params_schema={
        "type": "object",
        "properties": {
            "kind": {"const": "weekly"},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            "first": {"$ref": "#/$defs/Person"},
            "size": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "integer"}], "maxItems": 2},
        },
        "required": ["kind", "first"],
        "additionalProperties": False,
        "$defs": {
            "Person": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "boss": {"anyOf": [{"$ref": "#/$defs/Person"}, {"type": "null"}]},
                },
                "required": ["name"],
                "additionalProperties": False,
            }
        },
    },
    result_schema={},
    example={"kind": "weekly", "first": {"name": "Grace"}},
    pool="meetings",
    time_limit=60,
    memory_limit_mb=None,
    max_attempts=1,
    serving=False,
)


class MemoryLedger:
    """A hand-written fake of `gateway.ledger.Ledger` that keeps jobs in a dict."""

    def __init__(self, *tasks: CatalogueEntry) -> None:
        self.tasks = list(tasks or (BMI, MEETING))
        self.jobs: dict[str, Job] = {}
        self.registered: list[NewJob] = []
        self.rung: list[str] = []
        self.queries: list[JobQuery] = []
        self.catalogue_reads = 0
        self.trouble: dict[str, Exception] = {}
        """By method: what it raises."""
        self.broker_trouble: str | None = None
        self._keys: dict[str, tuple[str, str]] = {}

    def register(self, job: NewJob) -> Ticket:
        """Store, or replay the job of the same idempotency key."""
        self._maybe_fail("register")
        if job.idempotency is not None:
            pid, fingerprint = self._keys.setdefault(job.idempotency.key, (job.pid, job.idempotency.fingerprint))
            if fingerprint != job.idempotency.fingerprint:
                raise IdempotencyMismatch
            if pid != job.pid:
                return self._ticket(self.jobs[pid], replayed=True)
        self.registered.append(job)
        self.jobs[job.pid] = Job(
            status=JobStatus.PENDING,
            attempt=0,
            created_at=SystemClock().now(),
            **job.model_dump(include={"pid", "task", "task_version", "params", "owner", "reference", "tags"}),
            **job.model_dump(include={"max_attempts", "priority", "not_before"}),
        )
        return self._ticket(self.jobs[job.pid], due=job.not_before is None)

    def end(self, pid: str, status: JobStatus, *, result: Any = None) -> None:
        """Give a job its outcome."""
        error = JobError(kind=ErrorKind.TASK_ERROR, message="no") if status is JobStatus.FAILED else None
        self.jobs[pid] = self.jobs[pid].model_copy(update={"status": status, "result": result, "error": error})

    def get(self, request: GetJob) -> dict[str, Any]:
        """One job."""
        self._maybe_fail("get")
        return self._find(request.pid).model_dump(mode="json")

    def list_jobs(self, query: JobQuery) -> JobPage:
        """A page, newest first."""
        self._maybe_fail("list_jobs")
        self.queries.append(query)
        found = [
            job.model_dump(mode="json", exclude={"params", "result"})
            for pid, job in sorted(self.jobs.items(), reverse=True)
            if (not query.status or job.status in query.status) and (query.after_pid is None or pid < query.after_pid)
        ]
        page = found[: query.limit]
        return JobPage(jobs=page, next_pid=page[-1]["pid"] if len(found) > len(page) else None)

    def latest(self, query: JobQuery) -> dict[str, Any]:
        """The newest job."""
        page = self.list_jobs(query)
        if not page.jobs:
            raise NotFound("There is no such job.")
        return self._find(page.jobs[0]["pid"]).model_dump(mode="json")

    def cancel(self, order: Order) -> Ticket:
        """End it as cancelled, at once."""
        self._maybe_fail("cancel")
        job = self._find(order.pid)
        if job.status in {JobStatus.SUCCEEDED, JobStatus.FAILED}:
            raise NotCancellable
        self.end(order.pid, JobStatus.CANCELLED)
        return self._ticket(self.jobs[order.pid])

    def retry(self, order: Order) -> Ticket:
        """Have it wait again."""
        self._maybe_fail("retry")
        job = self._find(order.pid)
        if job.status not in RETRYABLE:
            raise NotRetryable
        self.jobs[order.pid] = job.model_copy(update={"status": JobStatus.PENDING, "error": None})
        return self._ticket(self.jobs[order.pid], due=True)

    def delete(self, order: Order) -> None:
        """Forget it."""
        self._find(order.pid)
        del self.jobs[order.pid]
        self._keys = {key: known for key, known in self._keys.items() if known[0] != order.pid}

    def catalogue(self) -> Catalogue:
        """All tasks."""
        self.catalogue_reads += 1
        self._maybe_fail("catalogue")
        return Catalogue(version=str(len(self.tasks)), tasks=self.tasks)

    def pools(self) -> list[PoolLoad]:
        """All pools."""
        self._maybe_fail("pools")
        return [PoolLoad(pool="default", due=3, scheduled=1, running=2, workers=1, slots=2)]

    def inspect(self, queues: Sequence[str]) -> dict[str, QueueState]:
        """Two messages in each queue but one."""
        self._maybe_fail("inspect")
        return {queue: QueueState(messages=2, consumers=1) for queue in queues if queue != topology.COMPUTE_QUEUE}

    def ping(self) -> None:
        """Alive."""
        self._maybe_fail("ping")

    def ring(self, pool: str) -> None:
        """Note the pool."""
        self.rung.append(pool)

    def _find(self, pid: str) -> Job:
        if pid not in self.jobs:
            raise NotFound("There is no job with this pid.")
        return self.jobs[pid]

    def _ticket(self, job: Job, *, due: bool = False, replayed: bool = False) -> Ticket:
        return Ticket(
            pid=job.pid, task=job.task, status=job.status, created_at=job.created_at, due=due, replayed=replayed
        )

    def _maybe_fail(self, method: str) -> None:
        if (error := self.trouble.get(method)) is not None:
            raise error


class Responder:
    """Serves a `MemoryLedger` over RabbitMQ in Nameko's RPC format."""

    def __init__(self, uri: str, ledger: MemoryLedger) -> None:
        self.ledger = ledger
        models: dict[str, type[NewJob | GetJob | JobQuery | Order]] = {
            "ledger.register": NewJob,
            "ledger.get": GetJob,
            "results.list_jobs": JobQuery,
            "results.latest": JobQuery,
            "results.cancel": Order,
            "results.retry": Order,
            "results.delete": Order,
        }
        self._models = models
        self.mute = False
        """Take requests and never answer."""
        self.silenced = 0
        """Requests that got no answer."""
        requests = [
            Subscription(
                on_message=self._serve(key),
                queue=f"rpc-{key}",
                bindings=((topology.RPC_EXCHANGE, key),),
            )
            for key in (*models, "results.catalogue", "results.ping")
        ]
        self.broker = BrokerClient(uri, name="responder", heartbeat=60, subscriptions=tuple(requests))
        self.broker.start()
        assert self.broker.wait_ready(10)

    def close(self) -> None:
        """Go away; the queues stay."""
        self.broker.close()

    def announce(self) -> None:
        """Say that the catalogue changed."""
        self.broker.send(topology.EVENTS_EXCHANGE, topology.CATALOGUE_CHANGED, b"{}")

    def _serve(self, key: str) -> Callable[[Delivery], None]:
        method = key.partition(".")[2]

        def serve(delivery: Delivery) -> None:
            self.broker.ack(delivery)
            if self.mute:
                self.silenced += 1
                return
            try:
                kwargs = codec.loads(delivery.body)["kwargs"]
                model = self._models.get(key)
                arguments = [] if model is None else [model.model_validate(kwargs["request"])]
                result = getattr(self.ledger, method)(*arguments)
                reply = {"result": getattr(result, "model_dump", lambda: result)(), "error": None}
            except Exception as error:  # noqa: BLE001 -- goes back to the caller
                reply = {"result": None, "error": to_wire(error)}
            properties = BasicProperties(
                content_type="application/json", correlation_id=delivery.properties.correlation_id
            )
            self.broker.send(topology.RPC_EXCHANGE, delivery.properties.reply_to, codec.dumps(reply), properties)

        return serve


AWAY = Unavailable("MongoDB is away.")
A_PID = "01a1fb09-8758-721f-aec3-473509465807"
NOW = rfc3339(SystemClock().now())
