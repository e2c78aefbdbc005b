"""The port to the results service: all that the gateway wants of the rest of the system."""

from collections.abc import Sequence
from typing import Any, Protocol

from contracts.inspection import QueueState
from contracts.messages import Catalogue, GetJob, JobPage, JobQuery, NewJob, Order, PoolLoad, Ticket

OWNER = "local"
"""Whose jobs these are."""


class Ledger(Protocol):
    """What the resources call.

    Every method raises `contracts.errors.Unavailable` when the other side is away:
    `contracts.errors.NotSent` if nothing was asked for certain, `contracts.errors.NoReply` if it is
    unknown what became of it.
    """

    @property
    def broker_trouble(self) -> str | None:
        """Why RabbitMQ cannot be used at this moment, as a clause; None if it can."""

    def register(self, job: NewJob) -> Ticket:
        """Store *job*; raises `contracts.errors.IdempotencyMismatch`. A `NoReply` names the ``pid``."""

    def get(self, request: GetJob) -> dict[str, Any]:
        """The job in the API's form; raises `contracts.errors.NotFound`."""

    def list_jobs(self, query: JobQuery) -> JobPage:
        """One page of jobs, newest first."""

    def latest(self, query: JobQuery) -> dict[str, Any]:
        """The newest job that fits; raises `contracts.errors.NotFound`."""

    def cancel(self, order: Order) -> Ticket:
        """Ask for cancellation; raises `contracts.errors.NotFound`, `contracts.errors.NotCancellable`."""

    def retry(self, order: Order) -> Ticket:
        """Run a failed or cancelled job again; raises `contracts.errors.NotFound`, `contracts.errors.NotRetryable`."""

    def delete(self, order: Order) -> None:
        """Cancel if active, then forget; raises `contracts.errors.NotFound`."""

    def catalogue(self) -> Catalogue:
        """All tasks that are accepted."""

    def pools(self) -> list[PoolLoad]:
        """How much waits and runs in each pool."""

    def inspect(self, queues: Sequence[str]) -> dict[str, QueueState]:
        """What RabbitMQ says of *queues*, without those that there are not."""

    def ping(self) -> None:
        """Raises `Unavailable` itself if the service answers but MongoDB does not."""

    def ring(self, pool: str) -> None:
        """Wake the workers of *pool*; never waits, never raises."""
