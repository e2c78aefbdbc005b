"""What the pool needs of the world: a ledger, a doorbell, and slots that run jobs."""

from typing import Protocol, TypeVar

from compute_service.attempts import Ending
from contracts.catalogue import TaskDescriptor
from contracts.messages import Announcement, Finish, Grant, Heartbeat, HeartbeatReply, Settle, Settled

Bell = TypeVar("Bell")


class Ledger(Protocol):
    """What a worker asks of the ledger. All raise `contracts.errors.Unavailable` if no answer comes."""

    def settle(self, settle: Settle) -> Settled:
        """Store how jobs ended, get the next; one with finishes is served even if the caller is gone."""

    def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        """Say that the worker lives; hear what it must stop."""

    def announce(self, announcement: Announcement) -> None:
        """Say what the worker can run."""


class RunsJobs(Protocol):
    """What the pool needs of `compute_service.slots.Slot`."""

    catalogue: list[TaskDescriptor]

    @property
    def warm(self) -> bool:
        """Whether it can take a job at once."""

    def warm_up(self) -> None:
        """Become warm; raises `ChildFailedError`."""

    def run(self, grant: Grant) -> Finish | None:
        """Run a job; None if nothing is to be reported."""

    def stop(self, pid: str, fence: int, ending: Ending) -> None:
        """End a job."""

    def close(self) -> None:
        """End whatever it runs."""


class RingsBells(Protocol[Bell]):
    """What the pool needs of `compute_service.ledger.BrokerBells`."""

    def listen(self, *, on: bool) -> None:
        """Take bells, or no more."""

    def acknowledge(self, bells: list[Bell]) -> None:
        """These bells have been answered."""

    def ring(self) -> None:
        """Tell the pool that work may wait."""
