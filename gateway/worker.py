"""The gunicorn worker: on SIGTERM it serves who has come, and closes the door at once.

gunicorn's own keeps the listening socket open until its last request has ended. The kernel goes on taking
connections for it, which nobody will ever serve, instead of refusing them so that clients try elsewhere.
"""

from gunicorn.workers.gthread import ThreadWorker

LISTEN_BACKLOG = 2048
"""gunicorn's default: so many connections may wait at the door."""


class QuietWorker(ThreadWorker):
    """Threads, as gunicorn's gthread."""

    def set_accept_enabled(self, enabled: bool) -> None:  # noqa: FBT001 -- gunicorn's signature
        """Gunicorn: take connections from now on, or no more; the latter also when the worker stops."""
        super().set_accept_enabled(enabled)
        if enabled or self.alive:
            return
        for listener in self.sockets:
            self._let_in(listener)
            listener.close()

    def _let_in(self, listener: object) -> None:
        """Take the connections that came before the door closes."""
        for _ in range(LISTEN_BACKLOG):
            taken = self.nr_conns
            self.accept(listener)
            if self.nr_conns == taken:
                return
