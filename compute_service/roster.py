"""The jobs that a worker holds, from the grant to the answer to its finish."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from contracts.job import Progress
from contracts.messages import Grant, RunningJob

Holder = TypeVar("Holder")


@dataclass(kw_only=True, slots=True)
class Entry(Generic[Holder]):
    """One job and who runs it."""

    grant: Grant
    holder: Holder | None
    """None while it waits for a slot."""
    progress: Progress | None = None
    told: Progress | None = None
    """The progress that the ledger knows."""


class Roster(Generic[Holder]):
    """What heartbeats list, and where a stop finds its job."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, int], Entry[Holder]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry[Holder]]:
        return iter(list(self._entries.values()))

    def add(self, grant: Grant, holder: Holder | None) -> None:
        """A job has been granted, or a slot has taken it."""
        self._entries[grant.pid, grant.fence] = Entry(grant=grant, holder=holder)

    def remove(self, pid: str, fence: int) -> None:
        """The ledger has its end."""
        self._entries.pop((pid, fence), None)

    def find(self, pid: str, fence: int) -> Holder | None:
        """Who runs this attempt of this job."""
        entry = self._entries.get((pid, fence))
        return None if entry is None else entry.holder

    def progress(self, grant: Grant, progress: Progress) -> None:
        """The newest progress of a job."""
        if entry := self._entries.get((grant.pid, grant.fence)):
            entry.progress = progress

    @property
    def news(self) -> bool:
        """Whether a job has progress that the ledger does not know."""
        return any(entry.progress is not entry.told for entry in self._entries.values())

    def listing(self) -> list[RunningJob]:
        """All jobs, each with its progress if the ledger does not know it."""
        return [
            RunningJob(
                pid=entry.grant.pid,
                fence=entry.grant.fence,
                progress=entry.progress if entry.progress is not entry.told else None,
            )
            for entry in self._entries.values()
        ]

    def told(self, listing: list[RunningJob]) -> None:
        """The ledger has taken *listing*."""
        for job in listing:
            entry = self._entries.get((job.pid, job.fence))
            if entry is not None and job.progress is not None:
                entry.told = job.progress
