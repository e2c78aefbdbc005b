"""Leases: which workers have been silent for so long that their jobs may run elsewhere."""

from collections.abc import Mapping

from contracts.clock import Clock

RECONNECT_SECONDS = 6.0
"""What a worker may need to be heard again after an outage: the longest pause between two of its tries to
connect, and a little more."""
LOOKS_PER_LEASE = 5
"""The sweep looks so often while a lease runs, so that silence is noticed soon after it began."""


class Leases:
    """Watches heartbeats stand still, on this process's own monotonic clock.

    Silence counts only while this process watches. Whatever keeps it from that (an outage of the broker or of
    MongoDB, its own start, having been stopped itself) begins every lease anew, with time to reconnect on top.
    """

    def __init__(self, clock: Clock, *, lease_seconds: float) -> None:
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._longest_gap = lease_seconds / 2
        self._watched: dict[str, tuple[int, float]] = {}
        self._looked_at = float("-inf")
        self._counts_from = 0.0

    def interrupt(self) -> None:
        """Something of ours was away: nobody's silence means anything."""
        self._looked_at = float("-inf")

    def overdue(self, beats: Mapping[str, int]) -> list[str]:
        """The workers whose beat has stood still for a whole lease, each said once; *beats* has the newest of all."""
        now = self._clock.monotonic()
        if now - self._looked_at > self._longest_gap:
            self._watched.clear()
            self._counts_from = now + RECONNECT_SECONDS
        self._looked_at = now
        watched: dict[str, tuple[int, float]] = {}
        for worker_id, beat in beats.items():
            before = self._watched.get(worker_id)
            if before is None:
                watched[worker_id] = (beat, max(now, self._counts_from))
            else:
                watched[worker_id] = before if before[0] == beat else (beat, now)
        overdue = [worker_id for worker_id, (_, since) in watched.items() if now - since >= self._lease_seconds]
        for worker_id in overdue:
            del watched[worker_id]
        self._watched = watched
        return overdue

    def seconds_left(self) -> float | None:
        """When the first of the leases ends, if its worker stays silent; None without any worker."""
        if not self._watched:
            return None
        ends = min(since for _, since in self._watched.values()) + self._lease_seconds
        return max(0.0, ends - self._clock.monotonic())
