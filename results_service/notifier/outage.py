"""Says once that something is away, and once that it is back."""

from contracts.clock import Clock
from contracts.logs import logger

log = logger(__name__)

MAX_REASON_LENGTH = 300


class Outage:
    """One server that may go away. However often it is found down, an outage is two log lines."""

    def __init__(self, server: str, clock: Clock) -> None:
        self._server = server
        self._clock = clock
        self._since: float | None = None
        self.failures = 0
        """Failures in a row; 0 while the server is well."""

    def down(self, reason: str) -> None:
        """The server failed (again)."""
        self.failures += 1
        if self._since is None:
            self._since = self._clock.monotonic()
            log.warning(
                "A server cannot be used at the moment; what needs it waits.",
                action="server_lost",
                server=self._server,
                reason=reason[:MAX_REASON_LENGTH],
            )

    def up(self) -> None:
        """The server did its work."""
        if self._since is not None:
            seconds = round(self._clock.monotonic() - self._since, 1)
            log.info("A server is back.", action="server_back", server=self._server, after_seconds=seconds)
        self._since = None
        self.failures = 0
