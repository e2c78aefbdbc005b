"""A collection of MongoDB that fails when it is told to, or lets somebody else go first."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import AutoReconnect, BulkWriteError

from results_service.ledger.database import Database

READS = frozenset({"find", "find_one", "count_documents", "distinct"})
GROUPED = frozenset({"bulk_write", "insert_many"})
WRITES = GROUPED | {
    "delete_many",
    "delete_one",
    "find_one_and_update",
    "insert_one",
    "update_many",
    "update_one",
}


class How(StrEnum):
    """In what way a call fails. The caller cannot tell the first three from each other, nor the last two."""

    BEFORE = "before"
    """Nothing was done."""
    HALF = "half"
    """The first half of a grouped write was done, everything of another one."""
    AFTER = "after"
    """All was done; the answer was lost."""
    UNCONFIRMED = "unconfirmed"
    """All was done by the primary; no majority confirmed it in time."""
    ROLLED_BACK = "rolled_back"
    """The same words, but another member became primary and knows nothing of it."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Which call of an operation fails, and how."""

    call: int
    how: How


@dataclass(kw_only=True)
class Plan:
    """What happens to the calls of one service, counted from the last `begin`."""

    fault: Fault | None = None
    interlude: Callable[[], None] | None = None
    """Run once, before call `at`, or before the first write if that is None."""
    at: int | None = None
    calls: int = 0

    def begin(
        self, *, fault: Fault | None = None, interlude: Callable[[], None] | None = None, at: int | None = None
    ) -> None:
        """Forget what was planned before, and count anew."""
        self.fault, self.interlude, self.at, self.calls = fault, interlude, at, 0

    def around(self, name: str, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make one call, as planned."""
        if self.interlude is not None and (name in WRITES if self.at is None else self.calls >= self.at):
            interlude, self.interlude = self.interlude, None
            interlude()
        fault = self.fault if self.fault is not None and self.fault.call == self.calls else None
        self.calls += 1
        if fault is None:
            return method(*args, **kwargs)
        if name in WRITES:
            refused = self._half_done(name, method, args, kwargs, fault.how)
            if name in GROUPED and fault.how in (How.UNCONFIRMED, How.ROLLED_BACK):
                late = [{"code": 64, "errmsg": "waiting for replication timed out"}]
                raise BulkWriteError({"writeErrors": refused, "writeConcernErrors": late})
        raise AutoReconnect(f"{name}: connection closed ({fault.how})")

    def _half_done(
        self, name: str, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], how: How
    ) -> list[Any]:
        """Do as much of a write as *how* says; the errors of its operations."""
        if how in (How.BEFORE, How.ROLLED_BACK):
            return []
        if name in GROUPED and how is How.HALF:
            args = (args[0][: len(args[0]) // 2], *args[1:])
        try:
            if name not in GROUPED or args[0]:
                method(*args, **kwargs)
        except BulkWriteError as error:
            return list(error.details["writeErrors"])
        return []


class FrailCollection:
    """A collection under a `Plan`."""

    def __init__(self, collection: Collection[dict[str, Any]], plan: Plan) -> None:
        self._collection = collection
        self._plan = plan

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._collection, name)
        if name not in READS | WRITES:
            return method
        return lambda *args, **kwargs: self._plan.around(name, method, args, kwargs)


class FrailDatabase:
    """The collections of a `Database`, under a plan of their own. Jobs and workers fail, the catalogue does not."""

    def __init__(self, database: Database) -> None:
        self.plan = Plan()
        self.jobs = FrailCollection(database.jobs, self.plan)
        self.workers = FrailCollection(database.workers, self.plan)
        self.tasks = database.tasks
