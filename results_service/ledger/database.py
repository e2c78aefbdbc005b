"""The connection to MongoDB, the collections, and their indexes."""

from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel, MongoClient
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern

from contracts.status import JobStatus

type_of_document = dict[str, Any]

CONNECT_SECONDS = 1.5

PENDING = {"status": JobStatus.PENDING}
RUNNING = {"status": JobStatus.RUNNING}

JOB_INDEXES = [
    # the claim, and with it queue_position: one index for priorities, schedules, retries
    IndexModel(
        [("pool", ASCENDING), ("rank", ASCENDING), ("_id", ASCENDING), ("due_at", ASCENDING), ("task", ASCENDING)],
        name="claim",
        partialFilterExpression=PENDING,
    ),
    IndexModel([("due_at", ASCENDING)], name="due", partialFilterExpression=PENDING),
    IndexModel([("worker", ASCENDING)], name="worker", partialFilterExpression=RUNNING),
    IndexModel([("owner", ASCENDING), ("_id", DESCENDING)], name="owner"),
    # Most jobs succeed, so only what is rare gets an index of its own: two writes less per job.
    IndexModel(
        [("owner", ASCENDING), ("status", ASCENDING), ("_id", DESCENDING)],
        name="owner_ended_badly",
        partialFilterExpression={"status": {"$in": [JobStatus.FAILED, JobStatus.CANCELLED]}},
    ),
    IndexModel([("owner", ASCENDING), ("task", ASCENDING), ("_id", DESCENDING)], name="owner_task"),
    IndexModel(
        [("owner", ASCENDING), ("reference", ASCENDING), ("_id", DESCENDING)],
        name="owner_reference",
        partialFilterExpression={"reference": {"$exists": True}},
    ),
    IndexModel(
        [("owner", ASCENDING), ("tags", ASCENDING), ("_id", DESCENDING)],
        name="owner_tags",
        partialFilterExpression={"tags": {"$exists": True}},
    ),
    IndexModel(
        [("owner", ASCENDING), ("idempotency.key", ASCENDING)],
        name="idempotency",
        unique=True,
        partialFilterExpression={"idempotency.key": {"$exists": True}},
    ),
    # No two jobs hold the same key: MongoDB itself sees to it. Only who holds keys has the field.
    IndexModel(
        [("held_locks", ASCENDING)],
        name="locks",
        unique=True,
        partialFilterExpression={"held_locks": {"$type": "string"}},
    ),
    IndexModel(
        [("locks", ASCENDING), ("locks_due_at", ASCENDING)],
        name="waiting_for_locks",
        partialFilterExpression={"locks_due_at": {"$exists": True}},
    ),
    IndexModel(
        [("notifications.due_at", ASCENDING)],
        name="outbox",
        partialFilterExpression={"notifications.due_at": {"$exists": True}},
    ),
    IndexModel([("expires_at", ASCENDING)], name="expiry", partialFilterExpression={"expires_at": {"$exists": True}}),
    IndexModel(
        [("deleted_at", ASCENDING)], name="tombstones", partialFilterExpression={"deleted_at": {"$exists": True}}
    ),
]


class Database:
    """The collections. Writes are majority and journalled; reads see majority-committed data only."""

    def __init__(self, uri: str, name: str, *, timeout_seconds: float) -> None:
        self.client: MongoClient[type_of_document] = MongoClient(
            uri,
            appname="coatcheck-results",
            tz_aware=True,
            w="majority",
            journal=True,
            serverSelectionTimeoutMS=int(CONNECT_SECONDS * 1000),
            connectTimeoutMS=int(CONNECT_SECONDS * 1000),
            timeoutMS=int(timeout_seconds * 1000),
        )
        database = self.client.get_database(name, read_concern=ReadConcern("majority"))
        self.jobs: Collection[type_of_document] = database["jobs"]
        self.workers: Collection[type_of_document] = database["workers"]
        self.tasks: Collection[type_of_document] = database["tasks"]

    def prepare(self) -> None:
        """Create what is missing of the indexes; raises `PyMongoError` when MongoDB is away."""
        self.jobs.create_indexes(JOB_INDEXES)

    def ping(self) -> None:
        """Ask the primary for a sign of life; raises `PyMongoError`."""
        self.client.admin.command("ping")

    def close(self) -> None:
        """Close every connection."""
        self.client.close()
